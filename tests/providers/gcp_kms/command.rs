//! The command in an environment of its own, for what a process's variables say.

use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::double::variable;

/// What `credvault init` says under a fresh key, with these variables besides the endpoint's.
pub(super) async fn init(key: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("vault.db").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_credvault"));
    let endpoint = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";
    command.env_clear().env("HOME", folder.path()).env(endpoint, variable(endpoint));
    command.envs(variables.iter().copied());
    command
        .args(["--database", &url, "--master-key", &format!("gcp-kms:{key}"), "init"])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let _ = std::io::stderr().write_all(&output.stderr);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("hunter2"), "{said}");
    (output.status.success(), said)
}
