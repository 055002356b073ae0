//! The protocol holds, within bounds.

use crate::bounds::{Also, Bounds, RowsAtFirst, TwoPhase};
use crate::checker::{explore, told};
use crate::model::Model;
use crate::properties::Reached;
use crate::variants::Variant;
use crate::writers::Kind;
use crate::{assert_page_says, with_commas};

/// What is tried.
struct Case {
    /// As the manual's table has it.
    name: &'static str,
    /// With every test run.
    bounds: Bounds,
    /// On demand.
    wide: Bounds,
    /// What it is there for: the model is seen to do it.
    reaches: &'static [Reached],
}

/// A writer of each kind that asks another question, beside one rotation that may be killed once.
const ONE_OF_EACH: Bounds = Bounds {
    writers: 1,
    kinds: &[Kind::Put, Kind::PutInRepeatableRead],
    two_phase: TwoPhase::Allowed,
    runs: 2,
    rotations: 1,
    rows: RowsAtFirst::OneThereOneNot,
    also: &[],
};

const BESIDE_WRITERS: Case = Case {
    name: "beside writers",
    bounds: Bounds {
        writers: 2,
        kinds: &[Kind::Put, Kind::PutInRepeatableRead, Kind::Update],
        ..ONE_OF_EACH
    },
    wide: Bounds { writers: 3, ..ONE_OF_EACH },
    reaches: &[
        Reached::KeyDestroyed,
        Reached::TookOverAfterKill,
        Reached::FencedOff,
        Reached::WaitedThroughSwitch,
        Reached::PreparedAfterCapture,
        Reached::SwapLost,
        Reached::PutReplacedSwap,
        Reached::ConflictWithSwap,
        Reached::OrphanWrote,
    ],
};

const OWN_KEY: Case = Case {
    name: "an organization's own key",
    bounds: Bounds { rows: RowsAtFirst::SecondOfOrganization, ..ONE_OF_EACH },
    wide: Bounds { writers: 2, rows: RowsAtFirst::SecondOfOrganization, ..ONE_OF_EACH },
    reaches: &[Reached::MovedToOwnKey, Reached::TwoDrainsAtOnce, Reached::SwitchedMeanwhile],
};

const TWO_ROTATIONS: Case = Case {
    name: "two rotations",
    bounds: Bounds { runs: 3, rotations: 2, ..ONE_OF_EACH },
    wide: Bounds { writers: 2, kinds: &[Kind::Put], runs: 3, rotations: 2, ..ONE_OF_EACH },
    reaches: &[Reached::TwoDrainsAtOnce],
};

const BESIDE_OTHERS: Case = Case {
    name: "beside others",
    bounds: Bounds { also: &[Also::ServiceStarts, Also::DamagedMaterial, Also::Reader], ..ONE_OF_EACH },
    wide: Bounds {
        runs: 3,
        rotations: 2,
        also: &[Also::ServiceStarts, Also::DamagedMaterial, Also::Reader],
        ..ONE_OF_EACH
    },
    reaches: &[Reached::ServiceSwitched, Reached::DamagedKeyFound, Reached::ReaderLookedAgain],
};

const ALL: [Case; 4] = [BESIDE_WRITERS, OWN_KEY, TWO_ROTATIONS, BESIDE_OTHERS];

#[test]
fn two_writers_lose_nothing_to_a_rotation_that_is_killed_and_taken_over() {
    holds(&BESIDE_WRITERS);
}

#[test]
fn a_key_of_its_own_is_a_switch_like_any_other() {
    holds(&OWN_KEY);
}

#[test]
fn each_of_two_rotations_waits_for_its_own_switch() {
    holds(&TWO_ROTATIONS);
}

#[test]
fn a_service_that_starts_a_damaged_key_and_a_slow_reader_do_no_harm() {
    holds(&BESIDE_OTHERS);
}

#[test]
fn all_that_is_to_be_reached_is_asked_of_some_case() {
    for what in Reached::ALL {
        assert!(ALL.iter().any(|case| case.reaches.contains(&what)), "nobody asks for {what:?}");
    }
}

/// Tries all interleavings: every property holds in each state, each can still come to its end, and what the case is
/// there for happens.
fn holds(case: &Case) {
    let bounds = match std::env::var("CREDVAULT_MODEL").as_deref() {
        Err(_) => case.bounds,
        Ok("wide") => case.wide,
        Ok(other) => panic!("CREDVAULT_MODEL is {other}: it may be wide, or unset"),
    };
    let found = explore(&Model { variant: Variant::Protocol, bounds });
    println!(
        "{}: {} states, {} steps between them, the farthest after {}",
        case.name,
        with_commas(found.states),
        with_commas(found.steps),
        found.depth
    );
    if let Some(broken) = found.broken {
        panic!("{:?} does not hold:\n{}", broken.property, told(&broken.path));
    }
    if let Some(path) = found.stuck {
        panic!("from here no rotation can be brought to its end:\n{}", told(&path));
    }
    for what in case.reaches {
        assert!(!found.not_reached.contains(what), "the model never gets to {what:?}");
    }
    assert_page_says(case.name, found.states);
}
