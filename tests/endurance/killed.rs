//! A rotation that is killed at any moment is finished by the next, and no token is lost.

use std::collections::HashMap;
use std::time::Instant;

use credvault::{ExposeSecret, IntegrationId};

use crate::common::service::{Service, assert_sound, first_token, random_below};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::rotator::Rotator;

/// Rows on a page: a rotation is long enough to be hit, and short enough to be run so often.
const PAGE_ROWS: u32 = 8;

/// The token that each integration has.
type Tokens = HashMap<IntegrationId, String>;

/// A service with so many tokens, which no process has open.
async fn begin(database: TestDatabase, tokens: usize) -> (Service, Tokens) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, tokens).await;
    vault.close().await;
    (service, tenants.into_iter().map(|tenant| (tenant.integration, first_token(tenant))).collect())
}

/// Every token is as it was stored, for a process that opens the vault anew, and the keys are in order.
async fn assert_nothing_is_lost(service: &Service, tokens: &Tokens) {
    let vault = service.open().await;
    let mut expected = tokens.clone();
    let mut credentials = vault.credentials();
    while let Some(entry) = credentials.next().await.unwrap() {
        let stored = entry.stored.unwrap();
        let token = stored.credential.field("access_token").unwrap().expose_secret().to_owned();
        assert_eq!(expected.remove(&entry.integration_id), Some(token));
    }
    assert!(expected.is_empty(), "gone: {expected:?}");
    service.assert_keys_hold(&vault).await;
    vault.close().await;
    if service.database.dialect() == Dialect::Sqlite {
        let check = service.database.fetch_one_text("PRAGMA integrity_check").await;
        assert_eq!(check.as_deref(), Some("ok"));
    }
}

/// Kills so many rotations, each at another moment; after each nothing is lost, and the last one comes to its end.
async fn kill(service: &Service, tokens: &Tokens, times: u32) {
    let made = async || service.count("SELECT count(*) FROM vault_data_keys WHERE id <> 'v1'").await - 1;
    let runs = async |how: &str| {
        service.count(&format!("SELECT count(*) FROM vault_rotation_runs WHERE {how}")).await
    };

    // What a kill's moment is drawn from: all of a rotation.
    let began = Instant::now();
    let (status, stderr) = Rotator::start(service, PAGE_ROWS).end().await;
    assert!(status.success(), "{stderr}");
    let mut whole = began.elapsed();
    // Whether there is one to go on with.
    let mut goes_on = false;
    let (mut kills, mut ends, mut hits, mut half_done) = (0, 0, 0, 0);
    while kills < times {
        // A part of it in an order that is no order, each hundredth in turn.
        let part = f64::from((kills + ends) * 37 % 100) + random_below(1_000) as f64 / 1_000.0;
        let began = Instant::now();
        let mut rotator = Rotator::start(service, PAGE_ROWS);
        if rotator.ends_within(whole.mul_f64(part / 100.0)).await {
            ends += 1;
            if !goes_on {
                whole = whole.min(began.elapsed());
            }
        } else {
            rotator.kill(service).await;
            kills += 1;
            hits += runs("finished_at IS NULL").await;
            let left = service.rows_under_other_keys().await;
            half_done += u64::from((1..tokens.len() as u64).contains(&left));
        }
        assert_nothing_is_lost(service, tokens).await;
        // Those that are killed one after another bring the first of them to its end, by one key.
        let (made, complete) = (made().await, runs("outcome = 'complete'").await);
        assert!(
            made <= complete + 1,
            "{made} keys made by {complete} rotations that ended, and one that did not"
        );
        goes_on = made > complete;
        service.expire_lease().await;
    }
    println!(
        "{kills} kills within {whole:?}: {hits} of a running job, {half_done} in the midst of the rows; {ends} ended before"
    );
    assert!(hits >= u64::from(times / 3), "only {hits} of {times} kills hit a running job");

    let (status, stderr) = Rotator::start(service, PAGE_ROWS).end().await;
    assert!(status.success(), "{stderr}");
    assert_eq!(made().await, runs("outcome = 'complete'").await);
    assert_nothing_is_lost(service, tokens).await;
    let vault = service.open().await;
    service.assert_all_current(&vault).await;
    assert_sound(&vault).await;
}

async fn a_rotation_killed_at_any_moment_is_finished_by_the_next(database: TestDatabase) {
    let (service, tokens) = begin(database, 200).await;
    kill(&service, &tokens, 100).await;
}

async fn a_rotation_killed_while_it_switches_keys_is_finished_by_the_next(database: TestDatabase) {
    let (service, tokens) = begin(database, 5).await;
    // Most of the time goes into what is otherwise over in an instant.
    let linger = match service.database.dialect() {
        Dialect::Postgres => "PERFORM pg_sleep(0.1);",
        Dialect::Sqlite => {
            let count = "CREATE VIEW numbers AS
                         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
                         SELECT i FROM n";
            service.database.execute(count).await;
            "SELECT count(*) FROM numbers;"
        }
    };
    for (name, when) in [
        ("linger_making", "AFTER INSERT ON vault_data_keys"),
        ("linger_switching", "AFTER UPDATE OF state ON vault_data_keys"),
    ] {
        service.add_trigger(name, when, linger).await;
    }
    kill(&service, &tokens, 25).await;
}

on_both_stores!(
    a_rotation_killed_at_any_moment_is_finished_by_the_next,
    a_rotation_killed_while_it_switches_keys_is_finished_by_the_next,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_whose_writer_was_killed_within_large_writes_is_whole() {
    let (service, tokens) = begin(TestDatabase::create(Dialect::Sqlite).await, 40).await;
    // A page's statement writes more than SQLite keeps in memory until the commit: of it some is in the file by then.
    service.database.execute("CREATE TABLE ballast (load BLOB); INSERT INTO ballast VALUES (NULL)").await;
    let write = "UPDATE ballast SET load = randomblob(500000 + abs(random() % 500000));";
    service.add_trigger("load", "AFTER UPDATE ON integration_credentials", write).await;
    kill(&service, &tokens, 25).await;
}
