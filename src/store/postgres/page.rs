//! The credentials' rows by pages on PostgreSQL: what a page reads, and the one statement that writes it.

use std::sync::Arc;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::column::Tid;
use super::{PostgresStore, credential_row};
use crate::error::Result;
use crate::id::IntegrationId;
use crate::store::column::{Id, Text, Time};
use crate::store::failure::failure;
use crate::store::pages::MAX_PAGE_BYTES;
use crate::store::rows::{Cursor, Range, RowAddress, Rows, ScannedRow, Swap, Swapped};
use crate::store::runs::RunId;
use crate::store::to_the_end;

mod sql {
    use crate::store::sql::{active_key_of_scope, credential_columns, is_stale, short, with_own_key};

    /// A page ends at a number of rows, or where its texts have $4 bytes. By the integration's id, which integrations are
    /// looked up by, too: the parts of both indexes that a page takes lie together, and its rows apart, so that each finds
    /// room for its new text where the old one was. The texts of the rows that follow a page are not read.
    macro_rules! scan {
        ($from:expr, $where:expr) => {
            concat!(
                "SELECT page.*
                   FROM (SELECT c.ctid AS place, c.integration_id, i.organization_id, ",
                short!("i.connector_type"),
                " AS connector_type,
                                sum(COALESCE(octet_length(c.credential_data_encrypted), 0))
                                    OVER (ORDER BY c.integration_id ROWS UNBOUNDED PRECEDING)
                                    - COALESCE(octet_length(c.credential_data_encrypted), 0) AS bytes_before, ",
                credential_columns!(),
                "
                           FROM ",
                $from,
                "
                          WHERE c.integration_id >= $2 AND c.integration_id <= $3 AND ",
                $where,
                "
                          ORDER BY c.integration_id LIMIT $1) AS page
                  WHERE page.bytes_before < $4
                  ORDER BY page.integration_id"
            )
        };
    }

    /// The rows `c` with their integrations `i`, each looked up for itself: a join that the planner is free to choose reads
    /// all integrations that come before the page, for each page.
    macro_rules! rows_one_by_one {
        () => {
            "integration_credentials AS c
             CROSS JOIN LATERAL (SELECT one.organization_id, one.connector_type
                                   FROM integrations AS one
                                  WHERE one.id = c.integration_id OFFSET 0) AS i"
        };
    }

    pub(super) const SCAN_ALL: &str = scan!(rows_one_by_one!(), "true");
    pub(super) const SCAN_STALE: &str = scan!(concat!(rows_one_by_one!(), with_own_key!()), is_stale!());
    pub(super) const SCAN_LEGACY: &str = scan!(rows_one_by_one!(), "c.encryption_key_id = 'v1'");
    /// By the organization's integrations, which are few.
    pub(super) const SCAN_OF: &str = scan!(
        "integration_credentials AS c JOIN integrations AS i ON i.id = c.integration_id",
        "i.organization_id = $5"
    );
    pub(super) const WINDOW_END: &str = "SELECT integration_id FROM integration_credentials
          WHERE integration_id >= $1 ORDER BY integration_id LIMIT 1 OFFSET $2";

    /// Begins the transaction of a page, whose statement the server ends before it lasts longer than any may. The plan of
    /// that is made once: one that is made for a page's values goes through all of them first, for nothing. It looks rows
    /// up, even if it is made while the table is so small that reading all of it would be as good.
    pub(super) const BEGIN: &str = begin!(
        "; SET LOCAL statement_timeout = 2000
         ; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off"
    );

    /// Locks the rows that it writes and skips those that another transaction has locked: it neither waits for the
    /// application nor deadlocks with it. A row that changed since it was read has another place, and if its text did,
    /// another text; so has one that was transferred: the organization is still the one that was read with it. A row whose
    /// place alone changed, by VACUUM FULL or a write of another column, is left to the next sweep.
    pub(super) const SWAP: &str = concat!(
        "WITH page AS (
             SELECT c.ctid AS place, n.new_text, n.new_key
               FROM unnest($2::tid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamp[], $7::text[], $8::text[])
                    AS n (place, integration_id, organization_id, old_text, old_expires_at, new_text, new_key)
               JOIN integration_credentials AS c
                 ON c.ctid = n.place
                AND c.integration_id = n.integration_id
                AND starts_with(c.credential_data_encrypted, n.old_text)
              WHERE (c.encryption_key_id <> 'v1'
                     OR c.expires_at IS NOT DISTINCT FROM n.old_expires_at
                     OR n.old_expires_at IS NULL
                        AND c.expires_at NOT BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999')
                AND n.new_key = ",
        active_key_of_scope!(of each "n.organization_id"),
        "
                AND EXISTS (SELECT 1 FROM vault_rotation_runs AS r WHERE r.id = $1 AND r.finished_at IS NULL)
                FOR UPDATE OF c SKIP LOCKED)
         UPDATE integration_credentials AS c
            SET credential_data_encrypted = page.new_text, encryption_key_id = page.new_key
           FROM page
          WHERE c.ctid = page.place"
    );

    /// The integrations whose texts are these.
    pub(super) const WRITTEN: &str = "SELECT c.integration_id
           FROM unnest($1::uuid[], $2::text[]) AS n (integration_id, new_text)
           JOIN integration_credentials AS c
             ON c.integration_id = n.integration_id AND c.credential_data_encrypted = n.new_text";
}

