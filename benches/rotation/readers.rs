//! What a rotation costs those who read meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use credvault::Rotation;
use tokio::sync::{mpsc, oneshot};

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

type Pace = Box<dyn FnOnce(Rotation) -> Rotation + Send>;

/// A vault that rotates on a thread of its own, as another process does in production: what it computes keeps no reader
/// from its turn.
struct Rotator {
    jobs: mpsc::UnboundedSender<(Pace, oneshot::Sender<Duration>)>,
}

impl Rotator {
    fn start(table: &Arc<Table>, rows: u32) -> Self {
        let (jobs, mut asked) = mpsc::unbounded_channel::<(Pace, oneshot::Sender<Duration>)>();
        let table = Arc::clone(table);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("no runtime").block_on(async move {
                let vault = table.database.open_vault(&table.keys.spec("master.key")).await;
                while let Some((pace, done)) = asked.recv().await {
                    let took = rotate(pace(vault.rotation().force()), rows).await;
                    done.send(took).expect("the bench ended");
                }
            });
        });
        Self { jobs }
    }

    /// How long a rotation of all rows takes at a pace.
    async fn rotate(&self, pace: impl FnOnce(Rotation) -> Rotation + Send + 'static) -> Duration {
        let (done, took) = oneshot::channel();
        self.jobs.send((Box::new(pace), done)).expect("the rotator ended");
        took.await.expect("the rotation failed")
    }
}

pub(super) async fn run(rows: u32) -> bool {
    let table = Arc::new(Table::fill(Dialect::Postgres, rows).await);
    table.vacuum().await;
    let rotator = Rotator::start(&table, rows);
    let free = f64::from(rows) / rotator.rotate(|rotation| rotation).await.as_secs_f64();
    let mut times = [const { Vec::new() }; 4];
    let mut rates = Vec::new();
    for _ in 0..3 {
        table.vacuum().await;
        times[0].push(p99(&table, tokio::time::sleep(IDLE)).await);
        let half = (free / 2.0) as u32;
        let paces: [Pace; 3] = [
            Box::new(|rotation| rotation),
            Box::new(move |rotation| rotation.rows_per_second(half).expect("that many")),
            Box::new(|rotation| rotation.workers(2).expect("that many")),
        ];
        for (times, pace) in times[1..].iter_mut().zip(paces) {
            table.vacuum().await;
            let mut took = Duration::ZERO;
            times.push(p99(&table, async { took = rotator.rotate(pace).await }).await);
            rates.push(f64::from(rows) / took.as_secs_f64());
        }
    }
    let [idle, default, half, workers] = times.map(harness::median);
    harness::heading(&format!(
        "readers' p99 on PostgreSQL, {rows} rows ({free:.0} rows a second at the default pace)"
    ));
    let mut within = harness::report("at the default pace, against idle", [idle, default], Some(5.0));
    within &= harness::report("at half of that rate, against idle", [idle, half], Some(2.0));
    harness::report("at maintenance speed, against idle", [idle, workers], None);
    // Else it is the slower rotation that readers hardly notice.
    let slowest = rates.iter().skip(1).step_by(3).copied().fold(f64::INFINITY, f64::min) / (free / 2.0);
    println!("rate at half of that rate {slowest:.2} × what was asked for");
    within && slowest >= 0.9
}
