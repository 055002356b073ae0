//! Whether the master keys given suffice: asked before a service starts with them, and before a rewrap.

use std::sync::Arc;

use uuid::Uuid;

use super::MasterKeySummary;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MasterKeyId, VaultId};
use crate::keyring::unlock_with_any;
use crate::provider::{MasterKeyProvider, ProviderContext};
use crate::store::{MasterKeyRow, Missing, On, Place};

/// What the master keys given are worth: from [`VaultBuilder::check_master_keys`](super::VaultBuilder::check_master_keys).
#[derive(Debug)]
#[non_exhaustive]
pub struct MasterKeyCheck {
    /// The vault; else why the keys could be checked by themselves only: `NotInitialized` where there is none yet,
    /// `Store` where its database can't be read.
    pub vault: Result<VaultId>,
    /// The providers, in the order in which they were given.
    pub providers: Vec<ProviderCheck>,
    /// The master keys that the vault can't be opened without, oldest first: the active one, and those that still wrap
    /// a data key.
    pub needed: Vec<NeededMasterKey>,
}

/// What one provider holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProviderCheck {
    /// Its kind, as [`MasterKeyProvider::kind`] gives it.
    pub kind: &'static str,
    /// The keys that it is known to hold: all those of a key file or a variable, else those of the vault that it opens.
    pub master_key_ids: Vec<MasterKeyId>,
    /// Why it yields no key at all, if it doesn't.
    pub problem: Option<Error>,
}

/// A master key that the vault can't be opened without.
#[derive(Debug)]
#[non_exhaustive]
pub struct NeededMasterKey {
    /// What the database says of it.
    pub summary: MasterKeySummary,
    /// Why none of the providers opens it, if none does: `KeyUnavailable` where it wasn't given, `KeyMismatch` where
    /// another was given in its place, or what the provider gives.
    pub problem: Option<Error>,
}

impl MasterKeyCheck {
    /// Whether every provider yields a key, and every key that the vault needs is among them.
    ///
    /// True, too, where there is no vault yet; false where its database can't be read.
    #[must_use]
    pub fn passed(&self) -> bool {
        let is_known = match &self.vault {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::NotInitialized,
        };
        is_known
            && self.providers.iter().all(|provider| provider.problem.is_none())
            && self.needed.iter().all(|key| key.problem.is_none())
    }
}

pub(super) async fn check(
    place: Place,
    providers: Vec<Arc<dyn MasterKeyProvider>>,
) -> Result<MasterKeyCheck> {
    let mut checked = Vec::with_capacity(providers.len());
    for provider in &providers {
        let (master_key_ids, problem) = match provider.ids().await {
            Ok(ids) => (ids, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        checked.push(ProviderCheck { kind: provider.kind(), master_key_ids, problem });
    }

    let (vault, rows) = match needed(place).await {
        Ok((vault, rows)) => (Ok(vault), rows),
        Err(error) if matches!(error.kind(), ErrorKind::NotInitialized | ErrorKind::Store) => {
            (Err(error), Vec::new())
        }
        Err(error) => return Err(error),
    };
    let mut needed = Vec::with_capacity(rows.len());
    if let Ok(vault) = vault {
        for row in rows {
            let problem = match unlock_with_any(&providers, vault, &row).await {
                Ok((at, _)) => {
                    let ids = &mut checked[at].master_key_ids;
                    if !ids.contains(&row.id) {
                        ids.push(row.id);
                    }
                    None
                }
                Err(error) => Some(error),
            };
            needed.push(NeededMasterKey { summary: MasterKeySummary::new(row, None), problem });
        }
    }

    // One that opened nothing, and has no ids of its own, shows by a key for nobody that it yields one; a key service shows
    // that it may wrap, too, and not only unwrap.
    let vault_id = vault.as_ref().map_or_else(|_| VaultId::from(Uuid::new_v4()), |id| *id);
    for (provider, checked) in providers.iter().zip(&mut checked) {
        let untried = checked.master_key_ids.is_empty() || provider.cache().is_some();
        if untried && checked.problem.is_none() {
            let context = ProviderContext::new(vault_id, Uuid::now_v7().into());
            checked.problem = try_out(provider.as_ref(), vault_id, &context).await.err();
        }
    }
    Ok(MasterKeyCheck { vault, providers: checked, needed })
}

/// Makes a key that nobody keeps, and has it unlocked again.
async fn try_out(provider: &dyn MasterKeyProvider, vault: VaultId, context: &ProviderContext) -> Result<()> {
    let tried = |what| move |error: Error| error.within(format_args!("{what} a throw-away key"));
    let (key, record) = provider.create(context).await.map_err(tried("making"))?;
    let again = provider.unlock(&record, context).await.map_err(tried("unlocking"))?;
    if again.verify(vault, &key.key_check(vault)) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::KeyMismatch, "unlocking a throw-away key gave another one than was made"))
}

async fn needed(place: Place) -> Result<(VaultId, Vec<MasterKeyRow>)> {
    let store = place.open(Missing::Fail).await?;
    let identity = store
        .identity()
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotInitialized, "this database holds no vault yet"))?;
    let rows = store.master_keys(On::Pool).await?;
    Ok((identity.vault, rows.into_iter().filter(MasterKeyRow::is_needed).collect()))
}
