//! The model's state: the database, the transactions in it, the processes beside it.

use crate::bounds::{Bounds, RowsAtFirst};
use crate::keys::{Drain, FIRST, KeyId, Keys, Scope};
use crate::lease::Lease;
use crate::reader::Reader;
use crate::rotator::{ROTATORS, Rotator, RotatorId};
use crate::rows::{ROWS, Row, RowId, Version};
use crate::swap::Swap;
use crate::transactions::{Shown, TransactionId, TransactionSet};
use crate::writers::{WRITERS, Writer, WriterId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    rows: [Row; ROWS],
    pub(crate) keys: Keys,
    pub(crate) lease: Lease,
    writers: [Writer; WRITERS],
    rotators: [Rotator; ROTATORS],
    /// The swap statement of each rotator that the server executes; a killed rotator's goes on.
    swaps: [Option<Swap>; ROTATORS],
    pub(crate) reader: Reader,
    /// Rotations that have become due.
    pub(crate) due: usize,
    pub(crate) service_started: bool,
    pub(crate) happened: Happened,
}

/// What can be seen in no later state. None of it is in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Happened {
    /// A swap wrote that began when its run no longer had the lease.
    pub(crate) fenced_off_write: bool,
    /// The foreign key refused a writer.
    pub(crate) refused_by_foreign_key: bool,
    /// A row that was read could not be opened.
    pub(crate) read_failed: bool,
    /// A rotation counted no stale row, and nothing was switched since.
    pub(crate) counted: bool,
    /// That rotation has reported success.
    pub(crate) success: bool,
}

impl State {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let there = Some(Version { value: 1, key: FIRST });
        let rows = match bounds.rows {
            RowsAtFirst::OneThereOneNot => [Row::new(Scope::Shared, there), Row::new(Scope::Shared, None)],
            RowsAtFirst::SecondOfOrganization => {
                [Row::new(Scope::Shared, there), Row::new(Scope::Organization, there)]
            }
        };
        Self {
            rows,
            keys: Keys::new(),
            lease: Lease::new(),
            writers: [Writer::NotBegun; WRITERS],
            rotators: [Rotator::Down; ROTATORS],
            swaps: [None; ROTATORS],
            reader: Reader::NotBegun,
            due: 1,
            service_started: false,
            happened: Happened::default(),
        }
    }

    pub(crate) fn row(&self, id: RowId) -> &Row {
        &self.rows[usize::from(id.0)]
    }

    pub(crate) fn row_mut(&mut self, id: RowId) -> &mut Row {
        &mut self.rows[usize::from(id.0)]
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn writer(&self, id: WriterId) -> &Writer {
        &self.writers[usize::from(id.0)]
    }

    pub(crate) fn writer_mut(&mut self, id: WriterId) -> &mut Writer {
        &mut self.writers[usize::from(id.0)]
    }

    pub(crate) fn writers(&self) -> &[Writer] {
        &self.writers
    }

    pub(crate) fn rotator(&self, id: RotatorId) -> &Rotator {
        &self.rotators[usize::from(id.0)]
    }

    pub(crate) fn rotator_mut(&mut self, id: RotatorId) -> &mut Rotator {
        &mut self.rotators[usize::from(id.0)]
    }

    pub(crate) fn swap(&self, id: RotatorId) -> Option<&Swap> {
        self.swaps[usize::from(id.0)].as_ref()
    }

    pub(crate) fn swap_mut(&mut self, id: RotatorId) -> &mut Option<Swap> {
        &mut self.swaps[usize::from(id.0)]
    }

    /// Whether a writer has the row locked.
    pub(crate) fn is_locked(&self, row: RowId) -> bool {
        self.writers.iter().any(|writer| writer.written().is_some_and(|write| write.row == row))
    }

    /// What is stored.
    pub(crate) fn committed(&self) -> impl Iterator<Item = Version> {
        self.rows.iter().filter_map(|row| row.committed)
    }

    /// The keys of what is stored, and of what will be if a writer that has written commits.
    pub(crate) fn needed_keys(&self) -> impl Iterator<Item = KeyId> {
        let written = self.writers.iter().filter_map(Writer::written).map(|write| write.key);
        self.committed().map(|version| version.key).chain(written)
    }

    /// The rows that are not under the active key of their scope.
    pub(crate) fn stale_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(|row| row.committed.is_some_and(|version| version.key != self.keys.active(row.scope)))
    }

    /// The transactions of which the server shows `what`.
    pub(crate) fn transactions(&self, what: impl Fn(Shown) -> bool) -> TransactionSet {
        let mut set = TransactionSet::default();
        for (at, writer) in self.writers.iter().enumerate() {
            if what(writer.shown()) {
                set.insert(WriterId(at as u8).transaction());
            }
        }
        for (at, swap) in self.swaps.iter().enumerate() {
            if swap.is_some() && what(Shown::Snapshot) {
                set.insert(RotatorId(at as u8).transaction());
            }
        }
        set
    }

    /// The transaction is in no session any more: every captured set sees it leave.
    pub(crate) fn stops_running(&mut self, id: TransactionId) {
        for (_, key) in self.keys.iter_mut() {
            if let Drain::Waiting(captured) = &mut key.drain {
                captured.running.remove(id);
            }
        }
    }

    pub(crate) fn end_writer(&mut self, id: WriterId) {
        *self.writer_mut(id) = Writer::Ended;
        self.stops_running(id.transaction());
        for (_, key) in self.keys.iter_mut() {
            if let Drain::Waiting(captured) = &mut key.drain {
                captured.prepared.remove(id.transaction());
            }
        }
    }
}
