//! How much happens in a run of the model: all interleavings of it are tried.

use crate::writers::Kind;

/// The most that is let happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Transactions of the application, each of which writes one row once.
    pub(crate) writers: usize,
    /// What they may be.
    pub(crate) kinds: &'static [Kind],
    /// Whether a writer may be prepared, to be committed by somebody later.
    pub(crate) two_phase: TwoPhase,
    /// Runs of the rotation, by two processes; every one but the last may be killed or lose its lease at any step.
    pub(crate) runs: u8,
    /// Rotations that become due.
    pub(crate) rotations: usize,
    pub(crate) rows: RowsAtFirst,
    /// What else may happen.
    pub(crate) also: &'static [Also],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TwoPhase {
    Never,
    Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowsAtFirst {
    /// One is there, one is not, both in the shared scope.
    OneThereOneNot,
    /// Both are there; the second is of an organization that may get a key of its own.
    SecondOfOrganization,
}

/// What may happen once in a run of the model, besides writers and rotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Also {
    /// A service starts and finishes the key that a killed rotation left pre-active; it has no lease.
    ServiceStarts,
    /// New key material may be stored damaged.
    DamagedMaterial,
    /// A service reads a row, and opens it later.
    Reader,
}

impl Bounds {
    pub(crate) fn lets(&self, also: Also) -> bool {
        self.also.contains(&also)
    }
}
