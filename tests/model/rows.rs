//! Rows of `integration_credentials`.

use std::fmt;

use crate::keys::{KeyId, Scope};

/// The rows of a run of the model.
pub(crate) const ROWS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowId(pub(crate) u8);

impl RowId {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..ROWS as u8).map(Self)
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.0 + 1)
    }
}

/// A stored text. Two that are equal hold the same value under the same key: nothing in the model asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    /// Counted from 1 in the order of the writes that were acknowledged; re-encryption keeps it.
    pub(crate) value: u8,
    pub(crate) key: KeyId,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {} under {}", self.value, self.key)
    }
}

/// A row; who has it locked stands with the writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) scope: Scope,
    /// What is committed; `None` before the first put.
    pub(crate) committed: Option<Version>,
    /// Not in the database: the value of the last writer that committed, 0 before the first.
    pub(crate) acknowledged: u8,
}

impl Row {
    pub(crate) fn new(scope: Scope, committed: Option<Version>) -> Self {
        Self { scope, committed, acknowledged: committed.map_or(0, |version| version.value) }
    }
}
