//! A rotation that stands still for longer than its lease changes nothing any more.

use crate::common::service::{Service, first_token, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::rotator::{Rotator, wait_until};

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
