//! What the data keys are needed for: the rows under each, counted in one scan, and what keeps a key from destruction.

use std::collections::{HashMap, HashSet};
use std::fmt;

use time::{Duration, OffsetDateTime};

use crate::clock::Timestamp;
use crate::envelope::key_of_beginning;
use crate::error::Result;
use crate::id::{DataKeyId, MasterKeyId, OrganizationId};
use crate::store::{DataKeyRow, KeyState, Phase, Store, UsageCount};

/// How long a key is kept after nothing needs it any more, unless said otherwise: a backup of that age restores.
pub const GRACE: Duration = Duration::days(30);

/// The rows under each key.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// By the column `encryption_key_id`.
    columns: HashMap<String, u64>,
    /// The same of those that are not stale.
    current: HashMap<String, u64>,
    /// Rows whose text names a key that their column does not.
    headers: HashMap<DataKeyId, u64>,
    /// Rows that are not under the active key of their scope, those in quarantine and those without an integration aside.
    pub(crate) stale: u64,
    pub(crate) rows: u64,
}

impl Usage {
    /// Counts.
    ///
    /// # Errors
    ///
    /// `Malformed` if the table is full of garbage; `Store` if the database fails.
    pub(crate) async fn count(store: &dyn Store) -> Result<Self> {
        let mut usage = Self::default();
        for UsageCount { key_column, header, stale, rows } in store.usage().await? {
            usage.rows += rows;
            if stale {
                usage.stale += rows;
            } else {
                *usage.current.entry(key_column.clone()).or_default() += rows;
            }
            let sealed_by = key_of_beginning(&header).filter(|id| id.to_string() != key_column);
            if let Some(id) = sealed_by {
                *usage.headers.entry(id).or_default() += rows;
            }
            *usage.columns.entry(key_column).or_default() += rows;
        }
        Ok(usage)
    }

    /// A faster count, by the columns alone: what headers name is not looked at, rows of organizations whose new key has
    /// not got them yet are taken for current, and rows in quarantine for stale.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub(crate) async fn estimate(store: &dyn Store) -> Result<Self> {
        let phase = store.identity().await?.map_or(Phase::None, |identity| identity.phase);
        let is_active = |key: &DataKeyRow| key.state == KeyState::Active;
        let active: HashSet<String> = store
            .data_keys()
            .await?
            .into_iter()
            .flatten()
            .filter(is_active)
            .map(|key| key.id.to_string())
            .collect();
        let mut usage = Self::default();
        for count in store.count_by_key().await? {
            usage.rows += count.rows;
            let is_left_alone = count.key_column == "v1" && matches!(phase, Phase::None | Phase::Observe);
            if !is_left_alone && !active.contains(&count.key_column) {
                usage.stale += count.rows;
            }
            usage.columns.insert(count.key_column, count.rows);
        }
        Ok(usage)
    }

    /// The rows whose column names the key.
    pub(crate) fn rows_under(&self, key: DataKeyId) -> u64 {
        self.columns.get(&key.to_string()).copied().unwrap_or(0)
    }

    /// Those of them that are not stale: they become so when the key is replaced.
    pub(crate) fn current_rows_under(&self, key: DataKeyId) -> u64 {
        self.current.get(&key.to_string()).copied().unwrap_or(0)
    }

    /// The rows whose text names the key, and whose column does not.
    pub(crate) fn headers_of(&self, key: DataKeyId) -> u64 {
        self.headers.get(&key).copied().unwrap_or(0)
    }

    /// Whether no row names the key in any way.
    pub(crate) fn is_unused(&self, key: DataKeyId) -> bool {
        self.rows_under(key) == 0 && self.headers_of(key) == 0
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
    /// How many rows besides were sealed by it, as their text says, though their column names another key.
    pub other_rows: u64,
    /// The master key that wraps it; `None` if it has no material.
    pub master_key_id: Option<MasterKeyId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it became the active key of its scope.
    pub activated_at: Option<OffsetDateTime>,
    /// When another key took its place.
    pub deactivated_at: Option<OffsetDateTime>,
    /// When its material was deleted.
    pub destroyed_at: Option<OffsetDateTime>,
    /// When it was found to be compromised.
    pub compromised_at: Option<OffsetDateTime>,
    /// Since when nothing is sealed under it, and nothing can be.
    pub unused_since: Option<OffsetDateTime>,
    /// What keeps it from being destroyed, the first thing first; `None` if it may be.
    pub blocked: Option<Blocker>,
}

/// What keeps a data key from being destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blocker {
    /// It is the active key of its scope, or about to be.
    InUse,
    /// So many rows need it: a rotation re-encrypts them, those in quarantine and those without an integration aside.
    Rows(u64),
    /// Nothing says yet that nothing more is written under it: a rotation finds out.
    NotKnownUnused,
    /// A backup from before may need it until then.
    Grace(OffsetDateTime),
    /// It is destroyed already.
    Destroyed,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("it seals what is written"),
            Self::Rows(1) => f.write_str("1 row is under it"),
            Self::Rows(rows) => write!(f, "{rows} rows are under it"),
            Self::NotKnownUnused => {
                f.write_str("no rotation has found yet that nothing is written under it any more")
            }
            Self::Grace(until) => write!(f, "backups may need it until {}", until.date()),
            Self::Destroyed => f.write_str("it is destroyed already"),
        }
    }
}

/// The data keys, oldest first, with the rows under each.
///
/// # Errors
///
/// `Store` if the database fails.
pub(crate) async fn data_key_summaries(
    store: &dyn Store,
    usage: &Usage,
    clock_offset: Duration,
) -> Result<Vec<DataKeySummary>> {
    let now = store.now(clock_offset).await?.to_offset_date_time();
    let moment = |moment: Option<Timestamp>| moment.map(Timestamp::to_offset_date_time);
    let summaries = store.data_keys().await?.into_iter().flatten().map(|key| {
        let (rows, other_rows) = (usage.rows_under(key.id), usage.headers_of(key.id));
        let unused_since = moment(key.unused_since);
        DataKeySummary {
            id: key.id,
            organization_id: key.organization,
            state: key.state,
            rows,
            other_rows,
            master_key_id: key.wrapped.map(|wrapped| wrapped.master_key),
            created_at: key.created_at.to_offset_date_time(),
            activated_at: moment(key.activated_at),
            deactivated_at: moment(key.deactivated_at),
            destroyed_at: moment(key.destroyed_at),
            compromised_at: moment(key.compromised_at),
            unused_since,
            blocked: match (key.state, rows + other_rows, unused_since) {
                (KeyState::Destroyed, ..) => Some(Blocker::Destroyed),
                (KeyState::PreActive | KeyState::Active, ..) => Some(Blocker::InUse),
                (KeyState::Deactivated, 1.., _) => Some(Blocker::Rows(rows + other_rows)),
                (KeyState::Deactivated, 0, None) => Some(Blocker::NotKnownUnused),
                (KeyState::Deactivated, 0, Some(since)) => {
                    Some(since.saturating_add(GRACE)).filter(|over| *over > now).map(Blocker::Grace)
                }
            },
        }
    });
    Ok(summaries.collect())
}
