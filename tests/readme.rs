//! The README's shell commands are real: they run as they stand there, on both stores.
#![cfg(all(feature = "cli", feature = "postgres", feature = "sqlite", unix))]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{TestDatabase, on_both_stores};

const README: &str = include_str!("../README.md");

/// What a block begins with that says where the database is.
const DATABASE: &str = "export DATABASE_URL=";

const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

/// The shell block after the comment that says that this file runs it.
fn block() -> &'static str {
    let (_, rest) = README.split_once("<!-- tests/readme.rs runs this block").expect("no marked block");
    let (_, rest) = rest.split_once("-->\n```sh\n").expect("no shell block after the mark");
    rest.split_once("```").expect("the block has no end").0
}

/// Runs a script in `folder` with the built command in the PATH; it ends at the first command that fails.
fn run(folder: &Path, script: &str) -> Output {
    let command = PathBuf::from(env!("CARGO_BIN_EXE_credvault"));
    let mut path = vec![command.parent().expect("no folder").to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut shell = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy();
        if ours.starts_with("CREDVAULT_") || ours.starts_with("PG") || ours == "DATABASE_URL" {
            shell.env_remove(&name);
        }
    }
    shell
        .args(["-euc", script])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("GITHUB_TOKEN", TOKEN)
        .output()
        .expect("no sh")
}

async fn the_first_steps_store_a_token_and_read_it_back(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = block().lines().map(str::to_owned).collect();
    let place = lines.iter_mut().find(|line| line.starts_with(DATABASE)).expect("no line says where");
    *place = format!("{DATABASE}'{}'", database.url());

    let output = run(folder.path(), &lines.join("\n"));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    // In clear once, by the one command that asks for it.
    assert_eq!((out.matches(TOKEN).count(), error.matches(TOKEN).count()), (1, 0), "{out}\n{error}");
    let stored = "SELECT count(*) FROM integration_credentials WHERE credential_data_encrypted LIKE 'cv1.%'";
    assert_eq!(database.fetch_one_text(stored).await.as_deref(), Some("1"));
}

on_both_stores!(the_first_steps_store_a_token_and_read_it_back);

#[test]
fn a_command_that_fails_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!run(folder.path(), "false\ntrue").status.success());
    assert!(!run(folder.path(), "credvault no-such-command\ntrue").status.success());
}

/// The commands that a text tells to run: words up to the first flag, and the flags.
fn invocations(text: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let commands = text.lines().flat_map(|line| line.split("credvault ").skip(1));
    commands
        .map(|command| {
            let end = command.find(['`', '#', '|']).unwrap_or(command.len());
            let words: Vec<&str> = command[..end].split_whitespace().collect();
            let name = words.iter().take_while(|word| !word.starts_with("--")).copied();
            // What stands for a value is no part of it.
            let name = name.filter(|word| word.chars().any(char::is_lowercase)).collect();
            (name, words.into_iter().filter(|word| word.starts_with("--")).collect())
        })
        .collect()
}

#[test]
fn every_flag_that_the_readme_and_the_manual_write_of_exists() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for text in [
        README,
        include_str!("../examples/operations/README.md"),
        include_str!("../src/manual/operations.md"),
        include_str!("../src/manual/rotation.md"),
    ] {
        for (name, flags) in invocations(text) {
            if flags.is_empty() {
                continue;
            }
            let name = name.join(" ");
            let output = run(folder.path(), &format!("credvault {name} --help"));
            assert!(output.status.success(), "there is no command credvault {name}");
            let help = String::from_utf8_lossy(&output.stdout).into_owned();
            for flag in flags {
                assert!(help.contains(flag), "credvault {name} has no {flag}:\n{help}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "only {checked} flags were found: is this still looking at the right places?");
}
