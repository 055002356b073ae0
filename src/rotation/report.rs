//! What the jobs say when they end.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::events::Waiting;
use super::stop::StopReason;
use super::usage::DataKeySummary;
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId};

/// The most rows that a report names of those that others hold.
pub(super) const MAX_NAMED_ROWS: u32 = 100;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing is left to do.
    Complete,
    /// Work is left, which the report names: rows that others held to the end, transactions that are older than a switch,
    /// or what was not done because the run was to stop. Run it again.
    WorkRemains,
    /// Nothing is left but rows in quarantine, which couldn't be opened.
    Quarantine,
    /// Nothing was done: another process runs a job.
    HeldBy {
        /// That process, as it calls itself.
        owner: String,
        /// When it began.
        since: OffsetDateTime,
    },
}

impl Outcome {
    /// The outcome as the run's row keeps it.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::WorkRemains | Self::HeldBy { .. } => "work-remains",
            Self::Quarantine => "findings",
        }
    }
}

/// What a rotation did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RotationReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it stopped before its work was done.
    pub stopped: Option<StopReason>,
    /// The data keys that were made active.
    pub new_keys: Vec<DataKeyId>,
    /// Rows re-encrypted under the active key of their scope.
    pub re_encrypted: u64,
    /// The same by the key that they were under before.
    pub re_encrypted_from: Vec<(DataKeyId, u64)>,
    /// Rows that were under it when the rotation began re-encrypting.
    pub already_current: u64,
    /// Swaps that gave way to a concurrent write or a lock; a later sweep took those rows up again.
    pub lost_to_concurrent_writes: u64,
    /// Rows that couldn't be opened and were left as they are.
    pub quarantined: u64,
    /// Rows that are still to be re-encrypted, quarantine aside; an estimate if it was stopped.
    pub remaining: u64,
    /// Those of them that others held to the end, by integration; the first hundred.
    pub locked: Vec<IntegrationId>,
    /// The organizations whose own master key couldn't be had: nothing of theirs was rotated.
    pub withheld: Vec<Withheld>,
    /// What it waited for in vain.
    pub waiting: Waiting,
    /// Legacy rows that were left alone, as the phase of adoption asks.
    pub legacy: u64,
    /// The data keys under which nothing is sealed any more, and nothing can be, since this rotation.
    pub unused_keys: Vec<DataKeyId>,
    /// Whether the legacy key, which no row needs after the cut-over, is still there, as the role that rotates may not
    /// delete key material: rotate once as the owner of the tables.
    pub legacy_key_left: bool,
    /// The data keys with the rows under each; none if it was stopped.
    pub keys: Vec<DataKeySummary>,
}

/// An organization whose own master key couldn't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// The organization.
    pub organization_id: OrganizationId,
    /// Why, in a line.
    pub reason: String,
}

impl RotationReport {
    pub(super) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            stopped: None,
            new_keys: Vec::new(),
            re_encrypted: 0,
            re_encrypted_from: Vec::new(),
            already_current: 0,
            lost_to_concurrent_writes: 0,
            quarantined: 0,
            remaining: 0,
            locked: Vec::new(),
            withheld: Vec::new(),
            waiting: Waiting::default(),
            legacy: 0,
            unused_keys: Vec::new(),
            legacy_key_left: false,
            keys: Vec::new(),
        }
    }

    /// The report of a rotation that was asked to stop before it began, as while its vault was being opened.
    #[must_use]
    pub fn stopped_before_it_began() -> Self {
        Self { stopped: Some(StopReason::Asked), ..Self::new(Outcome::WorkRemains) }
    }

    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_of_nothing(&self) -> bool {
        self.outcome == Outcome::Complete
            && self.re_encrypted == 0
            && self.new_keys.is_empty()
            && self.unused_keys.is_empty()
    }

    /// The counts as the run's row keeps them.
    pub(super) fn counts(&self) -> Value {
        let ids = |ids: &[DataKeyId]| ids.iter().map(DataKeyId::to_string).collect::<Vec<_>>();
        let from = self.re_encrypted_from.iter().map(|(key, rows)| (key.to_string(), json!(rows)));
        json!({
            "new_keys": ids(&self.new_keys),
            "re_encrypted": self.re_encrypted,
            "re_encrypted_from": Value::Object(from.collect()),
            "already_current": self.already_current,
            "lost_to_concurrent_writes": self.lost_to_concurrent_writes,
            "quarantined": self.quarantined,
            "remaining": self.remaining,
            "legacy": self.legacy,
            "unused_keys": ids(&self.unused_keys),
        })
    }
}

/// What a rewrap did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RewrapReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The master key that is active now.
    pub master_key: MasterKeyId,
    /// Data keys wrapped anew.
    pub rewrapped: u64,
    /// Data keys that were wrapped by it already.
    pub already_current: u64,
}

impl RewrapReport {
    /// The counts as the run's row keeps them.
    pub(super) fn counts(&self) -> Value {
        json!({
            "master_key": self.master_key.to_string(),
            "rewrapped": self.rewrapped,
            "already_current": self.already_current,
        })
    }
}
