//! From flags and environment to a vault: which database, which master keys.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use credvault::provider::{self, Argon2Parameters, MasterKeyProvider, Passphrase};
use credvault::{SecretText, Vault};

use crate::arguments::Global;
use crate::failure::usage;
use crate::hidden_input;

/// The database where none is named: a file in the current folder, which needs no server.
const DEFAULT_DATABASE: &str = "sqlite:credvault.db";

/// How a passphrase is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Once: it opens what is there.
    Once,
    /// Twice: a slip of the finger would make a key that nobody can make again.
    Twice,
}

/// The URL of the database: the flag, else the environment, else a file in the current folder.
///
/// # Errors
///
/// `InvalidInput` for a flag that holds a password.
pub(crate) fn database(global: &Global) -> anyhow::Result<String> {
    if let Some(url) = &global.database {
        return without_password(url);
    }
    Ok(first_set(&["CREDVAULT_DATABASE", "DATABASE_URL"])?
        .map_or_else(|| DEFAULT_DATABASE.to_owned(), |(_, url)| url))
}

/// The URL of the flag, unless it holds a password.
///
/// # Errors
///
/// `InvalidInput`; the URL is not repeated.
pub(crate) fn without_password(url: &str) -> anyhow::Result<String> {
    if has_password(url) {
        return Err(usage(
            "--database holds a password, which everybody on this machine can read in the list of processes: \
             put the URL into DATABASE_URL, or the password into the file that PGPASSFILE names",
        ));
    }
    Ok(url.to_owned())
}

/// Whether a URL holds a password, read generously: a URL that is malformed may hold one all the same.
fn has_password(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or(("", ""));
    let user_info = rest.rsplit_once('@').map_or("", |(user_info, _)| user_info);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let names_one = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default().to_lowercase();
        // A name that is percent-encoded spells something that need not be spelled so.
        name.contains("password") || name.contains('%')
    };
    user_info.contains(':') || query.split(['&', ';']).any(names_one)
}

/// The master keys: the flags, else those of the environment.
///
/// # Errors
///
/// `InvalidInput` if there is none, or one is of no known form.
pub(crate) fn master_keys(
    global: &Global,
    prompt: Prompt,
) -> anyhow::Result<Vec<Arc<dyn MasterKeyProvider>>> {
    master_key_specs(global)?.iter().map(|spec| master_key(spec, prompt)).collect()
}

/// What says where the master keys are: the flags, else the words of the environment's variable.
///
/// # Errors
///
/// `InvalidInput` if there is none.
pub(crate) fn master_key_specs(global: &Global) -> anyhow::Result<Vec<String>> {
    let specs = match global.master_key.is_empty() {
        true => specs_of_environment()?,
        false => global.master_key.clone(),
    };
    if specs.is_empty() {
        return Err(usage(
            "no master key was given: use --master-key file:PATH or CREDVAULT_MASTER_KEY; \
             `credvault master-key generate --out PATH` makes one for a new vault",
        ));
    }
    Ok(specs)
}

/// The vault's master keys, of the environment, and the one of the flags, where there are both: an organization's own.
///
/// # Errors
///
/// `InvalidInput` if several are given by flags.
pub(crate) fn own_master_key(global: &Global) -> anyhow::Result<Option<(Vec<String>, String)>> {
    let vaults = specs_of_environment()?;
    match global.master_key.as_slice() {
        [] => Ok(None),
        _ if vaults.is_empty() => Ok(None),
        [own] => Ok(Some((vaults, own.clone()))),
        _ => Err(usage("an organization has one master key of its own: give one --master-key")),
    }
}

fn specs_of_environment() -> anyhow::Result<Vec<String>> {
    let specs = first_set(&["CREDVAULT_MASTER_KEY"])?.map(|(_, specs)| specs).unwrap_or_default();
    Ok(specs.split_whitespace().map(str::to_owned).collect())
}

