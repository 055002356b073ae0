//! How migrations run: by hand and embedded, on databases that are newer, edited or in the way. Processes that migrate at
//! once are among `tests/faults`.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod common;

use std::pin::pin;
use std::time::Duration;

use common::schema::{describe, migration_files, run_by_hand};
use common::vault::RawConnection;
use common::{Dialect, TestDatabase, on_both_stores};
use credvault::{ErrorKind, MigrationName, migrate, pending_migrations};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

const MIGRATIONS: usize = 5;

on_both_stores!(
    by_hand_first_embedded_after_twice,
    embedded_first_by_hand_after_twice,
    by_hand_gives_the_schema_of_embedded,
    dry_run_names_what_is_pending_and_writes_nothing,
    database_of_a_newer_version_is_refused_with_nothing_written,
    edited_migration_is_refused_with_nothing_written,
    failed_migration_leaves_no_lock_and_runs_after_the_repair,
    migration_runs_in_a_spawned_task,
    sqlx_migrations_of_the_host_application_are_left_alone,
);

async fn by_hand_first_embedded_after_twice(database: TestDatabase) {
    for round in 0..2 {
        for file in migration_files(database.dialect()) {
            run_by_hand(&database, &file).await;
        }
        let applied = migrate(database.url()).await.unwrap();
        assert_eq!(applied.len(), if round == 0 { MIGRATIONS } else { 0 });
    }
    assert_eq!(v1_rows(&database).await, 1);
}

async fn embedded_first_by_hand_after_twice(database: TestDatabase) {
    for _ in 0..2 {
        migrate(database.url()).await.unwrap();
        for file in migration_files(database.dialect()) {
            run_by_hand(&database, &file).await;
        }
    }
    assert_eq!(v1_rows(&database).await, 1);
}

async fn by_hand_gives_the_schema_of_embedded(database: TestDatabase) {
    for file in migration_files(database.dialect()) {
        run_by_hand(&database, &file).await;
    }
    let embedded = TestDatabase::migrated(database.dialect()).await;
    let expected = describe(&embedded).await;
    assert_eq!(describe(&database).await, expected);
    // One over the other changes nothing either.
    migrate(database.url()).await.unwrap();
    assert_eq!(describe(&database).await, expected);
}

async fn dry_run_names_what_is_pending_and_writes_nothing(database: TestDatabase) {
    let pending = pending_migrations(database.url()).await.unwrap();
    assert_eq!(pending.len(), MIGRATIONS);
    let first = MigrationName { version: 1, description: "identity tables".to_owned() };
    assert_eq!(pending[0], first);
    match &database {
        TestDatabase::Sqlite(_) => {
            let file = database.url().strip_prefix("sqlite:").unwrap();
            assert!(!std::path::Path::new(file).exists());
        }
        TestDatabase::Postgres(_) => {
            let sql = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace";
            assert_eq!(database.fetch_text(sql).await.len(), 0);
        }
    }
    assert_eq!(migrate(database.url()).await.unwrap(), pending);
    assert_eq!(pending_migrations(database.url()).await.unwrap(), []);
    database.execute("DELETE FROM _credvault_migrations WHERE version = 1").await;
    assert_eq!(pending_migrations(database.url()).await.unwrap(), [first]);
}

async fn database_of_a_newer_version_is_refused_with_nothing_written(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    // One that this version would apply, were the database not newer.
    database
        .execute(
            "DROP TABLE vault_quarantine;
             DELETE FROM _credvault_migrations WHERE version = 3;
             UPDATE _credvault_migrations SET version = 9000 WHERE version = 4;",
        )
        .await;
    let before = (describe(&database).await, books(&database).await);
    for refused in [migrate(database.url()).await, pending_migrations(database.url()).await] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("migration 9000"), "{error}");
    }
    assert_eq!((describe(&database).await, books(&database).await), before);
}

async fn edited_migration_is_refused_with_nothing_written(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    database
        .execute(
            "DELETE FROM _credvault_migrations WHERE version = 4;
             UPDATE _credvault_migrations
             SET checksum = (SELECT checksum FROM _credvault_migrations WHERE version = 1)
             WHERE version = 2;",
        )
        .await;
    let before = books(&database).await;
    for refused in [migrate(database.url()).await, pending_migrations(database.url()).await] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("migration 2"), "{error}");
    }
    assert_eq!(books(&database).await, before);
}

