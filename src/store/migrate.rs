//! The migrations, embedded: which there are, which a database lacks, and how they are applied.

#[cfg(feature = "postgres")]
use sqlx::PgConnection;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlSafeStr};
#[cfg(feature = "sqlite")]
use sqlx::{SqliteConnection, sqlite::SqliteConnectOptions};

use super::target::Target;
use crate::error::{Error, ErrorKind, Result};

/// The migrator's books, under a name of its own: the host application may have sqlx migrations too.
const BOOKS: &str = "_credvault_migrations";

/// How long a migration of PostgreSQL waits for a lock before it gives up. While it waits for a table, everybody
/// who comes later waits behind it.
#[cfg(feature = "postgres")]
const LOCK_TIMEOUT: &str = "10s";

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
    match Target::parse(url)? {
        #[cfg(feature = "postgres")]
        Target::Postgres(options) => {
            let connection = PgConnection::connect_with(&options).await.map_err(failure)?;
            migrate_postgres(connection).await
        }
        #[cfg(feature = "sqlite")]
        Target::Sqlite(options) | Target::SqliteInMemory(options) => {
            let mut connection = connect_sqlite(&options.create_if_missing(true)).await?;
            let applied = migrate_sqlite(&mut connection).await?;
            persist_wal(&mut connection).await?;
            connection.close().await.map_err(failure)?;
            Ok(applied)
        }
    }
}

