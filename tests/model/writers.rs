//! The application's transactions: put and update, and what they may become.

use std::fmt;

use crate::actions::Action;
use crate::bounds::TwoPhase;
use crate::keys::{KeyId, KeyState, Material};
use crate::model::{Model, Steps};
use crate::rows::{RowId, Version};
use crate::state::State;
use crate::transactions::{Shown, TransactionId};
use crate::variants::Variant;

/// The most writers of a run of the model.
pub(crate) const WRITERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WriterId(pub(crate) u8);

impl WriterId {
    pub(crate) fn transaction(self) -> TransactionId {
        TransactionId(self.0)
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer {}", self.0 + 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// `INSERT … SELECT … WHERE guard ON CONFLICT DO UPDATE` in READ COMMITTED: the guard is evaluated in the statement's
    /// snapshot; then it waits for the row's lock, and writes whatever the row holds by now.
    Put,
    /// The same in REPEATABLE READ: refused if the row changed since the transaction's snapshot.
    PutInRepeatableRead,
    /// `UPDATE … WHERE revision AND guard` in READ COMMITTED: writes nothing if the row changed.
    Update,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "a put",
            Self::PutInRepeatableRead => "a put in REPEATABLE READ",
            Self::Update => "an update",
        })
    }
}

/// A write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) kind: Kind,
    pub(crate) row: RowId,
    /// The key that it is sealed under.
    pub(crate) key: KeyId,
    /// What the row held in the snapshot; only for those that ask whether it changed.
    pub(crate) seen: Option<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Writer {
    NotBegun,
    /// It has its snapshot, in which the guard held, and no xid; perhaps it waits for the row's lock.
    Waiting(Write),
    /// It has an xid and the row's lock; nobody sees yet what it wrote.
    Wrote(Write),
    Prepared(Write),
    Ended,
}

impl Writer {
    /// The write that this transaction has the row locked for.
    pub(crate) fn written(&self) -> Option<&Write> {
        match self {
            Self::Wrote(write) | Self::Prepared(write) => Some(write),
            _ => None,
        }
    }

    pub(crate) fn shown(&self) -> Shown {
        match self {
            Self::NotBegun | Self::Ended => Shown::Nothing,
            Self::Waiting(_) => Shown::Snapshot,
            Self::Wrote(write) if write.kind == Kind::PutInRepeatableRead => Shown::SnapshotAndXid,
            Self::Wrote(_) => Shown::Xid,
            Self::Prepared(_) => Shown::Prepared,
        }
    }
}

/// All that writers may do next.
pub(crate) fn steps(model: &Model, state: &State, steps: &mut Steps) {
    let mut earlier_have_begun = true;
    for id in (0..model.bounds.writers as u8).map(WriterId) {
        match *state.writer(id) {
            Writer::NotBegun => {
                // They are alike, so let them begin in order.
                if earlier_have_begun {
                    begin(model, state, id, steps);
                    if model.variant == Variant::SnapshotsImported {
                        import(state, id, steps);
                    }
                }
                earlier_have_begun = false;
            }
            Writer::Waiting(write) => self::write(model, state, id, write, steps),
            Writer::Wrote(write) => {
                finish(state, id, write, steps);
                if model.bounds.two_phase == TwoPhase::Allowed {
                    steps.add(Action::Prepare(id), state, |next| {
                        *next.writer_mut(id) = Writer::Prepared(write);
                        next.stops_running(id.transaction());
                    });
                }
            }
            Writer::Prepared(write) => finish(state, id, write, steps),
            Writer::Ended => {}
        }
    }
}

/// Takes the snapshot and asks in it whether the key is the active one of the row's scope. A keyring may be out of date;
/// where the guard doesn't hold nothing is written, and nothing has happened.
fn begin(model: &Model, state: &State, id: WriterId, steps: &mut Steps) {
    for row in RowId::all() {
        let (scope, committed) = (state.row(row).scope, state.row(row).committed);
        for (key, believed) in state.keys.iter() {
            let passes = match model.variant {
                Variant::PutWithoutGuard => {
                    matches!(believed.state, KeyState::Active | KeyState::Deactivated)
                }
                _ => key == state.keys.active(scope),
            };
            if !passes {
                continue;
            }
            for &kind in model.bounds.kinds {
                if kind == Kind::Update && committed.is_none() {
                    continue;
                }
                let seen = if kind == Kind::Put { None } else { committed };
                let write = Write { kind, row, key, seen };
                steps.add(Action::Begin(id, write), state, |next| {
                    *next.writer_mut(id) = Writer::Waiting(write);
                });
            }
        }
    }
}

/// Begins with the snapshot of a transaction that still runs.
fn import(state: &State, id: WriterId, steps: &mut Steps) {
    for other in state.writers() {
        if let Writer::Waiting(write) | Writer::Wrote(write) = *other
            && write.kind == Kind::PutInRepeatableRead
        {
            steps.add(Action::Import(id, write), state, |next| *next.writer_mut(id) = Writer::Waiting(write));
        }
    }
}

/// Gets the row's lock and writes. A put in READ COMMITTED does not look at the guard again.
fn write(model: &Model, state: &State, id: WriterId, write: Write, steps: &mut Steps) {
    if state.is_locked(write.row) {
        return;
    }
    if write.kind != Kind::Put && state.row(write.row).committed != write.seen {
        steps.add(Action::Conflict(id, write), state, |next| next.end_writer(id));
    } else if state.keys.get(write.key).material == Material::Gone && model.variant != Variant::StateColumn {
        steps.add(Action::RefusedByForeignKey(id), state, |next| {
            next.end_writer(id);
            next.happened.refused_by_foreign_key = true;
        });
    } else {
        steps.add(Action::Write(id, write), state, |next| *next.writer_mut(id) = Writer::Wrote(write));
    }
}

/// Commits or rolls back; a prepared one by whoever comes.
fn finish(state: &State, id: WriterId, write: Write, steps: &mut Steps) {
    steps.add(Action::Commit(id, write), state, |next| {
        let row = next.row_mut(write.row);
        row.acknowledged += 1;
        row.committed = Some(Version { value: row.acknowledged, key: write.key });
        next.end_writer(id);
    });
    steps.add(Action::RollBack(id), state, |next| next.end_writer(id));
}
