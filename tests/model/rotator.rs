//! A process that rotates: the protocol, step by step. Between any two steps anybody else may do any of theirs, and the
//! process may be killed, which loses all that its [`Step`] holds.

use std::fmt;

use crate::actions::Action;
use crate::bounds::Also;
use crate::keys::{Captured, Drain, Followed, KeyId, KeySet, KeyState, Material, Scope};
use crate::lease::RunId;
use crate::model::{Model, Steps};
use crate::rows::{ROWS, RowId, Version};
use crate::state::State;
use crate::swap::{self, Guards};
use crate::transactions::{Shown, TransactionId, TransactionSet};
use crate::variants::Variant;
use crate::writers::WRITERS;

/// Two: one that is killed or fenced off, one that takes over.
pub(crate) const ROTATORS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RotatorId(pub(crate) u8);

impl RotatorId {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..ROTATORS as u8).map(Self)
    }

    /// The transaction of its swap statement.
    pub(crate) fn transaction(self) -> TransactionId {
        TransactionId(WRITERS as u8 + self.0)
    }
}

impl fmt::Display for RotatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["rotator A", "rotator B"][usize::from(self.0)])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rotator {
    Down,
    Up(RunId, Step),
}

/// What a rotator does next, and all that it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Draws a key and commits it, pre-active.
    Make,
    /// Reads the committed key back, unwraps it and holds it to its key check.
    ReadBack(KeyId),
    /// Deactivates the key of before and activates this one, in one transaction.
    Switch(KeyId),
    /// Captures what may be older than the switches that have committed: first the transactions with a snapshot …
    Capture,
    /// … then those with an xid. In this order, since a transaction leaves the first group for the second.
    CaptureRest { first: TransactionSet, switched: KeySet },
    /// Reads a row, without a lock.
    Sweep(RowId),
    /// Has opened the row and sealed it anew, and sends the swap.
    Swap { row: RowId, old: Version, new: KeyId },
    /// Waits for the statement.
    AwaitSwap(RowId),
    /// Waits for the captured transactions.
    Drain,
    /// [`Variant::PolledXidFirst`] alone: has looked for those with an xid.
    PollRest { xids: TransactionSet },
    /// Counts the rows; it remembers which keys were drained before.
    Count { drained: KeySet },
    /// Sets `unused_since` of the keys that were drained, and under which no row was counted.
    Mark { unused: KeySet },
    /// Reports success, unless others have switched meanwhile.
    Finish,
}

/// What there is to do, by the database alone: a run that takes over goes on where the one before it was.
fn next_step(model: &Model, state: &State) -> Step {
    if let Some(key) = state.keys.pre_active() {
        match model.variant {
            Variant::NotReadBack => Step::Switch(key),
            _ => Step::ReadBack(key),
        }
    } else if state.keys.switches() < state.due {
        Step::Make
    } else if model.variant != Variant::NoDrain && !state.keys.switched().is_empty() {
        Step::Capture
    } else {
        Step::Sweep(RowId(0))
    }
}

/// All that rotators may do next.
pub(crate) fn steps(model: &Model, state: &State, steps: &mut Steps) {
    for id in RotatorId::all() {
        match *state.rotator(id) {
            Rotator::Down => take_lease(model, state, id, steps),
            Rotator::Up(run, step) => {
                Turn { model, state, id, run }.step(step, steps);
                // The last run is left to end, and one that lost its lease ends by itself.
                if state.lease.is_held_by(run) && model.another_run_may_come(state) {
                    steps.add(Action::Killed(id), state, |next| *next.rotator_mut(id) = Rotator::Down);
                }
            }
        }
    }
}

