//! An unlocked master key, and how long it may be used without its key service.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::crypto::key::MasterKey;
use crate::provider::CachePeriod;

/// The pause after a renewal that failed: a service that is away isn't asked by every process all the time.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// A master key in memory.
#[derive(Debug)]
pub(super) struct Unlocked {
    pub(super) key: Arc<MasterKey>,
    /// `None`: as long as the vault is open.
    times: Option<Times>,
}

#[derive(Debug)]
struct Times {
    /// When its service is asked again.
    due: Instant,
    /// When it is no longer used.
    until: Instant,
    /// Why the service didn't give it when it was last asked.
    failure: Option<String>,
}

impl Unlocked {
    /// A key that was given just now.
    pub(super) fn new(key: Arc<MasterKey>, period: Option<CachePeriod>) -> Self {
        let now = Instant::now();
        let times = period.map(|period| Times {
            due: now + period.renewed_after(),
            until: now + period.ceiling(),
            failure: None,
        });
        Self { key, times }
    }

    /// When it is no longer used; `None` for never.
    pub(super) fn until(&self) -> Option<Instant> {
        self.times.as_ref().map(|times| times.until)
    }

    /// Whether it may be used now.
    pub(super) fn is_usable(&self) -> bool {
        self.until().is_none_or(|until| Instant::now() < until)
    }

    /// Whether its service is to be asked again.
    pub(super) fn is_due(&self) -> bool {
        self.times.as_ref().is_some_and(|times| times.due <= Instant::now())
    }

    /// Says that its service is being asked: nobody else does so for a while. `false` if somebody does already.
    pub(super) fn claim_renewal(&mut self) -> bool {
        let due = self.is_due();
        if let (true, Some(times)) = (due, &mut self.times) {
            times.due = Instant::now() + RENEWAL_PAUSE;
        }
        due
    }

    /// Notes why its service did not give it again.
    pub(super) fn note_failure(&mut self, why: String) {
        if let Some(times) = &mut self.times {
            times.failure = Some(why);
        }
    }

    /// How long it is still used, and why its service didn't give it again.
    pub(super) fn outlook(&self) -> Option<Outlook> {
        let times = self.times.as_ref()?;
        let usable_for = times.until.saturating_duration_since(Instant::now());
        Some(Outlook { usable_for, failure: times.failure.clone() })
    }
}

/// What becomes of a master key whose key service doesn't answer.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    pub(crate) usable_for: Duration,
    pub(crate) failure: Option<String>,
}