/// The master key that `spec` says.
///
/// # Errors
///
/// `InvalidInput` if it is of no known form; another if it names a file that isn't there.
pub(crate) fn master_key(spec: &str, prompt: Prompt) -> anyhow::Result<Arc<dyn MasterKeyProvider>> {
    if spec == "passphrase:prompt" {
        return Ok(Arc::new(Passphrase::from_secret(ask(prompt)?)));
    }
    let provider = provider::from_spec(spec)?;
    if let Some(path) = spec.strip_prefix("file:")
        && let Ok(false) = Path::new(path).try_exists()
    {
        anyhow::bail!(
            "there is no key file {path:?}; `credvault master-key generate --out PATH` makes one for a new vault"
        );
    }
    Ok(provider)
}

/// The master key of the passphrase that `spec` says, made with other parameters of argon2id than usual.
///
/// # Errors
///
/// `InvalidInput` if it is none.
pub(crate) fn passphrase(
    spec: &str,
    prompt: Prompt,
    parameters: Argon2Parameters,
) -> anyhow::Result<Arc<dyn MasterKeyProvider>> {
    let passphrase = if spec == "passphrase:prompt" {
        Passphrase::from_secret(ask(prompt)?)
    } else {
        // It says what is wrong with any other form.
        provider::from_spec(spec)?;
        match (spec.strip_prefix("passphrase:env:"), spec.strip_prefix("passphrase:file:")) {
            (Some(name), _) => Passphrase::from_environment(name)?,
            (_, Some(path)) => Passphrase::from_file(path),
            _ => {
                return Err(usage(
                    "--argon2 is for a passphrase: a key file or variable holds its key itself",
                ));
            }
        }
    };
    Ok(Arc::new(passphrase.with_parameters(parameters)))
}

/// Asks for a passphrase at the terminal, whatever standard input is.
fn ask(prompt: Prompt) -> anyhow::Result<SecretText> {
    let read = |prompt: &str| {
        let typed = hidden_input::ask(prompt);
        typed.context("`passphrase:prompt` needs a terminal to ask at; use passphrase:file:PATH without one")
    };
    match prompt {
        Prompt::Once => Ok(read("Passphrase: ")?.into()),
        Prompt::Twice => {
            let (passphrase, again) = (read("New passphrase: ")?, read("The same again: ")?);
            if passphrase != again {
                return Err(usage("the two passphrases differ"));
            }
            Ok(passphrase.into())
        }
    }
}

/// Opens the vault that the flags and the environment say.
///
/// # Errors
///
/// As [`Vault::open`], and those of the flags.
pub(crate) async fn open(global: &Global) -> anyhow::Result<Vault> {
    let url = database(global)?;
    let keys = master_keys(global, Prompt::Once)?;
    open_with(url, keys).await
}

/// Opens the vault at `url` with the given master keys.
///
/// # Errors
///
/// As [`Vault::open`].
pub(crate) async fn open_with(url: String, keys: Vec<Arc<dyn MasterKeyProvider>>) -> anyhow::Result<Vault> {
    let builder =
        keys.into_iter().fold(Vault::builder().url(url), |builder, key| builder.master_key_provider(key));
    Ok(builder.build().await?)
}

/// The first of the environment variables that is set and not empty, with its name.
///
/// # Errors
///
/// `InvalidInput` if it isn't UTF-8.
pub(crate) fn first_set(names: &[&'static str]) -> anyhow::Result<Option<(&'static str, String)>> {
    for &name in names {
        if let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) {
            let value = value.into_string().map_err(|_| usage(format!("{name} is not UTF-8")))?;
            return Ok(Some((name, value)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_found() {
        for url in [
            "postgres://user:hunter2@host/db",
            "postgres://:hunter2@host/db",
            "postgres://user:hun/ter2@host/db",
            "postgres://user:hun?ter2@host/db",
            "mysql://user:hunter2@host",
            "postgres://host/db?password=hunter2",
            "postgres://host/db?user=a&PASSWORD=hunter2",
            "postgres://host/db?pass%77ord=hunter2",
            "postgres://user@host/db?sslmode=require&sslpassword=hunter2",
        ] {
            assert!(has_password(url), "{url}");
            assert!(!format!("{:?}", without_password(url).unwrap_err()).contains("hunter2"));
        }
        for url in [
            "postgres://user@host:5432/db?sslmode=verify-full",
            "postgres://host:5432/db",
            "postgres:///db?host=/run/postgresql",
            "sqlite:/a:b@c.db",
            "sqlite://vault.db?mode=rwc",
        ] {
            assert!(!has_password(url), "{url}");
        }
    }
}
