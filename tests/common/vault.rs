//! A vault in a test's database, with key files of its own, and the rows behind it as they stand.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::provider::KeyFile;
use credvault::{
    Connection, Credential, CredentialType, ExposeSecret, IntegrationId, Organization, Revision, Vault,
    VaultBuilder,
};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection as _, Executor, PgConnection, PgPool, SqliteConnection, SqlitePool};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Dialect, TestDatabase};

/// A folder of key files, gone with the test.
pub struct KeyFiles(TempDir);

impl KeyFiles {
    pub fn new() -> Self {
        Self(TempDir::with_prefix("credvault-keys-").expect("no temporary folder"))
    }

    /// Makes a key file with a fresh key and gives its spec.
    pub fn generate(&self, name: &str) -> String {
        KeyFile::generate(self.path(name)).unwrap();
        self.spec(name)
    }

    /// Makes a key file of these lines and gives its spec.
    pub fn write(&self, name: &str, lines: &str) -> String {
        std::fs::write(self.path(name), lines).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(self.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        self.spec(name)
    }

    /// The one key in a file.
    pub fn key(&self, name: &str) -> MasterKeyParts {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("cvmk1_")).expect("no key in the file");
        let bytes = URL_SAFE_NO_PAD.decode(line).unwrap();
        MasterKeyParts { id: bytes[..16].try_into().unwrap(), key: bytes[16..48].try_into().unwrap() }
    }

    pub fn spec(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

/// What a line of a key file says.
#[derive(Clone, Copy)]
pub struct MasterKeyParts {
    pub id: [u8; 16],
    pub key: [u8; 32],
}

impl MasterKeyParts {
    /// `cvmk1_` + base64url(id 16 | key 32 | first 4 bytes of SHA-256 of both).
    pub fn line(&self) -> String {
        let mut body = [self.id.as_slice(), &self.key].concat();
        let checksum = Sha256::digest(&body);
        body.extend_from_slice(&checksum[..4]);
        format!("cvmk1_{}\n", URL_SAFE_NO_PAD.encode(body))
    }
}

/// A row of `integration_credentials` as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRow {
    pub credential_type: String,
    pub stored: String,
    pub key_column: String,
    pub expires_at: Option<String>,
}

impl TestDatabase {
    /// Makes the vault of this database with the master key of `spec`.
    pub async fn create_vault(&self, spec: &str) -> Vault {
        let vault = Vault::builder().url(self.url()).master_key(spec).unwrap().create_if_missing();
        vault.build().await.unwrap()
    }

    /// Opens the vault of this database, as another process does.
    pub async fn open_vault(&self, spec: &str) -> Vault {
        Vault::open(self.url(), spec).await.unwrap()
    }

    /// The row of an integration's credential.
    pub async fn raw_row(&self, integration: IntegrationId) -> Option<RawRow> {
        let mut rows = self
            .fetch_text(&format!(
                "SELECT credential_type, credential_data_encrypted, encryption_key_id, expires_at
                   FROM integration_credentials WHERE integration_id = '{integration}'"
            ))
            .await;
        let mut row = rows.pop()?.into_iter();
        Some(RawRow {
            credential_type: row.next()??,
            stored: row.next()??,
            key_column: row.next()??,
            expires_at: row.next()?,
        })
    }

    /// Sets columns of a credential's row, `assignments` being SQL.
    pub async fn set(&self, integration: IntegrationId, assignments: &str) {
        let sql = format!(
            "UPDATE integration_credentials SET {assignments} WHERE integration_id = '{integration}'"
        );
        assert_eq!(self.try_execute(&sql).await.unwrap(), 1, "{sql}");
    }

    /// Changes whose integration it is, as a person does by hand.
    pub async fn move_by_hand(&self, integration: IntegrationId, to: &Organization) {
        self.execute(&format!(
            "UPDATE integrations SET organization_id = '{}' WHERE id = '{integration}'",
            to.id()
        ))
        .await;
    }

    /// Every row of every table, as text.
    pub async fn dump(&self) -> String {
        let tables = match self.dialect() {
            Dialect::Postgres => {
                "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
                  WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
            }
            Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        };
        let mut dump = String::new();
        for table in self.fetch_text(tables).await {
            let table = table[0].clone().unwrap();
            let rows = match self.dialect() {
                Dialect::Postgres => format!("SELECT t::text FROM {table} AS t ORDER BY 1"),
                Dialect::Sqlite => {
                    let names = format!("SELECT name FROM pragma_table_info('{table}')");
                    let columns: Vec<_> = self
                        .fetch_text(&names)
                        .await
                        .into_iter()
                        .map(|name| format!("quote(\"{}\")", name[0].as_deref().unwrap()))
                        .collect();
                    format!("SELECT {} FROM \"{table}\" ORDER BY 1", columns.join(" || ',' || "))
                }
            };
            dump.push_str(&format!("{table}:\n"));
            for row in self.fetch_text(&rows).await {
                dump.push_str(&format!("{}\n", row[0].as_deref().unwrap_or("NULL")));
            }
        }
        dump
    }

