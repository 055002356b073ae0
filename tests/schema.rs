//! What the schema itself holds, whatever a program does: the same tables in both databases, and their guards.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod common;

use std::collections::BTreeSet;

use common::schema::{columns, foreign_keys, indexes, migration_files, run_by_hand};
use common::{Dialect, TestDatabase, on_both_stores};
use credvault::{IntegrationId, migrate};
use uuid::Uuid;

on_both_stores!(
    row_under_an_unknown_key_is_refused,
    used_material_can_not_be_deleted,
    keys_that_are_still_named_can_not_be_deleted,
    material_of_an_unknown_key_is_refused,
    scope_has_one_active_and_one_coming_key,
    only_v1_may_be_without_key_check_and_material,
    one_run_at_a_time_and_each_with_a_higher_number,
    vault_has_one_identity,
    v1_is_written_until_the_cut_over_and_refused_after,
    placeholder_of_v1_does_not_come_back_after_the_cut_over,
    deleted_integration_takes_its_rows_along,
);

#[tokio::test]
async fn both_databases_hold_the_same_tables() {
    let postgres = TestDatabase::migrated(Dialect::Postgres).await;
    let sqlite = TestDatabase::migrated(Dialect::Sqlite).await;
    assert_eq!(columns(&postgres).await, columns(&sqlite).await);
    assert_eq!(indexes(&postgres).await, indexes(&sqlite).await);
    // The one that triggers stand for: SQLite can't add a foreign key to a table that stands.
    let by_trigger = "integration_credentials | encryption_key_id | vault_key_material | NO ACTION";
    let (postgres, sqlite) = (foreign_keys(&postgres).await, foreign_keys(&sqlite).await);
    assert_eq!(postgres.difference(&sqlite).collect::<Vec<_>>(), [by_trigger]);
    assert!(sqlite.is_subset(&postgres));
}

#[tokio::test]
async fn no_index_stands_on_the_key_of_a_row_and_pages_keep_room_that_is_soon_free_again() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let database = TestDatabase::migrated(dialect).await;
        let named: BTreeSet<_> = indexes(&database).await;
        assert!(!named.iter().any(|index| index.contains("encryption_key_id")), "{named:?}");
    }
    let postgres = TestDatabase::migrated(Dialect::Postgres).await;
    let settings = settings_of_credentials(&postgres).await;
    assert_eq!(settings, "fillfactor=85,autovacuum_analyze_scale_factor=10");
}

#[tokio::test]
async fn who_has_set_how_often_credentials_are_analyzed_keeps_it() {
    let postgres = TestDatabase::migrated(Dialect::Postgres).await;
    let set = "ALTER TABLE integration_credentials SET (autovacuum_analyze_scale_factor = 0.5)";
    let reset = "ALTER TABLE integration_credentials RESET (autovacuum_analyze_scale_factor)";
    let again = &migration_files(Dialect::Postgres)[4];
    for (before, after) in [(set, "0.5"), (reset, "10")] {
        postgres.execute(before).await;
        run_by_hand(&postgres, again).await;
        let settings = settings_of_credentials(&postgres).await;
        assert_eq!(settings, format!("fillfactor=85,autovacuum_analyze_scale_factor={after}"));
    }
}

/// How PostgreSQL stores the table.
async fn settings_of_credentials(postgres: &TestDatabase) -> String {
    let sql =
        "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE relname = 'integration_credentials'";
    postgres.fetch_one_text(sql).await.unwrap_or_default()
}

/// To older SQLite (3.40, for one), which other programs may bring, `json_valid(NULL)` is false.
#[test]
fn a_json_column_that_may_be_null_says_so_to_older_sqlite() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
    let mut columns = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines().filter(|line| line.contains("CHECK") && line.contains("json_valid(")) {
            let column = line.split_whitespace().next().unwrap();
            let says_so = format!("CHECK ({column} IS NULL OR json_valid({column}))");
            assert!(line.contains(" NOT NULL ") || line.contains(&says_so), "{line}");
            columns += 1;
        }
    }
    assert_eq!(columns, 10);
}

/// SQL that inserts a credential under `key`.
fn credential(integration: IntegrationId, key: &str) -> String {
    let id = Uuid::new_v4();
    format!(
        "INSERT INTO integration_credentials
            (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
         VALUES ('{id}', '{integration}', 'token', 'sealed', '{key}')"
    )
}

/// 16 bytes, as a literal of the database's own.
fn sixteen_bytes(database: &TestDatabase) -> &'static str {
    match database.dialect() {
        Dialect::Postgres => "decode('000102030405060708090a0b0c0d0e0f', 'hex')",
        Dialect::Sqlite => "x'000102030405060708090a0b0c0d0e0f'",
    }
}

