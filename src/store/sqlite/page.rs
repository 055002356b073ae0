//! The credentials' rows by pages on SQLite: what a page reads, and the transaction that writes it.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::types::Json;
use sqlx::{Row, Sqlite};
use tokio::time::Instant;
use uuid::fmt::Hyphenated;

use super::{SqliteStore, begin};
use crate::credential::Revision;
use crate::error::Result;
use crate::id::IntegrationId;
use crate::store::column::{Id, Text, Time};
use crate::store::failure::failure;
use crate::store::pages::MAX_PAGE_BYTES;
use crate::store::rows::{CredentialRow, Cursor, Range, RowAddress, Rows, ScannedRow, Swap, Swapped};
use crate::store::runs::RunId;
use crate::store::to_the_end;

/// What part of a page's time the file is left to others, after each page. Pages take turns, since SQLite lets a writer that
/// waits look again after ever longer sleeps: one page after the other would hardly ever leave the file free when somebody
/// looks, neither for the application nor for other processes.
const REST_OF_FILE: u32 = 8;

mod sql {
    use crate::store::sql::{active_key_of_scope, credential_columns, is_stale, short};

    /// A value as text, whatever its type: in a table without its constraints it can have any, and JSON has no bytes.
    macro_rules! text {
        ($value:literal) => {
            concat!("COALESCE(CAST(", $value, " AS TEXT), '')")
        };
    }

    /// By rowid, the order of the table: by id, which is random, each row would be another page of the file. A page ends
    /// at a number of rows, or where its texts have ?4 bytes. They are looked up when that is known: what a window function
    /// goes over is held in memory with all columns that it names.
    ///
    /// A page is one value, a JSON array of its rows: of rows, each value is copied and each row handed from SQLite's thread
    /// to ours for itself, which costs more than to read it.
    macro_rules! scan {
        ($from:expr, $where:expr) => {
            concat!(
                "SELECT json_group_array(json_array(r.cursor, ",
                text!("r.integration_id"),
                ", ",
                text!("r.organization_id"),
                ", ",
                text!("r.connector_type"),
                ", ",
                text!("r.credential_type"),
                ", ",
                text!("r.stored"),
                ", ",
                text!("r.encryption_key_id"),
                ", CAST(r.expires_at AS INTEGER)))
                   FROM (SELECT page.cursor, page.integration_id, page.organization_id, page.connector_type, ",
                credential_columns!(),
                "
                   FROM (SELECT first.*, sum(first.bytes) OVER (ORDER BY first.cursor ROWS UNBOUNDED PRECEDING)
                                             - first.bytes AS bytes_before
                           FROM (SELECT c.rowid AS cursor, c.integration_id, i.organization_id, ",
                short!("i.connector_type"),
                " AS connector_type,
                                        COALESCE(octet_length(c.credential_data_encrypted), 0) AS bytes
                                   FROM ",
                $from,
                "
                                  WHERE c.rowid >= $2 AND c.rowid <= $3 AND ",
                $where,
                "
                                  ORDER BY c.rowid LIMIT $1) AS first) AS page
                  CROSS JOIN integration_credentials AS c ON c.rowid = page.cursor
                  WHERE page.bytes_before < $4
                  ORDER BY page.cursor) AS r"
            )
        };
        ($where:expr) => {
            scan!(
                "integration_credentials AS c JOIN integrations AS i ON i.id = c.integration_id",
                $where
            )
        };
    }

    pub(super) const SCAN_ALL: &str = scan!("true");
    pub(super) const SCAN_STALE: &str = scan!(
        concat!(
            "integration_credentials AS c JOIN integrations AS i ON i.id = c.integration_id",
            crate::store::sql::with_own_key!()
        ),
        is_stale!()
    );
    pub(super) const SCAN_LEGACY: &str = scan!("c.encryption_key_id = 'v1'");
    pub(super) const SCAN_OF: &str = scan!("i.organization_id = $5");
    pub(super) const WINDOW_END: &str =
        "SELECT rowid FROM integration_credentials WHERE rowid >= $1 ORDER BY rowid LIMIT 1 OFFSET $2";

    macro_rules! two_hundred_times {
        ($text:literal) => {
            two_hundred_times!(@ten two_hundred_times!(@ten concat!($text, $text)))
        };
        (@ten $text:expr) => {
            concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
        };
    }

    /// Rows that one statement swaps, of a page whose transaction is one.
    pub(super) const SWAPPED_AT_ONCE: usize = 200;

