//! Rows that whoever writes the database made to break a program: each command names them, does all others, and takes no
//! memory for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use credvault::{ErrorKind, Organization, Vault};
use serde_json::{Value, json};
use time::macros::datetime;
use uuid::Uuid;

use crate::common::{self, Dialect, RawConnection, TestDatabase, on_both_stores, token};
use crate::shell::Shell;

on_both_stores!(
    hostile_rows_are_named_and_all_others_done,
    hostile_rows_take_the_same_memory_for_four_times_as_many,
    hostile_types_and_ids_in_tables_without_constraints_are_named_and_take_no_memory,
);

/// More than the texts of a page may take together.
const BEYOND_A_PAGE: usize = (4 << 20) + 1;

/// How much more memory a command may take for the hostile rows that are added, in KiB: much less than they have.
const TOLERANCE_KIB: u64 = 24 * 1024;

/// What reading a row that someone changed may answer.
const REFUSALS: [ErrorKind; 4] =
    [ErrorKind::Tampered, ErrorKind::Malformed, ErrorKind::KeyUnavailable, ErrorKind::Unsupported];

/// A text of so many bytes, in SQL: written by the database, which is faster than sent.
fn text_of(database: &TestDatabase, prefix: &str, bytes: usize) -> String {
    let rest = bytes - prefix.len();
    match database.dialect() {
        Dialect::Postgres => format!("'{prefix}' || repeat('A', {rest})"),
        Dialect::Sqlite => format!(
            "'{prefix}' || replace(hex(zeroblob({rest} / 2)), '0', 'A') || substr('A', 1, {rest} % 2)"
        ),
    }
}

/// A vault with one organization: the credentials that are as they were put, and those that were changed, with how.
struct Table {
    shell: Shell,
    vault: Vault,
    organization: Organization,
    good: BTreeSet<String>,
    changed: BTreeMap<String, String>,
}

impl Table {
    async fn begin(database: &TestDatabase) -> Self {
        let shell = Shell::with_vault(database);
        let vault = database.open_vault(&format!("file:{}", shell.path("master.key").display())).await;
        let organization = vault.organization(database.add_organization().await);
        Self { shell, vault, organization, good: BTreeSet::new(), changed: BTreeMap::new() }
    }

    /// Puts a credential for each of the changes, and makes it, with one that stays as it is beside each.
    async fn add(&mut self, connection: &mut RawConnection, changes: &[String]) {
        let expiry = datetime!(2030-01-01 00:00 UTC);
        let credential = token("ghp_good").with_expiry(expiry);
        for change in changes {
            let mut integrations = Vec::new();
            for kind in ["good", "bad"] {
                let connector = format!("{kind} {}", self.changed.len());
                let integration = connection.add_integration(&self.organization, &connector).await;
                self.organization.put(integration, &credential).await.unwrap();
                integrations.push(integration.to_string());
            }
            let [good, bad] = integrations.try_into().unwrap();
            let sql = format!("UPDATE integration_credentials SET {change} WHERE integration_id = '{bad}'");
            assert_eq!(connection.execute(&sql).await, 1, "{change}");
            self.good.insert(good);
            self.changed.insert(bad, change.chars().take(100).collect());
        }
    }

