//! Runs of rotation and rewrap, and their lease: the trait, and the bodies that both dialects share.

use async_trait::async_trait;
use serde_json::Value;
use time::Duration;

use crate::clock::Timestamp;
use crate::error::Result;

/// A run of rotation or rewrap; its number is the fencing number that its statements carry wherever a late one could
/// do harm: those that write rows, switch a key, or end the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(pub(crate) i64);

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// Data keys and rows.
    Rotate,
    /// The master key.
    Rewrap,
}

impl RunKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rotate => "rotate",
            Self::Rewrap => "rewrap",
        }
    }
}

/// Who takes a lease, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct LeaseRequest {
    pub(crate) kind: RunKind,
    pub(crate) owner: String,
    /// The clock's offset from the database's time.
    pub(crate) clock_offset: Duration,
    pub(crate) duration: Duration,
    /// What the run's row says from its beginning on.
    pub(crate) counts: Value,
}

/// The answer to a lease request.
#[derive(Clone, Debug)]
pub(crate) enum Lease {
    /// Taken: this is its run.
    Taken(RunId),
    /// Another run holds it.
    HeldBy { owner: String, since: Timestamp },
}

/// A run as its row tells of it.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) id: RunId,
    pub(crate) kind: String,
    pub(crate) owner: String,
    pub(crate) started_at: Timestamp,
    /// Missing as long as it runs.
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: Option<String>,
    pub(crate) counts: Value,
}

/// The table `vault_rotation_runs`.
#[async_trait]
pub(crate) trait RunStore {
    /// Takes the lease by starting a run, after ending one whose lease has expired.
    async fn take_lease(&self, request: &LeaseRequest) -> Result<Lease>;

    /// Holds the lease for another `duration`, and keeps the counts so far; `false` if the run lost it.
    async fn renew_lease(
        &self,
        run: RunId,
        clock_offset: Duration,
        duration: Duration,
        counts: &Value,
    ) -> Result<bool>;

    /// Ends a run, which gives the lease back; `false` if the run lost it.
    async fn finish_run(
        &self,
        run: RunId,
        clock_offset: Duration,
        outcome: &str,
        counts: &Value,
    ) -> Result<bool>;

    /// The latest runs, the last one first.
    async fn runs(&self, limit: u32) -> Result<Vec<RunRow>>;
}

/// Implements [`RunStore`] for a dialect's store, given its row type.
macro_rules! run_store {
    ($store:ty, $row:ty) => {
        /// Microseconds, as the statements add them to "now".
        fn microseconds(duration: Duration) -> i64 {
            i64::try_from(duration.whole_microseconds()).unwrap_or(i64::MAX)
        }

        #[async_trait]
        impl RunStore for $store {
            async fn take_lease(&self, request: &LeaseRequest) -> Result<Lease> {
                let (pool, request) = (self.pool.clone(), request.clone());
                to_the_end(async move {
                    let say = |error| failure("taking the lease", error);
                    loop {
                        // In a transaction for its isolation: in another, a race for the lease is a failure.
                        let mut transaction = begin(&pool).await.map_err(say)?;
                        sqlx::query(sql::END_EXPIRED_RUNS)
                            .bind(microseconds(request.clock_offset))
                            .execute(&mut *transaction)
                            .await
                            .map_err(say)?;
                        let run = sqlx::query_scalar::<_, i64>(sql::START_RUN)
                            .bind(request.kind.as_str())
                            .bind(request.owner.as_str())
                            .bind(microseconds(request.clock_offset.saturating_add(request.duration)))
                            .bind(microseconds(request.clock_offset))
                            .bind(sqlx::types::Json(&request.counts))
                            .fetch_optional(&mut *transaction)
                            .await
                            .map_err(say)?;
                        let holder: Option<$row> = match run {
                            Some(_) => None,
                            None => sqlx::query(sql::RUNNING)
                                .fetch_optional(&mut *transaction)
                                .await
                                .map_err(say)?,
                        };
                        transaction.commit().await.map_err(say)?;
                        if let Some(run) = run {
                            return Ok(Lease::Taken(RunId(run)));
                        }
                        // Without a holder, it gave the lease back between the two statements: ask again.
                        if let Some(row) = holder {
                            return Ok(Lease::HeldBy {
                                owner: row.try_get(0).map_err(say)?,
                                since: row.try_get::<Time, _>(1).map_err(say)?.timestamp_or_epoch(),
                            });
                        }
                    }
                })
                .await
            }

            async fn renew_lease(
                &self,
                run: RunId,
                clock_offset: Duration,
                duration: Duration,
                counts: &Value,
            ) -> Result<bool> {
                sqlx::query(sql::RENEW_RUN)
                    .bind(run.0)
                    .bind(microseconds(clock_offset.saturating_add(duration)))
                    .bind(sqlx::types::Json(counts))
                    .execute(&self.pool)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(|error| failure("renewing the lease", error))
            }

            async fn finish_run(
                &self,
                run: RunId,
                clock_offset: Duration,
                outcome: &str,
                counts: &Value,
            ) -> Result<bool> {
                sqlx::query(sql::FINISH_RUN)
                    .bind(run.0)
                    .bind(outcome)
                    .bind(sqlx::types::Json(counts))
                    .bind(microseconds(clock_offset))
                    .execute(&self.pool)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(|error| failure("ending the run", error))
            }

            async fn runs(&self, limit: u32) -> Result<Vec<RunRow>> {
                let run = |row: $row| -> sqlx::Result<RunRow> {
                    Ok(RunRow {
                        id: RunId(row.try_get(0)?),
                        kind: row.try_get(1)?,
                        owner: row.try_get(2)?,
                        started_at: row.try_get::<Time, _>(3)?.timestamp_or_epoch(),
                        finished_at: row.try_get::<Option<Time>, _>(4)?.and_then(Time::timestamp),
                        outcome: row.try_get(5)?,
                        counts: row.try_get::<sqlx::types::Json<Value>, _>(6)?.0,
                    })
                };
                sqlx::query(sql::RUNS)
                    .bind(i64::from(limit))
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.into_iter().map(run).collect())
                    .map_err(|error| failure("listing the runs", error))
            }
        }
    };
}
pub(super) use run_store;
