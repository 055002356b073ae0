//! How a run is told to stop before its work is done.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Why a rotation stopped before its work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// It was told to, by the future of [`Rotation::stop_when`](super::Rotation::stop_when).
    Asked,
    /// It has re-encrypted as many rows as it may.
    MaxRows,
    /// It has run as long as it may.
    MaxDuration,
}

/// The wish that a run stops, seen by all that work for it.
#[derive(Debug, Default)]
pub(super) struct Stop {
    reason: OnceLock<StopReason>,
    told: Notify,
}

impl Stop {
    /// Asks the run to stop; the first reason holds.
    pub(super) fn ask(&self, reason: StopReason) {
        // A second one changes nothing.
        let _ = self.reason.set(reason);
        self.told.notify_waiters();
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Sleeps, no longer than until the run is asked to stop.
    pub(super) async fn sleep(&self, duration: Duration) {
        let told = self.told.notified();
        if !self.is_asked() {
            // Whichever comes first.
            let _ = timeout(duration, told).await;
        }
    }
}
