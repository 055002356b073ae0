//! The unlocked master keys of a process, and the providers that unlock them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::unlocked::{Outlook, Unlocked};
use crate::crypto::key::{KeyCheck, MasterKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MasterKeyId, OrganizationId, VaultId};
use crate::limit::{self, within};
use crate::provider::{CachePeriod, MasterKeyProvider, ProviderContext, ProviderRecord};
use crate::store::{MasterKeyRow, On, Store};

/// The master keys that the given providers hold, unlocked as they are needed and kept as long as the vault, or as the
/// cache period of their provider says.
#[derive(Debug)]
pub(crate) struct MasterKeys {
    vault: VaultId,
    providers: RwLock<Vec<Arc<dyn MasterKeyProvider>>>,
    /// Instead of a provider's own, where it has one.
    period: Option<CachePeriod>,
    /// How long a read of the database may take.
    limit: Duration,
    unlocked: RwLock<HashMap<MasterKeyId, Unlocked>>,
    /// By key, held by who asks a provider for it, so that many who need a key at once don't each pay a service for it, or
    /// derive it in 64 MiB of their own. Nothing is asked of the database under it: whoever waits may have its last
    /// connection.
    asking: std::sync::Mutex<HashMap<MasterKeyId, Arc<Mutex<Asked>>>>,
}

impl MasterKeys {
    pub(crate) fn new(vault: VaultId, providers: Vec<Arc<dyn MasterKeyProvider>>) -> Self {
        Self {
            vault,
            providers: RwLock::new(providers),
            period: None,
            limit: limit::CALL,
            unlocked: RwLock::default(),
            asking: std::sync::Mutex::default(),
        }
    }

    /// With another cache period than that of the providers that have one.
    pub(crate) fn with_period(self, period: Option<CachePeriod>) -> Self {
        Self { period, ..self }
    }

    /// With another limit to what a read of the database may take.
    pub(crate) fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Unlocks the active master key and each one that still wraps something, those of organizations aside: what keeps
    /// one of these away must keep nobody else.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if none of the providers holds such a key, `KeyMismatch` if what one holds isn't that key,
    /// `NotInitialized` if no master key is active.
    pub(crate) async fn unlock_all(&self, store: &dyn Store) -> Result<()> {
        let rows = within(self.limit, store.master_keys(On::Pool)).await?;
        if !rows.iter().any(|row| row.is_active_of(None)) {
            return Err(Error::new(ErrorKind::NotInitialized, "the vault has no active master key"));
        }
        for row in rows.iter().filter(|row| row.is_needed() && row.organization.is_none()) {
            self.unlock(row).await?;
        }
        Ok(())
    }

