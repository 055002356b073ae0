//! Forced rotations: one that did not come to its end is brought to it by the next, with no further key.

use std::time::Duration;

use credvault::{DataKeyId, Outcome, RotationEvent, StopReason, Vault, provider};

use crate::common::service::{Halted, Service, active_key, first_token, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

/// Rotates by force to the end, with no key made; the next one makes its own.
async fn assert_goes_on_with(service: &Service, vault: &Vault, key: DataKeyId, rows: u64) {
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys), (Outcome::Complete, vec![]));
    assert_eq!(report.re_encrypted, rows);
    assert_eq!(active_key(vault, None).await, key);
    service.assert_all_current(vault).await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys.len()), (Outcome::Complete, 1));
}

async fn one_that_was_killed_goes_on_with_the_same_key(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 12).await;
    let kill = async |vault: &Vault| {
        Halted::after_first_page(vault.rotation().force().batch_size(3).unwrap()).await.kill().await;
        service.expire_lease().await;
    };
    kill(&vault).await;
    let key = active_key(&vault, None).await;
    kill(&vault).await;
    let report = vault.rewrap(provider::from_spec(&service.key("second")).unwrap()).run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    let elsewhere = service.builder(&["second"]).build().await.unwrap();
    kill(&elsewhere).await;
    assert_eq!(active_key(&vault, None).await, key);
    // One without force goes on, too, and changes nothing about that.
    let report = vault.rotation().max_rows(1).run().await.unwrap();
    assert_eq!((report.stopped, report.re_encrypted), (Some(StopReason::MaxRows), 1));
    assert_goes_on_with(&service, &vault, key, 2).await;
    for tenant in tenants {
        assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
    }
}

async fn one_that_was_killed_between_its_switches_makes_only_the_keys_that_are_missing(
    database: TestDatabase,
) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 4).await;
    for tenant in &tenants[..3] {
        vault.keys().create(tenant.organization).await.unwrap();
    }
    vault.rotation().run().await.unwrap();
    let active = "SELECT id FROM vault_data_keys WHERE state = 'active' ORDER BY organization_id IS NULL, organization_id";
    let before = service.database.fetch_text(active).await;
    Halted::after_first_page(vault.rotation().force().batch_size(1).unwrap()).await.kill().await;
    service.expire_lease().await;
    // As if two of its four switches had not been made.
    let after = service.database.fetch_text(active).await;
    for (old, new) in before.iter().zip(&after).take(2) {
        let (old, new) = (old[0].as_deref().unwrap(), new[0].as_deref().unwrap());
        for sql in [
            format!(
                "UPDATE vault_data_keys SET state = 'deactivated', deactivated_at = activated_at WHERE id = '{new}'"
            ),
            format!("UPDATE vault_data_keys SET state = 'active', deactivated_at = NULL WHERE id = '{old}'"),
        ] {
            service.database.execute(&sql).await;
        }
    }
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys.len()), (Outcome::Complete, 2));
    service.assert_all_current(&vault).await;
}

async fn one_that_was_asked_to_stop_goes_on_with_the_same_key(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 9).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let rotation = vault.rotation().force().batch_size(3).unwrap().stop_when(async { drop(stopped.await) });
    let halted = Halted::after_first_page(rotation).await;
    stop.send(()).unwrap();
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.stopped), (Outcome::WorkRemains, Some(StopReason::Asked)));
    assert_eq!((report.re_encrypted, report.remaining, report.new_keys.len()), (3, 6, 1));
    // It gave its lease back.
    assert_goes_on_with(&service, &vault, report.new_keys[0], 6).await;
}

on_both_stores!(
    one_that_was_killed_goes_on_with_the_same_key,
    one_that_was_killed_between_its_switches_makes_only_the_keys_that_are_missing,
    one_that_was_asked_to_stop_goes_on_with_the_same_key,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_page_hung_when_it_was_asked_to_stop_goes_on_with_the_same_key() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 6).await;
    let (rotation, mut events) = vault.rotation().force().events();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut holder = service.database.connect().await;
    holder.execute("BEGIN; LOCK TABLE integration_credentials IN ACCESS EXCLUSIVE MODE").await;
    let rotation = tokio::spawn(rotation.stop_when(async { drop(stopped.await) }).run());
    let key = loop {
        if let RotationEvent::Switched { key, .. } = events.next().await.unwrap() {
            break key;
        }
    };
    stop.send(()).unwrap();
    let report = tokio::time::timeout(Duration::from_secs(5), rotation).await.unwrap().unwrap().unwrap();
    assert_eq!((report.outcome, report.stopped), (Outcome::WorkRemains, Some(StopReason::Asked)));
    holder.execute("ROLLBACK").await;
    // Its lease is given back, though its page had no answer.
    assert_goes_on_with(&service, &vault, key, 6).await;
}
