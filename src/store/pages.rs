//! The credentials' rows by pages and in numbers, as jobs read and write them: the trait, and the bodies that both dialects
//! share.

use std::sync::Arc;

use async_trait::async_trait;

use super::rows::{Cursor, KeyCount, Range, Rows, ScannedRow, Swap, Swapped, UsageCount};
use super::runs::RunId;
use crate::error::Result;

/// How much text a page of a scan takes into memory, in bytes, a last row aside.
pub(super) const MAX_PAGE_BYTES: i64 = 4 << 20;

/// More kinds of rows than a vault has keys: what would be beyond it is garbage that somebody wrote.
pub(super) const MAX_USAGE_COUNTS: u32 = 100_000;

/// The table `integration_credentials`, as a whole.
#[async_trait]
pub(crate) trait PageStore {
    /// The first rows of a range, at most `limit` and [`MAX_PAGE_BYTES`], in the order of the table. Takes no lock.
    async fn scan(&self, rows: Rows, range: Range, limit: u32) -> Result<Vec<ScannedRow>>;

    /// The last of the next `rows` rows from a place on; `None` if the table ends before.
    async fn window_end(&self, from: Option<Cursor>, rows: u32) -> Result<Option<Cursor>>;

    /// Writes re-encrypted rows where the old text still stands, the key is the active one of the scope and the run
    /// still has its lease. On PostgreSQL one statement, of two seconds at most, that writes no row that another
    /// transaction has locked; on SQLite one transaction.
    async fn swap(&self, run: RunId, swaps: Arc<[Swap]>) -> Result<Swapped>;

    /// The rows under each key by their column, in one fast scan.
    async fn count_by_key(&self) -> Result<Vec<KeyCount>>;

    /// The rows by column, header and whether they are stale, in one scan.
    async fn usage(&self) -> Result<Vec<UsageCount>>;
}

/// Implements [`PageStore`] for a dialect's store, given its row type; `scan`, `window_end` and `swap` are the dialect's
/// own.
macro_rules! page_store {
    ($store:ty, $row:ty) => {
        #[async_trait]
        impl PageStore for $store {
            async fn scan(&self, rows: Rows, range: Range, limit: u32) -> Result<Vec<ScannedRow>> {
                scan(&self.pool, rows, range, limit).await
            }

            async fn window_end(&self, from: Option<Cursor>, rows: u32) -> Result<Option<Cursor>> {
                window_end(&self.pool, from, rows).await
            }

            async fn swap(&self, run: RunId, swaps: Arc<[Swap]>) -> Result<Swapped> {
                swap(self, run, swaps).await
            }

            async fn count_by_key(&self) -> Result<Vec<KeyCount>> {
                let count = |row: $row| -> sqlx::Result<KeyCount> {
                    Ok(KeyCount {
                        key_column: row.try_get::<Text, _>(0)?.into(),
                        rows: row.try_get::<i64, _>(1)?.cast_unsigned(),
                    })
                };
                let statement = sqlx::query(sql::COUNT_BY_KEY);
                read("counting the rows under each key", &self.pool, sql::BEGIN_READ, statement, count).await
            }

            async fn usage(&self) -> Result<Vec<UsageCount>> {
                const DOING: &str = "counting the rows under each key";
                let count = |row: $row| -> sqlx::Result<UsageCount> {
                    Ok(UsageCount {
                        key_column: row.try_get::<Text, _>(0)?.into(),
                        header: row.try_get::<Text, _>(1)?.into(),
                        stale: row.try_get(2)?,
                        rows: row.try_get::<i64, _>(3)?.cast_unsigned(),
                    })
                };
                let statement = sqlx::query(sql::USAGE).bind(i64::from(pages::MAX_USAGE_COUNTS));
                let counts = read(DOING, &self.pool, sql::BEGIN_READ, statement, count).await?;
                if counts.len() >= pages::MAX_USAGE_COUNTS as usize {
                    return Err(Error::new(
                        ErrorKind::Malformed,
                        format!("{DOING}: the stored values begin in {} ways or more", counts.len()),
                    ));
                }
                Ok(counts)
            }
        }
    };
}
pub(super) use page_store;