async fn add_master_key(database: &TestDatabase) -> Uuid {
    let id = Uuid::new_v4();
    let check = sixteen_bytes(database);
    database
        .execute(&format!(
            "INSERT INTO vault_master_keys (id, provider, provider_record, key_check, state)
             VALUES ('{id}', 'file', '', {check}, 'deactivated')"
        ))
        .await;
    id
}

fn data_key(database: &TestDatabase, id: &str, organization: Option<Uuid>, state: &str) -> String {
    let organization = organization.map_or("NULL".to_owned(), |id| format!("'{id}'"));
    let check = sixteen_bytes(database);
    format!(
        "INSERT INTO vault_data_keys (id, organization_id, state, key_check)
         VALUES ('{id}', {organization}, '{state}', {check})"
    )
}

/// A data key with material, and the master key that wraps it.
async fn add_data_key(database: &TestDatabase, id: &str) -> Uuid {
    let master = add_master_key(database).await;
    database.execute(&data_key(database, id, None, "deactivated")).await;
    database
        .execute(&format!(
            "INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
             VALUES ('{id}', '{master}', 'wrapped')"
        ))
        .await;
    master
}

async fn set_phase(database: &TestDatabase, phase: &str) {
    let id = Uuid::new_v4();
    database
        .execute(&format!(
            "INSERT INTO vault_identity (vault_id, phase) VALUES ('{id}', '{phase}')
             ON CONFLICT (singleton) DO UPDATE SET phase = excluded.phase"
        ))
        .await;
}

/// The database refuses `sql`, and says so with `code`, or on SQLite with `words`.
async fn assert_refused(database: &TestDatabase, sql: &str, code: &str, words: &str) {
    let error = database.try_execute(sql).await.expect_err(sql).into_database_error().unwrap();
    match database.dialect() {
        Dialect::Postgres => assert_eq!(error.code().as_deref(), Some(code), "{error}\n{sql}"),
        Dialect::Sqlite => assert!(error.message().contains(words), "{error}\n{sql}"),
    }
}

const FOREIGN_KEY: &str = "23503";
const UNIQUE: &str = "23505";
const CHECK: &str = "23514";
const RESTRICT: &str = "23001";

async fn row_under_an_unknown_key_is_refused(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    add_data_key(&database, "known").await;
    // A key row alone, whose material is not there, opens nothing.
    database.execute(&data_key(&database, "destroyed", None, "destroyed")).await;
    let (_, integration) = database.add_tenant().await;
    for unknown in ["unknown", "destroyed", ""] {
        let insert = credential(integration, unknown);
        assert_refused(&database, &insert, FOREIGN_KEY, "names no key").await;
    }
    database.execute(&credential(integration, "known")).await;
    let update = "UPDATE integration_credentials SET encryption_key_id = 'unknown'";
    assert_refused(&database, update, FOREIGN_KEY, "names no key").await;
    database.execute("UPDATE integration_credentials SET encryption_key_id = 'v1'").await;
}

async fn used_material_can_not_be_deleted(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    add_data_key(&database, "known").await;
    let (_, integration) = database.add_tenant().await;
    database.execute(&credential(integration, "known")).await;
    let delete = "DELETE FROM vault_key_material WHERE data_key_id = 'known'";
    assert_refused(&database, delete, FOREIGN_KEY, "still used").await;
    let rename = "UPDATE vault_key_material SET data_key_id = 'v2' WHERE data_key_id = 'known'";
    assert_refused(&database, rename, FOREIGN_KEY, "never changes").await;
    database.execute("DELETE FROM integration_credentials").await;
    assert_eq!(database.try_execute(delete).await.unwrap(), 1);
    // What is gone is refused from then on.
    assert_refused(&database, &credential(integration, "known"), FOREIGN_KEY, "names no key").await;
}

async fn keys_that_are_still_named_can_not_be_deleted(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let master = add_data_key(&database, "known").await;
    let delete = "DELETE FROM vault_data_keys WHERE id = 'known'";
    assert_refused(&database, delete, FOREIGN_KEY, "still has material").await;
    let delete = format!("DELETE FROM vault_master_keys WHERE id = '{master}'");
    assert_refused(&database, &delete, FOREIGN_KEY, "still wraps").await;
}

