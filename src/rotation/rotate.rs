//! Rotation of data keys: what may be asked of one.

use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use time::Duration;

use super::events::{Listener, RotationEvent, RotationEvents};
use super::job::{Due, Job, Speed};
use super::lease::{Busy, default_owner};
use super::report::RotationReport;
use super::usage::DataKeySummary;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, OrganizationId};
use crate::keyring::Keyring;
use crate::limit;
use crate::store::Store;

/// How old an active data key may grow before a rotation replaces it.
pub(crate) const MAX_AGE: Duration = Duration::days(90);

/// Rows on a page at maintenance speed, as other paces take smaller ones: enough that round trips and commits count for
/// little, few enough that it is written in about a tenth of a second.
const BATCH_SIZE: u32 = 1_000;

/// The largest page that may be asked for: its texts are held in memory.
const MAX_BATCH_SIZE: u32 = 5_000;

/// The most workers: each takes two connections of a pool that has ten.
const MAX_WORKERS: u32 = 4;

/// How long a rotation waits for what others hold, since fewer rows were left than ever before.
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// A rotation to run: from [`Vault::rotation`](crate::Vault::rotation).
pub struct Rotation {
    job: Job,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What a rotation would do: from [`Rotation::plan`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RotationPlan {
    /// The active data keys that it would replace.
    pub due: Vec<DataKeyId>,
    /// Rows that it would re-encrypt, quarantine aside: those that are stale now, and those under a key that is due.
    pub rows: u64,
    /// The data keys with the rows under each.
    pub keys: Vec<DataKeySummary>,
}

impl Rotation {
    pub(crate) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self {
            job: Job {
                store,
                keyring,
                clock,
                due: Due::OlderThan(MAX_AGE),
                organization: None,
                batch_size: BATCH_SIZE,
                speed: Speed::Yielding,
                max_rows: u64::MAX,
                max_duration: None,
                max_wait: MAX_WAIT,
                busy: Busy::Ends,
                owner: default_owner(),
                listener: Listener::none(),
            },
            signal: Box::pin(std::future::pending()),
        }
    }

    /// Replaces active keys that are older than `age` (90 days unless said otherwise), and compromised ones.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.job.due = Due::OlderThan(age);
        self
    }

    /// Replaces every active key, however old; after a forced rotation that did not come to its end, only those that it
    /// had not replaced.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.job.due = Due::All;
        self
    }

    /// Replaces only the own key of one organization, which must have one; rows are re-encrypted wherever that is due.
    #[must_use]
    pub fn organization(mut self, id: impl Into<OrganizationId>) -> Self {
        self.job.organization = Some(id.into());
        self
    }

    /// Re-encrypts `rows` rows at once at most: 1 to 5,000, unless said otherwise 1,000. A page ends at 4 MiB of text,
    /// too; a rotation that yields takes 200 rows at most, one at a limited rate those of a 400th to a 20th of a second.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside that range.
    pub fn batch_size(mut self, rows: u32) -> Result<Self> {
        self.job.batch_size = within(1..=MAX_BATCH_SIZE, rows, "rows on a page")?;
        Ok(self)
    }

    /// Works as fast as so many workers can: 1 to 4. For maintenance; otherwise one worker yields to the application, and
    /// rests the longer the slower the database answers.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside that range.
    pub fn workers(mut self, workers: u32) -> Result<Self> {
        self.job.speed = Speed::Workers(within(1..=MAX_WORKERS, workers, "workers")?);
        Ok(self)
    }

    /// Re-encrypts so many rows a second at most, in small pages.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for none.
    pub fn rows_per_second(mut self, rows: u32) -> Result<Self> {
        self.job.speed = Speed::RowsPerSecond(within(1..=u32::MAX, rows, "rows a second")?);
        Ok(self)
    }

    /// Stops after so many rows; run again, it goes on.
    #[must_use]
    pub fn max_rows(mut self, rows: u64) -> Self {
        self.job.max_rows = rows;
        self
    }

    /// Stops after so long; run again, it goes on.
    #[must_use]
    pub fn max_duration(mut self, duration: std::time::Duration) -> Self {
        self.job.max_duration = Some(duration);
        self
    }

    /// Waits so long for rows that others hold, or go on making stale, and for transactions that are older than a switch: 60
    /// seconds unless said otherwise, counted from when fewer rows were left than ever before.
    #[must_use]
    pub fn max_wait(mut self, wait: std::time::Duration) -> Self {
        self.job.max_wait = wait;
        self
    }

    /// Waits while another process has the lease, as long as that takes.
    #[must_use]
    pub fn wait_for_lease(mut self) -> Self {
        self.job.busy = Busy::Waits;
        self
    }

    /// Says who runs this, for others who find the lease taken: a host and process, for instance.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.job.owner = owner.into();
        self
    }

    /// Calls `listener` at each event, in place of a listener before; what it takes its time for, the rotation waits for.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(RotationEvent) + Send + Sync + 'static) -> Self {
        self.job.listener = Listener::call(listener);
        self
    }

    /// The rotation and the stream of its events, in place of a listener before. The rotation waits for no reader: one
    /// that is a thousand events behind misses some.
    #[must_use]
    pub fn events(mut self) -> (Self, RotationEvents) {
        let (listener, events) = Listener::stream();
        self.job.listener = listener;
        (self, events)
    }

    /// Stops once `signal` is there: it ends the page that it writes, gives the lease back, and reports
    /// [`StopReason::Asked`](super::StopReason::Asked), within four seconds whatever the database does.
    #[must_use]
    pub fn stop_when(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// What this rotation would do if it ran now. Takes no lease, and writes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound` if the [`organization`](Self::organization) has no key of its own; `Store` if the database fails.
    pub async fn plan(&self) -> Result<RotationPlan> {
        limit::within(limit::TABLE, self.job.plan()).await
    }

    /// Makes and switches to new data keys where they are due, then re-encrypts every row that is not under the active
    /// key of its scope, until a count finds none, and marks the keys that nothing needs any more. Others read and write
    /// meanwhile.
    ///
    /// While another process runs a rotation or a rewrap nothing is done, and the outcome is
    /// [`HeldBy`](super::Outcome::HeldBy), unless it is to [wait](Self::wait_for_lease).
    ///
    /// # Errors
    ///
    /// `NotFound` if the [`organization`](Self::organization) has no key of its own; `LeaseLost` if another process took
    /// over; `KeyUnavailable` or `KeyMismatch` if a master key that is needed is missing or another; `Tampered` if a new
    /// key doesn't hold; `Provider` if a master key can't be had; `Conflict` if keys were changed meanwhile; `Store` if
    /// the database fails for longer than some seconds. Run it again: it goes on where it was. A row that doesn't open is
    /// no error: it is put in quarantine.
    #[tracing::instrument(skip_all, err(level = "debug"))]
    pub async fn run(self) -> Result<RotationReport> {
        self.job.run(self.signal).await
    }
}

fn within(range: RangeInclusive<u32>, number: u32, what: &str) -> Result<u32> {
    if range.contains(&number) {
        return Ok(number);
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!("{} to {} {what} are possible, not {number}", range.start(), range.end()),
    ))
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation")
            .field("due", &self.job.due)
            .field("organization", &self.job.organization)
            .field("batch_size", &self.job.batch_size)
            .field("speed", &self.job.speed)
            .finish_non_exhaustive()
    }
}
