//! The commands of the manual make what the command takes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;

const PAGE: &str = include_str!("../../../src/manual/providers/pkcs11.md");
const PIN: &str = "user-hunter2";

/// The blocks of commands on the page, for this folder and this machine's SoftHSM.
fn blocks(folder: &TempDir) -> Vec<String> {
    let module = env::var("CREDVAULT_PKCS11_MODULE").expect("run these tests by tests/providers/run pkcs11");
    let blocks = PAGE.split("```sh\n").skip(1).map(|rest| {
        let block = rest.split("```").next().unwrap();
        let block = block.replace("/usr/lib/softhsm/libsofthsm2.so", &module);
        block.replace("/etc/credvault", folder.path().to_str().unwrap())
    });
    blocks.collect()
}

#[test]
fn the_manuals_commands_make_a_token_a_key_a_vault_and_the_next_key() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("tokens")).unwrap();
    let tokens = path("tokens");
    fs::write(path("softhsm2.conf"), format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let [set_up, next] = blocks(&folder).try_into().unwrap();
    let script = format!(
        "set -euo pipefail\n{set_up}\n\
         put() {{ credvault put --organization 00000000-0000-0000-0000-000000000001 --connector github --create; }}\n\
         echo '{{\"access_token\": \"t\"}}' | put\n\
         credvault verify\n\
         export PIN={PIN}\n{next}\n\
         if credvault verify; then exit 1; fi\n\
         export CREDVAULT_MASTER_KEY=${{CREDVAULT_MASTER_KEY/object=credvault/object=credvault-2}}\n\
         credvault verify\n"
    )
    .replace("credvault rewrap", "credvault rewrap --yes");
    let command_folder = std::path::Path::new(env!("CARGO_BIN_EXE_credvault")).parent().unwrap();
    let mut bash = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", format!("{}:{}", command_folder.display(), env::var("PATH").unwrap()))
        .env("SOFTHSM2_CONF", path("softhsm2.conf"))
        .env("CREDVAULT_DATABASE", format!("sqlite:{}", path("vault.db").display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(format!("officer-hunter2\n{PIN}\n").as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("hunter"), "{said}");
}
