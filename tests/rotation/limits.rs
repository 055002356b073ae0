//! How much a rotation takes at once, and when it stops by itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use credvault::{Outcome, Rotation, RotationEvent, StopReason};
use uuid::Uuid;

use crate::common::service::{Service, first_token, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

/// The rotation, and how many rows each of its pages has re-encrypted, once it has run.
fn counting_pages(rotation: Rotation) -> (Rotation, Arc<Mutex<Vec<u64>>>) {
    let pages = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&pages);
    let rotation = rotation.on_event(move |event| {
        if let RotationEvent::Progress(progress) = event {
            let mut pages = counted.lock().unwrap();
            let before: u64 = pages.iter().sum();
            pages.push(progress.re_encrypted - before);
        }
    });
    (rotation, pages)
}

async fn a_page_ends_at_four_mebibytes_of_text(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    // None opens, which is known sooner than one is sealed anew.
    let large = format!("cv1.{}", "A".repeat(911 * 1_024));
    for tenant in service.add_tenants_with_tokens(&vault, 6).await {
        service.set_stored(tenant, &large).await;
    }
    // After four of them there is room for another, after five there is none.
    let rotation = vault.rotation().force().workers(1).unwrap().batch_size(5_000).unwrap();
    let (rotation, mut events) = rotation.events();
    assert_eq!(rotation.run().await.unwrap().quarantined, 6);
    let mut pages = vec![0];
    while let Some(event) = events.next().await {
        match event {
            RotationEvent::Quarantined { .. } => *pages.last_mut().unwrap() += 1,
            RotationEvent::Progress(_) => pages.push(0),
            _ => {}
        }
    }
    assert_eq!(pages, [5, 1, 0]);
}

async fn a_rotation_stops_at_the_rows_it_may_re_encrypt_and_not_at_the_last_one(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_many_tenants_with_tokens(&vault, 100).await;
    service.tamper_with(tenants[0]).await;
    let (rotation, pages) = counting_pages(vault.rotation().force().batch_size(10).unwrap().max_rows(37));
    let report = rotation.run().await.unwrap();
    assert_eq!((report.outcome, report.stopped), (Outcome::WorkRemains, Some(StopReason::MaxRows)));
    assert_eq!((report.re_encrypted, report.remaining), (37, 63));
    let pages = pages.lock().unwrap().clone();
    assert!(pages.len() >= 4 && pages.iter().all(|rows| *rows <= 10), "{pages:?}");
    let report =
        vault.rotation().workers(4).unwrap().batch_size(5).unwrap().max_rows(21).run().await.unwrap();
    assert_eq!((report.stopped, report.re_encrypted), (Some(StopReason::MaxRows), 21));
    assert_eq!(vault.rotation().max_rows(0).run().await.unwrap().re_encrypted, 0);
    service.database.execute("DELETE FROM vault_quarantine").await;
    vault.organization(tenants[0].organization).delete(tenants[0].integration).await.unwrap();
    // Exactly those that are left: then it is done, and says so.
    let report = vault.rotation().max_rows(41).run().await.unwrap();
    assert_eq!((report.outcome, report.stopped), (Outcome::Complete, None));
    assert_eq!((report.re_encrypted, report.remaining), (41, 0));
    service.assert_all_current(&vault).await;
}

async fn a_rotation_stops_at_the_end_of_its_time_and_the_next_goes_on(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_many_tenants_with_tokens(&vault, 60).await;
    let slow = vault.rotation().force().rows_per_second(20).unwrap();
    let began = Instant::now();
    let report = slow.max_duration(Duration::from_millis(700)).run().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!((report.outcome, report.stopped), (Outcome::WorkRemains, Some(StopReason::MaxDuration)));
    assert!((1..60).contains(&report.re_encrypted));
    let left = 60 - report.re_encrypted;
    assert_eq!(report.remaining, left);
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, left));
    service.assert_all_current(&vault).await;
}

async fn a_rotation_keeps_to_the_rows_a_second_that_it_may_re_encrypt(database: TestDatabase) {
    const RATE: u32 = 20;
    const ROWS: u64 = 40;
    let (service, vault) = Service::begin(database).await;
    service.add_many_tenants_with_tokens(&vault, ROWS as usize).await;
    let pages = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&pages);
    let rotation = vault.rotation().force().rows_per_second(RATE).unwrap().on_event(move |event| {
        if let RotationEvent::Progress(_) = event {
            written.lock().unwrap().push(Instant::now());
        }
    });
    assert_eq!(rotation.run().await.unwrap().re_encrypted, ROWS);
    let pages = pages.lock().unwrap();
    let took = pages.last().unwrap().duration_since(pages[0]).as_secs_f64();
    let rate = (ROWS - 1) as f64 / took;
    assert!((0.8..1.2).contains(&(rate / f64::from(RATE))), "{rate} rows a second");
}

async fn workers_share_the_rows_and_leave_none(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_many_tenants_with_tokens(&vault, 300).await;
    let rotation = vault.rotation().force().workers(4).unwrap().batch_size(10).unwrap();
    let report = rotation.run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 300));
    assert_eq!(report.already_current, 0);
    service.assert_all_current(&vault).await;
    for tenant in tenants.iter().step_by(29) {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
}

async fn stale_rows_at_both_ends_of_the_table_are_found(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 4).await;
    let (column, least, most) = match service.database.dialect() {
        Dialect::Postgres => ("id", format!("'{}'", Uuid::nil()), format!("'{}'", Uuid::max())),
        Dialect::Sqlite => ("rowid", i64::MIN.to_string(), i64::MAX.to_string()),
    };
    service.database.set(tenants[0].integration, &format!("{column} = {least}")).await;
    service.database.set(tenants[1].integration, &format!("{column} = {most}")).await;
    for rows in [1, 4, 500] {
        let report = vault.rotation().force().batch_size(rows).unwrap().run().await.unwrap();
        assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 4));
        service.assert_all_current(&vault).await;
    }
    let mut under = vault.keys().credentials_under(service.key_of(tenants[0]).await);
    for _ in 0..4 {
        assert!(under.next().await.unwrap().is_some());
    }
    assert!(under.next().await.unwrap().is_none());
}

on_both_stores!(
    a_page_ends_at_four_mebibytes_of_text,
    a_rotation_stops_at_the_rows_it_may_re_encrypt_and_not_at_the_last_one,
    a_rotation_stops_at_the_end_of_its_time_and_the_next_goes_on,
    a_rotation_keeps_to_the_rows_a_second_that_it_may_re_encrypt,
    workers_share_the_rows_and_leave_none,
    stale_rows_at_both_ends_of_the_table_are_found,
);