pub(super) async fn scan(pool: &PgPool, rows: Rows, range: Range, limit: u32) -> Result<Vec<ScannedRow>> {
    const DOING: &str = "reading a page of credentials";
    let (from, to) = bounds(range);
    let statement = match rows {
        Rows::All => sql::SCAN_ALL,
        Rows::Stale => sql::SCAN_STALE,
        Rows::Legacy => sql::SCAN_LEGACY,
        Rows::Of(_) => sql::SCAN_OF,
    };
    let mut query =
        sqlx::query(statement).bind(i64::from(limit)).bind(Id(from)).bind(Id(to)).bind(MAX_PAGE_BYTES);
    if let Rows::Of(organization) = rows {
        query = query.bind(Id::from(organization));
    }
    let scanned = |row: &PgRow| -> sqlx::Result<ScannedRow> {
        let Tid(block, item) = row.try_get("place")?;
        Ok(ScannedRow {
            cursor: Cursor::Id(row.try_get::<Id, _>("integration_id")?.0),
            address: RowAddress::Tuple(block, item),
            integration: row.try_get::<Id, _>("integration_id")?.into(),
            organization: row.try_get::<Id, _>("organization_id")?.into(),
            connector: row.try_get::<Text, _>("connector_type")?.into(),
            row: credential_row(row)?,
        })
    };
    query
        .fetch_all(pool)
        .await
        .and_then(|rows| rows.iter().map(scanned).collect())
        .map_err(|error| failure(DOING, error))
}

/// The first and the last id of a range.
fn bounds(range: Range) -> (Uuid, Uuid) {
    let id = |cursor| match cursor {
        Some(Cursor::Id(id)) => Some(id),
        _ => None,
    };
    (id(range.from).unwrap_or(Uuid::nil()), id(range.to).unwrap_or(Uuid::max()))
}

pub(super) async fn window_end(pool: &PgPool, from: Option<Cursor>, rows: u32) -> Result<Option<Cursor>> {
    let (from, _) = bounds(Range { from, to: None });
    sqlx::query_scalar::<_, Id>(sql::WINDOW_END)
        .bind(Id(from))
        .bind(i64::from(rows.saturating_sub(1)))
        .fetch_optional(pool)
        .await
        .map(|id| id.map(|id| Cursor::Id(id.0)))
        .map_err(|error| failure("dividing the credentials into windows", error))
}

pub(super) async fn swap(store: &PostgresStore, run: RunId, swaps: Arc<[Swap]>) -> Result<Swapped> {
    let pool = store.pool.clone();
    to_the_end(async move {
        match write(&pool, run, &SwapColumns::of(&swaps)).await {
            Ok(written) => Ok(Swapped::Written(written.into_iter().map(IntegrationId::from).collect())),
            Err(error) if was_cancelled(&error) => Ok(Swapped::TookTooLong),
            Err(error) => Err(failure("writing a page of re-encrypted credentials", error)),
        }
    })
    .await
}

/// A page's swaps, column by column.
struct SwapColumns<'s> {
    places: Vec<Tid>,
    integrations: Vec<Id>,
    organizations: Vec<Id>,
    old: Vec<&'s str>,
    old_expires_at: Vec<Option<Time>>,
    new: Vec<&'s str>,
    keys: Vec<String>,
}

impl<'s> SwapColumns<'s> {
    fn of(swaps: &'s [Swap]) -> Self {
        let tid = |swap: &Swap| match swap.address {
            RowAddress::Tuple(block, item) => Tid(block, item),
            #[cfg(feature = "sqlite")]
            RowAddress::RowId(_) => Tid(0, 0), // No tuple's.
        };
        Self {
            places: swaps.iter().map(tid).collect(),
            integrations: swaps.iter().map(|swap| swap.integration.into()).collect(),
            organizations: swaps.iter().map(|swap| swap.organization.into()).collect(),
            old: swaps.iter().map(|swap| swap.old.as_str()).collect(),
            old_expires_at: swaps.iter().map(|swap| swap.old_expires_at.map(Time::from)).collect(),
            new: swaps.iter().map(|swap| swap.new.as_str()).collect(),
            keys: swaps.iter().map(|swap| swap.key.to_string()).collect(),
        }
    }
}

/// The integrations whose rows it has written.
async fn write(pool: &PgPool, run: RunId, page: &SwapColumns<'_>) -> sqlx::Result<Vec<Id>> {
    let mut transaction = pool.begin_with(sql::BEGIN).await?;
    match write_in(&mut transaction, run, page).await {
        Ok(written) => transaction.commit().await.map(|()| written),
        Err(error) => {
            // What failed first says why; the server ends the transaction with the session, if not here.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

async fn write_in(
    transaction: &mut PgConnection,
    run: RunId,
    page: &SwapColumns<'_>,
) -> sqlx::Result<Vec<Id>> {
    let done = sqlx::query(sql::SWAP)
        .bind(run.0)
        .bind(&page.places)
        .bind(&page.integrations)
        .bind(&page.organizations)
        .bind(&page.old)
        .bind(&page.old_expires_at)
        .bind(&page.new)
        .bind(&page.keys)
        .execute(&mut *transaction)
        .await?;
    // A row that a statement returns costs more than one that is counted.
    if done.rows_affected() == page.integrations.len() as u64 {
        return Ok(page.integrations.clone());
    }
    let written = sqlx::query_scalar(sql::WRITTEN).bind(&page.integrations).bind(&page.new);
    written.fetch_all(transaction).await
}

/// Whether a time limit, or a person, cancelled the statement.
fn was_cancelled(error: &sqlx::Error) -> bool {
    const QUERY_CANCELED: &str = "57014";
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == QUERY_CANCELED)
}
