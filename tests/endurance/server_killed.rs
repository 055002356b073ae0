//! A PostgreSQL server that is killed under the load of a service and a rotation: what was acknowledged stands.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::TestDatabase;
use crate::common::crowd::Crowd;
use crate::common::postgres::Server;
use crate::common::service::{Service, random_below};

const KILLS: usize = 3;
const WRITERS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_stands_when_the_server_is_killed_under_load() {
    let server = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let crowd = Crowd::begin(service, &vault, WRITERS).await;
    let mut tasks = crowd.start(async || crowd.service().open().await).await;
    let (rotating, vault) = (Arc::clone(&crowd), crowd.service().open().await);
    tasks.spawn(async move { rotating.rotate(vault, |rotation| rotation).await });
    let server = Arc::new(Mutex::new(server));
    let (killing, killed) = (Arc::clone(&crowd), Arc::clone(&server));
    tasks.spawn(async move {
        let rotations = || killing.rotations.load(Ordering::Relaxed);
        for _ in 0..KILLS {
            // Within a rotation, each time elsewhere, and never before one came to its end.
            let before = rotations();
            while rotations() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(random_below(300))).await;
            tokio::task::block_in_place(|| killed.lock().unwrap().restart());
        }
        while killing.goes_on() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let is_enough = |crowd: &Crowd| crowd.rotations.load(Ordering::Relaxed) > KILLS as u64;
    crowd.go_on(tasks, Duration::from_secs(1), is_enough).await;
    println!("{}", crowd.counts());
    assert!(crowd.failures.load(Ordering::Relaxed) > 0, "no call met a server that was killed");
    crowd.assert_nothing_is_lost().await;
}
