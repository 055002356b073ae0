//! What the database keeps of rotations and rewraps.

use serde_json::{Value, json};

use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::Shell;

async fn each_run_is_listed_with_who_ran_it_and_what_it_did(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    assert_eq!(shell.json(0, &["rotations"])["runs"], json!([]));
    assert!(shell.succeeds(&["rotations"]).contains("none yet"));
    shell.put_token();
    shell.put_token();
    let rotated = shell.json(0, &["rotate", "--force"]);
    shell.succeeds(&["master-key", "generate", "--out", "new.key"]);
    shell.succeeds(&["rewrap", "--to", "file:new.key", "--yes"]);
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:new.key");
    // One that was killed.
    let expired = "(SELECT started_at FROM vault_rotation_runs ORDER BY id LIMIT 1)";
    database
        .execute(&format!(
            "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) VALUES ('rotate', 'night shift', {expired})"
        ))
        .await;

    let list = shell.json(0, &["rotations"]);
    let [killed, rewrap, rotation] = list["runs"].as_array().unwrap().as_slice() else { panic!("{list}") };
    let facts = |run: &Value| ["kind", "outcome", "re_encrypted", "rewrapped"].map(|name| run[name].clone());
    assert_eq!(facts(killed), [json!("rotate"), Value::Null, Value::Null, Value::Null]);
    assert_eq!((&killed["owner"], &killed["finished_at"]), (&json!("night shift"), &Value::Null));
    assert_eq!(facts(rewrap), [json!("rewrap"), json!("complete"), Value::Null, json!(2)]);
    assert_eq!(facts(rotation), [json!("rotate"), json!("complete"), json!(2), Value::Null]);
    assert_eq!(rotation["new_data_key_ids"], rotated["new_data_key_ids"]);
    let text = shell.succeeds(&["rotations", "--limit", "2"]);
    assert!(text.contains("night shift") && text.contains("2 data keys rewrapped"), "{text}");
    assert!(!text.contains("re-encrypted"), "beyond the limit: {text}");

    shell.succeeds(&["rotate"]);
    let outcome = shell.json(0, &["rotations", "--limit", "2"])["runs"][1]["outcome"].clone();
    assert_eq!(outcome, "lease-lost", "the next run found that it was killed");
}

on_both_stores!(each_run_is_listed_with_who_ran_it_and_what_it_did);
