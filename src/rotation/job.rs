//! A rotation that runs: what is due, the switch, sweeps until nothing is left, and the marks on keys.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use time::Duration;
use tokio::time::timeout;

use super::attempts::retrying;
use super::drain;
use super::events::{Listener, RotationEvent};
use super::lease::{Busy, Lease, Taken};
use super::pace::{Pace, PageRows};
use super::page::Reencryption;
use super::report::{MAX_NAMED_ROWS, Outcome, RotationReport, Withheld};
use super::rotate::RotationPlan;
use super::stop::{Stop, StopReason};
use super::sweep::Sweeper;
use super::switch::{activate, finish_pre_active, new_data_key};
use super::usage::{Usage, data_key_summaries};
use super::wait::{End, sweep_until_nothing_is_left};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, OrganizationId};
use crate::keyring::Keyring;
use crate::store::{DataKeyRow, Destruction, KeyState, Phase, Range, Rows, RunId, RunKind, RunRow, Store};

/// How long a rotation that is asked to stop has to end a page: longer than a page's statement may take.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// How long it has then to give its lease back, which expires otherwise.
const END_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// How many runs are looked through for the first of forced rotations that did not come to their end: more than anybody
/// cuts off, one after the other.
const RUNS_LOOKED_THROUGH: u32 = 1_000;

/// A rotation with all that was asked of it.
pub(super) struct Job {
    pub(super) store: Arc<dyn Store>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) due: Due,
    pub(super) organization: Option<OrganizationId>,
    pub(super) batch_size: u32,
    pub(super) speed: Speed,
    pub(super) max_rows: u64,
    pub(super) max_duration: Option<std::time::Duration>,
    pub(super) max_wait: std::time::Duration,
    pub(super) busy: Busy,
    pub(super) owner: String,
    pub(super) listener: Listener,
}

/// Which active keys are replaced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// Those that are older, and those that are compromised.
    OlderThan(Duration),
    /// All.
    All,
}

/// How fast it works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speed {
    /// Beside an application, which goes first.
    Yielding,
    /// For maintenance: as fast as so many workers can.
    Workers(u32),
    /// So many rows a second.
    RowsPerSecond(u32),
}

/// What a run shares with whoever ends it from outside.
#[derive(Default)]
struct Running {
    stop: Arc<Stop>,
    lease: OnceLock<Arc<Lease>>,
    sweeper: OnceLock<Arc<Sweeper>>,
    new_keys: OnceLock<Vec<DataKeyId>>,
}

impl Job {
    pub(super) async fn plan(&self) -> Result<RotationPlan> {
        let store = self.store.as_ref();
        let due = self.due_keys().await?;
        let usage = Usage::count(store).await?;
        Ok(RotationPlan {
            rows: usage.stale + due.iter().map(|key| usage.current_rows_under(key.id)).sum::<u64>(),
            due: due.iter().map(|key| key.id).collect(),
            keys: data_key_summaries(store, &usage, self.clock.offset()).await?,
        })
    }

