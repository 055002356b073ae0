//! What the command refuses, and that it repeats no secret when it does.

use std::os::unix::fs::PermissionsExt;

use crate::shell::{SECRET, Shell};

#[test]
fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let shell = Shell::new().with("CREDVAULT_MASTER_KEY", "file:master.key");
    for url in [
        "postgres://user:hunter2@localhost/db",
        "postgresql://:hunter2@localhost/db",
        "postgres://user:hun/hunter2@localhost/db",
        "postgres://localhost/db?password=hunter2",
        "postgres://localhost/db?pass%77ord=hunter2",
    ] {
        for command in [&["init"][..], &["migrate"], &["status"], &["demo", "--tokens", "1"]] {
            let line = shell.fails(2, &[command, &["--database", url]].concat());
            assert!(!line.contains("hunter2"), "{line}");
            assert!(line.contains("DATABASE_URL") && line.contains("PGPASSFILE"), "{line}");
        }
    }
}

#[test]
fn a_url_from_the_environment_may_hold_a_password_and_is_not_repeated() {
    for name in ["CREDVAULT_DATABASE", "DATABASE_URL"] {
        let shell = Shell::new().with(name, "postgres://user:hunter2@127.0.0.1:1/db");
        let line = shell.fails(1, &["migrate"]);
        assert!(line.contains("connection to the database failed") && !line.contains("hunter2"), "{line}");
        let shell = Shell::new().with(name, "mysql://user:hunter2@127.0.0.1/db");
        let line = shell.fails(2, &["migrate"]);
        assert!(line.contains("postgres://") && !line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_secret_in_a_wrong_place_is_not_repeated() {
    let shell = Shell::new();
    let organization = "--organization=6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    for arguments in [
        &[SECRET][..],
        &["put", SECRET],
        &["put", organization, "--connector", "github", SECRET],
        &["put", organization, "--connector", "github", &format!("--token={SECRET}")],
        &["put", organization, "--connector", "github", "--expires-at", SECRET],
        &["put", organization, "--integration", SECRET],
        &["get", "--organization", SECRET, "--connector", "github"],
        &["list", "--organization", SECRET],
        &["rotate", "--max-age", SECRET],
        &["rotate", "--batch-size", SECRET],
        &["status", "--output", SECRET],
        &["status", "--master-key", SECRET],
        &["status", "--master-key", "file:cvmk1_Marker"],
        &["status", "--database", SECRET, "--master-key", "env:KEY"],
        &["rewrap", "--yes", "--to", SECRET, "--master-key", "env:KEY"],
        &["adopt", "--salt-env", SECRET, "--master-key", "env:KEY"],
        &["adopt", "--salt", SECRET],
    ] {
        let line = shell.fails(2, arguments);
        assert!(!line.contains("Marker"), "{arguments:?}: {line}");
    }
}

#[test]
fn usage_errors_say_what_is_wrong_on_one_line() {
    let shell = Shell::new().with("CREDVAULT_MASTER_KEY", "env:KEY");
    let organization = "--organization=6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let cases: [(&[&str], &str); 12] = [
        (&["rotat"], "rotate?"),
        (&["rotate", "--forced"], "there is no argument --forced"),
        (&["rotate", "--force", "--max-age", "3d"], "can't be used with"),
        (&["rotate", "--max-age", "3w"], "12h or 7d"),
        (&["get", organization], "--integration ID or --connector NAME"),
        (&["get", "--connector", "github"], "--organization ID"),
        (&["get", organization, "--connector", "github", "--integration", organization], "--integration"),
        (
            &["put", organization, "--integration", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "--create"],
            "--create",
        ),
        (&["put", organization, "--connector", "github", "--expires-at", "tomorrow"], "2027-01-31T12:00:00Z"),
        (&["status", "--output", "yaml"], "text or json"),
        (&["adopt"], "--salt-file"),
        (&["demo", "--tokens", "0"], "--tokens"),
    ];
    for (arguments, why) in cases {
        let line = shell.fails(2, arguments);
        assert!(line.contains(why), "{why}: {line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let shell = Shell::new();
    let help = shell.succeeds(&["--help"]);
    for part in ["demo", "rewrap", "CREDVAULT_MASTER_KEY", "Exit codes:"] {
        assert!(help.contains(part), "{help}");
    }
    assert!(shell.succeeds(&["put", "--help"]).contains("--expires-at"));
    assert_eq!(shell.succeeds(&["--version"]), format!("credvault {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_key_file_is_its_owners_alone_and_never_overwritten() {
    let shell = Shell::new();
    let text = shell.succeeds(&["master-key", "generate", "--out", "master.key"]);
    assert!(text.contains("Back this master key up") && !text.contains("cvmk1_"), "{text}");
    let mode = std::fs::metadata(shell.path("master.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read(shell.path("master.key")).unwrap();

    let line = shell.fails(5, &["master-key", "generate", "--out", "master.key"]);
    assert!(line.contains("never overwritten"), "{line}");
    assert_eq!(std::fs::read(shell.path("master.key")).unwrap(), key);

    std::fs::set_permissions(shell.path("master.key"), PermissionsExt::from_mode(0o644)).unwrap();
    let line = shell.fails(1, &["init", "--master-key", "file:master.key"]);
    assert!(line.contains("master.key"), "{line}");
}

#[test]
fn a_prompt_without_a_terminal_fails_and_waits_for_nobody() {
    let shell = Shell::new();
    let output = std::process::Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_credvault"), "init", "--master-key", "passphrase:prompt"])
        .env_clear()
        .current_dir(shell.path("."))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains("needs a terminal") && line.lines().count() == 1, "{line}");
}

#[test]
fn a_log_is_written_only_when_asked_for_and_a_bad_filter_is_refused() {
    let shell = Shell::new().with("CREDVAULT_LOG", "credvault=nonsense=debug");
    let line = shell.fails(2, &["master-key", "generate"]);
    assert!(line.contains("CREDVAULT_LOG"), "{line}");
}
