//! The model: a protocol, and how much is let happen.

use crate::actions::Action;
use crate::bounds::Bounds;
use crate::state::State;
use crate::variants::Variant;
use crate::{operator, reader, rotator, swap, writers};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) variant: Variant,
    pub(crate) bounds: Bounds,
}

/// The steps that lead out of a state, with the states that they lead to.
#[derive(Default)]
pub(crate) struct Steps(Vec<(Action, State)>);

impl Steps {
    pub(crate) fn add(&mut self, action: Action, state: &State, change: impl FnOnce(&mut State)) {
        let mut next = *state;
        change(&mut next);
        self.0.push((action, next));
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Action, State)> {
        self.0.drain(..)
    }
}

impl Model {
    pub(crate) fn first(&self) -> State {
        State::new(&self.bounds)
    }

    /// All that may happen next.
    pub(crate) fn steps(&self, state: &State, steps: &mut Steps) {
        writers::steps(self, state, steps);
        rotator::steps(self, state, steps);
        swap::steps(self, state, steps);
        operator::steps(self, state, steps);
        reader::steps(self, state, steps);
    }

    pub(crate) fn another_run_may_come(&self, state: &State) -> bool {
        state.lease.runs() < self.bounds.runs
    }
}
