//! What the manual says of the rights of roles is true: each role of `credvault roles` does its work, and nothing else.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod common;

use common::roles::Role;
use common::service::{Service, first_token, read};
use common::{Dialect, TestDatabase};
use credvault::provider::KeyFile;
use credvault::{Credential, CredentialType, ErrorKind, Outcome, Vault};
use sqlx::Connection;

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

    let TestDatabase::Postgres(postgres) = &database else { panic!("roles are PostgreSQL's") };
    let url = Role::service(postgres).await.url;
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
    // A switch by the owner is followed with the same rights.
    owner.rotation().force().run().await.unwrap();
    let organization = service.organization(to);
    organization.put(integration, &token()).await.unwrap();
    assert!(organization.delete(integration).await.unwrap());

    let error = service.rotation().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
}

/// The tables that a vault is in.
const ALL_TABLES: [&str; 8] = [
    "integrations",
    "integration_credentials",
    "vault_identity",
    "vault_master_keys",
    "vault_data_keys",
    "vault_key_material",
    "vault_rotation_runs",
    "vault_quarantine",
];

/// Whether the role of `url` has the right to run `sql`.
async fn may(url: &str, sql: &str) -> bool {
    /// SQLSTATE `insufficient_privilege`.
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    match sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await {
        Ok(_) => true,
        Err(error) => {
            let error = error.into_database_error().unwrap();
            assert_eq!(error.code().as_deref(), Some(INSUFFICIENT_PRIVILEGE), "{sql}: {error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_does_its_work_and_nothing_else() {
    let database = TestDatabase::migrated(Dialect::Postgres).await;
    let (service, owner) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&owner, 3).await;
    owner.keys().create(tenants[0].organization).await.unwrap();
    let TestDatabase::Postgres(postgres) = &service.database else { panic!("roles are PostgreSQL's") };
    let [service_url, rotate_url, status_url] = Role::printed(postgres).await.map(|role| role.url);
    let key = service.key("first");

    // Keys are switched, an own one among them; a row that doesn't open goes into quarantine, and out of it.
    let rotating = Vault::open(&rotate_url, &key).await.unwrap();
    let report = rotating.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys.len(), report.re_encrypted), (Outcome::Complete, 2, 3));
    let intact = service.stored(tenants[1]).await;
    service.tamper_with(tenants[1]).await;
    assert_eq!(rotating.rotation().force().run().await.unwrap().outcome, Outcome::Quarantine);
    let watching = Vault::open(&status_url, &key).await.unwrap();
    assert_eq!(watching.status().await.unwrap().quarantined_rows, 1);
    service.set_stored(tenants[1], &intact).await;
    assert_eq!(rotating.rotation().run().await.unwrap().outcome, Outcome::Complete);
    let status = watching.status().await.unwrap();
    assert_eq!((status.stale_rows, status.quarantined_rows), (0, 0));
    for tenant in &tenants {
        assert_eq!(read(&owner, *tenant).await.unwrap(), first_token(*tenant));
    }

    for (allowed, refused) in [
        ("UPDATE vault_data_keys SET state = state", "DELETE FROM vault_data_keys"),
        (
            "UPDATE vault_data_keys SET compromised_at = compromised_at",
            "UPDATE vault_data_keys SET organization_id = organization_id",
        ),
        (
            "UPDATE vault_data_keys SET unused_since = NULL",
            "UPDATE vault_data_keys SET key_check = key_check",
        ),
        (
            "UPDATE vault_data_keys SET drain_run_id = drain_run_id",
            "UPDATE vault_data_keys SET destroyed_at = destroyed_at",
        ),
        ("SELECT FROM vault_key_material", "UPDATE vault_key_material SET wrapped_key = wrapped_key"),
        ("SELECT FROM vault_key_material", "DELETE FROM vault_key_material"),
        ("SELECT FROM vault_master_keys", "UPDATE vault_master_keys SET state = state"),
        ("SELECT FROM vault_identity", "UPDATE vault_identity SET phase = phase"),
        ("SELECT FROM integrations", "UPDATE integrations SET status = status"),
        ("SELECT FROM integration_credentials", "UPDATE integration_credentials SET expires_at = expires_at"),
        ("SELECT FROM integration_credentials", "DELETE FROM integration_credentials"),
    ] {
        assert!(may(&rotate_url, allowed).await, "{allowed}");
        assert!(!may(&rotate_url, refused).await, "{refused}");
        assert!(!may(&status_url, refused).await, "{refused}");
    }
    for table in ["vault_identity", "vault_master_keys", "vault_data_keys", "vault_key_material"] {
        let may_read = format!("SELECT FROM {table}");
        assert!(may(&service_url, &may_read).await, "{may_read}");
    }
    for table in ALL_TABLES {
        // Of all that is the vault's the service writes nothing, the reader nothing at all.
        let writes = [format!("DELETE FROM {table}"), format!("INSERT INTO {table} DEFAULT VALUES")];
        for sql in writes.iter().filter(|_| table.starts_with("vault_")) {
            assert!(!may(&service_url, sql).await, "{sql}");
        }
        for sql in &writes {
            assert!(!may(&status_url, sql).await, "{sql}");
        }
        for sql in [
            format!("ALTER TABLE {table} ADD COLUMN more text"),
            format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
            format!("DROP TABLE {table} CASCADE"),
            format!("TRUNCATE {table} CASCADE"),
            format!("CREATE INDEX ON {table} ((1))"),
            format!(
                "CREATE TRIGGER more BEFORE UPDATE ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            ),
        ] {
            for url in [&service_url, &rotate_url, &status_url] {
                assert!(!may(url, &sql).await, "{sql}");
            }
        }
    }
    for url in [&service_url, &rotate_url, &status_url] {
        assert!(!may(url, "CREATE TABLE more ()").await);
        assert!(!may(url, "SELECT FROM users").await);
    }
    assert!(!may(&service_url, "DELETE FROM integrations").await);
    assert!(!may(&service_url, "SELECT FROM vault_rotation_runs").await);
    let error = watching.rotation().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_query_for_a_lease_held_for_too_long_finds_it_and_no_other() {
    let (_, rest) = include_str!("../src/manual/operations.md").split_once("-Atc \"").unwrap();
    let query = rest.split_once('"').unwrap().0;
    let database = TestDatabase::migrated(Dialect::Postgres).await;
    let (service, vault) = Service::begin(database).await;
    vault.rotation().run().await.unwrap();
    let TestDatabase::Postgres(postgres) = &service.database else { panic!("roles are PostgreSQL's") };
    let status_url = Role::reader(postgres).await.url;
    assert!(may(&status_url, query).await);

    for (set, found) in [
        // Ended, begun just now, begun long ago, killed.
        ("started_at = started_at - interval '2 hours'", 0),
        ("finished_at = NULL, started_at = now(), lease_expires_at = now() + interval '1 minute'", 0),
        ("started_at = started_at - interval '2 hours'", 1),
        ("lease_expires_at = now() - interval '1 second'", 0),
    ] {
        let set = set.replace("now()", "(now() AT TIME ZONE 'utc')");
        service.database.execute(&format!("UPDATE vault_rotation_runs SET {set}")).await;
        assert_eq!(service.database.fetch_text(query).await.len(), found, "{set}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_read_can_verify_and_list_the_quarantine() {
    let database = TestDatabase::migrated(Dialect::Postgres).await;
    let (service, owner) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&owner, 1).await;
    let intact = service.stored(tenants[0]).await;
    service.tamper_with(tenants[0]).await;
    assert_eq!(owner.rotation().force().run().await.unwrap().quarantined, 1);

    let TestDatabase::Postgres(postgres) = &service.database else { panic!("roles are PostgreSQL's") };
    let reader = Role::reader(postgres).await;
    let vault = Vault::open(&reader.url, &service.key("first")).await.unwrap();
    assert_eq!(vault.verify().run().await.unwrap().findings_count, 1);
    assert_eq!(vault.verify().sample(10).unwrap().run().await.unwrap().findings_count, 1);
    assert_eq!(vault.quarantine().list().await.unwrap().len(), 1);
    service.set_stored(tenants[0], &intact).await;
    let error = vault.quarantine().retry().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    service
        .database
        .execute(&format!("GRANT INSERT, UPDATE, DELETE ON vault_quarantine TO {}", reader.name))
        .await;
    assert_eq!(vault.quarantine().retry().await.unwrap().released, 1);
}