async fn material_of_an_unknown_key_is_refused(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let master = add_data_key(&database, "known").await;
    database.execute(&data_key(&database, "bare", None, "pre-active")).await;
    let stranger = Uuid::new_v4();
    for (key, wrapped_by) in [("unknown", master), ("bare", stranger)] {
        let insert = format!("INSERT INTO vault_key_material VALUES ('{key}', '{wrapped_by}', 'wrapped')");
        assert_refused(&database, &insert, FOREIGN_KEY, "does not exist").await;
    }
    let update =
        format!("UPDATE vault_key_material SET master_key_id = '{stranger}' WHERE data_key_id = 'known'");
    assert_refused(&database, &update, FOREIGN_KEY, "does not exist").await;
}

async fn scope_has_one_active_and_one_coming_key(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let (one, another) = (Uuid::new_v4(), Uuid::new_v4());
    for state in ["active", "pre-active"] {
        for scope in [None, Some(one), Some(another)] {
            let name = || Uuid::new_v4().to_string();
            database.execute(&data_key(&database, &name(), scope, state)).await;
            let second = data_key(&database, &name(), scope, state);
            assert_refused(&database, &second, UNIQUE, "UNIQUE constraint failed").await;
            // Any number of keys that seal no more.
            database.execute(&data_key(&database, &name(), scope, "deactivated")).await;
        }
    }
    let first = add_master_key(&database).await;
    let second = add_master_key(&database).await;
    let activate = |id| format!("UPDATE vault_master_keys SET state = 'active' WHERE id = '{id}'");
    database.execute(&activate(first)).await;
    assert_refused(&database, &activate(second), UNIQUE, "UNIQUE constraint failed").await;
}

async fn only_v1_may_be_without_key_check_and_material(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let failed = "CHECK constraint failed";
    let unchecked = "INSERT INTO vault_data_keys (id, state) VALUES ('v2', 'deactivated')";
    assert_refused(&database, unchecked, CHECK, failed).await;
    let short = "UPDATE vault_data_keys SET key_check = ";
    let short = match database.dialect() {
        Dialect::Postgres => format!("{short} decode('00', 'hex')"),
        Dialect::Sqlite => format!("{short} x'00'"),
    };
    assert_refused(&database, &short, CHECK, failed).await;
    let master = add_data_key(&database, "known").await;
    for half in [
        "UPDATE vault_key_material SET wrapped_key = NULL, master_key_id = NULL WHERE data_key_id = 'known'"
            .to_owned(),
        "UPDATE vault_key_material SET wrapped_key = 'wrapped' WHERE data_key_id = 'v1'".to_owned(),
        format!("UPDATE vault_key_material SET master_key_id = '{master}' WHERE data_key_id = 'v1'"),
    ] {
        assert_refused(&database, &half, CHECK, failed).await;
    }
}

async fn one_run_at_a_time_and_each_with_a_higher_number(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let now = match database.dialect() {
        Dialect::Postgres => "now()",
        Dialect::Sqlite => "0",
    };
    let start = format!(
        "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) VALUES ('rotate', 'me', {now})"
    );
    database.execute(&start).await;
    assert_refused(&database, &start, UNIQUE, "UNIQUE constraint failed").await;
    database.execute(&format!("UPDATE vault_rotation_runs SET finished_at = {now}")).await;
    database.execute(&start).await;
    // A number is not given twice, not even after its row is gone.
    let highest = || async {
        let highest = database.fetch_one_text("SELECT max(id) FROM vault_rotation_runs").await.unwrap();
        highest.parse::<i64>().unwrap()
    };
    let before = highest().await;
    database.execute("DELETE FROM vault_rotation_runs").await;
    database.execute(&start).await;
    assert!(highest().await > before);
}

async fn vault_has_one_identity(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let insert = |singleton: &str| {
        let id = Uuid::new_v4();
        format!("INSERT INTO vault_identity (singleton, vault_id) VALUES ({singleton}, '{id}')")
    };
    let (yes, no) = match database.dialect() {
        Dialect::Postgres => ("true", "false"),
        Dialect::Sqlite => ("1", "0"),
    };
    database.execute(&insert(yes)).await;
    assert_refused(&database, &insert(yes), UNIQUE, "UNIQUE constraint failed").await;
    assert_refused(&database, &insert(no), CHECK, "CHECK constraint failed").await;
}

