//! The lease of a run: a row with an owner, an expiry and a fencing number, so that it works through a pooler and
//! outlives no process for long.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use time::Duration;
use tokio::time::Instant;

use super::attempts::{may_be_over, retrying};
use super::events::{Listener, RotationEvent};
use super::report::Outcome;
use super::stop::Stop;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{self, within};
use crate::store::{self, LeaseRequest, RunId, RunKind, Store};

/// How long a run keeps its lease without renewing it: longer than any page takes, and as long as others wait for one
/// that was killed.
const DURATION: Duration = Duration::seconds(60);

/// How long a run goes on before it renews its lease: a fraction of what it lasts, and no write for each page.
const RENEWAL: std::time::Duration = std::time::Duration::from_secs(5);

/// How often it is asked whether the lease has become free.
const POLL: std::time::Duration = std::time::Duration::from_secs(1);

/// The longest owner that is kept: the width of the column.
const MAX_OWNER_CHARS: usize = 255;

/// The lease of a running job.
#[derive(Debug)]
pub(super) struct Lease {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    run: RunId,
    /// `None` before the first renewal.
    renewed: Mutex<Option<Instant>>,
}

/// A lease, or why there is none.
#[derive(Debug)]
pub(super) enum Taken {
    Ours(Lease),
    /// Another run has it, or this one was asked to stop while it waited.
    Not(Outcome),
}

/// What becomes of a run that finds the lease taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Busy {
    Ends,
    Waits,
}

impl Lease {
    /// Takes the lease, as soon as no other run has it or only at once; `counts` is what the run's row says from its
    /// beginning on.
    pub(super) async fn obtain(
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        kind: RunKind,
        owner: &str,
        counts: Value,
        busy: Busy,
        (stop, listener): (&Stop, &Listener),
    ) -> Result<Taken> {
        loop {
            match (Self::take(store, clock, kind, owner, counts.clone()).await?, busy) {
                (Taken::Not(Outcome::HeldBy { owner, since }), Busy::Waits) => {
                    listener.hear(RotationEvent::WaitingForLease { owner, since });
                    stop.sleep(POLL).await;
                    if stop.is_asked() {
                        return Ok(Taken::Not(Outcome::WorkRemains));
                    }
                }
                (taken, _) => {
                    if let Taken::Ours(lease) = &taken {
                        listener.hear(RotationEvent::Began { run: lease.run.0 });
                    }
                    return Ok(taken);
                }
            }
        }
    }

    pub(super) async fn take(
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
        kind: RunKind,
        owner: &str,
        counts: Value,
    ) -> Result<Taken> {
        let request = LeaseRequest {
            kind,
            owner: kept(owner),
            clock_offset: clock.offset(),
            duration: DURATION,
            counts,
        };
        // Made once: by a second try a run could find itself to be the holder, whose answer was lost.
        Ok(match within(limit::CALL, store.take_lease(&request)).await? {
            store::Lease::Taken(run) => Taken::Ours(Self {
                store: Arc::clone(store),
                clock: Arc::clone(clock),
                run,
                renewed: Mutex::default(),
            }),
            store::Lease::HeldBy { owner, since } => {
                Taken::Not(Outcome::HeldBy { owner, since: since.to_offset_date_time() })
            }
        })
    }

    /// The run's number, which fences off a run that lost its lease.
    pub(super) fn run(&self) -> RunId {
        self.run
    }

    /// Holds the lease for another while, if it is time to; `counts` is what the run's row says then.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if another run has taken over.
    pub(super) async fn keep(&self, counts: impl FnOnce() -> Value) -> Result<()> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.is_some_and(|at| at.elapsed() < RENEWAL) {
            return Ok(());
        }
        self.renew(&counts()).await
    }

    /// Holds the lease for another while.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if another run has taken over.
    pub(super) async fn renew(&self, counts: &Value) -> Result<()> {
        let renewed = Instant::now();
        if !self.store.renew_lease(self.run, self.clock.offset(), DURATION, counts).await? {
            return Err(self.lost());
        }
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(renewed);
        Ok(())
    }

    /// Ends the run as its `result` says, which gives the lease back; `summary` is the outcome and the counts that the
    /// run's row keeps, without a report for a run that failed.
    ///
    /// # Errors
    ///
    /// The one of `result`; else as [`renew`](Self::renew).
    pub(super) async fn end<R>(
        &self,
        result: Result<R>,
        summary: impl FnOnce(Option<&R>) -> (&'static str, Value),
    ) -> Result<R> {
        let (outcome, mut counts) = summary(result.as_ref().ok());
        if let (Err(error), Value::Object(counts)) = (&result, &mut counts) {
            counts.insert("error".to_owned(), json!(error.kind().to_string()));
        }
        let finish = || self.store.finish_run(self.run, self.clock.offset(), outcome, &counts);
        let mut ended = within(limit::CALL, finish()).await;
        if let (Ok(_), Err(error)) = (&result, &ended)
            && may_be_over(error)
        {
            let again = within(limit::CALL, retrying(&Stop::default(), finish)).await;
            // A run that was ended after all, by a try whose answer was lost, looks like one that others ended.
            if !matches!(again, Ok(false)) {
                ended = again;
            }
        }
        // The first error is the one to report; a lease that can't be given back expires.
        let report = result?;
        if ended? { Ok(report) } else { Err(self.lost()) }
    }

    /// The error of a run that lost its lease.
    pub(super) fn lost(&self) -> Error {
        Error::new(ErrorKind::LeaseLost, format!("run {} has lost its lease to another process", self.run.0))
    }
}

/// An owner as the column takes it.
fn kept(owner: &str) -> String {
    owner.chars().filter(|c| !c.is_control()).take(MAX_OWNER_CHARS).collect()
}

/// Who runs a job, unless the caller says more.
pub(super) fn default_owner() -> String {
    format!("process {}", std::process::id())
}
