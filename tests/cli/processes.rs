//! What other processes see of the command while it runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::shell::Shell;

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user that is not root, where the tests run as root: root may look into everything.
const NOBODY: u32 = 65_534;

/// `program` as a user that is not root.
fn unprivileged(shell: &Shell, program: &str, arguments: &[&str]) -> Command {
    if !geteuid().is_root() {
        return shell.command(program, arguments);
    }
    let drop = format!("--reuid={NOBODY}");
    let drop = [&drop, &format!("--regid={NOBODY}"), "--clear-groups", program];
    shell.command("/usr/bin/setpriv", &[&drop[..], arguments].concat())
}

/// Starts a program that then waits for its input.
fn start(shell: &Shell, program: &str, arguments: &[&str]) -> Child {
    let mut command = unprivileged(shell, program, arguments);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Before it is the program itself, it is what gave up root's rights, which nobody may look into.
    let begun = Instant::now();
    while !fs::read_to_string(proc(&child, "cmdline")).unwrap().starts_with(program) {
        assert!(begun.elapsed() < PATIENCE, "{program} did not start");
        std::thread::yield_now();
    }
    child
}

fn proc(child: &Child, file: &str) -> String {
    format!("/proc/{}/{file}", child.id())
}

/// Whether another process of the same user can read a file.
fn can_read(shell: &Shell, path: &str) -> bool {
    let read = unprivileged(shell, "/usr/bin/head", &["-c", "1", path]).output().unwrap();
    read.status.success()
}

/// A folder that such a user may use, with the command in it.
fn open_folder() -> (Shell, String) {
    let shell = Shell::new().with("MARKER", "of the environment");
    let folder = shell.path("");
    let program = shell.path("credvault");
    fs::copy(env!("CARGO_BIN_EXE_credvault"), &program).unwrap();
    if geteuid().is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap().to_owned();
    assert!(Path::new(&program).is_absolute());
    (shell, program)
}

#[test]
fn no_other_process_of_the_same_user_looks_into_the_command() {
    let (shell, program) = open_folder();
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:master.key");
    for arguments in [&["master-key", "generate", "--out", "master.key"][..], &["init"]] {
        assert!(unprivileged(&shell, &program, arguments).status().unwrap().success());
    }
    let mut import = start(&shell, &program, &["import"]);
    let mut other = start(&shell, "/usr/bin/cat", &[]);

    let begun = Instant::now();
    while can_read(&shell, &proc(&import, "environ")) {
        assert!(begun.elapsed() < PATIENCE, "another process reads its environment");
    }
    for file in ["environ", "maps", "auxv"] {
        assert!(!can_read(&shell, &proc(&import, file)), "{file}");
        assert!(can_read(&shell, &proc(&other, file)), "{file} of a program that does nothing against it");
    }
    let owner = |child: &Child| fs::metadata(proc(child, "mem")).unwrap().uid();
    let user = if geteuid().is_root() { NOBODY } else { geteuid().as_raw() };
    assert_eq!((owner(&import), owner(&other)), (0, user));
    let limits = fs::read_to_string(proc(&import, "limits")).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(limit.split_whitespace().rev().nth(1), Some("0"), "{limit}");

    drop((import.stdin.take(), other.stdin.take()));
    assert!(import.wait().unwrap().success() && other.wait().unwrap().success());
}

/// What a debugger of the same user, which has started the program, gets of it while it waits for its input.
fn attached(shell: &Shell, program: &[&str]) -> String {
    let arguments = [&["-c", include_str!("attach.py")], program].concat();
    let output = unprivileged(shell, "/usr/bin/python3", &arguments).output().unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_debugger_of_the_same_user_attaches_and_no_core_dump_is_left() {
    let (shell, program) = open_folder();
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:master.key");
    for arguments in [&["master-key", "generate", "--out", "master.key"][..], &["init"]] {
        assert!(unprivileged(&shell, &program, arguments).status().unwrap().success());
    }
    // With its keys in memory.
    assert_eq!(
        attached(&shell, &[&program, "import"]),
        "PTRACE_SEIZE EPERM\nPTRACE_ATTACH EPERM\nprocess_vm_readv EPERM\n/proc/PID/mem EACCES\ncore dump none\n"
    );
    assert_eq!(
        attached(&shell, &["/usr/bin/cat"]),
        "PTRACE_SEIZE done\nPTRACE_ATTACH done\nprocess_vm_readv EFAULT\n/proc/PID/mem done\ncore dump written\n",
        "a program that does nothing against it"
    );
}
