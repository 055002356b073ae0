//! Unwrapped keys in memory: bounded, with a time to live, each unwrapped once however many ask for it at once, and
//! wiped when they go.
//!
//! What a keyring believes is never trusted for correctness: the write statements check the active key themselves.

mod master_keys;
mod unlocked;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::crypto::key::{DataKey, KeyCheck, OpeningKey, SealingKey};
use crate::envelope::{WrapContext, unwrap_key, wrapping_key_of};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, MasterKeyId, OrganizationId, VaultId};
use crate::store::{DataKeyRow, KeyState, On, Store};

pub(crate) use master_keys::{MasterKeys, active_master_key, unlock_with, unlock_with_any};
pub(crate) use unlocked::Outlook;

/// The most data keys held at once of each use: a kibibyte each, in locked memory.
const MAX_KEYS: usize = 1_000;

/// How long an unwrapped data key stays in memory: long enough that a busy service unwraps next to never, short
/// enough that a key taken out of use is soon gone.
const TIME_TO_LIVE: Duration = Duration::from_secs(300);

/// The unwrapped keys of one vault.
#[derive(Debug)]
pub(crate) struct Keyring {
    store: Arc<dyn Store>,
    vault: VaultId,
    master_keys: Arc<MasterKeys>,
    /// Of master keys, by their key services; they end with this.
    renewals: Mutex<JoinSet<()>>,
    opening: Cache<DataKeyId, Held<OpeningKey>>,
    /// By scope: `None` is the shared key. An organization without an entry is taken to have no key of its own; the
    /// write statement refuses where that is wrong.
    sealing: Cache<Option<OrganizationId>, Held<SealingKey>>,
}

/// A key and the end of its time.
#[derive(Debug)]
struct Held<K> {
    key: Arc<K>,
    until: Instant,
}

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), until: self.until }
    }
}

impl<K> Held<K> {
    /// For its time to live, and no longer than the master key is used that has wrapped it.
    fn new(key: K, master_until: Option<Instant>) -> Self {
        let until = Instant::now() + TIME_TO_LIVE;
        Self { key: Arc::new(key), until: master_until.map_or(until, |master| until.min(master)) }
    }

    fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

/// The key held under `id`, if its time isn't over; else nothing is held there any more.
fn fresh<Id: Eq + std::hash::Hash + Clone, K>(cache: &Cache<Id, Held<K>>, id: &Id) -> Option<Arc<K>> {
    let held = cache.get(id)?;
    if held.is_fresh() {
        return Some(held.key);
    }
    cache.remove_if(id, |held| !held.is_fresh());
    None
}

impl Keyring {
    pub(crate) fn new(store: Arc<dyn Store>, vault: VaultId, master_keys: MasterKeys) -> Self {
        Self {
            store,
            vault,
            master_keys: Arc::new(master_keys),
            renewals: Mutex::default(),
            opening: Cache::new(MAX_KEYS),
            sealing: Cache::new(MAX_KEYS),
        }
    }

    /// The vault whose keys these are.
    pub(crate) fn vault(&self) -> VaultId {
        self.vault
    }

    /// The master keys under this keyring.
    pub(crate) fn master_keys(&self) -> &MasterKeys {
        &self.master_keys
    }

    /// The key that opens what `id` sealed.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if the key is unknown, destroyed or not registered, or its master key is missing;
    /// `KeyMismatch` or `Tampered` if its record doesn't hold.
    pub(crate) async fn opening_key(&self, id: DataKeyId) -> Result<Arc<OpeningKey>> {
        if let Some(key) = fresh(&self.opening, &id) {
            return Ok(key);
        }
        self.wipe_expired();
        let load = async {
            let row = self.store.data_key(On::Pool, id).await?;
            let row = row.ok_or_else(|| unavailable(id, "is not in this vault"))?;
            let (key, until) = self.unwrap_until(On::Pool, &row).await?;
            Ok(Held::new(key.into_opening(), until))
        };
        // Boxed, so that a call that finds its key does not carry the room for this along.
        Box::pin(self.opening.get_or_insert_async(&id, load)).await.map(|held| held.key)
    }

    /// The active key of the organization's scope, as far as this keyring knows.
    ///
    /// On a caller's connection nothing else is waited for: whoever else loads the key may need that connection.
    ///
    /// # Errors
    ///
    /// As [`opening_key`](Self::opening_key); and `NotInitialized` if there is no active key.
    pub(crate) async fn sealing_key(
        &self,
        on: On<'_>,
        organization: OrganizationId,
    ) -> Result<Arc<SealingKey>> {
        let known = fresh(&self.sealing, &Some(organization)).or_else(|| fresh(&self.sealing, &None));
        if let Some(key) = known {
            return Ok(key);
        }
        if let On::Caller(_) = on {
            return self.reload_sealing_key(on, organization).await;
        }
        match self.sealing.get_value_or_guard_async(&None).await {
            Ok(held) => Ok(held.key),
            Err(guard) => {
                let (scope, held) = self.load_sealing_key(on, Some(organization)).await?;
                let key = Arc::clone(&held.key);
                match scope {
                    None => drop(guard.insert(held)),
                    Some(_) => self.sealing.insert(scope, held),
                }
                Ok(key)
            }
        }
    }

