//! The commands of the manual make what the command takes, with the rights that it says.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

use super::double::variable;
use super::servers::Bao;

const PAGE: &str = include_str!("../../../src/manual/providers/vault_transit.md");

#[test]
fn the_manuals_commands_make_a_key_a_role_a_vault_and_the_next_version() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("home")).unwrap();
    let bao = Bao::start(&[]);
    let blocks = PAGE.split("```sh\n").skip(1).map(|rest| {
        let block = rest.split("```").next().unwrap();
        let block = block.replace("https://bao.example:8200", &format!("http://{}", bao.address));
        block.replace("/etc/credvault", folder.path().to_str().unwrap())
    });
    let [administrator, operator, service, kubernetes, pod, rotation, rights, next] =
        blocks.collect::<Vec<_>>().try_into().unwrap();
    // No Kubernetes is asked, as no pod logs in here.
    let authority = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap().cert.pem();
    fs::write(path("kubernetes.pem"), authority).unwrap();
    // An administrator's commands are root's; an operator has a token of the operator's policy, as a login leaves it.
    let script = format!(
        "set -euo pipefail
umask 022
bao() {{ BAO_TOKEN=$ROOT command bao \"$@\"; }}
put() {{ credvault put --organization 00000000-0000-0000-0000-000000000001 --connector github --create; }}
chown() {{ [ \"$1\" = credvault ] && shift && command chown \"$(id -u)\" \"$@\"; }}
{administrator}
[ \"$(stat -c %a {folder}/role-id {folder}/secret-id | sort -u)\" = 600 ]
[[ $(bao secrets list -detailed -format=json) == *associated_data* ]]
# No name becomes a key by encrypting with it, not even root's.
if bao write transit/encrypt/missing plaintext=AAAA; then exit 1; fi
{kubernetes}
(
{pod}
[ \"$(bao read -field=bound_service_account_names auth/kubernetes/role/$VAULT_ROLE)\" = '[credvault]' ]
)
(umask 077 && bao token create -policy=credvault-operator -field=token >~/.vault-token)
{operator}
echo '{{\"access_token\": \"t\"}}' | put
(
{service}
credvault verify
# It may decrypt, and no more.
if credvault master-key refresh; then exit 1; fi
)
{rotation}
credvault verify
{rights}
{next}
if credvault verify; then exit 1; fi
(
{service}
export CREDVAULT_MASTER_KEY=${{CREDVAULT_MASTER_KEY}}-2
credvault verify
)
",
        folder = folder.path().display(),
        next = next.replace("credvault rewrap", "credvault rewrap --yes"),
    );
    let command = Path::new(env!("CARGO_BIN_EXE_credvault")).parent().unwrap();
    let program = variable("CREDVAULT_BAO_PROGRAM");
    let program = Path::new(&program).parent().unwrap();
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", format!("{}:{}:{}", command.display(), program.display(), env::var("PATH").unwrap()))
        .env("HOME", path("home"))
        .env("ROOT", Bao::root())
        .env("BAO_ADDR", format!("http://{}", bao.address))
        .env("CREDVAULT_DATABASE", format!("sqlite:{}", path("vault.db").display()))
        .env_remove("VAULT_TOKEN_FILE")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}
