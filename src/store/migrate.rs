//! The migrations: which of them a database lacks, and how they are applied.

mod embedded;

#[cfg(feature = "sqlite")]
use std::time::{Duration, Instant};

use sqlx::Connection;
#[cfg(feature = "postgres")]
use sqlx::PgConnection;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError};
#[cfg(feature = "sqlite")]
use sqlx::{SqliteConnection, sqlite::SqliteConnectOptions};

use self::embedded::Embedded;
#[cfg(feature = "postgres")]
use self::embedded::POSTGRES;
#[cfg(feature = "sqlite")]
use self::embedded::SQLITE;
#[cfg(feature = "postgres")]
use super::postgres::connect;
use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{self, within};

/// The migrator's books, under a name of its own: the host application may have sqlx migrations too.
const BOOKS: &str = "_credvault_migrations";

/// How long a migration of PostgreSQL waits for a lock before it gives up. While it waits for a table, everybody
/// who comes later waits behind it.
#[cfg(feature = "postgres")]
const LOCK_TIMEOUT: &str = "10s";

/// How long a busy SQLite file is tried again, beyond the busy timeout of its connection.
#[cfg(feature = "sqlite")]
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the next try.
#[cfg(feature = "sqlite")]
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A migration of the schema, as its file is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationName {
    /// The number that its file name begins with; it never changes.
    pub version: i64,
    /// What it is about, in a few words.
    pub description: String,
}

/// Brings the database at `url` (`postgres://…`, `sqlite:PATH`) to the schema of this version and returns what it
/// applied, in order; nothing when the database has it all.
///
/// An SQLite file that is missing is created. Any number of processes may call this at the same time.
///
/// # Errors
/// `InvalidInput` when `url` is of no known form; `Unsupported` when the database was migrated by a newer version,
/// before anything is written, or when the feature of its kind of database is off; `Refused` when an applied
/// migration is not the one of this version; `Store` when the database can't be reached or refuses a migration.
pub async fn migrate(url: &str) -> Result<Vec<MigrationName>> {
    within(limit::TABLE, migrate_target(Target::parse(url)?)).await
}

async fn migrate_target(target: Target) -> Result<Vec<MigrationName>> {
    match target {
        #[cfg(feature = "postgres")]
        Target::Postgres(options) => {
            let connection = connect(&options).await.map_err(failure)?;
            migrate_postgres(connection).await
        }
        #[cfg(feature = "sqlite")]
        Target::Sqlite(options) => migrate_sqlite_file(&options.create_if_missing(true)).await,
        #[cfg(feature = "sqlite")]
        Target::SqliteInMemory(options) => {
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failure)?;
            migrate_sqlite(&mut connection).await
        }
    }
}

/// What [`migrate`] would apply to the database at `url`; writes nothing, and creates no file.
///
/// # Errors
/// As [`migrate`].
pub async fn pending_migrations(url: &str) -> Result<Vec<MigrationName>> {
    within(limit::CALL, pending_in(Target::parse(url)?)).await
}

async fn pending_in(target: Target) -> Result<Vec<MigrationName>> {
    match target {
        #[cfg(feature = "postgres")]
        Target::Postgres(options) => {
            let mut connection = connect(&options).await.map_err(failure)?;
            let pending = pending_postgres(&mut connection).await?;
            connection.close().await.map_err(failure)?;
            Ok(pending)
        }
        #[cfg(feature = "sqlite")]
        Target::SqliteInMemory(_) => pending(&[], &SQLITE),
        #[cfg(feature = "sqlite")]
        Target::Sqlite(options) => {
            if !options.get_filename().exists() {
                return pending(&[], &SQLITE);
            }
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failure)?;
            let pending = pending_sqlite(&mut connection).await?;
            connection.close().await.map_err(failure)?;
            Ok(pending)
        }
    }
}

/// Whether the database at `url` has no table yet, of whomever; an SQLite file that isn't there has none. Writes
/// nothing, and creates no file.
///
/// # Errors
/// `InvalidInput` when `url` is of no known form; `Unsupported` when the feature of its kind of database is off;
/// `Store` when the database can't be reached.
pub async fn is_empty_database(url: &str) -> Result<bool> {
    within(limit::CALL, has_no_table(Target::parse(url)?)).await
}

