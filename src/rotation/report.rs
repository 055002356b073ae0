//! What the jobs say of themselves: progress while they run, counts when they end.

use std::collections::HashMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{DataKeyId, MasterKeyId, OrganizationId};
use crate::store::{KeyState, Store};

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing is left to do.
    Complete,
    /// Rows are left: locked by other transactions to the end. Run it again.
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

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows re-encrypted so far.
    pub re_encrypted: u64,
    /// Rows that were stale when re-encryption began.
    pub stale: u64,
}

/// What a rotation did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RotationReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The data keys that were made active.
    pub new_keys: Vec<DataKeyId>,
    /// Rows re-encrypted under the active key of their scope.
    pub re_encrypted: u64,
    /// Rows that were under it when the rotation began re-encrypting.
    pub already_current: u64,
    /// Swaps that gave way to a concurrent write or a lock; a later sweep took those rows up again.
    pub lost_to_concurrent_writes: u64,
    /// Rows that couldn't be opened and were left as they are.
    pub quarantined: u64,
    /// Rows that are still to be re-encrypted, quarantine aside.
    pub remaining: u64,
    /// Legacy rows that were left alone, as the phase of adoption asks.
    pub legacy: u64,
    /// The data keys with the rows under each.
    pub keys: Vec<DataKeySummary>,
}

impl RotationReport {
    pub(super) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            new_keys: Vec::new(),
            re_encrypted: 0,
            already_current: 0,
            lost_to_concurrent_writes: 0,
            quarantined: 0,
            remaining: 0,
            legacy: 0,
            keys: Vec::new(),
        }
    }

    /// The counts as the run's row keeps them.
    pub(super) fn counts(&self) -> Value {
        json!({
            "new_keys": self.new_keys.iter().map(DataKeyId::to_string).collect::<Vec<_>>(),
            "re_encrypted": self.re_encrypted,
            "already_current": self.already_current,
            "lost_to_concurrent_writes": self.lost_to_concurrent_writes,
            "quarantined": self.quarantined,
            "remaining": self.remaining,
            "legacy": self.legacy,
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

/// What the database says of a data key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DataKeySummary {
    /// The key.
    pub id: DataKeyId,
    /// The organization whose own key it is; `None` for a shared key.
    pub organization_id: Option<OrganizationId>,
    /// Its state.
    pub state: KeyState,
    /// How many rows name it.
    pub rows: u64,
    /// The master key that wraps it; `None` if it has no material.
    pub master_key_id: Option<MasterKeyId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it became the active key of its scope.
    pub activated_at: Option<OffsetDateTime>,
    /// When it was found to be compromised.
    pub compromised_at: Option<OffsetDateTime>,
}

/// The data keys, oldest first, with the rows under each counted in one scan.
///
/// # Errors
///
/// `Store` if the database fails.
pub(crate) async fn data_key_summaries(store: &dyn Store) -> Result<Vec<DataKeySummary>> {
    let counts: HashMap<String, u64> =
        store.count_by_key().await?.into_iter().map(|count| (count.key_column, count.rows)).collect();
    let summaries = store.data_keys().await?.into_iter().flatten().map(|key| DataKeySummary {
        id: key.id,
        organization_id: key.organization,
        state: key.state,
        rows: counts.get(&key.id.to_string()).copied().unwrap_or(0),
        master_key_id: key.wrapped.map(|wrapped| wrapped.master_key),
        created_at: key.created_at.to_offset_date_time(),
        activated_at: key.activated_at.map(Timestamp::to_offset_date_time),
        compromised_at: key.compromised_at.map(Timestamp::to_offset_date_time),
    });
    Ok(summaries.collect())
}
