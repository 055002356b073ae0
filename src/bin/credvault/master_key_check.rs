//! Whether the master keys given suffice: `master-key check`.

use credvault::{ErrorKind, MasterKeyCheck, Vault, provider};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::connection::{self, Prompt};
use crate::failure::{self, Exit};
use crate::output::{self, Report};

/// `credvault master-key check`.
pub(crate) async fn run(global: &Global) -> anyhow::Result<Report> {
    let specs = connection::master_key_specs(global)?;
    let mut builder = Vault::builder().url(connection::database(global)?);
    for spec in &specs {
        // Not by way of `connection::master_key`: a file that isn't there is for the report, among the others.
        let given = match spec.as_str() {
            "passphrase:prompt" => connection::master_key(spec, Prompt::Once)?,
            spec => provider::from_spec(spec)?,
        };
        builder = builder.master_key_provider(given);
    }
    let check = builder.check_master_keys().await?;
    let exit = if check.passed() { Exit::Done } else { Exit::Findings };
    let fields = json!({
        "passed": check.passed(),
        "vault_id": check.vault.as_ref().ok().map(ToString::to_string),
        "vault_problem": check.vault.as_ref().err().map(failure::one_line),
        "given": given(&specs, &check),
        "needed": needed(&check),
    });
    Ok(Report::new("master-key check", exit, text(&specs, &check), fields))
}

fn text(specs: &[String], check: &MasterKeyCheck) -> String {
    let given = specs.iter().zip(&check.providers).map(|(spec, provider)| {
        let ids: Vec<String> = provider.master_key_ids.iter().map(ToString::to_string).collect();
        let holds = match &provider.problem {
            Some(error) => failure::one_line(error),
            None if ids.is_empty() => "a key, none that is needed".to_owned(),
            None => ids.join(", "),
        };
        [spec.clone(), holds]
    });
    let mut text = output::table(["GIVEN", "HOLDS"], given);
    text.push('\n');
    if !check.needed.is_empty() {
        let needed = check.needed.iter().map(|key| {
            [
                key.summary.id.to_string(),
                key.summary.state.as_str().to_owned(),
                output::count(key.summary.wraps, "data key"),
                key.problem.as_ref().map_or_else(|| "opens".to_owned(), failure::one_line),
            ]
        });
        text.push_str(&output::table(["NEEDED", "STATE", "WRAPS", "RESULT"], needed));
        text.push('\n');
    }
    text.push_str(&verdict(check));
    text.push('\n');
    text
}

fn verdict(check: &MasterKeyCheck) -> String {
    let missing = check.needed.iter().filter(|key| key.problem.is_some()).count() as u64;
    match &check.vault {
        _ if missing > 0 => format!(
            "The vault does not open: it needs {} that {} not given.",
            output::count(missing, "master key"),
            if missing == 1 { "was" } else { "were" }
        ),
        Err(error) if error.kind() != ErrorKind::NotInitialized => {
            format!("Not held to a vault: {}.", output::printable(&failure::one_line(error)))
        }
        _ if !check.passed() => "At least one of the master keys given can't be had.".to_owned(),
        Err(_) => {
            "There is no vault yet: `credvault init` makes one with the first of these keys.".to_owned()
        }
        Ok(vault) => format!("They open vault {vault}."),
    }
}

fn given(specs: &[String], check: &MasterKeyCheck) -> Vec<Value> {
    let document = |(spec, provider): (&String, &credvault::ProviderCheck)| {
        json!({
            "spec": spec,
            "provider": provider.kind,
            "master_key_ids": provider.master_key_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "problem": provider.problem.as_ref().map(failure::one_line),
        })
    };
    specs.iter().zip(&check.providers).map(document).collect()
}

fn needed(check: &MasterKeyCheck) -> Vec<Value> {
    let document = |key: &credvault::NeededMasterKey| {
        json!({
            "master_key_id": key.summary.id.to_string(),
            "provider": key.summary.provider,
            "state": key.summary.state.as_str(),
            "wraps": key.summary.wraps,
            "problem": key.problem.as_ref().map(failure::one_line),
        })
    };
    check.needed.iter().map(document).collect()
}
