//! The arguments of the commands on credentials.

use std::time::Duration;

use clap::Args;
use credvault::{CredentialType, IntegrationId, OrganizationId};
use time::OffsetDateTime;

use super::values::{duration, field_name, moment};

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
    #[arg(long, value_name = "DURATION", value_parser = duration)]
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
