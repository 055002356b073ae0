//! Rows of the service that was there before.

use credvault::{ExposeSecret, LegacySalt, Outcome, Phase, Vault};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::common::service::{Halted, Service, Tenant};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

const LEGACY: &str = include_str!("../vectors/legacy_vectors.json");

/// A legacy row and what is in it.
struct LegacyRow {
    tenant: Tenant,
    fields: Value,
}

fn legacy() -> Value {
    serde_json::from_str(LEGACY).unwrap()
}

/// An expiry as the column holds it.
fn column_time(dialect: Dialect, text: Option<&str>) -> String {
    match (dialect, text) {
        (_, None) => "NULL".to_owned(),
        (Dialect::Postgres, Some(text)) => format!("'{text}'"),
        (Dialect::Sqlite, Some(text)) => {
            let micros: u32 = text.get(20..).map_or(0, |micros| micros.parse().unwrap());
            format!("unixepoch('{}') * 1000000 + {micros}", &text[..19])
        }
    }
}

/// Writes the legacy rows as that service does, for new tenants.
async fn write_legacy_rows(service: &Service) -> Vec<LegacyRow> {
    let legacy = legacy();
    let rows = legacy["rows"].as_array().unwrap();
    let tenants = service.add_tenants(rows.len()).await;
    let mut written = Vec::new();
    for (row, tenant) in rows.iter().zip(tenants) {
        service
            .database
            .execute(&format!(
                "INSERT INTO integration_credentials
                     (id, integration_id, credential_type, credential_data_encrypted, expires_at, encryption_key_id)
                 VALUES ('{}', '{}', '{}', '{}', {}, 'v1')",
                Uuid::new_v4(),
                tenant.integration,
                row["credential_type"].as_str().unwrap(),
                row["stored"].as_str().unwrap(),
                column_time(service.database.dialect(), row["expires_at"].as_str()),
            ))
            .await;
        written.push(LegacyRow { tenant, fields: row["fields"].clone() });
    }
    written
}

async fn adopt(vault: &Vault) {
    let salt = legacy()["encryption_salt"].as_str().unwrap().as_bytes().to_vec();
    vault.adoption(LegacySalt::new(Zeroizing::new(salt))).run().await.unwrap();
}

async fn set_phase(service: &Service, phase: &str) {
    service.database.execute(&format!("UPDATE vault_identity SET phase = '{phase}'")).await;
}

async fn assert_opens(vault: &Vault, row: &LegacyRow) {
    let stored = vault.organization(row.tenant.organization).get(row.tenant.integration).await;
    let stored = stored.unwrap().unwrap();
    let opened: Value = stored
        .credential
        .fields()
        .map(|(name, value)| (name.to_owned(), Value::from(value.expose_secret())))
        .collect();
    assert_eq!(opened, row.fields);
    // In the column the legacy expiry, sealed from then on.
    let summary = vault.organization(row.tenant.organization).describe(row.tenant.integration).await;
    assert_eq!(stored.credential.expires_at(), summary.unwrap().unwrap().expires_at);
}

async fn legacy_rows_stand_until_their_phase_and_follow_then(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let own = service.add_tenants_with_tokens(&vault, 3).await.len() as u64;
    let mut rows = write_legacy_rows(&service).await;
    let legacy_rows = async || {
        let all = service.rows().await;
        all.into_iter().filter(|row| row[2].as_deref() == Some("v1")).collect::<Vec<_>>()
    };
    let before = legacy_rows().await;
    let count = rows.len() as u64;

    // Before the adoption and in the phase observe they are no work, and are counted on a line of their own.
    for phase in [Phase::None, Phase::Observe] {
        if phase == Phase::Observe {
            adopt(&vault).await;
        }
        assert_eq!(vault.status().await.unwrap().phase, phase);
        let report = vault.rotation().force().run().await.unwrap();
        assert_eq!((report.outcome, report.re_encrypted, report.legacy), (Outcome::Complete, own, count));
        assert_eq!((report.remaining, report.quarantined), (0, 0));
        assert_eq!(legacy_rows().await, before, "legacy rows were touched");
    }

    // From then on they are; and the service that was there before goes on writing, between the pages, too.
    set_phase(&service, "re-encrypt").await;
    let halted = Halted::after_first_page(vault.rotation().batch_size(2).unwrap()).await;
    rows.extend(write_legacy_rows(&service).await);
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.legacy), (Outcome::Complete, 2 * count, 0));
    rows.extend(write_legacy_rows(&service).await);
    for row in &rows {
        assert_opens(&vault, row).await;
    }
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, count));
    assert!(legacy_rows().await.is_empty());
    for row in &rows {
        assert_opens(&vault, row).await;
    }
    service.assert_all_current(&vault).await;
}

async fn an_expiry_written_between_read_and_swap_is_not_lost(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let rows = write_legacy_rows(&service).await;
    adopt(&vault).await;
    set_phase(&service, "re-encrypt").await;
    let (victim, poison) = (&rows[0], service.add_tenants_with_tokens(&vault, 1).await[0]);
    service.tamper_with(poison).await;
    // The poisoned row is read on the same page, and put in quarantine before the page is written.
    let later = column_time(service.database.dialect(), Some("2031-02-03 04:05:06.789012"));
    service.change_at_quarantine(victim.tenant, &format!("expires_at = {later}")).await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.lost_to_concurrent_writes), (Outcome::Quarantine, 1));
    let stored = vault.organization(victim.tenant.organization).get(victim.tenant.integration).await;
    assert_eq!(
        stored.unwrap().unwrap().credential.expires_at(),
        Some(time::macros::datetime!(2031-02-03 04:05:06.789012 UTC)),
        "the later expiry was lost"
    );
    for row in &rows {
        assert_opens(&vault, row).await;
    }
}

on_both_stores!(
    legacy_rows_stand_until_their_phase_and_follow_then,
    an_expiry_written_between_read_and_swap_is_not_lost,
);
