//! The command `credvault rotate --force` as a process of its own, which can be killed and stopped.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::service::Service;
use crate::common::{Dialect, TestDatabase};

/// By what PostgreSQL knows its sessions.
pub const APPLICATION: &str = "rotator";

/// A running rotation; killed when this is dropped.
pub struct Rotator(Child);

impl Rotator {
    /// Starts a forced rotation in pages of so many rows.
    pub fn start(service: &Service, page_rows: u32) -> Self {
        let database = match &service.database {
            TestDatabase::Postgres(database) => format!("{}&application_name={APPLICATION}", database.url()),
            TestDatabase::Sqlite(database) => database.url().to_owned(),
        };
        let child = Command::new(env!("CARGO_BIN_EXE_credvault"))
            .args(["rotate", "--force", "--batch-size", &page_rows.to_string()])
            .env_clear()
            .env("CREDVAULT_DATABASE", database)
            .env("CREDVAULT_MASTER_KEY", service.key("first"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Lets it run for so long; whether it has ended by then, which it must have done well.
    pub async fn ends_within(&mut self, time: Duration) -> bool {
        let running = async {
            while self.0.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(time, running).await.is_err() {
            return false;
        }
        let status = self.0.wait().unwrap();
        let stderr = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        assert!(status.success(), "{status}: {stderr}");
        true
    }

    /// Kills it, and waits until the database is done with what it had asked for.
    pub async fn kill(mut self, service: &Service) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        if service.database.dialect() == Dialect::Postgres {
            wait_until("the server ends the killed process's sessions", async || {
                sessions(service).await == 0
            })
            .await;
        }
    }

    /// Stops it where it is, as a machine does that stands still.
    pub fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Lets a stopped one go on.
    pub fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// How it ended, and what it said on standard error; it must end by itself.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the rotation ends", async || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let stderr = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        (status.unwrap(), stderr)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Rotator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many sessions of rotators PostgreSQL has.
async fn sessions(service: &Service) -> u64 {
    let TestDatabase::Postgres(database) = &service.database else { return 0 };
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = '{APPLICATION}'",
        database.name()
    );
    service.count(&sessions).await
}

/// Waits, half a minute at most, until something is so.
pub async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}
