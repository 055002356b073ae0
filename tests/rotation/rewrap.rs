//! Rewrap: every data key under another master key, and no row touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use credvault::provider::{
    self, Argon2Parameters, MasterKey, MasterKeyProvider, Passphrase, ProviderContext, ProviderRecord,
};
use credvault::test_util::ManualClock;
use credvault::{ErrorKind, Outcome, SecretText, Vault};

use crate::common::service::{Service, assert_sound, first_token, put, random_below, read, token};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

impl Service {
    fn provider(&self, name: &str) -> Arc<dyn MasterKeyProvider> {
        provider::from_spec(&self.key(name)).unwrap()
    }

    /// The data keys that are wrapped by a master key which is not the active one.
    async fn keys_left_behind(&self) -> u64 {
        self.count(
            "SELECT count(*) FROM vault_key_material AS m
               JOIN vault_master_keys AS k ON k.id = m.master_key_id
              WHERE k.state <> 'active'",
        )
        .await
    }
}

async fn a_rewrap_to_the_same_key_says_that_nothing_was_to_do(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let before = service.database.fetch_text("SELECT wrapped_key FROM vault_key_material").await;
    let active = vault.status().await.unwrap().master_keys[0].id;
    for _ in 0..2 {
        let report = vault.rewrap(service.provider("first")).run().await.unwrap();
        assert_eq!((report.outcome, report.master_key), (Outcome::Complete, active));
        assert_eq!((report.rewrapped, report.already_current), (0, 1));
    }
    assert_eq!(service.database.fetch_text("SELECT wrapped_key FROM vault_key_material").await, before);
    assert_eq!(vault.status().await.unwrap().master_keys.len(), 1);
}

async fn after_a_rewrap_the_old_key_alone_opens_nothing(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let rows = service.rows().await;
    // A service that runs with both keys follows without a restart.
    let running = service.open().await;
    for (new, old) in [("second", "first"), ("first", "second"), ("second", "first")] {
        let report = vault.rewrap(service.provider(new)).run().await.unwrap();
        assert_eq!((report.outcome, report.rewrapped, report.already_current), (Outcome::Complete, 1, 0));
        let error = service.builder(&[old]).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
        let alone = service.builder(&[new]).build().await.unwrap();
        for vault in [&alone, &running] {
            assert_eq!(read(vault, tenants[0]).await.unwrap(), first_token(tenants[0]));
        }
        running.keys().create(tenants[1].organization).await.unwrap();
        vault.rewrap(service.provider(new)).run().await.unwrap();
        assert_eq!(service.keys_left_behind().await, 0);
        // Back to as it was, for the next turn of one key.
        service
            .database
            .execute(
                "DELETE FROM vault_key_material WHERE data_key_id IN
                          (SELECT id FROM vault_data_keys WHERE organization_id IS NOT NULL);
                      DELETE FROM vault_data_keys WHERE organization_id IS NOT NULL",
            )
            .await;
    }
    assert_eq!(service.rows().await, rows, "a rewrap touches no row");
}

async fn a_passphrase_can_be_rewrapped_to_and_from(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let passphrase = |text: &str| -> Arc<dyn MasterKeyProvider> {
        let least = Argon2Parameters::new(19_456, 2, 1).unwrap();
        Arc::new(Passphrase::from_secret(SecretText::copy_of(text)).with_parameters(least))
    };
    let open_with = async |provider| {
        Vault::builder().url(service.database.url()).master_key_provider(provider).build().await
    };
    let report = vault.rewrap(passphrase("correct horse battery staple")).run().await.unwrap();
    assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, 1));
    assert_eq!(service.builder(&["first"]).build().await.unwrap_err().kind(), ErrorKind::KeyUnavailable);
    let error = open_with(passphrase("another one altogether")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyMismatch, "{error}");

    let typed = open_with(passphrase("correct horse battery staple")).await.unwrap();
    assert_eq!(read(&typed, tenants[0]).await.unwrap(), first_token(tenants[0]));
    put(&typed, tenants[1], "under the passphrase").await;
    // The same passphrase with a salt of its own is another key.
    let again = typed.rewrap(passphrase("correct horse battery staple")).run().await.unwrap();
    assert_eq!(again.rewrapped, 1);
    assert_ne!(again.master_key, report.master_key);
    let typed = open_with(passphrase("correct horse battery staple")).await.unwrap();
    let report = typed.rewrap(service.provider("second")).run().await.unwrap();
    assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, 1));
    let error = open_with(passphrase("correct horse battery staple")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    let alone = service.builder(&["second"]).build().await.unwrap();
    assert_eq!(read(&alone, tenants[1]).await.unwrap(), "under the passphrase");
    service.assert_all_current(&alone).await;
}

