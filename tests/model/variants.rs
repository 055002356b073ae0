//! The protocol, and those it was chosen over, each of which lacks one part of it.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Protocol,
    /// Re-encryption overwrites what it finds: the swap doesn't compare the stored text with the one that was opened.
    ReadThenWrite,
    /// A put doesn't ask whether its key is the active one.
    PutWithoutGuard,
    /// Nobody waits for the transactions that are older than a switch.
    NoDrain,
    /// Only transactions that have an xid are captured.
    CapturedByXid,
    /// The capture reads of each transaction first the xid and then the snapshot.
    CapturedXidFirst,
    /// A captured transaction counts as ended when it shows neither, read in that order.
    PolledXidFirst,
    /// The capture is made before the switch has committed.
    CapturedBeforeCommit,
    /// A set that is still waited for is taken for that of every switch.
    CapturedForAnotherSwitch,
    /// Making an organization's own key active is taken for no switch.
    OwnKeyNotCaptured,
    /// Success is reported without looking for switches that others made meanwhile.
    SwitchMeanwhileIgnored,
    /// A captured transaction that was prepared has ended.
    PreparedNotFollowed,
    /// The prepared transactions are looked at again while captured ones still run.
    PreparedFollowedTooEarly,
    /// The rows are counted before the drain has ended.
    CountedBeforeDrained,
    /// The keys that are marked are those that are drained by the time of the mark, not by that of the count.
    MarkedAsDrainedLater,
    /// A key is destroyed by a state column, once no row is counted under it; no foreign key, no `unused_since`.
    StateColumn,
    /// The swap doesn't ask whether the run holds the lease.
    SwapNotFenced,
    /// Nor does the switch, or what commits a new key.
    SwitchNotFenced,
    /// What commits a new key alone doesn't.
    MakeNotFenced,
    /// A key is activated without being read back.
    NotReadBack,
    /// Whoever finds that the key of a row it read is gone reports an error.
    ReadOnce,
    /// No part of the protocol is missing: the application's transactions import the snapshots of others
    /// (`SET TRANSACTION SNAPSHOT`), and then write.
    SnapshotsImported,
}