    /// The organizations of whose own master keys one that is needed can't be had, and why.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub(crate) async fn withheld(&self, store: &dyn Store) -> Result<BTreeMap<OrganizationId, Error>> {
        let mut withheld = BTreeMap::new();
        for row in store.master_keys(On::Pool).await?.iter().filter(|row| row.is_needed()) {
            if let Some(organization) = row.organization
                && let Err(error) = self.unlock(row).await
            {
                withheld.insert(organization, error);
            }
        }
        Ok(withheld)
    }

    /// The master key `id`, and when it is no longer to be used; the rows are read again if it isn't unlocked yet, as
    /// after a rewrap.
    ///
    /// # Errors
    ///
    /// As [`unlock_all`](Self::unlock_all).
    pub(crate) async fn get(
        &self,
        store: &dyn Store,
        on: On<'_>,
        id: MasterKeyId,
    ) -> Result<(Arc<MasterKey>, Option<Instant>)> {
        if let Some(held) = self.held(id) {
            return Ok(held);
        }
        self.unlock(&row_of(store, on, id).await?).await
    }

    /// Whether the service of a key is to be asked again, by who asks this first.
    pub(crate) fn claim_renewal(&self, id: MasterKeyId) -> bool {
        let is_due = |keys: &HashMap<_, Unlocked>| keys.get(&id).is_some_and(Unlocked::is_due);
        is_due(&self.unlocked.read().unwrap_or_else(PoisonError::into_inner))
            && self.unlocked_mut().get_mut(&id).is_some_and(Unlocked::claim_renewal)
    }

    /// Asks the service of a key again; where it doesn't give it, the key that is held is used until its time is over.
    pub(crate) async fn renew(&self, store: &dyn Store, id: MasterKeyId) {
        let asked = async {
            let row = within(self.limit, row_of(store, On::Pool, id)).await?;
            self.ask(&row).await
        };
        if let Err(error) = asked.await {
            tracing::warn!(master_key = %id, %error, "a master key was not given again");
            if let Some(held) = self.unlocked_mut().get_mut(&id) {
                held.note_failure(error.to_string());
            }
        }
    }

    /// A new record of a row's key, by the provider that opens the one it has, and found to open, too; `None` where no key
    /// service wraps the key.
    ///
    /// # Errors
    ///
    /// As [`unlock_all`](Self::unlock_all).
    pub(crate) async fn wrap_again(&self, row: &MasterKeyRow) -> Result<Option<ProviderRecord>> {
        let providers = self.providers();
        let (at, key) = unlock_with_any(&providers, self.vault, row).await?;
        let context = ProviderContext::new(self.vault, row.id).for_organization(row.organization);
        let record = match providers[at].wrap(key.bytes(), &context).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            record => record?,
        };
        let again = providers[at].unlock(&record, &context).await?;
        hold_to_check(&again, self.vault, row)?;
        self.hold(again, providers[at].as_ref());
        Ok(Some(record))
    }

    /// Wipes the keys whose time is over.
    pub(crate) fn wipe_expired(&self) {
        if self.unlocked.read().unwrap_or_else(PoisonError::into_inner).values().all(Unlocked::is_usable) {
            return;
        }
        self.unlocked_mut().retain(|_, held| held.is_usable());
    }

    /// What becomes of a key that is held, should its service not answer; `None` if it needs none.
    pub(crate) fn outlook(&self, id: MasterKeyId) -> Option<Outlook> {
        self.unlocked.read().unwrap_or_else(PoisonError::into_inner).get(&id)?.outlook()
    }

    /// Unlocks the key of a row, and holds it to the check that the row has now.
    ///
    /// # Errors
    ///
    /// As [`unlock_all`](Self::unlock_all).
    pub(crate) async fn check(&self, row: &MasterKeyRow) -> Result<()> {
        hold_to_check(&self.unlock(row).await?.0, self.vault, row)
    }

    /// Keeps a master key that its provider has just given, and the provider, which is asked for it again.
    pub(crate) fn adopt(&self, key: MasterKey, provider: &Arc<dyn MasterKeyProvider>) -> Arc<MasterKey> {
        let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
        if !providers.iter().any(|known| Arc::ptr_eq(known, provider)) {
            providers.push(Arc::clone(provider));
        }
        drop(providers);
        self.hold(key, provider.as_ref()).0
    }

    fn hold(&self, key: MasterKey, provider: &dyn MasterKeyProvider) -> (Arc<MasterKey>, Option<Instant>) {
        let (id, key) = (key.id(), Arc::new(key));
        let period = provider.cache().map(|own| self.period.unwrap_or(own));
        let held = Unlocked::new(Arc::clone(&key), period);
        let until = held.until();
        self.unlocked_mut().insert(id, held);
        (key, until)
    }

    fn held(&self, id: MasterKeyId) -> Option<(Arc<MasterKey>, Option<Instant>)> {
        let unlocked = self.unlocked.read().unwrap_or_else(PoisonError::into_inner);
        let held = unlocked.get(&id).filter(|held| held.is_usable())?;
        Some((Arc::clone(&held.key), held.until()))
    }

    /// Unlocks the key of a row with the first provider whose key passes the row's key check.
    async fn unlock(&self, row: &MasterKeyRow) -> Result<(Arc<MasterKey>, Option<Instant>)> {
        if let Some(held) = self.held(row.id) {
            return Ok(held);
        }
        let asking = {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(asking.entry(row.id).or_default())
        };
        let mut asked = asking.lock().await;
        if let Some(held) = self.held(row.id) {
            return Ok(held);
        }
        if let Some(error) = asked.refusal(row) {
            return Err(error);
        }
        let result = self.ask(row).await;
        asked.note(row, result.as_ref().err());
        result
    }

    /// Has a provider give the key of a row, whether it is held or not, and holds it from now on.
    async fn ask(&self, row: &MasterKeyRow) -> Result<(Arc<MasterKey>, Option<Instant>)> {
        let providers = self.providers();
        let (at, key) = unlock_with_any(&providers, self.vault, row).await?;
        Ok(self.hold(key, providers[at].as_ref()))
    }

    fn providers(&self) -> Vec<Arc<dyn MasterKeyProvider>> {
        self.providers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unlocked_mut(&self) -> RwLockWriteGuard<'_, HashMap<MasterKeyId, Unlocked>> {
        self.unlocked.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a provider said when it was last asked for a key.
#[derive(Debug, Default)]
struct Asked(Option<(Instant, Error)>);

impl Asked {
    /// How long nobody asks again for an organization's key that wasn't given: each row of that organization would wait for
    /// it, and what goes through all rows would end with the last of them.
    const PAUSE: Duration = Duration::from_secs(10);

    /// The error of a moment ago, if the key is an organization's.
    fn refusal(&self, row: &MasterKeyRow) -> Option<Error> {
        let (at, error) = self.0.as_ref()?;
        (row.organization.is_some() && at.elapsed() < Self::PAUSE).then(|| error.again())
    }

    fn note(&mut self, row: &MasterKeyRow, error: Option<&Error>) {
        self.0 = error.filter(|_| row.organization.is_some()).map(|error| (Instant::now(), error.again()));
    }
}

async fn row_of(store: &dyn Store, on: On<'_>, id: MasterKeyId) -> Result<MasterKeyRow> {
    let rows = store.master_keys(on).await?;
    rows.into_iter()
        .find(|row| row.id == id)
        .ok_or_else(|| Error::new(ErrorKind::KeyUnavailable, format!("master key {id} is not in this vault")))
}

/// Unlocks the key of a row with the first provider whose key passes the row's key check; gives its place among them.
///
/// # Errors
///
/// `KeyUnavailable` if none of the providers holds the key, `KeyMismatch` if what one holds isn't that key; else the
/// provider's.
pub(crate) async fn unlock_with_any(
    providers: &[Arc<dyn MasterKeyProvider>],
    vault: VaultId,
    row: &MasterKeyRow,
) -> Result<(usize, MasterKey)> {
    let mut refusal = None;
    for (at, provider) in providers.iter().enumerate().filter(|(_, provider)| provider.opens(&row.provider)) {
        match unlock_with(provider.as_ref(), vault, row).await {
            Ok(key) => return Ok((at, key)),
            // What says most: a wrong key, or a provider that failed, before one that hasn't got the key.
            Err(error) if error.kind() == ErrorKind::KeyUnavailable => refusal = refusal.or(Some(error)),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| {
        Error::new(
            ErrorKind::KeyUnavailable,
            format!(
                "master key {} ({}) is needed, and no master key of that kind was given",
                row.id, row.provider
            ),
        )
    }))
}

/// The active master key that wraps the data keys of a scope: an organization's own where it has one, else the shared one.
///
/// # Errors
///
/// `NotInitialized` if there is none.
pub(crate) async fn active_master_key(
    store: &dyn Store,
    scope: Option<OrganizationId>,
) -> Result<MasterKeyRow> {
    let mut rows = store.master_keys(On::Pool).await?;
    let own = rows.iter().position(|row| scope.is_some() && row.is_active_of(scope));
    let at = own.or_else(|| rows.iter().position(|row| row.is_active_of(None)));
    at.map(|at| rows.swap_remove(at))
        .ok_or_else(|| Error::new(ErrorKind::NotInitialized, "the vault has no active master key"))
}

/// Unlocks the key of a row with one provider, and holds it to the row's key check.
///
/// # Errors
///
/// `KeyMismatch` if the provider's key isn't the row's; else the provider's.
pub(crate) async fn unlock_with(
    provider: &dyn MasterKeyProvider,
    vault: VaultId,
    row: &MasterKeyRow,
) -> Result<MasterKey> {
    let context = ProviderContext::new(vault, row.id).for_organization(row.organization);
    let record = ProviderRecord::new(row.provider_record.clone())?;
    let key = provider.unlock(&record, &context).await?;
    hold_to_check(&key, vault, row)?;
    Ok(key)
}

fn hold_to_check(key: &MasterKey, vault: VaultId, row: &MasterKeyRow) -> Result<()> {
    match KeyCheck::from_slice(&row.key_check) {
        Some(check) if key.id() == row.id && key.verify(vault, &check) => Ok(()),
        _ => Err(Error::new(
            ErrorKind::KeyMismatch,
            format!("the master key given is not master key {} of this vault", row.id),
        )),
    }
}
