//! What calls cost, counted by the statements and messages that they really send: one unwrap however many ask, one
//! statement and one round trip for each call with a warm keyring.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

#[path = "../common/mod.rs"]
mod common;

mod failures;
mod outages;
mod round_trips;
mod statements;

use credvault::{IntegrationId, Organization, Vault};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Executor, SqlitePool};
use tracing::Span;

use common::{KeyFiles, TestDatabase, token};

/// A vault whose statements can be counted.
pub(crate) struct Counted {
    pub(crate) vault: Vault,
    pub(crate) keys: KeyFiles,
    /// SQLite's pool, of one connection.
    pool: Option<SqlitePool>,
}

impl Counted {
    /// A vault with a cold keyring, and organization and integration with a credential.
    pub(crate) async fn begin(database: &TestDatabase) -> (Self, Organization, IntegrationId) {
        let keys = KeyFiles::new();
        let maker = database.create_vault(&keys.generate("master.key")).await;
        let (organization, integration) = database.add_tenant().await;
        maker.organization(organization).put(integration, &token("there")).await.unwrap();
        let counted = Self::open(database, keys).await;
        let organization = counted.vault.organization(organization);
        (counted, organization, integration)
    }

    async fn open(database: &TestDatabase, keys: KeyFiles) -> Self {
        let spec = keys.spec("master.key");
        match database {
            TestDatabase::Postgres(_) => Self { vault: database.open_vault(&spec).await, keys, pool: None },
            TestDatabase::Sqlite(_) => {
                let pool = SqlitePoolOptions::new().max_connections(1).connect(database.url()).await.unwrap();
                let builder = Vault::builder().sqlite(pool.clone()).master_key(&spec).unwrap();
                Self { vault: builder.build().await.unwrap(), keys, pool: Some(pool) }
            }
        }
    }

    /// The statements run under a span.
    pub(crate) async fn statements_of(&self, span: &Span) -> Vec<String> {
        if let Some(pool) = &self.pool {
            // The connection's thread traces a statement after it has answered it: one more of ours comes after.
            pool.execute("SELECT 1").await.unwrap();
        }
        common::statements::statements_of(span)
    }
}
