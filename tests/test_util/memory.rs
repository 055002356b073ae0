//! A vault in memory.

use std::time::Duration;

use credvault::test_util::{self, ManualClock, MemoryKey, PlainCredential};
use credvault::{Credential, CredentialType, ErrorKind, Outcome, Vault};
use uuid::Uuid;

fn token(text: &str) -> Credential {
    Credential::new(CredentialType::token()).with_field("access_token", text)
}

#[tokio::test]
async fn each_vault_in_memory_is_another() {
    let (one, other) = (test_util::vault().await.unwrap(), test_util::vault().await.unwrap());
    assert_ne!(one.id(), other.id());
    let organization = Uuid::new_v4();
    let integration = one.organization(organization).ensure_integration("github").await.unwrap();
    one.organization(organization).put(integration, &token("mine")).await.unwrap();
    assert_eq!(other.organization(organization).integration("github").await.unwrap(), None);
    assert!(other.organization(organization).get(integration).await.unwrap().is_none());
}

#[tokio::test]
async fn a_vault_in_memory_outlives_the_calls_that_were_dropped() {
    let vault = test_util::vault().await.unwrap();
    let organization = vault.organization(Uuid::new_v4());
    let integration = organization.ensure_integration("github").await.unwrap();
    for microseconds in (0..2_000).step_by(50) {
        let _ = tokio::time::timeout(
            Duration::from_micros(microseconds),
            organization.put(integration, &token("dropped, or not")),
        )
        .await;
    }
    organization.put(integration, &token("kept")).await.unwrap();
    let stored = organization.get(integration).await.unwrap().unwrap();
    assert_eq!(PlainCredential::from(&stored.credential), PlainCredential::from(&token("kept")));
}

#[tokio::test]
async fn a_put_within_the_one_connections_transaction_waits_for_nobody() {
    let pool = test_util::memory_pool().await.unwrap();
    let key = MemoryKey::generate().unwrap();
    let builder = || Vault::builder().sqlite(pool.clone()).master_key_provider(key.clone());
    let vault = builder().create_if_missing().build().await.unwrap();
    let organization = vault.organization(Uuid::new_v4());
    let integration = organization.ensure_integration("github").await.unwrap();

    let work = async {
        // Another process, whose keyring is cold.
        let other = builder().build().await.unwrap().organization(organization.id());
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        other.put_in(&mut *transaction, integration, &token("rolled back")).await.unwrap();
        transaction.rollback().await.unwrap();
        assert!(organization.get(integration).await.unwrap().is_none());

        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        organization.put_in(&mut *transaction, integration, &token("committed")).await.unwrap();
        transaction.commit().await.unwrap();
        assert!(other.get(integration).await.unwrap().is_some());
    };
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it waits for the one connection");
}

#[tokio::test]
async fn a_vault_on_anothers_database_needs_its_master_key() {
    let pool = test_util::memory_pool().await.unwrap();
    let key = MemoryKey::generate().unwrap();
    let builder = || Vault::builder().sqlite(pool.clone());
    builder().master_key_provider(key.clone()).create_if_missing().build().await.unwrap();
    let stranger = MemoryKey::generate().unwrap();
    let error = builder().master_key_provider(stranger.clone()).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert!(error.to_string().contains(&key.id().to_string()), "{error}");
    builder().master_key_provider(stranger).master_key_provider(key).build().await.unwrap();
}

#[tokio::test]
async fn time_moves_for_all_clones_of_a_clock() {
    let clock = ManualClock::default();
    let key = MemoryKey::generate().unwrap();
    let vault = test_util::in_memory().clock(clock.clone()).master_key_provider(key).build().await.unwrap();
    for (days, new_keys) in [(0, 0), (89, 0), (2, 1), (0, 0), (91, 1)] {
        clock.clone().advance(time::Duration::days(days));
        let report = vault.rotation().run().await.unwrap();
        assert_eq!(
            (report.outcome, report.new_keys.len()),
            (Outcome::Complete, new_keys),
            "{days} more days"
        );
    }
}
