//! The vault through PgBouncer in transaction mode: every transaction may be on another of the server's sessions.
//!
//! On demand, by `tests/pgbouncer/run`; without PgBouncer 1.21 or newer these tests fail.
#![cfg(unix)]
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

#[path = "../common/mod.rs"]
mod common;

mod pooler;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::service::{Service, Tenant, first_token, put, read, token};
use common::{Dialect, TestDatabase};
use credvault::{ErrorKind, Outcome, Vault, provider};
use pooler::{Pooler, SESSIONS};
use sqlx::{Connection, PgConnection};

/// A vault made past the pooler, as migrations are, and the pooler.
async fn begin() -> (Service, Pooler) {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    vault.close().await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let pooler = Pooler::to(database);
    (service, pooler)
}

/// The vault, as one of several processes opens it through the pooler.
async fn open(service: &Service, pooler: &Pooler) -> Vault {
    let builder = Vault::builder().url(pooler.url());
    let builder = ["first", "second"]
        .iter()
        .fold(builder, |builder, name| builder.master_key(&service.key(name)).unwrap());
    builder.build().await.unwrap()
}

/// Writes ever higher numbers, and reads each; gives the last.
async fn write(vault: Vault, tenants: Vec<Tenant>, is_over: Arc<AtomicBool>) -> u64 {
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        for tenant in &tenants {
            let organization = vault.organization(tenant.organization);
            let stored = organization.get(tenant.integration).await.unwrap().unwrap();
            match organization.update(tenant.integration, &stored.revision, &token(&number.to_string())).await
            {
                Ok(_) => {}
                // It was re-encrypted since it was read.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    put(&vault, *tenant, &number.to_string()).await;
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(read(&vault, *tenant).await.unwrap(), number.to_string());
        }
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer 1.21 or newer: tests/pgbouncer/run"]
async fn every_call_works_on_whatever_session_it_gets() {
    let (service, pooler) = begin().await;
    let vault = open(&service, &pooler).await;
    let organization = vault.organization(uuid::Uuid::new_v4());
    let github = organization.ensure_integration("github").await.unwrap();
    let revision = organization.put(github, &token("one")).await.unwrap();
    let newer = organization.update(github, &revision, &token("two")).await.unwrap();
    let stale = organization.update(github, &revision, &token("three")).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert_eq!(organization.get(github).await.unwrap().unwrap().revision, newer);
    assert_eq!(organization.list().await.unwrap().len(), 1);
    assert!(organization.describe(github).await.unwrap().is_some());

    // Within a transaction of the caller's.
    let options: sqlx::postgres::PgConnectOptions = pooler.url().parse().unwrap();
    let mut connection = PgConnection::connect_with(&options.extra_float_digits(None)).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    organization.put_in(&mut *transaction, github, &token("in a transaction")).await.unwrap();
    transaction.commit().await.unwrap();
    let elsewhere = open(&service, &pooler).await;
    let tenant = Tenant { organization: organization.id(), integration: github };
    assert_eq!(read(&elsewhere, tenant).await.unwrap(), "in a transaction");

    let to = uuid::Uuid::new_v4();
    vault.transfer(github, organization.id(), to).await.unwrap();
    let moved = Tenant { organization: to.into(), integration: github };
    assert_eq!(read(&elsewhere, moved).await.unwrap(), "in a transaction");
    elsewhere.keys().create(to).await.unwrap();
    assert_eq!(vault.rotation().run().await.unwrap().re_encrypted, 1);
    assert!(vault.organization(to).delete(github).await.unwrap());
    assert!(vault.verify().run().await.unwrap().findings.is_empty());
    assert_eq!(vault.status().await.unwrap().stale_rows, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PgBouncer 1.21 or newer: tests/pgbouncer/run"]
async fn rotations_and_rewraps_run_beside_writers_on_shared_sessions() {
    let (service, pooler) = begin().await;
    let vault = open(&service, &pooler).await;
    let tenants = service.add_tenants_with_tokens(&vault, 60).await;
    let (written, others) = tenants.split_at(30);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for tenants in written.chunks(10) {
        let vault = open(&service, &pooler).await;
        writers.push((tenants, tokio::spawn(write(vault, tenants.to_vec(), Arc::clone(&is_over)))));
    }

    let mut gave_way = 0;
    for workers in [1, 2, 4] {
        let rotation = vault.rotation().force().batch_size(5).unwrap().workers(workers).unwrap();
        let report = rotation.run().await.unwrap();
        assert_eq!((report.outcome, report.new_keys.len()), (Outcome::Complete, 1));
        assert_eq!(report.unused_keys.len(), 1, "the transactions of before were seen to end");
        gave_way += report.lost_to_concurrent_writes;
    }
    let to = provider::from_spec(&service.key("second")).unwrap();
    assert_eq!(vault.rewrap(to).run().await.unwrap().outcome, Outcome::Complete);

    // One lease for all.
    let second = open(&service, &pooler).await;
    let rotate = || vault.rotation().force().batch_size(1).unwrap().rows_per_second(50).unwrap().run();
    let (first, second) = tokio::join!(rotate(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        second.rotation().force().run().await.unwrap().outcome
    });
    assert_eq!(first.unwrap().outcome, Outcome::Complete);
    assert!(matches!(second, Outcome::HeldBy { .. }), "{second:?}");

    let rotated = Command::new(env!("CARGO_BIN_EXE_credvault"))
        .args(["rotate", "--force"])
        .env_clear()
        .env("CREDVAULT_DATABASE", pooler.url())
        .env("CREDVAULT_MASTER_KEY", service.key("second"))
        .output()
        .unwrap();
    assert!(rotated.status.success(), "{rotated:?}");

    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity
          WHERE datname = '{}' AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        database.name()
    );
    assert_eq!(service.count(&sessions).await, SESSIONS, "the clients did not share sessions");
    is_over.store(true, Ordering::Relaxed);
    for (tenants, writer) in writers {
        let number = writer.await.unwrap();
        println!("{number} writes of each of {} tokens", tenants.len());
        for tenant in tenants {
            assert_eq!(read(&vault, *tenant).await.unwrap(), number.to_string());
        }
    }
    for tenant in others {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
    println!("{gave_way} swaps gave way");
    vault.rotation().run().await.unwrap();
    service.assert_all_current(&vault).await;
}
