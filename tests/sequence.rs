//! A vault's life in one sequence, beside the rows of the service that was there before, on both stores.
#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{KeyFiles, TestDatabase, on_both_stores};
use credvault::{
    Credential, CredentialType, ErrorKind, ExposeSecret, LegacySalt, Outcome, Phase, Vault, provider,
};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

const LEGACY: &str = include_str!("vectors/legacy_vectors.json");

/// Writes the legacy rows as the service that was there before did; gives (organization, integration, fields).
async fn add_legacy_rows(database: &TestDatabase, legacy: &Value) -> Vec<(Uuid, Uuid, Value)> {
    let mut rows = Vec::new();
    for row in legacy["rows"].as_array().unwrap() {
        let (organization, integration) = database.add_tenant().await;
        let (organization, integration) = (*organization.as_uuid(), *integration.as_uuid());
        let expires_at = match row["expires_at"].as_str() {
            None => "NULL".to_owned(),
            Some(text) if database.dialect() == common::Dialect::Postgres => format!("'{text}'"),
            Some(text) => {
                format!("unixepoch('{}') * 1000000 + {}", &text[..19], text[20..].parse::<u32>().unwrap())
            }
        };
        database
            .execute(&format!(
                "INSERT INTO integration_credentials
                        (id, integration_id, credential_type, credential_data_encrypted, expires_at, encryption_key_id)
                 VALUES ('{}', '{integration}', '{}', '{}', {expires_at}, 'v1')",
                Uuid::new_v4(),
                row["credential_type"].as_str().unwrap(),
                row["stored"].as_str().unwrap(),
            ))
            .await;
        rows.push((organization, integration, row["fields"].clone()));
    }
    rows
}

async fn assert_opens(vault: &Vault, organization: Uuid, integration: Uuid, fields: &Value) {
    let stored = vault.organization(organization).get(integration).await.unwrap().unwrap();
    let opened: Value = stored
        .credential
        .fields()
        .map(|(name, value)| (name.to_owned(), Value::from(value.expose_secret())))
        .collect();
    assert_eq!(&opened, fields);
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
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let legacy_rows = add_legacy_rows(&database, &legacy).await;
    let salt = |text: &str| LegacySalt::new(Zeroizing::new(text.as_bytes().to_vec()));
    let error = vault.adoption(salt("another salt\n")).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("newline"), "{error}");
    let report = vault.adoption(salt(legacy["encryption_salt"].as_str().unwrap())).run().await.unwrap();
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
    for (organization, integration, fields) in &legacy_rows {
        assert_opens(&vault, *organization, *integration, fields).await;
        assert!(vault.organization(Uuid::new_v4()).get(*integration).await.unwrap().is_none());
    }

    let verification = vault.verify().run().await.unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
    assert_eq!(verification.rows_opened, 1 + legacy_rows.len() as u64);
    assert_eq!(verification.keys_checked, 3);
    let status = vault.status().await.unwrap();
    assert_eq!((status.phase, status.stale_rows, status.quarantined_rows), (Phase::Observe, 0, 0));
}

on_both_stores!(init_put_get_rotate_get_rewrap_get_verify);
