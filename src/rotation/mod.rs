//! The jobs: rotation of data keys, rewrap of the master key, adoption of legacy rows.
//!
//! A rotation makes new data keys where they are due, switches to them, and re-encrypts every row that isn't under
//! the active key of its scope. It writes by compare-and-swap on the text that it opened: a row that changed meanwhile
//! is left to the next sweep, so a committed write is never replaced by an older value. It ends when a count finds
//! nothing left, and no transaction is left that is older than a switch: then a key is called unused.

mod adoption;
mod attempts;
mod drain;
mod events;
mod job;
mod lease;
mod pace;
mod page;
mod report;
mod rewrap;
mod rotate;
mod runs;
mod stop;
mod sweep;
mod switch;
mod usage;
mod wait;

pub(crate) use adoption::move_on;
pub use adoption::{Adoption, AdoptionReport, LEGACY_ROWS_TRIED, LegacySalt};
pub use events::{OlderTransactions, Progress, RotationEvent, RotationEvents, Waiting};
pub(crate) use page::{quarantined_rows, sha256};
pub use report::{Outcome, RewrapReport, RotationReport, Withheld};
pub use rewrap::Rewrap;
pub use rotate::{Rotation, RotationPlan};
pub use runs::RunSummary;
pub(crate) use runs::run_summaries;
pub use stop::StopReason;
pub(crate) use switch::{activate, finish_pre_active, new_data_key};
pub use usage::{Blocker, DataKeySummary, GRACE};
pub(crate) use usage::{Usage, data_key_summaries};
