//! A rotation that stands still for longer than its lease changes nothing any more.

use std::time::Duration;

use crate::common::service::{Service, first_token, put, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::rotator::{APPLICATION, Rotator, wait_until};

const ROWS: usize = 200;
const PAGE_ROWS: u32 = 5;

/// Stops a rotation in the midst of the rows. SQLite has one lock for all that is written: stopped while it has that, it
/// goes on for a moment.
async fn stop_in_the_midst(service: &Service, rotator: &Rotator) {
    wait_until("the rotation has written a page", async || {
        (1..ROWS as u64).contains(&service.rows_under_other_keys().await)
    })
    .await;
    wait_until("the rotation stands still between two writes", async || {
        rotator.stop();
        let write = "PRAGMA busy_timeout = 100; UPDATE vault_identity SET phase = phase";
        let writable = service.database.dialect() == Dialect::Postgres
            || service.database.try_execute(write).await.is_ok();
        if !writable {
            rotator.go_on();
        }
        writable
    })
    .await;
    assert!(service.rows_under_other_keys().await > 0, "it had ended");
}

async fn a_process_that_stood_still_for_longer_than_its_lease_changes_nothing(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, ROWS).await;
    let rotator = Rotator::start(&service, PAGE_ROWS);
    stop_in_the_midst(&service, &rotator).await;
    // As if the lease's minute were over.
    service.expire_lease().await;
    let (status, stderr) = Rotator::start(&service, 500).end().await;
    assert!(status.success(), "{stderr}");
    service.assert_all_current(&vault).await;
    let before = service.database.dump().await;

    rotator.go_on();
    let (status, stderr) = rotator.end().await;
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("has lost its lease to another process"), "{stderr}");
    assert!(service.database.dump().await == before, "a process without a lease wrote");
    for tenant in tenants {
        assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
    }
}

on_both_stores!(a_process_that_stood_still_for_longer_than_its_lease_changes_nothing);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stands_still_within_a_page_soon_holds_no_row() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    // A page's statement takes its time, in which the process is stopped: it has written, and does not commit.
    let when = "AFTER UPDATE OF credential_data_encrypted ON integration_credentials";
    service.add_trigger("linger", when, "PERFORM pg_sleep(1);").await;
    let rotator = Rotator::start(&service, 1);
    let sessions = |state: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = '{APPLICATION}' AND {state}"
        )
    };
    let count = async |state: &str| service.count(&sessions(state)).await;
    wait_until("a page is written", async || count("wait_event = 'PgSleep'").await == 1).await;
    rotator.stop();
    wait_until("it is written", async || count("state = 'idle in transaction'").await == 1).await;
    service.database.execute("DROP TRIGGER linger ON integration_credentials").await;

    let writes = async {
        for tenant in &tenants {
            put(&vault, *tenant, "written meanwhile").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), writes)
        .await
        .expect("writers wait for a process that stands still");
    service.expire_lease().await;
    let (status, stderr) = Rotator::start(&service, 500).end().await;
    assert!(status.success(), "{stderr}");

    rotator.go_on();
    let (status, stderr) = rotator.end().await;
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("has lost its lease to another process"), "{stderr}");
    for tenant in tenants {
        assert_eq!(read(&vault, tenant).await.unwrap(), "written meanwhile");
    }
    service.assert_all_current(&vault).await;
}
