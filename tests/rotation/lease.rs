//! One run at a time, and one that lost its lease writes nothing more.

use std::time::Duration;

use credvault::test_util::ManualClock;
use credvault::{ErrorKind, Outcome, RotationEvent};

use crate::common::service::{Halted, Service, active_key, first_token, read};
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
    let clock = ManualClock::default();
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

async fn a_run_that_lost_its_lease_switches_no_key(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 3).await;
    let clock = ManualClock::default();
    let open = async || service.builder(&["first", "second"]).clock(clock.clone()).build().await.unwrap();
    let (late, takes_over) = (open().await, open().await);
    let active = active_key(&vault, None).await;
    // Between its lease and its switch another run comes and goes.
    let (runtime, moved) = (tokio::runtime::Handle::current(), clock.clone());
    let rotation = late.rotation().force().on_event(move |event| {
        if let RotationEvent::Began { .. } = event {
            moved.advance(time::Duration::seconds(61));
            let run = takes_over.rotation().run();
            let report = tokio::task::block_in_place(|| runtime.block_on(run)).unwrap();
            assert_eq!(report.outcome, Outcome::Complete);
        }
    });
    let error = rotation.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert_eq!(active_key(&vault, None).await, active, "a run without a lease switched a key");
    // Nor did it leave one that the next would switch to.
    let report = vault.rotation().run().await.unwrap();
    assert!(report.is_of_nothing(), "{report:?}");
    service.assert_all_current(&vault).await;
}

async fn rotations_at_once_never_work_at_the_same_time(database: TestDatabase) {
    const ROWS: u64 = 6;
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, ROWS as usize).await;
    let elsewhere = service.open().await;
    let mut held = 0;
    for turn in 0..20 {
        let before = service.count("SELECT count(*) FROM vault_data_keys").await;
        let runs =
            [vault.clone(), elsewhere.clone()].map(|vault| tokio::spawn(vault.rotation().force().run()));
        let mut worked = 0;
        for run in runs {
            let report = run.await.unwrap().unwrap();
            match report.outcome {
                Outcome::HeldBy { .. } => held += 1,
                // A second one that came when the first had ended.
                Outcome::Complete => {
                    assert_eq!((report.new_keys.len(), report.re_encrypted), (1, ROWS), "turn {turn}");
                    worked += 1;
                }
                _ => panic!("turn {turn}: {report:?}"),
            }
        }
        let after = service.count("SELECT count(*) FROM vault_data_keys").await;
        assert!(worked > 0 && after == before + worked, "turn {turn}: {worked} worked, {before} {after}");
        assert_eq!(service.rows_under_other_keys().await, 0, "turn {turn}");
    }
    assert!(held > 0, "no two of them met");
    service.assert_all_current(&vault).await;
}

async fn a_rotation_that_is_to_wait_begins_when_the_lease_is_given_back(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 4).await;
    let first = vault.rotation().force().owner("the first").batch_size(2).unwrap();
    let halted = Halted::after_first_page(first).await;
    let elsewhere = service.open().await;
    let (waiting, mut events) = elsewhere.rotation().wait_for_lease().events();
    let waiting = tokio::spawn(waiting.run());
    let event = events.next().await.unwrap();
    assert!(
        matches!(&event, RotationEvent::WaitingForLease { owner, .. } if owner == "the first"),
        "{event:?}"
    );
    assert!(!waiting.is_finished());
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 4));
    let report = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((report.outcome, report.already_current), (Outcome::Complete, 4));
    service.assert_all_current(&vault).await;
}

async fn a_rewrap_that_waits_for_the_lease_runs_when_it_is_free(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 4).await;
    let first = vault.rotation().force().owner("the first").batch_size(2).unwrap();
    let halted = Halted::after_first_page(first).await;
    let to = credvault::provider::from_spec(&service.key("second")).unwrap();
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let rewrap =
        service.open().await.rewrap(to).wait_for_lease().on_event(move |event| drop(say.send(event)));
    let rewrap = tokio::spawn(rewrap.run());
    let waits = heard.recv().await.unwrap();
    assert!(
        matches!(&waits, RotationEvent::WaitingForLease { owner, .. } if owner == "the first"),
        "{waits:?}"
    );
    assert_eq!(halted.finish().await.unwrap().outcome, Outcome::Complete);
    let report = tokio::time::timeout(Duration::from_secs(20), rewrap).await.expect("it waits for ever");
    let report = report.unwrap().unwrap();
    assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, 2));
}

on_both_stores!(
    a_second_run_is_told_who_holds_the_lease,
    a_rotation_that_is_to_wait_begins_when_the_lease_is_given_back,
    a_rewrap_that_waits_for_the_lease_runs_when_it_is_free,
    a_forced_rotation_that_waited_for_another_replaces_its_key,
    rotations_at_once_never_work_at_the_same_time,
    a_run_that_stood_still_loses_its_lease,
    a_run_that_lost_its_lease_since_it_renewed_it_writes_nothing,
    a_run_that_lost_its_lease_switches_no_key,
);
