//! What comes first: `init`, `migrate`, `master-key`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use credvault::provider::{KeyFile, MasterKeyText};
use credvault::{ErrorKind, ExposeSecret, Vault, VaultBuilder};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{Global, MasterKey};
use crate::connection::{self, Prompt};
use crate::failure::{Exit, usage};
use crate::master_key_check;
use crate::master_key_refresh;
use crate::output::{self, Report};
use crate::standard_streams;

/// What to do about a master key.
pub(crate) const BACK_IT_UP: &str =
    "Back this master key up, apart from the database: without it everything in the vault is lost.";

/// What to do about a master key that a key service wraps.
pub(crate) const KEEP_THE_SERVICES_KEY: &str =
    "See that the key service's own key can't get lost: without it everything in the vault is lost.";

/// `credvault init`.
pub(crate) async fn init(global: &Global) -> anyhow::Result<Report> {
    let url = connection::database(global)?;
    let keys = connection::master_keys(global, Prompt::Twice)?;
    let builder = || -> VaultBuilder {
        let builder = Vault::builder().url(url.clone());
        keys.iter().fold(builder, |builder, key| builder.master_key_provider(Arc::clone(key)))
    };
    // Only asks; where the vault's schema is of an older version, `create_if_missing` migrates it, and says the rest.
    let was_there = match builder().build().await {
        Err(error) => error.kind() != ErrorKind::NotInitialized,
        Ok(_) => true,
    };
    let vault = builder().create_if_missing().build().await?;
    let status = vault.status().await?;
    let needed = || status.master_keys.iter().filter(|key| key.wraps > 0);
    let master_keys: Vec<String> = needed().map(|key| key.id.to_string()).collect();
    // Only a service's is to be had again after a while.
    let keep = match needed().all(|key| key.usable_for.is_some()) {
        true => KEEP_THE_SERVICES_KEY,
        false => BACK_IT_UP,
    };
    let what = if was_there {
        format!("Vault {} is there already, and opens with this master key.", vault.id())
    } else {
        format!("Vault {} is ready.", vault.id())
    };
    Ok(Report::new(
        "init",
        Exit::Done,
        format!("{what}\nIts master key is {}.\n{keep}\n", master_keys.join(", ")),
        json!({ "vault_id": vault.id().to_string(), "created": !was_there, "master_key_ids": master_keys }),
    ))
}

/// `credvault migrate`.
pub(crate) async fn migrate(global: &Global, dry_run: bool) -> anyhow::Result<Report> {
    let url = connection::database(global)?;
    let migrations = match dry_run {
        true => credvault::pending_migrations(&url).await?,
        false => credvault::migrate(&url).await?,
    };
    let mut text = match (migrations.is_empty(), dry_run) {
        (true, _) => "The database has the schema of this version.\n",
        (false, true) => "These would be applied; nothing was written.\n",
        (false, false) => "These were applied.\n",
    }
    .to_owned();
    for migration in &migrations {
        // Writing to memory does not fail.
        let _ = writeln!(text, "  {:03} {}", migration.version, migration.description);
    }
    let migrations: Vec<Value> = migrations
        .iter()
        .map(|migration| json!({ "number": migration.version, "description": migration.description }))
        .collect();
    let fields = json!({ "dry_run": dry_run, "migrations": migrations });
    Ok(Report::new("migrate", Exit::Done, text, fields))
}

/// `credvault master-key`.
pub(crate) async fn master_key(global: &Global, command: &MasterKey) -> anyhow::Result<Report> {
    match command {
        MasterKey::Generate { out, reveal } => generate(out.as_deref(), *reveal),
        MasterKey::Check => master_key_check::run(global).await,
        MasterKey::Refresh => master_key_refresh::run(global).await,
    }
}

fn generate(out: Option<&Path>, reveal: bool) -> anyhow::Result<Report> {
    const COMMAND: &str = "master-key generate";
    if let Some(path) = out {
        let id = KeyFile::generate(path)?;
        return Ok(Report::new(
            COMMAND,
            Exit::Done,
            format!("Master key {id} is in {path:?}, which only you can read.\n{BACK_IT_UP}\n"),
            json!({ "master_key_id": id.to_string(), "path": path.to_string_lossy() }),
        ));
    }
    if standard_streams::shows_on_a_terminal() && !reveal {
        return Err(usage(
            "give --out PATH to make a key file, or --reveal to print the key on this terminal",
        ));
    }
    let key = MasterKeyText::generate()?;
    let secret = key.text().expose_secret();
    let mut text = Zeroizing::new(String::with_capacity(secret.len() + 1));
    text.push_str(secret);
    text.push('\n');
    let begin = format!(r#"{},"master_key_id":"{}","master_key":"#, output::open_document(COMMAND), key.id());
    let mut json = Zeroizing::new(String::with_capacity(begin.len() + 6 * secret.len() + 4));
    json.push_str(&begin);
    output::push_json(&mut json, secret)?;
    json.push_str("}\n");
    Ok(Report::secret(text, json))
}
