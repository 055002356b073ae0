//! A rotation as a role with settings of its own, as administrators give them to applications.

use credvault::{ErrorKind, Outcome, Vault};

use crate::common::roles::Role;
use crate::common::service::{Service, active_key};
use crate::common::{Dialect, TestDatabase};

const ROWS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_completes_whatever_limits_and_isolation_its_role_has() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_many_tenants_with_tokens(&vault, ROWS as usize).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    for (settings, workers) in [
        (&["statement_timeout = '50ms'", "lock_timeout = '50ms'"][..], None),
        (&["default_transaction_isolation = 'repeatable read'"], Some(4)),
        (&["default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on"], Some(4)),
    ] {
        let role = Role::rotator(database).await;
        for setting in settings {
            service.database.execute(&format!("ALTER ROLE {} SET {setting}", role.name)).await;
        }
        let rotator = service.open_by(Vault::builder().url(&role.url)).await;
        let mut rotation = rotator.rotation().force();
        if let Some(workers) = workers {
            rotation = rotation.workers(workers).unwrap().batch_size(50).unwrap();
        }
        let report = rotation.run().await.unwrap_or_else(|error| panic!("{settings:?}: {error:?}"));
        assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, ROWS), "{settings:?}");
        assert_eq!((report.new_keys.len(), report.unused_keys.len()), (1, 1), "{settings:?}");
        assert_eq!(service.rows_under_other_keys().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_may_only_read_says_so_and_leaves_all_as_it_was() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 3).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let role = Role::rotator(database).await;
    let sql = format!("ALTER ROLE {} SET default_transaction_read_only = on", role.name);
    service.database.execute(&sql).await;
    let rotator = service.open_by(Vault::builder().url(&role.url)).await;
    let (active, before) = (active_key(&vault, None).await, service.database.dump().await);
    let error = rotator.rotation().force().run().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, false), "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
    assert_eq!(service.database.dump().await, before);
    assert_eq!(active_key(&vault, None).await, active);
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rotations_at_once_one_does_the_work_in_any_isolation() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 3).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    for isolation in ["serializable", "repeatable read"] {
        let role = Role::rotator(database).await;
        let sql = format!("ALTER ROLE {} SET default_transaction_isolation = '{isolation}'", role.name);
        service.database.execute(&sql).await;
        let one = service.open_by(Vault::builder().url(&role.url)).await;
        let other = service.open_by(Vault::builder().url(&role.url)).await;
        for turn in 0..10 {
            let (one, other) = tokio::join!(one.rotation().force().run(), other.rotation().force().run());
            let (one, other) = (one.unwrap(), other.unwrap());
            let new_keys = one.new_keys.len() + other.new_keys.len();
            assert_eq!(new_keys, 1, "{isolation}, turn {turn}: {one:?} {other:?}");
        }
    }
    service.assert_all_current(&vault).await;
}
