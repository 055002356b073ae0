//! What a rotation says while it runs.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::error::ErrorKind;
use crate::id::{DataKeyId, IntegrationId, OrganizationId};
use crate::store::OlderTransaction;

/// The most events that are kept for a reader that is behind: a later one is dropped then, and says no less of the
/// progress than the one after it.
const MAX_WAITING: usize = 1_024;

/// Something that a rotation did, or waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RotationEvent {
    /// Another process has the lease, and this one waits for it.
    WaitingForLease {
        /// That process, as it calls itself.
        owner: String,
        /// When it began.
        since: OffsetDateTime,
    },
    /// The lease is taken.
    Began {
        /// The run's number, as the list of runs has it.
        run: i64,
    },
    /// A new data key is the active one of its scope.
    Switched {
        /// The new key.
        key: DataKeyId,
        /// The organization whose own key it is; `None` for the shared key.
        organization_id: Option<OrganizationId>,
    },
    /// A page was written.
    Progress(Progress),
    /// A row did not open, and was put in quarantine.
    Quarantined {
        /// Whose credential it is.
        integration_id: IntegrationId,
        /// The kind of error.
        reason: ErrorKind,
    },
    /// Nothing is left but what others hold.
    Waiting(Waiting),
    /// Nothing is sealed under a key any more, and nothing can be.
    Unused {
        /// The key.
        key: DataKeyId,
    },
    /// The legacy key is destroyed: no legacy row is left after the cut-over.
    LegacyKeyDestroyed,
}

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows re-encrypted so far.
    pub re_encrypted: u64,
    /// Rows that were stale when re-encryption began, by a fast count that leaves organizations' new keys out.
    pub stale: u64,
}

/// What a rotation waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// Rows that changed, or were locked, in the last sweep.
    pub rows: u64,
    /// Transactions that are older than a switch, and may still write under the key of before.
    pub transactions: OlderTransactions,
}

/// Transactions that are older than a switch of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OlderTransactions(Vec<OlderTransaction>);

impl OlderTransactions {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of sessions: the process id of each, and the name of its application, empty where it is not to be seen.
    pub fn of_sessions(&self) -> impl Iterator<Item = (i32, &str)> {
        self.0.iter().filter_map(|transaction| match transaction {
            OlderTransaction::Running { pid, application, .. } => Some((*pid, application.as_str())),
            OlderTransaction::Prepared { .. } => None,
        })
    }

    /// Those that are prepared: the identifier of each.
    pub fn prepared(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|transaction| match transaction {
            OlderTransaction::Running { .. } => None,
            OlderTransaction::Prepared { gid } => Some(gid.as_str()),
        })
    }

    /// Each as a person looks for it: by process id and application, or by the identifier it was prepared under.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|transaction| match transaction {
            OlderTransaction::Running { pid, application, .. } if application.is_empty() => {
                format!("pid {pid}")
            }
            OlderTransaction::Running { pid, application, .. } => format!("pid {pid} ({application})"),
            OlderTransaction::Prepared { gid } => format!("prepared transaction {gid:?}"),
        })
    }
}

impl From<Vec<OlderTransaction>> for OlderTransactions {
    fn from(transactions: Vec<OlderTransaction>) -> Self {
        Self(transactions)
    }
}

/// The events of a rotation, in order: from [`Rotation::events`](super::Rotation::events).
#[derive(Debug)]
pub struct RotationEvents(mpsc::Receiver<RotationEvent>);

impl RotationEvents {
    /// The next event; `None` once the rotation has ended.
    pub async fn next(&mut self) -> Option<RotationEvent> {
        self.0.recv().await
    }
}

/// Where a rotation's events go.
#[derive(Clone)]
pub(super) struct Listener(Arc<dyn Fn(RotationEvent) + Send + Sync>);

impl Listener {
    pub(super) fn none() -> Self {
        Self(Arc::new(|_| {}))
    }

    pub(super) fn call(listener: impl Fn(RotationEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    pub(super) fn stream() -> (Self, RotationEvents) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        // That nobody reads, or not fast enough, is no reason to stop.
        (Self::call(move |event| drop(sender.try_send(event))), RotationEvents(receiver))
    }

    pub(super) fn hear(&self, event: RotationEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
