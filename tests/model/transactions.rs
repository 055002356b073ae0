//! Transactions as a capture sees them: what the server says of one, and sets of them.

/// What `pg_stat_activity` and `pg_prepared_xacts` show of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Nothing,
    /// `backend_xmin`: it has a snapshot, and has written nothing.
    Snapshot,
    /// `backend_xid`: it has written, and its statement has ended.
    Xid,
    /// Both: it has written, and keeps its snapshot.
    SnapshotAndXid,
    /// It runs in no session any more, and waits for a COMMIT PREPARED.
    Prepared,
}

impl Shown {
    pub(crate) fn has_snapshot(self) -> bool {
        matches!(self, Self::Snapshot | Self::SnapshotAndXid)
    }

    pub(crate) fn has_xid(self) -> bool {
        matches!(self, Self::Xid | Self::SnapshotAndXid)
    }

    pub(crate) fn is_prepared(self) -> bool {
        self == Self::Prepared
    }

    pub(crate) fn is_running(self) -> bool {
        self.has_snapshot() || self.has_xid()
    }
}

/// A transaction, by its place in the model's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionId(pub(crate) u8);

/// A set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TransactionSet(u8);

impl TransactionSet {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, id: TransactionId) -> bool {
        self.0 & 1 << id.0 != 0
    }

    pub(crate) fn insert(&mut self, id: TransactionId) {
        self.0 |= 1 << id.0;
    }

    pub(crate) fn remove(&mut self, id: TransactionId) {
        self.0 &= !(1 << id.0);
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
