//! What imports, exports and lists takes the same memory however many lines there are.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use credvault::{Credential, CredentialLine, CredentialType, ExposeSecret, Vault};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use uuid::Uuid;

use crate::shell::Shell;

/// By how much the peak may differ, in KiB: less than two thirds of what the additional lines take.
const TOLERANCE_KIB: u64 = 10 * 1024;

/// The least of three peaks: a busy machine has a pool open more connections, each with a cache of its own.
fn least_of_three(peak_kib: impl Fn() -> u64) -> u64 {
    (0..3).map(|_| peak_kib()).min().unwrap()
}

/// Holds the peak of many lines to that of few; measured again where it is higher, which may be chance, three times at most.
fn assert_as_for_few(few: u64, many_kib: impl Fn() -> u64) {
    let mut higher = Vec::new();
    while higher.len() < 3 {
        let many = many_kib();
        if many.abs_diff(few) < TOLERANCE_KIB {
            return;
        }
        higher.push(many);
    }
    panic!("{few} KiB for few lines, {higher:?} KiB for many");
}

/// The most memory that a process that lives has had so far, in KiB.
fn peak_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

fn embedded() -> Shell {
    let shell = Shell::new().with("CREDVAULT_MASTER_KEY", "file:master.key");
    shell.succeeds(&["master-key", "generate", "--out", "master.key"]);
    shell.succeeds(&["init"]);
    shell
}

fn credential(bytes: usize) -> Credential {
    Credential::new(CredentialType::token()).with_field("key", "x".repeat(bytes))
}

/// The peak of an import of `lines` lines of 2 KiB for a few integrations.
fn import_peak_kib(shell: &Shell, lines: u32) -> u64 {
    let organizations: Vec<Uuid> = (0..50).map(Uuid::from_u128).collect();
    let lines_of: Vec<_> = organizations
        .iter()
        .map(|&organization| {
            let connector = Some("github".to_owned());
            let credential = credential(2048);
            CredentialLine {
                organization_id: organization.into(),
                integration_id: None,
                connector,
                credential,
            }
            .to_json()
            .unwrap()
        })
        .collect();
    let mut child = shell
        .command(env!("CARGO_BIN_EXE_credvault"), &["import"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines_of.iter().cycle().take(lines as usize) {
        input.write_all(line.expose_secret().as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
    }
    // All but what the pipe holds was read.
    let peak = peak_kib(&child);
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    peak
}

#[test]
fn an_import_takes_the_same_memory_for_five_times_as_many_lines() {
    let shell = embedded();
    import_peak_kib(&shell, 50);
    let few = least_of_three(|| import_peak_kib(&shell, 3_000));
    assert_as_for_few(few, || import_peak_kib(&shell, 15_000));
}

/// Stores credentials of 16 KiB, up to `end` of them.
async fn fill(shell: &Shell, from: u32, end: u32) {
    let options = SqliteConnectOptions::new().filename(shell.path("credvault.db"));
    // What a machine that fails may lose is a test's.
    let options = options.synchronous(SqliteSynchronous::Off);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let key = format!("file:{}", shell.path("master.key").display());
    let vault = Vault::builder().sqlite(pool.clone()).master_key(&key).unwrap().build().await.unwrap();
    for number in from..end {
        let organization = vault.organization(Uuid::from_u128(number.into()));
        organization.put_by_connector("github", &credential(16 * 1024)).await.unwrap();
    }
    pool.close().await;
}

/// The peak of an export of that many lines.
fn export_peak_kib(shell: &Shell, lines: u32) -> u64 {
    let mut child = shell
        .command(env!("CARGO_BIN_EXE_credvault"), &["export", "--yes", "--in-clear"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    // The last lines don't fit the pipe: it is still there.
    for _ in 0..lines - 50 {
        assert!(output.next().unwrap().unwrap().len() > 16 * 1024);
    }
    let peak = peak_kib(&child);
    assert_eq!(output.count(), 50);
    assert!(child.wait().unwrap().success());
    peak
}

#[tokio::test]
async fn an_export_takes_the_same_memory_for_five_times_as_many_lines() {
    let shell = embedded();
    fill(&shell, 0, 400).await;
    let few = least_of_three(|| export_peak_kib(&shell, 400));
    fill(&shell, 400, 2_000).await;
    assert_as_for_few(few, || export_peak_kib(&shell, 2_000));
}

/// Adds credentials like the first one, with integrations of their own.
async fn multiply(shell: &Shell, count: u32) {
    let options = SqliteConnectOptions::new().filename(shell.path("credvault.db"));
    let pool =
        SqlitePoolOptions::new().connect_with(options.synchronous(SqliteSynchronous::Off)).await.unwrap();
    let id = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2))
                    || '-' || hex(randomblob(2)) || '-' || hex(randomblob(6)))";
    let statements = format!(
        "BEGIN;
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
         INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
         SELECT {id}, {id}, {id}, 'copy', 'active' FROM n;
         INSERT INTO integration_credentials
                (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
         SELECT {id}, i.id, c.credential_type, c.credential_data_encrypted, c.encryption_key_id
           FROM integrations AS i, (SELECT * FROM integration_credentials LIMIT 1) AS c
          WHERE i.connector_type = 'copy' AND i.id NOT IN (SELECT integration_id FROM integration_credentials);
         COMMIT"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&pool).await.unwrap();
    pool.close().await;
}

/// The peak of a list of that many credentials under a compromised key.
fn compromise_peak_kib(shell: &Shell, key: &str, credentials: usize) -> u64 {
    let mut child = shell
        .command(env!("CARGO_BIN_EXE_credvault"), &["keys", "compromise", key, "--csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Those after them don't fit the pipe: it is still there.
    const IN_THE_PIPE: usize = 2_000;
    for _ in 0..credentials - IN_THE_PIPE {
        lines.next().unwrap().unwrap();
    }
    let peak = peak_kib(&child);
    assert_eq!(lines.count(), IN_THE_PIPE + 1, "and the heading");
    assert!(child.wait().unwrap().success());
    peak
}

#[tokio::test]
async fn a_list_of_what_is_compromised_takes_the_same_memory_for_many_credentials() {
    let shell = embedded();
    shell.put_token();
    let keys = shell.json(0, &["keys", "list"]);
    let key = keys["data_keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap();
    let key = key["data_key_id"].as_str().unwrap();
    // As many as fill the caches of the pool's connections: what more of them take is the list's.
    multiply(&shell, 39_999).await;
    let few = least_of_three(|| compromise_peak_kib(&shell, key, 40_000));
    multiply(&shell, 210_000).await;
    assert_as_for_few(few, || compromise_peak_kib(&shell, key, 250_000));
}
