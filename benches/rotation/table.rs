//! A table full of tokens, and what is done to it besides.

use std::time::{Duration, Instant};

use credvault::bench::{SealedToken, sealed_tokens};
use credvault::{DataKeyId, Vault};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{PgPool, SqlitePool};

use super::common::postgres::Server;
use super::common::{Dialect, KeyFiles, TestDatabase};

/// Rows inserted by one statement.
const INSERTED_AT_ONCE: u32 = 10_000;

/// A quarter of memory (of 4 GiB) for the server's buffers, as PostgreSQL's manual has it, which hold a table of one million
/// rows; and room for its log until a checkpoint is due by time. With the defaults, 128 MB and 1 GB, each write of a large
/// table waits for a page from a file.
const AS_IN_PRODUCTION: [&str; 2] = ["shared_buffers=1GB", "max_wal_size=8GB"];

/// A vault with tokens, and a pool of the bench's own beside it.
pub(super) struct Table {
    pub(super) vault: Vault,
    pub(super) pool: Pool,
    pub(super) rows: u32,
    pub(super) tokens: Vec<(uuid::Uuid, uuid::Uuid)>,
    pub(super) database: TestDatabase,
    pub(super) keys: KeyFiles,
    /// As careful with its files as one in production: a commit waits for the disk.
    _server: Option<Server>,
}

pub(super) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Table {
    pub(super) async fn fill(dialect: Dialect, rows: u32) -> Self {
        let (server, database) = match dialect {
            Dialect::Postgres => {
                let server = Server::start_with(&AS_IN_PRODUCTION);
                let database = TestDatabase::Postgres(server.database().await);
                (Some(server), database)
            }
            Dialect::Sqlite => (None, TestDatabase::create(dialect).await),
        };
        let keys = KeyFiles::new();
        let vault = database.create_vault(&keys.generate("master.key")).await;
        // A key for the plain update to write: `v1` would be held up by the check of who may write it.
        vault.rotation().force().run().await.expect("it rotates");
        let pool = match dialect {
            Dialect::Postgres => {
                Pool::Postgres(PgPoolOptions::new().connect(database.url()).await.expect("no connection"))
            }
            Dialect::Sqlite => {
                Pool::Sqlite(SqlitePoolOptions::new().connect(database.url()).await.expect("no connection"))
            }
        };
        let mut tokens = Vec::new();
        for at in (0..rows).step_by(INSERTED_AT_ONCE as usize) {
            let more = sealed_tokens(&vault, INSERTED_AT_ONCE.min(rows - at)).await.expect("they are sealed");
            tokens.extend(more.iter().map(|token| (token.organization, token.integration)));
            insert(&pool, more).await;
        }
        Self { vault, pool, rows, tokens, database, keys, _server: server }
    }

    /// Takes away what an update left behind.
    pub(super) async fn vacuum(&self) {
        match &self.pool {
            Pool::Postgres(pool) => run(pool, "VACUUM ANALYZE integration_credentials").await,
            Pool::Sqlite(pool) => run(pool, "PRAGMA wal_checkpoint(TRUNCATE)").await,
        }
    }

    /// Makes the table as large as its rows are, as it is where only rotations re-encrypt: one UPDATE of all rows leaves it
    /// more than twice as large, and what follows would find room beside each row, or read through it.
    pub(super) async fn compact(&self) {
        if let Pool::Postgres(pool) = &self.pool {
            run(pool, "VACUUM FULL integration_credentials").await;
            run(pool, "CHECKPOINT").await;
        }
        self.vacuum().await;
    }

    /// The size of the table, in bytes.
    pub(super) async fn bytes(&self) -> u64 {
        let Pool::Postgres(pool) = &self.pool else { unreachable!() };
        let bytes: i64 = sqlx::query_scalar("SELECT pg_relation_size('integration_credentials')")
            .fetch_one(pool)
            .await
            .expect("it has a size");
        bytes.cast_unsigned()
    }

    /// One statement that writes another key id and the text anew, to its commit; then one that puts the ids back.
    pub(super) async fn plain_update(&self) -> Duration {
        let [other, key] = self.keys().await;
        let to = format!(
            "UPDATE integration_credentials
                SET credential_data_encrypted = credential_data_encrypted || '', encryption_key_id = '{other}'"
        );
        let back = format!("UPDATE integration_credentials SET encryption_key_id = '{key}'");
        let start = Instant::now();
        let done = self.execute(&to).await;
        let took = start.elapsed();
        assert_eq!(done, u64::from(self.rows));
        self.execute(&back).await;
        took
    }

    /// A key of an earlier rotation, and the one that all rows are under.
    async fn keys(&self) -> [DataKeyId; 2] {
        let keys = self.vault.keys().list().await.expect("they are listed");
        let with_rows = |rows| keys.iter().find(|key| !key.id.is_legacy() && key.rows == rows);
        let key = with_rows(u64::from(self.rows)).expect("all rows are under one key");
        [with_rows(0).expect("it has rotated").id, key.id]
    }

    async fn execute(&self, sql: &str) -> u64 {
        let sql = sqlx::AssertSqlSafe(sql);
        match &self.pool {
            Pool::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(|done| done.rows_affected()),
            Pool::Sqlite(pool) => sqlx::query(sql).execute(pool).await.map(|done| done.rows_affected()),
        }
        .expect("it is updated")
    }

    /// Reads and stores tokens again, one after the other, as a service would that had no rotation.
    pub(super) async fn save_one_by_one(&self, count: u32) -> Duration {
        let start = Instant::now();
        for (organization, integration) in self.tokens.iter().take(count as usize) {
            let organization = self.vault.organization(*organization);
            let stored = organization.get(*integration).await.expect("it is read").expect("it is there");
            organization
                .update(*integration, &stored.revision, &stored.credential)
                .await
                .expect("it is written");
        }
        start.elapsed()
    }
}

