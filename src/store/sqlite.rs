//! SQLite: how it connects, spells types and scans and swaps pages.

mod column;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::types::Json;
use sqlx::{Row, Sqlite, SqliteConnection, Transaction};
use time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

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
use crate::credential::{CredentialType, Revision, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId};

/// The most connections of a pool of our own: readers beside SQLite's one writer.
const MAX_CONNECTIONS: u32 = 8;

/// How long a writer waits for the one before it.
const BUSY_TIMEOUT: StdDuration = StdDuration::from_secs(10);

/// What part of a page's time the file is left to others, after each page. Pages take turns, since SQLite lets a writer that
/// waits look again after ever longer sleeps: one page after the other would hardly ever leave the file free when somebody
/// looks, neither for the application nor for other processes.
const REST_OF_FILE: u32 = 8;

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

    /// By rowid, the order of the table: by id, which is random, each row would be another page of the file. A page ends
    /// at a number of rows, or where its texts have ?4 bytes. They are looked up when that is known: what a window function
    /// goes over is held in memory with all columns that it names.
    macro_rules! scan {
        ($from:expr, $where:expr) => {
            concat!(
                "SELECT page.cursor, page.integration_id, page.organization_id, page.connector_type, ",
                credential_columns!(),
                "
                   FROM (SELECT first.*, sum(first.bytes) OVER (ORDER BY first.cursor ROWS UNBOUNDED PRECEDING)
                                             - first.bytes AS bytes_before
                           FROM (SELECT c.rowid AS cursor, c.integration_id, i.organization_id, ",
                short!("i.connector_type"),
                " AS connector_type,
                                        COALESCE(octet_length(c.credential_data_encrypted), 0) AS bytes
                                   FROM ",
                $from,
                "
                                  WHERE c.rowid >= $2 AND c.rowid <= $3 AND ",
                $where,
                "
                                  ORDER BY c.rowid LIMIT $1) AS first) AS page
                  CROSS JOIN integration_credentials AS c ON c.rowid = page.cursor
                  WHERE page.bytes_before < $4
                  ORDER BY page.cursor"
            )
        };
        ($where:expr) => {
            scan!(
                "integration_credentials AS c JOIN integrations AS i ON i.id = c.integration_id",
                $where
            )
        };
    }

    pub(super) const SCAN_ALL: &str = scan!("true");
    pub(super) const SCAN_STALE: &str = scan!(
        concat!(
            "integration_credentials AS c JOIN integrations AS i ON i.id = c.integration_id",
            crate::store::sql::with_own_key!()
        ),
        is_stale!()
    );
    pub(super) const SCAN_LEGACY: &str = scan!("c.encryption_key_id = 'v1'");
    pub(super) const SCAN_OF: &str = scan!("i.organization_id = $5");
    pub(super) const WINDOW_END: &str =
        "SELECT rowid FROM integration_credentials WHERE rowid >= $1 ORDER BY rowid LIMIT 1 OFFSET $2";

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

    macro_rules! two_hundred_times {
        ($text:literal) => {
            two_hundred_times!(@ten two_hundred_times!(@ten concat!($text, $text)))
        };
        (@ten $text:expr) => {
            concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
        };
    }

    /// Rows that one statement swaps, of a page whose transaction is one.
    pub(super) const SWAPPED_AT_ONCE: usize = 200;

    /// SQLite has one writer: a row that changed since it was read no longer has the old text, and nor has one that was
    /// transferred, so that the organization is still the one that was read with it. A row that was given another rowid, by
    /// VACUUM, is left to the next sweep.
    ///
    /// The rows are VALUES with a parameter for each value, as JSON each row would be parsed once for each of its values;
    /// as many in each statement, which is prepared once: where a page ends, what is not bound is NULL, and matches nothing.
    pub(super) const SWAP: &str = concat!(
        "WITH n (place, integration_id, organization_id, old_text, old_expires_at, new_text, new_key) AS (
             VALUES ",
        two_hundred_times!("(?, ?, ?, ?, ?, ?, ?), "),
        "(NULL, NULL, NULL, NULL, NULL, NULL, NULL))
         UPDATE integration_credentials AS c
            SET credential_data_encrypted = n.new_text, encryption_key_id = n.new_key
           FROM n
          WHERE c.rowid = n.place
            AND c.integration_id = n.integration_id
            AND substr(c.credential_data_encrypted, 1, length(n.old_text)) = n.old_text
            AND (c.encryption_key_id <> 'v1'
                 OR c.expires_at IS n.old_expires_at
                 OR n.old_expires_at IS NULL
                    AND c.expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999)
            AND n.new_key = ",
        active_key_of_scope!(of each "n.organization_id"),
        "
            AND EXISTS (SELECT 1 FROM vault_rotation_runs AS r WHERE r.finished_at IS NULL AND r.id = ?)"
    );

    /// The integrations, of a JSON object of their texts' beginnings, whose texts begin so.
    pub(super) const WRITTEN: &str = "SELECT c.integration_id
           FROM json_each($1) AS n
           JOIN integration_credentials AS c ON c.integration_id = n.key
          WHERE substr(c.credential_data_encrypted, 1, length(n.value)) = n.value";
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