    /// The documents of a command that must end with `code`, and the most memory that it had, in KiB: as of a moment before
    /// its end.
    fn run(&self, code: i32, arguments: &[&str]) -> (Value, u64) {
        let output = self.shell.path("output");
        let arguments = [arguments, &["--output", "json"]].concat();
        let mut child = self
            .shell
            .command(env!("CARGO_BIN_EXE_credvault"), &arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let ended = loop {
            let seen = fs::read_to_string(&status).unwrap_or_default();
            if let Some(kib) = seen.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
                peak = kib.trim().trim_end_matches(" kB").parse().unwrap();
            }
            match child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => sleep(Duration::from_millis(1)),
            }
        };
        let documents = fs::read_to_string(&output).unwrap();
        assert_eq!(ended.code(), Some(code), "{arguments:?}: {documents}");
        (serde_json::from_str(documents.lines().last().unwrap()).unwrap(), peak)
    }

    /// Runs each command that goes through the table, holds it to what it should do, and gives its peak.
    fn go_through(&self) -> Vec<(&'static str, u64)> {
        let mut peaks = Vec::new();
        let mut run = |code, name, arguments: &[&str]| {
            let (document, peak) = self.run(code, arguments);
            assert!(
                document.to_string().len() < 10_000 + 1_000 * (self.changed.len() + self.good.len()),
                "{name}"
            );
            peaks.push((name, peak));
            document
        };
        let (good, bad) = (self.good.len() as u64, self.changed.len() as u64);
        let with_findings = if bad > 0 { 4 } else { 0 };
        let changed: BTreeSet<_> = self.changed.keys().cloned().collect();
        let all: BTreeSet<_> = self.good.union(&changed).cloned().collect();
        let organization = self.organization.id().to_string();

        // Nothing is opened.
        let listed = run(0, "list", &["list", "--organization", &organization]);
        assert_eq!(named(&listed["credentials"]), all);
        let expiring =
            run(0, "expiring", &["expiring", "--before", "2031-01-01T00:00:00Z", "--limit", "1000"]);
        assert_eq!(named(&expiring["credentials"]), all);
        for integration in self.changed.keys().take(20) {
            let at = ["describe", "--organization", &organization, "--integration", integration];
            assert_eq!(run(0, "describe", &at)["integration_id"], json!(integration));
        }
        let sample = (good + bad + 10).to_string();
        for (name, arguments) in [("verify", &["verify"][..]), ("sample", &["verify", "--sample", &sample])] {
            let verified = run(with_findings, name, arguments);
            assert_eq!(verified["rows_opened"], json!(good), "{name}: {verified}");
            assert_eq!(named(&verified["findings"]), changed, "{name}: {verified}");
        }
        let out = self.shell.path("credentials.jsonl");
        let export = ["export", "--yes", "--in-clear", "--out", "credentials.jsonl"];
        let exported = run(with_findings, "export", &export);
        assert_eq!(named(&exported["unopened"]), changed);
        let lines = fs::read_to_string(&out).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(named(&json!(lines)), self.good);
        fs::remove_file(out).unwrap();
        let rotated = run(with_findings, "rotate", &["rotate", "--force"]);
        assert_eq!(rotated["re_encrypted"], json!(good), "{rotated}");
        assert_eq!((&rotated["quarantined"], &rotated["remaining"]), (&json!(bad), &json!(0)), "{rotated}");
        let quarantine = run(with_findings, "quarantine list", &["quarantine", "list"]);
        assert_eq!(named(&quarantine["credentials"]), changed);
        run(with_findings, "quarantine retry", &["quarantine", "retry"]);
        run(with_findings, "status", &["status", "--count"]);
        run(0, "keys list", &["keys", "list"]);
        peaks
    }

    /// That each command takes about as much memory as it did for few hostile rows, at least once in three times: what its
    /// threads' allocators hold besides differs from one run to the next.
    fn assert_takes_no_more_than(&self, few: &[(&str, u64)]) {
        let is_flat = |(name, many): &(&str, u64)| {
            let few = few.iter().find(|(other, _)| other == name).map(|(_, peak)| *peak).unwrap();
            *many < few + TOLERANCE_KIB
        };
        let mut many = self.go_through();
        for _ in 0..2 {
            if many.iter().all(is_flat) {
                break;
            }
            for (least, again) in many.iter_mut().zip(self.go_through()) {
                *least = (*least).min(again);
            }
        }
        assert!(many.iter().all(is_flat), "in KiB, {few:?} for few hostile rows, {many:?} for many");
    }

    /// What reading them says, and that nothing of what is in them is repeated.
    async fn each_is_refused(&self) {
        for (integration, change) in &self.changed {
            let integration: Uuid = integration.parse().unwrap();
            let error = self.organization.get(integration).await.unwrap_err();
            assert!(REFUSALS.contains(&error.kind()) && !error.is_retryable(), "{change}: {error:?}");
            assert!(error.to_string().len() < 300, "{change}: {error}");
        }
    }
}

