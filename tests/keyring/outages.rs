//! A key service that is away, or takes a key away: what is held goes on until its ceiling, and not beyond.

use std::time::Duration;

use credvault::provider::{self, CachePeriod};
use credvault::test_util::FaultyProvider;
use credvault::{ErrorKind, Vault};
use tokio::task::JoinSet;

use crate::common::{Dialect, KeyFiles, TestDatabase, read, token};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A vault on a service that is asked once an hour, and may be away for a day.
async fn vault_on_a_service(database: &TestDatabase, keys: &KeyFiles) -> (Vault, FaultyProvider) {
    let service = FaultyProvider::new(provider::from_spec(&keys.generate("master.key")).unwrap())
        .cached(CachePeriod::default());
    let builder = Vault::builder().url(database.url()).master_key_provider(service.provider());
    let builder = builder.create_if_missing();
    (builder.build().await.unwrap(), service)
}

/// Moves the clock that keys are kept by.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until the service was asked for a key so often, and no failure is left to be noted.
async fn asked(service: &FaultyProvider, calls: u64) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while service.calls().unlock < calls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{:?}, not {calls} times", service.calls()));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(service.calls().unlock, calls);
}

async fn an_outage_is_borne_until_the_ceiling(dialect: Dialect) {
    let (database, keys) = (TestDatabase::create(dialect).await, KeyFiles::new());
    let (vault, service) = vault_on_a_service(&database, &keys).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    organization.put(integration, &token("there")).await.unwrap();
    assert_eq!(service.calls().unlock, 1, "one call opens the vault");

    // Within the period nothing is asked, however often data keys are unwrapped.
    for _ in 0..5 {
        pass(HOUR / 10).await;
        read(&organization, integration).await.unwrap().unwrap();
    }
    assert_eq!(service.calls().unlock, 1);

    // Once for each period, beside the call that needs the key.
    pass(HOUR).await;
    read(&organization, integration).await.unwrap().unwrap();
    asked(&service, 2).await;

    service.begin_outage();
    let mut since = Duration::ZERO;
    while since + HOUR < 24 * HOUR {
        pass(HOUR).await;
        since += HOUR;
        read(&organization, integration).await.unwrap().unwrap();
        organization.put(integration, &token("there")).await.unwrap();
        asked(&service, 2 + since.as_secs() / HOUR.as_secs()).await;
        let key = &vault.status().await.unwrap().master_keys[0];
        let left = key.usable_for.unwrap();
        assert!(left.abs_diff(24 * HOUR - since) < HOUR / 10, "{left:?} after {since:?}");
        assert!(key.renewal_error.as_ref().is_some_and(|error| error.contains("told to fail")));
    }

    // Beyond the ceiling nothing opens, and nothing is sealed, until the service gives the key again: no data key either
    // that was unwrapped shortly before.
    pass(HOUR - MINUTE).await;
    organization.put(integration, &token("there")).await.unwrap();
    read(&organization, integration).await.unwrap().unwrap();
    pass(2 * MINUTE).await;
    let refused = read(&organization, integration).await.unwrap_err();
    assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Provider, true), "{refused}");
    let refused = organization.put(integration, &token("there")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Provider, "{refused}");

    service.end_outage();
    read(&organization, integration).await.unwrap().unwrap();
    let key = &vault.status().await.unwrap().master_keys[0];
    assert!(key.usable_for.unwrap() > 23 * HOUR);
    assert_eq!(key.renewal_error, None);
}

async fn a_service_is_asked_once_however_many_need_the_key_again(dialect: Dialect) {
    let (database, keys) = (TestDatabase::create(dialect).await, KeyFiles::new());
    let (vault, service) = vault_on_a_service(&database, &keys).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    organization.put(integration, &token("there")).await.unwrap();
    service.delay(Duration::from_millis(50));

    // Within the ceiling by one of them, beyond it by all that wait for it.
    for (time, calls) in [(2 * HOUR, 2), (25 * HOUR, 3)] {
        pass(time).await;
        let mut reads = JoinSet::new();
        for _ in 0..100 {
            let organization = organization.clone();
            reads.spawn(async move { read(&organization, integration).await });
        }
        for read in reads.join_all().await {
            read.unwrap().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        asked(&service, calls).await;
    }
}

async fn a_service_that_is_away_is_not_asked_by_every_call(dialect: Dialect) {
    let (database, keys) = (TestDatabase::create(dialect).await, KeyFiles::new());
    let (vault, service) = vault_on_a_service(&database, &keys).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    organization.put(integration, &token("there")).await.unwrap();
    service.begin_outage();
    pass(2 * HOUR).await;
    for _ in 0..20 {
        read(&organization, integration).await.unwrap().unwrap();
        // The data key is unwrapped again each time.
        vault.rotation().force().run().await.unwrap();
    }
    assert_eq!(service.calls().unlock, 2);
}

/// Each on a runtime of one thread, whose clock can be moved.
macro_rules! on_a_clock_that_moves {
    ($($claim:ident: $postgres:ident, $sqlite:ident;)*) => {$(
        #[tokio::test]
        async fn $postgres() {
            $claim(Dialect::Postgres).await;
        }

        #[tokio::test]
        async fn $sqlite() {
            $claim(Dialect::Sqlite).await;
        }
    )*};
}

on_a_clock_that_moves! {
    an_outage_is_borne_until_the_ceiling:
        an_outage_is_borne_until_the_ceiling_on_postgres, an_outage_is_borne_until_the_ceiling_on_sqlite;
    a_service_is_asked_once_however_many_need_the_key_again:
        a_service_is_asked_once_on_postgres, a_service_is_asked_once_on_sqlite;
    a_service_that_is_away_is_not_asked_by_every_call:
        a_service_that_is_away_is_asked_seldom_on_postgres, a_service_that_is_away_is_asked_seldom_on_sqlite;
}
