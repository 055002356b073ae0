//! The command line.

mod credentials;
mod examples;
mod jobs;
mod keys;
mod quarantine;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use credvault::OrganizationId;

pub(crate) use self::credentials::{Address, Expiring, Get, Integration, Put, Transfer};
pub(crate) use self::jobs::{Adopt, AdoptionStep, Rewrap, Rotate, Status, Verify};
pub(crate) use self::keys::{Compromise, Destroy, Keys};
pub(crate) use self::quarantine::Quarantine;
use crate::bulk;

/// The heading of the options that every command has.
const EVERYWHERE: &str = "Vault and output";

/// A credential vault inside your own database, with key rotation.
#[derive(Parser)]
#[command(name = "credvault", version, after_help = examples::ALL, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct Global {
    /// The database: `postgres://…` or `sqlite:PATH`. Else CREDVAULT_DATABASE, DATABASE_URL, sqlite:credvault.db.
    ///
    /// Never with a password, which everybody on this machine could read: put that into DATABASE_URL, PGPASSWORD or
    /// the file that PGPASSFILE names.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    pub(crate) database: Option<String>,

    /// A master key: `file:PATH`, `env:NAME`, `passphrase:prompt`, `passphrase:env:NAME`, `passphrase:file:PATH`, or a key
    /// service's, such as `pkcs11:…`, where it was built with that.
    ///
    /// May be given several times: the keys of before and after a rewrap. Else those in CREDVAULT_MASTER_KEY,
    /// separated by blanks.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "SPEC")]
    pub(crate) master_key: Vec<String>,

    /// What to print: text to read, or JSON (`"version": 1`) to parse.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub(crate) output: Form,
}

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Text,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show all of it with some thousand tokens, in a throw-away folder.
    ///
    /// Stores, reads, rotates, rewraps and verifies. With --database it fills that database, which must be empty; the
    /// environment's is never used.
    #[command(after_help = examples::DEMO)]
    Demo(Demo),
    /// Make the vault in the database, unless it is there.
    ///
    /// Back the master key up: without it everything in the vault is lost.
    #[command(after_help = examples::INIT)]
    Init,
    /// Bring the database to the schema of this version.
    #[command(after_help = examples::MIGRATE)]
    Migrate {
        /// Say what would be applied, and write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Master keys, which wrap the data keys.
    #[command(subcommand, arg_required_else_help = true, after_help = examples::MASTER_KEY)]
    MasterKey(MasterKey),
    /// Store a credential in place of the one before it, from standard input.
    ///
    /// Standard input is a JSON object of strings, `{"access_token": "…", "refresh_token": "…"}`; with --field the
    /// value of that one field, or a prompt for it on a terminal. Fields that are not given again are gone.
    #[command(after_help = examples::PUT)]
    Put(Put),
    /// Show a credential; its values only when asked for.
    #[command(after_help = examples::GET)]
    Get(Get),
    /// List an organization's credentials. Nothing is decrypted.
    #[command(after_help = examples::LIST)]
    List {
        /// The organization.
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
    },
    /// Show what is known of a credential without opening it.
    #[command(after_help = examples::DESCRIBE)]
    Describe(Address),
    /// List the credentials of all organizations that expire soon, or have; the soonest first. Nothing is decrypted.
    #[command(after_help = examples::EXPIRING)]
    Expiring(Expiring),
    /// Move an integration with its credential to another organization.
    ///
    /// The credential is sealed anew, for that organization. Another transfer takes it back.
    #[command(after_help = examples::TRANSFER)]
    Transfer(Transfer),
    /// Delete a credential; its integration stays.
    #[command(after_help = examples::DELETE)]
    Delete(Address),
    /// Store credentials from lines of JSON, in place of those before them; unchanged ones are skipped.
    ///
    /// A bad line is reported by its number and stops none of the others: exit code 4. Importing the same again is
    /// harmless. An integration that a connector names and that is not there is made. Of two lines for one integration
    /// the later one holds.
    #[command(after_help = bulk::IMPORT_HELP)]
    Import(bulk::import::Import),
    /// Write credentials in clear, as lines of JSON, to a new file that only you can read, or to a pipe.
    ///
    /// Asks twice. Services go on: each credential is as it is when it is read. One that can't be opened is reported and
    /// left out: exit code 4; beside a pipe the report is on standard error.
    #[command(after_help = bulk::EXPORT_HELP)]
    Export(bulk::export::Export),
    /// Data keys, which seal the credentials.
    #[command(subcommand, arg_required_else_help = true, after_help = examples::KEYS)]
    Keys(Keys),
    /// Read the rows of the service that was there before, and take them over, step by step.
    ///
    /// They are sealed under a key made from its ENCRYPTION_SALT. First --salt-file or --salt-env: the salt must open one of
    /// them, and is not stored; they read like any other from then on. Then --re-encrypt, once only credvault reads the
    /// table. Last --cut-over, once only credvault writes it; exit code 3 if work remains. `status` says which step was the
    /// last.
    #[command(after_help = examples::ADOPT)]
    Adopt(Adopt),
    /// Make new data keys where they are due, and re-encrypt every row that isn't under the active one.
    ///
    /// Services go on reading and writing meanwhile. Only one process does this at a time; another one says so. At SIGTERM
    /// or Ctrl-C it ends the page under way and gives its lease back, within five seconds; run again, it goes on.
    ///
    /// Exit code 4 with rows in quarantine; else 3 if rows remain, or transactions that are older than the switch.
    #[command(after_help = examples::ROTATE)]
    Rotate(Rotate),
    /// List the rotations and rewraps: who ran each, when, and what it did; the last one first.
    #[command(after_help = examples::ROTATIONS)]
    Rotations {
        /// At most this many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Wrap all data keys by another master key. No credential is touched.
    ///
    /// Also to the same passphrase with other parameters of argon2id. One that is killed goes on when it is run again, a
    /// minute later.
    #[command(after_help = examples::REWRAP)]
    Rewrap(Rewrap),
    /// Check every key and open every row, or a sample; nothing is shown or written.
    ///
    /// Exit code 4 with findings.
    #[command(after_help = examples::VERIFY)]
    Verify(Verify),
    /// Rows that a rotation could not open, and left as they are.
    #[command(subcommand, arg_required_else_help = true, after_help = examples::QUARANTINE)]
    Quarantine(Quarantine),
    /// Say what is in the vault and what remains to be done.
    ///
    /// Exit code 4 with rows in quarantine; else 3 with rows that a rotation has to re-encrypt, with an active data key
    /// that is too old or compromised, or where the last rotation ended before its work was done.
    #[command(after_help = examples::STATUS)]
    Status(Status),
    /// Print the SQL of PostgreSQL's roles for a vault, each with the least rights that its work needs.
    ///
    /// An owner, a service, a rotator and a reader. No database is asked, and nothing is written.
    #[command(after_help = examples::ROLES)]
    Roles(Roles),
    /// Print the completions for a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
    /// Print the manual page, or write one for each command.
    #[command(after_help = examples::MAN)]
    Man {
        /// Write the pages of all commands into this folder, which is made if it isn't there.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct Demo {
    /// How many tokens to store.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) tokens: u32,
    /// Over how many organizations.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) organizations: u32,
    /// Keep the folder with the vault and its keys.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args)]
pub(crate) struct Roles {
    /// Only one of the two steps; else both.
    #[arg(long, value_enum)]
    pub(crate) step: Option<RoleStep>,
    /// What the roles' names begin with.
    #[arg(long, value_name = "NAME", default_value = "credvault", value_parser = values::plain_name)]
    pub(crate) prefix: String,
    /// The schema of the tables.
    #[arg(long, value_name = "NAME", default_value = "public", value_parser = values::plain_name)]
    pub(crate) schema: String,
}

/// What is to be run to have the roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleStep {
    /// Makes the roles: an administrator's, before `credvault init`
    Create,
    /// Grants their rights: the owner's, after `credvault init` and after an upgrade
    Grant,
}

#[derive(Subcommand)]
pub(crate) enum MasterKey {
    /// Make a new master key: a file that only you can read, or text for an environment variable.
    #[command(after_help = examples::GENERATE)]
    Generate {
        /// Write it to a new file with mode 0600.
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
        /// Print it although standard output is a terminal.
        #[arg(long, conflicts_with = "out")]
        reveal: bool,
    },
    /// Say whether the master keys given are what the vault needs. Nothing is written.
    ///
    /// Each must yield a key, and open what it makes; together they must open the active master key and each one that still wraps a data key.
    /// Where there is no vault, or it can't be reached, they are checked by themselves. Exit code 4 if anything is
    /// missing.
    #[command(after_help = examples::CHECK)]
    Check,
    /// Have key services wrap the vault's master keys anew, after they rotated their own keys.
    ///
    /// Only the records of the master keys change: no data key and no credential is written. Services need not be started
    /// again. Master keys of files, variables and passphrases have nothing to be made anew.
    #[command(after_help = examples::REFRESH)]
    Refresh,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_command_ends_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(path), "{path}: {help}");
            for command in command.get_subcommands() {
                check(command, &format!("{path} {}", command.get_name()));
            }
        }
        check(&Arguments::command(), "credvault");
    }
}