async fn a_wrapped_key_without_a_key_check_ends_a_rewrap(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let sql = "UPDATE vault_key_material
                  SET (master_key_id, wrapped_key) = (SELECT master_key_id, wrapped_key
                                                        FROM vault_key_material WHERE data_key_id <> 'v1')
                WHERE data_key_id = 'v1'";
    service.database.execute(sql).await;
    let rewrap = vault.rewrap(service.provider("second")).run();
    let ended = tokio::time::timeout(Duration::from_secs(10), rewrap).await.expect("it goes on for ever");
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
    assert!(error.to_string().contains("v1"), "{error}");
}

/// A provider that takes so long to make a key that its run's lease ends, and another rewrap comes and goes.
#[derive(Debug)]
struct Overtaken {
    inner: Arc<dyn MasterKeyProvider>,
    clock: ManualClock,
    by: Vault,
    to: Arc<dyn MasterKeyProvider>,
}

#[async_trait::async_trait]
impl MasterKeyProvider for Overtaken {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn create(&self, context: &ProviderContext) -> credvault::Result<(MasterKey, ProviderRecord)> {
        self.clock.advance(time::Duration::seconds(61));
        assert_eq!(self.by.rewrap(Arc::clone(&self.to)).run().await?.outcome, Outcome::Complete);
        self.inner.create(context).await
    }

    async fn unlock(
        &self,
        record: &ProviderRecord,
        context: &ProviderContext,
    ) -> credvault::Result<MasterKey> {
        self.inner.unlock(record, context).await
    }
}

async fn a_rewrap_that_was_overtaken_switches_nothing(database: TestDatabase) {
    let (service, _) = Service::begin(database).await;
    let clock = ManualClock::default();
    let late = service.builder(&["first", "second"]).clock(clock.clone()).build().await.unwrap();
    let by = service.builder(&["first", "second"]).clock(clock.clone()).build().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let third = folder.path().join("third");
    credvault::provider::KeyFile::generate(&third).unwrap();
    let third = provider::from_spec(&format!("file:{}", third.display())).unwrap();
    let overtaken = Overtaken { inner: third, clock, by, to: service.provider("second") };
    let error = late.rewrap(Arc::new(overtaken)).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    service.builder(&["second"]).build().await.expect("another master key was made the active one");
}

async fn writers_notice_nothing_of_a_rewrap(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 8).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, flag, written) = (service.open().await, Arc::clone(&stop), tenants.clone());
    let writer = tokio::spawn(async move {
        let mut number = 0_u64;
        while !flag.load(Ordering::Relaxed) {
            number += 1;
            for tenant in &written {
                let organization = writer.organization(tenant.organization);
                organization.put(tenant.integration, &token(&number.to_string())).await.unwrap();
                assert_eq!(read(&writer, *tenant).await.unwrap(), number.to_string());
            }
        }
        number
    });
    for turn in 0..6 {
        let name = ["second", "first"][turn % 2];
        let report = vault.rewrap(service.provider(name)).run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Complete);
        vault.keys().create(tenants[turn].organization).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let last = writer.await.unwrap();
    for tenant in &tenants {
        assert_eq!(read(&vault, *tenant).await.unwrap(), last.to_string());
    }
    assert_sound(&vault).await;
}

