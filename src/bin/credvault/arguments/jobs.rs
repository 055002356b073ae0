//! The arguments of the jobs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use credvault::provider::Argon2Parameters;
use credvault::{MAX_SAMPLE_ROWS, OrganizationId};

use super::values::duration;

#[derive(Args)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) step: AdoptionStep,
    /// Go on with the salt that everybody knows, which the service used when none was set.
    #[arg(long, conflicts_with_all = ["re_encrypt", "cut_over"])]
    pub(crate) accept_leaked_salt: bool,
    /// Don't ask: nothing but credvault reads the table any more, or writes it.
    #[arg(long, conflicts_with_all = ["salt_file", "salt_variable"])]
    pub(crate) yes: bool,
}

/// Which step is taken: the first needs the salt.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct AdoptionStep {
    /// Begin: the file that holds the salt, its bytes exactly, a newline at the end among them.
    #[arg(long = "salt-file", value_name = "PATH")]
    pub(crate) salt_file: Option<PathBuf>,
    /// Begin: the environment variable that holds the salt.
    #[arg(long = "salt-env", value_name = "NAME")]
    pub(crate) salt_variable: Option<String>,
    /// Let rotations re-encrypt the legacy rows from now on. Nothing but credvault may read the table any more.
    #[arg(long)]
    pub(crate) re_encrypt: bool,
    /// End: let the database refuse new legacy rows, re-encrypt what is left, and destroy the legacy key. Nothing but
    /// credvault may write the table any more.
    #[arg(long)]
    pub(crate) cut_over: bool,
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// Replace every active data key, however old.
    #[arg(long, conflicts_with = "max_age")]
    pub(crate) force: bool,
    /// Replace active data keys older than this, such as 30d or 12h.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration)]
    pub(crate) max_age: Duration,
    /// Replace only this organization's own key, which it must have; rows are re-encrypted wherever that is due.
    #[arg(long, value_name = "ID")]
    pub(crate) organization: Option<OrganizationId>,
    /// Re-encrypt this many rows at once at most: 1 to 5000; 1000 unless said otherwise. Without
    /// --workers pages are smaller.
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<u32>,
    /// For maintenance: work as fast as 1 to 4 workers can. Else one works, and yields to the application.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Re-encrypt this many rows a second at most.
    #[arg(long, value_name = "N", conflicts_with = "workers")]
    pub(crate) rows_per_second: Option<u32>,
    /// Stop after this many rows, with exit code 3; run again, it goes on.
    #[arg(long, value_name = "N")]
    pub(crate) max_rows: Option<u64>,
    /// Stop after this long, such as 30m or 2h, with exit code 3; run again, it goes on.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_duration: Option<Duration>,
    /// Wait this long, from the last row written on, for rows that others hold and for transactions that are older than
    /// the switch to a new key.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) max_wait: Duration,
    /// Wait while another process runs a job, as long as that takes; else say who does and since when, and end.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Say what would be done, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Rewrap {
    /// The new master key, as --master-key takes it.
    #[arg(long, value_name = "SPEC")]
    pub(crate) to: String,
    /// Only for the data keys of this organization, which has a master key of its own from then on. Else for all that have
    /// none.
    #[arg(long, value_name = "ID")]
    pub(crate) organization: Option<OrganizationId>,
    /// Don't ask: every service has the new key already.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait while another process runs a job, as long as that takes; else say who does and since when, and end.
    #[arg(long)]
    pub(crate) wait: bool,
    /// For a passphrase: what deriving the new key costs, such as m=262144,t=4,p=4: KiB of memory, passes, lanes.
    ///
    /// Else m=65536,t=3,p=4. The passphrase may be the one of before: with other parameters it is another key.
    #[arg(long, value_name = "PARAMETERS")]
    pub(crate) argon2: Option<Argon2Parameters>,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// Open this many rows, drawn at random from the whole table.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SAMPLE_ROWS)))]
    pub(crate) sample: Option<u32>,
    /// Open every row, as without --sample.
    #[arg(long, conflicts_with = "sample")]
    pub(crate) all: bool,
}

#[derive(Args)]
pub(crate) struct Status {
    /// Count the rows exactly, each with its scope, in place of a fast count by their key alone.
    ///
    /// The fast one takes the rows of an organization for current that has got a data key of its own since they were
    /// written.
    #[arg(long)]
    pub(crate) count: bool,
    /// When an active data key is due: older than this.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration)]
    pub(crate) max_age: Duration,
}
