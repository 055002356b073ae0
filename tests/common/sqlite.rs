//! SQLite databases, each a file in a folder of its own.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tempfile::TempDir;

/// A database that does not exist yet; its folder is removed when this is dropped.
pub struct Database {
    url: String,
    _folder: TempDir,
}

/// The place of a fresh database.
pub fn database() -> Database {
    let folder = TempDir::with_prefix("credvault-sqlite-").expect("no temporary folder");
    let url = format!("sqlite:{}", folder.path().join("vault.db").display());
    Database { url, _folder: folder }
}

impl Database {
    /// `sqlite:PATH`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A pool on the file, which is created if it is missing.
    pub async fn pool(&self) -> SqlitePool {
        SqlitePool::connect_with(self.options()).await.expect("SQLite does not open the file")
    }

    /// A connection that leaves the pragma foreign_keys off, as many programs do.
    pub async fn connect_plain(&self) -> Result<SqliteConnection, sqlx::Error> {
        SqliteConnection::connect_with(&self.options().foreign_keys(false)).await
    }

    fn options(&self) -> SqliteConnectOptions {
        self.url.parse::<SqliteConnectOptions>().unwrap().create_if_missing(true)
    }
}
