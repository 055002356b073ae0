//! The rotation by its flags, what it says while it runs, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{self, Dialect, RawConnection, TestDatabase, on_both_stores};
use crate::shell::{Shell, contents};

fn events(documents: &[Value]) -> Vec<&str> {
    documents.iter().map(|document| document["event"].as_str().unwrap()).collect()
}

/// The process id of a connection's session.
async fn pid(connection: &mut RawConnection) -> i32 {
    let RawConnection::Postgres(connection) = connection else { panic!("sessions are PostgreSQL's") };
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.unwrap()
}

async fn a_dry_run_says_what_is_due_and_writes_nothing(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_tokens(3);
    let before = contents(&database).await;
    let plan = shell.events(0, &["rotate", "--dry-run"]);
    assert_eq!(events(&plan), ["plan"]);
    assert_eq!((&plan[0]["rows"], &plan[0]["due_data_key_ids"]), (&json!(0), &json!([])));
    let plan = shell.events(0, &["rotate", "--dry-run", "--max-age", "0s"]).remove(0);
    let keys = plan["data_keys"].as_array().unwrap();
    let active = keys.iter().find(|key| key["state"] == "active").unwrap();
    assert_eq!((&plan["rows"], &plan["due_data_key_ids"]), (&json!(3), &json!([active["data_key_id"]])));
    let text = shell.succeeds(&["rotate", "--dry-run", "--force"]);
    assert!(text.contains("3 rows") && text.contains("Nothing was written"), "{text}");
    assert_eq!(contents(&database).await, before);
    assert_eq!(shell.json(0, &["rotate", "--max-age", "0s"])["re_encrypted"], 3);
}

async fn a_rotation_that_may_not_do_all_says_so_and_goes_on_when_run_again(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_tokens(10);
    let report = shell.json(3, &["rotate", "--force", "--max-rows", "4"]);
    assert_eq!((&report["outcome"], &report["stopped"]), (&json!("work-remains"), &json!("max-rows")));
    assert_eq!((&report["re_encrypted"], &report["remaining"]), (&json!(4), &json!(6)));
    assert_eq!(shell.json(3, &["status"])["last_rotation"]["outcome"], "work-remains");

    let report = shell.json(3, &["rotate", "--rows-per-second", "1", "--max-duration", "0s"]);
    assert_eq!((&report["stopped"], &report["new_data_key_ids"]), (&json!("max-duration"), &json!([])));
    let text = shell.run(&["rotate", "--max-rows", "1"]);
    assert!(
        text.code == 3 && text.stdout.contains("--max-rows allows") && text.stdout.contains("it goes on")
    );

    let report = shell.json(0, &["rotate", "--workers", "2", "--batch-size", "3"]);
    assert_eq!(report["outcome"], "complete");
    assert_eq!((&report["stopped"], &report["new_data_key_ids"]), (&Value::Null, &json!([])));
    assert_eq!(shell.json(0, &["status", "--count"])["stale_rows"], 0);
    for flags in
        [["--workers", "0"], ["--workers", "5"], ["--rows-per-second", "0"], ["--batch-size", "5001"]]
    {
        let line = shell.fails(2, &[&["rotate"][..], &flags].concat());
        assert!(line.contains("possible"), "{line}");
    }
    let line = shell.fails(2, &["rotate", "--workers", "2", "--rows-per-second", "100"]);
    assert!(line.contains("can't be used with"), "{line}");
}

async fn the_events_of_a_rotation_are_lines_of_json_and_the_report_is_the_last(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_tokens(12);
    let (_, tampered) = shell.put_token();
    let spoil = "credential_data_encrypted = substr(credential_data_encrypted, 1, 100)";
    database.set(tampered.parse().unwrap(), spoil).await;
    // Slow enough for a progress.
    let mut documents = shell.events(4, &["rotate", "--force", "--rows-per-second", "8"]);
    let report = documents.pop().unwrap();
    assert_eq!(report["event"], "report");
    let listed = events(&documents);
    assert_eq!(listed[..2], ["began", "switched"], "{listed:?}");
    let of = |event: &str| documents.iter().find(|document| document["event"] == event).unwrap();
    assert_eq!(json!([of("switched")["data_key_id"]]), report["new_data_key_ids"]);
    assert_eq!(of("quarantined")["integration_id"], *tampered);
    let (done, left) = (&of("progress")["re_encrypted"], &of("progress")["remaining"]);
    assert!(done.as_u64().unwrap() >= 1, "{documents:?}");
    assert_eq!(done.as_u64().unwrap() + left.as_u64().unwrap(), 13, "{documents:?}");

    let from = report["re_encrypted_from"].as_object().unwrap();
    assert_eq!(from.values().collect::<Vec<_>>(), [&json!(12)]);
    assert_eq!((&report["quarantined"], &report["re_encrypted"]), (&json!(1), &json!(12)));
    assert_eq!(report["unused_data_key_ids"], json!([]), "the row needs it");
    let run = shell.json(0, &["rotations"])["runs"][0].clone();
    assert_eq!(run["run"], of("began")["run"]);
    let (host, process) = run["owner"].as_str().unwrap().split_once(", process ").unwrap();
    assert!(!host.is_empty() && process.parse::<u32>().is_ok(), "{run}");
}

