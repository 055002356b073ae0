//! The service's own statements, on the pool that it shares with the vault.

use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use credvault::{Credential, ExposeSecret, Organization, OrganizationId, Revision};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use crate::AnyError;
use crate::requests::Failure;

/// A vault's call takes one connection, and so does each of ours; a server has a hundred, as a rule, for all its clients.
const MAX_CONNECTIONS: u32 = 10;

const INSERT_INTEGRATION: &str =
    "INSERT INTO integrations (id, organization_id, user_id, connector_type, status, bot_id)
     VALUES ($1, $2, $3, 'github', 'active', $4)
     ON CONFLICT (organization_id, connector_type) DO NOTHING";

/// The credential goes along, by its foreign key.
const DELETE_INTEGRATION: &str =
    "DELETE FROM integrations WHERE organization_id = $1 AND connector_type = 'github'";

/// sqlx's own message may repeat the URL, with its password.
const MALFORMED: &str = "DATABASE_URL is malformed";

const CONNECTED: Failure = Failure::Answer(StatusCode::CONFLICT, "the organization is connected already");

/// The pool of either store; a service of yours has one of them.
#[derive(Clone)]
pub(crate) enum Database {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Database {
    /// A pool on the database at `url`, as the vault likes it.
    pub(crate) async fn connect(url: &str) -> Result<Self, AnyError> {
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).map_err(|_| MALFORMED)?;
            let options = options
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(10));
            let pool = SqlitePoolOptions::new().max_connections(MAX_CONNECTIONS).test_before_acquire(false);
            return Ok(Self::Sqlite(pool.connect_with(options).await?));
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| MALFORMED)?;
        // A round trip less for each call; a connection that died shows as an error to try again after.
        let pool = PgPoolOptions::new().max_connections(MAX_CONNECTIONS).test_before_acquire(false);
        Ok(Self::Postgres(pool.connect_with(options.application_name("github_service")).await?))
    }

    /// Makes an organization's integration with GitHub and stores its token, both or neither.
    pub(crate) async fn connect_github(
        &self,
        organization: &Organization,
        token: &Credential,
    ) -> Result<(Uuid, Revision), Failure> {
        let id = Uuid::new_v4();
        // Whoever is logged in; this service knows no users.
        let user = Uuid::nil();
        let installation = token.field("installation_id").map(ExposeSecret::expose_secret);
        let revision = match self {
            Self::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let made = sqlx::query(INSERT_INTEGRATION)
                    .bind(id)
                    .bind(Uuid::from(organization.id()))
                    .bind(user)
                    .bind(installation)
                    .execute(&mut *transaction)
                    .await?;
                if made.rows_affected() == 0 {
                    return Err(CONNECTED);
                }
                let revision = organization.put_in(&mut *transaction, id, token).await?;
                transaction.commit().await?;
                revision
            }
            Self::Sqlite(pool) => {
                // As a writer from the beginning: one that begins by reading can't become one beside another.
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                // Ids are lower-case text with hyphens.
                let made = sqlx::query(INSERT_INTEGRATION)
                    .bind(id.hyphenated())
                    .bind(Uuid::from(organization.id()).hyphenated())
                    .bind(user.hyphenated())
                    .bind(installation)
                    .execute(&mut *transaction)
                    .await?;
                if made.rows_affected() == 0 {
                    return Err(CONNECTED);
                }
                let revision = organization.put_in(&mut *transaction, id, token).await?;
                transaction.commit().await?;
                revision
            }
        };
        Ok((id, revision))
    }

    /// Deletes an organization's integration with GitHub; `false` if there is none.
    pub(crate) async fn disconnect_github(&self, organization: OrganizationId) -> Result<bool, Failure> {
        let id = Uuid::from(organization);
        let deleted = match self {
            Self::Postgres(pool) => {
                sqlx::query(DELETE_INTEGRATION).bind(id).execute(pool).await?.rows_affected()
            }
            Self::Sqlite(pool) => {
                sqlx::query(DELETE_INTEGRATION).bind(id.hyphenated()).execute(pool).await?.rows_affected()
            }
        };
        Ok(deleted == 1)
    }

    /// Closes the pool once all connections are back.
    pub(crate) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

/// Whether the same statement may succeed in a moment: the database was away or busy. Other errors of a service's own
/// statements are bugs.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    // Serialization failure, deadlock, lock not available; SQLite's busy.
    const CODES: [&str; 4] = ["40001", "40P01", "55P03", "5"];
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| CODES.contains(&code.as_ref())),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
