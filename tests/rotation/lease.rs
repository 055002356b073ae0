//! One run at a time, and one that lost its lease writes nothing more.

use std::time::Duration;

use credvault::{ErrorKind, Outcome, RotationEvent};

use crate::common::service::{Halted, Service, first_token, read};
use crate::common::{self, TestDatabase, on_both_stores};

async fn a_second_run_is_told_who_holds_the_lease(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 4).await;
    let first = vault.rotation().force().owner("the first").batch_size(2).unwrap();
    let halted = Halted::after_first_page(first).await;
    let before = service.rows().await;
    let elsewhere = service.open().await;
    let report = elsewhere.rotation().force().run().await.unwrap();
    assert!(matches!(&report.outcome, Outcome::HeldBy { owner, .. } if owner == "the first"), "{report:?}");
    assert!(report.new_keys.is_empty());
    let to = credvault::provider::from_spec(&service.key("second")).unwrap();
    let report = elsewhere.rewrap(to).run().await.unwrap();
    assert!(matches!(&report.outcome, Outcome::HeldBy { owner, .. } if owner == "the first"), "{report:?}");
    assert_eq!(service.rows().await, before, "who was refused wrote");
    assert_eq!(service.count("SELECT count(*) FROM vault_data_keys WHERE id <> 'v1'").await, 2);

    assert_eq!(halted.finish().await.unwrap().outcome, Outcome::Complete);
    assert_eq!(elsewhere.rotation().run().await.unwrap().outcome, Outcome::Complete);
    service.assert_all_current(&vault).await;
}

async fn a_forced_rotation_that_waited_for_another_replaces_its_key(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 4).await;
    let halted = Halted::after_first_page(vault.rotation().force().batch_size(2).unwrap()).await;
    let (waits, waiting) = tokio::sync::oneshot::channel::<()>();
    let waits = std::sync::Mutex::new(Some(waits));
    let second = service.open().await.rotation().force().wait_for_lease().on_event(move |event| {
        if let RotationEvent::WaitingForLease { .. } = event {
            drop(waits.lock().unwrap().take());
        }
    });
    let second = tokio::spawn(second.run());
    // It was asked for before the first one came to its end, and is none that goes on with it.
    waiting.await.unwrap_err();
    let first = halted.finish().await.unwrap();
    let report = second.await.unwrap().unwrap();
    assert_eq!((report.outcome, report.new_keys.len(), report.re_encrypted), (Outcome::Complete, 1, 4));
    assert_ne!(report.new_keys, first.new_keys);
    service.assert_all_current(&vault).await;
}

async fn a_run_that_stood_still_loses_its_lease(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 10).await;
    let clock = credvault::test_util::ManualClock::default();
    let open = async || service.builder(&["first", "second"]).clock(clock.clone()).build().await.unwrap();
    let (stands_still, takes_over) = (open().await, open().await);
    let halted = Halted::after_first_page(stands_still.rotation().force().batch_size(2).unwrap()).await;

    clock.advance(time::Duration::seconds(59));
    let refused = takes_over.rotation().run().await.unwrap();
    assert!(matches!(refused.outcome, Outcome::HeldBy { .. }), "a minute is not over: {refused:?}");
    clock.advance(time::Duration::seconds(2));
    let report = takes_over.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 8));
    assert!(report.new_keys.is_empty(), "the switch was done already: {:?}", report.new_keys);
    let rows = service.rows().await;

    let error = halted.finish().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::LeaseLost, true), "{error}");
    assert_eq!(service.rows().await, rows, "a run without a lease wrote");
    for tenant in tenants {
        assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
    }
    service.assert_all_current(&vault).await;
}

async fn a_run_that_lost_its_lease_since_it_renewed_it_writes_nothing(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 10).await;
    // Each renewal succeeds, and the run is over at the next moment.
    let end =
        "UPDATE vault_rotation_runs SET finished_at = started_at, outcome = 'lease-lost' WHERE id = NEW.id;";
    service.add_trigger("lose", "AFTER UPDATE OF lease_expires_at ON vault_rotation_runs", end).await;
    let before = service.rows().await;
    let rotation = vault.rotation().force().batch_size(5).unwrap().run();
    let ended = tokio::time::timeout(Duration::from_secs(20), rotation).await;
    let error = ended.expect("a run without a lease goes on").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert_eq!(service.rows().await, before, "a run without a lease wrote");
}

on_both_stores!(
    a_second_run_is_told_who_holds_the_lease,
    a_forced_rotation_that_waited_for_another_replaces_its_key,
    a_run_that_stood_still_loses_its_lease,
    a_run_that_lost_its_lease_since_it_renewed_it_writes_nothing,
);
