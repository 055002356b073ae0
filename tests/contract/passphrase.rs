//! A vault whose master key is made from a passphrase.

use std::sync::Arc;

use credvault::provider::{Argon2Parameters, Passphrase};
use credvault::{ErrorKind, Vault, VaultBuilder};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read_token, token};

on_both_stores!(
    a_vault_opens_with_its_passphrase_alone,
    a_rewrap_leads_from_a_key_file_to_a_passphrase_and_to_another,
    a_record_that_was_changed_in_the_database_is_refused_and_named,
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
    let master = vault.status().await.unwrap().master_keys[0].id;
    let says = format!("the master key given is not master key {master} of this vault");
    for wrong in ["correct horse\n", "Correct horse", "x"] {
        let error = builder(&database, wrong).build().await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::KeyMismatch, says.clone()));
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

async fn a_record_that_was_changed_in_the_database_is_refused_and_named(database: TestDatabase) {
    let vault = builder(&database, "correct horse").create_if_missing().build().await.unwrap();
    let id = vault.status().await.unwrap().master_keys[0].id;
    let right = database.fetch_one_text("SELECT provider_record FROM vault_master_keys").await.unwrap();
    let with = |from: &str, to: &str| right.replacen(from, to, 1);
    let of_another_salt = match right.strip_suffix('A') {
        Some(rest) => format!("{rest}Q"),
        None => format!("{}A", &right[..right.len() - 1]),
    };
    for (record, kind, says) in [
        (with("m=19456", "m=19455"), ErrorKind::Refused, "19456"),
        (with("m=19456,t=2", "m=8,t=1"), ErrorKind::Refused, "19456"),
        (with("m=19456", "m=1048577"), ErrorKind::Refused, "1048576"),
        (with("t=2", "t=4294967295"), ErrorKind::Refused, "argon2id"),
        (with("m=19456", "m=+19456"), ErrorKind::Malformed, "as a passphrase's record is written"),
        (with("argon2id", "argon2d"), ErrorKind::Unsupported, "only argon2id"),
        (String::new(), ErrorKind::Malformed, "as a passphrase's record is written"),
        // Allowed, and not what the key was made with.
        (with("t=2", "t=3"), ErrorKind::KeyMismatch, "is not master key"),
        (with("m=19456", "m=19457"), ErrorKind::KeyMismatch, "is not master key"),
        (of_another_salt, ErrorKind::KeyMismatch, "is not master key"),
    ] {
        let set = |record: &str| format!("UPDATE vault_master_keys SET provider_record = '{record}'");
        database.execute(&set(&record)).await;
        let error = builder(&database, "correct horse").build().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{record}: {text}");
        assert!(text.contains(says) && text.contains(&id.to_string()), "{record}: {text}");
        database.execute(&set(&right)).await;
    }
    builder(&database, "correct horse").build().await.unwrap();
}
