//! The jobs: rotate, rewrap, verify.

use serde_json::json;

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell, contents};

async fn stored(database: &TestDatabase, integration: &str) -> String {
    let sql = format!(
        "SELECT credential_data_encrypted FROM integration_credentials WHERE integration_id = '{integration}'"
    );
    database.fetch_one_text(&sql).await.unwrap()
}

async fn rotate_and_rewrap_leave_every_token_readable(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let tokens: Vec<_> = (0..7).map(|_| shell.put_token()).collect();
    let text = shell.succeeds(&["rotate"]);
    assert!(
        text.contains(
            "Nothing was due: 0 data keys to replace, 0 rows to re-encrypt, 7 rows already current"
        ),
        "{text}"
    );

    let report = shell.json(0, &["rotate", "--force", "--batch-size", "2"]);
    assert_eq!(report["outcome"], "complete");
    assert_eq!((&report["re_encrypted"], &report["remaining"]), (&json!(7), &json!(0)));
    assert_eq!(report["new_data_key_ids"].as_array().unwrap().len(), 1);
    let text = shell.succeeds(&["rotate", "--max-age", "0d"]);
    assert!(text.contains("7 rows") && text.contains("Complete"), "{text}");
    assert_eq!(shell.json(0, &["rotate"])["re_encrypted"], 0);

    let before = stored(&database, &tokens[0].1).await;
    shell.succeeds(&["master-key", "generate", "--out", "new.key"]);
    let line = shell.fails(2, &["rewrap", "--to", "file:new.key"]);
    assert!(line.contains("every service must have the new master key") && line.contains("--yes"), "{line}");
    let report = shell.json(0, &["rewrap", "--to", "file:new.key", "--yes"]);
    assert_eq!((&report["outcome"], &report["rewrapped"]), (&json!("complete"), &json!(3)));
    let text = shell.run(&["rewrap", "--to", "file:new.key", "--yes", "--master-key", "file:new.key"]).stdout;
    assert!(text.contains("0 data keys rewrapped, 3 under it before"), "{text}");
    assert_eq!(stored(&database, &tokens[0].1).await, before, "a rewrap touches no row");

    // The old key alone opens it no more.
    let line = shell.fails(1, &["status"]);
    assert!(line.contains(report["master_key_id"].as_str().unwrap()), "{line}");
    assert!(line.contains("CREDVAULT_MASTER_KEY"), "{line}");
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:new.key");
    for (organization, integration) in &tokens {
        assert_eq!(shell.token(organization, integration), SECRET);
    }
    let verified = shell.json(0, &["verify"]);
    assert_eq!((&verified["rows_opened"], &verified["keys_checked"]), (&json!(7), &json!(3)));
    assert!(shell.succeeds(&["verify"]).contains("as it was written"));
}

async fn a_rewrap_raises_what_a_passphrase_costs(database: TestDatabase) {
    let shell = Shell::on(&database)
        .with("WORDS", "correct horse battery staple")
        .with("CREDVAULT_MASTER_KEY", "passphrase:env:WORDS");
    shell.succeeds(&["init"]);
    let (organization, integration) = shell.put_token();
    let costs = "SELECT substr(provider_record, 1, 30) FROM vault_master_keys WHERE state = 'active'";
    assert_eq!(database.fetch_one_text(costs).await.unwrap(), "argon2id$v=19$m=65536,t=3,p=4$");
    let before = contents(&database).await;
    let rewrap = |to, argon2| ["rewrap", "--yes", "--to", to, "--argon2", argon2];
    for (to, argon2, why) in [
        ("passphrase:env:WORDS", "m=8,t=1,p=1", "the least is"),
        ("passphrase:env:WORDS", "256MiB", "m=65536,t=3,p=4"),
        ("file:master.key", "m=65536,t=4,p=4", "--argon2 is for a passphrase"),
        ("passphrase:hunter2", "m=65536,t=4,p=4", "is not repeated here"),
    ] {
        let line = shell.fails(2, &rewrap(to, argon2));
        assert!(line.contains(why) && !line.contains("hunter2"), "{line}");
    }
    assert_eq!(contents(&database).await, before);

    // The same passphrase: services that have it follow.
    let report = shell.json(0, &rewrap("passphrase:env:WORDS", "m=65536,t=4,p=2"));
    assert_eq!((&report["outcome"], &report["rewrapped"]), (&json!("complete"), &json!(1)));
    assert_eq!(database.fetch_one_text(costs).await.unwrap(), "argon2id$v=19$m=65536,t=4,p=2$");
    assert_eq!(shell.token(&organization, &integration), SECRET);
    shell.json(0, &["verify"]);
}

