//! How fast a rotation works: by default it yields to the application.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Rows of a page at the default pace: a statement of a few milliseconds, which readers hardly wait for.
const YIELDING_PAGE_ROWS: u32 = 200;

/// The longest rest after one page: a database that is busy for long is not left alone for good.
const MAX_REST: Duration = Duration::from_secs(2);

/// How much of the time a rotation works that yields, while the database answers as fast as it can: a third.
const REST_PER_WORK: f64 = 2.0;

/// Pages a second when rows a second are limited: as many as the database has time for, as readers wait for a small page
/// less than for a large one; and evenly, rather than a burst each second.
const LIMITED_PAGES_PER_SECOND: RangeInclusive<u32> = 20..=400;

/// A page that is written in so long, a tenth of what its statement may take, was none too large.
const QUICK_PAGE: Duration = Duration::from_millis(200);

/// How many rows a page may have: fewer after a page's statement took too long, until pages are quick again.
#[derive(Debug)]
pub(super) struct PageRows {
    most: u32,
    now: AtomicU32,
}

impl PageRows {
    pub(super) fn at_most(most: u32) -> Self {
        Self { most, now: AtomicU32::new(most) }
    }

    pub(super) fn get(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// The statement of a page of `rows` rows was cut off.
    pub(super) fn took_too_long(&self, rows: u32) {
        self.now.fetch_min((rows / 2).max(1), Ordering::Relaxed);
    }

    /// A page was written within `time`.
    pub(super) fn took(&self, time: Duration) {
        if time < QUICK_PAGE {
            let more = |rows: u32| (rows < self.most).then(|| rows.saturating_mul(2).min(self.most));
            // None where it is the most already.
            let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }
}

/// How fast pages follow each other.
#[derive(Debug)]
pub(super) enum Pace {
    /// Rests after each page, the longer the slower the database answers.
    Yielding(Mutex<Option<Duration>>),
    /// As fast as it goes.
    Free,
    /// So many rows a second, by all workers together, in so many pages; when the page under way was due.
    Limited { rows_per_second: u32, pages_per_second: AtomicU32, due: Mutex<Option<Instant>> },
}

impl Pace {
    pub(super) fn yielding() -> Self {
        Self::Yielding(Mutex::default())
    }

    pub(super) fn limited(rows_per_second: u32) -> Self {
        let pages_per_second = AtomicU32::new(*LIMITED_PAGES_PER_SECOND.end());
        Self::Limited { rows_per_second, pages_per_second, due: Mutex::default() }
    }

    /// How many rows a page has at this pace, at most.
    pub(super) fn page_rows(&self) -> u32 {
        match self {
            Self::Yielding(_) => YIELDING_PAGE_ROWS,
            Self::Free => u32::MAX,
            Self::Limited { rows_per_second, pages_per_second, .. } => {
                (rows_per_second / pages_per_second.load(Ordering::Relaxed)).max(1)
            }
        }
    }

    /// Whether the next page is read and sealed while one is written.
    pub(super) fn reads_ahead(&self) -> bool {
        matches!(self, Self::Free)
    }

    /// How long to rest after a page of `rows` rows that took `took`.
    pub(super) fn rest_after(&self, rows: u32, took: Duration) -> Duration {
        match self {
            Self::Free => Duration::ZERO,
            Self::Yielding(fastest) => {
                // The time of a row when the database is idle, as far as this run has seen: what the time of a row is
                // above it, others made it wait for, and are given as much again.
                let row = took / rows.max(1);
                let mut fastest = fastest.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = fastest.map_or(row, |fastest| fastest.min(row));
                *fastest = Some(idle);
                let slowed = row.as_secs_f64() / idle.as_secs_f64().max(f64::MIN_POSITIVE);
                took.mul_f64((REST_PER_WORK * slowed).min(1e6)).min(MAX_REST)
            }
            Self::Limited { rows_per_second, pages_per_second, due } => {
                let at_rate =
                    |rows| Duration::from_secs_f64(f64::from(rows) / f64::from((*rows_per_second).max(1)));
                let (share, share_of_full_page) = (at_rate(rows), at_rate(self.page_rows()));
                // Half of the time is left to others, and to timers, which are late by a millisecond.
                let pages = pages_per_second.load(Ordering::Relaxed);
                let pages = if took > share_of_full_page / 2 {
                    pages / 2
                } else if took < share_of_full_page / 5 {
                    pages * 2
                } else {
                    pages
                };
                let (fewest, most) = LIMITED_PAGES_PER_SECOND.into_inner();
                pages_per_second.store(pages.clamp(fewest, most), Ordering::Relaxed);
                let mut due = due.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                // From when this page was due; time that was lost is not made up for by a burst.
                let next = due.unwrap_or(now - took).max(now - share) + share;
                *due = Some(next);
                next.saturating_duration_since(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pages_are_smaller_after_one_that_took_too_long_until_they_are_quick_again() {
        let page_rows = PageRows::at_most(1_000);
        page_rows.took(MS);
        assert_eq!(page_rows.get(), 1_000);
        page_rows.took_too_long(10);
        page_rows.took_too_long(5);
        assert_eq!(page_rows.get(), 2);
        page_rows.took_too_long(1);
        assert_eq!(page_rows.get(), 1);
        page_rows.took(QUICK_PAGE);
        assert_eq!(page_rows.get(), 1);
        for rows in [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000] {
            page_rows.took(MS);
            assert_eq!(page_rows.get(), rows);
        }
    }

    #[test]
    fn the_default_pace_rests_longer_the_slower_the_database_answers() {
        let pace = Pace::yielding();
        assert_eq!(pace.rest_after(200, 4 * MS), 8 * MS);
        assert_eq!(pace.rest_after(200, 8 * MS), 32 * MS);
        assert_eq!(pace.rest_after(200, 4 * MS), 8 * MS);
        assert_eq!(pace.rest_after(200, 10_000 * MS), MAX_REST);
    }

    /// Rows that a limited pace lets through in a second, where a page takes so long and each of its rows so long besides.
    async fn rows_in_a_second(pace: &Pace, page: Duration, row: Duration) -> u32 {
        let (began, mut rows) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(1) {
            let of_page = pace.page_rows();
            let took = page + row * of_page;
            tokio::time::advance(took).await;
            tokio::time::sleep(pace.rest_after(of_page, took)).await;
            rows += of_page;
        }
        rows
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_pace_keeps_to_its_rows_a_second_in_pages_as_small_as_the_database_has_time_for() {
        for (page, largest) in [(MS / 10, 20), (4 * MS, 100), (10 * MS, 200), (40 * MS, 200)] {
            let pace = Pace::limited(4_000);
            // While the database is busy, and soon after.
            rows_in_a_second(&pace, 100 * MS, MS).await;
            assert_eq!(pace.page_rows(), 200);
            rows_in_a_second(&pace, page, MS / 100).await;
            let rows = rows_in_a_second(&pace, page, MS / 100).await;
            assert!((3_800..=4_200).contains(&rows), "{rows} rows where a page takes {page:?}");
            assert!(pace.page_rows() <= largest, "{} where a page takes {page:?}", pace.page_rows());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_pace_makes_up_for_no_time_that_was_lost() {
        let pace = Pace::limited(1_000);
        // After a page that stood still for long the next ones don't rush.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pace.rest_after(50, Duration::from_secs(60)), Duration::ZERO);
        tokio::time::advance(10 * MS).await;
        assert!(pace.rest_after(50, 10 * MS) >= 35 * MS);
    }
}
