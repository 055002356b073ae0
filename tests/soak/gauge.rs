//! The memory and the connections of this process, read again and again.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::common::TestDatabase;
use crate::common::service::Service;

/// Of how many readings one is made: memory goes up and down within seconds.
const READINGS: usize = 20;

/// What was read since the warm-up.
pub struct Gauge {
    warm_at: Instant,
    readings: Mutex<Readings>,
}

#[derive(Default)]
struct Readings {
    resident_kib: Vec<u64>,
    connections: Vec<u64>,
}

impl Gauge {
    /// One that reads nothing before the warm-up is over.
    pub fn new(warm_up: Duration) -> Self {
        Self { warm_at: Instant::now() + warm_up, readings: Mutex::default() }
    }

    /// Whether the warm-up is over.
    pub fn is_warm(&self) -> bool {
        Instant::now() >= self.warm_at
    }

    /// Reads both, once it is warm.
    pub async fn read(&self, service: &Service) {
        if !self.is_warm() {
            return;
        }
        let connections = match &service.database {
            TestDatabase::Postgres(_) => {
                let sessions = "SELECT count(*) FROM pg_stat_activity
                                 WHERE datname = current_database() AND application_name = 'credvault'";
                service.count(sessions).await
            }
            // A connection has its file open.
            TestDatabase::Sqlite(database) => files_open(database.url().strip_prefix("sqlite:").unwrap()),
        };
        let mut readings = self.readings.lock().unwrap();
        readings.resident_kib.push(resident_kib());
        readings.connections.push(connections);
    }

    /// How much more memory is taken in the end than at the beginning, as a part of that.
    pub fn growth(&self) -> f64 {
        let (first, last) = self.ends();
        last as f64 / first as f64 - 1.0
    }

    pub fn most_connections(&self) -> u64 {
        self.readings.lock().unwrap().connections.iter().copied().max().unwrap()
    }

    /// The memory at the beginning and in the end, in KiB.
    fn ends(&self) -> (u64, u64) {
        let readings = self.readings.lock().unwrap();
        let all = &readings.resident_kib;
        let count = READINGS.min(all.len() / 2);
        assert!(count > 0, "it was too short to measure");
        (median(&all[..count]), median(&all[all.len() - count..]))
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.ends();
        write!(
            f,
            "resident memory: {:.1} MiB after the warm-up, {:.1} MiB in the end ({:+.1} %); at most {} connections",
            first as f64 / 1024.0,
            last as f64 / 1024.0,
            100.0 * self.growth(),
            self.most_connections(),
        )
    }
}

fn median(numbers: &[u64]) -> u64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How often this process has a file open.
fn files_open(path: &str) -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == path))
        .count() as u64
}
