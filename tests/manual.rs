//! What the manual says of the rights of roles is true: a service gets on with those of the page on operations.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod common;

use common::{Dialect, TestDatabase};
use credvault::provider::KeyFile;
use credvault::{Credential, CredentialType, ErrorKind, Vault};
use sqlx::Connection;
use uuid::Uuid;

/// A role with the rights that the page gives a service, and the URL to connect as it.
async fn service_role(database: &TestDatabase) -> String {
    let TestDatabase::Postgres(postgres) = database else { panic!("roles are PostgreSQL's") };
    let role = format!("service_{}", Uuid::new_v4().simple());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN;
             GRANT SELECT, INSERT, UPDATE, DELETE ON integration_credentials TO {role};
             GRANT SELECT, UPDATE, INSERT ON integrations TO {role};
             GRANT SELECT ON vault_identity, vault_master_keys, vault_data_keys, vault_key_material TO {role};"
        ))
        .await;
    postgres.url_as(&role)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_the_documented_rights_does_all_that_services_do() {
    let database = TestDatabase::migrated(Dialect::Postgres).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    KeyFile::generate(&path).unwrap();
    let key = format!("file:{}", path.display());
    let owner = Vault::builder().url(database.url()).master_key(&key).unwrap();
    let owner = owner.create_if_missing().build().await.unwrap();
    let (from, to) = (database.add_organization().await, database.add_organization().await);

    let url = service_role(&database).await;
    let service = Vault::open(&url, &key).await.unwrap();
    let organization = service.organization(from);
    let integration = organization.ensure_integration("github").await.unwrap();
    let token = || Credential::new(CredentialType::token()).with_field("access_token", "ghp_0123456789");
    organization.put(integration, &token()).await.unwrap();
    let stored = organization.get(integration).await.unwrap().unwrap();
    organization.update(integration, &stored.revision, &token()).await.unwrap();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    organization.put_in(&mut connection, integration, &token()).await.unwrap();
    organization.describe(integration).await.unwrap().unwrap();
    assert_eq!(organization.list().await.unwrap().len(), 1);
    service.expiring(time::OffsetDateTime::now_utc(), 10).await.unwrap();
    service.transfer(integration, from, to).await.unwrap();
    assert!(service.verify().run().await.unwrap().findings.is_empty());
    // A switch by the owner is followed with the same rights.
    owner.rotation().force().run().await.unwrap();
    let organization = service.organization(to);
    organization.put(integration, &token()).await.unwrap();
    assert!(organization.delete(integration).await.unwrap());

    let error = service.rotation().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
}
