//! A vault's life in one sequence, beside the rows of the service that was there before, on both stores.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod common;

use common::legacy::{LegacyRow, add_legacy_rows, legacy_salt, salt};
use common::{KeyFiles, TestDatabase, on_both_stores};
use credvault::{Credential, CredentialType, ErrorKind, ExposeSecret, Outcome, Phase, Vault, provider};
use serde_json::Value;
use uuid::Uuid;

async fn assert_opens(vault: &Vault, row: &LegacyRow) {
    let stored = vault.organization(row.organization).get(row.integration).await.unwrap().unwrap();
    let opened: Value = stored
        .credential
        .fields()
        .map(|(name, value)| (name.to_owned(), Value::from(value.expose_secret())))
        .collect();
    assert_eq!(opened, row.fields);
}

async fn init_put_get_rotate_get_rewrap_get_verify(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));

    let error = Vault::open(database.url(), &first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");

    let vault = Vault::builder()
        .url(database.url())
        .master_key(&first)
        .unwrap()
        .master_key(&second)
        .unwrap()
        .create_if_missing()
        .build()
        .await
        .unwrap();

    // The rows of the service that was there before.
    let legacy_rows = add_legacy_rows(&database).await;
    let error = vault.adoption(salt("another salt\n")).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("newline"), "{error}");
    let report = vault.adoption(salt(&legacy_salt())).run().await.unwrap();
    assert_eq!((report.rows_tried, report.rows_opened), (legacy_rows.len() as u64, legacy_rows.len() as u64));

    let (organization, integration) = database.add_tenant().await;
    let github = vault.organization(organization);
    let token = Credential::new(CredentialType::token()).with_field("access_token", "ghp_0123456789");
    let revision = github.put(integration, &token).await.unwrap();
    let read = async || {
        let stored = github.get(integration).await.unwrap().unwrap();
        assert_eq!(stored.credential.field("access_token").unwrap().expose_secret(), "ghp_0123456789");
        stored.revision
    };
    assert_eq!(read().await, revision);

    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!((report.re_encrypted, report.remaining, report.quarantined), (1, 0, 0));
    assert_eq!(report.legacy, legacy_rows.len() as u64);
    assert_eq!(report.new_keys.len(), 1);
    let rotated = read().await;
    assert_ne!(rotated, revision);
    let again = vault.rotation().run().await.unwrap();
    assert_eq!((again.new_keys.len(), again.re_encrypted, again.already_current), (0, 0, 1));
    assert_eq!(again.legacy, legacy_rows.len() as u64);

    let to = provider::from_spec(&second).unwrap();
    let report = vault.rewrap(to).run().await.unwrap();
    // Two data keys and the legacy one.
    assert_eq!((report.outcome, report.rewrapped, report.already_current), (Outcome::Complete, 3, 0));
    assert_eq!(read().await, rotated, "a rewrap touches no row");

    // The first master key is no longer needed, and is no longer enough.
    assert_eq!(Vault::open(database.url(), &first).await.unwrap_err().kind(), ErrorKind::KeyUnavailable);
    let vault = Vault::open(database.url(), &second).await.unwrap();
    for row in &legacy_rows {
        assert_opens(&vault, row).await;
        assert!(vault.organization(Uuid::new_v4()).get(row.integration).await.unwrap().is_none());
    }

    let verification = vault.verify().run().await.unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
    assert_eq!(verification.rows_opened, 1 + legacy_rows.len() as u64);
    assert_eq!(verification.keys_checked, 3);
    let status = vault.status().await.unwrap();
    assert_eq!((status.phase, status.stale_rows, status.quarantined_rows), (Phase::Observe, 0, 0));
}

on_both_stores!(init_put_get_rotate_get_rewrap_get_verify);
