//! `close`: the vault's own pool, once what is under way has ended; never the caller's.

use std::time::Duration;

use credvault::ErrorKind;
use tokio::time::timeout;

use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores, read_token, token};

/// More than anything takes here, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

on_both_stores!(
    after_close_every_clone_of_the_vault_fails_and_others_go_on,
    a_pool_of_the_callers_stays_open,
);

async fn after_close_every_clone_of_the_vault_fails_and_others_go_on(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let other = database.open_vault(&keys.spec("master.key")).await;
    let organization = vault.organization(database.add_organization().await);
    let integration = organization.ensure_integration("github").await.unwrap();
    organization.put(integration, &token("stored")).await.unwrap();

    vault.clone().close().await;
    vault.close().await;
    let errors = [
        organization.get(integration).await.unwrap_err(),
        organization.put(integration, &token("lost")).await.unwrap_err(),
        vault.status().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, false), "{error}");
        assert!(error.to_string().contains("closed"), "{error}");
    }
    assert_eq!(read_token(&other.organization(organization.id()), integration).await, "stored");
}

async fn a_pool_of_the_callers_stays_open(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    database.create_vault(&spec).await.close().await;
    let vault = database.pool(2).await.open_vault(&spec).await;
    let organization = vault.organization(database.add_organization().await);
    let integration = organization.ensure_integration("github").await.unwrap();

    vault.close().await;
    organization.put(integration, &token("still")).await.unwrap();
    assert_eq!(read_token(&organization, integration).await, "still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_call_under_way_and_leaves_no_connection() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let organization = vault.organization(database.add_organization().await);
    let integration = organization.ensure_integration("github").await.unwrap();
    organization.put(integration, &token("first")).await.unwrap();

    let mut other = database.connect().await;
    other.begin().await;
    other.execute("UPDATE integration_credentials SET expires_at = NULL").await;
    let writer = organization.clone();
    let put = tokio::spawn(async move { writer.put(integration, &token("second")).await });
    let count = async |which: &str| {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = 'credvault' {which}"
        );
        database.fetch_one_text(&sql).await.unwrap().parse::<u32>().unwrap()
    };
    let count_reaches = async |which: &str, expected| {
        while count(which).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, count_reaches("AND wait_event_type = 'Lock'", 1))
        .await
        .expect("the put waits for no lock");

    let closing = tokio::spawn({
        let vault = vault.clone();
        async move { vault.close().await }
    });
    let closed = async {
        while organization.get(integration).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it goes on taking calls");
    assert!(!closing.is_finished(), "it did not wait for the put");
    other.execute("ROLLBACK").await;
    put.await.unwrap().unwrap();
    timeout(PATIENCE, closing).await.expect("it never ends").unwrap();
    // The server takes a moment to notice.
    timeout(PATIENCE, count_reaches("", 0)).await.expect("a connection is left");
    let again = database.open_vault(&keys.spec("master.key")).await.organization(organization.id());
    assert_eq!(read_token(&again, integration).await, "second");
}