async fn scan(pool: &SqlitePool, rows: Rows, range: Range, limit: u32) -> Result<Vec<ScannedRow>> {
    let (from, to) = bounds(range);
    let statement = match rows {
        Rows::All => sql::SCAN_ALL,
        Rows::Stale => sql::SCAN_STALE,
        Rows::Legacy => sql::SCAN_LEGACY,
        Rows::Of(_) => sql::SCAN_OF,
    };
    let mut query = sqlx::query(statement).bind(i64::from(limit)).bind(from).bind(to).bind(MAX_PAGE_BYTES);
    if let Rows::Of(organization) = rows {
        query = query.bind(Id::from(organization));
    }
    let scanned = |row: &SqliteRow| -> sqlx::Result<ScannedRow> {
        let rowid = row.try_get("cursor")?;
        Ok(ScannedRow {
            cursor: Cursor::RowId(rowid),
            address: RowAddress::RowId(rowid),
            integration: row.try_get::<Id, _>("integration_id")?.into(),
            organization: row.try_get::<Id, _>("organization_id")?.into(),
            connector: row.try_get::<Text, _>("connector_type")?.into(),
            row: credential_row(row)?,
        })
    };
    query
        .fetch_all(pool)
        .await
        .and_then(|rows| rows.iter().map(scanned).collect())
        .map_err(|error| failure("reading a page of credentials", error))
}

/// The first and the last rowid of a range.
fn bounds(range: Range) -> (i64, i64) {
    let at = |cursor| match cursor {
        Some(Cursor::RowId(rowid)) => Some(rowid),
        _ => None,
    };
    (at(range.from).unwrap_or(i64::MIN), at(range.to).unwrap_or(i64::MAX))
}

async fn window_end(pool: &SqlitePool, from: Option<Cursor>, rows: u32) -> Result<Option<Cursor>> {
    let (from, _) = bounds(Range { from, to: None });
    sqlx::query_scalar::<_, i64>(sql::WINDOW_END)
        .bind(from)
        .bind(i64::from(rows.saturating_sub(1)))
        .fetch_optional(pool)
        .await
        .map(|id| id.map(Cursor::RowId))
        .map_err(|error| failure("dividing the credentials into windows", error))
}

async fn swap(store: &SqliteStore, run: RunId, swaps: Arc<[Swap]>) -> Result<Swapped> {
    let (pool, turn) = (store.pool.clone(), Arc::clone(&store.turn));
    to_the_end(async move {
        let say = |error| failure("writing a page of re-encrypted credentials", error);
        // Made before it is this page's turn: while it writes, all other writers wait.
        let statements: Vec<_> =
            swaps.chunks(sql::SWAPPED_AT_ONCE).map(|swaps| (swaps, swap_statement(run, swaps))).collect();
        let turn = turn.lock_owned().await;
        let began = Instant::now();
        let mut transaction = begin(&pool).await.map_err(say)?;
        let mut written = Vec::with_capacity(swaps.len());
        for (swaps, statement) in statements {
            let done = statement.execute(&mut *transaction).await.map_err(say)?;
            // A row that a statement returns costs more than its update.
            if done.rows_affected() == swaps.len() as u64 {
                written.extend(swaps.iter().map(|swap| swap.integration));
                continue;
            }
            let new: Vec<_> =
                swaps.iter().map(|swap| (swap.integration.to_string(), Revision::of(&swap.new))).collect();
            let new: HashMap<_, _> = new.iter().map(|(id, new)| (id.as_str(), new.as_str())).collect();
            let these =
                sqlx::query_scalar::<_, Id>(sql::WRITTEN).bind(Json(&new)).fetch_all(&mut *transaction);
            written.extend(these.await.map_err(say)?.into_iter().map(IntegrationId::from));
        }
        transaction.commit().await.map_err(say)?;
        // The next page can be written beside what follows this one, but not at once.
        let rest = began.elapsed() / REST_OF_FILE;
        tokio::spawn(async move {
            tokio::time::sleep(rest).await;
            drop(turn);
        });
        Ok(Swapped::Written(written))
    })
    .await
}

/// `SWAP` with its values; each row beyond those given is NULL, and matches nothing.
fn swap_statement(run: RunId, swaps: &[Swap]) -> Query<'_, Sqlite, SqliteArguments> {
    let mut statement = sqlx::query(sql::SWAP);
    for swap in swaps {
        let rowid = match swap.address {
            RowAddress::RowId(rowid) => Some(rowid),
            #[cfg(feature = "postgres")]
            RowAddress::Tuple(..) => None,
        };
        statement = statement
            .bind(rowid)
            .bind(Id::from(swap.integration))
            .bind(Id::from(swap.organization))
            .bind(swap.old.as_str())
            .bind(swap.old_expires_at.map(Time::from))
            .bind(swap.new.as_str())
            .bind(swap.key.to_string());
    }
    for _ in 0..7 * (sql::SWAPPED_AT_ONCE - swaps.len()) {
        statement = statement.bind(None::<i64>);
    }
    statement.bind(run.0)
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

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions as _;

    use super::*;

    #[tokio::test]
    async fn after_each_page_the_file_is_left_to_others_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("vault.db"));
        let store = SqliteStore::connect(options.clone(), Missing::Create).await.unwrap();
        let mut other = options.busy_timeout(StdDuration::ZERO).connect().await.unwrap();
        let swap = Swap {
            address: RowAddress::RowId(1),
            integration: Uuid::nil().into(),
            organization: Uuid::nil().into(),
            old: String::new(),
            old_expires_at: None,
            new: "cv1.".to_owned(),
            key: DataKeyId::LEGACY,
        };
        let page: Arc<[Swap]> = vec![swap; 5_000].into();
        let mut next_may_begin = true;
        // A busy machine may come back to this only after that while.
        for _ in 0..10 {
            let began = Instant::now();
            store.swap(RunId(1), Arc::clone(&page)).await.unwrap();
            tokio::time::sleep(began.elapsed() / REST_OF_FILE / 2).await;
            next_may_begin &= store.turn.try_lock().is_ok();
            sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut other).await.unwrap();
        }
        assert!(!next_may_begin);
    }
}
