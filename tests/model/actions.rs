//! The steps by name, as a counterexample tells them.

use std::fmt;

use crate::keys::{KeyId, Material};
use crate::lease::RunId;
use crate::rotator::RotatorId;
use crate::rows::{RowId, Version};
use crate::swap::Swap;
use crate::writers::{Write, WriterId};

/// A step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(WriterId, Write),
    Import(WriterId, Write),
    Write(WriterId, Write),
    Conflict(WriterId, Write),
    RefusedByForeignKey(WriterId),
    Prepare(WriterId),
    Commit(WriterId, Write),
    RollBack(WriterId),

    TakeLease(RotatorId, RunId),
    Killed(RotatorId),
    LeaseLost(RotatorId),
    Make(RotatorId, Material),
    FoundPreActive(RotatorId),
    ReadBack(RotatorId, KeyId),
    FoundDamaged(RotatorId, KeyId),
    Switch(RotatorId, KeyId),
    SwitchedAlready(RotatorId, KeyId),
    CaptureFirst(RotatorId),
    CaptureSecond(RotatorId),
    Read(RotatorId, RowId),
    BeginSwap(RotatorId, Swap),
    KeyNotActive(RotatorId, RowId),
    SwapWrites(RotatorId, RowId, Version),
    SwapLost(RotatorId, RowId),
    SwapAborted(RotatorId),
    Follow(RotatorId, KeyId),
    Drained(RotatorId, KeyId),
    PollFirst(RotatorId),
    PollSecond(RotatorId),
    NothingToWaitFor(RotatorId),
    SweepAgain(RotatorId),
    CountNone(RotatorId),
    CountStale(RotatorId),
    Mark(RotatorId),
    Success(RotatorId),
    SwitchedMeanwhile(RotatorId),

    BecomesDue,
    OwnKey(KeyId),
    ServiceFinishes(KeyId),
    Destroy(KeyId),
    ReaderReads(RowId, Version),
    ReaderOpens,
    ReaderFindsKeyGone,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(id, write) => {
                write!(
                    f,
                    "{id}: {} of {} takes its snapshot; {} is active in it",
                    write.kind, write.row, write.key
                )
            }
            Self::Import(id, write) => {
                write!(
                    f,
                    "{id}: {} of {} imports a snapshot; {} is active in it",
                    write.kind, write.row, write.key
                )
            }
            Self::Write(id, write) => write!(f, "{id}: locks {} and writes under {}", write.row, write.key),
            Self::Conflict(id, write) => write!(f, "{id}: {} has changed; nothing is written", write.row),
            Self::RefusedByForeignKey(id) => write!(f, "{id}: refused by the foreign key"),
            Self::Prepare(id) => write!(f, "{id}: PREPARE TRANSACTION"),
            Self::Commit(id, write) => write!(f, "{id}: commits {} under {}", write.row, write.key),
            Self::RollBack(id) => write!(f, "{id}: rolls back"),

            Self::TakeLease(id, run) => write!(f, "{id}: takes the lease, as {run}"),
            Self::Killed(id) => write!(f, "{id}: is killed"),
            Self::LeaseLost(id) => write!(f, "{id}: finds its lease lost, and ends"),
            Self::Make(id, Material::Sound) => write!(f, "{id}: commits a new key, pre-active"),
            Self::Make(id, _) => write!(f, "{id}: commits a new key, pre-active; it is stored damaged"),
            Self::FoundPreActive(id) => write!(f, "{id}: finds a pre-active key"),
            Self::ReadBack(id, key) => write!(f, "{id}: reads {key} back and checks it"),
            Self::FoundDamaged(id, key) => write!(f, "{id}: finds {key} damaged, and ends"),
            Self::Switch(id, key) => write!(f, "{id}: switches to {key}"),
            Self::SwitchedAlready(id, key) => write!(f, "{id}: finds {key} active already"),
            Self::CaptureFirst(id) => write!(f, "{id}: captures, first look"),
            Self::CaptureSecond(id) => write!(f, "{id}: captures, second look; the set is stored"),
            Self::Read(id, row) => write!(f, "{id}: reads {row}"),
            Self::BeginSwap(id, Swap { row, old, new, .. }) => {
                write!(f, "{id}: sends the swap of {row} from {old} to {new}")
            }
            Self::KeyNotActive(id, row) => write!(f, "{id}: the key for {row} is no longer the active one"),
            Self::SwapWrites(id, row, new) => write!(f, "{id}: the swap writes {row}: {new}"),
            Self::SwapLost(id, row) => write!(f, "{id}: the swap gives way at {row}"),
            Self::SwapAborted(id) => write!(f, "{id}: the killed process's swap is rolled back"),
            Self::Follow(id, key) => write!(f, "{id}: drain of {key}: looks at the prepared transactions"),
            Self::Drained(id, key) => write!(f, "{id}: drain of {key}: all have ended"),
            Self::PollFirst(id) => write!(f, "{id}: polls, looks for xids"),
            Self::PollSecond(id) => write!(f, "{id}: polls, looks for snapshots"),
            Self::NothingToWaitFor(id) => write!(f, "{id}: nothing is left to wait for"),
            Self::SweepAgain(id) => write!(f, "{id}: sweeps while it waits"),
            Self::CountNone(id) => write!(f, "{id}: counts no stale row"),
            Self::CountStale(id) => write!(f, "{id}: counts stale rows, and sweeps again"),
            Self::Mark(id) => write!(f, "{id}: marks the key unused"),
            Self::Success(id) => write!(f, "{id}: reports success"),
            Self::SwitchedMeanwhile(id) => write!(f, "{id}: finds that others have switched"),

            Self::BecomesDue => write!(f, "another rotation becomes due"),
            Self::OwnKey(key) => write!(f, "the organization gets a key of its own, {key}"),
            Self::ServiceFinishes(key) => {
                write!(f, "a service starts, and switches to {key}, left pre-active")
            }
            Self::Destroy(key) => write!(f, "{key} is destroyed"),
            Self::ReaderReads(row, version) => write!(f, "reader: reads {row}, {version}"),
            Self::ReaderOpens => write!(f, "reader: opens it"),
            Self::ReaderFindsKeyGone => write!(f, "reader: finds the key gone"),
        }
    }
}
