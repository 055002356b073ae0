//! The check of the master keys that were given.

use std::sync::Arc;

use credvault::provider::{self, Argon2Parameters, Passphrase};
use credvault::{ErrorKind, MasterKeyCheck, Vault, VaultBuilder};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores};

on_both_stores!(
    the_keys_given_are_held_to_every_key_that_the_vault_needs,
    a_database_without_a_vault_leaves_the_keys_to_be_checked_by_themselves,
    a_passphrase_is_checked_by_what_it_opens,
);

fn with(database: &TestDatabase, specs: &[&str]) -> VaultBuilder {
    let builder = Vault::builder().url(database.url());
    specs.iter().fold(builder, |builder, spec| builder.master_key(spec).unwrap())
}

async fn check(database: &TestDatabase, specs: &[&str]) -> MasterKeyCheck {
    let before = database.dump().await;
    let check = with(database, specs).check_master_keys().await.unwrap();
    assert_eq!(database.dump().await, before, "nothing is written");
    check
}

/// The kind of what is wrong with each key that is needed.
fn problems(check: &MasterKeyCheck) -> Vec<Option<ErrorKind>> {
    check.needed.iter().map(|key| key.problem.as_ref().map(credvault::Error::kind)).collect()
}

async fn the_keys_given_are_held_to_every_key_that_the_vault_needs(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    let vault = database.create_vault(&first).await;

    let checked = check(&database, &[&first]).await;
    assert!(checked.passed(), "{checked:?}");
    assert_eq!(*checked.vault.as_ref().unwrap(), vault.id());
    assert_eq!(problems(&checked), [None]);
    assert_eq!(checked.providers[0].master_key_ids, [checked.needed[0].summary.id]);

    // A further key may be the next one; alone, it opens nothing.
    let checked = check(&database, &[&second, &first]).await;
    assert!(checked.passed(), "{checked:?}");
    let next = checked.providers[0].master_key_ids[0];
    let checked = check(&database, &[&second]).await;
    assert!(!checked.passed());
    assert_eq!(problems(&checked), [Some(ErrorKind::KeyUnavailable)]);
    assert!(checked.providers[0].problem.is_none());

    // Afterwards the first one wraps nothing, and is needed no more.
    vault.rewrap(provider::from_spec(&second).unwrap()).run().await.unwrap();
    let checked = check(&database, &[&second]).await;
    assert!(checked.passed(), "{checked:?}");
    assert_eq!(checked.needed.iter().map(|key| key.summary.id).collect::<Vec<_>>(), [next]);
    assert!(!check(&database, &[&first]).await.passed());

    // What yields no key is named, and does not hide what the others open.
    let checked = check(&database, &["file:/nowhere/no.key", &second]).await;
    assert!(!checked.passed());
    assert_eq!(checked.providers[0].problem.as_ref().unwrap().kind(), ErrorKind::Provider);
    assert!(checked.providers[1].problem.is_none());
    assert_eq!(problems(&checked), [None]);
}

async fn a_database_without_a_vault_leaves_the_keys_to_be_checked_by_themselves(database: TestDatabase) {
    let keys = KeyFiles::new();
    let key = keys.generate("master.key");
    let checked = with(&database, &[&key]).check_master_keys().await.unwrap();
    assert!(checked.passed(), "{checked:?}");
    assert_eq!(checked.vault.as_ref().unwrap_err().kind(), ErrorKind::NotInitialized);
    assert_eq!((checked.needed.len(), checked.providers[0].master_key_ids.len()), (0, 1));
    assert!(credvault::is_empty_database(database.url()).await.unwrap());

    for url in ["postgres://nobody@localhost/nowhere?host=/nowhere", "sqlite:/nowhere/vault.db"] {
        let builder = Vault::builder().url(url).master_key(&key).unwrap();
        let checked = builder.check_master_keys().await.unwrap();
        assert_eq!(checked.passed(), url.starts_with("sqlite"), "{checked:?}");
        assert_eq!(checked.providers[0].master_key_ids.len(), 1);
    }
    for builder in [Vault::builder().url(database.url()), Vault::builder().master_key(&key).unwrap()] {
        assert_eq!(builder.check_master_keys().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

async fn a_passphrase_is_checked_by_what_it_opens(database: TestDatabase) {
    let passphrase = |text: &str| {
        let parameters = Argon2Parameters::new(19_456, 2, 1).unwrap();
        Arc::new(Passphrase::from_secret(text.into()).with_parameters(parameters))
    };
    let given = |text| Vault::builder().url(database.url()).master_key_provider(passphrase(text));
    given("correct horse").create_if_missing().build().await.unwrap();

    let checked = given("correct horse").check_master_keys().await.unwrap();
    assert!(checked.passed(), "{checked:?}");
    assert_eq!(checked.providers[0].master_key_ids, [checked.needed[0].summary.id]);
    let checked = given("battery staple").check_master_keys().await.unwrap();
    assert!(!checked.passed());
    assert_eq!(problems(&checked), [Some(ErrorKind::KeyMismatch)]);
    assert!(checked.providers[0].master_key_ids.is_empty() && checked.providers[0].problem.is_none());
    assert!(!format!("{checked:?}").contains("battery"));
}
