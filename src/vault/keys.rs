//! The data keys of a vault: which there are, what is under them, and an organization's own.

use super::Vault;
use crate::error::Result;
use crate::id::{DataKeyId, OrganizationId};
use crate::rotation::{DataKeySummary, activate, data_key_summaries, new_data_key};

/// The data keys of a vault: from [`Vault::keys`].
#[derive(Clone, Debug)]
pub struct Keys(Vault);

impl Keys {
    pub(super) fn new(vault: Vault) -> Self {
        Self(vault)
    }

    /// The data keys, oldest first, with the rows under each counted in one scan.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn list(&self) -> Result<Vec<DataKeySummary>> {
        data_key_summaries(self.0.0.store.as_ref()).await
    }

    /// Gives an organization a new data key of its own, in place of one that it has. From then on all that it writes is under that key, whatever a
    /// process believes that hasn't heard of it; what it wrote before follows with the next rotation.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` or `KeyMismatch` if the active master key can't be had; `Tampered` if the new key doesn't hold;
    /// `Conflict` if another process changed the keys meanwhile; `Store` if the database fails.
    pub async fn create(&self, organization: impl Into<OrganizationId>) -> Result<DataKeyId> {
        let (store, keyring, clock) = (&self.0.0.store, &self.0.0.keyring, &self.0.0.clock);
        let scope = Some(organization.into());
        let id = new_data_key(store.as_ref(), keyring, scope).await?;
        activate(store.as_ref(), clock.as_ref(), id, scope).await?;
        Ok(id)
    }
}
