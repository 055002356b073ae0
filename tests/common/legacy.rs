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

/// A credential as the old service writes it.
pub struct LegacyValue {
    credential_type: String,
    pub stored: String,
    pub fields: Value,
    /// As `2026-12-31 23:59:59.123456`, in UTC.
    pub expires_at: Option<String>,
}

/// The credentials of the vectors.
pub fn legacy_values() -> Vec<LegacyValue> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let value = |row: &Value| LegacyValue {
        credential_type: text(&row["credential_type"]).unwrap(),
        stored: text(&row["stored"]).unwrap(),
        fields: row["fields"].clone(),
        expires_at: text(&row["expires_at"]),
    };
    vectors["rows"].as_array().unwrap().iter().map(value).collect()
}

/// Writes a credential as the old service does, in place of one that is there.
pub async fn write(
    database: &TestDatabase,
    integration: IntegrationId,
    value: &LegacyValue,
) -> Result<u64, sqlx::Error> {
    let expires_at = match &value.expires_at {
        None => "NULL".to_owned(),
        Some(text) if database.dialect() == Dialect::Postgres => format!("'{text}'"),
        Some(text) => {
            format!("unixepoch('{}') * 1000000 + {}", &text[..19], text[20..].parse::<u32>().unwrap())
        }
    };
    database
        .try_execute(&format!(
            "INSERT INTO integration_credentials
                    (id, integration_id, credential_type, credential_data_encrypted, expires_at, encryption_key_id)
             VALUES ('{}', '{integration}', '{}', '{}', {expires_at}, 'v1')
                 ON CONFLICT (integration_id) DO UPDATE
                SET credential_type = excluded.credential_type,
                    credential_data_encrypted = excluded.credential_data_encrypted,
                    expires_at = excluded.expires_at,
                    encryption_key_id = excluded.encryption_key_id",
            Uuid::new_v4(),
            value.credential_type,
            value.stored,
        ))
        .await
}

/// Writes all rows of the vectors as the old service did, each for an organization of its own.
pub async fn add_legacy_rows(database: &TestDatabase) -> Vec<LegacyRow> {
    let mut rows = Vec::new();
    for value in legacy_values() {
        let (organization, integration) = database.add_tenant().await;
        write(database, integration, &value).await.unwrap();
        rows.push(LegacyRow { organization, integration, stored: value.stored, fields: value.fields });
    }
    rows
}
