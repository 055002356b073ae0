//! A committed write is never replaced by an older value, and nobody waits for a rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use credvault::{ErrorKind, Outcome, Vault};

use crate::common::service::{Halted, Service, Tenant, first_token, put, read, token};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

/// Writes ever higher numbers to its tenants until told to stop; gives the last number acknowledged for each.
async fn write_ever_higher(
    vault: Vault,
    tenants: Vec<Tenant>,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
) -> Vec<(Tenant, u64)> {
    let mut last: Vec<(Tenant, u64)> = tenants.into_iter().map(|tenant| (tenant, 0)).collect();
    while !stop.load(Ordering::Relaxed) {
        for (tenant, number) in &mut last {
            let organization = vault.organization(tenant.organization);
            let next = token(&(*number + 1).to_string());
            if *number % 3 == 2 {
                let revision = organization.get(tenant.integration).await.unwrap().unwrap().revision;
                match organization.update(tenant.integration, &revision, &next).await {
                    Ok(_) => {}
                    // It was re-encrypted since it was read.
                    Err(error) if error.kind() == ErrorKind::Conflict => continue,
                    Err(error) => panic!("{error}"),
                }
            } else {
                organization.put(tenant.integration, &next).await.unwrap();
            }
            *number += 1;
            writes.fetch_add(1, Ordering::Relaxed);
        }
        tokio::task::yield_now().await;
    }
    last
}

/// Reads the tenants over and over: a number that falls is a lost write.
async fn read_never_lower(vault: Vault, tenants: Vec<Tenant>, stop: Arc<AtomicBool>) -> u64 {
    let mut seen = vec![0; tenants.len()];
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        for (tenant, seen) in tenants.iter().zip(&mut seen) {
            let number: u64 = read(&vault, *tenant).await.unwrap().parse().unwrap();
            assert!(number >= *seen, "{tenant:?} fell from {seen} to {number}");
            *seen = number;
            reads += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    reads
}

async fn put_during_rotation_wins(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants(48).await;
    for tenant in &tenants {
        put(&vault, *tenant, "0").await;
    }
    let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for tenants in tenants.chunks(16) {
        let (vault, stop, writes) = (service.open().await, Arc::clone(&stop), Arc::clone(&writes));
        writers.push(tokio::spawn(write_ever_higher(vault, tenants.to_vec(), stop, writes)));
    }
    let reader = tokio::spawn(read_never_lower(service.open().await, tenants.clone(), Arc::clone(&stop)));

    let mut gave_way = 0;
    let mut before = 0;
    for _ in 0..3 {
        // Only beside writers that are at it is this a test.
        while writes.load(Ordering::Relaxed) < before + 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let report = vault.rotation().force().batch_size(12).unwrap().run().await.unwrap();
        assert_eq!((report.outcome, report.new_keys.len()), (Outcome::Complete, 1));
        gave_way += report.lost_to_concurrent_writes;
        before = writes.load(Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        for (tenant, number) in writer.await.unwrap() {
            assert_eq!(read(&vault, tenant).await.unwrap(), number.to_string(), "a write was lost");
        }
    }
    assert!(reader.await.unwrap() > 0);
    // What a writer began before a switch may have ended after the last sweep.
    vault.rotation().run().await.unwrap();
    service.assert_all_current(&vault).await;
    println!("{} writes, {gave_way} swaps gave way", writes.load(Ordering::Relaxed));
}

async fn a_write_between_read_and_swap_stands(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let [victim, poison, _] = tenants[..] else { unreachable!() };
    let older = service.stored(victim).await;
    put(&vault, victim, "newer").await;
    let newer = service.stored(victim).await;
    service.set_stored(victim, &older).await;
    service.tamper_with(poison).await;
    service.change_at_quarantine(victim, &format!("credential_data_encrypted = '{newer}'")).await;

    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Quarantine);
    assert_eq!((report.re_encrypted, report.lost_to_concurrent_writes), (2, 1));
    assert_eq!(read(&vault, victim).await.unwrap(), "newer");
    assert_eq!(service.rows_under_other_keys().await, 1, "all but the row in quarantine");
}

async fn nothing_is_sealed_under_a_key_switched_between_read_and_swap(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let [victim, poison, _] = tenants[..] else { unreachable!() };
    let own = vault.keys().create(victim.organization).await.unwrap();
    let set = |state: &str| format!("UPDATE vault_data_keys SET state = '{state}' WHERE id = '{own}';");
    service.database.execute(&set("deactivated")).await;
    service.add_trigger("switch_key", "AFTER INSERT ON vault_quarantine", &set("active")).await;
    service.tamper_with(poison).await;

    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Quarantine);
    assert_eq!((report.re_encrypted, report.lost_to_concurrent_writes), (2, 1));
    let under_own = report.keys.iter().find(|key| key.id == own).unwrap().rows;
    assert_eq!((under_own, service.rows_under_other_keys().await), (1, 1));
    assert_eq!(read(&vault, victim).await.unwrap(), first_token(victim));
}