async fn failed_migration_leaves_no_lock_and_runs_after_the_repair(database: TestDatabase) {
    database.execute("CREATE VIEW integrations AS SELECT 1 AS id").await;
    let error = migrate(database.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(
        error.to_string().starts_with("migration 2: migrating the database: the database refused: "),
        "{error}"
    );
    database.execute("DROP VIEW integrations").await;
    // It would wait for a lock that were left behind, and give up.
    migrate(database.url()).await.unwrap();
    assert_eq!(books(&database).await.len(), MIGRATIONS);
    if database.dialect() == Dialect::Postgres {
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        // The server ends a session a moment after its client has gone.
        let mut tries = 0;
        while database.fetch_one_text(held).await.as_deref() != Some("0") {
            tries += 1;
            assert!(tries < 500, "an advisory lock is left behind");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

async fn migration_runs_in_a_spawned_task(database: TestDatabase) {
    let url = database.url().to_owned();
    let spawned = tokio::spawn(async move { (pending_migrations(&url).await, migrate(&url).await) });
    let (pending, applied) = spawned.await.unwrap();
    assert_eq!(pending.unwrap(), applied.unwrap());
}

async fn sqlx_migrations_of_the_host_application_are_left_alone(database: TestDatabase) {
    database
        .execute("CREATE TABLE _sqlx_migrations (version BIGINT); INSERT INTO _sqlx_migrations VALUES (77)")
        .await;
    migrate(database.url()).await.unwrap();
    assert_eq!(database.fetch_text("SELECT version FROM _sqlx_migrations").await, [[Some("77".to_owned())]]);
}

#[tokio::test]
async fn sqlite_file_is_left_in_write_ahead_mode() {
    let database = TestDatabase::migrated(Dialect::Sqlite).await;
    assert_eq!(database.fetch_one_text("PRAGMA journal_mode").await.as_deref(), Some("wal"));
}

/// For how long somebody else has an SQLite file: time enough for a run that doesn't wait to come to its end.
const HELD: Duration = Duration::from_millis(300);

/// Starts a migration of a file that somebody else has, who goes on with `end` once it was seen to wait.
async fn applied_after(database: &TestDatabase, holder: &mut RawConnection, end: &str) -> Vec<MigrationName> {
    let mut run = pin!(migrate(database.url()));
    if let Ok(ended) = tokio::time::timeout(HELD, &mut run).await {
        panic!("it did not wait: {ended:?}");
    }
    holder.execute(end).await;
    run.await.unwrap()
}

/// One that read before it is the writer would go by what was there before the last one wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_run_reads_what_is_pending_after_those_who_write_before_it() {
    let database = TestDatabase::migrated(Dialect::Sqlite).await;
    let mut holder = database.connect().await;
    holder.execute("BEGIN IMMEDIATE").await;
    holder.execute("DELETE FROM _credvault_migrations WHERE version = 4").await;
    let applied = applied_after(&database, &mut holder, "COMMIT").await;
    assert_eq!(applied.iter().map(|name| name.version).collect::<Vec<_>>(), [4]);
    assert_eq!(books(&database).await.len(), MIGRATIONS);
}

/// SQLite says so at once, whatever the busy timeout, to who would turn a file to the write-ahead log that another writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_file_that_is_busy_is_tried_again() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let mut holder = database.connect().await;
    holder.execute("BEGIN IMMEDIATE").await;
    assert_eq!(applied_after(&database, &mut holder, "COMMIT").await.len(), MIGRATIONS);
    assert_eq!(database.fetch_one_text("PRAGMA journal_mode").await.as_deref(), Some("wal"));
}

#[tokio::test]
async fn unknown_keys_of_old_rows_are_a_warning_and_new_ones_are_refused() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let files = migration_files(Dialect::Postgres);
    run_by_hand(&database, &files[0]).await;
    run_by_hand(&database, &files[1]).await;
    let (_, integration) = database.add_tenant().await;
    let insert = |id| {
        format!(
            "INSERT INTO integration_credentials
                (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             VALUES (gen_random_uuid(), '{id}', 'token', 'x', 'a-lost-key')"
        )
    };
    database.execute(&insert(integration)).await;
    migrate(database.url()).await.unwrap();
    let validated = "SELECT convalidated FROM pg_constraint
         WHERE conname = 'integration_credentials_encryption_key_id_fkey'";
    assert_eq!(database.fetch_one_text(validated).await.as_deref(), Some("f"));
    let (_, another) = database.add_tenant().await;
    let refused = database.try_execute(&insert(another)).await.unwrap_err();
    assert_eq!(refused.into_database_error().unwrap().code().as_deref(), Some("23503"));

    database.execute("UPDATE integration_credentials SET encryption_key_id = 'v1'").await;
    run_by_hand(&database, &files[3]).await;
    assert_eq!(database.fetch_one_text(validated).await.as_deref(), Some("t"));
}

/// A service that knows nothing of the vault, as a role with rights on its own two tables alone.
#[tokio::test]
async fn legacy_role_without_rights_on_the_vault_writes_v1_until_the_cut_over() {
    let TestDatabase::Postgres(server) = TestDatabase::create(Dialect::Postgres).await else {
        unreachable!("it was asked for")
    };
    let role = format!("legacy_{}", Uuid::new_v4().simple());
    // In a schema of its own, as the guard's function must find its tables whatever the writer's search_path is.
    let schema = format!("app_{}", Uuid::new_v4().simple());
    let url = format!("{}&options[search_path]={schema}", server.url());
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let files = migration_files(Dialect::Postgres);
    let run = async |connection: &mut PgConnection, sql: String| {
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await
    };
    run(&mut owner, format!("CREATE SCHEMA {schema}; CREATE ROLE {role} LOGIN")).await.unwrap();
    for file in &files[..2] {
        run(&mut owner, std::fs::read_to_string(file).unwrap()).await.unwrap();
    }
    let grant = format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON integrations, integration_credentials TO {role};"
    );
    run(&mut owner, grant).await.unwrap();

    let mut legacy = PgConnection::connect(&server.url_as(&role)).await.unwrap();
    let write = || {
        let (id, integration, other) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        format!(
            "INSERT INTO {schema}.integrations (id, organization_id, user_id, connector_type, status)
             VALUES ('{integration}', '{other}', '{other}', 'github', 'active');
             INSERT INTO {schema}.integration_credentials
                (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             VALUES ('{id}', '{integration}', 'token', 'old', 'v1');
             UPDATE {schema}.integration_credentials SET credential_data_encrypted = 'new' WHERE id = '{id}';"
        )
    };
    run(&mut legacy, write()).await.unwrap();
    assert_eq!(migrate(&url).await.unwrap().len(), MIGRATIONS);
    run(&mut legacy, write()).await.unwrap();
    let peek = run(&mut legacy, format!("SELECT * FROM {schema}.vault_identity")).await.unwrap_err();
    assert_eq!(peek.into_database_error().unwrap().code().as_deref(), Some("42501"));

    let id = Uuid::new_v4();
    run(&mut owner, format!("INSERT INTO vault_identity (vault_id, phase) VALUES ('{id}', 'observe')"))
        .await
        .unwrap();
    run(&mut legacy, write()).await.unwrap();
    // A table of the writer's own that stands before the vault's in its search_path changes nothing.
    run(&mut legacy, "CREATE TEMPORARY TABLE vault_identity (phase TEXT)".to_owned()).await.unwrap();
    run(&mut owner, "UPDATE vault_identity SET phase = 'cut-over'".to_owned()).await.unwrap();
    let refused = run(&mut legacy, write()).await.unwrap_err();
    assert_eq!(refused.into_database_error().unwrap().code().as_deref(), Some("23001"));
    // It still reads, and changes what is not sealed.
    let touch = format!("UPDATE {schema}.integration_credentials SET updated_at = now()");
    assert_eq!(run(&mut legacy, touch).await.unwrap().rows_affected(), 3);
}

#[tokio::test]
async fn tls_is_verified_against_the_authority_and_the_host_name() {
    let server = common::postgres::tls().await;
    let url = |host: &str, mode: &str, ca: &std::path::Path| {
        format!("{}?sslmode={mode}&sslrootcert={}", server.url(host), ca.display())
    };
    let right = url("localhost", "verify-full", &server.ca());
    assert_eq!(pending_migrations(&right).await.unwrap().len(), MIGRATIONS);
    let mut connection = PgConnection::connect(&right).await.unwrap();
    let encrypted: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(encrypted);

    let another_authority = url("localhost", "verify-full", &server.other_ca());
    // The certificate is for localhost alone.
    let another_name = url("127.0.0.1", "verify-full", &server.ca());
    for refused in [another_authority, another_name] {
        let error = pending_migrations(&refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("TLS"), "{error}");
    }
    // It was the name: without it, the same connection stands.
    let any_name = url("127.0.0.1", "verify-ca", &server.ca());
    assert_eq!(pending_migrations(&any_name).await.unwrap().len(), MIGRATIONS);
}

async fn books(database: &TestDatabase) -> Vec<Vec<Option<String>>> {
    let checksum = match database.dialect() {
        Dialect::Postgres => "encode(checksum, 'hex')",
        Dialect::Sqlite => "hex(checksum)",
    };
    let sql = format!(
        "SELECT version, description, installed_on, success, {checksum}, execution_time
         FROM _credvault_migrations ORDER BY version"
    );
    database.fetch_text(&sql).await
}

async fn v1_rows(database: &TestDatabase) -> usize {
    let sql = "SELECT vault_data_keys.id
         FROM vault_data_keys JOIN vault_key_material ON data_key_id = vault_data_keys.id
         WHERE vault_data_keys.id = 'v1' AND state = 'deactivated' AND wrapped_key IS NULL";
    database.fetch_text(sql).await.len()
}
