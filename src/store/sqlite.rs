//! SQLite: how it connects, spells types and answers what PostgreSQL answers otherwise.

mod column;
mod page;

use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::types::Json;
use sqlx::{Row, Sqlite, SqliteConnection, Transaction};
use time::Duration;
use tokio::sync::Mutex;
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
use super::{Borrowed, Connection, Missing, On, PoolOwner, Store, read, to_the_end};
use crate::clock::Timestamp;
use crate::credential::{CredentialType, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId};

/// The most connections of a pool of our own: readers beside SQLite's one writer.
const MAX_CONNECTIONS: u32 = 8;

/// How long a writer waits for the one before it.
const BUSY_TIMEOUT: StdDuration = StdDuration::from_secs(10);

/// How long a call waits for a connection of the pool: as long as those before it may wait for a writer.
const CONNECT_WAIT: StdDuration = StdDuration::from_secs(30);

mod sql {
    crate::store::sql::statements!(
        now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        microsecond: "",
        keep_key_of_i: "", // One writer: nothing changes meanwhile.
        keep_m: "",
        alone: " LIMIT -1" // Else what groups them holds the columns that they are made of, each row's text among them.
    );

    pub(super) const BEGIN_READ: &str = "BEGIN";

    pub(super) const ROWS_OF: &str = rows_of!("IN (SELECT value FROM json_each($1))");

    /// The rows at some rowids, drawn between the first and the last one; of those rows, some. Twice as many rowids as
    /// rows, and a few: some have no row any more. Each end in a query of its own, which is one step in the tree. None at
    /// all unless the table is so much larger that a pass over the index of integrations would take longer.
    pub(super) const SAMPLE: &str = "WITH RECURSIVE
              ends (low, high) AS (SELECT (SELECT min(rowid) FROM integration_credentials),
                                          (SELECT max(rowid) FROM integration_credentials)),
              points (number, point) AS (
                  SELECT 0, low FROM ends WHERE high - low > 32 * (2 * $1 + 32)
                   UNION ALL
                  SELECT number + 1, low + (random() & 9223372036854775807) % (high - low + 1)
                    FROM points, ends
                   WHERE number < 2 * $1 + 32)
         SELECT c.integration_id
           FROM integration_credentials AS c
          WHERE c.rowid IN (SELECT point FROM points WHERE number > 0)
          ORDER BY random()
          LIMIT $1";
}

/// The tables in an SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    pool: SqlitePool,
    pool_owner: PoolOwner,
    /// Whose turn it is to write a page.
    turn: Arc<Mutex<()>>,
}

type Conn = SqliteConnection;
type Pool = SqlitePool;

impl SqliteStore {
    /// On the caller's pool, which stays the caller's to close.
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self::on(pool, PoolOwner::Caller)
    }

    fn on(pool: SqlitePool, pool_owner: PoolOwner) -> Self {
        Self { pool, pool_owner, turn: Arc::default() }
    }

    /// On a pool of our own: synchronous FULL, foreign keys on, and the write-ahead log if the file is made.
    ///
    /// # Errors
    ///
    /// `NotInitialized` if there is no such file and none is to be made, `Store` if it can't be opened.
    pub(crate) async fn connect(options: SqliteConnectOptions, missing: Missing) -> Result<Self> {
        if missing == Missing::Fail && !options.get_filename().exists() {
            return Err(Error::new(
                ErrorKind::NotInitialized,
                format!(
                    "there is no database at {}; run `credvault init` to make one",
                    options.get_filename().display()
                ),
            ));
        }
        if missing == Missing::Create {
            // Before there is a pool: turning a file to the write-ahead log takes it alone.
            migrate::migrate_sqlite_file(&options.clone().create_if_missing(true)).await?;
        }
        // The file remembers its write-ahead log; one that holds no vault is left as it is.
        let options = options.synchronous(SqliteSynchronous::Full);
        let pool = own_pool(SqlitePoolOptions::new().max_connections(MAX_CONNECTIONS), options).await?;
        Ok(Self::on(pool, PoolOwner::Store))
    }

    /// In memory, on a [`memory_pool`].
    ///
    /// # Errors
    ///
    /// `Store` if SQLite fails.
    pub(crate) async fn in_memory(options: SqliteConnectOptions) -> Result<Self> {
        let pool = memory_pool(options).await?;
        Ok(Self::on(pool, PoolOwner::Store))
    }

    async fn connection<'c>(&self, doing: &str, on: On<'c>) -> Result<Borrowed<'c, Sqlite>> {
        match on {
            On::Pool => {
                self.pool.acquire().await.map(Borrowed::Pooled).map_err(|error| failure(doing, error))
            }
            On::Caller(Connection::Sqlite(connection)) => Ok(Borrowed::Callers(connection)),
            #[cfg(feature = "postgres")]
            On::Caller(Connection::Postgres(_)) => Err(super::wrong_dialect()),
        }
    }
}

/// A pool on a database in memory, where each connection would have one of its own: of one connection, kept for good.
///
/// # Errors
///
/// `Store` if SQLite fails.
pub(crate) async fn memory_pool(options: SqliteConnectOptions) -> Result<SqlitePool> {
    let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    own_pool(pool, options).await
}

async fn own_pool(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Result<SqlitePool> {
    pool.acquire_timeout(CONNECT_WAIT)
        .test_before_acquire(false)
        .connect_with(options.foreign_keys(true).busy_timeout(BUSY_TIMEOUT))
        .await
        .map_err(|error| failure("opening the SQLite database", error))
}

/// Begins a transaction as a writer: one that begins as a reader can't become one beside another writer.
async fn begin(pool: &SqlitePool) -> sqlx::Result<Transaction<'static, Sqlite>> {
    pool.begin_with("BEGIN IMMEDIATE").await
}

async fn migrate(pool: &SqlitePool) -> Result<Vec<MigrationName>> {
    let mut connection =
        pool.acquire().await.map_err(|error| failure("opening the SQLite database", error))?;
    migrate::migrate_sqlite(&mut connection).await
}

/// One writer: when a switch is committed no other transaction has written that is not, and none that only read before
/// can write by what it saw.
async fn running_transactions(_: &SqlitePool) -> Result<Captured> {
    Ok(Captured { server_started: String::new(), transactions: Vec::new() })
}

async fn prepared_transactions(_: &SqlitePool) -> Result<Vec<OlderTransaction>> {
    Ok(Vec::new())
}

credential_store!(SqliteStore, SqliteRow);
page_store!(SqliteStore, SqliteRow);
key_store!(SqliteStore, SqliteRow);
data_key_store!(SqliteStore, SqliteRow);
run_store!(SqliteStore, SqliteRow);
drain_store!(SqliteStore, SqliteRow);
quarantine_store!(SqliteStore, SqliteRow);
inspection_store!(SqliteStore, SqliteRow);

#[async_trait]
impl Store for SqliteStore {
    async fn close(&self) {
        if self.pool_owner == PoolOwner::Store {
            self.pool.close().await;
        }
    }
}
