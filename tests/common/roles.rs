//! Roles of PostgreSQL that are no superusers: those of `credvault roles`, and some that are others'.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::postgres::Database;

/// A role, and the URL to connect as it.
pub struct Role {
    pub name: String,
    pub url: String,
}

impl Role {
    /// Of a service with a vault.
    pub async fn service(database: &Database) -> Self {
        let [service, ..] = Self::printed(database).await;
        service
    }

    /// The service, the rotator and the reader of `credvault roles`. Roles are the server's, which all tests of a process
    /// share: here they get names of their own.
    pub async fn printed(database: &Database) -> [Self; 3] {
        const SQL: [&str; 2] = [
            include_str!("../../src/bin/credvault/roles/create.sql"),
            include_str!("../../src/bin/credvault/roles/grant.sql"),
        ];
        let prefix = format!("role_{}", Uuid::new_v4().simple());
        let mut owner = PgConnection::connect(database.url()).await.unwrap();
        let sql = SQL.concat().replace("credvault_", &format!("{prefix}_"));
        owner.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        ["service", "rotator", "reader"].map(|role| {
            let name = format!("{prefix}_{role}");
            let url = database.url_as(&name);
            Self { name, url }
        })
    }

    /// Of a program that rotates.
    pub async fn rotator(database: &Database) -> Self {
        let [_, rotator, _] = Self::printed(database).await;
        rotator
    }

    /// Of a program that does the work of all of them, as where no roles were made.
    pub async fn of_all_work(database: &Database) -> Self {
        Self::with_rights(
            database,
            "SELECT, INSERT, UPDATE, DELETE ON integration_credentials;
             SELECT, UPDATE ON integrations;
             SELECT, INSERT, UPDATE, DELETE ON vault_identity, vault_master_keys, vault_data_keys,
                 vault_key_material, vault_rotation_runs, vault_quarantine",
        )
        .await
    }

    /// Of who looks after a vault, and changes nothing.
    pub async fn reader(database: &Database) -> Self {
        let [.., reader] = Self::printed(database).await;
        reader
    }

    /// Of a service that was there before the vault, and has no right on its tables.
    pub async fn legacy_service(database: &Database) -> Self {
        Self::with_rights(database, "SELECT, INSERT, UPDATE, DELETE ON integrations, integration_credentials")
            .await
    }

    /// With rights as GRANT takes them, separated by semicolons.
    async fn with_rights(database: &Database, rights: &str) -> Self {
        // Roles are the server's, which all tests of a process share.
        let name = format!("role_{}", Uuid::new_v4().simple());
        let mut owner = PgConnection::connect(database.url()).await.unwrap();
        let grants = rights.split(';').map(|right| format!("GRANT {right} TO {name};")).collect::<String>();
        let sql = format!("CREATE ROLE {name} LOGIN; {grants}");
        owner.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        let url = database.url_as(&name);
        Self { name, url }
    }

    /// The URL under the name of an application.
    pub fn url_of(&self, application: &str) -> String {
        format!("{}&application_name={application}", self.url)
    }
}
