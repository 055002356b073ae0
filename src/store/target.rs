//! Which store a URL names.

use std::str::FromStr;

#[cfg(feature = "postgres")]
use sqlx::postgres::PgConnectOptions;
#[cfg(feature = "sqlite")]
use sqlx::sqlite::SqliteConnectOptions;

use crate::error::{Error, ErrorKind, Result};

/// The longest URL that is read, in bytes: more than hosts, paths and parameters take, and little for sqlx's parser, which
/// knows no limit.
const MAX_URL_BYTES: usize = 65_536;

/// A database by its URL.
pub(super) enum Target {
    #[cfg(feature = "postgres")]
    Postgres(PgConnectOptions),
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteConnectOptions),
    /// SQLite in memory: gone with its last connection.
    #[cfg(feature = "sqlite")]
    SqliteInMemory(SqliteConnectOptions),
}

impl Target {
    /// The database at `url`, in the store that its scheme names.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `url` is of no known form, `Unsupported` if this build has no such store.
    pub(super) fn parse(url: &str) -> Result<Self> {
        if url.len() > MAX_URL_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the database URL is longer than {MAX_URL_BYTES} bytes"),
            ));
        }
        // The URL may hold a password, and so may sqlx's error about it: neither is repeated.
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            #[cfg(feature = "postgres")]
            return PgConnectOptions::from_str(url).map(Self::Postgres).map_err(|_| {
                Error::new(ErrorKind::InvalidInput, "the URL of the PostgreSQL database is malformed")
            });
            #[cfg(not(feature = "postgres"))]
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this build has no PostgreSQL: build it with the feature postgres",
            ));
        }
        if url.starts_with("sqlite:") {
            #[cfg(feature = "sqlite")]
            return match SqliteConnectOptions::from_str(url) {
                Ok(options) if url.contains(":memory:") || url.contains("mode=memory") => {
                    Ok(Self::SqliteInMemory(options))
                }
                // To SQLite that is a database which is gone when it is closed.
                Ok(options) if options.get_filename().as_os_str().is_empty() => Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the URL of the SQLite database names no file: sqlite:PATH",
                )),
                Ok(options) => Ok(Self::Sqlite(options)),
                Err(_) => {
                    Err(Error::new(ErrorKind::InvalidInput, "the URL of the SQLite database is malformed"))
                }
            };
            #[cfg(not(feature = "sqlite"))]
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this build has no SQLite: build it with the feature sqlite",
            ));
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            "the database URL begins with none of postgres://, postgresql://, sqlite:",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_url_longer_than_the_limit_is_refused() {
        let url = |bytes: usize| format!("sqlite:{}", "a".repeat(bytes - "sqlite:".len()));
        assert!(Target::parse(&url(MAX_URL_BYTES)).is_ok());
        let error = Target::parse(&url(MAX_URL_BYTES + 1)).err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::InvalidInput));
    }

    #[test]
    #[cfg(feature = "sqlite")]
    fn a_url_without_a_file_is_refused() {
        for url in ["sqlite:", "sqlite://", "sqlite:?mode=rwc", ""] {
            let error = Target::parse(url).err().map(|error| error.kind());
            assert_eq!(error, Some(ErrorKind::InvalidInput), "{url}");
        }
        for url in ["sqlite:vault.db", "sqlite::memory:"] {
            assert!(Target::parse(url).is_ok(), "{url}");
        }
    }
}
