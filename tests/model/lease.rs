//! The lease of a run: the row in `vault_rotation_runs` that is not finished.

use std::fmt;

/// A run's number, which fences off a run that lost its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunId(pub(crate) u8);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.0)
    }
}

/// The last run, and whether it is finished. A lease expires whenever another process says so: no clock is in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    last: RunId,
    finished: bool,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self { last: RunId(0), finished: true }
    }

    /// Starts a run, after ending one whose lease has expired.
    pub(crate) fn take(&mut self) -> RunId {
        *self = Self { last: RunId(self.last.0 + 1), finished: false };
        self.last
    }

    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    pub(crate) fn is_held_by(&self, run: RunId) -> bool {
        self.last == run && !self.finished
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.finished
    }

    /// How many runs there were.
    pub(crate) fn runs(&self) -> u8 {
        self.last.0
    }
}
