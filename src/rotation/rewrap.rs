//! Rewrap: all data keys under another master key. Its cost grows with the number of data keys; no row is touched.

use std::fmt;
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::events::{Listener, RotationEvent};
use super::lease::{Busy, Lease, Taken, default_owner};
use super::report::{Outcome, RewrapReport};
use super::stop::Stop;
use crate::clock::Clock;
use crate::crypto::key::{KeyCheck, MasterKey};
use crate::envelope::{Nonce, WrapContext, unwrap_key, wrap_key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MasterKeyId, OrganizationId, VaultId};
use crate::keyring::{Keyring, active_master_key, unlock_with};
use crate::limit::{self, within};
use crate::provider::{MasterKeyProvider, ProviderContext};
use crate::store::{CheckWrapped, DataKeyRow, KeyState, NewMasterKey, On, RunKind, Store, WrappedKey};

/// A rewrap to run: from [`Vault::rewrap`](crate::Vault::rewrap).
pub struct Rewrap {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    to: Arc<dyn MasterKeyProvider>,
    organization: Option<OrganizationId>,
    owner: String,
    busy: Busy,
    listener: Listener,
}

impl Rewrap {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        to: Arc<dyn MasterKeyProvider>,
    ) -> Self {
        Self {
            store,
            keyring,
            clock,
            to,
            organization: None,
            owner: default_owner(),
            busy: Busy::Ends,
            listener: Listener::none(),
        }
    }

    /// Only for the data keys of an organization, which has a master key of its own from then on: new data keys of its own
    /// are wrapped by it, too. Without this, for all others.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<OrganizationId>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// Says who runs this, for others who find the lease taken.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Waits while another process has the lease, as long as that takes.
    #[must_use]
    pub fn wait_for_lease(mut self) -> Self {
        self.busy = Busy::Waits;
        self
    }

    /// Calls `listener` while it waits for the lease, and when it has it.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(RotationEvent) + Send + Sync + 'static) -> Self {
        self.listener = Listener::call(listener);
        self
    }

    /// Makes the provider's master key the active one and wraps every data key of its scope by it. Services that were given the new
    /// key beside the old one follow without a restart.
    ///
    /// While another process runs a rotation or a rewrap nothing is done, and the outcome is
    /// [`HeldBy`](Outcome::HeldBy), unless it is to [wait](Self::wait_for_lease).
    ///
    /// # Errors
    ///
    /// What the provider gives; `KeyMismatch` if its key has the id of another; `Refused` if its key is that of another
    /// scope; `LeaseLost` if another process took
    /// over; `Tampered` or `Malformed` if a data key doesn't unwrap; `Store` if the database fails. Run it again: it goes on where it
    /// was.
    #[tracing::instrument(skip_all, err(level = "debug"))]
    pub async fn run(self) -> Result<RewrapReport> {
        let (kind, heard) = (RunKind::Rewrap, (&Stop::default(), &self.listener));
        let taken =
            Lease::obtain(&self.store, &self.clock, kind, &self.owner, json!({}), self.busy, heard).await?;
        let lease = match taken {
            Taken::Ours(lease) => lease,
            Taken::Not(outcome) => {
                let master_key =
                    within(limit::CALL, active_master_key(self.store.as_ref(), self.organization)).await?.id;
                return Ok(RewrapReport { outcome, master_key, rewrapped: 0, already_current: 0 });
            }
        };
        let result = within(limit::TABLE, self.run_leased(&lease)).await;
        let summary = |report: Option<&RewrapReport>| {
            report.map_or(("failed", json!({})), |report| (report.outcome.as_str(), report.counts()))
        };
        lease.end(result, summary).await
    }

    async fn run_leased(&self, lease: &Lease) -> Result<RewrapReport> {
        let master = self.new_master_key().await?;
        if !self.store.activate_master_key(lease.run(), master.id()).await? {
            return Err(lease.lost());
        }
        tracing::info!(master_key = %master.id(), "switched to the master key");
        let mut report = RewrapReport {
            outcome: Outcome::Complete,
            master_key: master.id(),
            rewrapped: 0,
            already_current: 0,
        };
        loop {
            let keys = self.keys().await?;
            let wrapped_by = |key: &DataKeyRow| key.wrapped.as_ref().map(|wrapped| wrapped.master_key);
            let (mut left, mut current) = (0_u64, 0_u64);
            for key in &keys {
                match wrapped_by(key) {
                    Some(id) if id == master.id() => current += 1,
                    Some(_) => {
                        lease.keep(|| report.counts()).await?;
                        left += 1;
                        report.rewrapped += u64::from(self.rewrap(key, &master).await?);
                    }
                    None => {}
                }
            }
            if left == 0 {
                report.already_current = current.saturating_sub(report.rewrapped);
                return Ok(report);
            }
        }
    }

    /// The provider's master key, recorded, read back and held to its key check: the one that a rewrap made which ended
    /// early, or a new one.
    async fn new_master_key(&self) -> Result<Arc<MasterKey>> {
        let (store, vault) = (self.store.as_ref(), self.keyring.vault());
        let active = active_master_key(store, self.organization).await?;
        let is_elsewhere =
            |key: &DataKeyRow| key.wrapped.as_ref().is_some_and(|wrapped| wrapped.master_key != active.id);
        if active.organization == self.organization
            && self.keys().await?.iter().any(is_elsewhere)
            && self.to.opens(&active.provider)
            && let Ok(key) = unlock_with(self.to.as_ref(), vault, &active).await
        {
            return Ok(self.keyring.master_keys().adopt(key, &self.to));
        }
        let context = ProviderContext::new(vault, MasterKeyId::from(Uuid::now_v7()))
            .for_organization(self.organization);
        let (key, record) = self.to.create(&context).await?;
        let row = NewMasterKey {
            id: key.id(),
            organization: self.organization,
            provider: self.to.kind().to_owned(),
            provider_record: record.as_str().to_owned(),
            key_check: *key.key_check(vault).as_bytes(),
        };
        store.insert_master_key(&row).await?;
        let rows = store.master_keys(On::Pool).await?;
        let row = rows.iter().find(|row| row.id == key.id()).ok_or_else(|| {
            Error::new(ErrorKind::Store, format!("master key {} was recorded and is not there", key.id()))
        })?;
        let refused = |why| Err(Error::new(ErrorKind::Refused, format!("master key {} {why}", row.id)));
        if row.state == KeyState::Destroyed {
            return refused("is destroyed");
        }
        if row.organization != self.organization {
            return refused("is that of others already: an organization's own master key wraps nothing else");
        }
        let key = unlock_with(self.to.as_ref(), vault, row).await?;
        Ok(self.keyring.master_keys().adopt(key, &self.to))
    }

    /// The data keys that are to be under the new master key, and those that are.
    ///
    /// One whose record can't be read would be left behind: that ends the rewrap.
    async fn keys(&self) -> Result<Vec<DataKeyRow>> {
        let mut keys = self.store.data_keys().await?.into_iter().collect::<Result<Vec<_>>>()?;
        let masters = self.store.master_keys(On::Pool).await?;
        let scope_of =
            |id| masters.iter().find(|master| master.id == id).and_then(|master| master.organization);
        keys.retain(|key| match self.organization {
            Some(_) => key.organization == self.organization,
            // Not those that an organization's own master key wraps.
            None => key.wrapped.as_ref().is_none_or(|wrapped| scope_of(wrapped.master_key).is_none()),
        });
        Ok(keys)
    }

    /// Wraps one data key anew, checked in memory, and again as the database has it before the commit.
    async fn rewrap(&self, row: &DataKeyRow, master: &Arc<MasterKey>) -> Result<bool> {
        let vault = self.keyring.vault();
        // First: it refuses a record without a key check, for which nothing could be held to it below.
        let key = self.keyring.unwrap(On::Pool, row).await?;
        let (Some(old), Some(check)) =
            (&row.wrapped, row.key_check.as_deref().and_then(KeyCheck::from_slice))
        else {
            return Ok(false);
        };
        let context = WrapContext { vault, data_key: row.id, organization: row.organization };
        let text = wrap_key(master, Nonce::draw()?, &context, &key)?;
        drop(key);
        holds(master, vault, &context, &check, &text)?;
        let new = WrappedKey { master_key: master.id(), text };
        let master = Arc::clone(master);
        let judge: CheckWrapped = Box::new(move |text| holds(&master, vault, &context, &check, text));
        self.store.swap_material(row.id, old, &new, judge).await
    }
}

/// Holds a wrapped key to its key check.
fn holds(
    master: &MasterKey,
    vault: VaultId,
    context: &WrapContext,
    check: &KeyCheck,
    text: &str,
) -> Result<()> {
    if unwrap_key(master, context, text)?.verify(vault, check) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Tampered,
        format!("data key {}: what was wrapped is another key", context.data_key),
    ))
}

impl fmt::Debug for Rewrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewrap").field("to", &self.to).finish_non_exhaustive()
    }
}