    /// SQLite has one writer: a row that changed since it was read no longer has the old text, and nor has one that was
    /// transferred, so that the organization is still the one that was read with it. A row that was given another rowid, by
    /// VACUUM, is left to the next sweep.
    ///
    /// The rows are VALUES with a parameter for each value, as JSON each row would be parsed once for each of its values;
    /// as many in each statement, which is prepared once: where a page ends, what is not bound is NULL, and matches nothing.
    pub(super) const SWAP: &str = concat!(
        "WITH n (place, integration_id, organization_id, old_text, old_expires_at, new_text, new_key) AS (
             VALUES ",
        two_hundred_times!("(?, ?, ?, ?, ?, ?, ?), "),
        "(NULL, NULL, NULL, NULL, NULL, NULL, NULL))
         UPDATE integration_credentials AS c
            SET credential_data_encrypted = n.new_text, encryption_key_id = n.new_key
           FROM n
          WHERE c.rowid = n.place
            AND c.integration_id = n.integration_id
            AND substr(c.credential_data_encrypted, 1, length(n.old_text)) = n.old_text
            AND (c.encryption_key_id <> 'v1'
                 OR c.expires_at IS n.old_expires_at
                 OR n.old_expires_at IS NULL
                    AND c.expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999)
            AND n.new_key = ",
        active_key_of_scope!(of each "n.organization_id"),
        "
            AND EXISTS (SELECT 1 FROM vault_rotation_runs AS r WHERE r.finished_at IS NULL AND r.id = ?)"
    );

    /// The integrations, of a JSON object of their texts' beginnings, whose texts begin so.
    pub(super) const WRITTEN: &str = "SELECT c.integration_id
           FROM json_each($1) AS n
           JOIN integration_credentials AS c ON c.integration_id = n.key
          WHERE substr(c.credential_data_encrypted, 1, length(n.value)) = n.value";
}

pub(super) async fn scan(pool: &SqlitePool, rows: Rows, range: Range, limit: u32) -> Result<Vec<ScannedRow>> {
    let (from, to) = bounds(range);
    let statement = match rows {
        Rows::All => sql::SCAN_ALL,
        Rows::Stale => sql::SCAN_STALE,
        Rows::Legacy => sql::SCAN_LEGACY,
        Rows::Of(_) => sql::SCAN_OF,
    };
    let mut query = sqlx::query(statement).bind(i64::from(limit)).bind(from).bind(to).bind(MAX_PAGE_BYTES);
    if let Rows::Of(organization) = rows {
        query = query.bind(Id::from(organization));
    }
    let say = |error| failure("reading a page of credentials", error);
    let Text(page) = query.fetch_one(pool).await.and_then(|row| row.try_get(0)).map_err(say)?;
    serde_json::from_str::<Vec<RowOfPage>>(&page)
        .map_err(|error| say(sqlx::Error::Decode(error.into())))?
        .into_iter()
        .map(|row| scanned(row).map_err(say))
        .collect()
}

/// Rowid, integration, organization, connector, type, stored text, key and expiry.
type RowOfPage = (i64, String, String, String, String, String, String, Option<i64>);

fn scanned(row: RowOfPage) -> sqlx::Result<ScannedRow> {
    let (rowid, integration, organization, connector, credential_type, stored, key_column, expires_at) = row;
    let id = |index: &str, text: &str| match Hyphenated::from_str(text) {
        Ok(id) => Ok(Id(id.into())),
        Err(error) => Err(sqlx::Error::ColumnDecode { index: index.to_owned(), source: error.into() }),
    };
    Ok(ScannedRow {
        cursor: Cursor::RowId(rowid),
        address: RowAddress::RowId(rowid),
        integration: id("integration_id", &integration)?.into(),
        organization: id("organization_id", &organization)?.into(),
        connector,
        row: CredentialRow {
            credential_type,
            stored,
            key_column,
            expires_at: expires_at.and_then(|at| Time(at).timestamp()),
        },
    })
}

/// The first and the last rowid of a range.
fn bounds(range: Range) -> (i64, i64) {
    let at = |cursor| match cursor {
        Some(Cursor::RowId(rowid)) => Some(rowid),
        _ => None,
    };
    (at(range.from).unwrap_or(i64::MIN), at(range.to).unwrap_or(i64::MAX))
}

pub(super) async fn window_end(pool: &SqlitePool, from: Option<Cursor>, rows: u32) -> Result<Option<Cursor>> {
    let (from, _) = bounds(Range { from, to: None });
    sqlx::query_scalar::<_, i64>(sql::WINDOW_END)
        .bind(from)
        .bind(i64::from(rows.saturating_sub(1)))
        .fetch_optional(pool)
        .await
        .map(|id| id.map(Cursor::RowId))
        .map_err(|error| failure("dividing the credentials into windows", error))
}

