//! New records for master keys, after a key service has rotated its own key; and whether a service does all that it has to.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use credvault::provider::{KeyBytes, MasterKey, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind, Result, Vault};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read_token, token};

on_both_stores!(
    a_refresh_replaces_the_record_and_nothing_else,
    a_record_that_does_not_open_replaces_none,
    a_key_that_no_service_wraps_has_nothing_to_refresh,
    a_service_that_may_not_unwrap_what_it_wraps_is_found_out,
);

/// A service that keeps what it wraps, by a handle, under the version of its key that was newest.
#[derive(Clone, Debug, Default)]
struct Service(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    version: usize,
    oldest: usize,
    wrapped: Vec<(usize, ProviderContext, [u8; 32])>,
    denied: bool,
}

impl Service {
    fn rotate(&self) {
        self.0.lock().unwrap().version += 1;
    }

    /// Old versions open nothing any more.
    fn retire_old_versions(&self) {
        let mut state = self.0.lock().unwrap();
        state.oldest = state.version;
    }

    fn deny_unwrapping(&self) {
        self.0.lock().unwrap().denied = true;
    }

    fn provider(&self) -> Arc<dyn MasterKeyProvider> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl MasterKeyProvider for Service {
    fn kind(&self) -> &'static str {
        "service-of-a-test"
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let key = KeyBytes::generate()?;
        let record = self.wrap(&key, context).await?;
        Ok((MasterKey::new(context.master_key_id, key), record))
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        let state = self.0.lock().unwrap();
        let handle: usize = record.as_str().parse().unwrap();
        let (version, bound, bytes) = &state.wrapped[handle];
        if state.denied || *version < state.oldest || bound != context {
            return Err(Error::new(ErrorKind::Refused, "the service refuses"));
        }
        Ok(MasterKey::new(context.master_key_id, KeyBytes::copy_of(bytes)?))
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        let mut state = self.0.lock().unwrap();
        let version = state.version;
        state.wrapped.push((version, *context, *key.expose()));
        ProviderRecord::new((state.wrapped.len() - 1).to_string())
    }
}

async fn vault_under(service: &Service, database: &TestDatabase) -> Vault {
    let builder = Vault::builder().url(database.url()).master_key_provider(service.provider());
    builder.create_if_missing().build().await.unwrap()
}

async fn open(service: &Service, database: &TestDatabase) -> Result<Vault> {
    Vault::builder().url(database.url()).master_key_provider(service.provider()).build().await
}

async fn a_refresh_replaces_the_record_and_nothing_else(database: TestDatabase) {
    let service = Service::default();
    let vault = vault_under(&service, &database).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("there")).await.unwrap();
    let before = database.dump().await;

    service.rotate();
    let refreshed = vault.refresh_master_keys().await.unwrap();
    assert_eq!(refreshed.len(), 1);
    assert!(refreshed[0].refreshed);
    let after = database.dump().await;
    let changed: Vec<_> =
        before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert_eq!((before.lines().count(), changed.len()), (after.lines().count(), 1), "{changed:?}");
    assert!(changed[0].0.contains("service-of-a-test"), "{changed:?}");

    service.retire_old_versions();
    let reopened = open(&service, &database).await.unwrap();
    assert_eq!(read_token(&reopened.organization(organization), integration).await, "there");
}

async fn a_record_that_does_not_open_replaces_none(database: TestDatabase) {
    let service = Service::default();
    let vault = vault_under(&service, &database).await;
    let before = database.dump().await;
    service.deny_unwrapping();
    let error = vault.refresh_master_keys().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(database.dump().await, before);
}

async fn a_key_that_no_service_wraps_has_nothing_to_refresh(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let before = database.dump().await;
    let refreshed = vault.refresh_master_keys().await.unwrap();
    assert!(!refreshed[0].refreshed);
    assert_eq!(refreshed[0].provider, "key-file");
    assert_eq!(database.dump().await, before);
}

async fn a_service_that_may_not_unwrap_what_it_wraps_is_found_out(database: TestDatabase) {
    let service = Service::default();
    let check = async || {
        let builder = Vault::builder().url(database.url()).master_key_provider(service.provider());
        builder.check_master_keys().await.unwrap()
    };
    let checked = check().await;
    assert!(checked.providers[0].problem.is_none(), "{checked:?}");

    service.deny_unwrapping();
    let checked = check().await;
    assert!(!checked.passed());
    let problem = checked.providers[0].problem.as_ref().unwrap();
    assert_eq!(problem.to_string(), "unlocking a throw-away key: the service refuses");
}
