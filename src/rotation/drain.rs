//! The wait after a switch, for the transactions that may still write under the key of before.
//!
//! A write checks in its own statement that its key is active, by the snapshot of that statement. One that was taken
//! before the switch may write after it: a put that waits for a row's lock, a transaction with one snapshot for all of
//! its statements, a prepared one. So the transactions that are under way right after a switch are captured, once, and
//! a key is called unused only when they have all ended.

use super::events::OlderTransactions;
use super::lease::Lease;
use crate::error::Result;
use crate::store::{Captured, OlderTransaction, Store};

/// Captures for the switches after which nothing was captured yet: those of this run, of one that ended before it did,
/// and of new keys for organizations.
///
/// # Errors
///
/// `LeaseLost` if another run has taken over; `Store` if the database fails.
pub(super) async fn capture(store: &dyn Store, lease: &Lease) -> Result<()> {
    // Which keys, first: one that is switched while this looks waits for another capture.
    let keys = store.switched().await?;
    if keys.is_empty() {
        return Ok(());
    }
    let mut captured = store.running_transactions().await?;
    captured.transactions.extend(store.prepared_transactions().await?);
    if !store.capture(lease.run(), &keys, &captured).await? {
        return Err(lease.lost());
    }
    if captured.transactions.is_empty() {
        poll(store).await?;
    }
    Ok(())
}

/// Looks which of the captured transactions have ended, keeps that, and gives those that have not.
///
/// # Errors
///
/// `Store` if the database fails.
pub(super) async fn poll(store: &dyn Store) -> Result<OlderTransactions> {
    let drains = store.drains().await?;
    let mut waiting = Vec::new();
    if !drains.is_empty() {
        // In this order: what is prepared after the first look is seen by the second.
        let running = store.running_transactions().await?;
        let prepared = store.prepared_transactions().await?;
        for drain in drains {
            let left = left_of(&drain.captured, &running, &prepared);
            if left != drain.captured || left.transactions.is_empty() {
                store.narrow_drain(&drain, &left).await?;
            }
            waiting.extend(left.transactions);
        }
    }
    waiting.sort_unstable();
    waiting.dedup();
    Ok(OlderTransactions::from(waiting))
}

/// What is left of a captured set.
///
/// A session's transaction that is gone may have been prepared meanwhile. Nothing says which of the prepared ones it
/// is, so all that stand at that moment are waited for.
fn left_of(captured: &Captured, running: &Captured, prepared: &[OlderTransaction]) -> Captured {
    let same_server = captured.server_started == running.server_started;
    let mut gone = false;
    let mut left: Vec<OlderTransaction> = Vec::new();
    for transaction in &captured.transactions {
        let stands = match transaction {
            OlderTransaction::Running { virtual_transaction, .. } => {
                let stands = same_server
                    && running.transactions.iter().any(|now| {
                        matches!(now, OlderTransaction::Running { virtual_transaction: id, .. } if id == virtual_transaction)
                    });
                gone |= !stands;
                stands
            }
            OlderTransaction::Prepared { .. } => prepared.contains(transaction),
        };
        if stands {
            left.push(transaction.clone());
        }
    }
    if gone {
        left.extend(
            prepared.iter().filter(|transaction| !captured.transactions.contains(transaction)).cloned(),
        );
    }
    Captured { server_started: running.server_started.clone(), transactions: left }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(ids: &[&str], server: &str) -> Captured {
        let transaction = |id: &&str| OlderTransaction::Running {
            virtual_transaction: (*id).to_owned(),
            pid: 7,
            application: "app".to_owned(),
        };
        Captured { server_started: server.to_owned(), transactions: ids.iter().map(transaction).collect() }
    }

    fn prepared(gids: &[&str]) -> Vec<OlderTransaction> {
        gids.iter().map(|gid| OlderTransaction::Prepared { gid: (*gid).to_owned() }).collect()
    }

    #[test]
    fn what_still_runs_is_waited_for_and_nothing_newer() {
        let captured = running(&["3/1", "4/1"], "monday");
        let left = left_of(&captured, &running(&["3/1", "4/2", "5/9"], "monday"), &[]);
        assert_eq!(left, running(&["3/1"], "monday"));
    }

    #[test]
    fn what_was_prepared_meanwhile_is_waited_for_once_its_session_has_left_it() {
        let captured = running(&["3/1"], "monday");
        let still = left_of(&captured, &captured, &prepared(&["newer"]));
        assert_eq!(still, captured, "nothing has gone that could have been prepared");
        let left = left_of(&still, &running(&[], "monday"), &prepared(&["late"]));
        assert_eq!(left.transactions, prepared(&["late"]));
        // One that is prepared later is none of them.
        let left = left_of(&left, &running(&[], "monday"), &prepared(&["late", "newer"]));
        assert_eq!(left.transactions, prepared(&["late"]));
        assert!(left_of(&left, &running(&[], "monday"), &prepared(&["newer"])).transactions.is_empty());
    }

    #[test]
    fn after_a_restart_only_prepared_transactions_are_left() {
        let captured = running(&["3/1"], "monday");
        // The new server counts its sessions from the start: the same number is another transaction.
        let left = left_of(&captured, &running(&["3/1"], "tuesday"), &prepared(&["kept"]));
        assert_eq!(left.transactions, prepared(&["kept"]));
    }
}
