//! How a vault is opened, or made.

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, MasterKeyCheck, Vault, init, master_key_check};
use crate::clock::{Clock, DatabaseClock};
use crate::error::{Error, ErrorKind, Result};
use crate::keyring::{Keyring, MasterKeys};
use crate::limit::{self, StandingTimer, within};
use crate::provider::{self, CachePeriod, MasterKeyProvider};
use crate::rotation::finish_pre_active;
use crate::store::{Missing, Place, Store};

/// Opens a vault, or makes one: says where it is and where its master keys come from.
#[derive(Debug)]
pub struct VaultBuilder {
    place: Option<Place>,
    providers: Vec<Arc<dyn MasterKeyProvider>>,
    clock: Arc<dyn Clock>,
    missing: Missing,
    call_limit: Duration,
    cache_period: Option<CachePeriod>,
}

impl Default for VaultBuilder {
    fn default() -> Self {
        Self {
            place: None,
            providers: Vec::new(),
            clock: Arc::new(DatabaseClock),
            missing: Missing::Fail,
            call_limit: limit::CALL,
            cache_period: None,
        }
    }
}

impl VaultBuilder {
    /// In the database at `url`, on a pool of the vault's own: `postgres://…` or `sqlite:PATH`.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.place = Some(Place::Url(url.into()));
        self
    }

    /// In a PostgreSQL database, on the caller's pool.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres(mut self, pool: sqlx::PgPool) -> Self {
        self.place = Some(Place::Postgres(pool));
        self
    }

    /// In an SQLite database, on the caller's pool, whose connections should have `foreign_keys` on and a busy
    /// timeout; the journal mode of the file is left as it is.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn sqlite(mut self, pool: sqlx::SqlitePool) -> Self {
        self.place = Some(Place::Sqlite(pool));
        self
    }

    /// With the master key that `spec` says (see [`provider::from_spec`]). May be called again: further keys are
    /// those of before and after a rewrap.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `spec` is none.
    pub fn master_key(self, spec: &str) -> Result<Self> {
        Ok(self.master_key_provider(provider::from_spec(spec)?))
    }

    /// With the master keys of a provider. May be called again, as [`master_key`](Self::master_key).
    #[must_use]
    pub fn master_key_provider(mut self, provider: Arc<dyn MasterKeyProvider>) -> Self {
        self.providers.push(provider);
        self
    }

    /// With another clock than the database's, for schedules and leases.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// With another limit than 30 seconds for a call that reads or writes a few rows, from the moment it is made: what
    /// takes longer fails with a retryable `Store`. What goes through the whole table has half an hour in any case.
    #[must_use]
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// With another [`CachePeriod`] than an hour and a day for master keys of key services: how often the service is
    /// asked, and how long its outage is borne. Keys from files, variables and passphrases are kept as long as the vault.
    #[must_use]
    pub fn cache_period(mut self, period: CachePeriod) -> Self {
        self.cache_period = Some(period);
        self
    }

    /// Migrates the database and makes the vault, if there is none yet; the first of the master keys given becomes
    /// the vault's. Any number of processes may do so at once: one makes it, all open it.
    ///
    /// **Back that master key up: without it everything in the vault is lost.**
    #[must_use]
    pub fn create_if_missing(mut self) -> Self {
        self.missing = Missing::Create;
        self
    }

    /// Checks the master keys that were given, and whether they open the vault; nothing is made or written.
    ///
    /// Where there is no vault yet, or its database can't be reached, the keys are checked by themselves.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if no database or no master key was given, or the URL is none; `Unsupported` if this build has no
    /// such database. What is wrong with a key, or with the vault, is part of what is returned.
    pub async fn check_master_keys(self) -> Result<MasterKeyCheck> {
        let (place, providers) = given(self.place, self.providers)?;
        within(limit::TABLE, master_key_check::check(place, providers)).await
    }

    /// Opens the vault.
    ///
    /// # Errors
    ///
    /// As [`Vault::open`]; `InvalidInput` if no database or no master key was given; and what the migrations and the
    /// provider give while a vault is made.
    pub async fn build(self) -> Result<Vault> {
        // Migrations may validate a large table, and a passphrase takes its time.
        within(limit::TABLE, self.open()).await
    }

    async fn open(self) -> Result<Vault> {
        let (place, providers) = given(self.place, self.providers)?;
        let store: Arc<dyn Store> = place.open(self.missing).await?;
        if self.missing == Missing::Create {
            store.migrate().await?;
            init::create_unless_there(store.as_ref(), providers[0].as_ref()).await?;
        }
        let identity = within(self.call_limit, store.identity()).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotInitialized, "this database holds no vault; run `credvault init` first")
        })?;
        let master_keys = MasterKeys::new(identity.vault, providers)
            .with_period(self.cache_period)
            .with_limit(self.call_limit);
        master_keys.unlock_all(store.as_ref()).await?;
        let keyring = Arc::new(Keyring::new(Arc::clone(&store), identity.vault, master_keys));
        if self.missing == Missing::Create {
            finish_pre_active(store.as_ref(), &keyring, self.clock.as_ref(), None).await?;
        }
        let (clock, call_limit) = (self.clock, self.call_limit);
        Ok(Vault(Arc::new(Inner {
            id: identity.vault,
            store,
            keyring,
            clock,
            call_limit,
            _timer: StandingTimer::start(call_limit),
        })))
    }
}

/// What a vault takes at the least.
fn given(
    place: Option<Place>,
    providers: Vec<Arc<dyn MasterKeyProvider>>,
) -> Result<(Place, Vec<Arc<dyn MasterKeyProvider>>)> {
    let needed = |what| Error::new(ErrorKind::InvalidInput, format!("to open a vault, give {what}"));
    let place = place.ok_or_else(|| needed("its database"))?;
    if providers.is_empty() {
        return Err(needed("a master key"));
    }
    Ok((place, providers))
}
