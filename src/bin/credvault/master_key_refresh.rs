//! New records for master keys under a key service: `master-key refresh`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::arguments::Global;
use crate::connection;
use crate::failure::Exit;
use crate::output::Report;

/// `credvault master-key refresh`.
pub(crate) async fn run(global: &Global) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let keys = vault.refresh_master_keys().await?;
    let mut text = String::new();
    for key in &keys {
        let (id, provider) = (key.id, &key.provider);
        // Writing to memory does not fail.
        let _ = match key.refreshed {
            true => writeln!(text, "Master key {id} has a new record of its key service ({provider})."),
            false => {
                writeln!(text, "Master key {id} ({provider}) is wrapped by no key service: nothing to do.")
            }
        };
    }
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "master_key_id": key.id.to_string(),
                "provider": key.provider,
                "refreshed": key.refreshed,
            })
        })
        .collect();
    Ok(Report::new("master-key refresh", Exit::Done, text, json!({ "master_keys": keys })))
}
