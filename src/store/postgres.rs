//! PostgreSQL: how it connects, spells types and scans and swaps pages.

use std::time::Duration as StdDuration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgConnectOptions, PgHasArrayType, PgPool, PgPoolOptions, PgRow, PgTypeInfo, PgValueRef,
};
use sqlx::{Connection as _, Decode, Encode, PgConnection, Postgres, Row, Transaction, Type};
use time::Duration;
use uuid::Uuid;

use super::column::{Id, Text, Time};
use super::credentials::{CredentialStore, credential_store};
use super::failure::failure;
use super::keys::{CheckWrapped, KeyStore, key_store};
use super::migrate::{self, MigrationName};
use super::rows::*;
use super::runs::{RunStore, run_store};
use super::{Borrowed, Connection, On, PoolOwner, Store, to_the_end};
use crate::clock::Timestamp;
use crate::credential::{CredentialType, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId};

/// The most connections of a pool of our own: what one service leaves for others of a server's usual hundred.
const MAX_CONNECTIONS: u32 = 10;

/// How long a server may refuse connections, as one does that starts together with the service, and how long a call waits
/// for a connection of the pool.
const CONNECT_WAIT: StdDuration = StdDuration::from_secs(30);

mod sql {
    crate::store::sql::statements!(
        now: "(now() AT TIME ZONE 'utc')",
        microsecond: " * interval '1 microsecond'",
        keep_key_of_i: " FOR KEY SHARE OF i",
        keep_m: " FOR SHARE OF m"
    );

    macro_rules! scan {
        ($where:expr) => {
            concat!(
                "SELECT c.id, c.integration_id, i.organization_id, i.connector_type, ",
                credential_columns!(),
                "
                   FROM integration_credentials AS c
                   JOIN integrations AS i ON i.id = c.integration_id
                  WHERE ",
                $where,
                " ORDER BY c.id LIMIT $1"
            )
        };
    }

    pub(super) const SCAN_ALL_FIRST: &str = scan!("1 = 1");
    pub(super) const SCAN_ALL_NEXT: &str = scan!("c.id > $2");
    pub(super) const SCAN_STALE_FIRST: &str = scan!(is_stale!());
    pub(super) const SCAN_STALE_NEXT: &str = scan!(concat!("c.id > $2 AND ", is_stale!()));
    pub(super) const SCAN_LEGACY_FIRST: &str = scan!("c.encryption_key_id = 'v1'");
    pub(super) const SCAN_LEGACY_NEXT: &str = scan!("c.id > $2 AND c.encryption_key_id = 'v1'");
    pub(super) const SCAN_OF_FIRST: &str = scan!("i.organization_id = $2");
    pub(super) const SCAN_OF_NEXT: &str = scan!("i.organization_id = $2 AND c.id > $3");

    /// Locks the rows that it writes and skips those that another transaction has locked: it neither waits for the
    /// application nor deadlocks with it. A row that changed since it was read no longer has the old text.
    pub(super) const SWAP: &str = concat!(
        "WITH page AS (
             SELECT c.id, n.new_text, n.new_key
               FROM unnest($2::uuid[], $3::text[], $4::timestamp[], $5::text[], $6::text[])
                    AS n (integration_id, old_text, old_expires_at, new_text, new_key)
               JOIN integration_credentials AS c
                 ON c.integration_id = n.integration_id AND c.credential_data_encrypted = n.old_text
               JOIN integrations AS i ON i.id = c.integration_id
              WHERE (c.encryption_key_id <> 'v1' OR c.expires_at IS NOT DISTINCT FROM n.old_expires_at)
                AND n.new_key = ",
        active_key_of_scope!(),
        "
                AND EXISTS (SELECT 1 FROM vault_rotation_runs AS r WHERE r.id = $1 AND r.finished_at IS NULL)
                FOR UPDATE OF c SKIP LOCKED)
         UPDATE integration_credentials AS c
            SET credential_data_encrypted = page.new_text, encryption_key_id = page.new_key
           FROM page
          WHERE c.id = page.id
         RETURNING c.integration_id"
    );
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
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(wait)
            // One round trip a call instead of two; a connection that died shows as a retryable error.
            .test_before_acquire(false)
            .connect_with(match options.get_application_name() {
                Some(_) => options,
                None => options.application_name("credvault"),
            })
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

/// Begins a transaction that takes each statement's own snapshot, whatever the role's default.
async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await
}

/// Migrates on a connection of its own: one that fails keeps the migrator's lock.
async fn migrate(pool: &PgPool) -> Result<Vec<MigrationName>> {
    let connection = PgConnection::connect_with(&pool.connect_options())
        .await
        .map_err(|error| failure("connecting to PostgreSQL", error))?;
    migrate::migrate_postgres(connection).await
}

