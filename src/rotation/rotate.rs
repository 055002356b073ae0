//! Rotation of data keys: what is due, the switch, and sweeps until nothing is left.

use std::fmt;
use std::sync::Arc;

use time::Duration;

use super::lease::{Lease, Taken, default_owner};
use super::report::{Outcome, Progress, RotationReport, data_key_summaries};
use super::sweep::Sweeper;
use super::{activate, finish_pre_active, new_data_key};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::id::OrganizationId;
use crate::keyring::Keyring;
use crate::store::{DataKeyRow, KeyState, Phase, RunKind, Store};

/// How old an active data key may grow before a rotation replaces it.
const MAX_AGE: Duration = Duration::days(90);

/// Rows on a page: large enough that round trips don't count, small enough that a page's statement is short.
const BATCH_SIZE: u32 = 500;

/// The largest page that may be asked for: its texts are held in memory.
const MAX_BATCH_SIZE: u32 = 5_000;

/// A rotation to run: from [`Vault::rotation`](crate::Vault::rotation).
pub struct Rotation {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    due: Due,
    organization: Option<OrganizationId>,
    batch_size: u32,
    owner: String,
    progress: Box<dyn Fn(Progress) + Send + Sync>,
}

/// Which active keys are replaced.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Those that are older, and those that are compromised.
    OlderThan(Duration),
    /// All.
    All,
}

impl Rotation {
    pub(crate) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            keyring,
            clock,
            due: Due::OlderThan(MAX_AGE),
            organization: None,
            batch_size: BATCH_SIZE,
            owner: default_owner(),
            progress: Box::new(|_| {}),
        }
    }

    /// Replaces active keys that are older than `age` (90 days unless said otherwise), and compromised ones.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.due = Due::OlderThan(age);
        self
    }

    /// Replaces every active key, however old.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.due = Due::All;
        self
    }

    /// Replaces only the own key of one organization, which must have one; rows are re-encrypted wherever that is due.
    #[must_use]
    pub fn organization(mut self, id: impl Into<OrganizationId>) -> Self {
        self.organization = Some(id.into());
        self
    }

    /// Re-encrypts `rows` rows at once: 1 to 5,000, unless said otherwise 500.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside that range.
    pub fn batch_size(mut self, rows: u32) -> Result<Self> {
        if !(1..=MAX_BATCH_SIZE).contains(&rows) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a page has 1 to {MAX_BATCH_SIZE} rows, not {rows}"),
            ));
        }
        self.batch_size = rows;
        Ok(self)
    }

    /// Says who runs this, for others who find the lease taken: a host and process, for instance.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Calls `progress` after each page.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Makes and switches to new data keys where they are due, then re-encrypts every row that is not under the active
    /// key of its scope, until a sweep finds none. Others read and write meanwhile.
    ///
    /// While another process runs a rotation or a rewrap nothing is done, and the outcome is
    /// [`HeldBy`](Outcome::HeldBy).
    ///
    /// # Errors
    ///
    /// `NotFound` if the [`organization`](Self::organization) has no key of its own; `LeaseLost` if another process took
    /// over; `KeyUnavailable` or `KeyMismatch` if a master key that is needed is missing or another; `Tampered` if a new
    /// key doesn't hold; `Provider` if a master key can't be had; `Conflict` if keys were changed meanwhile; `Store` if
    /// the database fails. Run it again: it goes on where it
    /// was. A row that doesn't open is no error: it is put in quarantine.
    #[tracing::instrument(skip_all, err(level = "debug"))]
    pub async fn run(self) -> Result<RotationReport> {
        let lease = match Lease::take(&self.store, &self.clock, RunKind::Rotate, &self.owner).await? {
            Taken::Ours(lease) => lease,
            Taken::HeldBy(outcome) => return Ok(RotationReport::new(outcome)),
        };
        let result = self.run_leased(&lease).await;
        lease.end(result, |report| (report.outcome.as_str(), report.counts())).await
    }

    async fn run_leased(&self, lease: &Lease) -> Result<RotationReport> {
        let store = self.store.as_ref();
        let mut report = RotationReport::new(Outcome::Complete);
        // A process that lacks a master key is at fault, not the rows whose data key it wraps.
        self.keyring.master_keys().unlock_all(store).await?;
        self.switch_due_keys(&mut report).await?;

        let mut sweeper =
            Sweeper::new(store, &self.keyring, lease, self.batch_size, self.progress.as_ref()).await?;
        let locked = sweeper.sweep_until_nothing_is_left().await?;
        report.re_encrypted = sweeper.re_encrypted();
        report.lost_to_concurrent_writes = sweeper.lost();
        report.already_current = sweeper.already_current();
        report.quarantined = store.quarantined().await?.len() as u64;
        report.remaining = locked;
        report.keys = data_key_summaries(store).await?;
        let phase = store.identity().await?.map_or(Phase::None, |identity| identity.phase);
        if matches!(phase, Phase::None | Phase::Observe) {
            report.legacy = report.keys.iter().filter(|key| key.id.is_legacy()).map(|key| key.rows).sum();
        }
        report.outcome = match (report.remaining, report.quarantined) {
            (0, 0) => Outcome::Complete,
            (0, _) => Outcome::Quarantine,
            _ => Outcome::WorkRemains,
        };
        Ok(report)
    }

    /// Makes, checks and switches to a new key for each scope that is due.
    async fn switch_due_keys(&self, report: &mut RotationReport) -> Result<()> {
        let store = self.store.as_ref();
        if let Some(organization) = self.organization {
            // Nothing would be due, which reads as if its credentials were under a new key.
            let own = |key: &DataKeyRow| key.organization == Some(organization);
            if !store.data_keys().await?.iter().flatten().any(own) {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "organization {organization} has no data key of its own: rotate the shared one, or make it one \
                         (`credvault keys create`)"
                    ),
                ));
            }
        }
        let finished = finish_pre_active(store, &self.keyring, self.clock.as_ref()).await?;
        let now = store.now(self.clock.offset()).await?;
        let due = |key: &DataKeyRow| {
            let age =
                now.to_offset_date_time() - key.activated_at.unwrap_or(key.created_at).to_offset_date_time();
            match self.due {
                Due::All => !finished.contains(&key.organization),
                Due::OlderThan(limit) => age > limit || key.compromised_at.is_some(),
            }
        };
        let keys: Vec<_> = store.data_keys().await?.into_iter().flatten().collect();
        for key in keys.iter().filter(|key| key.state == KeyState::Active) {
            if finished.contains(&key.organization) {
                report.new_keys.push(key.id);
            }
            if due(key) && (self.organization.is_none() || self.organization == key.organization) {
                let id = new_data_key(store, &self.keyring, key.organization).await?;
                activate(store, self.clock.as_ref(), id, key.organization).await?;
                report.new_keys.push(id);
                tracing::info!(key = %id, "switched to a new data key");
            }
        }
        // What this process still believes of the active keys is out of date.
        self.keyring.forget_sealing_keys();
        Ok(())
    }
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation")
            .field("due", &self.due)
            .field("organization", &self.organization)
            .field("batch_size", &self.batch_size)
            .finish_non_exhaustive()
    }
}
