//! What must always hold, what must stay possible, and what the model must be seen to reach.

use crate::actions::Action;
use crate::keys::{Drain, KeyState, Material, Scope};
use crate::rotator::{Rotator, RotatorId, Step};
use crate::rows::Version;
use crate::state::State;
use crate::writers::Kind;

/// What holds in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// A committed write is never replaced by an older value.
    NoWriteIsLost,
    /// No row, committed or about to be, names a key whose material is not there.
    EveryRowHasItsKey,
    /// Under a key that is marked unused there is no row, and none comes.
    UnusedMeansUnused,
    /// No row is sealed under a key that was not read back and checked first.
    SealedUnderCheckedKeys,
    /// From the report of success to the next switch, every row is under the active key of its scope.
    SuccessMeansDone,
    /// A scope has one active key at most.
    OneActiveKey,
    /// A rotation that is due makes one new key, however often it is killed and taken over.
    OneNewKey,
    /// A statement that begins when its run has lost the lease writes no row.
    FencedOffRunsWriteNothing,
    /// Whatever is read can be opened.
    ReadsOpen,
    /// The foreign key refuses no writer: the drain has always come first.
    NoWriterIsRefused,
}

impl Property {
    pub(crate) const ALL: [Self; 10] = [
        Self::NoWriteIsLost,
        Self::EveryRowHasItsKey,
        Self::UnusedMeansUnused,
        Self::SealedUnderCheckedKeys,
        Self::SuccessMeansDone,
        Self::OneActiveKey,
        Self::OneNewKey,
        Self::FencedOffRunsWriteNothing,
        Self::ReadsOpen,
        Self::NoWriterIsRefused,
    ];

    pub(crate) fn holds(self, state: &State) -> bool {
        let happened = &state.happened;
        match self {
            Self::NoWriteIsLost => state
                .rows()
                .iter()
                .all(|row| row.committed.map_or(0, |version| version.value) == row.acknowledged),
            Self::EveryRowHasItsKey => {
                state.needed_keys().all(|key| state.keys.get(key).material == Material::Sound)
            }
            Self::UnusedMeansUnused => state.needed_keys().all(|key| !state.keys.get(key).unused),
            Self::SealedUnderCheckedKeys => state.needed_keys().all(|key| state.keys.get(key).checked),
            Self::SuccessMeansDone => !happened.success || state.stale_rows().next().is_none(),
            Self::OneActiveKey => [Scope::Shared, Scope::Organization].iter().all(|&scope| {
                let active =
                    state.keys.iter().filter(|(_, key)| key.scope == scope && key.state == KeyState::Active);
                active.count() <= 1
            }),
            Self::OneNewKey => state.keys.switches() <= state.due,
            Self::FencedOffRunsWriteNothing => !happened.fenced_off_write,
            Self::ReadsOpen => !happened.read_failed,
            Self::NoWriterIsRefused => !happened.refused_by_foreign_key,
        }
    }
}

/// Whether a rotation is through: it has reported success, nothing was switched since, and the keys of before are destroyed.
/// From every state this must stay within reach, unless new key material is damaged: then an operator is asked.
pub(crate) fn is_through(state: &State) -> bool {
    let damaged = state.keys.iter().any(|(_, key)| key.material == Material::Damaged);
    damaged || state.happened.success && state.keys.iter().all(|(_, key)| key.state != KeyState::Deactivated)
}

/// What the model must be seen to do, or it would prove little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    KeyDestroyed,
    /// A run took the lease of another process that had been killed.
    TookOverAfterKill,
    /// A run took the lease of a process that was still at work, and that one noticed.
    FencedOff,
    /// A writer that had waited through the switch wrote under the key of before.
    WaitedThroughSwitch,
    /// A writer was prepared after it had been captured.
    PreparedAfterCapture,
    /// Somebody wrote the row between its reading and its swap.
    SwapLost,
    /// A row was swapped while a put with an older snapshot waited, which replaced it.
    PutReplacedSwap,
    /// An update, or a put in REPEATABLE READ, found its row re-encrypted, and wrote nothing.
    ConflictWithSwap,
    /// The statement of a killed process wrote.
    OrphanWrote,
    /// A service finished the key that a killed rotation had left.
    ServiceSwitched,
    DamagedKeyFound,
    /// A row went under its organization's own key.
    MovedToOwnKey,
    /// A reader found the key gone and the row under another one.
    ReaderLookedAgain,
    /// Two switches were waited for at once.
    TwoDrainsAtOnce,
    /// A rotator found, before it reported success, that others had switched.
    SwitchedMeanwhile,
}

impl Reached {
    pub(crate) const ALL: [Self; 15] = [
        Self::KeyDestroyed,
        Self::TookOverAfterKill,
        Self::FencedOff,
        Self::WaitedThroughSwitch,
        Self::PreparedAfterCapture,
        Self::SwapLost,
        Self::PutReplacedSwap,
        Self::ConflictWithSwap,
        Self::OrphanWrote,
        Self::ServiceSwitched,
        Self::DamagedKeyFound,
        Self::MovedToOwnKey,
        Self::ReaderLookedAgain,
        Self::TwoDrainsAtOnce,
        Self::SwitchedMeanwhile,
    ];

    pub(crate) fn by(self, before: &State, action: &Action, after: &State) -> bool {
        let is_active = |key| before.keys.get(key).state == KeyState::Active;
        match (self, *action) {
            (Self::KeyDestroyed, Action::Destroy(_))
            | (Self::FencedOff, Action::LeaseLost(_))
            | (Self::ServiceSwitched, Action::ServiceFinishes(_))
            | (Self::DamagedKeyFound, Action::FoundDamaged(..))
            | (Self::SwitchedMeanwhile, Action::SwitchedMeanwhile(_))
            | (Self::ReaderLookedAgain, Action::ReaderFindsKeyGone) => true,
            (Self::TookOverAfterKill, Action::TakeLease(by, _)) => {
                let is_down = |id: RotatorId| *before.rotator(id) == Rotator::Down;
                before.lease.is_held() && RotatorId::all().all(|id| id == by || is_down(id))
            }
            (Self::WaitedThroughSwitch, Action::Write(_, write)) => !is_active(write.key),
            (Self::PreparedAfterCapture, Action::Prepare(id)) => before.keys.iter().any(|(_, key)| {
                matches!(key.drain, Drain::Waiting(captured) if captured.running.contains(id.transaction()))
            }),
            (Self::SwapLost, Action::SwapLost(id, row)) => {
                before.swap(id).is_some_and(|swap| before.row(row).committed != Some(swap.old))
            }
            (Self::PutReplacedSwap, Action::Commit(_, write)) => {
                let replaced = before.row(write.row).committed;
                write.kind == Kind::Put
                    && !is_active(write.key)
                    && replaced.is_some_and(|version| is_active(version.key))
            }
            (Self::ConflictWithSwap, Action::Conflict(_, write)) => {
                let value = |version: Option<Version>| version.map(|version| version.value);
                value(write.seen) == value(before.row(write.row).committed)
            }
            (Self::OrphanWrote, Action::SwapWrites(id, ..)) => {
                !matches!(before.rotator(id), Rotator::Up(_, Step::AwaitSwap(_)))
            }
            (Self::MovedToOwnKey, Action::SwapWrites(_, _, version)) => {
                before.keys.get(version.key).scope == Scope::Organization
            }
            (Self::TwoDrainsAtOnce, _) => {
                let waits = after.keys.iter().filter(|(_, key)| matches!(key.drain, Drain::Waiting(_)));
                waits.count() == 2
            }
            _ => false,
        }
    }
}