async fn a_job_waits_for_the_lease_when_it_is_told_to(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.succeeds(&["master-key", "generate", "--out", "new.key"]);
    let expiry = match database.dialect() {
        Dialect::Postgres => "(now() AT TIME ZONE 'utc') + interval '1 hour'",
        Dialect::Sqlite => "(unixepoch() + 3600) * 1000000",
    };
    let take = format!(
        "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) VALUES ('rotate', 'night shift', {expiry})"
    );
    for (command, says) in [
        (&["rotate", "--wait", "--output", "json"][..], "waiting-for-lease"),
        (&["rewrap", "--to", "file:new.key", "--yes", "--wait"], "rewrap: waiting for night shift"),
    ] {
        database.execute(&take).await;
        let mut child = shell
            .command(env!("CARGO_BIN_EXE_credvault"), command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Box<dyn Read> = match command[0] {
            "rotate" => Box::new(child.stdout.take().unwrap()),
            _ => Box::new(child.stderr.take().unwrap()),
        };
        let mut lines = BufReader::new(said).lines();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(says) && line.contains("night shift"), "{line}");
        assert!(child.try_wait().unwrap().is_none(), "it did not wait");
        database
            .execute("UPDATE vault_rotation_runs SET finished_at = started_at, outcome = 'complete' WHERE finished_at IS NULL")
            .await;
        let again = lines.map(Result::unwrap).filter(|line| line.contains(says)).count();
        assert_eq!(again, 0, "it says it once");
        assert!(child.wait().unwrap().success());
    }
    let outcomes = shell.json(0, &["rotations", "--master-key", "file:new.key"])["runs"].clone();
    assert_eq!(outcomes.as_array().unwrap().len(), 4);
}

on_both_stores!(
    a_dry_run_says_what_is_due_and_writes_nothing,
    a_rotation_that_may_not_do_all_says_so_and_goes_on_when_run_again,
    the_events_of_a_rotation_are_lines_of_json_and_the_report_is_the_last,
    a_job_waits_for_the_lease_when_it_is_told_to,
);

/// SQLite has one writer: nobody holds a row there while a page is written.
#[tokio::test]
async fn rows_that_others_hold_to_the_end_are_named() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let shell = Shell::with_vault(&database);
    shell.put_tokens(2);
    let (_, held) = shell.put_token();
    let mut connection = database.connect().await;
    connection.begin().await;
    connection
        .execute(&format!("SELECT 1 FROM integration_credentials WHERE integration_id = '{held}' FOR UPDATE"))
        .await;

    let report = shell.json(3, &["rotate", "--force", "--max-wait", "0s"]);
    assert_eq!((&report["outcome"], &report["stopped"]), (&json!("work-remains"), &Value::Null));
    assert_eq!((&report["re_encrypted"], &report["remaining"]), (&json!(2), &json!(1)));
    assert_eq!(report["held_integration_ids"], json!([held]));
    let text = shell.run(&["rotate", "--max-wait", "0s"]);
    assert_eq!(text.code, 3);
    assert!(text.stdout.contains(&format!("integration {held}")) && text.stdout.contains("run it again"));
    connection.execute("ROLLBACK").await;
    assert_eq!(shell.json(0, &["rotate"])["re_encrypted"], 1);
}

/// SQLite has one writer: no transaction outlives a switch there.
#[tokio::test]
async fn transactions_that_are_older_than_a_switch_are_work_that_remains_and_are_named() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let shell = Shell::with_vault(&database);
    shell.put_tokens(2);
    let mut reader = database.connect().await;
    reader.execute("SET application_name = 'long report'").await;
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM integrations").await;
    let pid = pid(&mut reader).await;
    let mut batch = database.connect().await;
    batch.execute("BEGIN; UPDATE integrations SET last_used_at = NULL; PREPARE TRANSACTION 'batch 7'").await;

    let mut documents = shell.events(3, &["rotate", "--force", "--max-wait", "0s"]);
    let report = documents.pop().unwrap();
    assert_eq!((&report["outcome"], &report["remaining"]), (&json!("work-remains"), &json!(0)));
    assert_eq!(report["re_encrypted"], 2);
    let held = json!([
        { "pid": pid, "application": "long report", "gid": null },
        { "pid": null, "application": null, "gid": "batch 7" },
    ]);
    assert_eq!(report["older_transactions"], held);
    assert_eq!(report["unused_data_key_ids"], json!([]));

    // Without a terminal it says so once on standard error, after a second.
    let rotate = ["rotate", "--max-wait", "3s"];
    let done = shell.command(env!("CARGO_BIN_EXE_credvault"), &rotate).output().unwrap();
    assert_eq!(done.status.code(), Some(3));
    let said = [done.stderr, done.stdout].map(|said| String::from_utf8(said).unwrap());
    assert_eq!(said[0].lines().count(), 1, "{said:?}");
    assert!(said[0].starts_with("rotation: waiting for the end of older transactions: "), "{said:?}");
    for said in &said {
        assert!(said.contains(&format!("pid {pid} (long report)")) && said.contains("\"batch 7\""), "{said}");
    }
    batch.execute("ROLLBACK PREPARED 'batch 7'").await;
    let documents = shell.events(3, &["rotate", "--max-wait", "1s"]);
    let waiting: Vec<_> = documents.iter().filter(|document| document["event"] == "waiting").collect();
    assert_eq!(waiting.len(), 1, "the same is not told again: {documents:?}");
    assert_eq!(waiting[0]["transactions"], json!([held[0]]));
    reader.execute("COMMIT").await;
    let report = shell.json(0, &["rotate"]);
    assert_eq!(report["unused_data_key_ids"].as_array().unwrap().len(), 1, "{report}");
}
