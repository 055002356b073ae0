//! The arguments of the commands on rows that did not open.

use clap::Subcommand;

use super::examples;

#[derive(Subcommand)]
pub(crate) enum Quarantine {
    /// List the rows in quarantine, the longest there first. Nothing is decrypted.
    ///
    /// As the last rotation left them: one that was stored anew since is out after the next one, or after a retry. Exit
    /// code 4 if there are any.
    #[command(after_help = examples::QUARANTINE_LIST)]
    List,
    /// Try the rows in quarantine again, and take out those that open, and those that are gone.
    ///
    /// No credential is written: the next rotation re-encrypts what was taken out. Exit code 4 if any remain.
    #[command(after_help = examples::QUARANTINE_RETRY)]
    Retry,
}
