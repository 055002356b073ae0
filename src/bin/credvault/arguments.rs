//! The command line.

mod examples;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use credvault::{CredentialType, DataKeyId, IntegrationId, OrganizationId};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

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

    /// A master key: `file:PATH`, `env:NAME`, `passphrase:prompt`, `passphrase:env:NAME` or `passphrase:file:PATH`.
    ///
    /// May be given several times: the keys of before and after a rewrap. Else those in CREDVAULT_MASTER_KEY,
    /// separated by blanks.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "SPEC")]
    pub(crate) master_key: Vec<String>,

    /// What to print: text to read, or one JSON document (`"version": 1`) to parse.
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
    /// Read the rows of the service that was there before.
    ///
    /// They are sealed under a key made from its ENCRYPTION_SALT. The salt must open one of them, and is not stored.
    #[command(after_help = examples::ADOPT)]
    Adopt(Adopt),
    /// Make new data keys where they are due, and re-encrypt every row that isn't under the active one.
    ///
    /// Services go on reading and writing meanwhile. Only one process does this at a time; another one says so.
    #[command(after_help = examples::ROTATE)]
    Rotate(Rotate),
    /// Wrap all data keys by another master key. No credential is touched.
    #[command(after_help = examples::REWRAP)]
    Rewrap(Rewrap),
    /// Check every key and open every row; nothing is shown or written.
    #[command(after_help = examples::VERIFY)]
    Verify,
    /// Say what is in the vault and what remains to be done.
    ///
    /// Exit code 4 with rows in quarantine, else 3 with rows that a rotation has to re-encrypt.
    #[command(after_help = examples::STATUS)]
    Status,
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
    /// Each must yield a key; together they must open the active master key and each one that still wraps a data key.
    /// Where there is no vault, or it can't be reached, they are checked by themselves. Exit code 4 if anything is
    /// missing.
    #[command(after_help = examples::CHECK)]
    Check,
}

/// One credential.
#[derive(Args)]
pub(crate) struct Address {
    /// The organization.
    #[arg(long, value_name = "ID")]
    pub(crate) organization: OrganizationId,
    #[command(flatten)]
    pub(crate) integration: Integration,
}

/// Its integration.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Integration {
    /// The integration.
    #[arg(long = "integration", value_name = "ID")]
    pub(crate) id: Option<IntegrationId>,
    /// The organization's integration with this connector, such as `github`.
    #[arg(long, value_name = "NAME")]
    pub(crate) connector: Option<String>,
}

#[derive(Args)]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) address: Address,
    /// Make the integration with the connector, if there is none.
    #[arg(long, conflicts_with = "id")]
    pub(crate) create: bool,
    /// Store this one field; standard input is its value, one newline at the end dropped.
    #[arg(long, value_name = "NAME", value_parser = field_name)]
    pub(crate) field: Option<String>,
    /// `token`, `oauth2`, `service_account` or another name.
    #[arg(long = "type", value_name = "TYPE", default_value = "token")]
    pub(crate) credential_type: CredentialType,
    /// When it expires, such as 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) expires_at: Option<OffsetDateTime>,
}

#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) address: Address,
    /// Show the values of all fields.
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Print the value of this field and nothing else.
    #[arg(long, value_name = "NAME", conflicts_with = "reveal")]
    pub(crate) field: Option<String>,
}

#[derive(Args)]
pub(crate) struct Expiring {
    #[command(flatten)]
    pub(crate) until: Until,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// Up to when.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Until {
    /// From now on, such as 7d or 12h.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub(crate) within: Option<Duration>,
    /// Up to a moment, such as 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) before: Option<OffsetDateTime>,
}

#[derive(Args)]
pub(crate) struct Transfer {
    #[command(flatten)]
    pub(crate) integration: Integration,
    /// The organization that has it.
    #[arg(long, value_name = "ID")]
    pub(crate) from: OrganizationId,
    /// The organization that gets it.
    #[arg(long, value_name = "ID")]
    pub(crate) to: OrganizationId,
}

