//! Processes that make a vault in the same empty database at once, and one that is killed while it does.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use credvault::pending_migrations;

use crate::common::long::short_or_long;
use crate::common::schema::describe;
use crate::common::service::random_below;
use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores};

const PROCESSES: usize = 8;

/// How often a process is killed for one to be between two migrations.
const MAX_ATTEMPTS: u32 = 40;

/// The command `credvault`, with a word, on the database.
fn start(word: &str, database: &TestDatabase, key: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_credvault"))
        .arg(word)
        .env_clear()
        .env("CREDVAULT_DATABASE", database.url())
        .env("CREDVAULT_MASTER_KEY", key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn assert_succeeds(word: &str, child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
}

/// How many migrations there are.
const MIGRATIONS: usize = 5;

/// The database has all that a vault has, once, and nobody holds a lock on it.
async fn assert_made_once(database: &TestDatabase, key: &str) {
    assert_eq!(pending_migrations(database.url()).await.unwrap(), []);
    for (what, expected) in [
        ("_credvault_migrations WHERE success", MIGRATIONS),
        ("_credvault_migrations", MIGRATIONS),
        ("vault_identity", 1),
        ("vault_master_keys WHERE state = 'active'", 1),
        ("vault_master_keys", 1),
        ("vault_data_keys WHERE state = 'active'", 1),
        ("vault_data_keys WHERE id <> 'v1'", 1),
    ] {
        let count = database.fetch_one_text(&format!("SELECT count(*) FROM {what}")).await;
        assert_eq!(count, Some(expected.to_string()), "{what}");
    }
    let vault = database.open_vault(key).await;
    assert!(vault.verify().run().await.unwrap().findings.is_empty());
    vault.close().await;
    match database.dialect() {
        Dialect::Postgres => {
            let locks = "SELECT count(*) FROM pg_locks
                          WHERE locktype = 'advisory'
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            // The server ends a session a moment after its client has gone.
            let deadline = Instant::now() + Duration::from_secs(5);
            while database.fetch_one_text(locks).await.as_deref() != Some("0") {
                assert!(Instant::now() < deadline, "an advisory lock is left behind");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Dialect::Sqlite => {
            database.execute("BEGIN EXCLUSIVE; ROLLBACK").await;
            let check = database.fetch_one_text("PRAGMA integrity_check").await;
            assert_eq!(check.as_deref(), Some("ok"));
        }
    }
}

async fn processes_that_begin_at_once_make_one_vault(database: TestDatabase) {
    let keys = KeyFiles::new();
    let key = keys.generate("master.key");
    for round in 0..short_or_long(4, 20) {
        let fresh = TestDatabase::create(database.dialect()).await;
        // Those that only migrate among those that make the vault.
        let word = |process| if round % 2 == 1 && process % 2 == 1 { "migrate" } else { "init" };
        let children: Vec<_> =
            (0..PROCESSES).map(|process| (word(process), start(word(process), &fresh, &key))).collect();
        for (word, child) in children {
            assert_succeeds(word, child);
        }
        assert_made_once(&fresh, &key).await;
    }
}

async fn a_process_killed_while_it_makes_a_vault_leaves_what_the_next_one_finishes(database: TestDatabase) {
    let keys = KeyFiles::new();
    let key = keys.generate("master.key");
    let began = Instant::now();
    assert_succeeds("init", start("init", &database, &key));
    let whole = began.elapsed();
    let schema = describe(&database).await;
    let kills = short_or_long(8, 30);
    let (mut nothing, mut some, mut all) = (0, 0_usize, 0);
    for kill in 0..kills {
        let fresh = TestDatabase::create(database.dialect()).await;
        let mut child = start("init", &fresh, &key);
        // Each part of it in turn, and within that at any moment.
        let moment = f64::from(kill) + random_below(1_000) as f64 / 1_000.0;
        tokio::time::sleep(whole.mul_f64(moment / f64::from(kills))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        match pending_migrations(fresh.url()).await.unwrap().len() {
            0 => all += 1,
            MIGRATIONS => nothing += 1,
            _ => some += 1,
        }
        assert_succeeds("init", start("init", &fresh, &key));
        assert_made_once(&fresh, &key).await;
        assert_eq!(describe(&fresh).await, schema);
    }
    // SQLite's are one transaction.
    let are_apart = database.dialect() == Dialect::Postgres;
    for _ in 0..MAX_ATTEMPTS {
        if some > 0 || !are_apart {
            break;
        }
        // Whatever chance gave: once the first is seen to be there.
        let fresh = TestDatabase::create(database.dialect()).await;
        let mut watching = fresh.connect().await;
        let mut child = start("init", &fresh, &key);
        let seen = "SELECT FROM _credvault_migrations";
        while watching.try_execute(seen).await.unwrap_or(0) == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended without any");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        some += usize::from((1..MIGRATIONS).contains(&pending_migrations(fresh.url()).await.unwrap().len()));
        assert_succeeds("init", start("init", &fresh, &key));
        assert_made_once(&fresh, &key).await;
        assert_eq!(describe(&fresh).await, schema);
    }
    println!(
        "{kills} kills within {whole:?}: {nothing} before the first migration, {some} between, {all} after the last"
    );
    assert_eq!(some > 0, are_apart, "{some} were killed between two migrations");
}

on_both_stores!(
    processes_that_begin_at_once_make_one_vault,
    a_process_killed_while_it_makes_a_vault_leaves_what_the_next_one_finishes,
);
