//! The tables: statements in, rows out. A store sees neither a key nor a plaintext, and all SQL is below here.
//!
//! One trait for each family of tables, implemented by two dialects. The bodies that both share stand once, in
//! `credentials`, `pages`, `keys`, `data_keys`, `runs`, `drains`, `quarantine` and `inspection`; the statements that both
//! share in `sql` and `key_sql`; what differs in `postgres` and `sqlite` alone.

mod column;
mod credentials;
mod data_keys;
mod drains;
mod failure;
mod inspection;
mod key_sql;
mod keys;
pub(crate) mod migrate;
mod pages;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod quarantine;
mod rows;
mod runs;
mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
mod target;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
#[cfg(feature = "postgres")]
use sqlx::PgConnection;
#[cfg(feature = "sqlite")]
use sqlx::SqliteConnection;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use credentials::CredentialStore;
pub(crate) use data_keys::{CheckWrapped, DataKeyStore};
pub(crate) use drains::{Captured, DrainStore, OlderTransaction};
pub(crate) use inspection::InspectionStore;
pub(crate) use keys::KeyStore;
pub(crate) use pages::PageStore;
pub(crate) use quarantine::QuarantineStore;
pub(crate) use rows::*;
pub use rows::{KeyState, Phase};
pub(crate) use runs::{Lease, LeaseRequest, RunId, RunKind, RunRow, RunStore};
use target::Target;

/// Everything that the layers above ask of a database.
#[async_trait]
pub(crate) trait Store:
    CredentialStore
    + PageStore
    + KeyStore
    + DataKeyStore
    + RunStore
    + DrainStore
    + QuarantineStore
    + InspectionStore
    + fmt::Debug
    + Send
    + Sync
{
    /// Closes the pool if it is the store's own, once its connections are back; a caller's pool is left alone.
    async fn close(&self);
}

/// A connection of the caller's, usually inside a transaction of the caller's.
///
/// Made from `&mut PgConnection` or `&mut SqliteConnection`; of a transaction, pass `&mut *transaction`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Connection<'c> {
    /// A connection to PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut PgConnection),
    /// A connection to SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut SqliteConnection),
    /// No store is part of this build.
    #[cfg(not(any(feature = "postgres", feature = "sqlite")))]
    #[doc(hidden)]
    None(&'c mut std::convert::Infallible),
}

#[cfg(feature = "postgres")]
impl<'c> From<&'c mut PgConnection> for Connection<'c> {
    fn from(connection: &'c mut PgConnection) -> Self {
        Self::Postgres(connection)
    }
}

#[cfg(feature = "sqlite")]
impl<'c> From<&'c mut SqliteConnection> for Connection<'c> {
    fn from(connection: &'c mut SqliteConnection) -> Self {
        Self::Sqlite(connection)
    }
}

/// Where a statement runs: on a connection of the pool, or on the caller's and no other.
#[derive(Debug)]
pub(crate) enum On<'c> {
    Pool,
    Caller(Connection<'c>),
}

impl On<'_> {
    /// The same place, for one statement of several.
    pub(crate) fn reborrow(&mut self) -> On<'_> {
        match self {
            Self::Pool => On::Pool,
            Self::Caller(connection) => On::Caller(match connection {
                #[cfg(feature = "postgres")]
                Connection::Postgres(connection) => Connection::Postgres(connection),
                #[cfg(feature = "sqlite")]
                Connection::Sqlite(connection) => Connection::Sqlite(connection),
                #[cfg(not(any(feature = "postgres", feature = "sqlite")))]
                Connection::None(connection) => Connection::None(connection),
            }),
        }
    }
}

/// The error for a caller's connection to the other kind of database.
#[cfg(all(feature = "postgres", feature = "sqlite"))]
fn wrong_dialect() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "the connection given is not one to the kind of database the vault is in",
    )
}

/// Runs a transaction to its end, whatever becomes of the caller.
///
/// A transaction whose future is dropped can leave a pooled connection inside it (launchbadge/sqlx #4385), so none
/// is ever dropped: it runs in a task of its own.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Store, "the transaction's task ended early").retryable()),
    }
}

/// What a statement reads, each row as `of_row` has it, in a transaction of its own, for what `begin` sets.
async fn read<DB: sqlx::Database, T>(
    doing: &'static str,
    pool: &sqlx::Pool<DB>,
    begin: &'static str,
    statement: sqlx::query::Query<'static, DB, DB::Arguments>,
    of_row: impl FnMut(DB::Row) -> sqlx::Result<T>,
) -> Result<Vec<T>>
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
    DB::Arguments: sqlx::IntoArguments<DB>,
{
    let say = move |error| failure::failure(doing, error);
    let pool = pool.clone();
    let rows = to_the_end(async move {
        let mut transaction = pool.begin_with(begin).await.map_err(say)?;
        let rows = statement.fetch_all(&mut *transaction).await.map_err(say)?;
        transaction.commit().await.map_err(say)?;
        Ok(rows)
    });
    rows.await?.into_iter().map(of_row).collect::<sqlx::Result<_>>().map_err(say)
}

/// What becomes of an SQLite file that isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made.
    Create,
    /// It is an error.
    Fail,
}

/// A connection for one statement, taken from the pool or lent by the caller.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
enum Borrowed<'c, DB: sqlx::Database> {
    Pooled(sqlx::pool::PoolConnection<DB>),
    Callers(&'c mut DB::Connection),
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl<DB: sqlx::Database> std::ops::Deref for Borrowed<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Callers(connection) => connection,
        }
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl<DB: sqlx::Database> std::ops::DerefMut for Borrowed<'_, DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Callers(connection) => connection,
        }
    }
}

/// Whose a pool is, and so who closes it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolOwner {
    Caller,
    Store,
}

/// Where a vault is.
pub(crate) enum Place {
    /// At a URL, on a pool of our own.
    Url(String),
    /// On the caller's pool.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    /// On the caller's pool.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
}

impl Place {
    /// The store at this place.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the URL is none, `Unsupported` if this build has no such store, `NotInitialized` if an SQLite
    /// file isn't there and isn't to be made, `Store` if the database can't be reached.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(unused_variables, reason = "only an SQLite file is ever made")
    )]
    pub(crate) async fn open(self, missing: Missing) -> Result<Arc<dyn Store>> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Ok(Arc::new(postgres::PostgresStore::new(pool))),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => Ok(Arc::new(sqlite::SqliteStore::new(pool))),
            Self::Url(url) => match Target::parse(&url)? {
                #[cfg(feature = "postgres")]
                Target::Postgres(options) => Ok(Arc::new(postgres::PostgresStore::connect(options).await?)),
                #[cfg(feature = "sqlite")]
                Target::Sqlite(options) => {
                    Ok(Arc::new(sqlite::SqliteStore::connect(options, missing).await?))
                }
                #[cfg(feature = "sqlite")]
                Target::SqliteInMemory(options) => {
                    Ok(Arc::new(sqlite::SqliteStore::in_memory(options).await?))
                }
            },
        }
    }
}

impl fmt::Debug for Place {
    /// A URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// Reads a database's URL, and connects to nothing: for the property tests and fuzz targets.
///
/// # Errors
///
/// As reading it.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn check_url(url: &str) -> Result<()> {
    Target::parse(url).map(|_| ())
}
