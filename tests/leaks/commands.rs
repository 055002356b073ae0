//! What the command shows while it does all that it can: on a terminal, with its log at its fullest, in the list of
//! processes, and in the log of a server that writes down each statement with its parameters.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credvault::{CredentialLine, Vault};
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::legacy::{add_legacy_rows, legacy_salt};
use crate::common::traces::trace_everything;
use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores, token};
use crate::search::{Needle, found};
use crate::{derivation, places};

on_both_stores!(no_command_shows_a_secret, a_panic_shows_no_secret);

const TOKEN: &str = "Tk5MarkerOfTheCommandsToken";
const PASSPHRASE: &str = "Ph6MarkerOfTheCommandsPassphrase";
const DATABASE_PASSWORD: &str = "Pw7MarkerOfTheCommandsDatabase";

/// Before the master key is changed. A line that begins with `!` is to fail.
const BEFORE: &[&str] = &[
    "migrate",
    "init",
    "master-key check",
    "master-key refresh",
    "put --organization $ORG --connector github --create --field access_token <token",
    "put --organization $ORG --connector slack --create --type oauth2 <object",
    "!put --organization $ORG --connector refused --create --type refused <object",
    "!put --organization $ORG --connector bad --create <token",
    "get --organization $ORG --connector slack",
    "!get --organization $OTHER --connector slack",
    "list --organization $ORG",
    "describe --organization $ORG --connector github",
    "expiring --within 30d",
    "import <lines",
    "import <bad",
    "export --out exported --yes --in-clear",
    "transfer --connector github --from $ORG --to $OTHER",
    "keys create --organization $ORG",
    "rotate --force",
    "rotations",
    "keys list",
    "keys show $KEY",
    "keys compromise $KEY",
    "adopt --salt-file salt",
    "verify --all",
    "status",
    "status --output json",
];

/// After it was seen which data keys there are.
const AFTER: &[&str] = &[
    "adopt --re-encrypt --yes",
    "rotate --output json",
    "adopt --cut-over --yes",
    "rotate",
    "keys destroy $KEY --confirm $KEY --no-grace",
    "quarantine list",
    "quarantine retry",
    "master-key generate --out another.key",
    "rewrap --to $NEW --yes",
    "!status --database sqlite:/nowhere/vault.db",
    "rewrap --to passphrase:file:phrase --yes --argon2 m=19456,t=2,p=1",
    "master-key check",
    "verify",
    "delete --organization $OTHER --connector github",
    "demo --tokens 10 --organizations 2",
    "roles",
    "completions bash",
    "man",
    "man --out pages",
];

/// A folder to run the command in, with the files that the lines name.
struct Session<'d> {
    folder: TempDir,
    database: &'d TestDatabase,
    variables: Vec<(&'static str, String)>,
}

