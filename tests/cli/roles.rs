//! `credvault roles`, as it is typed: what it prints is run, and each role then does its work with the command.

use serde_json::json;
use uuid::Uuid;

use crate::common::legacy::{add_legacy_rows, legacy_salt};
use crate::common::{Dialect, TestDatabase};
use crate::shell::Shell;

/// Names of our own: roles are the server's.
fn prefix() -> String {
    format!("app_{}", &Uuid::new_v4().simple().to_string()[..12])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_make_a_vault_and_work_with_it() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let TestDatabase::Postgres(postgres) = &database else { panic!("roles are PostgreSQL's") };
    let prefix = prefix();
    let printing = Shell::new();
    let printed = printing.json(0, &["roles", "--prefix", &prefix, "--schema", "vault", "--step", "create"]);
    assert_eq!(printed["rotator"], json!(format!("{prefix}_rotator")));
    database.execute(printed["sql"].as_str().unwrap()).await;

    let key = printing.path("master.key");
    let key = format!("file:{}", key.display());
    printing.succeeds(&["master-key", "generate", "--out", &key["file:".len()..]]);
    let of = |role: &str| {
        Shell::new()
            .with("CREDVAULT_DATABASE", &postgres.url_as(&format!("{prefix}_{role}")))
            .with("CREDVAULT_MASTER_KEY", &key)
    };
    let (owner, service, rotator, reader) = (of("owner"), of("service"), of("rotator"), of("reader"));
    owner.succeeds(&["init"]);
    // Before they are granted, there are no rights.
    service.fails(1, &["status"]);
    let grants = printing.succeeds(&["roles", "--prefix", &prefix, "--schema", "vault", "--step", "grant"]);
    let grants = format!("SET ROLE {prefix}_owner; {grants}; RESET ROLE");
    database.execute(&grants).await;
    // After an upgrade they are granted again.
    database.execute(&grants).await;
    let tables = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.fetch_one_text(tables).await.as_deref(), Some("0"), "the tables are in the schema");

    let (organization, integration) = service.put_token();
    rotator.succeeds(&["rotate", "--force"]);
    assert_eq!(service.token(&organization, &integration), reader.token(&organization, &integration));
    reader.succeeds(&["status", "--count"]);
    reader.succeeds(&["verify"]);
    reader.succeeds(&["keys", "list"]);
    let keys = reader.json(0, &["keys", "list"]);
    let keys = keys["data_keys"].as_array().unwrap();
    let old = keys.iter().find(|key| key["state"] == "deactivated" && key["data_key_id"] != "v1").unwrap();
    let old = old["data_key_id"].as_str().unwrap().to_owned();
    for role in [&service, &rotator, &reader] {
        role.fails(1, &["keys", "destroy", &old, "--confirm", &old, "--no-grace"]);
    }
    for role in [&service, &reader] {
        role.fails(1, &["keys", "compromise", &old]);
    }
    reader.fails_with(
        1,
        &["put", "--organization", &organization, "--connector", "github"],
        br#"{"access_token":"other"}"#,
    );
    owner.succeeds(&["keys", "destroy", &old, "--confirm", &old, "--no-grace"]);
    rotator.succeeds(&["rotate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_legacy_key_is_the_owners_to_destroy() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let TestDatabase::Postgres(postgres) = &database else { panic!("roles are PostgreSQL's") };
    credvault::migrate(database.url()).await.unwrap();
    let broken = add_legacy_rows(&database).await.remove(0).integration;
    let owner = Shell::with_vault(&database);
    let prefix = prefix();
    database.execute(&owner.succeeds(&["roles", "--prefix", &prefix])).await;
    std::fs::write(owner.path("salt"), legacy_salt()).unwrap();
    owner.succeeds(&["adopt", "--salt-file", "salt"]);
    database.set(broken, "credential_data_encrypted = 'AAAA'").await;
    owner.run_with(&["adopt", "--re-encrypt", "--yes"], b"");
    assert_eq!(owner.run_with(&["adopt", "--cut-over", "--yes"], b"").code, 4);
    database.execute("DELETE FROM integration_credentials WHERE encryption_key_id = 'v1'").await;

    let key = format!("file:{}", owner.path("master.key").display());
    let rotator = Shell::new()
        .with("CREDVAULT_DATABASE", &postgres.url_as(&format!("{prefix}_rotator")))
        .with("CREDVAULT_MASTER_KEY", &key);
    let material = "SELECT count(*)::text FROM vault_key_material WHERE data_key_id = 'v1'";
    // The work is done, and each run says what is left to another, until that is done, too.
    for _ in 0..2 {
        let report = rotator.json(0, &["rotate"]);
        assert_eq!((&report["outcome"], &report["legacy_key_left"]), (&json!("complete"), &json!(true)));
        let text = rotator.succeeds(&["rotate"]);
        assert!(text.contains("rotate once as the owner"), "{text}");
        assert_eq!(database.fetch_one_text(material).await.as_deref(), Some("1"));
    }
    let report = owner.json(0, &["rotate"]);
    assert_eq!(report["legacy_key_left"], json!(false));
    assert_eq!(database.fetch_one_text(material).await.as_deref(), Some("0"));
    assert_eq!(rotator.json(0, &["rotate"])["legacy_key_left"], json!(false));
}

#[test]
fn a_name_that_is_more_than_a_name_is_refused() {
    let shell = Shell::new();
    for name in ["a; DROP TABLE users", "a\"b", "", "1a", "Äpfel", "A", &"a".repeat(49)] {
        for flag in ["--prefix", "--schema"] {
            shell.fails(2, &["roles", flag, name]);
        }
    }
    let sql = shell.succeeds(&["roles", "--schema", "vault", "--prefix", "app"]);
    assert!(
        sql.contains("SET search_path TO vault;") && sql.contains("CREATE ROLE app_service LOGIN;"),
        "{sql}"
    );
    assert!(!sql.contains("public") && !sql.contains("credvault_"), "{sql}");
    // A prefix with a role's name in it stands as it was given.
    let prefixed = shell.json(0, &["roles", "--prefix", "my_credvault_service"]);
    let made = |role| format!("CREATE ROLE {} LOGIN;", prefixed[role].as_str().unwrap());
    let sql = prefixed["sql"].as_str().unwrap();
    assert!(
        ["owner", "service", "rotator", "reader"].into_iter().all(|role| sql.contains(&made(role))),
        "{sql}"
    );
}