async fn a_row_deleted_between_pages_stays_deleted(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 20).await;
    let halted = Halted::after_first_page(vault.rotation().force().batch_size(5).unwrap()).await;
    for tenant in &tenants[10..] {
        assert!(vault.organization(tenant.organization).delete(tenant.integration).await.unwrap());
    }
    assert_eq!(halted.finish().await.unwrap().outcome, Outcome::Complete);
    for (at, tenant) in tenants.iter().enumerate() {
        let expected = (at < 10).then(|| first_token(*tenant));
        assert_eq!(read(&vault, *tenant).await, expected);
    }
    service.assert_all_current(&vault).await;
}

async fn a_rotation_holds_no_lock_between_pages(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 20).await;
    let writer = service.open().await;
    let halted = Halted::after_first_page(vault.rotation().force().batch_size(5).unwrap()).await;
    let began = Instant::now();
    for tenant in &tenants {
        put(&writer, *tenant, "written meanwhile").await;
    }
    let stranger = service.add_tenants(1).await[0];
    let integration = tenants[3].integration;
    writer.transfer(integration, tenants[3].organization, stranger.organization).await.unwrap_err();
    let nobody = uuid::Uuid::new_v4();
    writer.transfer(integration, tenants[3].organization, nobody).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "writers waited for {:?}", began.elapsed());
    assert_eq!(halted.finish().await.unwrap().outcome, Outcome::Complete);
    let moved = Tenant { organization: nobody.into(), integration };
    for tenant in tenants.iter().filter(|tenant| tenant.integration != integration).chain([&moved]) {
        assert_eq!(read(&vault, *tenant).await.unwrap(), "written meanwhile");
    }
    service.assert_all_current(&vault).await;
}

async fn keys_that_organizations_get_meanwhile_are_used(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 8).await;
    for tenant in &tenants[..4] {
        vault.keys().create(tenant.organization).await.unwrap();
    }
    // The rotating process believes that it knows the key of the row on the first page; then another process makes
    // that organization's next.
    let elsewhere = service.open().await;
    let halted = Halted::after_first_page(vault.rotation().force().batch_size(1).unwrap()).await;
    for tenant in &tenants {
        elsewhere.keys().create(tenant.organization).await.unwrap();
    }
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.remaining), (Outcome::Complete, 0));
    service.assert_all_current(&vault).await;
    for tenant in &tenants {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
}