impl<'d> Session<'d> {
    fn on(database: &'d TestDatabase, keys: &KeyFiles) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (organization, other) = (Uuid::new_v4(), Uuid::new_v4());
        let line = CredentialLine {
            organization_id: organization.into(),
            integration_id: None,
            connector: Some("gitlab".to_owned()),
            credential: token(TOKEN),
        };
        let line = line.to_json().unwrap();
        let line = credvault::ExposeSecret::expose_secret(&line);
        for (name, contents) in [
            ("token", TOKEN.to_owned()),
            ("object", format!(r#"{{"access_token":"{TOKEN}","refresh_token":"{TOKEN}"}}"#)),
            ("lines", format!("{line}\n")),
            ("bad", format!("{line}{TOKEN}\n")),
            ("salt", legacy_salt()),
        ] {
            std::fs::write(folder.path().join(name), contents).unwrap();
        }
        let (master, new) = (keys.generate("master.key"), keys.generate("new.key"));
        let phrase = keys.write("phrase", PASSPHRASE);
        std::fs::copy(phrase.strip_prefix("file:").unwrap(), folder.path().join("phrase")).unwrap();
        // The password is not asked for here, and must be nowhere all the same.
        let url = database.url().replacen("postgres@", &format!("postgres:{DATABASE_PASSWORD}@"), 1);
        let variables = vec![
            ("DATABASE_URL", url),
            ("CREDVAULT_MASTER_KEY", format!("{master} {new} passphrase:file:phrase")),
            ("NEW", new),
            ("RUST_LOG", "trace".to_owned()),
            ("RUST_BACKTRACE", "full".to_owned()),
            // Colours would stand within what is looked for.
            ("NO_COLOR", "1".to_owned()),
            ("ORG", organization.to_string()),
            ("OTHER", other.to_string()),
        ];
        Self { folder, database, variables }
    }

    /// Types the lines at a terminal; gives all that it shows. Each must end as it is to.
    fn type_in(&self, lines: &[&str], key: &str) -> String {
        let mut script = String::new();
        for line in lines {
            let line = line.trim_start_matches('!');
            writeln!(script, "credvault {line}\necho \"ended with $?: {line}\"").unwrap();
        }
        self.run(&script, key)
    }

    fn run(&self, script: &str, key: &str) -> String {
        let script_file = self.folder.path().join("script");
        std::fs::write(&script_file, script).unwrap();
        let commands = Path::new(env!("CARGO_BIN_EXE_credvault")).parent().unwrap();
        let output = Command::new("/usr/bin/script")
            .args(["-qec", "sh script", "/dev/null"])
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", commands.display()))
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .env("KEY", key)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Fails unless each line ended as it was to: an error (1, 2 or 5) where it begins with `!`, else none.
fn ended_as_meant(lines: &[&str], shown: &str) {
    let ends: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("ended with ")).collect();
    assert_eq!(ends.len(), lines.len(), "{ends:#?}");
    for (line, end) in lines.iter().zip(ends) {
        let is_error = ["1:", "2:", "5:"].iter().any(|code| end.starts_with(code));
        assert_eq!(is_error, line.starts_with('!'), "{line} ended with {end}\n{shown}");
    }
}

/// The command lines of all processes, looked at as often as possible until it is told to stop.
struct Watch {
    stopped: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<Vec<u8>>>,
}

impl Watch {
    fn begin() -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !until.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    // It may have ended meanwhile.
                    if process.file_name().as_bytes()[0].is_ascii_digit()
                        && let Ok(line) = std::fs::read(process.path().join("cmdline"))
                    {
                        seen.insert(line);
                    }
                }
            }
            seen
        });
        Self { stopped, thread }
    }

    fn end(self) -> Vec<u8> {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().into_iter().collect::<Vec<_>>().join(&b'\n')
    }
}

/// Lets the server write down every statement with all its parameters, whether it fails or not.
async fn log_everything(database: &TestDatabase) {
    if database.dialect() == Dialect::Postgres {
        let name = database.fetch_one_text("SELECT current_database()").await.unwrap();
        for setting in [
            "log_statement = 'all'",
            "log_min_duration_statement = 0",
            "log_parameter_max_length = -1",
            "log_parameter_max_length_on_error = -1",
            "log_error_verbosity = 'verbose'",
        ] {
            database.execute(&format!("ALTER DATABASE {name} SET {setting}")).await;
        }
    }
}