/// What [`migrate`] would apply to the database at `url`; writes nothing, and creates no file.
///
/// # Errors
/// As [`migrate`].
pub async fn pending_migrations(url: &str) -> Result<Vec<MigrationName>> {
    match Target::parse(url)? {
        #[cfg(feature = "postgres")]
        Target::Postgres(options) => {
            let mut connection = PgConnection::connect_with(&options).await.map_err(failure)?;
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
            let mut connection = connect_sqlite(&options).await?;
            let pending = pending_sqlite(&mut connection).await?;
            connection.close().await.map_err(failure)?;
            Ok(pending)
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
    // Session advisory locks nest: with this one held the list is still true when the migrator runs.
    connection.lock().await.map_err(migrate_failure)?;
    let pending = pending_postgres(connection).await?;
    migrator(&POSTGRES)
        // Not `run`: its `Acquire` is not general enough to be awaited behind a trait object.
        .run_direct(None, connection, false)
        .await
        .map_err(migrate_failure)?;
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
    migrator(&SQLITE).run_direct(None, &mut *transaction, false).await.map_err(migrate_failure)?;
    transaction.commit().await.map_err(failure)?;
    Ok(pending)
}

/// What [`migrate_postgres`] would apply; writes nothing, and works on an empty database.
#[cfg(feature = "postgres")]
pub(crate) async fn pending_postgres(connection: &mut PgConnection) -> Result<Vec<MigrationName>> {
    let books: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(BOOKS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failure)?;
    let applied = match books {
        true => connection.list_applied_migrations(BOOKS).await.map_err(migrate_failure)?,
        false => Vec::new(),
    };
    pending(&applied, &POSTGRES)
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
    let applied = match books {
        true => connection.list_applied_migrations(BOOKS).await.map_err(migrate_failure)?,
        false => Vec::new(),
    };
    pending(&applied, &SQLITE)
}

/// One migration of one dialect.
struct Embedded {
    version: i64,
    description: &'static str,
    sql: &'static str,
}

/// The files of a folder. Not sqlx's macro `migrate!`: that would compile all of sqlx a second time for the build
/// machine in every release build, to read what stands here. A test holds this list to the folders.
macro_rules! embedded {
    ($folder:literal) => {
        embedded!($folder:
            1 "identity tables" "001_identity_tables.sql",
            2 "integration tables" "002_integration_tables.sql",
            3 "vault tables" "003_vault_tables.sql",
            4 "validate credential keys" "004_validate_credential_keys.sql",
        )
    };
    ($folder:literal: $($version:literal $description:literal $file:literal,)*) => {
        [$(Embedded {
            version: $version,
            description: $description,
            sql: include_str!(concat!("../../migrations/", $folder, $file)),
        }),*]
    };
}

#[cfg(feature = "postgres")]
static POSTGRES: [Embedded; 4] = embedded!("");
#[cfg(feature = "sqlite")]
static SQLITE: [Embedded; 4] = embedded!("sqlite/");

impl Embedded {
    fn migration(&self) -> Migration {
        Migration::new(
            self.version,
            self.description.into(),
            MigrationType::Simple,
            self.sql.into_sql_str(),
            false,
        )
    }
}

fn migrator(list: &[Embedded]) -> Migrator {
    let mut migrator = Migrator::with_migrations(list.iter().map(Embedded::migration).collect());
    migrator.dangerous_set_table_name(BOOKS);
    migrator
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

#[cfg(feature = "sqlite")]
async fn connect_sqlite(options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    SqliteConnection::connect_with(options).await.map_err(failure)
}

/// Turns on the write-ahead log, which the file remembers.
#[cfg(feature = "sqlite")]
async fn persist_wal(connection: &mut SqliteConnection) -> Result<()> {
    sqlx::query("PRAGMA journal_mode = WAL").execute(connection).await.map_err(failure)?;
    Ok(())
}

fn migrate_failure(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => failure(error),
        MigrateError::ExecuteMigration(error, version) => {
            failure(error).within(format_args!("migration {version}"))
        }
        MigrateError::VersionMissing(version) => newer(version),
        MigrateError::VersionMismatch(version) => edited(version),
        _ => Error::new(ErrorKind::Store, format!("the table {BOOKS} is not as the migrator leaves it")),
    }
}

/// The error without what sqlx and the server add to it: values of rows, and the URL.
pub(super) fn failure(error: sqlx::Error) -> Error {
    let store = |message: String| Error::new(ErrorKind::Store, message);
    match &error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("55P03" | "5" | "517") => {
                store("another connection holds a lock for too long: try again".to_owned()).retryable()
            }
            // Class 42 of PostgreSQL and 1 of SQLite are about objects and rights, and hold no value of a row.
            Some(code) if code == "1" || (code.len() == 5 && code.starts_with("42")) => {
                store(format!("the database refused: {} (code {code})", database.message()))
            }
            Some(code) => store(format!("the database refused (code {code})")),
            None => store("the database refused".to_owned()),
        },
        sqlx::Error::Io(cause) => {
            store(format!("the database could not be reached: {}", cause.kind())).retryable()
        }
        sqlx::Error::Tls(_) => store("the TLS handshake with the database failed".to_owned()),
        _ => store("the database gave an answer that was not expected".to_owned()),
    }
}

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    fn files(folder: &str) -> Vec<(String, String)> {
        let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn listed(list: &[Embedded]) -> Vec<(String, String)> {
        list.iter()
            .map(|known| {
                let name = format!("{:03}_{}.sql", known.version, known.description.replace(' ', "_"));
                (name, known.sql.to_owned())
            })
            .collect()
    }

    #[test]
    fn list_is_the_files_of_both_folders() {
        assert_eq!(listed(&POSTGRES), files("migrations"));
        assert_eq!(listed(&SQLITE), files("migrations/sqlite"));
    }

    #[test]
    fn sql_is_checked_in_with_unix_line_ends() {
        for known in POSTGRES.iter().chain(&SQLITE) {
            assert!(!known.sql.contains('\r'), "{}", known.description);
        }
    }

    #[test]
    fn edited_migration_is_told_from_a_newer_version() {
        let entry =
            |version: i64, checksum: &[u8]| AppliedMigration { version, checksum: checksum.to_vec().into() };
        let error = pending(&[entry(2, b"another")], &SQLITE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("migration 2"));
        let error = pending(&[entry(5000, b"")], &SQLITE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("5000"));
    }

    #[tokio::test]
    async fn database_in_memory_is_migrated_too() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        assert_eq!(pending_sqlite(&mut connection).await.unwrap().len(), SQLITE.len());
        assert_eq!(migrate_sqlite(&mut connection).await.unwrap().len(), SQLITE.len());
        assert_eq!(migrate_sqlite(&mut connection).await.unwrap(), []);
        assert_eq!(pending_sqlite(&mut connection).await.unwrap(), []);
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
