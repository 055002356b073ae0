//! Sessions that are terminated again and again, as by an administrator or a failover.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::calls::assert_no_session_is_in_a_transaction;
use crate::common::crowd::Crowd;
use crate::common::long::short_or_long;
use crate::common::service::Service;
use crate::common::{Dialect, TestDatabase};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_rotations_end_beside_sessions_that_are_terminated() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let crowd = Crowd::begin(service, &vault, 2).await;
    let mut tasks = crowd.start(async || crowd.service().open().await).await;
    let (rotating, vault) = (Arc::clone(&crowd), crowd.service().open().await);
    tasks.spawn(async move { rotating.rotate(vault, |rotation| rotation).await });
    let terminating = Arc::clone(&crowd);
    tasks.spawn(async move {
        while terminating.goes_on() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            terminating.service().terminate_sessions().await;
        }
    });
    let duration = Duration::from_secs(short_or_long(4, 60));
    let is_enough = |crowd: &Crowd| {
        [&crowd.failures, &crowd.rotations, &crowd.refreshes].iter().all(|it| it.load(Ordering::Relaxed) > 2)
    };
    crowd.go_on(tasks, duration, is_enough).await;
    println!("{}", crowd.counts());
    crowd.assert_nothing_is_lost().await;
    assert_no_session_is_in_a_transaction(crowd.service()).await;
}
