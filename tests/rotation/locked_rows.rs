//! Rows that others have locked for long: they are passed by, named, and taken up later.

use std::time::{Duration, Instant};

use credvault::{IntegrationId, Outcome, Vault};

use crate::common::service::{Service, Tenant, first_token, read};
use crate::common::{Dialect, RawConnection, TestDatabase};

/// A vault with twenty tenants, of whom two have rows that don't open.
async fn begin() -> (Service, Vault, Vec<Tenant>) {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenants = service.add_tenants_with_tokens(&vault, 20).await;
    for poison in &tenants[18..] {
        service.tamper_with(*poison).await;
    }
    (service, vault, tenants)
}

/// Locks the rows of tenants, one after the other, until its transaction ends.
async fn lock(service: &Service, tenants: &[Tenant]) -> RawConnection {
    let mut holder = service.database.connect().await;
    holder.begin().await;
    for tenant in tenants {
        lock_row(&mut holder, *tenant).await;
    }
    holder
}

async fn lock_row(holder: &mut RawConnection, tenant: Tenant) {
    let integration = tenant.integration;
    let sql =
        format!("SELECT FROM integration_credentials WHERE integration_id = '{integration}' FOR UPDATE");
    holder.execute(&sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_locked_to_the_end_are_named_and_left_to_the_next_rotation() {
    let (service, vault, tenants) = begin().await;
    let mut holder = lock(&service, &tenants[..2]).await;
    // One of the poisoned, too, which is in quarantine all the same.
    lock_row(&mut holder, tenants[19]).await;
    let began = Instant::now();
    let report = vault.rotation().force().max_wait(Duration::from_millis(500)).run().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!((&report.outcome, report.re_encrypted), (&Outcome::WorkRemains, 16), "{report:?}");
    assert_eq!((report.remaining, report.quarantined, report.waiting.rows), (2, 2, 2));
    assert!(report.lost_to_concurrent_writes >= 2);
    let mut locked = report.locked;
    locked.sort();
    let mut expected: Vec<IntegrationId> = tenants[..2].iter().map(|tenant| tenant.integration).collect();
    expected.sort();
    assert_eq!(locked, expected);
    assert_eq!(vault.exact_status().await.unwrap().stale_rows, 2);

    holder.execute("COMMIT").await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Quarantine, 2));
    assert_eq!((report.new_keys, report.locked), (vec![], vec![]));
    assert_eq!(service.rows_under_other_keys().await, 2, "all but the rows in quarantine");
    for tenant in &tenants[..18] {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_is_named_though_many_in_quarantine_come_before_it() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_many_tenants_with_tokens(&vault, 110).await;
    let cut =
        "UPDATE integration_credentials SET credential_data_encrypted = left(credential_data_encrypted, -1)";
    service.database.execute(cut).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let last = uuid::Uuid::max();
    service.database.set(tenant.integration, &format!("id = '{last}'")).await;
    let mut holder = lock(&service, &[tenant]).await;
    let rotation = vault.rotation().force().workers(1).unwrap().max_wait(Duration::from_millis(500));
    let report = rotation.run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined, report.remaining), (Outcome::WorkRemains, 110, 1));
    assert_eq!(report.locked, [tenant.integration]);
    holder.execute("COMMIT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_locks_row_after_row_and_a_rotation_never_deadlock() {
    const HELD: Duration = Duration::from_secs(3);
    let (service, vault, tenants) = begin().await;
    let mut holder = lock(&service, &tenants[..3]).await;
    let began = Instant::now();
    let rotation = tokio::spawn(vault.rotation().force().workers(2).unwrap().batch_size(4).unwrap().run());
    // It wants the others, in the other order, while the rotation is at them.
    for tenant in tenants[3..].iter().rev() {
        lock_row(&mut holder, *tenant).await;
    }
    tokio::time::sleep(HELD.saturating_sub(began.elapsed())).await;
    assert!(!rotation.is_finished(), "it ended without the locked rows");
    holder.execute("COMMIT").await;
    let report = tokio::time::timeout(Duration::from_secs(20), rotation).await.unwrap().unwrap().unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.quarantined), (Outcome::Quarantine, 18, 2));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(service.count(deadlocks).await, 0);
    for tenant in &tenants[..18] {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
}
