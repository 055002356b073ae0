//! A vault whose master key is made from a passphrase.

use std::sync::Arc;

use credvault::provider::{Argon2Parameters, Passphrase};
use credvault::{ErrorKind, Vault, VaultBuilder};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read_token, token};

on_both_stores!(
    a_vault_opens_with_its_passphrase_alone,
    a_rewrap_leads_from_a_key_file_to_a_passphrase_and_to_another,
);

/// The least that OWASP takes for enough: a test has no time for more.
fn passphrase(text: &str) -> Arc<Passphrase> {
    let parameters = Argon2Parameters::new(19_456, 2, 1).unwrap();
    Arc::new(Passphrase::from_secret(text.into()).with_parameters(parameters))
}

fn builder(database: &TestDatabase, text: &str) -> VaultBuilder {
    Vault::builder().url(database.url()).master_key_provider(passphrase(text))
}

async fn a_vault_opens_with_its_passphrase_alone(database: TestDatabase) {
    let vault = builder(&database, "correct horse").create_if_missing().build().await.unwrap();
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();

    let before = database.dump().await;
    for wrong in ["correct horse\n", "Correct horse", "x"] {
        let error = builder(&database, wrong).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyMismatch, "{error}");
        let error = builder(&database, wrong).create_if_missing().build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyMismatch, "{error}");
    }
    let keys = KeyFiles::new();
    let error = Vault::open(database.url(), &keys.generate("a.key")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert_eq!(database.dump().await, before);

    let vault = builder(&database, "correct horse").build().await.unwrap();
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
    let passphrase_in_file = keys.write("passphrase", "correct horse\n");
    let vault = database.open_vault(&format!("passphrase:{passphrase_in_file}")).await;
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
    // A further passphrase is tried on the record that it isn't for, and does no harm.
    let both = builder(&database, "another").master_key_provider(passphrase("correct horse"));
    both.build().await.unwrap();
}

async fn a_rewrap_leads_from_a_key_file_to_a_passphrase_and_to_another(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("a.key");
    let vault = database.create_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    vault.rewrap(passphrase("first")).run().await.unwrap();
    let error = Vault::open(database.url(), &spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");

    let vault = builder(&database, "first").build().await.unwrap();
    vault.rewrap(passphrase("second")).run().await.unwrap();
    let error = builder(&database, "first").build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyMismatch, "{error}");
    let vault = builder(&database, "second").build().await.unwrap();
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
}