async fn has_no_table(target: Target) -> Result<bool> {
    const DOING: &str = "looking for tables";
    let failure = |error| super::failure::failure(DOING, error);
    match target {
        #[cfg(feature = "postgres")]
        Target::Postgres(options) => {
            let mut connection = connect(&options).await.map_err(failure)?;
            // Extensions bring views, at many a host into every new database: only tables count.
            let is_empty = sqlx::query_scalar(
                "SELECT NOT EXISTS (
                     SELECT 1
                       FROM pg_catalog.pg_class AS c
                       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                      WHERE c.relkind IN ('r', 'p')
                        AND n.nspname <> 'information_schema'
                        AND left(n.nspname, 3) <> 'pg_')",
            )
            .fetch_one(&mut connection)
            .await
            .map_err(failure)?;
            connection.close().await.map_err(failure)?;
            Ok(is_empty)
        }
        #[cfg(feature = "sqlite")]
        Target::SqliteInMemory(_) => Ok(true),
        #[cfg(feature = "sqlite")]
        Target::Sqlite(options) => {
            if !options.get_filename().exists() {
                return Ok(true);
            }
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failure)?;
            let is_empty =
                sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table')")
                    .fetch_one(&mut connection)
                    .await
                    .map_err(failure)?;
            connection.close().await.map_err(failure)?;
            Ok(is_empty)
        }
    }
}

/// Applies what is pending and returns it. The connection is closed on success and on failure alike: a failed or
/// dropped run of sqlx's migrator keeps its advisory lock for as long as its connection lives.
#[cfg(feature = "postgres")]
pub(crate) async fn migrate_postgres(mut connection: PgConnection) -> Result<Vec<MigrationName>> {
    let outcome = apply_postgres(&mut connection).await;
    let closed = connection.close().await;
    let applied = outcome?;
    closed.map_err(failure)?;
    Ok(applied)
}

#[cfg(feature = "postgres")]
async fn apply_postgres(connection: &mut PgConnection) -> Result<Vec<MigrationName>> {
    sqlx::query("SELECT set_config('lock_timeout', $1, false)")
        .bind(LOCK_TIMEOUT)
        .execute(&mut *connection)
        .await
        .map_err(failure)?;
    connection.lock().await.map_err(migrate_failure)?;
    let pending = pending_postgres(connection).await?;
    apply(connection, &POSTGRES, &pending).await?;
    Ok(pending)
}

/// Applies what is pending and returns it; all of it, or on failure nothing.
///
/// sqlx's lock of SQLite does nothing, so one write transaction is held round the whole run, in which those of the
/// migrator become savepoints.
#[cfg(feature = "sqlite")]
pub(crate) async fn migrate_sqlite(connection: &mut SqliteConnection) -> Result<Vec<MigrationName>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failure)?;
    let pending = pending_sqlite(&mut transaction).await?;
    apply(&mut *transaction, &SQLITE, &pending).await?;
    transaction.commit().await.map_err(failure)?;
    Ok(pending)
}

/// Migrates a file that other processes may be creating, turning to the write-ahead log, or migrating just now.
///
/// SQLite answers "busy" at once, whatever the busy timeout, to who meets the change to the write-ahead log:
/// so that answer is not final here.
#[cfg(feature = "sqlite")]
pub(crate) async fn migrate_sqlite_file(options: &SqliteConnectOptions) -> Result<Vec<MigrationName>> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match try_migrate_sqlite_file(options).await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(feature = "sqlite")]
async fn try_migrate_sqlite_file(options: &SqliteConnectOptions) -> Result<Vec<MigrationName>> {
    let mut connection = SqliteConnection::connect_with(options).await.map_err(failure)?;
    // A database that is refused keeps its journal mode.
    pending_sqlite(&mut connection).await?;
    // The file remembers it, for every later connection.
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await.map_err(failure)?;
    let applied = migrate_sqlite(&mut connection).await?;
    connection.close().await.map_err(failure)?;
    Ok(applied)
}

/// What [`migrate_postgres`] would apply; writes nothing, and works on an empty database.
#[cfg(feature = "postgres")]
pub(crate) async fn pending_postgres(connection: &mut PgConnection) -> Result<Vec<MigrationName>> {
    let books: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(BOOKS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failure)?;
    pending_by_books(connection, books, &POSTGRES).await
}

/// What [`migrate_sqlite`] would apply; writes nothing, and works on an empty database.
#[cfg(feature = "sqlite")]
pub(crate) async fn pending_sqlite(connection: &mut SqliteConnection) -> Result<Vec<MigrationName>> {
    let books: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)")
            .bind(BOOKS)
            .fetch_one(&mut *connection)
            .await
            .map_err(failure)?;
    pending_by_books(connection, books, &SQLITE).await
}