fn take_lease(model: &Model, state: &State, id: RotatorId, steps: &mut Steps) {
    // The two are alike, so let A begin. A killed process's statement keeps its place: only the other one goes on.
    let may_begin = (id == RotatorId(0) || state.lease.runs() > 0) && state.swap(id).is_none();
    if may_begin && model.another_run_may_come(state) {
        let mut taken = *state;
        let run = taken.lease.take();
        if model.variant == Variant::CapturedForAnotherSwitch {
            take_set_for_all(&mut taken);
        }
        let step = next_step(model, &taken);
        steps.add(Action::TakeLease(id, run), &taken, |next| *next.rotator_mut(id) = Rotator::Up(run, step));
    }
}

fn take_set_for_all(state: &mut State) {
    let set = state.keys.iter().map(|(_, key)| key.drain).find(|drain| matches!(drain, Drain::Waiting(_)));
    let switched = state.keys.switched();
    for (_, key) in state.keys.iter_mut().filter(|(id, _)| switched.contains(*id)) {
        key.drain = set.unwrap_or(key.drain);
    }
}

/// The switch, by whoever makes it. What was counted before, and reported, says nothing of what comes after.
pub(crate) fn switch(state: &mut State, to: KeyId) {
    state.keys.switch(to);
    (state.happened.counted, state.happened.success) = (false, false);
}

/// A rotator's turn.
#[derive(Clone, Copy)]
struct Turn<'m> {
    model: &'m Model,
    state: &'m State,
    id: RotatorId,
    run: RunId,
}

