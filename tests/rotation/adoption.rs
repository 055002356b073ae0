//! An adoption from its beginning to its end, beside the service that was there before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use credvault::{
    DataKeyId, ErrorKind, IntegrationId, KeyState, Outcome, Phase, RotationEvent, RotationReport, Vault,
};
use uuid::Uuid;

use crate::common::legacy::{LegacyRow, add_legacy_rows, legacy_salt, salt};
use crate::common::roles::Role;
use crate::common::schema::{migration_files, run_by_hand};
use crate::common::service::{Halted, Service, Tenant, key, put, read};
use crate::common::{self, Dialect, RawConnection, TestDatabase, on_both_stores};

const SHORT: Duration = Duration::from_millis(200);

/// A vault beside the rows of the service that was there before, in the phase observe.
async fn begin(database: TestDatabase) -> (Service, Vault, Vec<LegacyRow>) {
    let (service, vault) = Service::begin(database).await;
    let rows = add_legacy_rows(&service.database).await;
    vault.adoption(salt(&legacy_salt())).run().await.unwrap();
    // One of before the cut-over says nothing about who writes at it.
    vault.rotation().run().await.unwrap();
    (service, vault, rows)
}

async fn cut_over(vault: &Vault) {
    vault.re_encrypt_legacy_rows().await.unwrap();
    vault.cut_over_legacy_rows().await.unwrap();
}

