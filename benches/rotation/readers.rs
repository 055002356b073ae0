//! What a rotation costs those who read meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use credvault::Rotation;

use super::common::Dialect;
use super::table::Table;
use super::{harness, rotate};

/// Readers at once: those of a service that is busy, not of one that is overloaded.
const READERS: usize = 4;
/// How often each reads.
const INTERVAL: Duration = Duration::from_millis(2);
/// How long readers are measured without a rotation.
const IDLE: Duration = Duration::from_secs(5);

/// The 99th percentile of the time of a get, while `meanwhile` is at it.
async fn p99(table: &Arc<Table>, meanwhile: impl Future<Output = ()>) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let (table, stop) = (Arc::clone(table), Arc::clone(&stop));
        readers.spawn(async move {
            let mut times = Vec::new();
            let mut interval = tokio::time::interval(INTERVAL);
            for at in (reader..).step_by(7 * READERS + 1) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                interval.tick().await;
                let (organization, integration) = table.tokens[at % table.tokens.len()];
                let start = Instant::now();
                let got = table.vault.organization(organization).get(integration).await;
                times.push(start.elapsed());
                assert!(got.expect("it is read").is_some());
            }
            times
        });
    }
    meanwhile.await;
    stop.store(true, Ordering::Relaxed);
    let mut times: Vec<_> = readers.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

pub(super) async fn run(rows: u32) -> bool {
    let table = Arc::new(Table::fill(Dialect::Postgres, rows).await);
    table.vacuum().await;
    // Another process's, as it is in production: with a pool of its own.
    let rotator = table.database.open_vault(&table.keys.spec("master.key")).await;
    let free = {
        let took = rotate(rotator.rotation().force(), rows).await;
        f64::from(rows) / took.as_secs_f64()
    };
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..3 {
        table.vacuum().await;
        times[0].push(p99(&table, tokio::time::sleep(IDLE)).await);
        let runs: [Rotation; 3] = [
            rotator.rotation().force(),
            rotator.rotation().force().rows_per_second((free / 2.0) as u32).expect("that many"),
            rotator.rotation().force().workers(2).expect("that many"),
        ];
        for (times, rotation) in times[1..].iter_mut().zip(runs) {
            table.vacuum().await;
            times.push(p99(&table, async { _ = rotate(rotation, rows).await }).await);
        }
    }
    let [idle, default, half, workers] = times.map(harness::median);
    harness::heading(&format!(
        "readers' p99 on PostgreSQL, {rows} rows ({free:.0} rows a second at the default pace)"
    ));
    let mut within = harness::report("at the default pace, against idle", [idle, default], Some(5.0));
    within &= harness::report("at half of that rate, against idle", [idle, half], Some(2.0));
    harness::report("at maintenance speed, against idle", [idle, workers], None);
    within
}
