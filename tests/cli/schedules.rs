//! The schedules of `examples/operations`: the command lines in them are run as they stand there.
//!
//! `examples/operations/check` holds the rest of these files to systemd, Kubernetes and cron.

use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::Shell;

const UNITS: [&str; 2] = [
    include_str!("../../examples/operations/systemd/credvault-rotate.service"),
    include_str!("../../examples/operations/systemd/credvault-status.service"),
];
const SHARED_UNIT: &str = include_str!("../../examples/operations/systemd/credvault-.service.d/shared.conf");
const KUBERNETES: &str = include_str!("../../examples/operations/kubernetes.yaml");
const CRONTAB: &str = include_str!("../../examples/operations/crontab");

/// Where the examples have the command, the key file and the files with the database.
const PROGRAM: &str = "/usr/local/bin/credvault";
const FOLDER: &str = "/etc/credvault";

/// What follows `key` on each line that begins with it.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect()
}

/// The arguments of the command in each unit and each container.
fn command_lines() -> Vec<Vec<String>> {
    let unit = |text| {
        let command = values(text, "ExecStart=");
        assert_eq!(command.len(), 1, "{text}");
        let mut words = command[0].split(' ').map(str::to_owned);
        assert_eq!(words.next().as_deref(), Some(PROGRAM));
        words.collect()
    };
    let containers = values(KUBERNETES, "command: ");
    assert!(containers.iter().all(|command| *command == format!("[{PROGRAM:?}]")), "{containers:?}");
    let arguments = values(KUBERNETES, "args: ");
    assert_eq!(arguments.len(), containers.len());
    let arguments = arguments.into_iter().map(|list| serde_json::from_str(list).unwrap());
    UNITS.into_iter().map(unit).chain(arguments).collect()
}

/// What cron hands to `sh` by each of its lines, for the files in this folder.
fn cron_commands() -> Vec<String> {
    let jobs = CRONTAB.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let command = |line: &str| line.splitn(7, ' ').last().unwrap().replace(FOLDER, ".");
    jobs.map(command).collect()
}

/// A shell as cron has it: the database and the master key by the crontab and the files that it names alone.
fn under_cron(shell: &Shell, url: &str) -> String {
    for file in ["rotate.env", "status.env"] {
        std::fs::write(shell.path(file), format!("DATABASE_URL='{url}'\n")).unwrap();
    }
    let master_key = values(CRONTAB, "CREDVAULT_MASTER_KEY=");
    assert_eq!(master_key.len(), 1);
    let master_key = master_key[0].replace(FOLDER, ".");
    format!("unset CREDVAULT_DATABASE DATABASE_URL; export CREDVAULT_MASTER_KEY={master_key}\n")
}

async fn the_commands_of_units_and_containers_do_what_is_due(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_token();
    let lines = command_lines();
    let named = |name: &str| lines.iter().filter(|line| line[0] == name).count();
    assert_eq!((named("rotate"), named("status"), lines.len()), (2, 2, 4), "{lines:?}");
    for line in &lines {
        let arguments: Vec<&str> = line.iter().map(String::as_str).collect();
        shell.succeeds(&arguments);
    }
}

async fn the_commands_of_the_crontab_do_what_is_due_and_print_nothing(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    shell.put_token();
    let commands = cron_commands();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let output = shell.type_in(&format!("{}{command}", under_cron(&shell, database.url())));
        assert_eq!(output, "", "{command}");
    }
    assert!(!shell.json(0, &["status"])["last_rotation"].is_null(), "cron's rotation left no trace");
}

on_both_stores!(
    the_commands_of_units_and_containers_do_what_is_due,
    the_commands_of_the_crontab_do_what_is_due_and_print_nothing,
);

#[test]
fn the_master_key_is_where_each_schedule_puts_it() {
    let place = |directory: &str| format!("file:{directory}/master.key");
    assert_eq!(values(SHARED_UNIT, "LoadCredential="), [format!("master.key:{FOLDER}/master.key")]);
    assert_eq!(values(SHARED_UNIT, "Environment="), [format!("CREDVAULT_MASTER_KEY={}", place("%d"))]);
    assert_eq!(values(KUBERNETES, "mountPath: "), [FOLDER, FOLDER]);
    assert_eq!(values(KUBERNETES, "value: "), [place(FOLDER), place(FOLDER)]);
}

#[test]
fn cron_mails_what_somebody_has_to_look_at_and_nothing_else() {
    let shell = Shell::new();
    let begin = under_cron(&shell, "sqlite:vault.db");
    let [rotate, status]: [String; 2] = cron_commands().try_into().unwrap();
    // Stands in for the command: says how it ends, and ends so.
    let ends_with = |code: i32| format!("credvault() {{ echo \"$1 ends with {code}\"; return {code}; }}\n");
    for (code, rotate_speaks, status_speaks) in [
        (0, false, false),
        (1, true, true),
        (2, true, true),
        (3, false, true),
        (4, true, true),
        (5, true, true),
    ] {
        for (command, name, speaks) in
            [(&rotate, "rotate", rotate_speaks), (&status, "status", status_speaks)]
        {
            let output = shell.type_in(&format!("{begin}{}{command}", ends_with(code)));
            let expected = if speaks { format!("{name} ends with {code}\n") } else { String::new() };
            assert_eq!(output, expected, "{command}");
        }
    }
    // Nor is an error lost that comes before the command.
    std::fs::remove_file(shell.path("rotate.env")).unwrap();
    assert_ne!(shell.type_in(&format!("{begin}{}{rotate}", ends_with(0))), "");
}