async fn a_row_that_was_tampered_with_is_named_and_left_as_it_is(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, integration) = shell.put_token();
    let (other_organization, other) = shell.put_token();
    let text = stored(&database, &integration).await;
    let last_but = &text[..text.len() - 8];
    let tampered = format!("{last_but}{}", if text.ends_with("AAAAAAAA") { "BBBBBBBB" } else { "AAAAAAAA" });
    database
        .execute(&format!(
            "UPDATE integration_credentials SET credential_data_encrypted = '{tampered}' \
             WHERE integration_id = '{integration}'"
        ))
        .await;

    let line = shell.fails(1, &["get", "--organization", &organization, "--integration", &integration]);
    assert!(line.contains(&integration) && !line.contains(&tampered[10..40]), "{line}");
    assert!(line.contains("store it anew"), "{line}");
    let done = shell.run(&["verify"]);
    assert_eq!(done.code, 4);
    assert!(done.stdout.contains(&integration) && !done.stdout.contains(&other), "{done:?}");
    let verified = shell.json(4, &["verify"]);
    assert_eq!((&verified["findings_count"], &verified["rows_opened"]), (&json!(1), &json!(1)));
    assert_eq!(verified["findings"][0]["integration_id"], integration.as_str());
    assert_eq!(verified["findings"][0]["kind"], "tampered");

    let report = shell.json(4, &["rotate", "--force"]);
    assert_eq!((&report["outcome"], &report["quarantined"]), (&json!("quarantine"), &json!(1)));
    assert_eq!((&report["re_encrypted"], &report["remaining"]), (&json!(1), &json!(0)));
    for command in ["rotate", "status"] {
        assert!(shell.run(&[command]).stdout.contains("`credvault quarantine list` names them"));
    }
    assert_eq!(stored(&database, &integration).await, tampered, "byte for byte");
    assert_eq!(shell.token(&other_organization, &other), SECRET);
    assert_eq!(shell.json(4, &["status"])["quarantined_rows"], 1);

    // Stored anew it is a row like any other.
    let put =
        ["put", "--organization", &organization, "--integration", &integration, "--field", "access_token"];
    assert_eq!(shell.run_with(&put, SECRET.as_bytes()).code, 0);
    shell.json(0, &["status"]);
    shell.json(0, &["rotate"]);
    shell.json(0, &["status"]);
    assert_eq!(shell.token(&organization, &integration), SECRET);
}

async fn a_job_that_another_process_runs_is_left_to_it(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_token();
    let expiry = match database.dialect() {
        Dialect::Postgres => "(now() AT TIME ZONE 'utc') + interval '1 hour'",
        Dialect::Sqlite => "(unixepoch() + 3600) * 1000000",
    };
    database
        .execute(&format!(
            "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) VALUES ('rotate', 'night shift', {expiry})"
        ))
        .await;
    shell.succeeds(&["master-key", "generate", "--out", "new.key"]);
    let before = contents(&database).await;
    for job in [&["rotate", "--force"][..], &["rewrap", "--to", "file:new.key", "--yes"]] {
        let text = shell.succeeds(job);
        assert!(text.contains("night shift runs a job since 20"), "{text}");
        let report = shell.json(0, job);
        assert_eq!(report["outcome"], "held-by-another");
        assert_eq!(report["held_by"]["owner"], "night shift");
    }
    assert_eq!(contents(&database).await, before);
}

on_both_stores!(
    rotate_and_rewrap_leave_every_token_readable,
    a_rewrap_raises_what_a_passphrase_costs,
    a_row_that_was_tampered_with_is_named_and_left_as_it_is,
    a_job_that_another_process_runs_is_left_to_it,
);
