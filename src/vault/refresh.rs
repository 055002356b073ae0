//! New provider records for master keys that are there, after a key service has rotated its own key.

use super::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;
use crate::limit::within;
use crate::store::{MasterKeyRow, On};

/// A master key that is needed, and whether its record was made anew: from [`Vault::refresh_master_keys`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshedMasterKey {
    /// The key.
    pub id: MasterKeyId,
    /// The kind of provider that holds it.
    pub provider: String,
    /// Whether it has a new record; not where no key service wraps it.
    pub refreshed: bool,
}

impl Vault {
    /// Has key services wrap the vault's master keys anew, as after they rotated their own keys: those that are active or
    /// still wrap a data key. The master keys stay the same, so no data key and no row is written.
    ///
    /// Each new record is unlocked and held to the key check before it takes the place of the one before. Harmless at any
    /// time, beside running services.
    ///
    /// # Errors
    ///
    /// As [`Vault::open`]; `Conflict` if another process refreshed the same key meanwhile. Keys that were refreshed before
    /// that stay so.
    #[tracing::instrument(skip_all, err(level = "debug"))]
    pub async fn refresh_master_keys(&self) -> Result<Vec<RefreshedMasterKey>> {
        let (store, limit) = (self.0.store.as_ref(), self.0.call_limit);
        let rows = within(limit, store.master_keys(On::Pool)).await?;
        let mut refreshed = Vec::new();
        for row in rows.into_iter().filter(MasterKeyRow::is_needed) {
            let record = within(limit, self.0.keyring.master_keys().wrap_again(&row)).await?;
            if let Some(record) = &record
                && !within(limit, store.replace_provider_record(&row, record.as_str())).await?
            {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("the record of master key {} was changed by another process meanwhile", row.id),
                ));
            }
            let (id, provider, refreshed_now) = (row.id, row.provider, record.is_some());
            refreshed.push(RefreshedMasterKey { id, provider, refreshed: refreshed_now });
        }
        Ok(refreshed)
    }
}