impl Turn<'_> {
    fn go(self, next: &mut State, step: Step) {
        *next.rotator_mut(self.id) = Rotator::Up(self.run, step);
    }

    fn go_on(self, next: &mut State) {
        let step = next_step(self.model, next);
        self.go(next, step);
    }

    /// Whether the step's statement asks for the lease; if it holds it, it locks the run's row, so that no other run
    /// begins before it has committed. The swap asks by itself. What else there is needs no lease: it reads, or writes
    /// what is true whoever says it.
    fn is_fenced(self, step: Step) -> bool {
        match step {
            Step::Make => !matches!(self.model.variant, Variant::SwitchNotFenced | Variant::MakeNotFenced),
            Step::Switch(_) => self.model.variant != Variant::SwitchNotFenced,
            Step::CaptureRest { .. } | Step::Finish => true,
            _ => false,
        }
    }

    fn step(self, step: Step, steps: &mut Steps) {
        if self.is_fenced(step) && !self.state.lease.is_held_by(self.run) {
            self.lease_lost(steps);
            return;
        }
        match step {
            Step::Make => self.make(steps),
            Step::ReadBack(key) => self.read_back(key, steps),
            Step::Switch(key) => self.switch(key, steps),
            Step::Capture => self.capture(steps),
            Step::CaptureRest { first, switched } => self.capture_rest(first, switched, steps),
            Step::Sweep(row) => self.sweep(row, steps),
            Step::Swap { row, old, new } => self.swap(row, old, new, steps),
            // The end of the statement is a step of the server's.
            Step::AwaitSwap(_) => {}
            Step::Drain => self.drain(steps),
            Step::PollRest { xids } => self.poll_rest(xids, steps),
            Step::Count { drained } => self.count(drained, steps),
            Step::Mark { unused } => self.mark(unused, steps),
            Step::Finish => self.finish(steps),
        }
    }

    fn lease_lost(self, steps: &mut Steps) {
        let Self { state, id, .. } = self;
        steps.add(Action::LeaseLost(id), state, |next| *next.rotator_mut(id) = Rotator::Down);
    }

    fn make(self, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        if state.keys.pre_active().is_some() {
            // A scope has one at most; it is taken instead.
            steps.add(Action::FoundPreActive(id), state, |next| self.go_on(next));
        } else if state.keys.have_room() {
            let materials = [Material::Sound, Material::Damaged];
            let possible = if model.bounds.lets(Also::DamagedMaterial) { 2 } else { 1 };
            for &material in &materials[..possible] {
                steps.add(Action::Make(id, material), state, |next| {
                    next.keys.insert(Scope::Shared, material);
                    self.go_on(next);
                });
            }
        }
    }

    fn read_back(self, key: KeyId, steps: &mut Steps) {
        let Self { model, state, id, run } = self;
        if state.keys.get(key).material == Material::Damaged {
            steps.add(Action::FoundDamaged(id, key), state, |next| {
                *next.rotator_mut(id) = Rotator::Down;
                if next.lease.is_held_by(run) {
                    next.lease.finish();
                }
            });
            return;
        }
        steps.add(Action::ReadBack(id, key), state, |next| {
            let key_row = next.keys.get_mut(key);
            key_row.checked = true;
            let captures_first =
                model.variant == Variant::CapturedBeforeCommit && key_row.drain == Drain::NotCaptured;
            self.go(next, if captures_first { Step::Capture } else { Step::Switch(key) });
        });
    }

    fn switch(self, key: KeyId, steps: &mut Steps) {
        let Self { state, id, .. } = self;
        if state.keys.get(key).state == KeyState::PreActive {
            steps.add(Action::Switch(id, key), state, |next| {
                switch(next, key);
                self.go_on(next);
            });
        } else {
            steps.add(Action::SwitchedAlready(id, key), state, |next| self.go_on(next));
        }
    }

    fn capture(self, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        let first = match model.variant {
            Variant::CapturedXidFirst => state.transactions(Shown::has_xid),
            Variant::CapturedByXid => TransactionSet::default(),
            _ => state.transactions(Shown::has_snapshot),
        };
        // Settled before the first look: one that is switched while this looks waits for another capture.
        let switched = match (model.variant, state.keys.pre_active()) {
            (Variant::CapturedBeforeCommit, Some(key)) => KeySet::from_iter([key]),
            _ => state.keys.switched(),
        };
        steps.add(Action::CaptureFirst(id), state, |next| {
            self.go(next, Step::CaptureRest { first, switched });
        });
    }

    fn capture_rest(self, first: TransactionSet, switched: KeySet, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        let rest = match model.variant {
            Variant::CapturedXidFirst => state.transactions(Shown::has_snapshot),
            _ => state.transactions(Shown::has_xid),
        };
        let captured = Captured {
            // Those of the first look that have ended since are not waited for.
            running: first.union(rest).intersection(state.transactions(Shown::is_running)),
            prepared: state.transactions(Shown::is_prepared),
            followed: Followed::NotYet,
        };
        steps.add(Action::CaptureSecond(id), state, |next| {
            for (_, key) in next.keys.iter_mut().filter(|(id, _)| switched.contains(*id)) {
                if key.drain == Drain::NotCaptured {
                    key.drain = Drain::Waiting(captured);
                }
            }
            self.go_on(next);
        });
    }

    fn sweep(self, row: RowId, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        let new = state.keys.active(state.row(row).scope);
        let step = match state.row(row).committed {
            Some(old) if old.key != new => Step::Swap { row, old, new },
            _ => after_row(model, row),
        };
        steps.add(Action::Read(id, row), state, |next| self.go(next, step));
    }

    fn swap(self, row: RowId, old: Version, new: KeyId, steps: &mut Steps) {
        let Self { model, state, id, run } = self;
        match swap::begin(model, state, run, row, old, new) {
            Guards::Hold(swap) => steps.add(Action::BeginSwap(id, swap), state, |next| {
                *next.swap_mut(id) = Some(swap);
                self.go(next, Step::AwaitSwap(row));
            }),
            Guards::LeaseLost => self.lease_lost(steps),
            Guards::KeyNotActive => steps.add(Action::KeyNotActive(id, row), state, |next| {
                self.go(next, after_row(model, row));
            }),
        }
    }

    /// Polls; sweeps meanwhile, if there is something to do.
    fn drain(self, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        let mut waits = false;
        for (key, key_row) in state.keys.iter() {
            let Drain::Waiting(captured) = key_row.drain else { continue };
            waits = true;
            if captured.is_to_follow(model.variant) {
                let prepared = captured.prepared.union(state.transactions(Shown::is_prepared));
                let captured = Captured { prepared, followed: Followed::Yes, ..captured };
                steps.add(Action::Follow(id, key), state, |next| {
                    next.keys.get_mut(key).drain = Drain::Waiting(captured);
                });
            } else if captured.have_ended() {
                steps.add(Action::Drained(id, key), state, |next| {
                    next.keys.get_mut(key).drain = Drain::Ended;
                });
            }
        }
        if !waits {
            let drained = match model.variant {
                Variant::NoDrain => state.keys.deactivated(),
                _ => state.keys.drained(),
            };
            let step = match model.variant {
                Variant::CountedBeforeDrained => Step::Mark { unused: drained },
                _ => Step::Count { drained },
            };
            steps.add(Action::NothingToWaitFor(id), state, |next| self.go(next, step));
        } else if state.stale_rows().next().is_some() {
            steps.add(Action::SweepAgain(id), state, |next| self.go(next, Step::Sweep(RowId(0))));
        }
        if waits && model.variant == Variant::PolledXidFirst {
            let xids = state.transactions(Shown::has_xid);
            steps.add(Action::PollFirst(id), state, |next| self.go(next, Step::PollRest { xids }));
        }
    }

    fn poll_rest(self, xids: TransactionSet, steps: &mut Steps) {
        let Self { state, id, .. } = self;
        let shown = xids.union(state.transactions(Shown::has_snapshot));
        steps.add(Action::PollSecond(id), state, |next| {
            for (_, key) in next.keys.iter_mut() {
                if let Drain::Waiting(captured) = &mut key.drain {
                    captured.running = captured.running.intersection(shown);
                }
            }
            self.go(next, Step::Drain);
        });
    }

    fn count(self, drained: KeySet, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        if state.stale_rows().next().is_some() {
            steps.add(Action::CountStale(id), state, |next| self.go_on(next));
            return;
        }
        let is_unused = |id: &KeyId| drained.contains(*id) && state.committed().all(|row| row.key != *id);
        let unused = state.keys.iter().map(|(id, _)| id).filter(is_unused).collect();
        let step = match model.variant {
            Variant::CountedBeforeDrained => Step::Drain,
            _ => Step::Mark { unused },
        };
        steps.add(Action::CountNone(id), state, |next| {
            next.happened.counted = true;
            self.go(next, step);
        });
    }

    fn mark(self, unused: KeySet, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        let unused = match model.variant {
            Variant::MarkedAsDrainedLater => state.keys.drained(),
            _ => unused,
        };
        steps.add(Action::Mark(id), state, |next| {
            for (_, key) in next.keys.iter_mut().filter(|(id, _)| unused.contains(*id)) {
                key.unused |= key.state == KeyState::Deactivated;
            }
            self.go(next, Step::Finish);
        });
    }

    fn finish(self, steps: &mut Steps) {
        let Self { model, state, id, .. } = self;
        let ignored = matches!(model.variant, Variant::NoDrain | Variant::SwitchMeanwhileIgnored);
        if ignored || state.keys.switched().is_empty() {
            steps.add(Action::Success(id), state, |next| {
                *next.rotator_mut(id) = Rotator::Down;
                next.lease.finish();
                next.happened.success = next.happened.counted;
            });
        } else {
            steps.add(Action::SwitchedMeanwhile(id), state, |next| self.go_on(next));
        }
    }
}

/// Where a sweep goes on after a row.
fn after_row(model: &Model, row: RowId) -> Step {
    let row = RowId(row.0 + 1);
    match model.variant {
        _ if usize::from(row.0) < ROWS => Step::Sweep(row),
        Variant::CountedBeforeDrained => Step::Count { drained: KeySet::default() },
        _ => Step::Drain,
    }
}

/// The rotator that waited for a statement, if it still does, goes on with the next row.
pub(crate) fn swap_ended(model: &Model, state: &mut State, id: RotatorId) {
    if let Rotator::Up(run, Step::AwaitSwap(row)) = *state.rotator(id) {
        *state.rotator_mut(id) = Rotator::Up(run, after_row(model, row));
    }
}