/// Makes the database refuse credentials of the type `refused`.
async fn refuse(database: &TestDatabase) {
    let refuse = match database.dialect() {
        Dialect::Postgres => {
            "ALTER TABLE integration_credentials ADD CONSTRAINT refuses CHECK (credential_type <> 'refused')"
        }
        Dialect::Sqlite => {
            "CREATE TRIGGER refuses BEFORE INSERT ON integration_credentials
               WHEN NEW.credential_type = 'refused' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
    };
    database.execute(refuse).await;
}

async fn no_command_shows_a_secret(database: TestDatabase) {
    trace_everything();
    credvault::migrate(database.url()).await.unwrap();
    log_everything(&database).await;
    refuse(&database).await;
    let legacy = add_legacy_rows(&database).await;
    let keys = KeyFiles::new();
    let session = Session::on(&database, &keys);

    let watch = Watch::begin();
    let vault = database.create_vault(&keys.spec("master.key")).await;
    let first = vault.keys().list().await.unwrap().into_iter().find(|key| !key.id.is_legacy()).unwrap();
    let mut shown = session.type_in(BEFORE, &first.id.to_string());
    ended_as_meant(BEFORE, &shown);

    let master = keys.key("master.key");
    let mut secrets = vec![
        Needle::new("the master key", &master.key),
        Needle::text("the master key's line", master.line().trim()),
        Needle::new("the new master key", &keys.key("new.key").key),
        Needle::text("the new master key's line", keys.key("new.key").line().trim()),
        Needle::new("the token", TOKEN.as_bytes()),
        Needle::new("the passphrase", PASSPHRASE.as_bytes()),
        Needle::new("the database's password", DATABASE_PASSWORD.as_bytes()),
        Needle::new("the legacy salt", legacy_salt().as_bytes()),
    ];
    for key in vault.keys().list().await.unwrap() {
        let wrapped = format!("SELECT wrapped_key FROM vault_key_material WHERE data_key_id = '{}'", key.id);
        let wrapped = session.database.fetch_one_text(&wrapped).await.unwrap();
        let organization = key.organization_id.as_ref().map_or(&[][..], |id| id.as_bytes());
        let id = vault.id();
        let bytes = derivation::unwrap(&master, id.as_bytes(), key.id.as_bytes(), organization, &wrapped);
        secrets.push(Needle::new(format!("data key {}", key.id), &bytes));
    }
    for value in legacy.iter().flat_map(|row| row.fields.as_object().unwrap().values()) {
        let value = value.as_str().unwrap();
        if value.len() >= 16 {
            secrets.push(Needle::new("a legacy value", value.as_bytes()));
        }
    }

    let after = session.type_in(AFTER, &first.id.to_string());
    ended_as_meant(AFTER, &after);
    shown.push_str(&after);
    every_command_was_tried(&session.folder.path().join("pages"));
    // What is planted in each place is found there.
    let planted = Needle::new("planted", Uuid::new_v4().as_bytes());
    let mut plant = String::new();
    for (_, form) in planted.forms.iter().filter(|(name, _)| name != "raw") {
        writeln!(plant, "echo '{form}'; sh -c 'sleep 0.1' '{form}'").unwrap();
        database.execute(&format!("SELECT '{form}'")).await;
    }
    shown.push_str(&session.run(&plant, ""));
    let processes = watch.end();
    assert!(shown.contains("sqlx::query"), "nothing was traced: {shown}");

    let mut places = places(&database, &shown).await;
    places.push(("the list of processes", processes));
    for (place, bytes) in places {
        let leaked = found(&secrets, &bytes);
        assert!(leaked.is_empty(), "{place}: {leaked:#?}");
        if ["errors and Debug", "the list of processes", "the server's log"].contains(&place) {
            let found = found(std::slice::from_ref(&planted), &bytes);
            assert_eq!(found.len(), planted.forms.len() - 1, "{place}: {found:?}");
        }
    }
}

/// Every command of the command line, of which `man` writes a page into `folder`, is one of the lines.
fn every_command_was_tried(folder: &Path) {
    let pages: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names: Vec<&str> = pages.iter().filter_map(|page| page.file_stem().and_then(OsStr::to_str)).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in &names {
        let has_commands = names.iter().any(|other| other.starts_with(&format!("{name}-")));
        let tried = [BEFORE, AFTER].concat().iter().any(|line| {
            let line = format!("credvault-{} ", line.replace(' ', "-"));
            line.starts_with(&format!("{name}-")) || line.starts_with(&format!("{name} "))
        });
        assert!(has_commands || tried, "{name} is not tried: add a line");
    }
}

/// What the process of the test below is told.
const TOLD: [&str; 4] =
    ["PANIC_TEST_URL", "PANIC_TEST_KEY", "PANIC_TEST_ORGANIZATION", "PANIC_TEST_INTEGRATION"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of a_panic_shows_no_secret, which starts it"]
async fn a_process_panics() {
    let told = TOLD.map(|name| std::env::var(name).expect("it is started by a_panic_shows_no_secret"));
    let [url, key, organization, integration] = &told;
    let vault = Vault::open(url, key).await.unwrap();
    let organization = vault.organization(organization.parse::<credvault::OrganizationId>().unwrap());
    let integration: credvault::IntegrationId = integration.parse().unwrap();
    let held = organization.get(integration).await.unwrap().unwrap();
    panic!("with {held:#?} of {organization:?} in {vault:?} in hand");
}

async fn a_panic_shows_no_secret(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    let vault = database.create_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token(TOKEN)).await.unwrap();
    let told = [database.url(), &spec, &organization.to_string(), &integration.to_string()];
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "commands::a_process_panics", "--ignored", "--nocapture"])
        .envs(TOLD.into_iter().zip(told))
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    let shown = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&shown);
    assert!(
        text.contains("panicked at") && text.contains("in hand") && text.contains("access_token"),
        "{text}"
    );
    assert!(text.contains("a_process_panics"), "there is no backtrace: {text}");
    let master = keys.key("master.key");
    let secrets = [
        Needle::new("the token", TOKEN.as_bytes()),
        Needle::new("the master key", &master.key),
        Needle::text("the master key's line", master.line().trim()),
    ];
    let leaked = found(&secrets, &shown);
    assert!(leaked.is_empty(), "{leaked:#?}");
}
