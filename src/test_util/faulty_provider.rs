//! A provider of master keys that fails when it is told to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;
use crate::provider::{CachePeriod, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord};

/// Any provider of master keys, with faults: calls that fail, an outage, a delay; and a count of its calls.
///
/// Clones share the faults and the count: give one to the vault, keep one. A fault is decided when a call begins, and
/// the provider inside is then not asked.
///
/// ```
/// use credvault::test_util::{self, FaultyProvider, MemoryKey};
/// use credvault::{ErrorKind, Vault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> credvault::Result<()> {
/// let keys = FaultyProvider::new(MemoryKey::generate()?);
/// let pool = test_util::memory_pool().await?;
/// let builder = || Vault::builder().sqlite(pool.clone()).master_key_provider(keys.provider());
/// let running = builder().create_if_missing().build().await?;
///
/// keys.begin_outage();
/// let error = builder().build().await.expect_err("a process that starts needs its master key");
/// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Provider, true));
/// running.organization(uuid::Uuid::new_v4()).ensure_integration("github").await?; // has it
///
/// keys.end_outage();
/// builder().build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FaultyProvider {
    inner: Arc<dyn MasterKeyProvider>,
    cache: Option<CachePeriod>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    /// What the next calls fail with, the first of them first.
    next: VecDeque<ErrorKind>,
    outage: bool,
    delay: Duration,
    calls: ProviderCalls,
}

/// How often a provider was asked, failed calls included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderCalls {
    /// For a key to begin with.
    pub create: u64,
    /// For a key that is in the database.
    pub unlock: u64,
    /// For a new record of a key that is there.
    pub wrap: u64,
}

impl FaultyProvider {
    /// `inner` without a fault yet.
    #[must_use]
    pub fn new(inner: Arc<dyn MasterKeyProvider>) -> Self {
        Self { cache: inner.cache(), inner, faults: Arc::default() }
    }

    /// As a key service's: its keys are asked for again, and not used for ever while it is away.
    #[must_use]
    pub fn cached(mut self, period: CachePeriod) -> Self {
        self.cache = Some(period);
        self
    }

    /// This provider, as a vault's builder takes it.
    #[must_use]
    pub fn provider(&self) -> Arc<dyn MasterKeyProvider> {
        Arc::new(self.clone())
    }

    /// Lets the next `calls` fail with an error of `kind`, after those that are to fail already; retryable if `kind` is
    /// `Provider`, as a service that is down.
    pub fn fail_next(&self, calls: usize, kind: ErrorKind) {
        self.faults().next.extend(std::iter::repeat_n(kind, calls));
    }

    /// From now on every call fails with a retryable error of kind `Provider`.
    pub fn begin_outage(&self) {
        self.faults().outage = true;
    }

    /// Ends an outage, and forgets the calls that were to [fail next](Self::fail_next).
    pub fn end_outage(&self) {
        let mut faults = self.faults();
        faults.outage = false;
        faults.next.clear();
    }

    /// From now on every call, also one that fails, takes at least this long, by tokio's clock.
    pub fn delay(&self, by: Duration) {
        self.faults().delay = by;
    }

    /// How often the provider was asked so far.
    #[must_use]
    pub fn calls(&self) -> ProviderCalls {
        self.faults().calls
    }

    /// Counts a call, lets it wait, and fails it if it is to fail.
    async fn begin_call(&self, count: fn(&mut ProviderCalls)) -> Result<()> {
        let (delay, fault) = {
            let mut faults = self.faults();
            count(&mut faults.calls);
            let planned = faults.next.pop_front();
            (faults.delay, planned.or(faults.outage.then_some(ErrorKind::Provider)))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fault.map_or(Ok(()), |kind| {
            let error = Error::new(kind, "the master key's provider was told to fail, by a test");
            Err(if kind == ErrorKind::Provider { error.retryable() } else { error })
        })
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MasterKeyProvider for FaultyProvider {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn opens(&self, kind: &str) -> bool {
        self.inner.opens(kind)
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        self.begin_call(|calls| calls.create += 1).await?;
        self.inner.create(context).await
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        self.begin_call(|calls| calls.unlock += 1).await?;
        self.inner.unlock(record, context).await
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        self.begin_call(|calls| calls.wrap += 1).await?;
        self.inner.wrap(key, context).await
    }

    fn cache(&self) -> Option<CachePeriod> {
        self.cache
    }

    async fn ids(&self) -> Result<Vec<MasterKeyId>> {
        self.inner.ids().await
    }
}

impl fmt::Debug for FaultyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyProvider").field("inner", &self.inner).finish_non_exhaustive()
    }
}
