//! A data key of an organization's own, under the vault's master key or its own: `keys create`.

use std::sync::Arc;

use credvault::provider::MasterKeyProvider;
use credvault::{Error, ErrorKind, MasterKeyId, OrganizationId, Outcome, Vault};
use serde_json::json;

use crate::arguments::Global;
use crate::connection::{self, Prompt};
use crate::failure::Exit;
use crate::output::Report;
use crate::rotation::owner;
use crate::rotation::report::held;

/// `credvault keys create`.
pub(super) async fn run(global: &Global, organization: OrganizationId) -> anyhow::Result<Report> {
    let (vault, master_key) = match connection::own_master_key(global)? {
        None => (connection::open(global).await?, None),
        Some((vaults, own)) => {
            let own = connection::master_key(&own, Prompt::Once)?;
            let mut keys: Vec<Arc<dyn MasterKeyProvider>> = Vec::new();
            for spec in &vaults {
                keys.push(connection::master_key(spec, Prompt::Once)?);
            }
            // One that it has already is among those that open.
            keys.push(Arc::clone(&own));
            let vault = connection::open_with(connection::database(global)?, keys).await?;
            let master_key = give(&vault, organization, own).await?;
            (vault, Some(master_key))
        }
    };
    let id = vault.keys().create(organization).await?;
    let under = master_key.map_or_else(String::new, |key| format!(", under its own master key {key},"));
    let text = format!(
        "Organization {organization} has its own data key {id}{under} from now on.\n\
         What it wrote before follows with the next `credvault rotate`.\n"
    );
    let fields = json!({
        "organization_id": organization.to_string(),
        "data_key_id": id.to_string(),
        "master_key_id": master_key.map(|key| key.to_string()),
    });
    Ok(Report::new("keys create", Exit::Done, text, fields))
}

/// Gives an organization a master key of its own, which wraps the data keys that it has.
async fn give(
    vault: &Vault,
    organization: OrganizationId,
    own: Arc<dyn MasterKeyProvider>,
) -> anyhow::Result<MasterKeyId> {
    let report = vault.rewrap(own).organization(organization).owner(owner()).run().await?;
    match report.outcome {
        Outcome::Complete => Ok(report.master_key),
        outcome => Err(Error::new(ErrorKind::Conflict, held(&outcome)).into()),
    }
}
