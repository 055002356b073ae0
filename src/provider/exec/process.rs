//! Runs a program: bounded in what it may say, killed with all that it started once nobody waits for it any more.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use zeroize::Zeroizing;

use super::message::MAX_REPLY_BYTES;
use super::shown;
use crate::error::{Error, ErrorKind, Result};

/// The environment variables that the program gets, besides those that begin with [`OWN_VARIABLES`]. Not all of them: a
/// service's environment holds its database's password, and perhaps another master key.
const VARIABLES: [&str; 6] = ["HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER"];

/// What the names of the variables begin with that are meant for the program.
const OWN_VARIABLES: &str = "CREDVAULT_EXEC_";

/// The rights to write of group and others.
const WRITABLE: u32 = 0o022;

/// Anybody's right to execute.
const EXECUTABLE: u32 = 0o111;

pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) stdout: Zeroizing<Vec<u8>>,
}

/// The program while it runs. Dropped before it has ended, as after a time limit, it is killed with its process group;
/// tokio reaps it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // There is an id only until it is waited for: it can't be another process's by now.
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = id {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What `program` answers to `request`.
///
/// # Errors
///
/// `Provider` if the file is not to be trusted, or can't be run; retryable if it is being written just now. `Malformed` if
/// it says more than a reply may have.
pub(super) async fn run(program: &Path, request: &[u8]) -> Result<Answer> {
    check(program)?;
    let failed = |error: io::Error| {
        let what = format!("{} can't be run: {error}", shown(program));
        let busy = error.kind() == io::ErrorKind::ExecutableFileBusy;
        let error = Error::new(ErrorKind::Provider, what);
        if busy { error.retryable() } else { error }
    };
    let child = Command::new(program)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_passed(name)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // May hold a key, and nobody could tell: neither kept nor passed on to the service's log.
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut running = Running(child);
    let pipes = running.0.stdin.take().zip(running.0.stdout.take());
    let (stdin, stdout) = pipes.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    // At once: each may wait for the other with a full pipe.
    let ((), stdout) = tokio::join!(tell(stdin, request), listen(stdout));
    let Some(stdout) = stdout.map_err(failed)? else {
        let what = format!("{} answers more than {MAX_REPLY_BYTES} bytes", shown(program));
        return Err(Error::new(ErrorKind::Malformed, what));
    };
    let status = running.0.wait().await.map_err(failed)?;
    Ok(Answer { status, stdout })
}

/// A program may answer before it has read everything: that it closed its end shows in its answer.
async fn tell(mut stdin: ChildStdin, request: &[u8]) {
    let _ = stdin.write_all(request).await;
}

/// All that the program says; `None` if it is too much.
async fn listen(mut stdout: ChildStdout) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // One buffer, never grown, so that no copy stays behind; one byte more than allowed tells that there is more.
    let mut bytes = Zeroizing::new(vec![0; MAX_REPLY_BYTES + 1]);
    let mut length = 0;
    loop {
        match stdout.read(&mut bytes[length..]).await? {
            _ if length == bytes.len() => return Ok(None),
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

fn is_passed(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| VARIABLES.contains(&name) || name.starts_with(OWN_VARIABLES))
}

/// Refuses a file that another user could have put there or changed: it is going to be given the key.
fn check(program: &Path) -> Result<()> {
    let refused = |what: String| Error::new(ErrorKind::Provider, format!("{} {what}", shown(program)));
    let file = std::fs::metadata(program).map_err(|error| refused(format!("can't be found: {error}")))?;
    if !file.is_file() {
        return Err(refused("is not a regular file".to_owned()));
    }
    match objection(program, file.uid(), geteuid().as_raw(), file.mode()) {
        None => Ok(()),
        Some(objection) => Err(refused(objection)),
    }
}

/// What is wrong with a program of user `owner` and of `mode`, for a process of user `process`, and what to do.
fn objection(program: &Path, owner: u32, process: u32, mode: u32) -> Option<String> {
    if owner != 0 && owner != process {
        return Some(format!(
            "belongs to user {owner}, neither to root nor to this process's user {process}: `chown {process} {program:?}`"
        ));
    }
    let mode = mode & 0o7777;
    if mode & WRITABLE != 0 {
        return Some(format!("has mode {mode:04o}; only its owner may write it: `chmod go-w {program:?}`"));
    }
    (mode & EXECUTABLE == 0)
        .then(|| format!("has mode {mode:04o}; nobody may execute it: `chmod 700 {program:?}`"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;

    fn program(folder: &TempDir, script: &str, mode: u32) -> PathBuf {
        let path = folder.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Asked again while another test's child still holds the script open for writing.
    async fn answer(program: &Path, request: &[u8]) -> Result<Answer> {
        loop {
            match run(program, request).await {
                Err(error) if error.is_retryable() => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    }

    #[test]
    fn each_of_the_512_modes_is_judged_by_the_rule() {
        let path = Path::new("/program");
        for mode in 0..0o1000 {
            let allowed = mode & 0o022 == 0 && mode & 0o111 != 0;
            for (owner, process) in [(0, 0), (0, 1000), (1000, 1000)] {
                assert_eq!(objection(path, owner, process, 0o100_000 | mode).is_none(), allowed, "{mode:o}");
            }
            assert!(objection(path, 1000, 1001, mode).is_some());
        }
    }

    #[tokio::test]
    async fn a_file_that_others_could_have_written_is_not_run() {
        let folder = TempDir::new().unwrap();
        let ran = folder.path().join("ran");
        for mode in [0o722, 0o720, 0o702, 0o600] {
            let path = program(&folder, &format!("touch {ran:?}"), mode);
            let error = answer(&path, b"").await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
        }
        for path in [folder.path(), Path::new("/dev/null"), Path::new("/nothing/here")] {
            assert!(answer(path, b"").await.is_err());
        }
        assert!(!ran.exists());
    }

    #[tokio::test]
    async fn what_it_says_and_its_exit_are_told_and_its_standard_error_is_not() {
        let folder = TempDir::new().unwrap();
        let path = program(&folder, "cat; pwd; echo hunter2 >&2; exit 3", 0o700);
        let request = vec![b'x'; 60_000];
        let answer = answer(&path, &request).await.unwrap();
        assert_eq!(answer.status.code(), Some(3));
        assert_eq!(*answer.stdout, [request.as_slice(), b"/\n"].concat());
    }

    #[tokio::test]
    async fn it_may_say_so_much_and_not_a_byte_more() {
        let folder = TempDir::new().unwrap();
        let says = |bytes: usize| format!("head -c {bytes} /dev/zero");
        let all = answer(&program(&folder, &says(MAX_REPLY_BYTES), 0o700), b"").await.unwrap();
        assert_eq!(all.stdout.len(), MAX_REPLY_BYTES);
        for script in [says(MAX_REPLY_BYTES + 1), "exec cat /dev/zero".to_owned()] {
            let error = answer(&program(&folder, &script, 0o700), b"").await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
        }
    }

    #[test]
    fn the_service_s_secrets_are_not_in_its_environment() {
        for name in ["PATH", "HOME", "CREDVAULT_EXEC_ROLE"] {
            assert!(is_passed(&name.into()), "{name}");
        }
        for name in
            ["CREDVAULT_MASTER_KEY", "DATABASE_URL", "PGPASSWORD", "LD_PRELOAD", "AWS_SECRET_ACCESS_KEY"]
        {
            assert!(!is_passed(&name.into()), "{name}");
        }
    }

    #[tokio::test]
    async fn it_is_killed_with_what_it_started_once_nobody_waits() {
        let folder = TempDir::new().unwrap();
        let started = folder.path().join("started");
        let script =
            format!("sleep 1000 & echo $$ $! >{started:?}.new; mv {started:?}.new {started:?}; wait");
        let path = program(&folder, &script, 0o700);
        let asked = tokio::spawn(async move { answer(&path, b"").await.map(|_| ()) });
        let deadline = Instant::now() + Duration::from_secs(10);
        let until = async |what: &dyn Fn() -> bool| {
            while !what() {
                assert!(Instant::now() < deadline, "it takes too long");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        until(&|| started.exists()).await;
        asked.abort();
        let ids = fs::read_to_string(&started).unwrap();
        for id in ids.split_whitespace() {
            let status = format!("/proc/{id}/status");
            // Its child is reaped by the system's first process, where that does so.
            until(&|| fs::read_to_string(&status).map_or(true, |status| status.contains("State:\tZ"))).await;
        }
        // The program itself is reaped here.
        let program = format!("/proc/{}", ids.split_whitespace().next().unwrap());
        until(&|| !Path::new(&program).exists()).await;
    }
}