    /// The active key of a scope, by the scope itself.
    ///
    /// # Errors
    ///
    /// As [`sealing_key`](Self::sealing_key).
    pub(crate) async fn scope_key(&self, scope: Option<OrganizationId>) -> Result<Arc<SealingKey>> {
        if let Some(key) = fresh(&self.sealing, &scope) {
            return Ok(key);
        }
        let (scope, held) = self.load_sealing_key(On::Pool, scope).await?;
        let key = Arc::clone(&held.key);
        self.sealing.insert(scope, held);
        Ok(key)
    }

    /// Wipes a key that no longer opens anything.
    pub(crate) fn forget_opening_key(&self, id: DataKeyId) {
        self.opening.remove(&id);
    }

    /// Forgets which keys are active.
    pub(crate) fn forget_sealing_keys(&self) {
        self.sealing.clear();
    }

    /// The active key of the organization's scope, asked of the database anew.
    pub(crate) async fn reload_sealing_key(
        &self,
        on: On<'_>,
        organization: OrganizationId,
    ) -> Result<Arc<SealingKey>> {
        let (scope, held) = self.load_sealing_key(on, Some(organization)).await?;
        let key = Arc::clone(&held.key);
        if scope.is_none() {
            self.sealing.remove(&Some(organization));
        }
        self.sealing.insert(scope, held);
        Ok(key)
    }

    async fn load_sealing_key(
        &self,
        mut on: On<'_>,
        organization: Option<OrganizationId>,
    ) -> Result<(Option<OrganizationId>, Held<SealingKey>)> {
        self.wipe_expired();
        let row = self.store.active_data_key(on.reborrow(), organization).await?;
        let row = row.ok_or_else(|| {
            Error::new(
                ErrorKind::NotInitialized,
                "the vault has no active data key; run `credvault init` again",
            )
        })?;
        let (key, until) = self.unwrap_until(on, &row).await?;
        let key = key.into_sealing()?;
        self.opening.insert(row.id, Held::new(key.opening(), until));
        Ok((row.organization, Held::new(key, until)))
    }

    /// Lets go of the keys whose time is over, whoever may ask for them next.
    fn wipe_expired(&self) {
        self.opening.retain(|_, held| held.is_fresh());
        self.sealing.retain(|_, held| held.is_fresh());
        self.master_keys.wipe_expired();
    }

    /// Unwraps a data key and holds it to its key check.
    pub(crate) async fn unwrap(&self, on: On<'_>, row: &DataKeyRow) -> Result<DataKey> {
        self.unwrap_until(on, row).await.map(|(key, _)| key)
    }

    /// The same, and when its master key is no longer to be used.
    async fn unwrap_until(&self, on: On<'_>, row: &DataKeyRow) -> Result<(DataKey, Option<Instant>)> {
        let Some(wrapped) = &row.wrapped else {
            return Err(unavailable(
                row.id,
                match row.state {
                    KeyState::Destroyed => "is destroyed",
                    _ => "is not registered; run `credvault adopt`",
                },
            ));
        };
        let tampered = |what| Error::new(ErrorKind::Tampered, format!("data key {}: {what}", row.id));
        let named = wrapping_key_of(&wrapped.text)
            .map_err(|error| error.within(format_args!("wrapped data key {}", row.id)))?;
        if named != wrapped.master_key {
            return Err(tampered("its column master_key_id names another key than its wrapped text"));
        }
        let (master, until) = self.master_keys.get(self.store.as_ref(), on, wrapped.master_key).await?;
        self.renew_if_due(wrapped.master_key);
        let context = WrapContext { vault: self.vault, data_key: row.id, organization: row.organization };
        let key = unwrap_key(&master, &context, &wrapped.text)?;
        let check = row.key_check.as_deref().and_then(KeyCheck::from_slice);
        match check {
            Some(check) if key.verify(self.vault, &check) => Ok((key, until)),
            _ => Err(tampered("its key check is not the key's")),
        }
    }
}

impl Keyring {
    /// Has the service of a master key asked again, should it be time, while who needs the key goes on with it.
    fn renew_if_due(&self, id: MasterKeyId) {
        if self.master_keys.claim_renewal(id) {
            let (master_keys, store) = (Arc::clone(&self.master_keys), Arc::clone(&self.store));
            let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
            while renewals.try_join_next().is_some() {}
            renewals.spawn(async move { master_keys.renew(store.as_ref(), id).await });
        }
    }
}

fn unavailable(id: DataKeyId, why: &str) -> Error {
    Error::new(ErrorKind::KeyUnavailable, format!("data key {id} {why}"))
}
