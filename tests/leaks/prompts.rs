//! What is typed at the command's hidden prompts, at the moment they are shown: the terminal never shows it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use uuid::Uuid;

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores};
use crate::places;
use crate::search::{Needle, found};

on_both_stores!(nothing_that_is_typed_at_a_hidden_prompt_is_shown);

const PASSPHRASE: &str = "Ph8MarkerOfAHiddenPassphrase";
const OTHER: &str = "Ph9MarkerOfAnotherPassphrase";
const TOKEN: &str = "Tk8MarkerOfATypedToken";
/// Typed where the terminal shows it.
const SHOWN: &str = "Sh8MarkerOfWhatIsShown";

const SCRIPT: &str = "
export RUST_LOG=trace NO_COLOR=1
cheap='--argon2 m=19456,t=2,p=1'
credvault rewrap --yes --to passphrase:prompt $cheap; echo differ: $?
credvault rewrap --yes --to passphrase:prompt $cheap; echo rewrap: $?
export CREDVAULT_MASTER_KEY=passphrase:prompt
credvault status; echo wrong: $?
credvault put --organization $ORG --connector github --create --field access_token; echo put: $?
printf 'Shown: '; read shown; echo
";

/// What is waited for, one after the other, and what is typed then.
const DIALOGUE: [(&str, &str); 12] = [
    ("New passphrase: ", PASSPHRASE),
    ("The same again: ", OTHER),
    ("differ: 2", ""),
    ("New passphrase: ", PASSPHRASE),
    ("The same again: ", PASSPHRASE),
    ("rewrap: 0", ""),
    ("Passphrase: ", OTHER),
    ("wrong: 1", ""),
    ("Passphrase: ", PASSPHRASE),
    ("access_token: ", TOKEN),
    ("put: 0", ""),
    ("Shown: ", SHOWN),
];

/// Types at a terminal, whose user does so the moment that a prompt is there; gives all that it shows.
fn type_at_prompts(database: &TestDatabase, master_key: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("script"), SCRIPT).unwrap();
    let commands = Path::new(env!("CARGO_BIN_EXE_credvault")).parent().unwrap();
    let mut terminal = Command::new("/usr/bin/timeout")
        .args(["60", "/usr/bin/script", "--echo", "always", "-qec", "sh script", "/dev/null"])
        .env_clear()
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", commands.display()))
        .env("HOME", folder.path())
        .env("DATABASE_URL", database.url())
        .env("CREDVAULT_MASTER_KEY", master_key)
        .env("ORG", Uuid::new_v4().to_string())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let (mut shown, mut looked_at) = (Vec::new(), 0);
    let mut read = |shown: &mut Vec<u8>| {
        let mut bytes = [0; 4096];
        let count = screen.read(&mut bytes).unwrap();
        shown.extend_from_slice(&bytes[..count]);
        count > 0
    };
    for (prompt, typed) in DIALOGUE {
        loop {
            let text = String::from_utf8_lossy(&shown[looked_at..]);
            if let Some(at) = text.find(prompt) {
                looked_at += at + prompt.len();
                break;
            }
            assert!(read(&mut shown), "{prompt:?} never came: {}", String::from_utf8_lossy(&shown));
        }
        if !typed.is_empty() {
            keyboard.write_all(format!("{typed}\n").as_bytes()).unwrap();
        }
    }
    while read(&mut shown) {}
    assert!(terminal.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

async fn nothing_that_is_typed_at_a_hidden_prompt_is_shown(database: TestDatabase) {
    let keys = KeyFiles::new();
    let master_key = keys.generate("master.key");
    database.create_vault(&master_key).await;
    let shown = type_at_prompts(&database, &master_key);
    assert!(shown.contains("sqlx::query"), "nothing was traced: {shown}");
    let secrets = [("the passphrase", PASSPHRASE), ("the other one", OTHER), ("the token", TOKEN)];
    let secrets = secrets.map(|(name, text)| Needle::new(name, text.as_bytes()));
    for (place, bytes) in places(&database, &shown).await {
        let leaked = found(&secrets, &bytes);
        assert!(leaked.is_empty(), "{place}: {leaked:#?}");
    }
    // What is typed elsewhere is seen.
    let control = Needle::text("what is shown", SHOWN);
    assert_eq!(found(&[control], shown.as_bytes()).len(), 1, "{shown}");
}
