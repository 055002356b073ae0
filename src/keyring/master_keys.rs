//! The unlocked master keys of a process, and the providers that unlock them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use crate::crypto::key::{KeyCheck, MasterKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MasterKeyId, VaultId};
use crate::provider::{MasterKeyProvider, ProviderContext, ProviderRecord};
use crate::store::{KeyState, MasterKeyRow, On, Store};

/// The master keys that the given providers hold, unlocked as they are needed and kept as long as the vault.
#[derive(Debug)]
pub(crate) struct MasterKeys {
    vault: VaultId,
    providers: Vec<Arc<dyn MasterKeyProvider>>,
    unlocked: RwLock<HashMap<MasterKeyId, Arc<MasterKey>>>,
    /// Held by who asks a provider, so that many who need a key at once don't each pay a service for it, or derive it in
    /// 64 MiB of their own. Nothing is asked of the database under it: whoever waits may have its last connection.
    asking: Mutex<()>,
}

impl MasterKeys {
    pub(crate) fn new(vault: VaultId, providers: Vec<Arc<dyn MasterKeyProvider>>) -> Self {
        Self { vault, providers, unlocked: RwLock::default(), asking: Mutex::default() }
    }

    /// Unlocks the active master key and each one that still wraps something.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if none of the providers holds such a key, `KeyMismatch` if what one holds isn't that key,
    /// `NotInitialized` if no master key is active.
    pub(crate) async fn unlock_all(&self, store: &dyn Store) -> Result<()> {
        let rows = store.master_keys(On::Pool).await?;
        if !rows.iter().any(|row| row.state == KeyState::Active) {
            return Err(Error::new(ErrorKind::NotInitialized, "the vault has no active master key"));
        }
        for row in rows.iter().filter(|row| row.is_needed()) {
            self.unlock(row).await?;
        }
        Ok(())
    }

    /// The master key `id`; the rows are read again if it isn't unlocked yet, as after a rewrap.
    ///
    /// # Errors
    ///
    /// As [`unlock_all`](Self::unlock_all).
    pub(crate) async fn get(&self, store: &dyn Store, on: On<'_>, id: MasterKeyId) -> Result<Arc<MasterKey>> {
        if let Some(key) = self.held(id) {
            return Ok(key);
        }
        let rows = store.master_keys(on).await?;
        let row = rows.iter().find(|row| row.id == id).ok_or_else(|| {
            Error::new(ErrorKind::KeyUnavailable, format!("master key {id} is not in this vault"))
        })?;
        self.unlock(row).await
    }

    /// Unlocks the key of a row, and holds it to the check that the row has now.
    ///
    /// # Errors
    ///
    /// As [`unlock_all`](Self::unlock_all).
    pub(crate) async fn check(&self, row: &MasterKeyRow) -> Result<()> {
        hold_to_check(&*self.unlock(row).await?, self.vault, row)
    }

    /// Keeps a master key that a provider has just created, beside its provider, so that both are found later.
    pub(crate) fn hold(&self, key: MasterKey) -> Arc<MasterKey> {
        let key = Arc::new(key);
        self.unlocked.write().unwrap_or_else(PoisonError::into_inner).insert(key.id(), Arc::clone(&key));
        key
    }

    fn held(&self, id: MasterKeyId) -> Option<Arc<MasterKey>> {
        self.unlocked.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Unlocks the key of a row with the first provider whose key passes the row's key check.
    async fn unlock(&self, row: &MasterKeyRow) -> Result<Arc<MasterKey>> {
        if let Some(key) = self.held(row.id) {
            return Ok(key);
        }
        let _asking = self.asking.lock().await;
        if let Some(key) = self.held(row.id) {
            return Ok(key);
        }
        let (_, key) = unlock_with_any(&self.providers, self.vault, row).await?;
        Ok(self.hold(key))
    }
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
    let context = ProviderContext::new(vault, row.id);
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
