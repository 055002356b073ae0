//! What a rotation says that it would do, and what it then does.

use credvault::ErrorKind;

use crate::common::service::Service;
use crate::common::{self, TestDatabase, on_both_stores};

async fn a_plan_counts_each_row_once_that_the_rotation_then_re_encrypts(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 5).await;
    // Its row is stale, and under a key that is due besides.
    vault.keys().create(tenants[0].organization).await.unwrap();
    let before = (service.rows().await, service.count("SELECT count(*) FROM vault_rotation_runs").await);

    let plan = vault.rotation().plan().await.unwrap();
    assert_eq!((plan.rows, plan.due.len()), (1, 0));
    let plan = vault.rotation().force().plan().await.unwrap();
    assert_eq!((plan.rows, plan.due.len()), (5, 2));
    let after = (service.rows().await, service.count("SELECT count(*) FROM vault_rotation_runs").await);
    assert_eq!(after, before, "a plan wrote, or took the lease");

    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.re_encrypted, report.new_keys.len()), (5, 2));
    assert_eq!(vault.rotation().plan().await.unwrap().rows, 0);
}

async fn where_no_key_is_active_rows_are_counted_and_a_rotation_says_what_is_missing(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 2).await;
    let end = "UPDATE vault_data_keys SET state = 'deactivated', deactivated_at = activated_at WHERE state = 'active'";
    service.database.execute(end).await;

    assert_eq!(vault.exact_status().await.unwrap().stale_rows, 2);
    assert_eq!(vault.keys().list().await.unwrap().iter().map(|key| key.rows).sum::<u64>(), 2);
    assert_eq!(vault.rotation().plan().await.unwrap().rows, 2);
    let error = vault.rotation().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");
}

on_both_stores!(
    a_plan_counts_each_row_once_that_the_rotation_then_re_encrypts,
    where_no_key_is_active_rows_are_counted_and_a_rotation_says_what_is_missing,
);