async fn scan(pool: &PgPool, rows: Rows, after: Option<Cursor>, limit: u32) -> Result<Vec<ScannedRow>> {
    const DOING: &str = "reading a page of credentials";
    let after = match after {
        Some(Cursor::Id(id)) => Some(id),
        _ => None,
    };
    let statement = match (rows, after) {
        (Rows::All, None) => sql::SCAN_ALL_FIRST,
        (Rows::All, Some(_)) => sql::SCAN_ALL_NEXT,
        (Rows::Stale, None) => sql::SCAN_STALE_FIRST,
        (Rows::Stale, Some(_)) => sql::SCAN_STALE_NEXT,
        (Rows::Legacy, None) => sql::SCAN_LEGACY_FIRST,
        (Rows::Legacy, Some(_)) => sql::SCAN_LEGACY_NEXT,
        (Rows::Of(_), None) => sql::SCAN_OF_FIRST,
        (Rows::Of(_), Some(_)) => sql::SCAN_OF_NEXT,
    };
    let mut query = sqlx::query(statement).bind(i64::from(limit));
    if let Rows::Of(organization) = rows {
        query = query.bind(Id::from(organization));
    }
    if let Some(id) = after {
        query = query.bind(Id(id));
    }
    let scanned = |row: &PgRow| -> sqlx::Result<ScannedRow> {
        Ok(ScannedRow {
            cursor: Cursor::Id(row.try_get::<Id, _>("id")?.0),
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
        .map_err(|error| failure(DOING, error))
}

async fn swap(pool: &PgPool, run: RunId, swaps: Vec<Swap>) -> Result<Vec<IntegrationId>> {
    let mut integrations = Vec::with_capacity(swaps.len());
    let mut old = Vec::with_capacity(swaps.len());
    let mut old_expires_at = Vec::with_capacity(swaps.len());
    let mut new = Vec::with_capacity(swaps.len());
    let mut keys = Vec::with_capacity(swaps.len());
    for swap in swaps {
        integrations.push(Id::from(swap.integration));
        old.push(swap.old);
        old_expires_at.push(swap.old_expires_at.map(Time::from));
        new.push(swap.new);
        keys.push(swap.key.to_string());
    }
    let written = sqlx::query_scalar::<_, Id>(sql::SWAP)
        .bind(run.0)
        .bind(integrations)
        .bind(old)
        .bind(old_expires_at)
        .bind(new)
        .bind(keys)
        .fetch_all(pool)
        .await
        .map_err(|error| failure("writing a page of re-encrypted credentials", error))?;
    Ok(written.into_iter().map(IntegrationId::from).collect())
}

credential_store!(PostgresStore, PgRow);
key_store!(PostgresStore, PgRow);
run_store!(PostgresStore, PgRow);

#[async_trait]
impl Store for PostgresStore {
    async fn close(&self) {
        if self.pool_owner == PoolOwner::Store {
            self.pool.close().await;
        }
    }
}

impl Type<Postgres> for Id {
    fn type_info() -> PgTypeInfo {
        <Uuid as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Id {
    fn array_type_info() -> PgTypeInfo {
        Uuid::array_type_info()
    }
}

impl Encode<'_, Postgres> for Id {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Id {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Decode::<Postgres>::decode(value).map(Self)
    }
}

impl Type<Postgres> for Text {
    fn type_info() -> PgTypeInfo {
        <String as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <String as Type<Postgres>>::compatible(ty)
    }
}

impl<'r> Decode<'r, Postgres> for Text {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Decode::<Postgres>::decode(value).map(Self)
    }
}

impl Time {
    /// PostgreSQL counts its microseconds from 2000-01-01.
    const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
    /// The object ids of `timestamp` and `timestamp[]`, fixed in PostgreSQL's catalogue (pg_type.dat).
    const TIMESTAMP: PgTypeInfo = PgTypeInfo::with_oid(Oid(1114));
    const TIMESTAMP_ARRAY: PgTypeInfo = PgTypeInfo::with_oid(Oid(1115));
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        Self::TIMESTAMP
    }
}

impl PgHasArrayType for Time {
    fn array_type_info() -> PgTypeInfo {
        Self::TIMESTAMP_ARRAY
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.saturating_sub(Self::POSTGRES_EPOCH), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    /// `infinity` and `-infinity` are the ends of the range; added up they stay outside every year that counts.
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        <i64 as Decode<Postgres>>::decode(value).map(|at| Self(at.saturating_add(Self::POSTGRES_EPOCH)))
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
