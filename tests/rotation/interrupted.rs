//! A rotation or rewrap that is cut off anywhere is finished by the next.

use std::time::Duration;

use credvault::{Outcome, RotationReport, Vault};

use crate::common::service::{Service, first_token, random_below, read};
use crate::common::{self, TestDatabase, on_both_stores};

/// Runs rotations until one ends; a lease that was cut off is ended first.
async fn rotate_to_the_end(service: &Service, vault: &Vault) -> RotationReport {
    loop {
        service.expire_lease().await;
        let report = vault.rotation().run().await.unwrap();
        if !matches!(report.outcome, Outcome::HeldBy { .. }) {
            return report;
        }
    }
}

async fn a_rotation_cut_off_anywhere_is_finished_by_the_next(database: TestDatabase) {
    const RUNS: u64 = 15;
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 30).await;
    vault.keys().create(tenants[0].organization).await.unwrap();
    let keys = async || service.count("SELECT count(*) FROM vault_data_keys WHERE id <> 'v1'").await;
    for run in 0..RUNS {
        service.expire_lease().await;
        let before = keys().await;
        let rotation = tokio::spawn(vault.rotation().force().batch_size(2).unwrap().run());
        tokio::time::sleep(Duration::from_micros(run * 2_500 + random_below(2_500))).await;
        rotation.abort();
        drop(rotation.await);
        for tenant in &tenants {
            assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
        }
        // A key for each of the two scopes, and none beside one that an earlier run left.
        assert!(keys().await <= before + 2);
    }
    let report = rotate_to_the_end(&service, &vault).await;
    assert_eq!((report.outcome, report.remaining), (Outcome::Complete, 0));
    service.assert_all_current(&vault).await;
    for tenant in &tenants {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
}

async fn a_key_left_pre_active_is_finished_and_no_other_made(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    // As if the process had ended between a key's record and the switch to it.
    let new = vault.rotation().force().run().await.unwrap().new_keys[0];
    let old = vault.keys().list().await.unwrap().into_iter().find(|key| key.id != new && !key.id.is_legacy());
    let old = old.unwrap().id;
    for (id, state) in [(new, "pre-active"), (old, "active")] {
        service
            .database
            .execute(&format!(
                "UPDATE vault_data_keys SET state = '{state}', deactivated_at = NULL WHERE id = '{id}'"
            ))
            .await;
    }
    let report = service.open().await.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys), (Outcome::Complete, vec![new]));
    service.assert_all_current(&vault).await;
    for tenant in tenants {
        assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
    }
}

async fn a_rewrap_cut_off_anywhere_is_finished_by_the_next(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 12).await;
    for tenant in &tenants {
        vault.keys().create(tenant.organization).await.unwrap();
    }
    vault.rotation().run().await.unwrap();
    let rows = service.rows().await;
    for run in 0..12_u64 {
        service.expire_lease().await;
        let name = if run % 2 == 0 { "second" } else { "first" };
        let to = credvault::provider::from_spec(&service.key(name)).unwrap();
        let rewrap = tokio::spawn(vault.rewrap(to).run());
        tokio::time::sleep(Duration::from_micros(run * 2_000 + random_below(2_000))).await;
        rewrap.abort();
        drop(rewrap.await);
        // Another process, which has both keys, reads whatever wraps which key.
        let elsewhere = service.open().await;
        for tenant in &tenants {
            assert_eq!(read(&elsewhere, *tenant).await.unwrap(), first_token(*tenant));
        }
    }
    loop {
        service.expire_lease().await;
        let to = credvault::provider::from_spec(&service.key("second")).unwrap();
        let report = vault.rewrap(to).run().await.unwrap();
        if report.outcome == Outcome::Complete {
            assert_eq!(report.rewrapped + report.already_current, 13);
            break;
        }
    }
    assert_eq!(service.rows().await, rows, "a rewrap touches no row");
    let alone = service.builder(&["second"]).build().await.unwrap();
    service.assert_all_current(&alone).await;
}

on_both_stores!(
    a_rotation_cut_off_anywhere_is_finished_by_the_next,
    a_key_left_pre_active_is_finished_and_no_other_made,
    a_rewrap_cut_off_anywhere_is_finished_by_the_next,
);
