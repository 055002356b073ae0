//! The arguments of the commands on data keys.

use clap::{Args, Subcommand};
use credvault::{DataKeyId, OrganizationId};

use super::examples;

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
    ///
    /// With --master-key, while CREDVAULT_MASTER_KEY says where the vault's own are: under a master key of the
    /// organization's own, made by the key service that --master-key names, and its data keys of before, too. Give that
    /// --master-key to every service first: one that lacks it can't open the credentials of this organization.
    #[command(after_help = examples::KEYS_CREATE)]
    Create {
        /// The organization.
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
    },
    /// Mark a data key compromised, and list every credential under it, by organization.
    ///
    /// If it is the active key of its scope, a new one takes its place at once. Calling it again changes nothing, and
    /// lists again. Nothing is decrypted. Afterwards rotate, which is due at once, and have each credential listed
    /// re-issued at its provider.
    #[command(after_help = examples::KEYS_COMPROMISE)]
    Compromise(Compromise),
    /// Delete a data key for good: what is sealed under it, in each backup, never opens again.
    ///
    /// Asks for its id again. Refused (exit code 5) while a row needs it, until a rotation has found that nothing is
    /// written under it any more, and for 30 days after that.
    #[command(after_help = examples::KEYS_DESTROY)]
    Destroy(Destroy),
}

#[derive(Args)]
pub(crate) struct Compromise {
    /// The data key.
    #[arg(value_name = "ID")]
    pub(crate) id: DataKeyId,
    /// List the credentials as CSV (RFC 4180) with a heading; all else is said on standard error.
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Args)]
pub(crate) struct Destroy {
    /// The data key.
    #[arg(value_name = "ID")]
    pub(crate) id: DataKeyId,
    /// Don't ask: the id again, which must be the same.
    #[arg(long, value_name = "ID")]
    pub(crate) confirm: Option<DataKeyId>,
    /// Don't wait until it was unused for 30 days: backups of that time are lost with it.
    #[arg(long)]
    pub(crate) no_grace: bool,
}