#[derive(Subcommand)]
pub(crate) enum Keys {
    /// List the data keys with the rows under each.
    #[command(after_help = examples::KEYS_LIST)]
    List,
    /// Show one data key, and what it is still needed for.
    #[command(after_help = examples::KEYS_SHOW)]
    Show {
        /// The data key: a UUID, or `v1` for the legacy key.
        #[arg(value_name = "ID")]
        id: DataKeyId,
    },
    /// Give an organization a data key of its own, or a new one; its rows follow with the next rotation.
    #[command(after_help = examples::KEYS_CREATE)]
    Create {
        /// The organization.
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
    },
}

#[derive(Args)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) salt: Salt,
    /// Go on with the salt that everybody knows, which the service used when none was set.
    #[arg(long)]
    pub(crate) accept_leaked_salt: bool,
}

/// Where the salt is.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Salt {
    /// The file that holds the salt: its bytes exactly, a newline at the end among them.
    #[arg(long = "salt-file", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// The environment variable that holds the salt.
    #[arg(long = "salt-env", value_name = "NAME")]
    pub(crate) variable: Option<String>,
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// Replace every active data key, however old.
    #[arg(long, conflicts_with = "max_age")]
    pub(crate) force: bool,
    /// Replace active data keys older than this, such as 30d or 12h.
    #[arg(long, value_name = "AGE", default_value = "90d", value_parser = age)]
    pub(crate) max_age: Duration,
    /// Replace only this organization's own key, which it must have; rows are re-encrypted wherever that is due.
    #[arg(long, value_name = "ID")]
    pub(crate) organization: Option<OrganizationId>,
    /// Re-encrypt this many rows at once: 1 to 5000.
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<u32>,
}

#[derive(Args)]
pub(crate) struct Rewrap {
    /// The new master key, as --master-key takes it.
    #[arg(long, value_name = "SPEC")]
    pub(crate) to: String,
    /// Don't ask: every service has the new key already.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A field's name. An empty one is an unset variable of the shell, although the vault would keep it.
fn field_name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

/// A moment as the vault keeps it: in UTC, to the microsecond.
fn moment(text: &str) -> Result<OffsetDateTime, &'static str> {
    const FORM: &str = "it is a time such as 2027-01-31T12:00:00Z";
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| FORM)?;
    let moment = moment.checked_to_offset(UtcOffset::UTC).ok_or(FORM)?;
    moment.replace_nanosecond(moment.microsecond() * 1_000).map_err(|_| FORM)
}

fn age(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "it is a number of days or hours, such as 90d or 12h";
    /// A hundred years: no key is older.
    const MAX_HOURS: i64 = 876_600;
    let (number, hours) = match text.strip_suffix('h') {
        Some(number) => (number, 1),
        None => (text.strip_suffix('d').unwrap_or(text), 24),
    };
    let number = i64::from(u32::from_str(number).map_err(|_| FORM)?);
    let hours = number * hours;
    if hours > MAX_HOURS { Err("it is a hundred years at most") } else { Ok(Duration::hours(hours)) }
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

    #[test]
    fn a_moment_is_kept_in_utc_to_the_microsecond() {
        use time::macros::datetime;
        assert_eq!(
            moment("2027-01-31T13:00:00.1234569+01:00"),
            Ok(datetime!(2027-01-31 12:00:00.123456 UTC))
        );
        for text in ["", "2027-01-31", "2027-01-31T12:00:00", "9999-12-31T23:59:59-01:00"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_age_is_days_or_hours() {
        assert_eq!(age("90d"), Ok(Duration::days(90)));
        assert_eq!(age("7"), Ok(Duration::days(7)));
        assert_eq!(age("12h"), Ok(Duration::hours(12)));
        assert_eq!(age("0d"), Ok(Duration::ZERO));
        for text in ["", "d", "-1d", "1w", "1.5d", "4294967295d"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
