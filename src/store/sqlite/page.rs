//! The credentials' rows by pages on SQLite: what a page reads, and the transaction that writes it.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{Row, Sqlite};
use tokio::time::Instant;
use uuid::fmt::Hyphenated;

use super::SqliteStore;
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

    /// Begins the transaction of a page, on a connection that has what a page's rows are put into. The trigger swaps each
    /// and says which it did not: in half the time of an UPDATE from VALUES, which goes through a table of its own more and
    /// looks each row up twice. All three are as long-lived as the connection: where they change, what is prepared is prepared
    /// again.
    ///
    /// SQLite has one writer: a row that changed since it was read no longer has the old text, and nor has one that was
    /// transferred, so that the organization is still the one that was read with it. A row that was given another rowid, by
    /// VACUUM, is left to the next sweep.
    pub(super) const BEGIN: &str = concat!(
        "CREATE TEMP VIEW IF NOT EXISTS vault_swaps AS
         SELECT 0 AS run, 0 AS place, '' AS integration_id, '' AS organization_id, '' AS old_text, 0 AS old_expires_at,
                '' AS new_text, '' AS new_key;
         CREATE TEMP TABLE IF NOT EXISTS vault_lost_swaps (integration_id TEXT);
         CREATE TEMP TRIGGER IF NOT EXISTS vault_swap INSTEAD OF INSERT ON vault_swaps WHEN NEW.integration_id IS NOT NULL
         BEGIN
             UPDATE integration_credentials
                SET credential_data_encrypted = NEW.new_text, encryption_key_id = NEW.new_key
              WHERE rowid = NEW.place
                AND integration_id = NEW.integration_id
                AND substr(credential_data_encrypted, 1, length(NEW.old_text)) = NEW.old_text
                AND (encryption_key_id <> 'v1'
                     OR expires_at IS NEW.old_expires_at
                     OR NEW.old_expires_at IS NULL
                        AND expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999)
                AND NEW.new_key = ",
        active_key_of_scope!(of each "NEW.organization_id"),
        "
                AND EXISTS (SELECT 1 FROM vault_rotation_runs AS r WHERE r.finished_at IS NULL AND r.id = NEW.run);
             INSERT INTO vault_lost_swaps SELECT NEW.integration_id WHERE changes() = 0;
         END;
         BEGIN IMMEDIATE"
    );

    /// As many rows in each statement, which is prepared once: where a page ends, what is not bound is NULL, and no row. A
    /// parameter for each value: as JSON each row would be parsed once for each of its values.
    pub(super) const SWAP: &str = concat!(
        "INSERT INTO temp.vault_swaps VALUES ",
        two_hundred_times!("(?, ?, ?, ?, ?, ?, ?, ?), "),
        "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    );

    /// The integrations whose rows were not swapped, of the transaction's statements.
    pub(super) const LOST: &str = "DELETE FROM temp.vault_lost_swaps RETURNING integration_id";
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
            swaps.chunks(sql::SWAPPED_AT_ONCE).map(|swaps| swap_statement(run, swaps)).collect();
        let turn = turn.lock_owned().await;
        let began = Instant::now();
        let mut transaction = pool.begin_with(sql::BEGIN).await.map_err(say)?;
        for statement in statements {
            statement.execute(&mut *transaction).await.map_err(say)?;
        }
        let lost = sqlx::query_scalar::<_, Id>(sql::LOST).fetch_all(&mut *transaction).await.map_err(say)?;
        transaction.commit().await.map_err(say)?;
        // The next page can be written beside what follows this one, but not at once.
        let rest = began.elapsed() / REST_OF_FILE;
        tokio::spawn(async move {
            tokio::time::sleep(rest).await;
            drop(turn);
        });
        let lost: HashSet<_> = lost.into_iter().map(IntegrationId::from).collect();
        let written = swaps.iter().map(|swap| swap.integration).filter(|swap| !lost.contains(swap));
        Ok(Swapped::Written(written.collect()))
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
            .bind(run.0)
            .bind(rowid)
            .bind(Id::from(swap.integration))
            .bind(Id::from(swap.organization))
            .bind(swap.old.as_str())
            .bind(swap.old_expires_at.map(Time::from))
            .bind(swap.new.as_str())
            .bind(swap.key.to_string());
    }
    for _ in 0..8 * (sql::SWAPPED_AT_ONCE - swaps.len()) {
        statement = statement.bind(None::<i64>);
    }
    statement
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

    #[tokio::test]
    async fn a_place_is_written_only_if_it_is_still_its_integrations() {
        let store = SqliteStore::in_memory(SqliteConnectOptions::new().in_memory(true)).await.unwrap();
        store.migrate().await.unwrap();
        let ([first, other], key) = ([1, 2].map(Uuid::from_u128), Uuid::from_u128(3));
        let insert = format!(
            "INSERT INTO vault_master_keys (id, provider, provider_record, key_check, state)
             VALUES ('{key}', 'file', '', zeroblob(16), 'active');
             INSERT INTO vault_data_keys (id, state, key_check) VALUES ('{key}', 'active', zeroblob(16));
             INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key) VALUES ('{key}', '{key}', '');
             INSERT INTO vault_rotation_runs (id, kind, owner, lease_expires_at) VALUES (1, 'rotate', '', 0);
             INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
             VALUES ('{first}', '{first}', '{first}', 'github', 'active');
             INSERT INTO integration_credentials
                 (rowid, id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             VALUES (1, '{first}', '{first}', 'token', 'cv1.old', '{key}')"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&store.pool).await.unwrap();
        for (integration, is_its_row) in [(other, false), (first, true)] {
            let swap = Swap {
                address: RowAddress::RowId(1),
                integration: integration.into(),
                organization: first.into(),
                old: "cv1.old".to_owned(),
                old_expires_at: None,
                new: "cv1.new".to_owned(),
                key: key.to_string().parse().unwrap(),
            };
            let swapped = store.swap(RunId(1), vec![swap].into()).await.unwrap();
            let Swapped::Written(written) = swapped else { panic!("it took too long") };
            assert_eq!(written, if is_its_row { vec![first.into()] } else { vec![] });
            let stored = store.get(first.into()).await.unwrap().unwrap().stored;
            assert_eq!(stored, if is_its_row { "cv1.new" } else { "cv1.old" });
        }
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