pub(super) async fn swap(store: &SqliteStore, run: RunId, swaps: Arc<[Swap]>) -> Result<Swapped> {
    let (pool, turn) = (store.pool.clone(), Arc::clone(&store.turn));
    to_the_end(async move {
        let say = |error| failure("writing a page of re-encrypted credentials", error);
        // Made before it is this page's turn: while it writes, all other writers wait.
        let statements: Vec<_> =
            swaps.chunks(sql::SWAPPED_AT_ONCE).map(|swaps| (swaps, swap_statement(run, swaps))).collect();
        let turn = turn.lock_owned().await;
        let began = Instant::now();
        let mut transaction = begin(&pool).await.map_err(say)?;
        let mut written = Vec::with_capacity(swaps.len());
        for (swaps, statement) in statements {
            let done = statement.execute(&mut *transaction).await.map_err(say)?;
            // A row that a statement returns costs more than its update.
            if done.rows_affected() == swaps.len() as u64 {
                written.extend(swaps.iter().map(|swap| swap.integration));
                continue;
            }
            let new: Vec<_> =
                swaps.iter().map(|swap| (swap.integration.to_string(), Revision::of(&swap.new))).collect();
            let new: HashMap<_, _> = new.iter().map(|(id, new)| (id.as_str(), new.as_str())).collect();
            let these =
                sqlx::query_scalar::<_, Id>(sql::WRITTEN).bind(Json(&new)).fetch_all(&mut *transaction);
            written.extend(these.await.map_err(say)?.into_iter().map(IntegrationId::from));
        }
        transaction.commit().await.map_err(say)?;
        // The next page can be written beside what follows this one, but not at once.
        let rest = began.elapsed() / REST_OF_FILE;
        tokio::spawn(async move {
            tokio::time::sleep(rest).await;
            drop(turn);
        });
        Ok(Swapped::Written(written))
    })
    .await
}

/// `SWAP` with its values; each row beyond those given is NULL, and matches nothing.
fn swap_statement(run: RunId, swaps: &[Swap]) -> Query<'_, Sqlite, SqliteArguments> {
    let mut statement = sqlx::query(sql::SWAP);
    for swap in swaps {
        let rowid = match swap.address {
            RowAddress::RowId(rowid) => Some(rowid),
            #[cfg(feature = "postgres")]
            RowAddress::Tuple(..) => None,
        };
        statement = statement
            .bind(rowid)
            .bind(Id::from(swap.integration))
            .bind(Id::from(swap.organization))
            .bind(swap.old.as_str())
            .bind(swap.old_expires_at.map(Time::from))
            .bind(swap.new.as_str())
            .bind(swap.key.to_string());
    }
    for _ in 0..7 * (sql::SWAPPED_AT_ONCE - swaps.len()) {
        statement = statement.bind(None::<i64>);
    }
    statement.bind(run.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::ConnectOptions as _;
    use sqlx::sqlite::SqliteConnectOptions;
    use uuid::Uuid;

    use super::*;
    use crate::id::DataKeyId;
    use crate::store::{CredentialStore, KeyStore, Missing, PageStore};

    #[tokio::test]
    async fn after_each_page_the_file_is_left_to_others_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("vault.db"));
        let store = SqliteStore::connect(options.clone(), Missing::Create).await.unwrap();
        let mut other = options.busy_timeout(Duration::ZERO).connect().await.unwrap();
        let swap = Swap {
            address: RowAddress::RowId(1),
            integration: Uuid::nil().into(),
            organization: Uuid::nil().into(),
            old: String::new(),
            old_expires_at: None,
            new: "cv1.".to_owned(),
            key: DataKeyId::LEGACY,
        };
        let page: Arc<[Swap]> = vec![swap; 5_000].into();
        let mut next_may_begin = true;
        // A busy machine may come back to this only after that while.
        for _ in 0..10 {
            let began = Instant::now();
            store.swap(RunId(1), Arc::clone(&page)).await.unwrap();
            tokio::time::sleep(began.elapsed() / REST_OF_FILE / 2).await;
            next_may_begin &= store.turn.try_lock().is_ok();
            sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut other).await.unwrap();
        }
        assert!(!next_may_begin);
    }

    /// What a scan reads is compared with what a get reads.
    #[tokio::test]
    async fn a_page_holds_each_text_as_it_stands() {
        // Quotes, a backslash, control characters, NUL, a letter of two bytes, and what is no UTF-8: in the middle, at the end.
        const TEXT: &str = "X'63763122275C0A01000061C3A9FFC363C3'";
        let store = SqliteStore::in_memory(SqliteConnectOptions::new().in_memory(true)).await.unwrap();
        store.migrate().await.unwrap();
        let [first, second] = [1, 2].map(Uuid::from_u128);
        for (id, text) in [(first, TEXT), (second, "'cv1.'")] {
            let insert = format!(
                "INSERT OR IGNORE INTO vault_data_keys (id, state) VALUES ('v1', 'deactivated');
                 INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
                 VALUES ('{id}', '{id}', '{id}', '\"', 'active');
                 INSERT INTO integration_credentials
                     (id, integration_id, credential_type, credential_data_encrypted, expires_at, encryption_key_id)
                 VALUES ('{id}', '{id}', 'token', CAST({text} AS TEXT), -1, 'v1')"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&store.pool).await.unwrap();
        }
        let rows = store.scan(Rows::All, Range::ALL, 10).await.unwrap();
        assert_eq!(rows.len(), 2);
        for (row, id) in rows.into_iter().zip([first, second]) {
            assert_eq!((row.integration, row.organization), (id.into(), id.into()));
            assert_eq!(row.connector, "\"");
            let got = store.get(id.into()).await.unwrap().unwrap();
            assert_eq!(row.row.expires_at, got.expires_at);
            assert_eq!((row.row.stored, row.row.credential_type), (got.stored, got.credential_type));
            assert_eq!(row.row.key_column, got.key_column);
        }
    }
}
