//! The data keys: `keys list`, `keys create`.

use credvault::DataKeySummary;
use serde_json::{Value, json};

use crate::arguments::{Global, Keys};
use crate::connection;
use crate::failure::Exit;
use crate::output::{self, Report};

/// `credvault keys`.
pub(crate) async fn run(global: &Global, command: &Keys) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    match *command {
        Keys::List => {
            let keys = vault.keys().list().await?;
            let fields = json!({ "data_keys": documents(&keys) });
            Ok(Report::new("keys list", Exit::Done, table(&keys), fields))
        }
        Keys::Create { organization } => {
            let id = vault.keys().create(organization).await?;
            let text = format!(
                "Organization {organization} has its own data key {id} from now on.\n\
                 What it wrote before follows with the next `credvault rotate`.\n"
            );
            let fields =
                json!({ "organization_id": organization.to_string(), "data_key_id": id.to_string() });
            Ok(Report::new("keys create", Exit::Done, text, fields))
        }
    }
}

/// The data keys as a table; without the legacy key's placeholder where no legacy key was adopted.
pub(crate) fn table(keys: &[DataKeySummary]) -> String {
    let row = |key: &DataKeySummary| {
        [
            key.id.to_string(),
            key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            state(key),
            output::grouped(key.rows),
            output::moment(key.activated_at.unwrap_or(key.created_at)),
        ]
    };
    let is_shown = |key: &&DataKeySummary| !key.id.is_legacy() || key.rows > 0 || key.master_key_id.is_some();
    output::table(
        ["DATA KEY", "ORGANIZATION", "STATE", "ROWS", "SINCE"],
        keys.iter().filter(is_shown).map(row),
    )
}

fn state(key: &DataKeySummary) -> String {
    match key.compromised_at {
        Some(_) => format!("{}, compromised", key.state.as_str()),
        None => key.state.as_str().to_owned(),
    }
}

/// The data keys as JSON.
pub(crate) fn documents(keys: &[DataKeySummary]) -> Vec<Value> {
    let document = |key: &DataKeySummary| {
        json!({
            "data_key_id": key.id.to_string(),
            "organization_id": key.organization_id.map(|id| id.to_string()),
            "state": key.state.as_str(),
            "rows": key.rows,
            "master_key_id": key.master_key_id.map(|id| id.to_string()),
            "created_at": output::rfc3339(key.created_at),
            "activated_at": key.activated_at.map(output::rfc3339),
            "compromised_at": key.compromised_at.map(output::rfc3339),
        })
    };
    keys.iter().map(document).collect()
}
