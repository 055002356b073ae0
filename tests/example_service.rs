//! The example service does what its head says, on both stores: it is started, asked, and stopped as in production.
#![cfg(all(feature = "postgres", feature = "sqlite", unix))]

mod common;

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{Dialect, KeyFiles, TestDatabase, on_both_stores};
use credvault::{OrganizationId, Vault};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command as AsyncCommand};
use tokio::time::timeout;
use uuid::Uuid;

const SECRET: &str = "a secret of the service that nobody would guess";
const FIRST: &str = "ghs_16C7e42F292c6912E7710c838347Ae178B4a";
const SECOND: &str = "ghs_9d3fA1b7C5e24860B1d9F7a3C6e8D0b2F4a6";
/// More than any answer takes here, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

on_both_stores!(
    a_token_is_stored_served_replaced_listed_and_removed,
    what_is_no_token_is_refused_and_nobody_else_is_let_in,
    an_integration_is_not_made_without_its_token,
    a_stop_waits_for_the_request_under_way,
);

/// A process of the example, killed with the test.
struct Service {
    process: Child,
    address: SocketAddr,
    log: mpsc::Receiver<String>,
    vault: Vault,
    _keys: KeyFiles,
}

/// What came back: the status, the headers in lower case, the body.
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The revision; `ETag` keeps its case.
    fn etag(&self) -> &str {
        self.header("etag").expect("no ETag")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.body))
    }
}

/// The example beside this binary; `cargo test` builds both.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().join("../examples/github_service");
    let built = path.metadata().and_then(|file| file.modified()).unwrap_or_else(|why| {
        panic!("{}: {why}; `cargo build --example github_service` makes it", path.display())
    });
    for file in ["main.rs", "requests.rs", "database.rs"] {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/github_service").join(file);
        let changed = source.metadata().unwrap().modified().unwrap();
        assert!(
            built >= changed,
            "{file} changed since; `cargo build --example github_service` makes it anew"
        );
    }
    path
}

impl Service {
    /// Makes a vault and starts the service on it, on a free port, with as much in its log as there is.
    async fn start(database: &TestDatabase) -> Self {
        Self::start_at(database, database.url()).await
    }

    async fn start_at(database: &TestDatabase, url: &str) -> Self {
        let keys = KeyFiles::new();
        let key = keys.generate("master.key");
        let vault = database.create_vault(&key).await;
        let mut command = Command::new(example());
        command
            .env_clear()
            .envs([("DATABASE_URL", url), ("CREDVAULT_MASTER_KEY", &key), ("SERVICE_SECRET", SECRET)])
            .envs([("LISTEN", "127.0.0.1:0"), ("RUST_LOG", "trace"), ("NO_COLOR", "1")])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let (mut stderr, writer) = std::io::pipe().unwrap();
        command.stderr(writer);
        let process = AsyncCommand::from(command).kill_on_drop(true).spawn().unwrap();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                // Without a receiver the test is over.
                sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).ok();
            }
        });
        let mut said = String::new();
        let address = loop {
            said.push_str(&log.recv_timeout(PATIENCE).unwrap_or_else(|why| panic!("{why}: {said}")));
            let line = said.lines().find(|line| line.contains("listening on "));
            // A line may come in two parts: once another follows it, it is whole.
            if let Some(line) = line.filter(|line| said.contains(&format!("{line}\n"))) {
                break line.rsplit(' ').next().unwrap().parse().unwrap();
            }
        };
        Self { process, address, log, vault, _keys: keys }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A request by whoever knows the secret.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.ask_as(&format!("Bearer {SECRET}"), method, path, headers, body).await
    }

    async fn ask_as(&self, who: &str, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut connection = self.connect().await;
        let head = head(who, method, path, headers, body.len());
        // A request that is refused early is answered before it was read.
        connection.write_all(format!("{head}{body}").as_bytes()).await.ok();
        answer(connection).await
    }

    fn signal(&self, signal: Signal) {
        let id = self.process.id().expect("it has ended already");
        kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Waits for its end; gives how it ended, and the whole log from when it listened.
    async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.process.wait()).await.expect("it does not end").unwrap();
        (status, self.log.iter().collect())
    }

    /// Stops it as an orchestrator does, and holds it to an orderly end and a log without secrets; gives the log.
    async fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.ended().await;
        assert!(status.success(), "{status}\n{log}");
        assert!(!log.contains("panicked"), "{log}");
        for secret in [FIRST, SECOND, SECRET] {
            // As text, and as `Debug` prints bytes that are no text to it.
            let bytes = format!("{:?}", secret.as_bytes());
            for form in [secret, bytes.trim_matches(['[', ']'])] {
                assert!(!log.contains(form), "a secret is in the log:\n{log}");
            }
        }
        log
    }
}

