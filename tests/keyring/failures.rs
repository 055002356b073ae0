//! What a keyring keeps: keys for their time, and no failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use credvault::provider::{MasterKey, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind, Result, Vault, provider};

use crate::Counted;
use crate::common::statements::counting;
use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores, read, read_token, token};

on_both_stores!(
    a_provider_that_failed_once_is_asked_again,
    a_master_key_is_unlocked_once_whichever_data_keys_are_asked_for,
    a_key_that_did_not_unwrap_is_read_again,
);

/// A provider that fails the first time it is asked to unlock.
#[derive(Debug)]
struct FailsOnce {
    inner: Arc<dyn MasterKeyProvider>,
    asked: AtomicUsize,
}

#[async_trait]
impl MasterKeyProvider for FailsOnce {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        self.inner.create(context).await
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            // Long enough that all others wait for it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Err(Error::new(ErrorKind::Provider, "the service is down").retryable());
        }
        self.inner.unlock(record, context).await
    }
}

async fn a_provider_that_failed_once_is_asked_again(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    let operator = database.create_vault(&first).await;
    let (organization, integration) = database.add_tenant().await;
    operator.organization(organization).put(integration, &token("there")).await.unwrap();

    let flaky =
        Arc::new(FailsOnce { inner: provider::from_spec(&second).unwrap(), asked: AtomicUsize::new(0) });
    let builder = || Vault::builder().url(database.url()).master_key(&first).unwrap();
    let service = builder().master_key_provider(flaky.clone()).build().await.unwrap();
    let away =
        Arc::new(FailsOnce { inner: provider::from_spec(&second).unwrap(), asked: AtomicUsize::new(0) });
    let checks = builder().master_key_provider(away).build().await.unwrap();
    assert_eq!(flaky.asked.load(Ordering::SeqCst), 0, "it is no key of this vault yet");
    operator.rewrap(provider::from_spec(&second).unwrap()).run().await.unwrap();

    let reads: Vec<_> = (0..20)
        .map(|_| {
            let organization = service.organization(organization);
            tokio::spawn(async move { read(&organization, integration).await })
        })
        .collect();
    let mut failed = Vec::new();
    for read in reads {
        match read.await.unwrap() {
            Ok(read) => assert_eq!(read.unwrap().0, "there"),
            Err(error) => failed.push((error.kind(), error.is_retryable())),
        }
    }
    let error = checks.verify().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provider, "a provider that is away is no finding: {error}");
    assert_eq!(failed, [(ErrorKind::Provider, true)], "who asked is told; who waited asks anew");
    assert_eq!(flaky.asked.load(Ordering::SeqCst), 2);
    let organization = service.organization(organization);
    organization.put(integration, &token("again")).await.unwrap();
    assert_eq!(read_token(&organization, integration).await, "again");
    assert_eq!(flaky.asked.load(Ordering::SeqCst), 2, "an unlocked master key is kept");
}

/// A provider that takes a while, as a passphrase or a service does, and counts.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn MasterKeyProvider>,
    asked: AtomicUsize,
}

#[async_trait]
impl MasterKeyProvider for Slow {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        self.inner.create(context).await
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.inner.unlock(record, context).await
    }
}

async fn a_master_key_is_unlocked_once_whichever_data_keys_are_asked_for(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    let operator = database.create_vault(&first).await;
    let mut tenants = Vec::new();
    for _ in 0..6 {
        let (organization, integration) = database.add_tenant().await;
        operator.keys().create(organization).await.unwrap();
        operator.organization(organization).put(integration, &token("there")).await.unwrap();
        tenants.push((organization, integration));
    }
    let slow = Arc::new(Slow { inner: provider::from_spec(&second).unwrap(), asked: AtomicUsize::new(0) });
    let builder = Vault::builder().url(database.url()).master_key(&first).unwrap();
    let service = builder.master_key_provider(slow.clone()).build().await.unwrap();
    operator.rewrap(provider::from_spec(&second).unwrap()).run().await.unwrap();

    let reads: Vec<_> = tenants
        .into_iter()
        .map(|(organization, integration)| {
            let organization = service.organization(organization);
            tokio::spawn(async move { read_token(&organization, integration).await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), "there");
    }
    assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
}

async fn a_key_that_did_not_unwrap_is_read_again(database: TestDatabase) {
    let (_counted, organization, integration) = Counted::begin(&database).await;
    let wrapped = database
        .fetch_one_text("SELECT wrapped_key FROM vault_key_material WHERE data_key_id <> 'v1'")
        .await
        .unwrap();
    let set = async |text: &str| {
        let sql = format!("UPDATE vault_key_material SET wrapped_key = '{text}' WHERE data_key_id <> 'v1'");
        database.execute(&sql).await;
    };
    set(&wrapped.replacen("cv1.", "cv2.", 1)).await;
    for _ in 0..3 {
        let error = organization.get(integration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        let error = organization.put(integration, &token("no")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    }
    set(&wrapped).await;
    assert_eq!(read_token(&organization, integration).await, "there");
    organization.put(integration, &token("again")).await.unwrap();
}

/// Each on a runtime of one thread, whose clock can be moved.
async fn a_key_is_read_again_when_its_time_is_over(dialect: Dialect) {
    let database = TestDatabase::create(dialect).await;
    let (counted, organization, integration) = Counted::begin(&database).await;
    for statements in [2, 1] {
        let (got, span) = counting(read(&organization, integration)).await;
        got.unwrap().unwrap();
        assert_eq!(counted.statements_of(&span).await.len(), statements);
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    for statements in [2, 1] {
        let (got, span) = counting(read(&organization, integration)).await;
        got.unwrap().unwrap();
        assert_eq!(counted.statements_of(&span).await.len(), statements);
    }
}

#[tokio::test]
async fn a_key_is_read_again_when_its_time_is_over_on_postgres() {
    a_key_is_read_again_when_its_time_is_over(Dialect::Postgres).await;
}

#[tokio::test]
async fn a_key_is_read_again_when_its_time_is_over_on_sqlite() {
    a_key_is_read_again_when_its_time_is_over(Dialect::Sqlite).await;
}
