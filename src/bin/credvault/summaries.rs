//! What is known of credentials without opening any: `describe`, `expiring`.

use credvault::Summary;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::arguments::{Address, Expiring, Global};
use crate::connection;
use crate::credentials::{find, no_credential};
use crate::failure::{Exit, usage};
use crate::output::{self, Report};

/// `credvault describe`.
pub(crate) async fn describe(global: &Global, address: &Address) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let organization = vault.organization(address.organization);
    let integration = find(&organization, &address.integration).await?;
    let summary =
        organization.describe(integration).await?.ok_or_else(|| no_credential(integration, &organization))?;
    let text = output::facts(&[
        ("organization", summary.organization_id.to_string()),
        ("integration", summary.integration_id.to_string()),
        ("connector", summary.connector_type.clone()),
        ("type", summary.credential_type.to_string()),
        ("expires", expiry(summary.expires_at)),
        ("created", output::moment(summary.created_at)),
        ("written", output::moment(summary.updated_at)),
        ("data key", data_key(&summary)),
    ]);
    Ok(Report::new("describe", Exit::Done, text, document(&summary)))
}

/// `credvault expiring`.
pub(crate) async fn expiring(global: &Global, expiring: &Expiring) -> anyhow::Result<Report> {
    let before = match (expiring.until.before, expiring.until.within) {
        (Some(before), _) => Some(before),
        (None, within) => time::Duration::try_from(within.unwrap_or_default())
            .ok()
            .and_then(|within| OffsetDateTime::now_utc().checked_add(within)),
    };
    let before = before.ok_or_else(|| usage("--within ends after the year 9999"))?;
    let vault = connection::open(global).await?;
    let credentials = vault.expiring(before, expiring.limit).await?;
    let is_full = credentials.len() as u64 >= u64::from(expiring.limit);
    let mut text = if credentials.is_empty() {
        format!("No credential expires before {}.\n", output::moment(before))
    } else {
        output::table(
            ["EXPIRES", "ORGANIZATION", "CONNECTOR", "INTEGRATION", "TYPE"],
            credentials.iter().map(|summary| {
                [
                    expiry(summary.expires_at),
                    summary.organization_id.to_string(),
                    summary.connector_type.clone(),
                    summary.integration_id.to_string(),
                    summary.credential_type.to_string(),
                ]
            }),
        )
    };
    if is_full {
        text.push_str("There may be more: a greater --limit shows them.\n");
    }
    let fields = json!({
        "before": output::rfc3339(before),
        "limit": expiring.limit,
        "credentials": credentials.iter().map(document).collect::<Vec<_>>(),
    });
    Ok(Report::new("expiring", Exit::Done, text, fields))
}

/// When a credential expires, for people.
pub(crate) fn expiry(expires_at: Option<OffsetDateTime>) -> String {
    expires_at.map_or_else(|| "never".to_owned(), output::moment)
}

/// The data key that a credential's row names, for people.
pub(crate) fn data_key(summary: &Summary) -> String {
    summary.key_id.map_or_else(|| "none".to_owned(), |key| key.to_string())
}

/// A credential's summary as JSON.
pub(crate) fn document(summary: &Summary) -> Value {
    json!({
        "organization_id": summary.organization_id.to_string(),
        "integration_id": summary.integration_id.to_string(),
        "connector": summary.connector_type,
        "credential_type": summary.credential_type.as_str(),
        "data_key_id": summary.key_id.map(|key| key.to_string()),
        "expires_at": summary.expires_at.map(output::rfc3339),
        "created_at": output::rfc3339(summary.created_at),
        "updated_at": output::rfc3339(summary.updated_at),
    })
}
