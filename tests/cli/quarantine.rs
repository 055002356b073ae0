//! Rows that did not open, from the rotation that left them to the one that takes them up again.

use serde_json::json;

use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell};

/// Keeps a row from opening, or lets it open again.
async fn set_type(database: &TestDatabase, integration: &str, text: &str) {
    database
        .execute(&format!(
            "UPDATE integration_credentials SET credential_type = '{text}' WHERE integration_id = '{integration}'"
        ))
        .await;
}

async fn rows_in_quarantine_are_listed_and_tried_again(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let [poison, repaired, deleted] = std::array::from_fn(|_| shell.put_token());
    assert_eq!(shell.json(0, &["quarantine", "list"])["credentials"], json!([]));
    assert_eq!(shell.succeeds(&["quarantine", "list"]), "No row is in quarantine.\n");
    assert_eq!(shell.json(0, &["quarantine", "retry"])["released"], 0);
    for (_, integration) in [&poison, &repaired, &deleted] {
        set_type(&database, integration, "oauth2").await;
    }
    shell.json(4, &["rotate", "--force"]);

    let listed = shell.json(4, &["quarantine", "list"])["credentials"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 3);
    let of = |integration: &str| listed.iter().find(|row| row["integration_id"] == integration).unwrap();
    for (organization, integration) in [&poison, &repaired, &deleted] {
        let row = of(integration);
        assert_eq!((&row["organization_id"], &row["connector"]), (&json!(organization), &json!("github")));
        assert_eq!(row["reason"], "tampered");
    }
    let text = shell.run(&["quarantine", "list"]);
    assert_eq!(text.code, 4);
    for (organization, integration) in [&poison, &repaired, &deleted] {
        let line = text.stdout.lines().find(|line| line.contains(integration)).unwrap();
        assert!(
            line.contains("github") && line.contains(organization) && line.contains("tampered"),
            "{line}"
        );
    }
    assert!(text.stdout.contains("`credvault quarantine retry` takes them out"), "{text:?}");

    set_type(&database, &repaired.1, "token").await;
    shell.succeeds(&["delete", "--organization", &deleted.0, "--integration", &deleted.1]);
    let report = shell.json(4, &["quarantine", "retry"]);
    assert_eq!((&report["released"], &report["gone"]), (&json!(1), &json!(1)));
    let remaining = report["remaining"].as_array().unwrap();
    assert_eq!(remaining.len(), 1);
    assert_eq!(remaining[0]["integration_id"], json!(poison.1));
    assert_eq!((&remaining[0]["about"], &remaining[0]["kind"]), (&json!("row"), &json!("tampered")));
    let text = shell.run(&["quarantine", "retry"]);
    assert_eq!(text.code, 4);
    assert!(text.stdout.contains("remaining   1 row\n"), "{text:?}");
    assert!(text.stdout.contains(&format!("  integration {}: tampered: ", poison.1)), "{text:?}");
    // What was taken out is the next rotation's.
    assert_eq!(shell.json(4, &["status"])["stale_rows"], 1);
    assert_eq!(shell.json(4, &["rotate"])["re_encrypted"], 1);

    let put = ["put", "--organization", &poison.0, "--integration", &poison.1, "--field", "access_token"];
    assert_eq!(shell.run_with(&put, SECRET.as_bytes()).code, 0);
    let text = shell.succeeds(&["quarantine", "retry"]);
    assert!(
        text.contains("open again  1 row\n") && text.contains("`credvault rotate` re-encrypts"),
        "{text}"
    );
    shell.json(0, &["quarantine", "list"]);
    shell.json(0, &["rotate"]);
    assert_eq!(shell.token(&poison.0, &poison.1), SECRET);
}

on_both_stores!(rows_in_quarantine_are_listed_and_tried_again);
