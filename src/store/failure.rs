//! From sqlx's errors to ours. sqlx's own print values, and a constraint's detail holds the whole row: only the
//! kind, the SQLSTATE and the database's primary message go on.

use std::{fmt, io};

use sqlx::error::ErrorKind as Constraint;

use crate::error::{Error, ErrorKind};

/// What is left of a database's error: its code and its primary message.
#[derive(Debug)]
struct DatabaseFailure {
    code: Option<String>,
    message: String,
}

impl fmt::Display for DatabaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} (code {code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for DatabaseFailure {}

/// SQLSTATEs after which the same call may succeed: serialization failure, deadlock, lock not available,
/// statement cancelled by a time limit, a server that is starting, stopping or full, a full disk, and a connection that it
/// ended for being idle, within a transaction or not (a pooled one learns of it at its next use).
const RETRYABLE_SQLSTATES: [&str; 12] = [
    "25P03", "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "53100", "53300",
    "08006",
];

/// SQLite's primary result codes after which the same call may succeed: BUSY, LOCKED, FULL, and PROTOCOL, a lost race for
/// the write-ahead log.
const RETRYABLE_SQLITE_CODES: [u32; 4] = [5, 6, 13, 15];

/// A write in a transaction that may only read, as all of a replica's are.
const READ_ONLY_SQLSTATE: &str = "25006";
/// SQLite's primary result code of a write to a file that may only be read.
const READ_ONLY_SQLITE_CODE: u32 = 8;

/// Tables that aren't there: the database was never migrated.
const UNDEFINED_TABLE: &str = "42P01";

/// A statement that the role has no right to.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Whether the database refused a statement as its role may not do that.
pub(super) fn is_for_want_of_a_right(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(INSUFFICIENT_PRIVILEGE))
}

/// Turns sqlx's error into ours; `doing` says what was tried, with ids only.
pub(super) fn failure(doing: &str, error: sqlx::Error) -> Error {
    let say = |kind, what: &str| Error::new(kind, format!("{doing}: {what}"));
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().map(|code| code.into_owned());
            // Class 22 is about a value, and its message repeats it.
            let about_a_value = code.as_deref().is_some_and(|code| code.starts_with("22"));
            let message =
                if about_a_value { "a value is not of its type" } else { error.message() }.to_owned();
            let missing_table =
                code.as_deref() == Some(UNDEFINED_TABLE) || message.starts_with("no such table");
            let retryable = code.as_deref().is_some_and(is_retryable);
            let read_only = code.as_deref().is_some_and(is_read_only);
            let failure = if missing_table {
                say(ErrorKind::NotInitialized, "this database holds no vault; run `credvault init` first")
            } else if read_only {
                say(ErrorKind::Store, "the database is read-only: a replica, or set so; write to the primary")
            } else {
                match error.kind() {
                    Constraint::UniqueViolation => say(ErrorKind::Refused, "the database has one already"),
                    Constraint::ForeignKeyViolation => say(
                        ErrorKind::Refused,
                        "the database refused it: something it names is gone, or in use",
                    ),
                    _ => say(ErrorKind::Store, &format!("the database refused: {message}")),
                }
            };
            let failure = failure.with_source(DatabaseFailure { code, message });
            if retryable { failure.retryable() } else { failure }
        }
        // rustls says which certificate it did not take, and why.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            say(ErrorKind::Store, &format!("TLS with the database failed: {error}"))
        }
        sqlx::Error::Io(error) => {
            // The operating system's words, or the resolver's: no part of the URL.
            say(ErrorKind::Store, &format!("the connection to the database failed ({error})")).retryable()
        }
        sqlx::Error::PoolTimedOut => say(ErrorKind::Store, "no connection became free in time").retryable(),
        sqlx::Error::PoolClosed => say(ErrorKind::Store, "the connection pool is closed"),
        sqlx::Error::WorkerCrashed => say(ErrorKind::Store, "the database's worker thread ended").retryable(),
        sqlx::Error::Tls(error) => say(ErrorKind::Store, "no secure connection to the database")
            .with_source(DatabaseFailure { code: None, message: error.to_string() }),
        sqlx::Error::Configuration(_) => say(ErrorKind::InvalidInput, "the database URL is not one"),
        sqlx::Error::RowNotFound => say(ErrorKind::Store, "the database gave no row where one was expected"),
        sqlx::Error::ColumnDecode { index, .. } => {
            say(ErrorKind::Malformed, &format!("column {index} holds a value of another type"))
        }
        sqlx::Error::Protocol(_) => say(ErrorKind::Store, "the database's answer made no sense").retryable(),
        _ => say(ErrorKind::Store, "the database driver failed"),
    }
}

/// Whether a SQLSTATE, or an SQLite code with whatever extension, is one that may be gone at the next try.
fn is_retryable(code: &str) -> bool {
    RETRYABLE_SQLSTATES.contains(&code)
        || primary_sqlite_code(code).is_some_and(|code| RETRYABLE_SQLITE_CODES.contains(&code))
}

fn is_read_only(code: &str) -> bool {
    code == READ_ONLY_SQLSTATE || primary_sqlite_code(code) == Some(READ_ONLY_SQLITE_CODE)
}

/// The primary code of an SQLite code with whatever extension; `None` of a SQLSTATE, which has five characters.
fn primary_sqlite_code(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff)
}