/// Applies those of `list` that are pending, each in a transaction of its own, or a savepoint.
///
/// What `Migrator::run` does after its checks, which [`pending`] has done: its own future is not `Send` for the
/// compiler, and nobody could spawn a migration.
async fn apply<C: Migrate + Send>(
    connection: &mut C,
    list: &'static [Embedded],
    pending: &[MigrationName],
) -> Result<()> {
    connection.ensure_migrations_table(BOOKS).await.map_err(migrate_failure)?;
    for known in list {
        if pending.iter().any(|name| name.version == known.version) {
            connection.apply(BOOKS, &known.migration()).await.map_err(migrate_failure)?;
        }
    }
    Ok(())
}

/// What of `list` is pending on a database, which has no books before its first migration.
async fn pending_by_books<C: Migrate>(
    connection: &mut C,
    has_books: bool,
    list: &[Embedded],
) -> Result<Vec<MigrationName>> {
    let applied = if has_books {
        connection.list_applied_migrations(BOOKS).await.map_err(migrate_failure)?
    } else {
        Vec::new()
    };
    pending(&applied, list)
}

/// What of `list` is not in the books, once the books are known to be of this version or of an older one.
fn pending(applied: &[AppliedMigration], list: &[Embedded]) -> Result<Vec<MigrationName>> {
    for entry in applied {
        match list.iter().find(|known| known.version == entry.version) {
            None => return Err(newer(entry.version)),
            Some(known) if known.migration().checksum != entry.checksum => return Err(edited(entry.version)),
            Some(_) => {}
        }
    }
    Ok(list
        .iter()
        .filter(|known| applied.iter().all(|entry| entry.version != known.version))
        .map(|known| MigrationName { version: known.version, description: known.description.to_owned() })
        .collect())
}

fn newer(version: i64) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the database has migration {version}, which this version does not know: use a newer version"
        ),
    )
}

fn edited(version: i64) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "migration {version} of the database differs from that of this version: a released migration was \
             edited; build from a released version"
        ),
    )
}

fn migrate_failure(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => failure(error),
        MigrateError::ExecuteMigration(error, version) => {
            failure(error).within(format_args!("migration {version}"))
        }
        _ => Error::new(ErrorKind::Store, format!("the table {BOOKS} is not as the migrator leaves it")),
    }
}

fn failure(error: sqlx::Error) -> Error {
    super::failure::failure("migrating the database", error)
}

#[cfg(test)]
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn database_in_memory_is_migrated_too() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        assert_eq!(pending_sqlite(&mut connection).await.unwrap().len(), SQLITE.len());
        assert_eq!(migrate_sqlite(&mut connection).await.unwrap().len(), SQLITE.len());
        assert_eq!(migrate_sqlite(&mut connection).await.unwrap(), []);
        assert_eq!(pending_sqlite(&mut connection).await.unwrap(), []);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn connections_to_one_file_wait_for_each_other() {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let options = SqliteConnectOptions::new()
                .filename(folder.path().join("vault.db"))
                .create_if_missing(true)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
            let mut connections = Vec::new();
            for _ in 0..8 {
                connections.push(SqliteConnection::connect_with(&options).await.unwrap());
            }
            let mut runs = tokio::task::JoinSet::new();
            for mut connection in connections {
                runs.spawn(async move { migrate_sqlite(&mut connection).await.unwrap().len() });
            }
            assert_eq!(runs.join_all().await.iter().sum::<usize>(), SQLITE.len());
        }
    }

    #[tokio::test]
    async fn failed_run_on_sqlite_leaves_nothing_and_no_transaction() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql("CREATE VIEW integrations AS SELECT 1 AS id").execute(&mut connection).await.unwrap();
        let error = migrate_sqlite(&mut connection).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().starts_with("migration 2: "), "{error}");
        assert_eq!(pending_sqlite(&mut connection).await.unwrap().len(), SQLITE.len());
        sqlx::raw_sql("DROP VIEW integrations").execute(&mut connection).await.unwrap();
        assert_eq!(migrate_sqlite(&mut connection).await.unwrap().len(), SQLITE.len());
    }

    #[tokio::test]
    async fn url_of_another_kind_is_refused_and_not_repeated() {
        for url in ["mysql://user:hunter2@host/db", "hunter2", "postgres://user:hunter2@host:port/db"] {
            for error in [migrate(url).await.unwrap_err(), pending_migrations(url).await.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(!format!("{error:?}").contains("hunter2"));
            }
        }
    }
}
