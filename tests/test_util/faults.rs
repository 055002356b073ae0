//! A provider that fails on demand, and what of it reaches a service.

use std::time::Duration;

use credvault::provider::MasterKeyProvider;
use credvault::test_util::{self, FaultyProvider, MemoryKey};
use credvault::{Credential, CredentialType, ErrorKind, ExposeSecret, Outcome, Vault};
use uuid::Uuid;

fn token() -> Credential {
    Credential::new(CredentialType::token()).with_field("access_token", "ghp_0123456789")
}

#[tokio::test]
async fn an_outage_stops_who_starts_and_no_one_who_runs() {
    let keys = FaultyProvider::new(MemoryKey::generate().unwrap());
    let pool = test_util::memory_pool().await.unwrap();
    let builder = || Vault::builder().sqlite(pool.clone()).master_key_provider(keys.provider());
    let running = builder().create_if_missing().build().await.unwrap();
    let organization = running.organization(Uuid::new_v4());
    let integration = organization.ensure_integration("github").await.unwrap();
    organization.put(integration, &token()).await.unwrap();
    let asked = keys.calls();
    assert_eq!((asked.create, asked.unlock), (1, 1));

    keys.begin_outage();
    for _ in 0..2 {
        let error = builder().build().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Provider, true), "{error}");
    }
    assert_eq!(keys.calls().unlock, asked.unlock + 2, "failed calls count");
    organization.put(integration, &token()).await.unwrap();
    assert!(organization.get(integration).await.unwrap().is_some());
    assert_eq!(running.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
    assert_eq!(keys.calls().unlock, asked.unlock + 2, "who runs asks no more");

    keys.end_outage();
    let started = builder().build().await.unwrap();
    let stored = started.organization(organization.id()).get(integration).await.unwrap().unwrap();
    assert_eq!(stored.credential.field("access_token").unwrap().expose_secret(), "ghp_0123456789");
}

#[tokio::test]
async fn planned_failures_come_in_their_order_and_then_end() {
    let keys = FaultyProvider::new(MemoryKey::generate().unwrap());
    keys.fail_next(2, ErrorKind::Provider);
    keys.fail_next(1, ErrorKind::Refused);
    let make = || test_util::in_memory().master_key_provider(keys.provider()).build();
    for expected in [(ErrorKind::Provider, true), (ErrorKind::Provider, true), (ErrorKind::Refused, false)] {
        let error = make().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), expected, "{error}");
    }
    make().await.unwrap();
    assert_eq!(keys.calls().create, 4);

    keys.fail_next(100, ErrorKind::Provider);
    make().await.unwrap_err();
    keys.end_outage();
    make().await.unwrap();
}

#[tokio::test]
async fn a_rewrap_to_a_service_that_is_down_changes_nothing() {
    let vault = test_util::vault().await.unwrap();
    let organization = vault.organization(Uuid::new_v4());
    let integration = organization.ensure_integration("github").await.unwrap();
    organization.put(integration, &token()).await.unwrap();
    let to = FaultyProvider::new(MemoryKey::generate().unwrap());
    to.begin_outage();
    let error = vault.rewrap(to.provider()).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
    assert!(vault.verify().run().await.unwrap().findings.is_empty());

    to.end_outage();
    let report = vault.rewrap(to.provider()).run().await.unwrap();
    assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, 1));
    assert!(organization.get(integration).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slow_provider_takes_its_time_by_tokios_clock() {
    let key = MemoryKey::generate().unwrap();
    let keys = FaultyProvider::new(key.clone());
    assert_eq!(keys.kind(), key.kind());
    assert!(keys.opens("memory") && !keys.opens("key-file"));
    let context = credvault::provider::ProviderContext::new(Uuid::new_v4().into(), key.id());
    keys.delay(Duration::from_secs(60));
    for outage in [false, true] {
        if outage {
            keys.begin_outage();
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(keys.create(&context).await.is_err(), outage);
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
    }
}
