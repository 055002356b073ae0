//! The arguments of the commands on data keys.

use clap::Subcommand;
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
    #[command(after_help = examples::KEYS_CREATE)]
    Create {
        /// The organization.
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
    },
}
