//! A service whose role has settings of its own, as administrators give them; of rotations `tests/rotation` asks the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use credvault::{ErrorKind, Vault};

use crate::calls::assert_no_session_is_in_a_transaction;
use crate::common::crowd::Crowd;
use crate::common::roles::Role;
use crate::common::service::{Service, first_token, put, read, token};
use crate::common::{Dialect, TestDatabase};

/// A role of a service with these settings, and the vault as it opens it.
async fn with_settings(service: &Service, settings: &[&str]) -> Vault {
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let role = Role::of_all_work(database).await;
    for setting in settings {
        service.database.execute(&format!("ALTER ROLE {} SET {setting}", role.name)).await;
    }
    service.open_by(Vault::builder().url(&role.url)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_waits_for_longer_than_its_role_may_fails_so_and_succeeds_later() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    for setting in ["statement_timeout = '50ms'", "lock_timeout = '50ms'"] {
        let vault = with_settings(&service, &[setting]).await;
        let organization = vault.organization(tenant.organization);
        let before = organization.get(tenant.integration).await.unwrap().unwrap();
        let mut other = service.database.connect().await;
        other.begin().await;
        other.execute("UPDATE integration_credentials SET updated_at = now()").await;
        let (began, new) = (Instant::now(), token("new"));
        let writes = tokio::join!(
            organization.put(tenant.integration, &new),
            organization.update(tenant.integration, &before.revision, &new),
        );
        for written in [writes.0, writes.1] {
            let error = written.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{setting}: {error}");
            assert!(error.to_string().contains("timeout"), "{setting}: {error}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{setting}: {:?}", began.elapsed());
        // Nothing that was not acknowledged was written, and reads don't wait.
        assert_eq!(read(&vault, tenant).await.unwrap(), first_token(tenant));
        other.execute("ROLLBACK").await;
        assert_no_session_is_in_a_transaction(&service).await;
        organization.update(tenant.integration, &before.revision, &token("new")).await.unwrap();
        put(&vault, tenant, &first_token(tenant)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_in_serializable_or_repeatable_read_loses_nothing_beside_a_rotation() {
    for isolation in ["serializable", "repeatable read"] {
        let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
        let crowd = Crowd::begin(service, &vault, 2).await;
        let setting = format!("default_transaction_isolation = '{isolation}'");
        let open = async || with_settings(crowd.service(), &[&setting]).await;
        let mut tasks = crowd.start(open).await;
        let (rotating, rotator) = (Arc::clone(&crowd), open().await);
        tasks.spawn(async move { rotating.rotate(rotator, |rotation| rotation).await });
        let is_enough = |crowd: &Crowd| {
            [&crowd.refreshes, &crowd.rotations].iter().all(|count| count.load(Ordering::Relaxed) > 2)
        };
        crowd.go_on(tasks, Duration::from_secs(2), is_enough).await;
        println!("{isolation}: {}", crowd.counts());
        crowd.assert_nothing_is_lost().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_may_only_read_reads_and_is_told_so_when_it_writes() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let before = service.database.dump().await;
    let read_only = with_settings(&service, &["default_transaction_read_only = on"]).await;
    assert_eq!(read(&read_only, tenant).await.unwrap(), first_token(tenant));
    assert_writes_are_refused_as_read_only(&read_only, tenant).await;
    assert_eq!(service.database.dump().await, before);
}

/// Every kind of write is refused with the reason, and is not to be tried again.
pub async fn assert_writes_are_refused_as_read_only(vault: &Vault, tenant: crate::common::service::Tenant) {
    let organization = vault.organization(tenant.organization);
    let revision = organization.get(tenant.integration).await.unwrap().unwrap().revision;
    let other = uuid::Uuid::new_v4();
    let refused = [
        organization.put(tenant.integration, &token("new")).await.map(drop),
        organization.update(tenant.integration, &revision, &token("new")).await.map(drop),
        organization.delete(tenant.integration).await.map(drop),
        organization.put_by_connector("slack", &token("new")).await.map(drop),
        vault.transfer(tenant.integration, tenant.organization, other).await,
        vault.keys().create(other).await.map(drop),
        vault.rotation().force().run().await.map(drop),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, false), "{error}");
        assert!(error.to_string().contains("the database is read-only"), "{error}");
    }
}