on_both_stores!(
    put_during_rotation_wins,
    a_write_between_read_and_swap_stands,
    nothing_is_sealed_under_a_key_switched_between_read_and_swap,
    a_row_deleted_between_pages_stays_deleted,
    a_rotation_holds_no_lock_between_pages,
    keys_that_organizations_get_meanwhile_are_used,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_passes_by_a_locked_row_and_takes_it_up_once_it_is_free() {
    const HELD: Duration = Duration::from_secs(2);
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenants = service.add_tenants_with_tokens(&vault, 20).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let mut holder = database.pool().await.begin().await.unwrap();
    sqlx::query("SELECT FROM integration_credentials WHERE integration_id = $1 FOR UPDATE")
        .bind(*tenants[7].integration.as_uuid())
        .execute(&mut *holder)
        .await
        .unwrap();

    let began = Instant::now();
    let rotation = tokio::spawn(vault.rotation().force().run());
    let others = async {
        while service.rows_under_other_keys().await != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HELD, others).await.expect("the locked row stopped the others");
    // A writer goes on beside the rotation that waits.
    put(&vault, tenants[8], "written meanwhile").await;
    tokio::time::sleep(HELD.saturating_sub(began.elapsed())).await;
    assert!(!rotation.is_finished(), "it ended without the locked row");
    holder.commit().await.unwrap();

    let report = rotation.await.unwrap().unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.remaining), (Outcome::Complete, 20, 0));
    assert!(report.lost_to_concurrent_writes > 0);
    assert_eq!(read(&vault, tenants[8]).await.unwrap(), "written meanwhile");
    service.assert_all_current(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_waited_for_a_transfer_does_not_replace_what_was_transferred() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let new = Tenant { organization: uuid::Uuid::new_v4().into(), ..tenant };
    // The transfer has sealed the row anew, and takes its time to commit.
    let when = "AFTER UPDATE OF credential_data_encrypted ON integration_credentials";
    service.add_trigger("linger", when, "PERFORM pg_sleep(0.5);").await;
    let mover = vault.clone();
    let transfer = tokio::spawn(async move {
        mover.transfer(tenant.integration, tenant.organization, new.organization).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = vault.organization(tenant.organization).put(tenant.integration, &token("late")).await;
    transfer.await.unwrap().unwrap();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(read(&vault, new).await.unwrap(), first_token(tenant));
    assert_eq!(read(&vault, tenant).await, None);
    service.assert_all_current(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_a_key_that_another_process_made_meanwhile_is_waited_for_too() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 4).await;
    let tenant = service.add_tenants(1).await[0];
    let elsewhere = service.open().await;
    let rotation = vault.rotation().force().batch_size(2).unwrap().max_wait(Duration::from_millis(200));
    let halted = Halted::after_first_page(rotation).await;
    // It has captured already. A put that then begins seals under the shared key, and is not committed …
    let mut writer = service.database.connect().await;
    writer.begin().await;
    let organization = elsewhere.organization(tenant.organization);
    organization.put_in(writer.lend(), tenant.integration, &token("late")).await.unwrap();
    // … when its organization gets a key of its own.
    elsewhere.keys().create(tenant.organization).await.unwrap();
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.remaining), (Outcome::WorkRemains, 0));
    assert_eq!(report.waiting.transactions.iter().count(), 1, "{:?}", report.waiting);

    writer.execute("COMMIT").await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 1));
    assert_eq!(read(&vault, tenant).await.unwrap(), "late");
    service.assert_all_current(&vault).await;
}

/// By VACUUM, which may number the rows of an SQLite table anew; on a page of several statements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_elsewhere_when_its_page_is_written_is_left_to_the_next_sweep() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Sqlite).await).await;
    let tenants = service.add_many_tenants_with_tokens(&vault, 850).await;
    let [poison, .., victim, _] = tenants[..] else { unreachable!() };
    service.tamper_with(poison).await;
    service.change_at_quarantine(victim, "rowid = rowid + 1000").await;

    let report = vault.rotation().force().workers(1).unwrap().run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Quarantine);
    assert_eq!((report.re_encrypted, report.lost_to_concurrent_writes), (849, 1));
    assert_eq!(read(&vault, victim).await.unwrap(), first_token(victim));
    assert_eq!(service.rows_under_other_keys().await, 1, "all but the row in quarantine");
}
