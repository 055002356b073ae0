//! The rows of the service that was there before, step by step.

use serde_json::{Value, json};

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell, contents};

const LEGACY: &str = include_str!("../vectors/legacy_vectors.json");

/// Writes the legacy rows as the service that was there before did; gives (organization, integration, fields).
async fn add_legacy_rows(database: &TestDatabase, legacy: &Value) -> Vec<(String, String, Value)> {
    let mut rows = Vec::new();
    // Those without an expiry, which each store writes in its own way.
    for row in legacy["rows"].as_array().unwrap().iter().filter(|row| row["expires_at"].is_null()) {
        let (organization, integration) = database.add_tenant().await;
        database
            .execute(&format!(
                "INSERT INTO integration_credentials
                        (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
                 VALUES ('{}', '{integration}', '{}', '{}', 'v1')",
                uuid::Uuid::new_v4(),
                row["credential_type"].as_str().unwrap(),
                row["stored"].as_str().unwrap(),
            ))
            .await;
        rows.push((organization.to_string(), integration.to_string(), row["fields"].clone()));
    }
    assert!(rows.len() > 1);
    rows
}

async fn legacy_rows_are_adopted_with_the_right_salt_alone(database: TestDatabase) {
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let salt = legacy["encryption_salt"].as_str().unwrap();
    let shell = Shell::with_vault(&database).with("SALT", salt).with("WRONG", "hunter2");
    let rows = add_legacy_rows(&database, &legacy).await;
    let (organization, integration, fields) = &rows[0];
    let get = ["get", "--organization", organization, "--integration", integration, "--reveal"];
    shell.fails(1, &get);
    let verified = shell.json(0, &["verify"]);
    assert_eq!(verified["rows_unopened"], rows.len(), "not a finding, as nobody knows their key");
    assert!(shell.succeeds(&["verify"]).contains("legacy rows aside"), "not as if all had been opened");
    let before = contents(&database).await;

    std::fs::write(shell.path("newline"), format!("{salt}\n")).unwrap();
    std::fs::write(shell.path("salt"), salt).unwrap();
    let line = shell.fails(5, &["adopt", "--salt-file", "newline"]);
    assert!(line.contains("newline") && !line.contains(salt), "{line}");
    let line = shell.fails(5, &["adopt", "--salt-env", "WRONG"]);
    assert!(!line.contains("hunter2"), "{line}");
    let line = shell.fails(2, &["adopt", "--salt-env", "UNSET"]);
    assert!(line.contains("not set"), "{line}");
    let line = shell.fails(1, &["adopt", "--salt-file", "nowhere"]);
    assert!(line.contains("\"nowhere\""), "{line}");
    assert_eq!(contents(&database).await, before, "nothing changed");

    let report = shell.json(0, &["adopt", "--salt-file", "salt"]);
    assert_eq!((&report["rows_opened"], &report["already_done"]), (&json!(rows.len()), &json!(false)));
    let again = shell.succeeds(&["adopt", "--salt-env", "SALT"]);
    assert!(again.contains("registered already"), "{again}");
    assert_eq!(shell.json(0, &get)["fields"], *fields);
    assert_eq!(shell.json(0, &["rotate", "--force"])["legacy"], rows.len(), "left as they are");
    assert_eq!(shell.json(0, &["verify"])["rows_opened"], rows.len());
    assert_eq!(shell.json(0, &["status"])["phase"], "observe");
    let everything = format!("{:?}", contents(&database).await);
    assert!(!everything.contains(salt));
}

async fn the_salt_that_everybody_knows_is_taken_only_when_accepted(database: TestDatabase) {
    let shell = Shell::with_vault(&database).with("SALT", "default-salt-for-development-only");
    let line = shell.fails(5, &["adopt", "--salt-env", "SALT"]);
    assert!(line.contains("--accept-leaked-salt") && !line.contains("default-salt"), "{line}");
    let text = shell.succeeds(&["adopt", "--salt-env", "SALT", "--accept-leaked-salt"]);
    assert!(text.contains("nothing could be checked"), "{text}");
    assert!(shell.succeeds(&["keys", "list"]).contains("v1"));
}

/// A vault that has adopted the legacy rows, and those rows.
async fn adopted(database: &TestDatabase) -> (Shell, Vec<(String, String, Value)>) {
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let shell = Shell::with_vault(database).with("SALT", legacy["encryption_salt"].as_str().unwrap());
    let rows = add_legacy_rows(database, &legacy).await;
    shell.succeeds(&["adopt", "--salt-env", "SALT"]);
    (shell, rows)
}

fn read_all(shell: &Shell, rows: &[(String, String, Value)]) {
    for (organization, integration, fields) in rows {
        let get = ["get", "--organization", organization, "--integration", integration, "--reveal"];
        assert_eq!(shell.json(0, &get)["fields"], *fields);
    }
}

/// The state of the legacy key.
fn legacy_key(shell: &Shell) -> Value {
    shell.json(0, &["keys", "show", "v1"])["state"].clone()
}

async fn an_adoption_goes_step_by_step_to_its_end(database: TestDatabase) {
    let (shell, rows) = adopted(&database).await;
    shell.put_token();
    let (re_encrypt, cut_over) = (["adopt", "--re-encrypt", "--yes"], ["adopt", "--cut-over", "--yes"]);
    let line = shell.fails(5, &cut_over);
    assert!(line.contains("cut-over follows on re-encrypt"), "{line}");
    assert_eq!(shell.json(0, &["rotate"])["legacy"], rows.len());

    let report = shell.json(0, &re_encrypt);
    assert_eq!((&report["step"], &report["already_done"]), (&json!("re-encrypt"), &json!(false)));
    assert_eq!(shell.json(0, &re_encrypt)["already_done"], true);
    let status = shell.json(3, &["status"]);
    assert_eq!((&status["phase"], &status["stale_rows"]), (&json!("re-encrypt"), &json!(rows.len())));
    assert!(shell.run(&["status"]).stdout.contains("re-encrypt"));
    assert_eq!(shell.json(0, &["rotate"])["re_encrypted"], rows.len());
    assert_eq!(legacy_key(&shell), "deactivated", "the other service may still write");
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let late = add_legacy_rows(&database, &legacy).await;

    let mut documents = shell.events(0, &cut_over);
    let report = documents.pop().unwrap();
    assert_eq!((&report["step"], &report["already_done"]), (&json!("cut-over"), &json!(false)));
    assert_eq!(report["rotation"]["re_encrypted"], late.len());
    assert_eq!(report["rotation"]["re_encrypted_from"], json!({ "v1": late.len() }));
    let events: Vec<&str> = documents.iter().map(|document| document["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["began", "unused", "legacy-key-destroyed"]);
    assert_eq!(legacy_key(&shell), "destroyed");
    assert_eq!(shell.json(0, &["status"])["phase"], "cut-over");
    let again = shell.run(&cut_over);
    assert!(again.code == 0 && again.stdout.contains("the adoption is over"), "{again:?}");
    read_all(&shell, &rows);
    read_all(&shell, &late);
    let write = format!(
        "UPDATE integration_credentials SET encryption_key_id = 'v1' WHERE integration_id = '{}'",
        rows[0].1
    );
    assert!(database.try_execute(&write).await.is_err(), "it may still be written");
}

async fn a_step_is_taken_only_once_an_operator_says_that_it_is_safe(database: TestDatabase) {
    let (shell, rows) = adopted(&database).await;
    let before = contents(&database).await;
    for (step, why) in [("--re-encrypt", "read the table"), ("--cut-over", "write the table")] {
        let line = shell.fails(2, &["adopt", step]);
        assert!(line.contains(why) && line.contains("--yes"), "{line}");
        for typed in ["n\n", "\n"] {
            let (code, shown) = shell.at_a_terminal(&format!("adopt {step}"), typed);
            assert_eq!(code, Some(5), "{shown}");
            assert!(shown.contains(why) && shown.contains("nothing was changed"), "{shown}");
        }
    }
    for both in [
        &["adopt", "--re-encrypt", "--cut-over", "--yes"][..],
        &["adopt", "--re-encrypt", "--salt-env", "SALT"],
        &["adopt", "--cut-over", "--accept-leaked-salt"],
        &["adopt", "--salt-env", "SALT", "--yes"],
    ] {
        let line = shell.fails(2, both);
        assert!(line.contains("can't be used with"), "{both:?}: {line}");
    }
    assert_eq!(contents(&database).await, before, "nothing changed");

    let (code, shown) = shell.at_a_terminal("adopt --re-encrypt", "y\n");
    assert!(code == Some(0) && shown.contains("`credvault rotate` does so"), "{shown}");
    let (code, shown) = shell.at_a_terminal("adopt --cut-over", "y\n");
    assert!(code == Some(0) && shown.contains("the adoption is over"), "{shown}");
    read_all(&shell, &rows);
}

async fn a_cut_over_that_leaves_work_says_what_and_how_to_go_on(database: TestDatabase) {
    let (shell, rows) = adopted(&database).await;
    shell.succeeds(&["adopt", "--re-encrypt", "--yes"]);
    let (organization, spoilt, _) = &rows[0];
    database.set(spoilt.parse().unwrap(), "credential_data_encrypted = 'spoilt'").await;
    let expiry = match database.dialect() {
        Dialect::Postgres => "(now() AT TIME ZONE 'utc') + interval '1 hour'",
        Dialect::Sqlite => "(unixepoch() + 3600) * 1000000",
    };
    database
        .execute(&format!(
            "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) VALUES ('rotate', 'night shift', {expiry})"
        ))
        .await;
    // Another process rotates: the phase is the new one all the same.
    let done = shell.run(&["adopt", "--cut-over", "--yes"]);
    assert_eq!(done.code, 3);
    for part in ["night shift", "refuses new legacy rows", "`credvault rotate` goes on"] {
        assert!(done.stdout.contains(part), "{done:?}");
    }
    assert_eq!(shell.json(3, &["status"])["phase"], "cut-over");
    database.execute("UPDATE vault_rotation_runs SET finished_at = started_at, outcome = 'complete'").await;

    // A row that doesn't open keeps the legacy key.
    let report = shell.json(4, &["adopt", "--cut-over", "--yes"]);
    assert_eq!((&report["already_done"], &report["rotation"]["quarantined"]), (&json!(true), &json!(1)));
    assert_eq!(report["rotation"]["re_encrypted"], rows.len() - 1);
    assert_eq!(legacy_key(&shell), "deactivated");
    let put = ["put", "--organization", organization, "--integration", spoilt, "--field", "access_token"];
    assert_eq!(shell.run_with(&put, SECRET.as_bytes()).code, 0);
    let report = shell.json(0, &["rotate"]);
    assert_eq!((&report["outcome"], &report["quarantined"]), (&json!("complete"), &json!(0)));
    assert_eq!(legacy_key(&shell), "destroyed");
    read_all(&shell, &rows[1..]);
}

on_both_stores!(
    legacy_rows_are_adopted_with_the_right_salt_alone,
    the_salt_that_everybody_knows_is_taken_only_when_accepted,
    an_adoption_goes_step_by_step_to_its_end,
    a_step_is_taken_only_once_an_operator_says_that_it_is_safe,
    a_cut_over_that_leaves_work_says_what_and_how_to_go_on,
);