/// The integrations of a list in a document.
fn named(list: &Value) -> BTreeSet<String> {
    let ids = list.as_array().unwrap().iter().map(|it| it["integration_id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

async fn hostile_rows_are_named_and_all_others_done(database: TestDatabase) {
    let mut table = Table::begin(&database).await;
    let stored = |text: String| format!("credential_data_encrypted = {text}");
    let beginning = "substr(credential_data_encrypted, 1, 60)";
    let changes = [
        stored(text_of(&database, "", BEYOND_A_PAGE)),
        stored(text_of(&database, "cv1.", BEYOND_A_PAGE)),
        // The header is right, so that the key is found.
        stored(format!("{beginning} || {}", text_of(&database, "", BEYOND_A_PAGE))),
        stored(format!("{beginning} || {}", text_of(&database, "", (1 << 20) - 60))),
        stored(text_of(&database, "cv1.", 1 << 20)),
        stored("''".to_owned()),
        stored("'cv1.'".to_owned()),
        stored("'cv1.no base64: !§$%'".to_owned()),
        stored("'cv2.' || substr(credential_data_encrypted, 5)".to_owned()),
        stored("substr(credential_data_encrypted, 5)".to_owned()),
        stored("'{\"access_token\": \"ghp_clear\"}'".to_owned()),
        stored("credential_data_encrypted || '='".to_owned()),
        stored("'\u{202e}\u{1b}[2J'".to_owned()),
        "credential_type = ''".to_owned(),
        "credential_type = '\u{1b}[2J\u{202e}'".to_owned(),
        format!("credential_type = '{}'", "é".repeat(50)),
    ];
    let mut connection = database.connect().await;
    table.add(&mut connection, &changes).await;
    table.each_is_refused().await;
    table.go_through();
    // Once they are gone there is nothing more to say of them.
    for integration in table.changed.keys() {
        assert!(table.organization.delete(integration.parse::<Uuid>().unwrap()).await.unwrap());
    }
    assert_eq!(table.vault.verify().run().await.unwrap().rows_opened, changes.len() as u64);
}

async fn hostile_rows_take_the_same_memory_for_four_times_as_many(database: TestDatabase) {
    let mut table = Table::begin(&database).await;
    let mut connection = database.connect().await;
    let stored = |bytes| format!("credential_data_encrypted = {}", text_of(&database, "cv1.", bytes));
    // The largest that are read at all, and larger ones.
    let changes = [vec![stored(1 << 20); 19], vec![stored(BEYOND_A_PAGE)]].concat();
    table.add(&mut connection, &changes).await;
    let few = table.go_through();
    for _ in 0..3 {
        table.add(&mut connection, &changes).await;
    }
    table.assert_takes_no_more_than(&few);
}

async fn hostile_types_and_ids_in_tables_without_constraints_are_named_and_take_no_memory(
    database: TestDatabase,
) {
    let mut table = Table::begin(&database).await;
    let mut connection = database.connect().await;
    connection
        .execute(match database.dialect() {
            Dialect::Postgres => {
                "DROP TRIGGER vault_refuse_v1_after_cut_over ON integration_credentials;
                 ALTER TABLE integration_credentials
                   DROP CONSTRAINT integration_credentials_encryption_key_id_fkey,
                  ALTER COLUMN credential_type TYPE text,
                  ALTER COLUMN encryption_key_id TYPE text;
                 ALTER TABLE integrations DROP CONSTRAINT integrations_organization_id_connector_type_key;
                 DROP INDEX idx_integrations_organization_connector, idx_integrations_connector_type,
                            idx_integrations_bot_id_connector;
                 ALTER TABLE integrations ALTER COLUMN connector_type TYPE text"
            }
            Dialect::Sqlite => {
                "PRAGMA ignore_check_constraints = ON;
                 DROP TRIGGER vault_refuse_unknown_key_on_update"
            }
        })
        .await;
    table.add(&mut connection, &["encryption_key_id = 'no key'".to_owned()]).await;
    let few = table.go_through();
    let long = text_of(&database, "", BEYOND_A_PAGE);
    for _ in 0..8 {
        let of_any = ["credential_type", "encryption_key_id"].map(|column| format!("{column} = {long}"));
        table.add(&mut connection, &of_any).await;
    }
    connection.execute(&format!("UPDATE integrations SET connector_type = connector_type || {long}")).await;
    table.each_is_refused().await;
    table.assert_takes_no_more_than(&few);
}
