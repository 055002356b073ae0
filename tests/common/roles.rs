//! Roles of PostgreSQL that are no superusers, each with the rights that the manual's page on operations gives it.

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
        Self::with_rights(
            database,
            "SELECT, INSERT, UPDATE, DELETE ON integration_credentials;
             SELECT, INSERT, UPDATE ON integrations;
             SELECT ON vault_identity, vault_master_keys, vault_data_keys, vault_key_material",
        )
        .await
    }

    /// Of a program that rotates.
    pub async fn rotation(database: &Database) -> Self {
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
        Self::with_rights(
            database,
            "SELECT ON integrations, integration_credentials, vault_identity, vault_master_keys, vault_data_keys,
                 vault_key_material, vault_quarantine",
        )
        .await
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
