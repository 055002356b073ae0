//! The rows of the service that was there before the vault, as it wrote them.

use credvault::{IntegrationId, LegacySalt, OrganizationId};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Dialect, TestDatabase};

const VECTORS: &str = include_str!("../vectors/legacy_vectors.json");

/// A row of the old service, and what is in it.
pub struct LegacyRow {
    pub organization: OrganizationId,
    pub integration: IntegrationId,
    pub stored: String,
    pub fields: Value,
}

/// The salt of the old service.
pub fn legacy_salt() -> String {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors["encryption_salt"].as_str().unwrap().to_owned()
}

/// A salt as the vault takes it.
pub fn salt(text: &str) -> LegacySalt {
    LegacySalt::new(Zeroizing::new(text.as_bytes().to_vec()))
}

/// Writes all rows of the vectors as the old service did, each for an organization of its own.
pub async fn add_legacy_rows(database: &TestDatabase) -> Vec<LegacyRow> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut rows = Vec::new();
    for row in vectors["rows"].as_array().unwrap() {
        let (organization, integration) = database.add_tenant().await;
        let stored = row["stored"].as_str().unwrap().to_owned();
        let expires_at = match row["expires_at"].as_str() {
            None => "NULL".to_owned(),
            Some(text) if database.dialect() == Dialect::Postgres => format!("'{text}'"),
            Some(text) => {
                format!("unixepoch('{}') * 1000000 + {}", &text[..19], text[20..].parse::<u32>().unwrap())
            }
        };
        database
            .execute(&format!(
                "INSERT INTO integration_credentials
                        (id, integration_id, credential_type, credential_data_encrypted, expires_at, encryption_key_id)
                 VALUES ('{}', '{integration}', '{}', '{stored}', {expires_at}, 'v1')",
                Uuid::new_v4(),
                row["credential_type"].as_str().unwrap(),
            ))
            .await;
        rows.push(LegacyRow { organization, integration, stored, fields: row["fields"].clone() });
    }
    rows
}
