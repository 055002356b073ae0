//! Sweeps until nothing is left, and waits for what others hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempts::retrying;
use super::drain;
use super::events::{Listener, RotationEvent, Waiting};
use super::stop::StopReason;
use super::sweep::Sweeper;
use super::usage::Usage;
use crate::error::Result;
use crate::id::DataKeyId;
use crate::store::Store;

/// The pause before another look after one that found only what others hold.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: each is twice as long as the one before, as a sweep of a large table costs more than a look.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How the sweeps ended.
pub(super) enum End {
    /// A count finds no row left, those in quarantine and those whose organization withholds its master key aside, and no
    /// transaction is left that is older than a switch.
    NothingLeft {
        usage: Usage,
        /// The deactivated keys under which nothing can have been written since before the count.
        drained: Vec<DataKeyId>,
    },
    /// Others held these to the end.
    Held(Waiting),
    /// It was asked to stop.
    Stopped,
}

/// Sweeps until a count finds nothing left, `max_wait` from when fewer rows were left than ever before at most.
///
/// # Errors
///
/// As [`Sweeper::sweep`].
pub(super) async fn sweep_until_nothing_is_left(
    store: &dyn Store,
    sweeper: &Arc<Sweeper>,
    listener: &Listener,
    max_wait: Duration,
) -> Result<End> {
    let stop = &sweeper.stop;
    let (mut fewest_rows, mut since) = (u64::MAX, Instant::now());
    let mut pause = FIRST_PAUSE;
    let (mut sweeps, mut withheld) = (true, 0);
    loop {
        let mut waiting = Waiting::default();
        let swept = sweeps;
        if swept {
            let done = sweeper.sweep().await?;
            (waiting.rows, withheld) = (done.lost, done.withheld);
            // Not at the last row that it may re-encrypt, which may be the last of all.
            if sweeper.is_spent() && retrying(stop, || Usage::count(store)).await?.stale > 0 {
                stop.ask(StopReason::MaxRows);
            }
        }
        if stop.is_asked() {
            return Ok(End::Stopped);
        }
        sweeper.keep_lease().await?;
        waiting.transactions = retrying(stop, || drain::poll(store)).await?;
        if waiting == Waiting::default() {
            // In this order: what is drained now wrote nothing after the count began.
            let drained = retrying(stop, || store.drained()).await?;
            let usage = retrying(stop, || Usage::count(store)).await?;
            // What waits for a master key that can't be had is the next run's, and keeps no key of others from its end.
            if usage.stale <= withheld {
                if retrying(stop, || store.switched()).await?.is_empty() {
                    return Ok(End::NothingLeft { usage, drained });
                }
                // Another process has switched a key meanwhile: what is older than that may write yet.
                retrying(stop, || drain::capture(store, &sweeper.lease)).await?;
                continue;
            }
            // By query, not by what this process has seen: rows have become stale behind the sweep.
            waiting.rows = usage.stale;
        }
        // While only transactions are waited for, no row becomes stale but by them: they are swept when they have ended.
        sweeps = waiting.rows > 0;
        // Not from the last row written: where others go on writing stale rows, the end would never come.
        if waiting.rows < fewest_rows {
            (fewest_rows, since, pause) = (waiting.rows, Instant::now(), FIRST_PAUSE);
        }
        // Rows that were only counted are swept before they are given up.
        if since.elapsed() >= max_wait && (swept || !sweeps) {
            return Ok(End::Held(waiting));
        }
        listener.hear(RotationEvent::Waiting(waiting));
        stop.sleep(pause.min(max_wait.saturating_sub(since.elapsed()))).await;
        if stop.is_asked() {
            return Ok(End::Stopped);
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
