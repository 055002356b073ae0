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
    /// The only organization whose data keys it wraps; `None` for the shared key.
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) provider: String,
    pub(crate) provider_record: String,
    pub(crate) key_check: Vec<u8>,
    pub(crate) state: KeyState,
    pub(crate) wraps: u64,
}

impl MasterKeyRow {
    /// Whether something can't be opened without this key: the vault, or what is an organization's.
    pub(crate) fn is_needed(&self) -> bool {
        self.state == KeyState::Active || self.wraps > 0
    }

    /// Whether it is the active key of exactly this scope.
    pub(crate) fn is_active_of(&self, scope: Option<OrganizationId>) -> bool {
        self.state == KeyState::Active && self.organization == scope
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
    pub(crate) deactivated_at: Option<Timestamp>,
    pub(crate) destroyed_at: Option<Timestamp>,
    pub(crate) compromised_at: Option<Timestamp>,
    /// Since when nothing is sealed under it, and nothing can be.
    pub(crate) unused_since: Option<Timestamp>,
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
    pub(crate) organization: Option<OrganizationId>,
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
    pub(crate) address: RowAddress,
    pub(crate) integration: IntegrationId,
    pub(crate) organization: OrganizationId,
    pub(crate) connector: String,
    pub(crate) row: CredentialRow,
}

/// A credential's row with the integration and the organization that it is sealed to.
#[derive(Clone, Debug)]
pub(crate) struct PlacedRow {
    pub(crate) integration: IntegrationId,
    pub(crate) organization: OrganizationId,
    pub(crate) row: CredentialRow,
}

impl From<ScannedRow> for PlacedRow {
    fn from(scanned: ScannedRow) -> Self {
        Self { integration: scanned.integration, organization: scanned.organization, row: scanned.row }
    }
}

/// Where a scan stands: the integration's id on PostgreSQL, the rowid on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cursor {
    /// An integration's UUID (PostgreSQL).
    #[cfg(feature = "postgres")]
    Id(uuid::Uuid),
    /// A rowid (SQLite).
    #[cfg(feature = "sqlite")]
    RowId(i64),
}

/// Where a row stood when it was read, which it leaves when it is written on PostgreSQL, or moved by VACUUM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowAddress {
    /// A tuple's identifier (PostgreSQL): the block, and the item in it.
    #[cfg(feature = "postgres")]
    Tuple(u32, u16),
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

/// One row's re-encryption: written only while the stored text begins like the one that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    /// Where it was read: what it is looked up by.
    pub(crate) address: RowAddress,
    pub(crate) integration: IntegrationId,
    pub(crate) organization: OrganizationId,
    /// The beginning of the text that was opened, which no other text has: through its nonce, or all of a legacy one.
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

/// The rows of a range, both ends included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// `None` from the table's first row on.
    pub(crate) from: Option<Cursor>,
    /// `None` up to its last.
    pub(crate) to: Option<Cursor>,
}

impl Range {
    /// All rows.
    pub(crate) const ALL: Self = Self { from: None, to: None };

    /// What is left of it after a row; `None` after the last of all places.
    pub(crate) fn after(self, last: Cursor) -> Option<Self> {
        last.next().map(|next| Self { from: Some(next), ..self })
    }
}

impl Cursor {
    /// The place right after this one; `None` after the last of all places.
    pub(crate) fn next(self) -> Option<Self> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Id(id) => id.as_u128().checked_add(1).map(|id| Self::Id(uuid::Uuid::from_u128(id))),
            #[cfg(feature = "sqlite")]
            Self::RowId(id) => id.checked_add(1).map(Self::RowId),
        }
    }
}

/// What became of a page's swaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// These were written; the others changed meanwhile, or are locked.
    Written(Vec<IntegrationId>),
    /// Nothing was: the statement's time was over.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only PostgreSQL limits a statement"))]
    TookTooLong,
}

/// What became of a new data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insertion {
    /// It is recorded, pre-active.
    Done,
    /// Its scope has a pre-active key already, or its master key is not the active one; nothing changed.
    Refused,
    /// The run has lost its lease; nothing changed.
    Fenced,
}

/// What became of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// The key is active.
    Done,
    /// It was no longer pre-active; nothing changed.
    NotPreActive,
    /// The run has lost its lease; nothing changed.
    Fenced,
}

/// What became of the destruction of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destruction {
    /// Its material is deleted.
    Done,
    /// It is not deactivated and unused for long enough; nothing changed.
    NotUnused,
    /// The role of the database may not delete key material; nothing changed.
    NotAllowed,
}

/// Rows of one kind, and how many they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageCount {
    /// The column as it stands.
    pub(crate) key_column: String,
    /// The beginning of the stored text, which names the key that sealed it; empty for a text of another format.
    pub(crate) header: String,
    /// Whether they are [stale](Rows::Stale), those in quarantine and those without an integration aside.
    pub(crate) stale: bool,
    pub(crate) rows: u64,
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

/// A row in quarantine as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct ListedRow {
    pub(crate) row: QuarantinedRow,
    /// When the text that it has was put there.
    pub(crate) since: Timestamp,
    /// Missing, both, where the integration is gone.
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) connector: Option<String>,
}

/// When a key came into each state, as far as there is such a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyTimes {
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) activated_at: Option<Timestamp>,
    pub(crate) deactivated_at: Option<Timestamp>,
    pub(crate) destroyed_at: Option<Timestamp>,
}

/// What the record of a data key says of its life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataKeyLife {
    pub(crate) id: DataKeyId,
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) state: KeyState,
    pub(crate) times: KeyTimes,
    pub(crate) unused_since: Option<Timestamp>,
    /// A row of material, if only the legacy key's placeholder.
    pub(crate) has_material: bool,
}

/// What the record of a master key says of its life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MasterKeyLife {
    pub(crate) id: MasterKeyId,
    pub(crate) state: KeyState,
    pub(crate) times: KeyTimes,
}

/// Rows that name something which isn't there: how many, and the first of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphans {
    pub(crate) count: u64,
    pub(crate) first: Vec<IntegrationId>,
}
