//! Writers, refreshers and readers beside two rotators for a while: no write is lost, no read fails, none is old.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use credvault::Rotation;

use crate::common::crowd::Crowd;
use crate::common::service::Service;
use crate::common::{self, TestDatabase, on_both_stores};

/// In seconds, how long it goes on: longer than it does anyway.
const SECONDS: &str = "CREDVAULT_ENDURANCE_SECONDS";
const SHORTEST: u64 = 10;

const WRITERS: usize = 3;

fn duration() -> Duration {
    let asked = std::env::var(SECONDS).map_or(SHORTEST, |seconds| seconds.parse().expect(SECONDS));
    Duration::from_secs(asked.max(SHORTEST))
}

async fn no_write_is_lost_and_no_read_fails_beside_two_rotators(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let crowd = Crowd::begin(service, &vault, WRITERS).await;
    let mut tasks = crowd.start(async || crowd.service().open().await).await;
    let rotations: Arc<[AtomicU64; 2]> = Arc::default();
    let speeds: [fn(Rotation) -> Rotation; 2] =
        [|rotation| rotation, |rotation| rotation.workers(2).unwrap()];
    for (which, speed) in speeds.into_iter().enumerate() {
        let (crowd, vault) = (Arc::clone(&crowd), crowd.service().open().await);
        let rotations = Arc::clone(&rotations);
        tasks.spawn(async move {
            let count = |rotation| {
                rotations[which].fetch_add(1, Ordering::Relaxed);
                speed(rotation)
            };
            crowd.rotate(vault, count).await;
        });
    }
    crowd
        .go_on(tasks, duration(), |crowd| {
            let needed = [&crowd.refreshes, &crowd.conflicts, &crowd.gave_way, &crowd.rotations];
            needed.into_iter().chain(rotations.iter()).all(|count| count.load(Ordering::Relaxed) > 1)
        })
        .await;
    println!("{}", crowd.counts());
    assert_eq!(crowd.failures.load(Ordering::Relaxed), 0, "a call failed");
    assert_eq!(crowd.failed_rotations.load(Ordering::Relaxed), 0, "a rotation failed");
    crowd.assert_nothing_is_lost().await;
}

on_both_stores!(no_write_is_lost_and_no_read_fails_beside_two_rotators);