    /// Runs it, until it is done or `signal` is there; see [`Rotation::run`](super::Rotation::run).
    pub(super) async fn run(self, signal: impl Future<Output = ()> + Send) -> Result<RotationReport> {
        let running = Running::default();
        let limit = async {
            match self.max_duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        {
            let mut work = std::pin::pin!(self.work(&running));
            tokio::select! {
                result = &mut work => return result,
                () = signal => running.stop.ask(StopReason::Asked),
                () = limit => running.stop.ask(StopReason::MaxDuration),
            }
            match timeout(STOP_GRACE, work).await {
                // A database that is away: that it was asked to stop is what there is to say.
                Ok(Err(error)) if error.kind() == ErrorKind::Store && error.is_retryable() => {
                    tracing::warn!(%error, "the database failed while the rotation was to stop");
                }
                Ok(result) => return result,
                // What it was at is dropped; the server ends a page's statement by itself.
                Err(_) => {
                    tracing::warn!("the database did not answer in time: the page under way is left to it");
                }
            }
        }
        let report = self.stopped_report(&running);
        if let Some(lease) = running.lease.get() {
            let counts = self.with_request(report.counts());
            let end = lease.end(Ok(report.clone()), |_| (report.outcome.as_str(), counts));
            // The lease expires otherwise.
            let _ = timeout(END_GRACE, end).await;
        }
        Ok(report)
    }

    async fn work(&self, running: &Running) -> Result<RotationReport> {
        let (kind, heard) = (RunKind::Rotate, (running.stop.as_ref(), &self.listener));
        let counts = self.with_request(json!({}));
        let taken =
            Lease::obtain(&self.store, &self.clock, kind, &self.owner, counts, self.busy, heard).await?;
        let lease = match taken {
            Taken::Ours(lease) => Arc::new(lease),
            Taken::Not(outcome) => {
                let mut report = RotationReport::new(outcome);
                report.stopped = running.stop.reason();
                return Ok(report);
            }
        };
        // It is set once.
        let _ = running.lease.set(Arc::clone(&lease));
        let result = self.run_leased(running, &lease).await;
        let summary = |report: Option<&RotationReport>| {
            let (outcome, counts) =
                report.map_or(("failed", json!({})), |report| (report.outcome.as_str(), report.counts()));
            (outcome, self.with_request(counts))
        };
        lease.end(result, summary).await
    }

    /// What a run's row says besides its counts.
    fn with_request(&self, counts: Value) -> Value {
        with(counts, json!({ "forced": matches!(self.due, Due::All) }))
    }

    async fn run_leased(&self, running: &Running, lease: &Arc<Lease>) -> Result<RotationReport> {
        let (store, stop) = (self.store.as_ref(), &running.stop);
        // A process that lacks a master key is at fault, not the rows whose data key it wraps.
        retrying(stop, || self.keyring.master_keys().unlock_all(store)).await?;
        let withheld = self.withheld(stop).await?;
        let (new_keys, skipped) = self.switch_due_keys(lease.run(), stop, &withheld).await?;
        // It is set once.
        let _ = running.new_keys.set(new_keys.clone());
        retrying(stop, || drain::capture(store, lease)).await?;

        let listed = retrying(stop, || store.quarantined()).await?;
        let sweeper = Arc::new(self.sweeper(running, lease, &withheld).await?);
        // As above.
        let _ = running.sweeper.set(Arc::clone(&sweeper));
        let end = sweep_until_nothing_is_left(store, &sweeper, &self.listener, self.max_wait).await?;
        if matches!(end, End::Stopped) {
            return Ok(self.stopped_report(running));
        }
        // Rows that were withheld were not tried, and which of those listed they are isn't known here.
        let tried = listed.iter().filter(|_| withheld.is_empty());
        for row in tried.filter(|row| !sweeper.pages.has_quarantined(row.integration)) {
            retrying(stop, || store.release(row.integration)).await?;
        }

        let mut report = RotationReport::new(Outcome::Complete);
        report.new_keys = new_keys;
        report.withheld = withheld;
        count_rows(&mut report, &sweeper);
        report.quarantined = retrying(stop, || store.quarantined()).await?.len() as u64;
        let usage = match end {
            End::NothingLeft { usage, drained } => {
                self.mark_keys(&usage, &drained, stop, &mut report).await?;
                report.remaining = usage.stale;
                usage
            }
            End::Held(waiting) => {
                let usage = retrying(stop, || Usage::count(store)).await?;
                report.remaining = usage.stale.max(waiting.rows);
                report.waiting = waiting;
                report.locked = self.held_rows(&sweeper).await?;
                usage
            }
            End::Stopped => Usage::default(),
        };
        let phase = retrying(stop, || store.identity()).await?.map_or(Phase::None, |identity| identity.phase);
        if matches!(phase, Phase::None | Phase::Observe) {
            report.legacy = usage.rows_under(DataKeyId::LEGACY);
        }
        report.keys = retrying(stop, || data_key_summaries(store, &usage, self.clock.offset())).await?;
        let active = report.keys.iter().filter(|key| key.state == KeyState::Active);
        let current: u64 = active.map(|key| usage.current_rows_under(key.id)).sum();
        report.already_current = current.saturating_sub(report.re_encrypted);
        let is_left = report.remaining > 0 || !report.waiting.transactions.is_empty() || skipped.is_some();
        report.outcome = match report.quarantined {
            _ if is_left => Outcome::WorkRemains,
            0 => Outcome::Complete,
            _ => Outcome::Quarantine,
        };
        Ok(report)
    }

    /// The first rows that are still stale, quarantine aside.
    async fn held_rows(&self, sweeper: &Sweeper) -> Result<Vec<IntegrationId>> {
        let mut held = Vec::new();
        let mut rest = Some(Range::ALL);
        while let Some(range) = rest.filter(|_| held.len() < MAX_NAMED_ROWS as usize) {
            let page = || self.store.scan(Rows::Stale, range, MAX_NAMED_ROWS);
            let rows = retrying(&sweeper.stop, page).await?;
            rest = rows.last().and_then(|last| range.after(last.cursor));
            let rows = rows.into_iter().map(|row| row.integration);
            held.extend(rows.filter(|row| !sweeper.pages.has_quarantined(*row)));
        }
        held.truncate(MAX_NAMED_ROWS as usize);
        Ok(held)
    }

    /// What re-encrypts, at the speed that was asked for.
    async fn sweeper(&self, running: &Running, lease: &Arc<Lease>, withheld: &[Withheld]) -> Result<Sweeper> {
        let stale = retrying(&running.stop, || Usage::estimate(self.store.as_ref())).await?.stale;
        let pages = Reencryption::new(
            Arc::clone(&self.store),
            Arc::clone(&self.keyring),
            lease.run(),
            self.listener.clone(),
            withheld.iter().map(|withheld| withheld.organization_id).collect(),
            stale,
        );
        let (pace, workers) = match self.speed {
            Speed::Yielding => (Pace::yielding(), 1),
            Speed::Workers(workers) => (Pace::Free, workers),
            Speed::RowsPerSecond(rows) => (Pace::limited(rows), 1),
        };
        let base = self.with_request(json!({}));
        let counts = move |pages: &Reencryption| {
            let progress = pages.progress();
            with(base.clone(), json!({ "re_encrypted": progress.re_encrypted, "stale": progress.stale }))
        };
        let mut sweeper = Sweeper::new(
            Arc::clone(&self.store),
            Arc::clone(lease),
            Arc::clone(&running.stop),
            pages,
            pace,
            Box::new(counts),
        );
        sweeper.workers = workers;
        sweeper.page_rows = PageRows::at_most(self.batch_size);
        *sweeper.rows_left.get_mut() = self.max_rows;
        Ok(sweeper)
    }

    /// What is known of a run that stopped.
    fn stopped_report(&self, running: &Running) -> RotationReport {
        let mut report = RotationReport::new(Outcome::WorkRemains);
        report.stopped = running.stop.reason();
        report.new_keys = running.new_keys.get().cloned().unwrap_or_default();
        if let Some(sweeper) = running.sweeper.get() {
            count_rows(&mut report, sweeper);
            report.remaining = sweeper.pages.progress().stale.saturating_sub(report.re_encrypted);
        }
        report
    }

    /// Marks each deactivated key that nothing needs any more, takes the mark from one that a row names after all, and
    /// destroys the legacy key once the cut-over has left none of its rows; and says so in `report`.
    async fn mark_keys(
        &self,
        usage: &Usage,
        drained: &[DataKeyId],
        stop: &Stop,
        report: &mut RotationReport,
    ) -> Result<()> {
        let (store, offset) = (self.store.as_ref(), self.clock.offset());
        for key in retrying(stop, || store.data_keys()).await?.into_iter().flatten() {
            if key.state != KeyState::Deactivated {
                continue;
            }
            if !usage.is_unused(key.id) {
                if key.unused_since.is_some() {
                    retrying(stop, || store.mark_used(key.id)).await?;
                }
                continue;
            }
            if !drained.contains(&key.id) {
                continue;
            }
            if retrying(stop, || store.mark_unused(key.id, offset)).await? {
                tracing::info!(key = %key.id, "nothing needs the data key any more");
                self.listener.hear(RotationEvent::Unused { key: key.id });
                report.unused_keys.push(key.id);
            }
            if key.id.is_legacy() {
                let now = retrying(stop, || store.now(offset)).await?;
                let destroyed = retrying(stop, || store.destroy_data_key(key.id, now, offset)).await?;
                match destroyed {
                    Destruction::Done => {
                        self.keyring.forget_opening_key(key.id);
                        self.listener.hear(RotationEvent::LegacyKeyDestroyed);
                    }
                    // The rows are done, which is what a rotation is for.
                    Destruction::NotAllowed => {
                        tracing::warn!(
                            "the legacy key is still there: this role may not delete it, the owner may"
                        );
                        report.legacy_key_left = true;
                    }
                    Destruction::NotUnused => {}
                }
            }
        }
        Ok(())
    }

    /// Before when a key must have been activated to be replaced by force: when this run began; or the first of those
    /// before it, one after the other, that were forced and did not come to their end, which this one then brings to it.
    /// Asked with the lease held: until then another run may come to its end.
    async fn force_since(&self) -> Result<Option<Timestamp>> {
        let Due::All = self.due else { return Ok(None) };
        let runs = self.store.runs(RUNS_LOOKED_THROUGH).await?;
        let is_unfinished = |run: &&RunRow| !matches!(run.outcome.as_deref(), Some("complete" | "findings"));
        let is_forced = |run: &&RunRow| run.counts.get("forced") == Some(&Value::Bool(true));
        let rotations = runs.iter().filter(|run| run.kind == RunKind::Rotate.as_str());
        match rotations.take_while(is_unfinished).filter(is_forced).last() {
            Some(run) => Ok(Some(run.started_at)),
            None => self.store.now(self.clock.offset()).await.map(Some),
        }
    }

    /// The active keys that are to be replaced.
    async fn due_keys(&self) -> Result<Vec<DataKeyRow>> {
        let store = self.store.as_ref();
        let keys: Vec<_> = store.data_keys().await?.into_iter().flatten().collect();
        if let Some(organization) = self.organization {
            // Nothing would be due, which reads as if its credentials were under a new key.
            if !keys.iter().any(|key| key.organization == Some(organization)) {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "organization {organization} has no data key of its own: rotate the shared one, or make it one \
                         (`credvault keys create`)"
                    ),
                ));
            }
        }
        let force_since = self.force_since().await?;
        let now = store.now(self.clock.offset()).await?;
        let is_due = |key: &DataKeyRow| {
            let activated = key.activated_at.unwrap_or(key.created_at);
            let age = now.to_offset_date_time() - activated.to_offset_date_time();
            key.compromised_at.is_some()
                || match (self.due, force_since) {
                    (Due::All, Some(since)) => activated <= since,
                    (Due::All, None) => true,
                    (Due::OlderThan(limit), _) => age > limit,
                }
        };
        let in_scope =
            |key: &DataKeyRow| self.organization.is_none() || self.organization == key.organization;
        let due = |key: &DataKeyRow| key.state == KeyState::Active && in_scope(key) && is_due(key);
        Ok(keys.into_iter().filter(due).collect())
    }

    /// The organizations whose own master key can't be had.
    ///
    /// # Errors
    ///
    /// Why it can't be had, if only that organization was to be rotated; `Store`.
    async fn withheld(&self, stop: &Stop) -> Result<Vec<Withheld>> {
        let store = self.store.as_ref();
        let mut found = retrying(stop, || self.keyring.master_keys().withheld(store)).await?;
        if let Some(error) = self.organization.and_then(|organization| found.remove(&organization)) {
            return Err(error);
        }
        let withheld = |(organization_id, error): (_, Error)| {
            tracing::warn!(organization = %organization_id, %error, "an organization's master key can't be had");
            Withheld { organization_id, reason: error.to_string() }
        };
        Ok(found.into_iter().map(withheld).collect())
    }

    /// Makes, checks and switches to a new key for each scope that is due; gives the new keys, and one that
    /// is due and was left, as its organization withholds its master key.
    async fn switch_due_keys(
        &self,
        run: RunId,
        stop: &Stop,
        withheld: &[Withheld],
    ) -> Result<(Vec<DataKeyId>, Option<DataKeyId>)> {
        let (store, clock, keyring) = (self.store.as_ref(), self.clock.as_ref(), &self.keyring);
        let run = Some(run);
        let mut new_keys = retrying(stop, || finish_pre_active(store, keyring, clock, run)).await?;
        let mut skipped = None;
        for key in retrying(stop, || self.due_keys()).await? {
            let scope = key.organization;
            if withheld.iter().any(|withheld| Some(withheld.organization_id) == scope) {
                skipped = Some(key.id);
                continue;
            }
            let id = retrying(stop, || new_data_key(store, keyring, scope, run)).await?;
            retrying(stop, || activate(store, clock, id, scope, run)).await?;
            new_keys.push((id, scope));
        }
        for (key, organization_id) in &new_keys {
            tracing::info!(%key, "switched to a new data key");
            self.listener.hear(RotationEvent::Switched { key: *key, organization_id: *organization_id });
        }
        // What this process still believes of the active keys is out of date.
        self.keyring.forget_sealing_keys();
        Ok((new_keys.into_iter().map(|(key, _)| key).collect(), skipped))
    }
}

/// What was re-encrypted.
fn count_rows(report: &mut RotationReport, sweeper: &Sweeper) {
    report.re_encrypted_from = sweeper.pages.re_encrypted_by_key().into_iter().collect();
    report.re_encrypted_from.sort_unstable();
    report.re_encrypted = report.re_encrypted_from.iter().map(|(_, rows)| rows).sum();
    report.lost_to_concurrent_writes = sweeper.pages.lost();
}

/// The members of two JSON objects in one.
fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}
