//! A shell to run the command in: a folder, an environment without what this machine has set, a database.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::TestDatabase;
use crate::documents;

/// Looked for in everything that must not show it.
pub const SECRET: &str = "ghp_MarkerMarkerMarkerMarkerMarkerMarker";

/// A folder to run the command in, and the environment that it gets.
pub struct Shell {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// What the command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Shell {
    /// An empty folder, and no environment.
    pub fn new() -> Self {
        Self { folder: TempDir::with_prefix("credvault-cli-").unwrap(), environment: Vec::new() }
    }

    /// With a database and a new key file, `master.key`, both in the environment.
    pub fn on(database: &TestDatabase) -> Self {
        let shell = Self::new().with("CREDVAULT_DATABASE", database.url());
        shell.succeeds(&["master-key", "generate", "--out", "master.key"]);
        shell.with("CREDVAULT_MASTER_KEY", "file:master.key")
    }

    /// As [`on`](Self::on), with a vault in the database.
    pub fn with_vault(database: &TestDatabase) -> Self {
        let shell = Self::on(database);
        shell.succeeds(&["init"]);
        shell
    }

    /// The same with a variable set, or set anew.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program to run here, with this environment.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }

    /// Runs the command with bytes on standard input, neither of its streams a terminal.
    ///
    /// An error is one line that says who speaks; anything else leaves standard error empty.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut child = self
            .command(env!("CARGO_BIN_EXE_credvault"), arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without having read it all.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let done = Done {
            code: output.status.code().expect("it was ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        match done.code {
            0 | 3 | 4 => assert_eq!(done.stderr, "", "{arguments:?}"),
            1 | 2 | 5 => {
                assert!(done.stderr.starts_with("credvault: ") && done.stderr.ends_with('\n'), "{done:?}");
                assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
                assert_eq!(done.stdout, "", "{arguments:?}");
            }
            code => panic!("exit code {code}: {done:?}"),
        }
        done
    }

    /// What a shell prints, standard error among it, that is given a script in this folder; `credvault` is in its PATH.
    pub fn type_in(&self, script: &str) -> String {
        let folder = Path::new(env!("CARGO_BIN_EXE_credvault")).parent().unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{script}")])
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display()))
            .env("TMPDIR", self.folder.path())
            .env("HOME", self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the command at a terminal, where `typed` is typed; gives its exit code and all that is shown.
    pub fn at_a_terminal(&self, arguments: &str, typed: &str) -> (Option<i32>, String) {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_credvault"));
        let mut child = self
            .command("script", &["-qec", &command, "/dev/null"])
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Runs the command with nothing on standard input.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, b"")
    }

    /// What the command prints; it must succeed.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done.stdout
    }

    /// The error line of the command, which must fail with `code`.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        self.fails_with(code, arguments, b"")
    }

    /// The same with bytes on standard input.
    pub fn fails_with(&self, code: i32, arguments: &[&str], input: &[u8]) -> String {
        let done = self.run_with(arguments, input);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        done.stderr
    }

    /// The JSON document of the command, which must end with `code`.
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        self.json_with(code, arguments, b"")
    }

    /// The same with bytes on standard input.
    pub fn json_with(&self, code: i32, arguments: &[&str], input: &[u8]) -> Value {
        let mut documents = self.events_with(code, arguments, input);
        let document = documents.pop().unwrap();
        assert!(documents.is_empty() || document["event"] == "report", "one document on one line");
        document
    }

    /// All JSON documents of the command, which must end with `code`: those of its events, and the last one.
    pub fn events(&self, code: i32, arguments: &[&str]) -> Vec<Value> {
        self.events_with(code, arguments, b"")
    }

    fn events_with(&self, code: i32, arguments: &[&str], input: &[u8]) -> Vec<Value> {
        let arguments = [arguments, &["--output", "json"]].concat();
        let done = self.run_with(&arguments, input);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        done.stdout.lines().map(|line| checked_document(line, &arguments)).collect()
    }

    /// Stores [`SECRET`] as the access token of a new organization's GitHub; gives organization and integration.
    pub fn put_token(&self) -> (String, String) {
        let organization = Uuid::new_v4().to_string();
        let integration = self.put_token_of(&organization, "github");
        (organization, integration)
    }

    /// Stores [`SECRET`] as an organization's access token; gives the integration.
    pub fn put_token_of(&self, organization: &str, connector: &str) -> String {
        let put = ["put", "--organization", organization, "--connector", connector, "--create"];
        let document =
            self.json_with(0, &[&put[..], &["--field", "access_token"]].concat(), SECRET.as_bytes());
        document["integration_id"].as_str().unwrap().to_owned()
    }

    /// Stores [`SECRET`] for so many new organizations.
    pub fn put_tokens(&self, count: usize) {
        let line = || {
            let organization = Uuid::new_v4();
            format!(
                r#"{{"organization_id":"{organization}","connector":"github","credential_type":"token","fields":{{"access_token":"{SECRET}"}}}}"#
            )
        };
        let lines: Vec<String> = (0..count).map(|_| line()).collect();
        assert_eq!(self.json_with(0, &["import"], lines.join("\n").as_bytes())["added"], count);
    }

    /// The access token as the command reads it.
    pub fn token(&self, organization: &str, integration: &str) -> String {
        let get = ["get", "--organization", organization, "--integration", integration];
        self.succeeds(&[&get[..], &["--field", "access_token"]].concat())
    }
}

/// A line of JSON that the command printed, as the manual says that it is.
pub fn checked_document(line: &str, arguments: &[&str]) -> Value {
    let document: Value = serde_json::from_str(line).unwrap();
    assert_eq!(document["version"], 1);
    let differences = documents::differences(&document);
    assert!(differences.is_empty(), "{document}\nis not what the manual says: {differences:#?}");
    let command = document["command"].as_str().unwrap();
    assert!(arguments.join(" ").contains(command), "{command} is not {arguments:?}");
    document
}

/// All that the vault's tables and the credentials' hold, to see that nothing was touched.
pub async fn contents(database: &TestDatabase) -> Vec<Vec<Vec<Option<String>>>> {
    let mut contents = Vec::new();
    for sql in [
        "SELECT vault_id, phase FROM vault_identity",
        "SELECT id, state FROM vault_master_keys ORDER BY id",
        "SELECT id, state FROM vault_data_keys ORDER BY id",
        "SELECT data_key_id, master_key_id, wrapped_key FROM vault_key_material ORDER BY data_key_id",
        "SELECT id, owner FROM vault_rotation_runs ORDER BY id",
        "SELECT integration_id, reason FROM vault_quarantine ORDER BY integration_id",
        "SELECT id, status FROM integrations ORDER BY id",
        "SELECT id, credential_data_encrypted, encryption_key_id FROM integration_credentials ORDER BY id",
    ] {
        contents.push(database.fetch_text(sql).await);
    }
    contents
}