fn head(who: &str, method: &str, path: &str, headers: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: service\r\nconnection: close\r\nauthorization: {who}\r\n\
         content-length: {length}\r\n{headers}\r\n"
    )
}

async fn answer(mut connection: TcpStream) -> Answer {
    let mut text = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut text)).await.expect("no answer").unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, headers: head.replace("\r\n", "\n"), body: body.to_owned() }
}

/// A token as the service takes it, which expires in an hour.
fn token(text: &str) -> String {
    let expires_at = (OffsetDateTime::now_utc() + time::Duration::HOUR).format(&Rfc3339).unwrap();
    json!({ "access_token": text, "installation_id": "51234567", "expires_at": expires_at }).to_string()
}

/// The two paths of an organization.
fn paths(organization: OrganizationId) -> (String, String) {
    (
        format!("/organizations/{organization}/github"),
        format!("/internal/organizations/{organization}/github/token"),
    )
}

fn if_match(revision: &str) -> String {
    format!("if-match: {revision}\r\n")
}

async fn a_token_is_stored_served_replaced_listed_and_removed(database: TestDatabase) {
    let service = Service::start(&database).await;
    let organization = OrganizationId::from(Uuid::new_v4());
    let (github, internal) = paths(organization);

    assert_eq!(service.ask("GET", &internal, "", "").await.status, 404);
    assert_eq!(service.ask("PUT", &internal, &if_match("\"\""), &token(FIRST)).await.status, 412);
    assert_eq!(service.ask("DELETE", &github, "", "").await.status, 404);

    let created = service.ask("POST", &github, "", &token(FIRST)).await;
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(service.ask("POST", &github, "", &token(SECOND)).await.status, 409);
    // What the service wrote, the library reads: the integration has its id in the store's spelling.
    let integration = service.vault.organization(organization).integration("github").await.unwrap().unwrap();
    assert_eq!(created.json()["integration_id"], integration.to_string());
    let stored = "SELECT count(*) FROM integration_credentials WHERE credential_data_encrypted LIKE 'cv1.%'";
    assert_eq!(database.fetch_one_text(stored).await.as_deref(), Some("1"));
    let bot = "SELECT bot_id FROM integrations";
    assert_eq!(database.fetch_one_text(bot).await.as_deref(), Some("51234567"));

    let served = service.ask("GET", &internal, "", "").await;
    assert_eq!((served.status, served.etag()), (200, created.etag()));
    assert_eq!(served.header("cache-control"), Some("no-store"));
    assert_eq!(served.json()["access_token"], FIRST);
    let expires_at = served.json()["expires_at"].as_str().unwrap().to_owned();

    let unconditional = service.ask("PUT", &internal, "", &token(SECOND)).await;
    assert_eq!(unconditional.status, 428, "{}", unconditional.body);
    let replaced = service.ask("PUT", &internal, &if_match(served.etag()), &token(SECOND)).await;
    assert_eq!(replaced.status, 204, "{}", replaced.body);
    let late = service.ask("PUT", &internal, &if_match(served.etag()), &token(FIRST)).await;
    assert_eq!(late.status, 412, "{}", late.body);
    let served = service.ask("GET", &internal, "", "").await;
    assert_eq!((served.json()["access_token"].as_str(), served.etag()), (Some(SECOND), replaced.etag()));

    // A rotation beside the service: the token is the same, its revision another.
    service.vault.rotation().force().run().await.unwrap();
    let rotated = service.ask("GET", &internal, "", "").await;
    assert_eq!(rotated.json()["access_token"], SECOND);
    assert_ne!(rotated.etag(), replaced.etag());

    let expiring = service.ask("GET", "/internal/expiring?within=7200", "", "").await;
    let rows = expiring.json();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["organization_id"], organization.to_string());
    let expires_before = rows[0]["expires_at"].as_str().unwrap().to_owned();
    assert_eq!(rotated.json()["expires_at"], expires_before);
    assert!(expires_before >= expires_at);
    assert!(!expiring.body.contains("ghs_"), "{}", expiring.body);
    assert_eq!(service.ask("GET", "/internal/expiring?within=60", "", "").await.json(), json!([]));

    assert_eq!(service.ask("DELETE", &github, "", "").await.status, 204);
    assert_eq!(service.ask("GET", &internal, "", "").await.status, 404);
    let left = "SELECT count(*) FROM integration_credentials";
    assert_eq!(database.fetch_one_text(left).await.as_deref(), Some("0"));
    assert_eq!(service.ask("POST", &github, "", &token(FIRST)).await.status, 201);

    let log = service.stop().await;
    assert!(log.contains(&organization.to_string()), "the log names what was asked:\n{log}");
}

