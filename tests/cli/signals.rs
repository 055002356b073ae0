//! SIGTERM and Ctrl-C: a rotation ends in good order, within five seconds, whatever its database does.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::postgres::Server;
use crate::common::{self, RawConnection, TestDatabase, on_both_stores};
use crate::shell::{Shell, checked_document};

/// What is promised.
const LIMIT: Duration = Duration::from_secs(5);

/// Signals by their numbers.
#[derive(Clone, Copy)]
enum Signal {
    Interrupt = 2,
    Terminate = 15,
}

/// A rotation that runs.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    arguments: Vec<&'static str>,
    events: Vec<Value>,
}

impl Running {
    /// Begins `rotate` with JSON on standard output.
    fn begin(shell: &Shell, arguments: &[&'static str]) -> Self {
        let arguments = [&["rotate", "--output", "json"], arguments].concat();
        let mut child = shell
            .command(env!("CARGO_BIN_EXE_credvault"), &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, arguments, events: Vec::new() }
    }

    /// Reads up to an event.
    fn until(&mut self, event: &str) {
        let mut line = String::new();
        while self.events.last().is_none_or(|last| last["event"] != event) {
            line.clear();
            assert!(
                self.stdout.read_line(&mut line).unwrap() > 0,
                "it ended before {event}: {:?}",
                self.events
            );
            self.events.push(checked_document(&line, &self.arguments));
        }
    }

    /// Waits until a signal would not kill it.
    fn until_it_listens(&mut self) {
        let bit = 1_u64 << (Signal::Terminate as u32 - 1);
        self.until_status("SigCgt:", |mask| u64::from_str_radix(mask, 16).unwrap() & bit != 0);
    }

    /// Waits until what the system says of the process under a name holds.
    fn until_status(&mut self, name: &str, holds: impl Fn(&str) -> bool) {
        let path = format!("/proc/{}/status", self.child.id());
        loop {
            let status = std::fs::read_to_string(&path).unwrap();
            if status.lines().filter_map(|line| line.strip_prefix(name)).any(|value| holds(value.trim())) {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before");
            std::thread::yield_now();
        }
    }

    fn send(&self, signal: Signal) {
        let number = format!("-{}", signal as u32);
        let sent = Command::new("kill").args([&number, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn wait(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if began.elapsed() > limit {
                self.child.kill().unwrap();
                panic!("it did not end within {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal, and gives the report that it must end with in time.
    fn ends_at(mut self, signal: Signal) -> Value {
        self.send(signal);
        let status = self.wait(LIMIT);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!((status.code(), error.as_str()), (Some(3), ""), "{rest}");
        let report = checked_document(rest.lines().last().unwrap(), &self.arguments);
        assert_eq!((&report["event"], &report["outcome"]), (&json!("report"), &json!("work-remains")));
        assert_eq!(report["stopped"], "asked");
        report
    }
}

/// The rotations that have not given back their lease.
async fn unfinished(database: &TestDatabase) -> Option<String> {
    database.fetch_one_text("SELECT count(*) FROM vault_rotation_runs WHERE finished_at IS NULL").await
}

async fn a_rotation_ends_its_page_and_gives_its_lease_back(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_tokens(20);
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let mut running = Running::begin(&shell, &["--force", "--rows-per-second", "3"]);
        running.until("progress");
        let report = running.ends_at(signal);
        let (done, left) = (report["re_encrypted"].as_u64().unwrap(), report["remaining"].as_u64().unwrap());
        assert!(done > 0 && done + left == 20, "{report}");
        assert_eq!(unfinished(&database).await.as_deref(), Some("0"), "others would wait a minute");
        assert_eq!(shell.json(0, &["rotate"])["re_encrypted"], left);
    }
}

async fn a_rotation_that_waits_for_the_lease_ends_at_a_signal(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    database
        .execute("INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at) SELECT 'rotate', 'night shift', created_at FROM vault_data_keys LIMIT 1")
        .await;
    // The lease of the far future, whatever a moment is there.
    let far = match database.dialect() {
        common::Dialect::Postgres => "'9999-01-01'",
        common::Dialect::Sqlite => "253000000000000000",
    };
    database.execute(&format!("UPDATE vault_rotation_runs SET lease_expires_at = {far}")).await;
    let mut running = Running::begin(&shell, &["--wait"]);
    running.until("waiting-for-lease");
    assert_eq!(running.ends_at(Signal::Terminate)["re_encrypted"], 0);
}

on_both_stores!(
    a_rotation_ends_its_page_and_gives_its_lease_back,
    a_rotation_that_waits_for_the_lease_ends_at_a_signal,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_holds_no_rotation_up() {
    let server = Server::start();
    let database = TestDatabase::Postgres(server.database().await);
    let shell = Shell::with_vault(&database);
    shell.put_tokens(20);

    let slowly = ["--force", "--rows-per-second", "3"];
    let mut running = Running::begin(&shell, &slowly);
    running.until("progress");
    let standstill = server.stand_still().await;
    assert!(running.ends_at(Signal::Terminate)["re_encrypted"].as_u64().unwrap() > 0);

    // One that has not even a connection, and one whose user has no patience.
    let mut connecting = Running::begin(&shell, &[]);
    connecting.until_it_listens();
    assert_eq!(connecting.ends_at(Signal::Terminate)["re_encrypted"], 0);
    drop(standstill);
    shell.json(3, &["status"]);
    database
        .execute("UPDATE vault_rotation_runs SET lease_expires_at = started_at WHERE finished_at IS NULL")
        .await;

    let mut running = Running::begin(&shell, &slowly);
    running.until("progress");
    let standstill = server.stand_still().await;
    running.send(Signal::Interrupt);
    running.until("stopping");
    let began = Instant::now();
    running.send(Signal::Interrupt);
    assert_eq!(running.wait(LIMIT).code(), Some(3));
    assert!(began.elapsed() < Duration::from_secs(1), "the second Ctrl-C waited {:?}", began.elapsed());
    drop(standstill);
    database
        .execute("UPDATE vault_rotation_runs SET lease_expires_at = started_at WHERE finished_at IS NULL")
        .await;
    assert_eq!(shell.json(0, &["rotate"])["outcome"], "complete");
    shell.json(0, &["verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_writes_to_for_long_holds_no_rotation_up() {
    let database = TestDatabase::create(common::Dialect::Sqlite).await;
    let shell = Shell::with_vault(&database);
    shell.put_tokens(20);
    let mut running = Running::begin(&shell, &["--force", "--rows-per-second", "3"]);
    running.until("progress");
    let mut writer = database.connect().await;
    let RawConnection::Sqlite(_) = &writer else { panic!("not SQLite") };
    writer.begin().await;
    // By now it waits for the writer, or will.
    let report = running.ends_at(Signal::Terminate);
    assert!(report["remaining"].as_u64().unwrap() > 0, "{report}");
    writer.execute("ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_holds_no_rotation_up() {
    let database = TestDatabase::create(common::Dialect::Sqlite).await;
    let shell = Shell::with_vault(&database);
    // An event each: more than a pipe holds.
    shell.put_tokens(700);
    database.execute("UPDATE integration_credentials SET credential_data_encrypted = 'cv1.spoilt'").await;
    let mut running = Running::begin(&shell, &["--force"]);
    // The lease is given back all the same.
    let ended = "SELECT count(*) FROM vault_rotation_runs WHERE finished_at IS NOT NULL";
    while database.fetch_one_text(ended).await.as_deref() == Some("0") {
        assert!(running.child.try_wait().unwrap().is_none(), "it ended before");
    }
    running.send(Signal::Terminate);
    assert_eq!(running.wait(LIMIT).code(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passphrase_that_takes_long_holds_no_rotation_up() {
    let database = TestDatabase::create(common::Dialect::Sqlite).await;
    let shell = Shell::on(&database)
        .with("WORDS", "correct horse battery staple")
        .with("CREDVAULT_MASTER_KEY", "passphrase:env:WORDS");
    shell.succeeds(&["init"]);
    // Half a minute's work, which makes another key of it: it does not come to that.
    let record = "argon2id$v=19$m=131072,t=64,p=1$AAECAwQFBgcICQoLDA0ODw";
    database.execute(&format!("UPDATE vault_master_keys SET provider_record = '{record}'")).await;
    let mut running = Running::begin(&shell, &["--force"]);
    // It is at it: most of the 128 MiB are filled.
    running
        .until_status("VmRSS:", |size| size.strip_suffix(" kB").unwrap().parse::<u32>().unwrap() > 100_000);
    assert_eq!(running.ends_at(Signal::Terminate)["new_data_key_ids"], json!([]));
}
