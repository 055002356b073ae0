//! Sweeps: passes over the stale rows, page by page, by one worker or several.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::attempts::retrying;
use super::lease::Lease;
use super::pace::{Pace, PageRows};
use super::page::{Done, Reencryption, SealedPage};
use super::stop::Stop;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Cursor, KeyState, Range, Rows, ScannedRow, Store};

/// Rows that one statement looks through for stale ones: where there are none it ends all the same, within a fraction of
/// a second.
const WINDOW_ROWS: u32 = 10_000;

/// What a rotation sweeps with.
pub(super) struct Sweeper {
    store: Arc<dyn Store>,
    pub(super) lease: Arc<Lease>,
    pub(super) stop: Arc<Stop>,
    pub(super) pages: Reencryption,
    pub(super) pace: Pace,
    pub(super) workers: u32,
    pub(super) page_rows: PageRows,
    /// How many rows may still be re-encrypted.
    pub(super) rows_left: AtomicU64,
    window_rows: u32,
    pub(super) counts: Box<dyn Fn(&Reencryption) -> Value + Send + Sync>,
}

/// Where a sweep stands.
#[derive(Default)]
struct Place {
    from: Option<Cursor>,
    window: Window,
}

/// The part of the table that is looked through.
#[derive(Default)]
enum Window {
    #[default]
    Unknown,
    UpTo(Cursor),
    ToTheEnd,
    Over,
}

impl Place {
    /// Goes on after a row.
    fn go_on(&mut self, last: Cursor) {
        match last.next() {
            Some(next) => self.from = Some(next),
            None => self.window = Window::Over,
        }
    }
}

impl Sweeper {
    pub(super) fn new(
        store: Arc<dyn Store>,
        lease: Arc<Lease>,
        stop: Arc<Stop>,
        pages: Reencryption,
        pace: Pace,
        counts: Box<dyn Fn(&Reencryption) -> Value + Send + Sync>,
    ) -> Self {
        Self {
            store,
            lease,
            stop,
            pages,
            pace,
            workers: 1,
            page_rows: PageRows::at_most(u32::MAX),
            rows_left: AtomicU64::new(u64::MAX),
            window_rows: WINDOW_ROWS,
            counts,
        }
    }