async fn what_is_no_token_is_refused_and_nobody_else_is_let_in(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (github, internal) = paths(Uuid::new_v4().into());
    for who in
        ["", "Bearer ", "Bearer a secret", SECRET, &format!("Bearer {SECRET}."), &format!("bearer {SECRET}")]
    {
        for (method, path) in [("POST", &github), ("GET", &internal), ("PUT", &internal), ("DELETE", &github)]
        {
            let answer = service.ask_as(who, method, path, "", &token(FIRST)).await;
            assert_eq!(answer.status, 401, "{method} by {who:?}");
        }
    }
    let no_number = token(FIRST).replace("51234567", "many");
    let twice = token(FIRST).replacen('{', &format!("{{\"access_token\":\"{FIRST}\","), 1);
    for body in ["", "{}", "[]", FIRST, &format!("{{\"access_token\":\"{FIRST}\"}}"), &no_number, &twice] {
        let answer = service.ask("POST", &github, "", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(!answer.body.contains(FIRST), "{}", answer.body);
    }
    let long = token(&"x".repeat(20_000));
    assert_eq!(service.ask("POST", &github, "", &long).await.status, 413);
    assert_eq!(service.ask("GET", "/internal/organizations/no-id/github/token", "", "").await.status, 400);
    assert_eq!(service.ask("GET", "/internal/expiring?within=soon", "", "").await.status, 400);
    let made = "SELECT count(*) FROM integrations";
    assert_eq!(database.fetch_one_text(made).await.as_deref(), Some("0"));
    service.stop().await;
}

async fn an_integration_is_not_made_without_its_token(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (github, _) = paths(Uuid::new_v4().into());
    database.execute("ALTER TABLE integration_credentials RENAME TO elsewhere").await;
    let answer = service.ask("POST", &github, "", &token(FIRST)).await;
    assert_eq!((answer.status, answer.body.as_str()), (500, ""));
    let made = "SELECT count(*) FROM integrations";
    assert_eq!(database.fetch_one_text(made).await.as_deref(), Some("0"));
    database.execute("ALTER TABLE elsewhere RENAME TO integration_credentials").await;
    let answer = service.ask("POST", &github, "", &token(FIRST)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let log = service.stop().await;
    assert!(log.contains("kind=not initialized") && log.contains(&github), "{log}");
}

async fn a_stop_waits_for_the_request_under_way(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (github, _) = paths(Uuid::new_v4().into());
    let body = token(FIRST);
    let mut connection = service.connect().await;
    let head = head(&format!("Bearer {SECRET}"), "POST", &github, "expect: 100-continue\r\n", body.len());
    connection.write_all(head.as_bytes()).await.unwrap();
    // It says so when it wants the body: the request is under way.
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(PATIENCE, connection.read_exact(&mut go_on)).await.expect("no answer").unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    service.signal(Signal::INT);
    // Stopped listening: from now on it waits for this request alone.
    let closed = async {
        while TcpStream::connect(service.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it still takes connections");
    connection.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(answer(connection).await.status, 201);
    let (status, log) = service.ended().await;
    assert!(status.success(), "{status}\n{log}");
    assert!(!log.contains(FIRST), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_busy_is_a_reason_to_come_again() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let url = format!("{}&options=-c%20lock_timeout%3D100ms", database.url());
    let service = Service::start_at(&database, &url).await;
    let (github, internal) = paths(Uuid::new_v4().into());
    let created = service.ask("POST", &github, "", &token(FIRST)).await;
    let mut other = database.connect().await;
    other.begin().await;
    other.execute("LOCK TABLE integrations, integration_credentials").await;
    for (method, path) in [("GET", &internal), ("PUT", &internal), ("POST", &github), ("DELETE", &github)] {
        let answer = service.ask(method, path, &if_match(created.etag()), &token(SECOND)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{method} {path}");
    }
    other.execute("ROLLBACK").await;
    assert_eq!(service.ask("GET", &internal, "", "").await.status, 200);
    service.stop().await;
}
