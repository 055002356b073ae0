//! What `status` tells an operator and a monitor.

use serde_json::json;

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::shell::Shell;

async fn a_key_is_due_when_it_is_too_old_or_compromised(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let status = shell.json(0, &["status"]);
    assert_eq!((&status["state"], &status["due_data_key_ids"]), (&json!("ok"), &json!([])));
    let key = status["data_keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap();
    let id = key["data_key_id"].as_str().unwrap();
    let activated = key["activated_at"].as_str().unwrap();
    assert!(status["next_due"].as_str().unwrap() > activated);

    let overdue = shell.json(3, &["status", "--max-age", "0d"]);
    assert_eq!((&overdue["state"], &overdue["due_data_key_ids"]), (&json!("work-remains"), &json!([id])));
    assert_eq!(overdue["next_due"], activated);
    let text = shell.run(&["status", "--max-age", "0s"]);
    assert!(text.code == 3 && text.stdout.contains("since") && text.stdout.contains("credvault rotate"));

    let mark = match database.dialect() {
        Dialect::Postgres => "now() AT TIME ZONE 'utc'",
        Dialect::Sqlite => "unixepoch() * 1000000",
    };
    database
        .execute(&format!("UPDATE vault_data_keys SET compromised_at = {mark} WHERE state = 'active'"))
        .await;
    assert_eq!(shell.json(3, &["status"])["due_data_key_ids"], json!([id]));
    shell.json(0, &["rotate"]);
    shell.json(0, &["status"]);
}

async fn a_rotation_that_ended_early_is_work_that_remains_until_another_comes_to_its_end(
    database: TestDatabase,
) {
    let shell = Shell::with_vault(&database);
    shell.json(0, &["rotate"]);
    for outcome in ["work-remains", "failed", "lease-lost"] {
        database
            .execute(&format!(
                "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at, finished_at, outcome)
                 SELECT 'rotate', 'night shift', started_at, started_at, '{outcome}' FROM vault_rotation_runs
                  ORDER BY id LIMIT 1"
            ))
            .await;
        // A rewrap after it says nothing of rows.
        let rewrap = ["rewrap", "--to", "file:master.key", "--yes"];
        shell.json(0, &rewrap);
        let status = shell.json(3, &["status"]);
        assert_eq!((&status["last_run"]["kind"], &status["stale_rows"]), (&json!("rewrap"), &json!(0)));
        assert_eq!(status["last_rotation"]["outcome"], outcome);
        assert!(shell.run(&["status"]).stdout.contains(&format!("rotate: {outcome}")));
        shell.json(0, &["rotate"]);
        assert_eq!(shell.json(0, &["status"])["last_rotation"]["outcome"], "complete");
    }
}

async fn a_job_that_runs_and_a_rewrap_that_was_cut_off_are_told_of(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let status = shell.json(0, &["status"]);
    assert_eq!((&status["running"], &status["old_master_key_ids"]), (&json!(null), &json!([])));
    let first = status["master_keys"][0]["master_key_id"].clone();
    let expiry = match database.dialect() {
        Dialect::Postgres => "(now() AT TIME ZONE 'utc') + interval '1 hour'",
        Dialect::Sqlite => "(unixepoch() + 3600) * 1000000",
    };
    database
        .execute(&format!(
            "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) VALUES ('rotate', 'night shift', {expiry})"
        ))
        .await;
    assert_eq!(shell.json(0, &["status"])["running"]["owner"], "night shift");
    assert!(shell.succeeds(&["status"]).contains("rotate: night shift, since"));
    database.execute("DELETE FROM vault_rotation_runs").await;

    // As a rewrap leaves it that was killed before the last data key.
    shell.succeeds(&["keys", "create", "--organization", &uuid::Uuid::new_v4().to_string()]);
    let kept = "SELECT master_key_id, wrapped_key FROM vault_key_material WHERE master_key_id IS NOT NULL";
    let before = database.fetch_text(kept).await;
    shell.succeeds(&["master-key", "generate", "--out", "new.key"]);
    shell.json(0, &["rewrap", "--to", "file:new.key", "--yes"]);
    let (master, wrapped) = (before[0][0].as_deref().unwrap(), before[0][1].as_deref().unwrap());
    database
        .execute(&format!(
            "UPDATE vault_key_material SET master_key_id = '{master}', wrapped_key = '{wrapped}'
              WHERE data_key_id = (SELECT min(data_key_id) FROM vault_key_material WHERE master_key_id IS NOT NULL)"
        ))
        .await;
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:master.key file:new.key");
    assert_eq!(shell.json(0, &["status"])["old_master_key_ids"], json!([first]));
    assert!(shell.succeeds(&["status"]).contains("still wraps 1 data key"));
}

on_both_stores!(
    a_key_is_due_when_it_is_too_old_or_compromised,
    a_rotation_that_ended_early_is_work_that_remains_until_another_comes_to_its_end,
    a_job_that_runs_and_a_rewrap_that_was_cut_off_are_told_of,
);
