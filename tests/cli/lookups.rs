//! What is known without opening anything, transfer, and the check of master keys.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::common::{self, TestDatabase, on_both_stores};
use crate::documents;
use crate::shell::{SECRET, Shell};

async fn a_damaged_credential_is_described_and_listed_as_expiring(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organization = Uuid::new_v4().to_string();
    let put = ["put", "--organization", &organization, "--connector", "github", "--create"];
    let put = [&put[..], &["--field", "token", "--expires-at", "2030-01-31T12:00:00Z"]].concat();
    let integration = shell.json_with(0, &put, SECRET.as_bytes())["integration_id"].clone();
    shell.put_token_of(&organization, "slack");
    database
        .execute("UPDATE integration_credentials SET credential_data_encrypted = 'cv1.damaged' WHERE expires_at IS NOT NULL")
        .await;

    let describe = ["describe", "--organization", &organization, "--connector", "github"];
    let document = shell.json(0, &describe);
    assert_eq!(document["integration_id"], integration);
    assert_eq!(document["expires_at"], "2030-01-31T12:00:00Z");
    assert!(shell.succeeds(&describe).contains("2030-01-31T12:00:00Z"));

    let expiring = |until: &[&str]| shell.json(0, &[&["expiring"], until].concat())["credentials"].clone();
    assert_eq!(expiring(&["--before", "2030-01-31T12:00:01Z"])[0]["integration_id"], integration);
    assert_eq!(expiring(&["--before", "2030-01-31T12:00:00Z"]), serde_json::json!([]));
    assert_eq!(expiring(&["--within", "7d"]), serde_json::json!([]));
    // What never expires is in no list, however far it reaches.
    assert_eq!(expiring(&["--within", "36500d"]).as_array().unwrap().len(), 1);
}

async fn a_transfer_moves_a_credential_and_can_be_repeated_and_taken_back(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (from, integration) = shell.put_token();
    let to = Uuid::new_v4().to_string();
    shell.put_token_of(&to, "slack");
    for _ in 0..2 {
        let document =
            shell.json(0, &["transfer", "--integration", &integration, "--from", &from, "--to", &to]);
        assert_eq!(document["to_organization_id"], *to);
        assert_eq!(shell.token(&to, &integration), SECRET);
    }
    shell.fails(1, &["get", "--organization", &from, "--integration", &integration]);
    shell.succeeds(&["transfer", "--connector", "github", "--from", &to, "--to", &from]);
    assert_eq!(shell.token(&from, &integration), SECRET);

    // What the new organization has already is in the way.
    shell.put_token_of(&to, "github");
    let line = shell.fails(5, &["transfer", "--connector", "github", "--from", &from, "--to", &to]);
    assert!(line.contains("with \"github\" already"), "{line}");
}

async fn a_key_is_shown_with_what_it_is_needed_for(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_token();
    let first = shell.json(0, &["rotate"])["data_keys"].as_array().unwrap().clone();
    let first = first.iter().find(|key| key["state"] == "active").unwrap()["data_key_id"].clone();
    let show = || shell.json(0, &["keys", "show", first.as_str().unwrap()]);
    let needed = |key: &serde_json::Value| {
        (key["needed_for_sealing"].as_bool().unwrap(), key["needed_for_rows"].as_bool().unwrap())
    };
    assert_eq!(needed(&show()), (true, true));
    shell.succeeds(&["rotate", "--force"]);
    let key = show();
    assert_eq!(
        (needed(&key), &key["rows"], &key["state"]),
        ((false, false), &0.into(), &"deactivated".into())
    );
}

async fn master_keys_are_held_to_the_vault_and_without_one_to_themselves(database: TestDatabase) {
    let shell = Shell::on(&database);
    let check = ["master-key", "check"];
    assert_eq!(shell.json(0, &check)["vault_id"], serde_json::Value::Null);
    let vault = shell.json(0, &["init"])["vault_id"].clone();
    let document = shell.json(0, &check);
    assert_eq!((&document["passed"], &document["vault_id"]), (&true.into(), &vault));
    assert_eq!(document["needed"][0]["master_key_id"], document["given"][0]["master_key_ids"][0]);

    let other = shell.json(0, &["master-key", "generate", "--out", "other.key"])["master_key_id"].clone();
    let document = shell.json(4, &[&check[..], &["--master-key", "file:other.key"]].concat());
    assert_eq!((&document["passed"], &document["given"][0]["master_key_ids"][0]), (&false.into(), &other));
    assert!(document["needed"][0]["problem"].is_string());
    let text = shell.run(&[&check[..], &["--master-key", "file:other.key"]].concat());
    assert!(text.stdout.contains("it needs 1 master key that was not given"), "{text:?}");

    // Out of reach, the database leaves the keys to be looked at, and the check unfinished.
    let nowhere = ["--database", "postgres://nobody@localhost/nowhere?host=/nowhere"];
    let document = shell.json(4, &[&check[..], &nowhere].concat());
    assert!(document["vault_problem"].is_string() && document["given"][0]["problem"].is_null());
    // A passphrase shows by what it opens, here nothing.
    let shell = shell
        .with("WORDS", "correct horse battery staple")
        .with("CREDVAULT_MASTER_KEY", "passphrase:env:WORDS");
    let document = shell.json(4, &check);
    assert_eq!(document["given"][0]["master_key_ids"], serde_json::json!([]));
    assert!(!document.to_string().contains("staple"));
}

on_both_stores!(
    a_damaged_credential_is_described_and_listed_as_expiring,
    a_transfer_moves_a_credential_and_can_be_repeated_and_taken_back,
    a_key_is_shown_with_what_it_is_needed_for,
    master_keys_are_held_to_the_vault_and_without_one_to_themselves,
);

/// The commands that do something, as the help lists them.
fn commands(shell: &Shell, above: &[&str]) -> BTreeSet<String> {
    let help = shell.succeeds(&[above, &["--help"]].concat());
    let Some((_, list)) = help.split_once("Commands:\n") else { return BTreeSet::from([above.join(" ")]) };
    let names = list.lines().take_while(|line| !line.is_empty());
    names
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .flat_map(|line| {
            let name = line.split_whitespace().next().unwrap();
            commands(shell, &[above, &[name]].concat())
        })
        .collect()
}

#[test]
fn every_command_is_on_the_page_of_its_documents() {
    assert_eq!(commands(&Shell::new(), &[]), documents::commands());
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let shell = Shell::new();
    for name in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = shell.json(0, &["completions", name])["script"].as_str().unwrap().to_owned();
        assert!(script.contains("master-key") && script.contains("within"), "{name}");
    }
    let page = shell.json(0, &["man"])["page"].as_str().unwrap().to_owned();
    assert!(page.contains(".SH \"EXIT CODES\""), "{page}");
    let paths = shell.json(0, &["man", "--out", "pages/man1"])["paths"].as_array().unwrap().clone();
    for command in commands(&shell, &[]) {
        let path = format!("pages/man1/credvault-{}.1", command.replace(' ', "-"));
        assert!(paths.contains(&path.as_str().into()), "{path}");
        let page = std::fs::read_to_string(shell.path(&path)).unwrap();
        assert!(page.contains(".SH EXAMPLE") && page.is_ascii(), "{page}");
    }
}
