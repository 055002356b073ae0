//! PostgreSQL: how it connects, what its statements are and what runs beside them; its pages are in `page`.

/// Begins a transaction that takes each statement's own snapshot, whatever the role's default. The server ends it
/// by itself if nothing is heard for five seconds between two statements: a process that stands still, or whose host
/// is gone, keeps nobody from the rows for longer.
macro_rules! begin {
    ($and:literal) => {
        concat!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 5000",
            $and
        )
    };
}

mod column;
mod page;

use std::io;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::types::Json;
use sqlx::{Connection as _, PgConnection, Postgres, Row, Transaction};
use time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

use self::page::{scan, swap, window_end};
use super::column::{Id, Text, Time};
use super::credentials::{CredentialStore, credential_store};
use super::data_keys::{CheckWrapped, DataKeyStore, data_key_store};
use super::drains::{self, Captured, Drain, DrainStore, OlderTransaction, SwitchedKey, drain_store};
use super::failure::{failure, is_for_want_of_a_right};
use super::inspection::{InspectionStore, inspection_store};
use super::keys::{KeyStore, key_store};
use super::migrate::{self, MigrationName};
use super::pages::{self, MAX_PAGE_BYTES, PageStore, page_store};
use super::quarantine::{QuarantineStore, quarantine_store};
use super::rows::*;
use super::runs::{Lease, LeaseRequest, RunId, RunRow, RunStore, run_store};
use super::{Borrowed, Connection, On, PoolOwner, Store, read, to_the_end};
use crate::clock::Timestamp;
use crate::credential::{CredentialType, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId};

/// The most connections of a pool of our own: what one service leaves for others of a server's usual hundred.
const MAX_CONNECTIONS: u32 = 10;

/// How long a server may refuse connections, as one does that starts again, or leave one without an answer; and how long a
/// call waits for a connection of the pool.
const CONNECT_WAIT: StdDuration = StdDuration::from_secs(5);

mod sql {
    crate::store::sql::statements!(
        now: "(now() AT TIME ZONE 'utc')",
        microsecond: " * interval '1 microsecond'",
        keep_key_of_i: " FOR KEY SHARE OF i",
        keep_m: " FOR SHARE OF m",
        alone: " OFFSET 0" // Else what groups them is taken for as many groups as there are texts, and sorts them all.
    );

    pub(super) const BEGIN: &str = begin!("");
    /// Begins a read of many rows. The server takes it for so costly that it would compile it first, which takes longer
    /// than counting some hundred thousand rows; and a plan for the values of one call goes by what the server knew of
    /// each key's rows before a rotation.
    pub(super) const BEGIN_READ: &str =
        begin!("; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_generic_plan");

    pub(super) const ROWS_OF: &str =
        rows_of!("IN (SELECT value::uuid FROM jsonb_array_elements_text($1) AS given (value))");

    /// All rows of some pages, drawn by the database, in whatever order their ids are; of those rows, some. Twice as many
    /// pages as rows, and a few: a page rarely has no row, and a few rows need not come from a single page.
    pub(super) const SAMPLE: &str = "SELECT c.integration_id
           FROM integration_credentials AS c
                TABLESAMPLE SYSTEM (LEAST(100, 100 * (2 * $1::bigint + 32)
                                               * current_setting('block_size')::double precision
                                               / GREATEST(1, pg_relation_size('integration_credentials'))))
          ORDER BY random()
          LIMIT $1::bigint";

    /// Each session's transaction of this database that has a snapshot or has written: what may still write by what it
    /// saw before. Its other columns are NULL for a role without privileges, and filtering on one would leave it out;
    /// a session without a user is a process of the server's own. The server's start is spelled alike in every session,
    /// whatever its time zone and its style of dates.
    pub(super) const RUNNING_TRANSACTIONS: &str =
        "SELECT to_char(pg_postmaster_start_time() AT TIME ZONE 'utc', 'YYYY-MM-DD HH24:MI:SS.US'),
                running.virtualtransaction, running.pid, running.application_name
           FROM (SELECT 1) AS server
           LEFT JOIN (SELECT l.virtualtransaction, l.pid, a.application_name
                        FROM pg_locks AS l
                        JOIN pg_stat_activity AS a ON a.pid = l.pid
                       WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_backend_pid()
                         AND a.datname = current_database() AND a.usesysid IS NOT NULL
                         AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)) AS running ON true";
    pub(super) const PREPARED_TRANSACTIONS: &str =
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid";
}

/// What a put sends, for the bench that sends it without the vault.
#[cfg(feature = "bench")]
pub(crate) const PUT_STATEMENT: &str = sql::PUT;

/// The tables in a PostgreSQL database.
#[derive(Debug)]
pub(crate) struct PostgresStore {
    pool: PgPool,
    pool_owner: PoolOwner,
}

type Conn = PgConnection;
type Pool = PgPool;

