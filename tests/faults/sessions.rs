//! Sessions that are terminated again and again, as by an administrator or a failover.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use credvault::Outcome;

use crate::calls::assert_no_session_is_in_a_transaction;
use crate::common::crowd::Crowd;
use crate::common::long::short_or_long;
use crate::common::service::{Service, read};
use crate::common::{Dialect, TestDatabase};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_begins_and_ends_though_every_connection_of_its_pool_has_died() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenants = service.add_tenants_with_tokens(&vault, 12).await;
    // As many connections as its pool has.
    let reads = tenants.iter().map(|tenant| {
        let (vault, tenant) = (vault.clone(), *tenant);
        tokio::spawn(async move { read(&vault, tenant).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    service.terminate_sessions().await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_last_session_is_terminated_says_again_that_it_has_ended() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 2).await;
    service.database.execute("CREATE SEQUENCE ends").await;
    // The first time only, as the sequence keeps what was rolled back.
    let terminated = "IF NEW.finished_at IS NOT NULL AND nextval('ends') = 1 THEN
                          RAISE EXCEPTION 'terminated' USING ERRCODE = '57P01';
                      END IF;";
    service.add_trigger("terminated", "AFTER UPDATE ON vault_rotation_runs", terminated).await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 2));
    assert_eq!(service.count("SELECT last_value FROM ends").await, 2);
    // The lease is given back.
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
}

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
