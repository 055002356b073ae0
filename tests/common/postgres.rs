//! A throw-away PostgreSQL server per test process, started by the first test that wants a database.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use uuid::Uuid;

/// An empty database of its own on the server of this process; it goes when the server goes.
pub struct Database {
    name: String,
    url: String,
}

/// A fresh, empty database.
pub async fn database() -> Database {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| {
        Cluster::start(|_| vec!["listen_addresses=''".to_owned()]).unwrap_or_else(|why| panic!("{why}"))
    });
    cluster.create_database().await
}

impl Database {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://postgres@localhost/NAME?host=FOLDER`: by the server's socket, as superuser, without a password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as another role, without a password; roles are the server's, so name them at random.
    pub fn url_as(&self, role: &str) -> String {
        self.url.replacen("postgres@", &format!("{role}@"), 1)
    }

    pub async fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(10).connect(&self.url).await.expect("the test server is gone")
    }
}

/// A server that speaks TLS on 127.0.0.1, with a certificate for `localhost` alone.
pub struct TlsServer {
    cluster: Cluster,
    port: u16,
}

/// The server with TLS of this process.
pub async fn tls() -> &'static TlsServer {
    static SERVER: OnceLock<TlsServer> = OnceLock::new();
    SERVER.get_or_init(TlsServer::start)
}

impl TlsServer {
    fn start() -> Self {
        // Another process can take the port between our look and the server's: a few tries.
        let mut why = String::new();
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").expect("no port on 127.0.0.1");
            let port = free.local_addr().unwrap().port();
            drop(free);
            let started = Cluster::start(|folder| {
                certify(folder);
                vec![
                    "listen_addresses=127.0.0.1".to_owned(),
                    format!("port={port}"),
                    "ssl=on".to_owned(),
                    format!("ssl_cert_file={}", folder.join("server.crt").display()),
                    format!("ssl_key_file={}", folder.join("server.key").display()),
                ]
            });
            match started {
                Ok(cluster) => return Self { cluster, port },
                Err(error) => why = error,
            }
        }
        panic!("{why}");
    }

    /// A URL to the server's database `postgres` by TCP as superuser, with no TLS parameter yet.
    pub fn url(&self, host: &str) -> String {
        format!("postgres://postgres@{host}:{}/postgres", self.port)
    }

    /// The certificate authority that signed the server's certificate, as a PEM file.
    pub fn ca(&self) -> PathBuf {
        self.cluster.folder.join("ca.crt")
    }

    /// Another one, that signed nothing.
    pub fn other_ca(&self) -> PathBuf {
        self.cluster.folder.join("other-ca.crt")
    }
}

/// A server of one test's own, to be killed, started again, or brought to a standstill; as careful with its files as one in
/// production.
pub struct Server(Cluster);

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with `settings` besides, each `name=value`.
    pub fn start_with(settings: &[&str]) -> Self {
        let careful = ["listen_addresses=''", "fsync=on", "full_page_writes=on"];
        let all = |_: &Path| careful.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        Self(Cluster::start(all).unwrap_or_else(|why| panic!("{why}")))
    }

    /// One whose data, or whose write-ahead log alone, is on a disk of `megabytes`; that takes the right to mount one.
    pub fn on_small_disk(of: SmallDisk, megabytes: u32) -> Self {
        let settings = |folder: &Path| {
            let place = folder.join(of.folder());
            std::fs::create_dir(&place).unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
                .arg(&place)
                .status()
                .is_ok_and(|status| status.success());
            assert!(mounted, "no tmpfs could be mounted: this test needs root, with the right to mount");
            ["listen_addresses=''", "max_wal_size=32MB", "min_wal_size=32MB"].map(str::to_owned).to_vec()
        };
        Self(Cluster::start(settings).unwrap_or_else(|why| panic!("{why}")))
    }

    /// A server that follows this one and replays what is committed `delay` later, as one that lags.
    pub fn standby(&self, delay: &str) -> Self {
        let settings = |folder: &Path| {
            // What `cluster.sh` copies, in place of making a new one.
            std::fs::write(folder.join("primary"), self.0.folder.display().to_string()).unwrap();
            vec!["listen_addresses=''".to_owned(), format!("recovery_min_apply_delay={delay}")]
        };
        Self(Cluster::start(settings).unwrap_or_else(|why| panic!("{why}")))
    }

    /// The folder of its data, or of its log alone.
    pub fn folder(&self, of: SmallDisk) -> PathBuf {
        self.0.folder.join(of.folder())
    }

    /// The URL of a database of its name on this server.
    pub fn url(&self, database: &Database) -> String {
        self.0.url(database.name())
    }

    /// An empty database on it.
    pub async fn database(&self) -> Database {
        self.0.create_database().await
    }

    /// Kills all of the server's processes.
    pub fn kill(&mut self) {
        self.0.order("kill", "killed");
    }

    /// Starts it again; it recovers what was committed.
    pub fn start_again(&mut self) {
        self.0.order("start", "ready");
    }

    /// Kills it, with all its sessions, and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Lets it do nothing at all, nor answer, until the standstill is dropped.
    pub async fn stand_still(&self) -> Standstill {
        let mut connection = PgConnection::connect(&self.0.url("postgres")).await.unwrap();
        let sessions: Vec<i32> =
            sqlx::query_scalar("SELECT pid FROM pg_stat_activity").fetch_all(&mut connection).await.unwrap();
        let file = std::fs::read_to_string(self.0.folder.join("data/postmaster.pid")).unwrap();
        let server = file.lines().next().unwrap().parse().unwrap();
        // First the one that would start more.
        let pids = [server].into_iter().chain(sessions).map(|pid| Pid::from_raw(pid).unwrap()).collect();
        let standstill = Standstill(pids);
        standstill.signal(Signal::STOP);
        standstill
    }
}

