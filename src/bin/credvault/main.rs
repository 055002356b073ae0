//! The command `credvault`: a vault from a shell, and its jobs from cron.
//!
//! Each command returns a report, text and JSON in one, and `main` prints one of them. Everything goes through the
//! library's public API.

#![warn(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a command ends by its exit codes, and prints what it means to"
)]

mod adoption;
mod arguments;
mod bulk;
mod confirmation;
mod connection;
mod credentials;
mod demo;
mod failure;
mod hidden_input;
mod interruption;
mod keys;
mod master_key_check;
mod master_key_refresh;
mod output;
mod quarantine;
mod rewrap;
mod roles;
mod rotation;
mod setup;
mod shell_files;
mod standard_streams;
mod status;
mod summaries;
mod verification;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command};
use crate::failure::Exit;
use crate::output::Report;

fn main() -> ExitCode {
    // Before there is a secret. Where the system can't, the command works all the same.
    let _ = credvault::forbid_core_dumps();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::of_command_line(&error),
    };
    match start_log().and_then(|()| run(arguments)) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let form = arguments.global.output;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("the runtime did not start")?;
    let report = runtime.block_on(run_command(arguments));
    // Before the runtime ends, which listens for signals: nobody may read what is printed.
    let exit = report.and_then(|report| report.print(form));
    // A thread that still derives a key, or looks a host up, must not hold up a command that was told to stop.
    runtime.shutdown_background();
    exit
}

async fn run_command(Arguments { global, command }: Arguments) -> anyhow::Result<Report> {
    match command {
        Command::Demo(demo) => demo::run(&global, &demo).await,
        Command::Init => setup::init(&global).await,
        Command::Migrate { dry_run } => setup::migrate(&global, dry_run).await,
        Command::MasterKey(command) => setup::master_key(&global, &command).await,
        Command::Put(put) => credentials::put(&global, put).await,
        Command::Get(get) => credentials::get(&global, &get).await,
        Command::List { organization } => credentials::list(&global, organization).await,
        Command::Describe(address) => summaries::describe(&global, &address).await,
        Command::Expiring(expiring) => summaries::expiring(&global, &expiring).await,
        Command::Transfer(transfer) => credentials::transfer(&global, &transfer).await,
        Command::Delete(address) => credentials::delete(&global, &address).await,
        Command::Import(import) => bulk::import::run(&global, &import).await,
        Command::Export(export) => bulk::export::run(&global, &export).await,
        Command::Keys(command) => keys::run(&global, &command).await,
        Command::Adopt(adopt) => adoption::run(&global, &adopt).await,
        Command::Rotate(rotate) => rotation::rotate(&global, &rotate).await,
        Command::Rotations { limit } => rotation::runs::rotations(&global, limit).await,
        Command::Rewrap(rewrap) => rewrap::rewrap(&global, &rewrap).await,
        Command::Verify(asked) => verification::verify(&global, &asked).await,
        Command::Quarantine(command) => quarantine::run(&global, &command).await,
        Command::Status(asked) => status::status(&global, &asked).await,
        Command::Roles(asked) => Ok(roles::roles(&asked)),
        Command::Completions { shell } => shell_files::completions(shell),
        Command::Man { out } => shell_files::man(out.as_deref()),
    }
}

/// Whether standard error is a terminal.
fn shows_on_a_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether standard error is a terminal that may be coloured.
fn shows_colours() -> bool {
    shows_on_a_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Logs to standard error what `CREDVAULT_LOG`, else `RUST_LOG`, asks for; nothing unless one is set.
fn start_log() -> anyhow::Result<()> {
    let Some((name, directives)) = connection::first_set(&["CREDVAULT_LOG", "RUST_LOG"])? else {
        return Ok(());
    };
    let filter = EnvFilter::try_new(directives)
        .map_err(|_| failure::usage(format!("{name} is no filter such as `credvault=debug`")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(shows_colours())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
