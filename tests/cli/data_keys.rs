//! The end of data keys: what is under a compromised one, and when one may be destroyed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell, contents};

/// The data key that is active for all.
fn active(shell: &Shell) -> String {
    let keys = shell.json(0, &["keys", "list"]);
    let keys = keys["data_keys"].as_array().unwrap();
    let is_active = |key: &&Value| key["state"] == "active" && key["organization_id"].is_null();
    keys.iter().find(is_active).unwrap()["data_key_id"].as_str().unwrap().to_owned()
}

/// What keeps a key from being destroyed.
fn blocked_by(shell: &Shell, key: &str) -> Value {
    shell.json(0, &["keys", "show", key])["blocked_by"].clone()
}

/// Moves the moment since when a key is unused into the past.
async fn let_the_grace_time_pass(database: &TestDatabase, key: &str) {
    let before = match database.dialect() {
        Dialect::Postgres => "unused_since - interval '31 days'",
        Dialect::Sqlite => "unused_since - 31 * 86400000000",
    };
    database.execute(&format!("UPDATE vault_data_keys SET unused_since = {before} WHERE id = '{key}'")).await;
}

async fn a_key_is_destroyed_only_once_nothing_needs_it_and_its_id_is_said_again(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, integration) = shell.put_token();
    let key = active(&shell);
    let other = Uuid::new_v4().to_string();
    let destroy = ["keys", "destroy", &key, "--confirm", &key];
    let refuses = |why: &str, arguments: &[&str]| {
        let line = shell.fails(5, arguments);
        assert!(line.contains(why) && line.contains(&key), "{line}");
    };

    assert_eq!(blocked_by(&shell, &key), "in-use");
    refuses("it seals what is written", &destroy);
    refuses("it seals what is written", &[&destroy[..], &["--no-grace"]].concat());
    // As a switch leaves it, before the rotation.
    shell.json(0, &["keys", "compromise", &key]);
    assert_eq!(blocked_by(&shell, &key), "rows");
    refuses("1 row is under it (`credvault rotate`)", &destroy);
    shell.succeeds(&["delete", "--organization", &organization, "--integration", &integration]);
    assert_eq!(blocked_by(&shell, &key), "not-known-unused");
    refuses("no rotation has found yet", &destroy);
    let (organization, integration) = shell.put_token();
    let rotated = shell.json(0, &["rotate"]);
    assert_eq!(rotated["data_keys"].as_array().unwrap().len(), 3);
    let shown = shell.json(0, &["keys", "show", &key]);
    assert_eq!((&shown["blocked_by"], &shown["state"]), (&json!("grace"), &json!("deactivated")));
    assert!(shown["blocked_until"].as_str().unwrap() > shown["unused_since"].as_str().unwrap());
    refuses("--no-grace", &destroy);

    // Nothing of it without the id said again.
    let before = contents(&database).await;
    let line = shell.fails(2, &["keys", "destroy", &key, "--no-grace"]);
    assert!(line.contains("--confirm") && line.contains("never opens again"), "{line}");
    for confirmed in [other.as_str(), "v1"] {
        let line = shell.fails(2, &["keys", "destroy", &key, "--no-grace", "--confirm", confirmed]);
        assert!(line.contains("another data key"), "{line}");
    }
    for typed in ["\n".to_owned(), format!("{other}\n"), "y\n".to_owned()] {
        let (code, shown) = shell.at_a_terminal(&format!("keys destroy {key} --no-grace"), &typed);
        assert_eq!(code, Some(5), "{shown}");
        assert!(shown.contains("can't be undone") && shown.contains("was not destroyed"), "{shown}");
    }
    shell.fails(1, &["keys", "destroy", &other, "--confirm", &other]);
    assert_eq!(contents(&database).await, before, "nothing changed");

    let_the_grace_time_pass(&database, &key).await;
    assert_eq!(blocked_by(&shell, &key), Value::Null);
    assert!(shell.succeeds(&["keys", "list"]).contains("nothing"));
    let (code, shown) = shell.at_a_terminal(&format!("keys destroy {key}"), &format!("{key}\n"));
    assert!(code == Some(0) && shown.contains("is destroyed"), "{shown}");
    assert_eq!(shell.json(0, &["keys", "show", &key])["state"], "destroyed");
    refuses("it is destroyed already", &destroy);
    refuses("nothing is under it", &["keys", "compromise", &key]);
    assert_eq!(shell.token(&organization, &integration), SECRET);
    shell.json(0, &["verify"]);
}