    /// A pool of at most so many connections.
    pub async fn pool(&self, connections: u32) -> Pool {
        match self {
            Self::Postgres(_) => {
                let options = PgPoolOptions::new().max_connections(connections);
                Pool::Postgres(options.connect(self.url()).await.unwrap())
            }
            Self::Sqlite(_) => {
                let options = SqlitePoolOptions::new().max_connections(connections);
                Pool::Sqlite(options.connect(self.url()).await.unwrap())
            }
        }
    }

    /// A connection to keep, for transactions and for many statements.
    pub async fn connect(&self) -> RawConnection {
        match self {
            Self::Postgres(database) => {
                RawConnection::Postgres(PgConnection::connect(database.url()).await.unwrap())
            }
            Self::Sqlite(database) => {
                let mut connection = database.connect_plain().await.unwrap();
                connection.execute("PRAGMA synchronous = OFF").await.unwrap();
                RawConnection::Sqlite(connection)
            }
        }
    }
}

/// A pool of the caller's, as a service has it.
pub enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Pool {
    pub fn builder(&self) -> VaultBuilder {
        match self {
            Self::Postgres(pool) => Vault::builder().postgres(pool.clone()),
            Self::Sqlite(pool) => Vault::builder().sqlite(pool.clone()),
        }
    }

    /// How many prepared statements a connection keeps.
    pub async fn statements_of_a_connection(&self) -> usize {
        match self {
            Self::Postgres(pool) => pool.acquire().await.unwrap().cached_statements_size(),
            Self::Sqlite(pool) => pool.acquire().await.unwrap().cached_statements_size(),
        }
    }

    pub async fn open_vault(&self, spec: &str) -> Vault {
        self.builder().master_key(spec).unwrap().build().await.unwrap()
    }
}

/// A connection of the test's own.
pub enum RawConnection {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl RawConnection {
    /// To the PostgreSQL database at a URL, such as one of another role.
    pub async fn connect_to(url: &str) -> Self {
        Self::Postgres(PgConnection::connect(url).await.unwrap())
    }

    /// The process that serves it.
    pub async fn pid(&mut self) -> i32 {
        let Self::Postgres(connection) = self else { panic!("SQLite has no server") };
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.unwrap()
    }

    /// Runs any number of statements; gives the rows changed.
    pub async fn execute(&mut self, sql: &str) -> u64 {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}"))
    }

    /// The same, unless the database refuses it.
    pub async fn try_execute(&mut self, sql: &str) -> sqlx::Result<u64> {
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        match self {
            Self::Postgres(connection) => connection.execute(statements).await.map(|d| d.rows_affected()),
            Self::Sqlite(connection) => connection.execute(statements).await.map(|d| d.rows_affected()),
        }
    }

    /// Begins a transaction as the vault's documentation tells to.
    pub async fn begin(&mut self) {
        let begin = match self {
            Self::Postgres(_) => "BEGIN",
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
        };
        self.execute(begin).await;
    }

    /// The connection as the vault's calls take it.
    pub fn lend(&mut self) -> Connection<'_> {
        match self {
            Self::Postgres(connection) => connection.into(),
            Self::Sqlite(connection) => connection.into(),
        }
    }

    /// Makes a new integration of an organization.
    pub async fn add_integration(&mut self, organization: &Organization, connector: &str) -> IntegrationId {
        let (id, user) = (Uuid::new_v4(), Uuid::new_v4());
        self.execute(&format!(
            "INSERT INTO integrations (id, organization_id, user_id, connector_type, status) \
             VALUES ('{id}', '{}', '{user}', '{connector}', 'active')",
            organization.id()
        ))
        .await;
        id.into()
    }
}

/// A credential with one token in the field `access_token`.
pub fn token(text: &str) -> Credential {
    Credential::new(CredentialType::token()).with_field("access_token", text)
}

/// The token that an integration has, with its revision.
pub async fn read(
    organization: &Organization,
    integration: IntegrationId,
) -> credvault::Result<Option<(String, Revision)>> {
    Ok(organization.get(integration).await?.map(|stored| {
        let token = stored.credential.field("access_token").expect("no access_token");
        (token.expose_secret().to_owned(), stored.revision)
    }))
}

/// The token that an integration has, which it must have.
pub async fn read_token(organization: &Organization, integration: IntegrationId) -> String {
    read(organization, integration).await.unwrap().expect("there is no credential").0
}