/// The data key is made before the switch of the master key and inserted after it, or inserted before and committed
/// after it.
async fn a_data_key_made_beside_a_rewrap_is_not_left_behind(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let postgres = service.database.dialect() == Dialect::Postgres;
    let tenants = service.add_tenants_with_tokens(&vault, if postgres { 12 } else { 60 }).await;
    if postgres {
        // Time for a whole rewrap between the statements of the transaction.
        let wait = "PERFORM pg_sleep(0.1);";
        service.add_trigger("linger", "AFTER INSERT ON vault_key_material", wait).await;
    }
    let elsewhere = service.open().await;
    for (turn, tenant) in tenants.iter().enumerate() {
        let (elsewhere, organization) = (elsewhere.clone(), tenant.organization);
        let create = tokio::spawn(async move { elsewhere.keys().create(organization).await });
        tokio::time::sleep(Duration::from_micros(random_below(3_000))).await;
        let to = service.provider(["second", "first"][turn % 2]);
        assert_eq!(vault.rewrap(to).run().await.unwrap().outcome, Outcome::Complete);
        create.await.unwrap().unwrap();
        assert_eq!(service.keys_left_behind().await, 0, "turn {turn}");
    }
    assert_sound(&vault).await;
}

on_both_stores!(
    a_rewrap_that_was_overtaken_switches_nothing,
    a_wrapped_key_without_a_key_check_ends_a_rewrap,
    a_rewrap_to_the_same_key_says_that_nothing_was_to_do,
    after_a_rewrap_the_old_key_alone_opens_nothing,
    a_passphrase_can_be_rewrapped_to_and_from,
    writers_notice_nothing_of_a_rewrap,
    a_data_key_made_beside_a_rewrap_is_not_left_behind,
);

/// Waits until so many statements wait for locks.
async fn waiting(service: &Service, statements: u64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while service.count(waiting).await < statements {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_data_key_wrapped_before_a_switch_and_inserted_after_it_is_wrapped_anew() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let [second, first] = ["second", "first"].map(|name| service.provider(name));
    let second = vault.rewrap(second).run().await.unwrap().master_key;
    let first = vault.rewrap(first).run().await.unwrap().master_key;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let mut switch = database.pool().await.begin().await.unwrap();
    for (state, time, id) in [("deactivated", "deactivated_at", first), ("active", "activated_at", second)] {
        let set = format!("UPDATE vault_master_keys SET state = '{state}', {time} = now() WHERE id = '{id}'");
        sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut *switch).await.unwrap();
    }
    let elsewhere = service.open().await;
    let create = tokio::spawn(async move { elsewhere.keys().create(tenant.organization).await });
    waiting(&service, 1).await;
    switch.commit().await.unwrap();
    let created = create.await.unwrap().unwrap();
    let keys = vault.keys().list().await.unwrap();
    let created = keys.iter().find(|key| key.id == created).unwrap();
    assert_eq!(created.master_key_id, Some(second));
}

/// Of all, and of an organization that gets a master key of its own.
#[tokio::test]
async fn a_rewrap_waits_for_a_data_key_that_is_being_inserted() {
    for own in [false, true] {
        let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
        let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
        let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
        // Reads go on, the insertion waits.
        let mut holder = database.pool().await.begin().await.unwrap();
        sqlx::query("LOCK TABLE vault_data_keys IN SHARE MODE").execute(&mut *holder).await.unwrap();
        let elsewhere = service.open().await;
        let create = tokio::spawn(async move { elsewhere.keys().create(tenant.organization).await });
        waiting(&service, 1).await;
        let rewrap = vault.rewrap(service.provider("second"));
        let rewrap = if own { rewrap.organization(tenant.organization) } else { rewrap };
        let rewrap = tokio::spawn(rewrap.run());
        waiting(&service, 2).await;
        holder.commit().await.unwrap();
        let created = create.await.unwrap().unwrap();
        let report = rewrap.await.unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::Complete);
        let keys = vault.keys().list().await.unwrap();
        let created = keys.iter().find(|key| key.id == created).unwrap();
        assert_eq!(created.master_key_id, Some(report.master_key));
        assert_eq!(service.keys_left_behind().await, 0);
        assert_sound(&service.builder(&["first", "second"]).build().await.unwrap()).await;
    }
}
