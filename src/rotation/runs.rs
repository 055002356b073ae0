//! The runs of rotation and rewrap, as the database keeps them.

use serde_json::Value;
use time::OffsetDateTime;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::store::{RunRow, Store};

/// A run of a rotation or a rewrap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunSummary {
    /// Its number, which grows from run to run.
    pub id: i64,
    /// `rotate` or `rewrap`.
    pub kind: String,
    /// Who ran it.
    pub owner: String,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended; `None` as long as it runs, and until another one begins if it was killed.
    pub finished_at: Option<OffsetDateTime>,
    /// How it ended: `complete`, `work-remains`, `findings`, `failed`, `lease-lost`.
    pub outcome: Option<String>,
    /// What it counted: of a run that was killed, some seconds before.
    pub counts: Value,
}

/// The latest runs, the last one first.
///
/// # Errors
///
/// `Store` if the database fails.
pub(crate) async fn run_summaries(store: &dyn Store, limit: u32) -> Result<Vec<RunSummary>> {
    let summary = |run: RunRow| RunSummary {
        id: run.id.0,
        kind: run.kind,
        owner: run.owner,
        started_at: run.started_at.to_offset_date_time(),
        finished_at: run.finished_at.map(Timestamp::to_offset_date_time),
        outcome: run.outcome,
        counts: run.counts,
    };
    Ok(store.runs(limit).await?.into_iter().map(summary).collect())
}
