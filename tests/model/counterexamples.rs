//! Without any one of its parts the protocol breaks, and the model finds how.

use crate::assert_page_says;
use crate::bounds::{Also, Bounds, RowsAtFirst, TwoPhase};
use crate::checker::{explore, told};
use crate::model::Model;
use crate::properties::Property;
use crate::variants::Variant;
use crate::writers::Kind;

/// One put beside one rotation that is left to end: enough for most.
const ONE_PUT: Bounds = Bounds {
    writers: 1,
    kinds: &[Kind::Put],
    two_phase: TwoPhase::Never,
    runs: 1,
    rotations: 1,
    rows: RowsAtFirst::OneThereOneNot,
    also: &[],
};

const TWO_RUNS: Bounds = Bounds { runs: 2, ..ONE_PUT };
const TWO_ROTATIONS: Bounds = Bounds { rotations: 2, ..TWO_RUNS };
const WITH_PREPARED: Bounds = Bounds { two_phase: TwoPhase::Allowed, ..ONE_PUT };
const WITH_ORGANIZATION: Bounds = Bounds { rows: RowsAtFirst::SecondOfOrganization, ..ONE_PUT };
const WITH_READER: Bounds = Bounds { also: &[Also::Reader], ..ONE_PUT };
const TWO_IN_REPEATABLE_READ: Bounds = Bounds { writers: 2, kinds: &[Kind::PutInRepeatableRead], ..ONE_PUT };

/// Tests that a variant, within bounds, breaks a property, and no other sooner.
macro_rules! counterexamples {
    ($($claim:ident: $variant:ident, $bounds:ident, $property:ident;)+) => {$(
        #[test]
        fn $claim() {
            breaks(Variant::$variant, $bounds, Property::$property);
        }
    )+};
}

counterexamples!(
    reading_and_then_writing_loses_a_put: ReadThenWrite, ONE_PUT, NoWriteIsLost;
    a_put_without_the_guard_follows_an_old_keyring: PutWithoutGuard, ONE_PUT, UnusedMeansUnused;
    without_a_drain_a_waiting_put_comes_late: NoDrain, ONE_PUT, UnusedMeansUnused;
    a_capture_by_xid_overlooks_a_waiting_put: CapturedByXid, ONE_PUT, UnusedMeansUnused;
    a_capture_that_reads_the_xid_first_overlooks_a_put_that_begins_to_write:
        CapturedXidFirst, ONE_PUT, UnusedMeansUnused;
    a_poll_that_reads_the_xid_first_takes_a_put_that_begins_to_write_for_ended:
        PolledXidFirst, ONE_PUT, UnusedMeansUnused;
    a_capture_before_the_switch_has_committed_is_too_early: CapturedBeforeCommit, ONE_PUT, UnusedMeansUnused;
    the_set_of_another_switch_is_too_old: CapturedForAnotherSwitch, TWO_ROTATIONS, UnusedMeansUnused;
    an_own_key_without_a_capture_lets_a_row_fall_behind: OwnKeyNotCaptured, WITH_ORGANIZATION, SuccessMeansDone;
    a_switch_that_others_make_meanwhile_lets_a_row_fall_behind:
        SwitchMeanwhileIgnored, WITH_ORGANIZATION, SuccessMeansDone;
    a_transaction_that_is_prepared_has_not_ended: PreparedNotFollowed, WITH_PREPARED, UnusedMeansUnused;
    the_prepared_transactions_are_looked_at_last: PreparedFollowedTooEarly, WITH_PREPARED, UnusedMeansUnused;
    rows_are_counted_after_the_drain: CountedBeforeDrained, ONE_PUT, UnusedMeansUnused;
    the_keys_to_mark_are_settled_before_the_count: MarkedAsDrainedLater, TWO_ROTATIONS, UnusedMeansUnused;
    a_state_column_keeps_no_key_from_destruction: StateColumn, ONE_PUT, EveryRowHasItsKey;
    a_swap_without_the_fencing_number_writes_beside_the_next_run:
        SwapNotFenced, TWO_RUNS, FencedOffRunsWriteNothing;
    a_switch_without_the_lease_makes_two_keys_of_one_rotation: SwitchNotFenced, TWO_RUNS, OneNewKey;
    a_key_made_without_the_lease_is_one_too_many: MakeNotFenced, TWO_RUNS, OneNewKey;
    a_key_that_was_not_read_back_seals_rows: NotReadBack, ONE_PUT, SealedUnderCheckedKeys;
    a_reader_that_looks_once_may_find_its_key_gone: ReadOnce, WITH_READER, ReadsOpen;
    an_imported_snapshot_outlives_the_drain: SnapshotsImported, TWO_IN_REPEATABLE_READ, UnusedMeansUnused;
);

fn breaks(variant: Variant, bounds: Bounds, property: Property) {
    let found = explore(&Model { variant, bounds });
    let Some(broken) = found.broken else {
        panic!("{variant:?} holds in all {} states: what it lacks does nothing", found.states);
    };
    println!("{variant:?} breaks {property:?}:\n{}", told(&broken.path));
    assert_eq!(broken.property, property);
    assert_page_says(&format!("`{variant:?}`"), broken.path.len());
    let holds = explore(&Model { variant: Variant::Protocol, bounds });
    assert!(holds.broken.is_none(), "the protocol itself breaks within these bounds");
}
