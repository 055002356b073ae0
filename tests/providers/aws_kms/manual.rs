//! The commands of the manual make what the command takes, and its policy is one.

use std::process::{Command, Stdio};
use std::{env, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use super::double::variable;
use crate::conformance::context;

const PAGE: &str = include_str!("../../../src/manual/providers/aws_kms.md");

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_manuals_commands_make_a_key_a_vault_and_the_next_key() {
    let folder = TempDir::new().unwrap();
    let [set_up, next] = blocks("sh").try_into().unwrap();
    let script = format!(
        "set -euo pipefail\n{set_up}\n\
         put() {{ credvault put --organization 00000000-0000-0000-0000-000000000001 --connector github --create; }}\n\
         echo '{{\"access_token\": \"t\"}}' | put\n\
         credvault verify\n\
         next=$(aws kms create-key --query KeyMetadata.Arn --output text)\n{next}\n\
         if credvault verify; then exit 1; fi\n\
         export CREDVAULT_MASTER_KEY=aws-kms:$next\n\
         credvault verify\n"
    )
    .replace("credvault rewrap", "credvault rewrap --yes");
    let commands = [
        Path::new(env!("CARGO_BIN_EXE_credvault")).parent().unwrap().display().to_string(),
        variable("CREDVAULT_AWS_CLI"),
        variable("PATH"),
    ];
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", commands.join(":"))
        // The command line tool knows the other variable only.
        .env("AWS_DEFAULT_REGION", variable("AWS_REGION"))
        // The double takes what credvault may call, not what an administrator does.
        .env("AWS_ENDPOINT_URL_KMS", format!("http://{}", variable("CREDVAULT_MOTO")))
        .env("CREDVAULT_DATABASE", format!("sqlite:{}", folder.path().join("vault.db").display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    // Twice: at `init`, and at `rewrap`.
    assert_eq!(said.matches("the key service's own key can't get lost").count(), 2, "{said}");
}

#[test]
fn the_manuals_policy_names_a_context_that_is_sent() {
    let [policy] = blocks("json").try_into().unwrap();
    let policy: Value = serde_json::from_str(policy).unwrap();
    let condition = &policy["Statement"][0]["Condition"]["StringEquals"];
    let (name, value) = condition.as_object().unwrap().iter().next().unwrap();
    let sent =
        context().pairs().into_iter().find(|(sent, _)| name == &format!("kms:EncryptionContext:{sent}"));
    assert_eq!(sent.unwrap().1, value.as_str().unwrap());
}
