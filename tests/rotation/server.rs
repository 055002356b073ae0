//! A rotation beside a server that is killed and started again, or that no longer answers.

use std::time::{Duration, Instant};

use credvault::{Outcome, StopReason, Vault};
use uuid::Uuid;

use crate::common::postgres::Server;
use crate::common::roles::Role;
use crate::common::service::{Halted, Service, active_key, first_token, key, put, read, token};
use crate::common::{Dialect, TestDatabase};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_only_prepared_transactions_are_waited_for() {
    let mut server = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    service.add_tenants_with_tokens(&vault, 2).await;
    let [prepared, lost] = service.add_tenants(2).await[..] else { unreachable!() };
    let old = active_key(&vault, None).await;
    let mut writers = Vec::new();
    for tenant in [prepared, lost] {
        let mut writer = service.database.connect().await;
        writer.begin().await;
        let organization = vault.organization(tenant.organization);
        organization.put_in(writer.lend(), tenant.integration, &token("late")).await.unwrap();
        writers.push(writer);
    }
    let gid = Uuid::new_v4();
    writers[0].execute(&format!("PREPARE TRANSACTION '{gid}'")).await;
    let report = vault.rotation().force().max_wait(SHORT).run().await.unwrap();
    assert_eq!((&report.outcome, report.waiting.transactions.iter().count()), (&Outcome::WorkRemains, 2));

    server.restart();
    let vault = service.open().await;
    let report = vault.rotation().max_wait(SHORT).run().await.unwrap();
    assert_eq!(report.outcome, Outcome::WorkRemains);
    let named: Vec<_> = report.waiting.transactions.iter().collect();
    assert_eq!(named, [format!("prepared transaction \"{gid}\"")]);
    assert_eq!(key(&vault, old).await.unused_since, None);

    service.database.execute(&format!("COMMIT PREPARED '{gid}'")).await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 1));
    assert_eq!(report.unused_keys, [old]);
    assert_eq!(service.count("SELECT count(*) FROM vault_rotation_runs WHERE captured IS NOT NULL").await, 1);
    assert_eq!(read(&vault, prepared).await.unwrap(), "late");
    assert_eq!(read(&vault, lost).await, None);
    service.assert_all_current(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_outlives_a_restart_of_the_server() {
    let mut server = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let tenants = service.add_tenants_with_tokens(&vault, 12).await;
    let rotation = vault.rotation().force().batch_size(4).unwrap().workers(1).unwrap();
    let halted = Halted::after_first_page(rotation).await;
    // As many connections as its pool has, all of which die.
    let reads = tenants.iter().map(|tenant| {
        let (vault, tenant) = (vault.clone(), *tenant);
        tokio::spawn(async move { read(&vault, tenant).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    // By then its lease is to be renewed.
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.restart();
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 12));
    for tenant in tenants {
        assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_asked_to_stop_ends_though_the_server_does_not_answer() {
    let server = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let tenants = service.add_tenants_with_tokens(&vault, 12).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let rotation = vault.rotation().force().batch_size(4).unwrap().stop_when(async { drop(stopped.await) });
    let halted = Halted::after_first_page(rotation).await;
    let standstill = server.stand_still().await;
    let began = Instant::now();
    stop.send(()).unwrap();
    let report = halted.finish().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!((report.outcome, report.stopped), (Outcome::WorkRemains, Some(StopReason::Asked)));
    assert_eq!((report.re_encrypted, report.new_keys.len()), (4, 1));

    drop(standstill);
    // It could not give its lease back, nor say that it had replaced the key.
    service.expire_lease().await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys), (Outcome::Complete, vec![]));
    for tenant in tenants {
        put(&vault, tenant, "newer").await;
    }
    service.assert_all_current(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_asked_to_stop_ends_as_asked_though_the_server_lets_nobody_in() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 12).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let role = Role::rotator(database).await;
    let rotator = service.open_by(Vault::builder().url(&role.url)).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let rotation = rotator.rotation().force().batch_size(4).unwrap().stop_when(async { drop(stopped.await) });
    let halted = Halted::after_first_page(rotation).await;
    service
        .database
        .execute(&format!(
            "ALTER DATABASE {} CONNECTION LIMIT 0;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            database.name(),
            role.name
        ))
        .await;
    stop.send(()).unwrap();
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.stopped), (Outcome::WorkRemains, Some(StopReason::Asked)));
    assert_eq!((report.re_encrypted, report.new_keys.len()), (4, 1));
}
