//! A throw-away PgBouncer in transaction mode, in front of a test's database.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::postgres::Database;

/// The first version that follows the prepared statements of its clients.
const OLDEST: (u32, u32) = (1, 21);

/// The server's sessions that all clients share.
pub const SESSIONS: u64 = 3;

/// The pooler; it ends when this is dropped.
pub struct Pooler {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one in front of a database.
    pub fn to(database: &Database) -> Self {
        let program = program();
        let folder = tempfile::Builder::new().prefix("credvault-pgbouncer-").tempdir_in("/tmp").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").expect("no port on 127.0.0.1");
        let port = free.local_addr().unwrap().port();
        drop(free);
        let socket = database.url().split_once("?host=").unwrap().1;
        let settings = format!(
            "[databases]\n\
             * = host={socket} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {SESSIONS}\n\
             max_prepared_statements = 100\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
            command.args(["-u", "postgres"]);
        }
        let process =
            command.arg("-q").arg(&file).stdin(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "PgBouncer does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", database.name());
        Self { process, url, _folder: folder }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// PgBouncer: CREDVAULT_PGBOUNCER, else by PATH.
fn program() -> PathBuf {
    let program = std::env::var_os("CREDVAULT_PGBOUNCER").map_or_else(|| "pgbouncer".into(), PathBuf::from);
    let advice = "tests/pgbouncer/run gets PgBouncer 1.21 or newer and runs this";
    let output = Command::new(&program).arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; {advice}", program.display()));
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    assert!(
        version >= OLDEST,
        "{} is {}; {advice}",
        program.display(),
        text.lines().next().unwrap_or_default()
    );
    program
}