async fn v1_is_written_until_the_cut_over_and_refused_after(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let (organization, first) = database.add_tenant().await;
    database.execute(&credential(first, "v1")).await;
    let seal = "UPDATE integration_credentials SET credential_data_encrypted = 'sealed again'";
    for phase in ["none", "observe", "re-encrypt"] {
        set_phase(&database, phase).await;
        database.execute(seal).await;
        let integration = database.add_integration(organization, phase).await;
        database.execute(&credential(integration, "v1")).await;
    }
    set_phase(&database, "cut-over").await;
    let closed = "closed since the cut-over";
    let late = database.add_integration(organization, "late").await;
    assert_refused(&database, &credential(late, "v1"), RESTRICT, closed).await;
    assert_refused(&database, seal, RESTRICT, closed).await;
    let upsert = format!(
        "{} ON CONFLICT (integration_id) DO UPDATE SET encryption_key_id = excluded.encryption_key_id",
        credential(first, "v1")
    );
    assert_refused(&database, &upsert, RESTRICT, closed).await;
    // The way out stays open, and other keys are not concerned.
    add_data_key(&database, "known").await;
    database.execute(&credential(late, "known")).await;
    let back =
        "UPDATE integration_credentials SET encryption_key_id = 'v1' WHERE encryption_key_id = 'known'";
    assert_refused(&database, back, RESTRICT, closed).await;
    database.execute("UPDATE integration_credentials SET encryption_key_id = 'known'").await;
}

async fn placeholder_of_v1_does_not_come_back_after_the_cut_over(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    set_phase(&database, "cut-over").await;
    database
        .execute(
            "DELETE FROM vault_key_material WHERE data_key_id = 'v1';
             UPDATE vault_data_keys SET state = 'destroyed' WHERE id = 'v1';",
        )
        .await;
    for file in migration_files(database.dialect()) {
        run_by_hand(&database, &file).await;
    }
    database.execute("DELETE FROM _credvault_migrations").await;
    migrate(database.url()).await.unwrap();
    let material = "SELECT count(*) FROM vault_key_material";
    assert_eq!(database.fetch_one_text(material).await.as_deref(), Some("0"));
    let state = "SELECT state FROM vault_data_keys WHERE id = 'v1'";
    assert_eq!(database.fetch_one_text(state).await.as_deref(), Some("destroyed"));
    // An old snapshot may not see the phase yet: the missing key refuses it all the same.
    set_phase(&database, "observe").await;
    let (_, integration) = database.add_tenant().await;
    assert_refused(&database, &credential(integration, "v1"), FOREIGN_KEY, "names no key").await;
}

async fn deleted_integration_takes_its_rows_along(database: TestDatabase) {
    migrate(database.url()).await.unwrap();
    let (_, integration) = database.add_tenant().await;
    database.execute(&credential(integration, "v1")).await;
    let delete = format!("DELETE FROM integrations WHERE id = '{integration}'");
    match database.dialect() {
        Dialect::Postgres => database.execute(&delete).await,
        Dialect::Sqlite => database.execute(&format!("PRAGMA foreign_keys = ON; {delete}")).await,
    }
    let rows = "SELECT count(*) FROM integration_credentials";
    assert_eq!(database.fetch_one_text(rows).await.as_deref(), Some("0"));
}

/// What isn't could not be named by a scan, a list or the quarantine, and would end them.
#[tokio::test]
async fn an_id_on_sqlite_is_a_uuid() {
    let database = TestDatabase::migrated(Dialect::Sqlite).await;
    let (organization, right) =
        ("0191f0a0-7c5e-7aaa-8bbb-0123456789ab", "0191f0a0-7c5e-7aaa-8bbb-0123456789ac");
    let insert = |organization: &str, integration: &str| {
        format!(
            "INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
             VALUES ({integration}, {organization}, '{right}', 'github', 'active')"
        )
    };
    let quoted = |text: &str| format!("'{text}'");
    let wrong = [
        quoted(&right.to_uppercase()),
        quoted(&right.replace('a', "g")),
        quoted(&right.replace('-', "0")),
        quoted(&right.replace("7c5e", "7-5e")),
        quoted(&right.replace('-', "")),
        quoted(&"é".repeat(36)),
        format!("'{right}' || char(0) || 'more'"),
        format!("CAST(x'ff' || substr('{right}', 2) AS TEXT)"),
    ];
    for wrong in &wrong {
        for sql in [insert(&quoted(organization), wrong), insert(wrong, &quoted(right))] {
            assert!(database.try_execute(&sql).await.is_err(), "{sql}");
        }
    }
    database.execute(&insert(&quoted(organization), &quoted(right))).await;
}
