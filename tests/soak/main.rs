//! A vault under load for long: nothing is lost, and memory and connections don't grow. `tests/soak/run` runs it.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

#[path = "../common/mod.rs"]
mod common;

mod gauge;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::crowd::Crowd;
use common::service::Service;
use common::{Dialect, TestDatabase};
use credvault::Rotation;

use crate::gauge::Gauge;

/// How long it goes on, in minutes.
const MINUTES: &str = "CREDVAULT_SOAK_MINUTES";

/// The part of it after which memory is what the work takes: pools, caches and the allocator have had their turn.
const WARM_UP: f64 = 0.2;

/// How much more memory may be taken in the end than after the warm-up.
const MAX_GROWTH: f64 = 0.1;

const WRITERS: usize = 3;
/// One that a service shares among its tasks, as it should, and one for each of two rotators.
const VAULTS: u64 = 3;
/// The connections of a vault's pool.
const POOL: u64 = 10;

/// The part of the time between two rotations of a rotator, after the warm-up: about as many, however long it goes on. On
/// SQLite each takes some memory, see the manual's page on operations.
const REST: f64 = 1.0 / 40.0;

/// The same within the warm-up, so that each connection has met the statements of a rotation.
const WARM_UP_REST: Duration = Duration::from_millis(100);

/// Between two moments at which all sessions are terminated.
const TERMINATION: Duration = Duration::from_secs(2);

async fn soak(dialect: Dialect) {
    let minutes: f64 = std::env::var(MINUTES).map_or(5.0, |minutes| minutes.parse().expect(MINUTES));
    let duration = Duration::from_secs_f64(minutes * 60.0);
    let (service, vault) = Service::begin(TestDatabase::create(dialect).await).await;
    let crowd = Crowd::begin(service, &vault, WRITERS).await;
    let mut tasks = crowd.start(async || vault.clone()).await;
    let gauge = Arc::new(Gauge::new(duration.mul_f64(WARM_UP)));
    let speeds: [fn(Rotation) -> Rotation; 2] =
        [|rotation| rotation, |rotation| rotation.workers(2).unwrap()];
    for speed in speeds {
        let (crowd, vault) = (Arc::clone(&crowd), crowd.service().open().await);
        let gauge = Arc::clone(&gauge);
        let rest = move || if gauge.is_warm() { duration.mul_f64(REST) } else { WARM_UP_REST };
        tasks.spawn(async move { crowd.rotate_with_rests(vault, rest, speed).await });
    }
    if dialect == Dialect::Postgres {
        let crowd = Arc::clone(&crowd);
        tasks.spawn(async move {
            while crowd.goes_on() {
                tokio::time::sleep(TERMINATION).await;
                crowd.service().terminate_sessions().await;
            }
        });
    }
    let (measured, measuring) = (Arc::clone(&crowd), Arc::clone(&gauge));
    tasks.spawn(async move {
        while measured.goes_on() {
            measuring.read(measured.service()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let is_enough = |crowd: &Crowd| {
        let needed = [&crowd.refreshes, &crowd.conflicts, &crowd.gave_way, &crowd.rotations];
        needed.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    };
    crowd.go_on(tasks, duration, is_enough).await;
    crowd.assert_nothing_is_lost().await;

    let version = crowd.service().database.fetch_one_text(match dialect {
        Dialect::Postgres => "SELECT 'PostgreSQL ' || current_setting('server_version')",
        Dialect::Sqlite => "SELECT 'SQLite ' || sqlite_version()",
    });
    println!("{}, {minutes} minutes: {}", version.await.unwrap(), crowd.counts());
    println!("{gauge}");
    assert!(gauge.growth() < MAX_GROWTH, "memory grew by {:.1} %", 100.0 * gauge.growth());
    assert!(gauge.most_connections() <= VAULTS * POOL, "{} connections", gauge.most_connections());
    if dialect == Dialect::Sqlite {
        assert_eq!(crowd.failures.load(Ordering::Relaxed), 0, "a call failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/soak/run"]
async fn postgres() {
    soak(Dialect::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/soak/run"]
async fn sqlite() {
    soak(Dialect::Sqlite).await;
}
