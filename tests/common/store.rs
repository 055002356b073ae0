//! A database of either store, and raw access to it for what a test prepares and asserts.

use credvault::{IntegrationId, OrganizationId};
use sqlx::{Column, Connection, Executor, PgConnection, Row, SqliteConnection, TypeInfo, Value, ValueRef};
use uuid::Uuid;

use super::{postgres, sqlite};

/// The two databases that hold a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

/// An empty database, there for one test.
pub enum TestDatabase {
    Postgres(postgres::Database),
    Sqlite(sqlite::Database),
}

impl TestDatabase {
    /// An empty database.
    pub async fn create(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Postgres => Self::Postgres(postgres::database().await),
            Dialect::Sqlite => Self::Sqlite(sqlite::database()),
        }
    }

    /// A database with the schema of this version.
    pub async fn migrated(dialect: Dialect) -> Self {
        let database = Self::create(dialect).await;
        credvault::migrate(database.url()).await.unwrap();
        database
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// What a program connects with.
    pub fn url(&self) -> &str {
        match self {
            Self::Postgres(database) => database.url(),
            Self::Sqlite(database) => database.url(),
        }
    }

    /// Runs `sql`, any number of statements, on a connection of its own; panics if the database refuses it.
    pub async fn execute(&self, sql: &str) {
        if let Err(error) = self.try_execute(sql).await {
            panic!("{error}\n{sql}");
        }
    }

    /// Runs `sql` on a connection of its own and returns how many rows it changed. SQLite runs it as a plain
    /// program does that leaves the pragma foreign_keys off.
    pub async fn try_execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self {
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await?;
                Ok(connection.execute(sql).await?.rows_affected())
            }
            Self::Sqlite(database) => {
                let mut connection = database.connect_plain().await?;
                Ok(connection.execute(sql).await?.rows_affected())
            }
        }
    }

    /// The rows of `sql` as the database prints them: NULL is `None`, and both print a number alike. Bytes need
    /// `encode(…, 'hex')` or `hex(…)`.
    pub async fn fetch_text(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let query = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self {
            Self::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await.unwrap();
                // A raw query is answered in text.
                let rows = connection.fetch_all(query).await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
                rows.iter().map(texts_of::<sqlx::Postgres>).collect()
            }
            Self::Sqlite(database) => {
                let mut connection = database.connect_plain().await.unwrap();
                // SQLite turns whatever it holds into text when asked for text.
                let rows = connection.fetch_all(query).await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
                rows.iter().map(texts_of::<sqlx::Sqlite>).collect()
            }
        }
    }

    /// The only column of the only row of `sql`, as text.
    pub async fn fetch_one_text(&self, sql: &str) -> Option<String> {
        let mut rows = self.fetch_text(sql).await;
        assert_eq!((rows.len(), rows.first().map(Vec::len)), (1, Some(1)), "not one value: {sql}");
        rows.remove(0).remove(0)
    }

    /// A new organization.
    pub async fn add_organization(&self) -> OrganizationId {
        let id = Uuid::new_v4();
        self.execute(&format!(
            "INSERT INTO organizations (id, clerk_org_id, name, slug) \
             VALUES ('{id}', 'org_{id}', 'Organization {id}', 'organization-{id}')"
        ))
        .await;
        id.into()
    }

    /// A new integration of `organization` with `connector`, which it must not have yet.
    pub async fn add_integration(&self, organization: OrganizationId, connector: &str) -> IntegrationId {
        let id = Uuid::new_v4();
        let user = Uuid::new_v4();
        self.execute(&format!(
            "INSERT INTO integrations (id, organization_id, user_id, connector_type, status) \
             VALUES ('{id}', '{organization}', '{user}', '{connector}', 'active')"
        ))
        .await;
        id.into()
    }

    /// A new organization with an integration with GitHub.
    pub async fn add_tenant(&self) -> (OrganizationId, IntegrationId) {
        let organization = self.add_organization().await;
        (organization, self.add_integration(organization, "github").await)
    }
}

fn texts_of<DB: sqlx::Database>(row: &DB::Row) -> Vec<Option<String>>
where
    usize: sqlx::ColumnIndex<DB::Row>,
    for<'r> String: sqlx::Decode<'r, DB>,
{
    (0..row.len())
        .map(|index| {
            let value = row.try_get_raw(index).unwrap();
            if value.is_null() {
                return None;
            }
            Some(<String as sqlx::Decode<DB>>::decode(value).expect("not text: encode it in SQL"))
        })
        .collect()
}