impl PostgresStore {
    /// On the caller's pool, which stays the caller's to close.
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, pool_owner: PoolOwner::Caller }
    }

    /// On a pool of our own.
    ///
    /// # Errors
    ///
    /// `Store` if the database can't be reached.
    pub(crate) async fn connect(options: PgConnectOptions) -> Result<Self> {
        Self::connect_within(CONNECT_WAIT, options).await
    }

    async fn connect_within(wait: StdDuration, options: PgConnectOptions) -> Result<Self> {
        const DOING: &str = "connecting to PostgreSQL";
        // No column is a floating-point number, and a pooler refuses what it can't set for each of its clients.
        let options = options.extra_float_digits(None);
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("credvault"),
        };
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(wait)
            // One round trip a call instead of two; a connection that died shows as a retryable error.
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(|error| match error {
                // Not a pool that is busy: its first connection was never made.
                sqlx::Error::PoolTimedOut => Error::new(
                    ErrorKind::Store,
                    format!(
                        "{DOING}: the connection to the database failed for {} s; see that a server runs at that \
                         host and port",
                        wait.as_secs()
                    ),
                )
                .retryable(),
                error => failure(DOING, error),
            })?;
        Ok(Self { pool, pool_owner: PoolOwner::Store })
    }

    async fn connection<'c>(&self, doing: &str, on: On<'c>) -> Result<Borrowed<'c, Postgres>> {
        match on {
            On::Pool => {
                self.pool.acquire().await.map(Borrowed::Pooled).map_err(|error| failure(doing, error))
            }
            On::Caller(Connection::Postgres(connection)) => Ok(Borrowed::Callers(connection)),
            #[cfg(feature = "sqlite")]
            On::Caller(Connection::Sqlite(_)) => Err(super::wrong_dialect()),
        }
    }
}

/// Begins a transaction; on another connection if that of the pool has died meanwhile, as nothing was sent that could have
/// been carried out.
async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    // Each of them may have died.
    for _ in 0..pool.size() {
        match pool.begin_with(sql::BEGIN).await {
            Err(error) if has_ended(&error) => tracing::debug!("a connection of the pool has ended"),
            begun => return begun,
        }
    }
    pool.begin_with(sql::BEGIN).await
}

/// Whether an error says that the server has ended the session, or is gone.
fn has_ended(error: &sqlx::Error) -> bool {
    const ENDED: [&str; 3] = ["57P01", "57P02", "57P05"];
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ENDED.contains(&code.as_ref())) || matches!(error, sqlx::Error::Io(_))
}

/// Migrates on a connection of its own: one that fails keeps the migrator's lock.
async fn migrate(pool: &PgPool) -> Result<Vec<MigrationName>> {
    let connection =
        connect(&pool.connect_options()).await.map_err(|error| failure("connecting to PostgreSQL", error))?;
    migrate::migrate_postgres(connection).await
}

/// A connection outside of any pool.
pub(super) async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    timeout(CONNECT_WAIT, PgConnection::connect_with(options)).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", CONNECT_WAIT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, what).into())
    })
}

/// In two looks: the server reads a session's transaction id before its snapshot, without a lock, so that one which gets the
/// one and lets go of the other in between shows neither.
async fn running_transactions(pool: &PgPool) -> Result<Captured> {
    let first = look_at_running_transactions(pool).await?;
    let mut both = look_at_running_transactions(pool).await?;
    if first.server_started == both.server_started {
        both.transactions.extend(first.transactions);
        both.transactions.sort_unstable();
        both.transactions.dedup();
    }
    Ok(both)
}

async fn look_at_running_transactions(pool: &PgPool) -> Result<Captured> {
    const DOING: &str = "listing the transactions that are older than a switch";
    let say = |error| failure(DOING, error);
    let rows = sqlx::query(sql::RUNNING_TRANSACTIONS).fetch_all(pool).await.map_err(say)?;
    let mut captured = Captured { server_started: String::new(), transactions: Vec::new() };
    for row in rows {
        captured.server_started = row.try_get(0).map_err(say)?;
        if let Some(virtual_transaction) = row.try_get::<Option<String>, _>(1).map_err(say)? {
            captured.transactions.push(OlderTransaction::Running {
                virtual_transaction,
                pid: row.try_get(2).map_err(say)?,
                application: row.try_get::<Option<String>, _>(3).map_err(say)?.unwrap_or_default(),
            });
        }
    }
    Ok(captured)
}

async fn prepared_transactions(pool: &PgPool) -> Result<Vec<OlderTransaction>> {
    sqlx::query_scalar::<_, String>(sql::PREPARED_TRANSACTIONS)
        .fetch_all(pool)
        .await
        .map(|gids| gids.into_iter().map(|gid| OlderTransaction::Prepared { gid }).collect())
        .map_err(|error| failure("listing the prepared transactions", error))
}

credential_store!(PostgresStore, PgRow);
page_store!(PostgresStore, PgRow);
key_store!(PostgresStore, PgRow);
data_key_store!(PostgresStore, PgRow);
run_store!(PostgresStore, PgRow);
drain_store!(PostgresStore, PgRow);
quarantine_store!(PostgresStore, PgRow);
inspection_store!(PostgresStore, PgRow);

#[async_trait]
impl Store for PostgresStore {
    async fn close(&self) {
        if self.pool_owner == PoolOwner::Store {
            self.pool.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_no_busy_pool() {
        // Port 1 is for TCPMUX, which nobody runs.
        let options = PgConnectOptions::new().host("127.0.0.1").port(1).username("app").password("hunter2");
        let error = PostgresStore::connect_within(StdDuration::from_secs(1), options).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
        let text = error.to_string();
        assert!(text.contains("failed for 1 s") && !text.contains("hunter2"), "{text}");
    }
}