async fn the_grace_time_may_be_waived(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let key = active(&shell);
    shell.json(0, &["rotate", "--force"]);
    let destroyed = shell.json(0, &["keys", "destroy", &key, "--confirm", &key, "--no-grace"]);
    assert_eq!((&destroyed["data_key_id"], &destroyed["grace_waived"]), (&json!(key), &json!(true)));
    assert!(destroyed["unused_since"].is_string());
}

async fn what_is_under_a_compromised_key_is_listed_by_organization_in_each_form(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (awkward, spreadsheet) = ("a \"quoted\", one\nof two lines", "x".repeat(50));
    let mut expected = BTreeSet::new();
    for _ in 0..2 {
        let organization = Uuid::new_v4().to_string();
        for connector in ["github", awkward, &spreadsheet] {
            let integration =
                shell.put_token_of(&organization, if connector == awkward { "slack" } else { connector });
            expected.insert([organization.clone(), connector.to_owned(), integration]);
        }
    }
    database
        .execute(&format!(
            "UPDATE integrations SET connector_type = '{awkward}' WHERE connector_type = 'slack'"
        ))
        .await;
    let own = Uuid::new_v4().to_string();
    shell.succeeds(&["keys", "create", "--organization", &own]);
    let elsewhere = shell.put_token_of(&own, "github");
    let key = active(&shell);

    let compromise = ["keys", "compromise", &key];
    let mut documents = shell.events(0, &compromise);
    let report = documents.pop().unwrap();
    assert_eq!((&report["credentials"], &report["organizations"]), (&json!(6), &json!(2)));
    assert_eq!((&report["already_marked"], &report["rotated_since"]), (&json!(false), &json!(false)));
    assert_eq!(report["new_data_key_id"], json!(active(&shell)));
    assert_ne!(report["new_data_key_id"], json!(key));
    let text_of = |document: &Value| {
        ["organization_id", "connector", "integration_id"]
            .map(|name| document[name].as_str().unwrap().to_owned())
    };
    let listed: Vec<_> = documents.iter().map(text_of).collect();
    assert!(listed.is_sorted_by_key(|[organization, ..]| organization.clone()), "{listed:?}");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);

    // Again, it changes nothing; in CSV all else is on standard error.
    let before = contents(&database).await;
    let csv = [&compromise[..], &["--csv"]].concat();
    let output = shell.command(env!("CARGO_BIN_EXE_credvault"), &csv).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("6 credentials of 2 organizations"), "{said}");
    assert!(said.contains("`credvault rotate` now") && said.contains("re-issued at its provider"), "{said}");
    let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
    assert_eq!(
        reader.headers().unwrap(),
        ["organization_id", "connector", "integration_id", "credential_type", "expires_at"].as_slice()
    );
    let records: BTreeSet<_> = reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            assert_eq!((&record[3], &record[4]), ("token", ""));
            [record[0].to_owned(), record[1].to_owned(), record[2].to_owned()]
        })
        .collect();
    assert_eq!(records, expected);

    let text = shell.succeeds(&compromise);
    for [organization, _, integration] in &expected {
        assert!(text.contains(organization) && text.contains(integration), "{text}");
    }
    assert!(!text.contains(&elsewhere) && !text.contains(SECRET), "{text}");
    assert!(text.contains("\\nof two lines"), "it steers no terminal: {text}");
    assert!(text.contains("6 credentials of 2 organizations") && text.contains("`credvault rotate` now"));
    let again = shell.json(0, &compromise);
    assert_eq!((&again["already_marked"], &again["new_data_key_id"]), (&json!(true), &Value::Null));
    assert_eq!(contents(&database).await, before);
    let line = shell.fails(2, &[&csv[..], &["--output", "json"]].concat());
    assert!(line.contains("choose one"), "{line}");

    // Half a list is none, though the disk be full.
    for form in [&compromise[..], &csv, &[&compromise[..], &["--output", "json"]].concat()] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = shell.command(env!("CARGO_BIN_EXE_credvault"), form).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("call it again") && said.lines().count() == 1, "{said}");
    }

    // A rotation is due at once, and takes the rows away.
    assert_eq!(shell.json(3, &["status"])["stale_rows"], 6);
    assert_eq!(shell.json(0, &["rotate"])["re_encrypted"], 6);
    let after = shell.json(0, &compromise);
    assert_eq!((&after["credentials"], &after["rotated_since"]), (&json!(0), &json!(true)));
    assert!(shell.succeeds(&compromise).contains("is not listed"));
}

on_both_stores!(
    a_key_is_destroyed_only_once_nothing_needs_it_and_its_id_is_said_again,
    the_grace_time_may_be_waived,
    what_is_under_a_compromised_key_is_listed_by_organization_in_each_form,
);