/// Runs a statement that stands alone: none of a transaction.
async fn run<DB: sqlx::Database>(pool: &sqlx::Pool<DB>, sql: &'static str)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    sqlx::raw_sql(sql).execute(pool).await.expect("it runs");
}

async fn insert(pool: &Pool, tokens: Vec<SealedToken>) {
    match pool {
        Pool::Postgres(pool) => {
            let (mut organizations, mut integrations, mut stored, mut keys) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for token in tokens {
                organizations.push(token.organization);
                integrations.push(token.integration);
                stored.push(token.stored);
                keys.push(token.key);
            }
            sqlx::query(
                "INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
                 SELECT i, o, o, 'github', 'active' FROM unnest($1::uuid[], $2::uuid[]) AS t (i, o)",
            )
            .bind(&integrations)
            .bind(&organizations)
            .execute(pool)
            .await
            .expect("they are inserted");
            sqlx::query(
                "INSERT INTO integration_credentials
                        (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
                 SELECT gen_random_uuid(), i, 'token', s, k
                   FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (i, s, k)",
            )
            .bind(&integrations)
            .bind(&stored)
            .bind(&keys)
            .execute(pool)
            .await
            .expect("they are inserted");
        }
        Pool::Sqlite(pool) => {
            let mut transaction = pool.begin().await.expect("no transaction");
            for token in tokens {
                let (integration, organization) =
                    (token.integration.to_string(), token.organization.to_string());
                sqlx::query(
                    "INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
                     VALUES ($1, $2, $2, 'github', 'active')",
                )
                .bind(&integration)
                .bind(&organization)
                .execute(&mut *transaction)
                .await
                .expect("it is inserted");
                sqlx::query(
                    "INSERT INTO integration_credentials
                            (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
                     VALUES ($1, $1, 'token', $2, $3)",
                )
                .bind(&integration)
                .bind(&token.stored)
                .bind(&token.key)
                .execute(&mut *transaction)
                .await
                .expect("it is inserted");
            }
            transaction.commit().await.expect("it commits");
        }
    }
}