/// What the old service runs to store a value anew.
fn legacy_write(integration: IntegrationId, stored: &str) -> String {
    format!(
        "INSERT INTO integration_credentials
                (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
         VALUES ('{}', '{integration}', 'token', '{stored}', 'v1')
             ON CONFLICT (integration_id) DO UPDATE
            SET credential_data_encrypted = excluded.credential_data_encrypted, expires_at = NULL,
                encryption_key_id = excluded.encryption_key_id",
        Uuid::new_v4()
    )
}

/// A connection of the old service's, which has no right on the vault's tables where there are rights.
async fn legacy_connection(service: &Service) -> RawConnection {
    match &service.database {
        TestDatabase::Postgres(database) => {
            RawConnection::connect_to(&Role::legacy_service(database).await.url_of("legacy")).await
        }
        TestDatabase::Sqlite(_) => service.database.connect().await,
    }
}

async fn legacy_rows(service: &Service) -> u64 {
    service.count("SELECT count(*) FROM integration_credentials WHERE encryption_key_id = 'v1'").await
}

/// The legacy key is destroyed, no legacy value is in the table, and none gets in.
async fn assert_closed(service: &Service, vault: &Vault, value: &str) {
    assert_eq!(legacy_rows(service).await, 0);
    let legacy = key(vault, DataKeyId::LEGACY).await;
    assert_eq!((legacy.state, legacy.master_key_id), (KeyState::Destroyed, None));
    assert_eq!(service.count("SELECT count(*) FROM vault_key_material WHERE data_key_id = 'v1'").await, 0);
    let stranger = service.add_tenants(1).await[0];
    let mut writer = legacy_connection(service).await;
    assert!(writer.try_execute(&legacy_write(stranger.integration, value)).await.is_err());
    service.assert_all_current(vault).await;
}

/// The old service: it writes its values to its integrations over and over until it is refused, and tells how many it wrote.
async fn write_legacy_values(
    mut connection: RawConnection,
    values: Vec<(IntegrationId, String)>,
    writes: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
) {
    for (integration, stored) in values.iter().cycle() {
        if connection.try_execute(&legacy_write(*integration, stored)).await.is_err() {
            assert!(closed.load(Ordering::SeqCst), "the old service was stopped before the cut-over");
            return;
        }
        writes.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn the_old_service_writes_until_the_cut_over_and_is_refused_from_then_on(database: TestDatabase) {
    let (service, vault, rows) = begin(database).await;
    let values: Vec<_> = rows.iter().map(|row| (row.integration, row.stored.clone())).collect();
    let (writes, closed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let connection = legacy_connection(&service).await;
    let old_service =
        tokio::spawn(write_legacy_values(connection, values, Arc::clone(&writes), Arc::clone(&closed)));
    let goes_on = async || {
        let until = writes.load(Ordering::SeqCst) + 5;
        while writes.load(Ordering::SeqCst) < until {
            assert!(!old_service.is_finished(), "the old service stopped");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    goes_on().await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 0));
    assert_eq!(report.legacy, rows.len() as u64);
    assert_eq!(vault.cut_over_legacy_rows().await.unwrap_err().kind(), ErrorKind::Refused);

    assert!(vault.re_encrypt_legacy_rows().await.unwrap());
    assert!(!vault.re_encrypt_legacy_rows().await.unwrap(), "it was in that phase");
    for _ in 0..3 {
        goes_on().await;
        // Whether it comes to its end depends on when the next value is written.
        let report = vault.rotation().max_wait(SHORT).run().await.unwrap();
        assert!(report.re_encrypted > 0, "what was written since the last one");
        assert!(!report.unused_keys.contains(&DataKeyId::LEGACY));
    }
    goes_on().await;

    closed.store(true, Ordering::SeqCst);
    assert!(vault.cut_over_legacy_rows().await.unwrap());
    assert!(!vault.cut_over_legacy_rows().await.unwrap(), "it was in that phase");
    assert_eq!(vault.re_encrypt_legacy_rows().await.unwrap_err().kind(), ErrorKind::Refused);
    tokio::time::timeout(Duration::from_secs(10), old_service).await.expect("it goes on writing").unwrap();
    let (rotation, mut events) = vault.rotation().events();
    let report = rotation.run().await.unwrap();
    assert_eq!((report.outcome, report.remaining, report.legacy), (Outcome::Complete, 0, 0));
    assert_eq!(report.unused_keys, [DataKeyId::LEGACY]);
    let mut heard = Vec::new();
    while let Some(event) = events.next().await {
        heard.push(event);
    }
    assert!(matches!(&heard[..], [.., RotationEvent::LegacyKeyDestroyed]), "{heard:?}");
    assert_closed(&service, &vault, &rows[0].stored).await;
    assert_eq!(vault.status().await.unwrap().phase, Phase::CutOver);
    for row in &rows {
        let organization = vault.organization(row.organization);
        assert!(organization.get(row.integration).await.unwrap().is_some());
    }
}

async fn a_rotation_ends_though_the_old_service_never_rests(database: TestDatabase) {
    let (service, vault, rows) = begin(database).await;
    vault.re_encrypt_legacy_rows().await.unwrap();
    // After each page another legacy row.
    let connection = tokio::sync::Mutex::new(legacy_connection(&service).await);
    let write = legacy_write(rows[0].integration, &rows[0].stored);
    let runtime = tokio::runtime::Handle::current();
    let rotation = vault.rotation().max_wait(SHORT).on_event(move |event| {
        if let RotationEvent::Progress(_) = event {
            tokio::task::block_in_place(|| {
                runtime.block_on(async { connection.lock().await.execute(&write).await })
            });
        }
    });
    let ended = tokio::time::timeout(Duration::from_secs(20), rotation.run()).await;
    let report = ended.expect("it never ends").unwrap();
    assert_eq!((report.outcome, report.remaining), (Outcome::WorkRemains, 1));
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
    service.assert_all_current(&vault).await;
}

async fn after_the_end_legacy_values_do_not_open_and_migrating_again_brings_nothing_back(
    database: TestDatabase,
) {
    let (service, vault, rows) = begin(database).await;
    // It has the legacy key in memory.
    let organization = vault.organization(rows[0].organization);
    organization.get(rows[0].integration).await.unwrap().unwrap();
    cut_over(&vault).await;
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
    assert_closed(&service, &vault, &rows[0].stored).await;

    credvault::migrate(service.database.url()).await.unwrap();
    for file in migration_files(service.database.dialect()) {
        run_by_hand(&service.database, &file).await;
    }
    assert_closed(&service, &vault, &rows[0].stored).await;
    let error = vault.adoption(salt(&legacy_salt())).run().await;
    assert!(error.is_ok_and(|report| report.already_registered), "it is registered, and nothing changes");
    assert_closed(&service, &vault, &rows[0].stored).await;

    // The text of a legacy value under another column, and a whole row past the guards.
    let current = service.database.raw_row(rows[0].integration).await.unwrap().stored;
    service
        .database
        .set(rows[0].integration, &format!("credential_data_encrypted = '{}'", rows[0].stored))
        .await;
    let error = organization.get(rows[0].integration).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Quarantine);
    service.database.set(rows[0].integration, &format!("credential_data_encrypted = '{current}'")).await;
    let write = legacy_write(rows[1].integration, &rows[1].stored);
    let past_the_guards = match service.database.dialect() {
        Dialect::Postgres => format!("SET session_replication_role = replica; {write}"),
        Dialect::Sqlite => format!(
            "DROP TRIGGER vault_refuse_unknown_key_on_insert; DROP TRIGGER vault_refuse_unknown_key_on_update;
             DROP TRIGGER vault_refuse_v1_insert_after_cut_over;
             DROP TRIGGER vault_refuse_v1_update_after_cut_over; {write}"
        ),
    };
    service.database.execute(&past_the_guards).await;
    let elsewhere = service.open().await;
    for vault in [&vault, &elsewhere] {
        let organization = vault.organization(rows[1].organization);
        let error = organization.get(rows[1].integration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    }
}

async fn a_rotation_cut_off_after_the_cut_over_is_finished_by_the_next(database: TestDatabase) {
    let (service, vault, rows) = begin(database).await;
    cut_over(&vault).await;
    Halted::after_first_page(vault.rotation().batch_size(2).unwrap()).await.kill().await;
    service.expire_lease().await;
    // All is done but the last step, at which the database fails.
    let (when, fail) = match service.database.dialect() {
        Dialect::Postgres => ("BEFORE DELETE ON vault_key_material", "RAISE 'no';"),
        Dialect::Sqlite => ("BEFORE DELETE ON vault_key_material", "SELECT RAISE(ABORT, 'no');"),
    };
    service.add_trigger("fail", when, fail).await;
    assert_eq!(vault.rotation().run().await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(
        (legacy_rows(&service).await, key(&vault, DataKeyId::LEGACY).await.state),
        (0, KeyState::Deactivated)
    );
    let drop = match service.database.dialect() {
        Dialect::Postgres => "DROP TRIGGER fail ON vault_key_material",
        Dialect::Sqlite => "DROP TRIGGER fail",
    };
    service.database.execute(drop).await;
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
    assert_closed(&service, &vault, &rows[0].stored).await;
}

async fn a_legacy_row_in_quarantine_keeps_the_legacy_key(database: TestDatabase) {
    let (service, vault, rows) = begin(database).await;
    let victim = Tenant { organization: rows[0].organization, integration: rows[0].integration };
    service.tamper_with(victim).await;
    cut_over(&vault).await;
    for _ in 0..2 {
        let report = vault.rotation().run().await.unwrap();
        assert_eq!((report.outcome, report.quarantined), (Outcome::Quarantine, 1));
        assert!(!report.unused_keys.contains(&DataKeyId::LEGACY));
        assert_eq!(
            (legacy_rows(&service).await, key(&vault, DataKeyId::LEGACY).await.state),
            (1, KeyState::Deactivated)
        );
    }
    put(&vault, victim, "newer").await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined), (Outcome::Complete, 0));
    assert_closed(&service, &vault, &rows[0].stored).await;
    assert_eq!(read(&vault, victim).await.unwrap(), "newer");
}

on_both_stores!(
    the_old_service_writes_until_the_cut_over_and_is_refused_from_then_on,
    a_rotation_ends_though_the_old_service_never_rests,
    after_the_end_legacy_values_do_not_open_and_migrating_again_brings_nothing_back,
    a_rotation_cut_off_after_the_cut_over_is_finished_by_the_next,
    a_legacy_row_in_quarantine_keeps_the_legacy_key,
);

/// Rotates after the cut-over, beside a writer of the old service: it names it, and the legacy key stays.
async fn rotate_in_vain(vault: &Vault, pid: i32) -> RotationReport {
    let report = vault.rotation().max_wait(SHORT).run().await.unwrap();
    assert_eq!(report.outcome, Outcome::WorkRemains);
    let named: Vec<_> = report.waiting.transactions.iter().collect();
    assert!(named.contains(&format!("pid {pid} (legacy)")), "{named:?}");
    assert_eq!(report.unused_keys, []);
    assert_eq!(key(vault, DataKeyId::LEGACY).await.state, KeyState::Deactivated);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_the_old_service_that_waits_since_before_the_cut_over_is_waited_for() {
    let (service, vault, rows) = begin(TestDatabase::create(Dialect::Postgres).await).await;
    let mut holder = service.database.connect().await;
    let (waiting, held) = (rows[0].integration, &rows[1].stored);
    holder
        .execute(&format!(
            "BEGIN; SELECT FROM integration_credentials WHERE integration_id = '{waiting}' FOR UPDATE"
        ))
        .await;
    let mut late = legacy_connection(&service).await;
    let pid = late.pid().await;
    let write = legacy_write(waiting, held);
    let late = tokio::spawn(async move { late.try_execute(&write).await });
    let waits =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'");
    while service.count(&waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cut_over(&vault).await;
    let report = rotate_in_vain(&vault, pid).await;
    assert_eq!((report.remaining, report.locked), (1, vec![waiting]));
    holder.execute("ROLLBACK").await;
    // It writes, or the guard refuses it; either way it is over.
    drop(late.await.unwrap());
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 1));
    assert_closed(&service, &vault, held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_the_old_service_with_a_snapshot_of_before_the_cut_over_is_waited_for() {
    let (service, vault, rows) = begin(TestDatabase::create(Dialect::Postgres).await).await;
    let newcomer = service.add_tenants(1).await[0];
    vault.re_encrypt_legacy_rows().await.unwrap();
    let mut late = legacy_connection(&service).await;
    let pid = late.pid().await;
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM integrations").await;
    vault.cut_over_legacy_rows().await.unwrap();
    rotate_in_vain(&vault, pid).await;
    // By its snapshot the phase is the one of before.
    late.execute(&legacy_write(newcomer.integration, &rows[0].stored)).await;
    rotate_in_vain(&vault, pid).await;
    late.execute("COMMIT").await;
    assert_eq!(legacy_rows(&service).await, 1, "the writer was not late");
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 1));
    assert_closed(&service, &vault, &rows[0].stored).await;
    assert!(vault.organization(newcomer.organization).get(newcomer.integration).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_that_nobody_waited_for_writes_no_legacy_row_once_the_key_is_destroyed() {
    let (service, vault, rows) = begin(TestDatabase::create(Dialect::Postgres).await).await;
    let newcomer = service.add_tenants(1).await[0];
    vault.re_encrypt_legacy_rows().await.unwrap();
    let mut late = legacy_connection(&service).await;
    let pid = late.pid().await;
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM integrations").await;
    vault.cut_over_legacy_rows().await.unwrap();
    rotate_in_vain(&vault, pid).await;
    // As if it had not been captured.
    service
        .database
        .execute("UPDATE vault_rotation_runs SET drained_at = started_at WHERE captured IS NOT NULL")
        .await;
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
    let refused = late.try_execute(&legacy_write(newcomer.integration, &rows[0].stored)).await.unwrap_err();
    // By the foreign key: the guard on the phase saw the phase of before.
    let code = refused.into_database_error().unwrap().code().unwrap().into_owned();
    assert!(["23503", "40001"].contains(&code.as_str()), "{code}");
    late.execute("ROLLBACK").await;
    assert_closed(&service, &vault, &rows[0].stored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_row_that_never_expires_is_re_encrypted() {
    let (service, vault, rows) = begin(TestDatabase::create(Dialect::Postgres).await).await;
    for (row, expires_at) in rows.iter().zip(["infinity", "-infinity", "20000-01-01", "infinity"]) {
        service.database.set(row.integration, &format!("expires_at = '{expires_at}'")).await;
    }
    cut_over(&vault).await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, rows.len() as u64));
    for row in &rows[..3] {
        let organization = vault.organization(row.organization);
        let stored = organization.get(row.integration).await.unwrap().unwrap();
        assert_eq!(stored.credential.expires_at(), None);
    }
    assert_closed(&service, &vault, &rows[0].stored).await;
}
