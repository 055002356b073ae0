//! A PostgreSQL server that is killed beside writers and a rotation: what was acknowledged stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use credvault::{ErrorKind, Outcome, Vault};

use crate::common::TestDatabase;
use crate::common::postgres::Server;
use crate::common::service::{Service, Tenant, put, random_below, read, token};

const KILLS: usize = 3;
const WRITERS: usize = 2;
/// Tenants of each writer; as many again are only re-encrypted.
const WRITTEN: usize = 20;

/// The numbers that a tenant's token may have: that of the last write that was acknowledged, to that of the last one that
/// was tried.
struct Numbers {
    tenant: Tenant,
    acknowledged: u64,
    tried: u64,
}

/// Writes ever higher numbers; a write that failed in a way that may be over is tried again, as the next number.
async fn write(vault: Vault, tenants: Vec<Tenant>, is_over: Arc<AtomicBool>) -> Vec<Numbers> {
    let mut all: Vec<_> =
        tenants.into_iter().map(|tenant| Numbers { tenant, acknowledged: 0, tried: 0 }).collect();
    while !is_over.load(Ordering::Relaxed) {
        for numbers in &mut all {
            numbers.tried += 1;
            let organization = vault.organization(numbers.tenant.organization);
            match organization.put(numbers.tenant.integration, &token(&numbers.tried.to_string())).await {
                Ok(_) => numbers.acknowledged = numbers.tried,
                Err(error) => {
                    assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{error:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_stands_when_the_server_is_killed_beside_a_rotation() {
    let mut server = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let tenants = service.add_tenants(2 * WRITERS * WRITTEN).await;
    for tenant in &tenants {
        put(&vault, *tenant, "0").await;
    }
    let (written, others) = tenants.split_at(WRITERS * WRITTEN);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for tenants in written.chunks(WRITTEN) {
        let vault = service.open().await;
        writers.push(tokio::spawn(write(vault, tenants.to_vec(), Arc::clone(&is_over))));
    }

    let mut went_on = 0;
    for kill in 0..KILLS {
        let rotation = service.open().await.rotation().force().batch_size(4).unwrap();
        let (rotation, mut events) = rotation.events();
        let rotation = tokio::spawn(rotation.run());
        // Within its pages, each time elsewhere.
        for _ in 0..3 + 3 * kill {
            events.next().await.expect("the rotation ended before the server was killed");
        }
        tokio::time::sleep(Duration::from_micros(random_below(10_000))).await;
        server.kill();
        server.start_again();
        match rotation.await.unwrap() {
            Ok(report) => {
                assert_eq!(report.outcome, Outcome::Complete);
                went_on += 1;
            }
            Err(error) => {
                assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{error:?}");
                service.expire_lease().await;
                let next = service.open().await.rotation().force().run().await.unwrap();
                assert_eq!(next.outcome, Outcome::Complete);
            }
        }
        // Connections of before may still be in the pools of the others.
        service.assert_keys_hold(&service.open().await).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut in_doubt) = (0, 0);
    let vault = service.open().await;
    for writer in writers {
        for numbers in writer.await.unwrap() {
            let number: u64 = read(&vault, numbers.tenant).await.unwrap().parse().unwrap();
            assert!(
                (numbers.acknowledged..=numbers.tried).contains(&number),
                "{:?}: {number}",
                numbers.tenant
            );
            acknowledged += numbers.acknowledged;
            in_doubt += u64::from(number > numbers.acknowledged);
        }
    }
    for tenant in others {
        assert_eq!(read(&vault, *tenant).await.unwrap(), "0");
    }
    println!(
        "{went_on} of {KILLS} rotations went on by themselves; {acknowledged} writes, {in_doubt} written but not acknowledged"
    );
    assert!(acknowledged > 0 && went_on > 0);
    vault.rotation().run().await.unwrap();
    service.assert_all_current(&vault).await;
}