/// What of a server is on a small disk.
#[derive(Clone, Copy)]
pub enum SmallDisk {
    Data,
    WriteAheadLog,
}

impl SmallDisk {
    /// Its name in the server's folder, as `cluster.sh` knows it.
    fn folder(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::WriteAheadLog => "wal",
        }
    }
}

/// A server that stands still; it goes on when this is dropped.
pub struct Standstill(Vec<Pid>);

impl Standstill {
    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            // A session may have ended meanwhile.
            let _ = kill_process(*pid, signal);
        }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

/// Writes `ca.crt`, `server.crt`, `server.key` and `other-ca.crt` to `folder`.
fn certify(folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let (ca, issuer) = authority("the test's authority");
    let (other_ca, _) = authority("another authority");
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.crt"), ca).unwrap();
    std::fs::write(folder.join("other-ca.crt"), other_ca).unwrap();
    std::fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
    // The server refuses a key that others may read.
    let key_file = folder.join("server.key");
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

struct Cluster {
    folder: PathBuf,
    /// `cluster.sh`, which stops the server when this process is gone, and with it the pipe to its input.
    supervisor: Child,
    answer: BufReader<ChildStdout>,
}

impl Cluster {
    /// Starts a server in a new folder, with the settings that `prepare` returns after it has filled the folder.
    #[expect(
        clippy::zombie_processes,
        reason = "the supervisor outlives this process: it cleans up after it"
    )]
    fn start(prepare: impl FnOnce(&Path) -> Vec<String>) -> Result<Self, String> {
        // A socket's path is 107 bytes at most, and the server's user must get to it: not TMPDIR.
        let folder = tempfile::Builder::new().prefix("credvault-pg-").tempdir_in("/tmp").unwrap().keep();
        let mut supervisor = Command::new("sh")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/cluster.sh"))
            .arg(binaries())
            .arg(&folder)
            .args([
                "fsync=off",
                "full_page_writes=off",
                "max_connections=200",
                "max_prepared_transactions=20",
            ])
            .args(prepare(&folder))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // An interrupt from the keyboard must not reach it before it has cleaned up.
            .process_group(0)
            .spawn()
            .expect("no sh");
        let mut answer = BufReader::new(supervisor.stdout.take().unwrap());
        let mut first = String::new();
        answer.read_line(&mut first).unwrap();
        if first == "ready\n" {
            return Ok(Self { folder, supervisor, answer });
        }
        answer.read_to_string(&mut first).unwrap();
        Err(format!("PostgreSQL did not start: {first}"))
    }

    /// Has the supervisor do something, which it does if it answers so.
    fn order(&mut self, what: &str, expected: &str) {
        writeln!(self.supervisor.stdin.as_mut().unwrap(), "{what}").unwrap();
        let mut answer = String::new();
        self.answer.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), expected);
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.display())
    }

    async fn create_database(&self) -> Database {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection =
            PgConnection::connect(&self.url("postgres")).await.expect("the test server is not there");
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        connection.execute(sqlx::AssertSqlSafe(create)).await.expect("no database");
        let url = self.url(&name);
        Database { name, url }
    }
}

/// Runs a file of SQL as a person does, by `psql` and its `\i`; panics at the first statement that fails.
pub fn run_by_hand(url: &str, file: &Path) {
    let beside_server = binaries().join("psql");
    let psql = if beside_server.exists() { beside_server } else { "psql".into() };
    let output = Command::new(psql)
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url])
        .args(["--command", &format!("\\i '{}'", file.display())])
        .output()
        .expect("no psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The folder of PostgreSQL's server programs: CREDVAULT_POSTGRES_BIN, else by PATH, else the newest of Debian's.
fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("CREDVAULT_POSTGRES_BIN") {
        return folder.into();
    }
    let has_server = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("pg_ctl").exists();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(has_server) {
        return folder;
    }
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .map(|version| version.path().join("bin"))
        .filter(has_server)
        .max_by_key(|bin| bin.parent().and_then(|v| v.file_name()?.to_str()?.parse::<u32>().ok()));
    newest.unwrap_or_else(|| {
        panic!("no PostgreSQL server found: apt-get install postgresql, or set CREDVAULT_POSTGRES_BIN to its programs")
    })
}
