//! The compare-and-swap statement of a rotation, one row a page. It is a transaction of its own, with a snapshot, and the
//! server executes it to its end even when the process that sent it is killed.

use crate::actions::Action;
use crate::keys::KeyId;
use crate::lease::RunId;
use crate::model::{Model, Steps};
use crate::rotator::{self, Rotator, RotatorId, Step};
use crate::rows::{RowId, Version};
use crate::state::State;
use crate::variants::Variant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Swap {
    pub(crate) row: RowId,
    /// The stored text that was opened.
    pub(crate) old: Version,
    /// The key that it was sealed under anew.
    pub(crate) new: KeyId,
    /// Not in the database: whether the run had lost its lease in the statement's snapshot.
    pub(crate) fenced_off: bool,
}

/// What the statement's guards say in its snapshot.
pub(crate) enum Guards {
    Hold(Swap),
    LeaseLost,
    KeyNotActive,
}

/// Takes the statement's snapshot.
pub(crate) fn begin(
    model: &Model,
    state: &State,
    run: RunId,
    row: RowId,
    old: Version,
    new: KeyId,
) -> Guards {
    let fenced_off = !state.lease.is_held_by(run);
    if fenced_off && model.variant != Variant::SwapNotFenced {
        Guards::LeaseLost
    } else if new != state.keys.active(state.row(row).scope) {
        Guards::KeyNotActive
    } else {
        Guards::Hold(Swap { row, old, new, fenced_off })
    }
}

/// What the statements under way may do next: write and commit, or give way to whoever has or had the row.
pub(crate) fn steps(model: &Model, state: &State, steps: &mut Steps) {
    for id in RotatorId::all() {
        let Some(&Swap { row, old, new, fenced_off }) = state.swap(id) else { continue };
        let locked = state.is_locked(row);
        let gives_way = match model.variant {
            // An UPDATE without SKIP LOCKED waits, and then overwrites.
            Variant::ReadThenWrite if locked => continue,
            Variant::ReadThenWrite => false,
            _ => locked || state.row(row).committed != Some(old),
        };
        if gives_way {
            steps.add(Action::SwapLost(id, row), state, |next| end(model, next, id));
        } else {
            let version = Version { value: old.value, key: new };
            steps.add(Action::SwapWrites(id, row, version), state, |next| {
                next.row_mut(row).committed = Some(version);
                next.happened.fenced_off_write |= fenced_off;
                end(model, next, id);
            });
        }
        if !matches!(state.rotator(id), Rotator::Up(_, Step::AwaitSwap(_))) {
            steps.add(Action::SwapAborted(id), state, |next| end(model, next, id));
        }
    }
}

/// The statement has ended, and its rotator, if there still is one, goes on with the next row.
fn end(model: &Model, state: &mut State, id: RotatorId) {
    *state.swap_mut(id) = None;
    state.stops_running(id.transaction());
    rotator::swap_ended(model, state, id);
}
