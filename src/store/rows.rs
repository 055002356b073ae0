//! What the tables hold, as values: no key, no plaintext.

use crate::clock::Timestamp;
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId, VaultId};

/// Where a key stands in its life (NIST SP 800-57 part 1, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// Made and stored, not used yet.
    PreActive,
    /// Seals and opens; one for each scope.
    Active,
    /// Opens, never seals.
    Deactivated,
    /// Its material is deleted; this record is kept.
    Destroyed,
}

impl KeyState {
    const ALL: [Self; 4] = [Self::PreActive, Self::Active, Self::Deactivated, Self::Destroyed];

    /// The state as the column spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Destroyed => "destroyed",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// How far the adoption of the rows that were there before the vault has come; see
/// [the manual](crate::manual::rotation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// No legacy key is registered: legacy rows don't open.
    None,
    /// Legacy rows are read like any other; rotation leaves them.
    Observe,
    /// Rotation re-encrypts legacy rows; legacy services may still write them.
    ReEncrypt,
    /// The database refuses legacy values.
    CutOver,
}

impl Phase {
    const ALL: [Self; 4] = [Self::None, Self::Observe, Self::ReEncrypt, Self::CutOver];

    /// The phase as the column spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Observe => "observe",
            Self::ReEncrypt => "re-encrypt",
            Self::CutOver => "cut-over",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}

/// The one row of `vault_identity`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) vault: VaultId,
    pub(crate) phase: Phase,
}

/// A row of `vault_master_keys`, with how much is wrapped by it.
#[derive(Clone, Debug)]
pub(crate) struct MasterKeyRow {
    pub(crate) id: MasterKeyId,
    pub(crate) provider: String,
    pub(crate) provider_record: String,
    pub(crate) key_check: Vec<u8>,
    pub(crate) state: KeyState,
    pub(crate) wraps: u64,
}

impl MasterKeyRow {
    /// Whether the vault can't be opened without this key.
    pub(crate) fn is_needed(&self) -> bool {
        self.state == KeyState::Active || self.wraps > 0
    }
}

/// A row of `vault_data_keys` with its material, if it still has some.
#[derive(Clone, Debug)]
pub(crate) struct DataKeyRow {
    pub(crate) id: DataKeyId,
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) state: KeyState,
    /// Missing only for the legacy key before its adoption.
    pub(crate) key_check: Option<Vec<u8>>,
    /// Missing when the key is destroyed, and for the placeholder of the legacy key.
    pub(crate) wrapped: Option<WrappedKey>,
    pub(crate) created_at: Timestamp,
    pub(crate) activated_at: Option<Timestamp>,
    pub(crate) compromised_at: Option<Timestamp>,
}

/// A data key as a master key wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    pub(crate) master_key: MasterKeyId,
    pub(crate) text: String,
}

/// A data key to insert.
#[derive(Clone, Debug)]
pub(crate) struct NewDataKey {
    pub(crate) id: DataKeyId,
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) key_check: [u8; 16],
    pub(crate) wrapped: WrappedKey,
}

/// A master key to insert.
#[derive(Clone, Debug)]
pub(crate) struct NewMasterKey {
    pub(crate) id: MasterKeyId,
    pub(crate) provider: String,
    pub(crate) provider_record: String,
    pub(crate) key_check: [u8; 16],
}

/// Everything that `init` commits at once.
#[derive(Clone, Debug)]
pub(crate) struct NewVault {
    pub(crate) vault: VaultId,
    pub(crate) master_key: NewMasterKey,
    pub(crate) data_key: NewDataKey,
}

/// A sealed credential to write.
#[derive(Clone, Debug)]
pub(crate) struct SealedRow {
    pub(crate) organization: OrganizationId,
    pub(crate) integration: IntegrationId,
    pub(crate) credential_type: String,
    pub(crate) stored: String,
    pub(crate) key: DataKeyId,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A credential's row as it was read.
#[derive(Clone, Debug)]
pub(crate) struct CredentialRow {
    pub(crate) credential_type: String,
    /// The stored text; empty if it is longer than any that the vault writes.
    pub(crate) stored: String,
    /// The column as it stands, which need not name a key.
    pub(crate) key_column: String,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A credential's row on a page of a scan over all rows.
#[derive(Clone, Debug)]
pub(crate) struct ScannedRow {
    pub(crate) cursor: Cursor,
    pub(crate) integration: IntegrationId,
    pub(crate) organization: OrganizationId,
    pub(crate) connector: String,
    pub(crate) row: CredentialRow,
}

/// Where a scan stands: the row id on PostgreSQL, the rowid on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cursor {
    /// A row's UUID (PostgreSQL).
    #[cfg(feature = "postgres")]
    Id(uuid::Uuid),
    /// A rowid (SQLite).
    #[cfg(feature = "sqlite")]
    RowId(i64),
}

/// Which rows a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// All rows.
    All,
    /// Rows that are not under the active key of their scope, legacy rows in the phases that re-encrypt them.
    Stale,
    /// Legacy rows.
    Legacy,
    /// The rows of one organization.
    Of(OrganizationId),
}

/// One row's re-encryption: written only while the stored text is the one that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    pub(crate) integration: IntegrationId,
    pub(crate) old: String,
    pub(crate) old_expires_at: Option<Timestamp>,
    pub(crate) new: String,
    pub(crate) key: DataKeyId,
}

/// Why a guarded write wrote nothing.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// The active key of the integration's scope.
    pub(crate) active_key: Option<DataKeyId>,
    /// The leading characters of the stored text, as many as the revision has.
    pub(crate) revision: Option<String>,
}

/// The number of rows under a key, with the column as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyCount {
    pub(crate) key_column: String,
    pub(crate) rows: u64,
}

/// A row in quarantine: it couldn't be opened, and was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuarantinedRow {
    pub(crate) integration: IntegrationId,
    pub(crate) reason: String,
    pub(crate) stored_sha256: [u8; 32],
}

/// A run of rotation or rewrap; its number is the fencing number that its statements carry wherever a late one could
/// do harm: those that write rows, switch the master key, or end the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunId(pub(crate) i64);

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// Data keys and rows.
    Rotate,
    /// The master key.
    Rewrap,
}

impl RunKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rotate => "rotate",
            Self::Rewrap => "rewrap",
        }
    }
}

/// Who takes a lease, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct LeaseRequest {
    pub(crate) kind: RunKind,
    pub(crate) owner: String,
    /// The clock's offset from the database's time.
    pub(crate) clock_offset: time::Duration,
    pub(crate) duration: time::Duration,
}

/// The answer to a lease request.
#[derive(Clone, Debug)]
pub(crate) enum Lease {
    /// Taken: this is its run.
    Taken(RunId),
    /// Another run holds it.
    HeldBy { owner: String, since: Timestamp },
}

/// The last run that ended.
#[derive(Clone, Debug)]
pub(crate) struct EndedRun {
    pub(crate) kind: String,
    pub(crate) finished_at: Timestamp,
    pub(crate) outcome: String,
}
