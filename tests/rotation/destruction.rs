//! The end of a data key: what a row needs can't be destroyed, and what is destroyed opens nothing.

use credvault::test_util::ManualClock;
use credvault::{Blocker, DataKeyId, ErrorKind, Finding, Grace, KeyState, Outcome, Problem, Vault};

use crate::common::service::{Service, Tenant, active_key, first_token, key, put, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

/// A vault with three tenants whose clock is to be moved.
async fn begin(database: TestDatabase) -> (Service, Vault, ManualClock, Vec<Tenant>) {
    let (service, vault) = Service::begin(database).await;
    let clock = ManualClock::default();
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let vault = service.builder(&["first", "second"]).clock(clock.clone()).build().await.unwrap();
    (service, vault, clock, tenants)
}

/// Destroying the key is refused, for this reason, whatever the grace; and nothing is changed by it.
async fn assert_refused(service: &Service, vault: &Vault, id: DataKeyId, why: Blocker) {
    let before = service.database.dump().await;
    assert_eq!(key(vault, id).await.blocked, Some(why));
    for grace in [Grace::Kept, Grace::Waived] {
        let error = vault.keys().destroy(id, grace).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let text = error.to_string();
        assert!(text.contains(&id.to_string()) && text.contains(&why.to_string()), "{text}");
    }
    assert_eq!(service.database.dump().await, before);
}

/// Deletes a key's material as a person would who knows no better; gives whether the database let it happen.
async fn delete_material(service: &Service, id: DataKeyId) -> bool {
    let sql = format!("DELETE FROM vault_key_material WHERE data_key_id = '{id}'");
    service.database.try_execute(&sql).await.is_ok()
}

/// Puts a row back as it was under a key.
fn restore(tenant: Tenant, key: DataKeyId, text: &str) -> String {
    format!(
        "UPDATE integration_credentials SET encryption_key_id = '{key}', credential_data_encrypted = '{text}'
          WHERE integration_id = '{}'",
        tenant.integration
    )
}

async fn a_key_that_a_row_needs_is_not_destroyed(database: TestDatabase) {
    let (service, vault, _, tenants) = begin(database).await;
    let old = active_key(&vault, None).await;
    assert_refused(&service, &vault, old, Blocker::InUse).await;
    assert!(!delete_material(&service, old).await);

    // In quarantine a row needs it as before.
    let original = service.stored(tenants[0]).await;
    service.tamper_with(tenants[0]).await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined), (Outcome::Quarantine, 1));
    assert_eq!(report.unused_keys, []);
    assert_refused(&service, &vault, old, Blocker::Rows(1)).await;
    assert!(!delete_material(&service, old).await, "the database let go of a key that a row names");

    // A row whose text the key has sealed needs it whatever its column says.
    service.set_stored(tenants[0], &original).await;
    let new = active_key(&vault, None).await;
    service.database.set(tenants[0].integration, &format!("encryption_key_id = '{new}'")).await;
    let summary = key(&vault, old).await;
    assert_eq!((summary.rows, summary.other_rows), (0, 1));
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.unused_keys), (Outcome::Complete, vec![]));
    assert_refused(&service, &vault, old, Blocker::Rows(1)).await;
    service.database.set(tenants[0].integration, &format!("encryption_key_id = '{old}'")).await;
    assert_eq!(read(&vault, tenants[0]).await.unwrap(), first_token(tenants[0]));

    put(&vault, tenants[0], "newer").await;
    assert_refused(&service, &vault, old, Blocker::NotKnownUnused).await;
    assert_eq!(vault.rotation().run().await.unwrap().unused_keys, [old]);
    vault.keys().destroy(old, Grace::Waived).await.unwrap();
    service.assert_all_current(&vault).await;
}

async fn a_key_that_no_rotation_found_unused_is_not_destroyed(database: TestDatabase) {
    let (service, vault, _, tenants) = begin(database).await;
    let organization = tenants[0].organization;
    let first = vault.keys().create(organization).await.unwrap();
    vault.keys().create(organization).await.unwrap();
    assert_refused(&service, &vault, first, Blocker::NotKnownUnused).await;
    assert_eq!(vault.rotation().run().await.unwrap().unused_keys, [first]);
    vault.keys().destroy(first, Grace::Waived).await.unwrap();
}

async fn a_key_is_kept_for_the_grace_time_unless_that_is_waived(database: TestDatabase) {
    let (service, vault, clock, _) = begin(database).await;
    let kept = active_key(&vault, None).await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!(report.unused_keys, [kept]);
    let unused_since = key(&vault, kept).await.unused_since.unwrap();
    let until = Blocker::Grace(unused_since + time::Duration::days(30));
    assert_eq!(key(&vault, kept).await.blocked, Some(until));
    for moved in [time::Duration::ZERO, time::Duration::days(29)] {
        clock.advance(moved);
        let error = vault.keys().destroy(kept, Grace::Kept).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(&until.to_string()), "{error}");
    }
    // A rotation on the way counts no new grace.
    assert_eq!(vault.rotation().run().await.unwrap().unused_keys, []);
    let waived = vault.rotation().force().run().await.unwrap().unused_keys[0];
    vault.keys().destroy(waived, Grace::Waived).await.unwrap();
    clock.advance(time::Duration::days(1));
    assert_eq!(key(&vault, kept).await.blocked, None);
    vault.keys().destroy(kept, Grace::Kept).await.unwrap();
    service.assert_all_current(&vault).await;
}

