//! Rotation, in one run, its parts in turn: against one plain UPDATE of the same columns (text and key id) of the same
//! rows with all the table's constraints, and against saving row by row; on PostgreSQL and on SQLite. Then what it costs
//! those who read meanwhile, the memory it takes, how the table grows, and a rewrap beside all these rows.
//!
//! 100,000 rows; `CREDVAULT_BENCH_ROWS=1000000` also fills a table of so many for what must not grow with it.

mod harness;
#[path = "rotation/readers.rs"]
mod readers;
#[path = "rotation/scale.rs"]
mod scale;
#[path = "rotation/table.rs"]
mod table;

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::Dialect;
use credvault::{Outcome, Rotation, Vault};
use table::Table;

const ROUNDS: usize = 3;

/// What a rotation takes of the time of one plain UPDATE, at most: 2 workers do 1.3 × its rows a second.
const POSTGRES_LIMIT: f64 = 1.0 / 1.3;
/// On SQLite 0.30 × its rows a second.
const SQLITE_LIMIT: f64 = 1.0 / 0.30;
/// Rows saved one by one for the other floor: enough to know the time of one.
const SAVED_ONE_BY_ONE: u32 = 2_000;
/// Rows of the small table whose rate the large one's is compared with.
const SMALL: u32 = 100_000;

async fn rotate(rotation: Rotation, rows: u32) -> Duration {
    let start = Instant::now();
    let report = rotation.run().await.expect("it rotates");
    let took = start.elapsed();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, u64::from(rows)));
    took
}

fn with_workers(vault: &Vault, workers: u32) -> Rotation {
    vault.rotation().force().workers(workers).expect("that many")
}

fn per_second(rows: u32, took: Duration) -> f64 {
    f64::from(rows) / took.as_secs_f64()
}

async fn against_floors(dialect: Dialect, rows: u32, limit: f64) -> bool {
    let table = Table::fill(dialect, rows).await;
    let rotation = |workers| match dialect {
        Dialect::Postgres => with_workers(&table.vault, workers),
        // Each page is a commit that waits for the disk alone.
        Dialect::Sqlite => with_workers(&table.vault, workers).batch_size(2_000).expect("a size"),
    };
    let mut times = [const { Vec::new() }; 4];
    // The first round warms up.
    for round in 0..=ROUNDS {
        let mut took = Vec::new();
        table.compact().await;
        took.push(table.plain_update().await);
        for workers in [2, 1] {
            table.compact().await;
            took.push(rotate(rotation(workers), rows).await);
        }
        took.push(table.save_one_by_one(SAVED_ONE_BY_ONE).await * rows / SAVED_ONE_BY_ONE);
        if round > 0 {
            for (times, took) in times.iter_mut().zip(took) {
                times.push(took);
            }
        }
    }
    let [update, two, one, saved] = times.map(harness::median);
    harness::heading(&format!("{dialect:?}, {rows} rows"));
    println!(
        "rows a second: UPDATE {:.0}, 2 workers {:.0}, 1 worker {:.0}, one by one {:.0}",
        per_second(rows, update),
        per_second(rows, two),
        per_second(rows, one),
        per_second(rows, saved)
    );
    let mut within = harness::report("2 workers, against one UPDATE", [update, two], Some(limit));
    harness::report("1 worker, against one UPDATE", [update, one], None);
    within &= harness::report("2 workers, against saving one by one", [saved, two], Some(1.0 / 40.0))
        || dialect == Dialect::Sqlite;
    within
}

async fn run() -> bool {
    let rows =
        std::env::var("CREDVAULT_BENCH_ROWS").map_or(SMALL, |rows| rows.parse().expect("a number of rows"));
    let mut within = against_floors(Dialect::Postgres, rows.min(SMALL), POSTGRES_LIMIT).await;
    within &= against_floors(Dialect::Sqlite, rows.min(SMALL), SQLITE_LIMIT).await;
    within &= readers::run(rows.min(SMALL)).await;
    if rows > SMALL {
        within &= scale::run(rows).await;
    }
    within
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let within = runtime.expect("no runtime").block_on(run());
    harness::end(within);
}
