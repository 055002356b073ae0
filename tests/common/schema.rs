//! What a database's schema is, as text that can be compared.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Dialect, TestDatabase, postgres};

/// The files of the migrations, in order.
pub fn migration_files(dialect: Dialect) -> Vec<PathBuf> {
    let folder = match dialect {
        Dialect::Postgres => "migrations",
        Dialect::Sqlite => "migrations/sqlite",
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    files
}

/// Runs one of [`migration_files`] as a person does: with `psql`, or as the text that `sqlite3` reads.
pub async fn run_by_hand(database: &TestDatabase, file: &PathBuf) {
    match database {
        TestDatabase::Postgres(database) => postgres::run_by_hand(database.url(), file),
        TestDatabase::Sqlite(_) => database.execute(&std::fs::read_to_string(file).unwrap()).await,
    }
}

/// Everything that the migrations make, as the database describes it, without the migrator's books.
pub async fn describe(database: &TestDatabase) -> BTreeSet<String> {
    lines(
        database,
        "SELECT 'column', table_name, column_name, ordinal_position, data_type, character_maximum_length,
            is_nullable, column_default, is_identity
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'
         UNION ALL
         SELECT 'table', relname, array_to_string(reloptions, ','), NULL, NULL, NULL, NULL, NULL, NULL
         FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT LIKE '\\_%'
         UNION ALL
         SELECT 'constraint', conrelid::regclass::text, conname, NULL, pg_get_constraintdef(oid), NULL,
            NULL, NULL, convalidated::text
         FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE '\\_%'
         UNION ALL
         SELECT 'index', tablename, indexname, NULL, indexdef, NULL, NULL, NULL, NULL
         FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_%'
         UNION ALL
         SELECT 'trigger', tgrelid::regclass::text, tgname, NULL, pg_get_triggerdef(oid), NULL, NULL, NULL, NULL
         FROM pg_trigger WHERE NOT tgisinternal
         UNION ALL
         SELECT 'function', proname, pg_get_functiondef(oid), NULL, proacl::text, NULL, NULL, NULL, NULL
         FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE '\\_%' ESCAPE '\\'",
    )
    .await
}

/// Table, column, kind of storage in SQLite's words, and whether it may be NULL.
pub async fn columns(database: &TestDatabase) -> BTreeSet<String> {
    lines(
        database,
        "SELECT table_name, column_name,
            CASE
                WHEN data_type IN ('uuid', 'character varying', 'text', 'jsonb', 'ARRAY') THEN 'TEXT'
                WHEN data_type IN ('timestamp without time zone', 'bigint', 'boolean') THEN 'INTEGER'
                WHEN data_type = 'bytea' THEN 'BLOB'
                ELSE data_type
            END,
            CASE is_nullable WHEN 'NO' THEN 'NOT NULL' END
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'",
        "SELECT tables.name, columns.name, columns.type, CASE columns.\"notnull\" WHEN 1 THEN 'NOT NULL' END
         FROM sqlite_schema AS tables JOIN pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND tables.name NOT LIKE '\\_%' ESCAPE '\\' AND tables.name <> 'sqlite_sequence'",
    )
    .await
}

/// Table and columns of each index, whether it is unique, and whether it has a condition.
pub async fn indexes(database: &TestDatabase) -> BTreeSet<String> {
    lines(
        database,
        "SELECT tables.relname, string_agg(coalesce(attname, '(expression)'), ',' ORDER BY place),
            indisunique::integer, (indpred IS NOT NULL)::integer
         FROM pg_index
         JOIN pg_class AS tables ON tables.oid = indrelid
         CROSS JOIN LATERAL unnest(indkey) WITH ORDINALITY AS keys (number, place)
         LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = number AND number > 0
         WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE '\\_%'
         GROUP BY indexrelid, relname, indisunique, indpred",
        // The key of a table that is its rowid has no index of its own.
        "SELECT tables.name, group_concat(coalesce(keys.name, '(expression)'), ',' ORDER BY keys.seqno),
            indexes.\"unique\", indexes.partial
         FROM sqlite_schema AS tables
         JOIN pragma_index_list(tables.name) AS indexes
         JOIN pragma_index_info(indexes.name) AS keys
         WHERE tables.type = 'table' AND tables.name NOT LIKE '\\_%' ESCAPE '\\'
         GROUP BY tables.name, indexes.name
         UNION ALL
         SELECT tables.name, columns.name, 1, 0
         FROM sqlite_schema AS tables JOIN pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND columns.pk = 1 AND columns.type = 'INTEGER'",
    )
    .await
}

/// Table and column of each foreign key, the table it names, and what happens when the row there is deleted.
pub async fn foreign_keys(database: &TestDatabase) -> BTreeSet<String> {
    lines(
        database,
        "SELECT conrelid::regclass, attname, confrelid::regclass,
            CASE confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'a' THEN 'NO ACTION' END
         FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ALL (conkey)
         WHERE contype = 'f'",
        "SELECT tables.name, keys.\"from\", keys.\"table\", keys.on_delete
         FROM sqlite_schema AS tables JOIN pragma_foreign_key_list(tables.name) AS keys
         WHERE tables.type = 'table'",
    )
    .await
}

async fn lines(database: &TestDatabase, on_postgres: &str, on_sqlite: &str) -> BTreeSet<String> {
    let sql = match database.dialect() {
        Dialect::Postgres => on_postgres,
        Dialect::Sqlite => on_sqlite,
    };
    let rows = database.fetch_text(sql).await;
    assert!(!rows.is_empty(), "nothing described");
    rows.iter()
        .map(|row| row.iter().map(|value| value.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" | "))
        .collect()
}