async fn after_its_destruction_a_key_opens_nothing_and_the_rest_goes_on(database: TestDatabase) {
    let (service, vault, clock, tenants) = begin(database).await;
    // This process believes for long that the old key is the active one.
    let elsewhere = service.open().await;
    put(&elsewhere, tenants[1], &first_token(tenants[1])).await;
    let backup = service.stored(tenants[0]).await;
    let old = active_key(&vault, None).await;
    vault.rotation().force().run().await.unwrap();
    clock.advance(time::Duration::days(31));
    vault.keys().destroy(old, Grace::Kept).await.unwrap();

    let tombstone = key(&vault, old).await;
    assert_eq!((tombstone.state, tombstone.master_key_id), (KeyState::Destroyed, None));
    assert!(tombstone.destroyed_at.unwrap() > tombstone.unused_since.unwrap() + time::Duration::days(30));
    assert_refused(&service, &vault, old, Blocker::Destroyed).await;
    let restore = restore(tenants[0], old, &backup);
    assert!(service.database.try_execute(&restore).await.is_err(), "a row is under a destroyed key");

    // From a backup of before, past the guards.
    let past_the_guards = match service.database.dialect() {
        Dialect::Postgres => format!("SET session_replication_role = replica; {restore}"),
        Dialect::Sqlite => format!("DROP TRIGGER vault_refuse_unknown_key_on_update; {restore}"),
    };
    service.database.execute(&past_the_guards).await;
    let organization = vault.organization(tenants[0].organization);
    let error = organization.get(tenants[0].integration).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert!(error.to_string().contains(&format!("{old} is destroyed")), "{error}");
    let findings = vault.verify().run().await.unwrap().findings;
    assert!(
        matches!(&findings[..], [Finding::Row { integration, problem: Problem::KeyGone(key) }]
            if *integration == tenants[0].integration && *key == old.to_string()),
        "{findings:?}"
    );
    assert_eq!(vault.exact_status().await.unwrap().stale_rows, 1);
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined), (Outcome::Quarantine, 1));
    put(&vault, tenants[0], "newer").await;
    put(&elsewhere, tenants[1], "newer").await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 3));
    service.assert_all_current(&vault).await;
    assert_eq!(read(&elsewhere, tenants[1]).await.unwrap(), "newer");
}

on_both_stores!(
    a_key_that_a_row_needs_is_not_destroyed,
    a_key_that_no_rotation_found_unused_is_not_destroyed,
    a_key_is_kept_for_the_grace_time_unless_that_is_waived,
    after_its_destruction_a_key_opens_nothing_and_the_rest_goes_on,
);

/// A row under the key is written by hand, as by a restore, while the key is destroyed: one of both is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_written_under_a_key_that_is_being_destroyed_is_refused_or_keeps_it() {
    let (service, vault, _, tenants) = begin(TestDatabase::create(Dialect::Postgres).await).await;
    let old = active_key(&vault, None).await;
    let backup = service.stored(tenants[0]).await;
    vault.rotation().force().run().await.unwrap();
    let restore = restore(tenants[0], old, &backup);
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'";

    // The row is there, and not committed when rows are counted.
    let mut writer = service.database.connect().await;
    writer.begin().await;
    writer.execute(&restore).await;
    let keys = vault.keys();
    let destroying = tokio::spawn(async move { keys.destroy(old, Grace::Waived).await });
    while service.count(waits).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    writer.execute("COMMIT").await;
    let error = destroying.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(read(&vault, tenants[0]).await.unwrap(), first_token(tenants[0]));
    assert_eq!(key(&vault, old).await.state, KeyState::Deactivated);
    assert_eq!(vault.rotation().run().await.unwrap().re_encrypted, 1);
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);

    // The key is gone, and that is not committed when the row comes.
    service.add_trigger("linger", "AFTER DELETE ON vault_key_material", "PERFORM pg_sleep(0.5);").await;
    let keys = vault.keys();
    let destroying = tokio::spawn(async move { keys.destroy(old, Grace::Waived).await });
    let sleeps = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event = 'PgSleep'";
    while service.count(sleeps).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let refused = service.database.try_execute(&restore).await.unwrap_err();
    assert_eq!(refused.into_database_error().unwrap().code().as_deref(), Some("23503"));
    destroying.await.unwrap().unwrap();
    service.assert_all_current(&vault).await;
}
