//! A service that is away for hours, or takes a key away: of `services`, on a clock that is moved.

use std::time::Duration;

use credvault::provider;
use credvault::test_util::FaultyProvider;
use credvault::{ErrorKind, Outcome, Vault};
use tokio::task::JoinSet;

use super::{MANY, Service, Weather, open, vault_with_a_row};
use crate::common::{KeyFiles, TestDatabase, read, read_token, token};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Those whose data keys are unwrapped at once.
const ORGANIZATIONS: usize = 9;

/// Moves the clock that keys are kept by.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until the service was asked again, and what it said is noted: that it failed, or that it gave the key.
async fn renewed(vault: &Vault, failed: bool) {
    let noted = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let key = vault.status().await.unwrap().master_keys.remove(0);
            if key.renewal_error.is_some() == failed && (failed || key.usable_for > Some(24 * HOUR - MINUTE))
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    noted.await.expect("the service was not asked again");
}

pub(crate) async fn an_outage_is_borne_until_the_ceiling<S: Service>(database: TestDatabase) {
    let service = S::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, service.provider()).await;
    let organization = vault.organization(organization);
    service.take_calls();

    // Within the period nothing is asked; after it once, beside the call that needs the key.
    pass(HOUR / 2).await;
    assert_eq!(read_token(&organization, integration).await, "there");
    assert_eq!(service.take_calls(), 0);
    pass(HOUR).await;
    assert_eq!(read_token(&organization, integration).await, "there");
    renewed(&vault, false).await;
    assert_eq!(service.take_calls(), 1);

    service.weather(Weather::Away, MANY);
    let mut since = Duration::ZERO;
    for hours in [2, 9, 12] {
        pass(hours * HOUR).await;
        since += hours * HOUR;
        assert_eq!(read_token(&organization, integration).await, "there");
        organization.put(integration, &token("there")).await.unwrap();
        renewed(&vault, true).await;
        let left = vault.status().await.unwrap().master_keys[0].usable_for.unwrap();
        assert!(left.abs_diff(24 * HOUR - since) < 5 * MINUTE, "{left:?} after {since:?}");
    }
    pass(HOUR - 10 * MINUTE).await;
    assert_eq!(read_token(&organization, integration).await, "there");

    // Beyond the ceiling nothing opens, and nothing is sealed, until the service gives the key again.
    pass(20 * MINUTE).await;
    for refused in [
        read(&organization, integration).await.map(|_| ()).unwrap_err(),
        organization.put(integration, &token("new")).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Provider, true), "{refused}");
    }
    service.clear_up();
    assert_eq!(read_token(&organization, integration).await, "there");
    let key = &vault.status().await.unwrap().master_keys[0];
    assert!(key.usable_for > Some(23 * HOUR) && key.renewal_error.is_none(), "{key:?}");
}

pub(crate) async fn a_renewal_is_one_call_however_many_need_the_key_again<S: Service>(
    database: TestDatabase,
) {
    let service = S::fresh().await;
    // Slower, so that all are there before it answers.
    let slow = FaultyProvider::new(service.provider());
    let (vault, organization, integration) = vault_with_a_row(&database, slow.provider()).await;
    let mut rows = vec![(organization, integration)];
    // Each with a data key of its own, which the master key has to unwrap.
    for _ in 0..ORGANIZATIONS {
        let (organization, integration) = database.add_tenant().await;
        vault.keys().create(organization).await.unwrap();
        vault.organization(organization).put(integration, &token("there")).await.unwrap();
        rows.push((organization, integration));
    }
    slow.delay(Duration::from_millis(100));
    service.take_calls();
    // Within the ceiling by one of them, beyond it by all that wait for it.
    for time in [2 * HOUR, 25 * HOUR] {
        pass(time).await;
        let mut reads = JoinSet::new();
        for (organization, integration) in rows.iter().cycle().take(100) {
            let (organization, integration) = (vault.organization(*organization), *integration);
            reads.spawn(async move { read_token(&organization, integration).await });
        }
        assert!(reads.join_all().await.iter().all(|read| read == "there"));
        renewed(&vault, false).await;
        assert_eq!(service.take_calls(), 1, "{time:?}");
    }
}

pub(crate) async fn an_organizations_own_key_that_is_taken_away_closes_that_organization_only<S: Service>(
    database: TestDatabase,
) {
    let (keys, customers) = (KeyFiles::new(), S::fresh().await);
    let vaults = provider::from_spec(&keys.generate("vaults.key")).unwrap();
    let (maker, organization, integration) = vault_with_a_row(&database, vaults.clone()).await;
    let (other, others) = database.add_tenant().await;
    maker.organization(other).put(others, &token("there")).await.unwrap();
    let report = maker.rewrap(customers.provider()).organization(organization).run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    maker.keys().create(organization).await.unwrap();
    assert_eq!(maker.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
    let running = open(&database, [vaults.clone(), customers.provider()]).await.unwrap();
    for (organization, integration) in [(organization, integration), (other, others)] {
        assert_eq!(read_token(&running.organization(organization), integration).await, "there");
    }

    customers.weather(Weather::Denied, MANY);
    pass(25 * HOUR).await;
    // In a process that had the key, and in one that begins now.
    let beginning = open(&database, [vaults, customers.provider()]).await.unwrap();
    for vault in [&running, &beginning] {
        for refused in [
            read(&vault.organization(organization), integration).await.map(|_| ()).unwrap_err(),
            vault.organization(organization).put(integration, &token("new")).await.map(|_| ()).unwrap_err(),
        ] {
            let kinds = [ErrorKind::Refused, ErrorKind::KeyUnavailable];
            assert!(kinds.contains(&refused.kind()), "{refused}");
        }
        assert_eq!(read_token(&vault.organization(other), others).await, "there");
        vault.organization(other).put(others, &token("there")).await.unwrap();
    }
    customers.clear_up();
    // Nobody asks again for a moment.
    pass(MINUTE).await;
    for vault in [&running, &beginning] {
        assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
    }
}
