//! Master keys under a key of a transit engine: OpenBao's, and a double in front of it that fails as it is told.

pub(crate) mod counterpart;
mod double;
mod faults;
mod keys;
mod logins;
mod manual;
mod servers;
mod tokens;
mod vaults;

use std::process::Command;

use credvault::Error;
use credvault::provider::{MasterKeyProvider, ProviderContext, ProviderRecord, VaultTransit};

use counterpart::{administer, as_root, at, key, rotate, spec};

use crate::conformance::context;
use crate::errors::assert_says;

crate::conformance::conformance!(crate::vault_transit::counterpart::Key: keys, records, services);

fn provider(key: &str) -> VaultTransit {
    VaultTransit::new(&at(key)).unwrap()
}

async fn record_of(key: &str) -> ProviderRecord {
    provider(key).create(&context()).await.unwrap().1
}

async fn refusal(key: &str, record: &ProviderRecord, context: &ProviderContext) -> Error {
    provider(key).unlock(record, context).await.unwrap_err()
}

/// The environment of a process that runs can't be changed: such a test runs itself once more, with these variables in the
/// place of all that say how to log in.
fn once_more(test: &str, variables: &[(&str, &str)]) {
    let name = format!("vault_transit::{test}");
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", &name, "--nocapture"]).env(ONCE_MORE, "yes").env_remove("VAULT_TOKEN_FILE");
    let output = again.envs(variables.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{name}: {said}");
}

const ONCE_MORE: &str = "CREDVAULT_TEST_ONCE_MORE";

fn is_once_more() -> bool {
    std::env::var_os(ONCE_MORE).is_some()
}
