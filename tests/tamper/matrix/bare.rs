//! The tables without a single constraint, index or trigger: what their owner can make of them. What then answers is the
//! vault, and not the database.

use super::changes::Column;
use crate::common::{Dialect, RawConnection, TestDatabase};

/// The columns of the vault's tables, and of another's the ones that say whose a credential is.
pub(super) async fn columns(database: &TestDatabase) -> Vec<Column> {
    let ours = "table_name = 'integration_credentials' OR table_name LIKE 'vault\\_%' ESCAPE '\\'
                OR table_name = 'integrations' AND column_name = 'organization_id'";
    let catalogue = match database.dialect() {
        Dialect::Postgres => format!(
            "SELECT table_name, column_name, data_type FROM information_schema.columns
              WHERE table_schema = 'public' AND ({ours}) ORDER BY table_name, ordinal_position"
        ),
        Dialect::Sqlite => format!(
            "SELECT * FROM (SELECT tables.name AS table_name, columns.name AS column_name, columns.type
                              FROM sqlite_schema AS tables JOIN pragma_table_info(tables.name) AS columns
                             WHERE tables.type = 'table' ORDER BY tables.name, columns.cid)
              WHERE {ours}"
        ),
    };
    let text = |value: &Option<String>| value.clone().unwrap();
    let rows = database.fetch_text(&catalogue).await;
    let columns: Vec<_> =
        rows.iter().map(|row| Column::new(&text(&row[0]), &text(&row[1]), &text(&row[2]))).collect();
    assert!(columns.len() > 40, "{columns:?}");
    columns
}

/// Makes each table anew with its types and its rows alone. In `place`, which is new, each row has a number that no
/// change takes from it; the table `before_…` keeps the rows as they were.
pub(super) async fn strip(database: &TestDatabase, columns: &[Column]) {
    let mut tables: Vec<_> = columns.iter().map(|column| column.table.as_str()).collect();
    tables.dedup();
    let mut connection = database.connect().await;
    if database.dialect() == Dialect::Sqlite {
        let triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger'";
        for trigger in database.fetch_text(triggers).await {
            connection.execute(&format!("DROP TRIGGER {}", trigger[0].as_deref().unwrap())).await;
        }
    }
    for table in tables {
        let new = match database.dialect() {
            Dialect::Postgres => {
                format!("CREATE TABLE bare AS SELECT *, row_number() OVER () AS place FROM {table}")
            }
            Dialect::Sqlite => {
                let declared =
                    format!("SELECT name || ' ' || type FROM pragma_table_info('{table}') ORDER BY cid");
                let declared = database.fetch_text(&declared).await;
                let declared: Vec<_> = declared.into_iter().map(|row| row[0].clone().unwrap()).collect();
                format!(
                    "CREATE TABLE bare ({}, place INTEGER);
                     INSERT INTO bare SELECT *, row_number() OVER () FROM {table}",
                    declared.join(", ")
                )
            }
        };
        let cascade = if database.dialect() == Dialect::Postgres { " CASCADE" } else { "" };
        connection
            .execute(&format!(
                "{new};
                 CREATE TABLE before_{table} AS SELECT * FROM bare;
                 DROP TABLE {table}{cascade};
                 ALTER TABLE bare RENAME TO {table}"
            ))
            .await;
        if database.dialect() == Dialect::Postgres {
            widen(database, &mut connection, table).await;
        }
    }
}

/// Takes the length from the columns of text.
async fn widen(database: &TestDatabase, connection: &mut RawConnection, table: &str) {
    let bounded = format!(
        "SELECT column_name FROM information_schema.columns
          WHERE table_name = '{table}' AND data_type = 'character varying'"
    );
    for column in database.fetch_text(&bounded).await {
        let column = column[0].as_deref().unwrap();
        connection.execute(&format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE TEXT")).await;
    }
}

/// The numbers of the rows whose values are changed, each with what reads the value of `column` there.
pub(super) async fn values(database: &TestDatabase, column: &Column) -> Vec<(String, Option<String>)> {
    let rows = match column.table.as_str() {
        // Nothing hangs on one that wraps no key any more.
        "vault_master_keys" => "state = 'active'",
        _ => "1 = 1",
    };
    let sql = format!(
        "SELECT place, {} FROM {} WHERE {rows} ORDER BY place",
        column.read(database.dialect()),
        column.table
    );
    let rows = database.fetch_text(&sql).await;
    rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone())).collect()
}

/// The numbers of the other rows of a table.
pub(super) async fn others(database: &TestDatabase, column: &Column, place: &str) -> Vec<String> {
    let sql = format!("SELECT place FROM {} WHERE place <> {place} ORDER BY place", column.table);
    database.fetch_text(&sql).await.into_iter().map(|row| row[0].clone().unwrap()).collect()
}