    /// One pass over the stale rows; ends early when the run is asked to stop.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if another run has taken over; `Store`, `Provider`; what keeps this process from sealing.
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<Done> {
        // Another process may have given an organization a key since: under the one before it nothing is written.
        let keys = retrying(&self.stop, || self.store.data_keys()).await?;
        let own_keys: HashSet<_> = keys
            .into_iter()
            .flatten()
            .filter(|key| key.state == KeyState::Active)
            .filter_map(|key| key.organization)
            .collect();
        self.pages.begin_sweep(own_keys);
        let place = Arc::new(Mutex::new(Place::default()));
        // Dropped with the sweep, which ends them.
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            let (sweeper, place) = (Arc::clone(self), Arc::clone(&place));
            workers.spawn(async move { sweeper.work(&place).await }.in_current_span());
        }
        let mut sweep = Done::default();
        while let Some(worker) = workers.join_next().await {
            let done =
                worker.map_err(|_| Error::new(ErrorKind::Store, "a worker ended early").retryable())??;
            sweep.add(done);
        }
        Ok(sweep)
    }

    async fn work(&self, place: &Mutex<Place>) -> Result<Done> {
        let mut all = Done::default();
        let mut began = Instant::now();
        let mut page = self.next_page(place).await?;
        while let Some(sealed) = page.take() {
            if self.stop.is_asked() {
                break;
            }
            self.keep_lease().await?;
            if self.pace.reads_ahead() {
                // Both to their ends: what was written counts, whatever became of the next page.
                let (done, next) = tokio::join!(self.write(&sealed), self.next_page(place));
                all.add(done?);
                page = next?;
            } else {
                all.add(self.write(&sealed).await?);
                self.stop.sleep(self.pace.rest_after(sealed.rows, began.elapsed())).await;
                began = Instant::now();
                page = self.next_page(place).await?;
            }
        }
        Ok(all)
    }

    /// Holds the lease for another while, if it is time to.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if another run has taken over; `Store`.
    pub(super) async fn keep_lease(&self) -> Result<()> {
        retrying(&self.stop, || self.lease.keep(|| (self.counts)(&self.pages))).await
    }

    /// Writes a page.
    async fn write(&self, page: &SealedPage) -> Result<Done> {
        let began = Instant::now();
        let done = retrying(&self.stop, || self.pages.write(page)).await?;
        self.give_back(u64::from(page.rows) - done.written);
        if done.took_too_long {
            self.page_rows.took_too_long(page.rows);
        } else {
            self.page_rows.took(began.elapsed());
        }
        if done.written == 0 && done.lost > 0 {
            // Either others were at all of them, or this run no longer may.
            retrying(&self.stop, || async { self.lease.renew(&(self.counts)(&self.pages)).await }).await?;
        }
        Ok(done)
    }

    /// The next stale rows, sealed anew; `None` at the end of the table, or when no more may be re-encrypted.
    async fn next_page(&self, place: &Mutex<Place>) -> Result<Option<SealedPage>> {
        match self.next_rows(place).await? {
            Some(rows) => retrying(&self.stop, || self.pages.seal(&rows)).await.map(Some),
            None => Ok(None),
        }
    }

    /// The next stale rows; `None` at the end of the table, or when no more may be re-encrypted.
    async fn next_rows(&self, place: &Mutex<Place>) -> Result<Option<Vec<ScannedRow>>> {
        let mut place = place.lock().await;
        loop {
            if self.stop.is_asked() {
                return Ok(None);
            }
            let limit = self.page_rows.get().min(self.pace.page_rows());
            let to = match place.window {
                Window::Over => return Ok(None),
                Window::ToTheEnd => None,
                Window::UpTo(to) => Some(to),
                Window::Unknown => {
                    let to =
                        retrying(&self.stop, || self.store.window_end(place.from, self.window_rows)).await?;
                    place.window = to.map_or(Window::ToTheEnd, Window::UpTo);
                    to
                }
            };
            let rows_left = self.rows_left.load(Ordering::Relaxed);
            let limit = limit.min(u32::try_from(rows_left).unwrap_or(u32::MAX));
            if limit == 0 {
                return Ok(None);
            }
            let range = Range { from: place.from, to };
            let rows = retrying(&self.stop, || self.store.scan(Rows::Stale, range, limit)).await?;
            match (rows.last(), to) {
                (Some(last), _) => {
                    place.go_on(last.cursor);
                    self.rows_left.fetch_sub(rows.len() as u64, Ordering::Relaxed);
                    return Ok(Some(rows));
                }
                (None, Some(to)) => {
                    place.window = Window::Unknown;
                    place.go_on(to);
                }
                (None, None) => place.window = Window::Over,
            }
        }
    }

    /// Whether no more rows may be re-encrypted.
    pub(super) fn is_spent(&self) -> bool {
        self.rows_left.load(Ordering::Relaxed) == 0
    }

    /// Lets rows that were taken and not written be taken again.
    fn give_back(&self, rows: u64) {
        let add = |left: u64| Some(left.saturating_add(rows));
        // It never fails: there is always a sum.
        let _ = self.rows_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use serde_json::json;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
    use uuid::Uuid;

    use super::*;
    use crate::clock::{Clock, DatabaseClock};
    use crate::keyring::{Keyring, MasterKeys};
    use crate::rotation::events::Listener;
    use crate::rotation::lease::Taken;
    use crate::store::RunKind;
    use crate::store::sqlite::{SqliteStore, memory_pool};

    /// A table of so many rows, of which those at `stale` are under a key that is no longer active.
    async fn table(rows: i64, stale: &[i64]) -> SqlitePool {
        let pool = memory_pool(SqliteConnectOptions::new().in_memory(true)).await.unwrap();
        crate::store::KeyStore::migrate(&SqliteStore::new(pool.clone())).await.unwrap();
        let mut sql = format!(
            "INSERT INTO vault_master_keys (id, provider, provider_record, key_check, state)
             VALUES ('{}', 'file', '', zeroblob(16), 'active'); ",
            Uuid::nil()
        );
        for (key, state) in [("old", "deactivated"), ("new", "active")] {
            sql += &format!(
                "INSERT INTO vault_data_keys (id, state, key_check) VALUES ('{key}', '{state}', zeroblob(16));
                 INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
                 VALUES ('{key}', '{}', ''); ",
                Uuid::nil()
            );
        }
        for row in 1..=rows {
            let id = Uuid::from_u128(row.unsigned_abs().into());
            let key = if stale.contains(&row) { "old" } else { "new" };
            sql += &format!(
                "INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
                 VALUES ('{id}', '{id}', '{id}', 'github', 'active');
                 INSERT INTO integration_credentials
                     (rowid, id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
                 VALUES ({row}, '{id}', '{id}', 'token', 'cv1.', '{key}'); "
            );
        }
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        pool
    }

    async fn sweeper(pool: &SqlitePool) -> Sweeper {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::new(pool.clone()));
        let clock: Arc<dyn Clock> = Arc::new(DatabaseClock);
        let taken = Lease::take(&store, &clock, RunKind::Rotate, "test", json!({})).await.unwrap();
        let Taken::Ours(lease) = taken else { panic!("the lease is taken") };
        let vault = Uuid::nil().into();
        let keyring = Keyring::new(Arc::clone(&store), vault, MasterKeys::new(vault, Vec::new()));
        let (run, listener) = (lease.run(), Listener::none());
        let pages =
            Reencryption::new(Arc::clone(&store), Arc::new(keyring), run, listener, HashSet::new(), 0);
        let counts = Box::new(|_: &Reencryption| json!({}));
        Sweeper::new(store, Arc::new(lease), Arc::default(), pages, Pace::Free, counts)
    }

    #[tokio::test]
    async fn windows_of_any_size_give_each_stale_row_once() {
        // At both ends, on both sides of where windows meet, and none in whole windows between.
        const STALE: [i64; 6] = [1, 2, 6, 7, 19, 20];
        let pool = table(20, &STALE).await;
        let mut sweeper = sweeper(&pool).await;
        for window_rows in 1..=21 {
            for page_rows in [1, 3, 100] {
                sweeper.window_rows = window_rows;
                sweeper.page_rows = PageRows::at_most(page_rows);
                let (place, mut rows) = (Mutex::new(Place::default()), Vec::new());
                while let Some(page) = sweeper.next_rows(&place).await.unwrap() {
                    assert!(page.len() <= page_rows as usize);
                    rows.extend(page.into_iter().map(|row| row.cursor));
                }
                assert_eq!(rows, STALE.map(Cursor::RowId), "{window_rows} rows, {page_rows} on a page");
            }
        }
    }
}
