//! The data keys of a vault: which there are, what is under them, an organization's own, and their end.

use time::Duration;

use super::Vault;
use super::affected::CredentialsUnderKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, OrganizationId};
use crate::limit::{self, within};
use crate::rotation::{Blocker, DataKeySummary, GRACE, Usage, activate, data_key_summaries, new_data_key};
use crate::store::{Destruction, KeyState, On};

/// The data keys of a vault: from [`Vault::keys`].
#[derive(Clone, Debug)]
pub struct Keys(Vault);

/// How long a key that nothing needs is kept before it may be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grace {
    /// 30 days since it was found unused: a backup of that age restores.
    Kept,
    /// Not at all: credentials in backups from before are lost with it.
    Waived,
}

/// What became of a key that was marked compromised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compromised {
    /// Whether it was marked before.
    pub already_marked: bool,
    /// The key that took its place, if it was the active one of its scope.
    pub new_key: Option<DataKeyId>,
}

impl Keys {
    pub(super) fn new(vault: Vault) -> Self {
        Self(vault)
    }

    /// The data keys, oldest first, with the rows under each counted in one scan, and what keeps each from being
    /// destroyed.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn list(&self) -> Result<Vec<DataKeySummary>> {
        let (store, clock) = (self.0.0.store.as_ref(), &self.0.0.clock);
        let list = async { data_key_summaries(store, &Usage::count(store).await?, clock.offset()).await };
        within(limit::TABLE, list).await
    }

    /// Gives an organization a new data key of its own, in place of one that it has. From then on all that it writes is
    /// under that key, whatever a process believes that hasn't heard of it; what it wrote before follows with the next
    /// rotation.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` or `KeyMismatch` if the active master key can't be had; `Tampered` if the new key doesn't hold;
    /// `Conflict` if another process changed the keys meanwhile; `Store` if the database fails.
    pub async fn create(&self, organization: impl Into<OrganizationId>) -> Result<DataKeyId> {
        within(self.0.0.call_limit, self.switch(Some(organization.into()))).await
    }

    /// Marks a data key compromised. If it is the active key of its scope a new one takes its place at once; its rows
    /// follow with the next rotation, to which a compromised key is always due.
    ///
    /// What was under it is to be re-issued at its providers: [`credentials_under`](Self::credentials_under) lists it.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such key; `Refused` if it is destroyed; else as [`create`](Self::create).
    pub async fn compromise(&self, key: DataKeyId) -> Result<Compromised> {
        within(self.0.0.call_limit, self.mark_compromised(key)).await
    }

    async fn mark_compromised(&self, key: DataKeyId) -> Result<Compromised> {
        let (store, clock) = (&self.0.0.store, &self.0.0.clock);
        let row = store.data_key(On::Pool, key).await?.ok_or_else(|| unknown(key))?;
        if row.state == KeyState::Destroyed {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("data key {key} is destroyed: nothing is under it"),
            ));
        }
        let marked = store.mark_compromised(key, clock.offset()).await?;
        // Asked anew: a rotation may have come between.
        let row = store.data_key(On::Pool, key).await?.ok_or_else(|| unknown(key))?;
        let new_key = match row.state {
            KeyState::Active => Some(self.switch(row.organization).await?),
            _ => None,
        };
        Ok(Compromised { already_marked: !marked, new_key })
    }

    /// The credentials whose rows name a data key, by organization; nothing is opened.
    #[must_use]
    pub fn credentials_under(&self, key: DataKeyId) -> CredentialsUnderKey {
        CredentialsUnderKey::new(self.0.clone(), key)
    }

    /// Deletes the material of a data key for good; its record stays. What is sealed under it, in backups too, never
    /// opens again.
    ///
    /// It must be deactivated and found unused by a rotation, no row may name it in any way, and the grace time must be
    /// over. The database refuses it while a row needs the key, whatever was counted.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such key; `Refused`, and nothing changed, with what keeps it; `Store` if the database
    /// fails.
    pub async fn destroy(&self, key: DataKeyId, grace: Grace) -> Result<()> {
        let (store, offset) = (&self.0.0.store, self.0.0.clock.offset());
        let refused =
            |why: &str| Error::new(ErrorKind::Refused, format!("data key {key} was not destroyed: {why}"));
        let summary = self.list().await?.into_iter().find(|summary| summary.id == key);
        match (summary.ok_or_else(|| unknown(key))?.blocked, grace) {
            (None, _) | (Some(Blocker::Grace(_)), Grace::Waived) => {}
            (Some(blocker), _) => return Err(refused(&blocker.to_string())),
        }
        let now = within(self.0.0.call_limit, store.now(offset)).await?.to_offset_date_time();
        let grace = match grace {
            Grace::Kept => GRACE,
            Grace::Waived => Duration::ZERO,
        };
        let unused_by = crate::clock::Timestamp::floor(now.saturating_sub(grace))
            .ok_or_else(|| refused("the database's time is out of range"))?;
        // The database looks for rows that name it.
        match within(limit::TABLE, store.destroy_data_key(key, unused_by, offset)).await? {
            Destruction::Done => {
                self.0.0.keyring.forget_opening_key(key);
                tracing::warn!(%key, "data key destroyed");
                Ok(())
            }
            Destruction::NotUnused => Err(refused("it was changed meanwhile: look at it again")),
            Destruction::NotAllowed => Err(Error::new(
                ErrorKind::Store,
                format!(
                    "data key {key} was not destroyed: this role of the database may not delete key material; the owner may"
                ),
            )),
        }
    }

    async fn switch(&self, scope: Option<OrganizationId>) -> Result<DataKeyId> {
        let (store, keyring, clock) = (&self.0.0.store, &self.0.0.keyring, &self.0.0.clock);
        let id = new_data_key(store.as_ref(), keyring, scope, None).await?;
        activate(store.as_ref(), clock.as_ref(), id, scope, None).await?;
        keyring.forget_sealing_keys();
        Ok(id)
    }
}

fn unknown(key: DataKeyId) -> Error {
    Error::new(ErrorKind::NotFound, format!("the vault has no data key {key}"))
}
