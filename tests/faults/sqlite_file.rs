//! An SQLite file that another process holds, or that may not grow.

use std::time::{Duration, Instant};

use credvault::{ErrorKind, Vault};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Executor, SqlitePool};

use crate::common::service::{Service, first_token, put, read, token};
use crate::common::{Dialect, TestDatabase};

/// How long a writer waits for another, and what a busy machine adds.
const BUSY_LIMIT: Duration = Duration::from_secs(10 + 5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_holds_is_read_and_writes_say_that_it_is_locked() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Sqlite).await).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let mut holder = service.database.connect().await;
    holder.execute("BEGIN EXCLUSIVE").await;
    assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));

    let organization = vault.organization(tenant.organization);
    let revision = organization.get(tenant.integration).await.unwrap().unwrap().revision;
    let (new, other) = (token("new"), uuid::Uuid::new_v4());
    let began = Instant::now();
    let ended = tokio::join!(
        organization.put(tenant.integration, &new),
        organization.update(tenant.integration, &revision, &new),
        organization.delete(tenant.integration),
        vault.transfer(tenant.integration, tenant.organization, other),
        vault.rotation().force().run(),
    );
    let (a, b, c, d, e) = ended;
    for result in [a.map(drop), b.map(drop), c.map(drop), d, e.map(drop)] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{error}");
        assert!(error.to_string().contains("locked"), "{error}");
    }
    assert!(began.elapsed() < BUSY_LIMIT, "it took {:?}", began.elapsed());
    holder.execute("ROLLBACK").await;
    assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
    put(&vault, tenant, "new").await;
    assert_eq!(vault.rotation().force().run().await.unwrap().re_encrypted, 1);
    service.assert_all_current(&vault).await;
}

/// A pool whose every connection refuses to let the file grow beyond what it is now.
async fn full(url: &str) -> SqlitePool {
    let options: SqliteConnectOptions = url.parse().unwrap();
    SqlitePoolOptions::new()
        .max_connections(4)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute("PRAGMA max_page_count = 1").await.map(drop) })
        })
        .connect_with(options.foreign_keys(true).busy_timeout(Duration::from_secs(10)))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_full_refuses_writes_reads_on_and_loses_nothing() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Sqlite).await).await;
    let tenants = service.add_tenants_with_tokens(&vault, 40).await;
    let full = service.open_by(Vault::builder().sqlite(full(service.database.url()).await)).await;
    let mut refused = 0;
    for tenant in &tenants {
        let organization = full.organization(tenant.organization);
        let large = token(&"x".repeat(20_000));
        match organization.put(tenant.integration, &large).await {
            Ok(_) => put(&vault, *tenant, &first_token(*tenant)).await,
            Err(error) => {
                assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{error}");
                assert!(error.to_string().contains("full"), "{error}");
                refused += 1;
            }
        }
        assert_eq!(read(&full, *tenant).await.unwrap(), first_token(*tenant));
    }
    assert!(refused > tenants.len() / 2, "only {refused} writes were refused");
    // A rotation either finds the room that it takes or says that there is none; then another one has it.
    match full.rotation().force().run().await {
        Ok(report) => assert_eq!(report.re_encrypted, tenants.len() as u64),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Store, "{error}");
            service.expire_lease().await;
        }
    }
    assert_eq!(service.database.fetch_one_text("PRAGMA integrity_check").await.as_deref(), Some("ok"));
    vault.rotation().force().run().await.unwrap();
    for tenant in &tenants {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
    service.assert_all_current(&vault).await;
}
