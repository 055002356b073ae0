//! Another master key: `rewrap`.

use std::io::Write;
use std::sync::Mutex;

use credvault::{Outcome, RotationEvent};
use serde_json::json;

use crate::arguments::{Global, Rewrap};
use crate::confirmation;
use crate::connection::{self, Prompt};
use crate::failure::Exit;
use crate::output::{self, Report};
use crate::rotation::owner;
use crate::rotation::report::{held, holder, outcome};
use crate::setup::{BACK_IT_UP, KEEP_THE_SERVICES_KEY};

/// What a rewrap takes for granted.
const FLEET_IS_READY: &str = "every service must have the new master key already, beside the old one: \
                              one that has not can't read any credential after this";

/// `credvault rewrap`.
pub(crate) async fn rewrap(global: &Global, asked: &Rewrap) -> anyhow::Result<Report> {
    let url = connection::database(global)?;
    let mut keys = connection::master_keys(global, Prompt::Once)?;
    if !asked.yes {
        confirmation::that(
            FLEET_IS_READY,
            "nothing was rewrapped: give every service the new master key first",
        )?;
    }
    let to = match asked.argon2 {
        Some(parameters) => connection::passphrase(&asked.to, Prompt::Twice, parameters)?,
        None => connection::master_key(&asked.to, Prompt::Twice)?,
    };
    let keep = match to.cache() {
        Some(_) => KEEP_THE_SERVICES_KEY,
        None => BACK_IT_UP,
    };
    // A rewrap that ended early left data keys under either key.
    keys.push(to.clone());
    let vault = connection::open_with(url, keys).await?;
    let mut rewrap = vault.rewrap(to).owner(owner());
    if let Some(organization) = asked.organization {
        rewrap = rewrap.organization(organization);
    }
    if asked.wait {
        rewrap = rewrap.wait_for_lease().on_event(saying_who_holds_the_lease());
    }
    let report = rewrap.run().await?;
    let text = match &report.outcome {
        Outcome::HeldBy { .. } => format!("{}\n", held(&report.outcome)),
        _ => format!(
            "Master key {} is the active one; {} rewrapped, {} under it before.\n\
             {keep}\n\
             Keep the old one as long as there are backups of the database that need it.\n",
            report.master_key,
            output::count(report.rewrapped, "data key"),
            output::grouped(report.already_current),
        ),
    };
    let exit = match report.outcome {
        Outcome::Complete | Outcome::HeldBy { .. } => Exit::Done,
        Outcome::Quarantine => Exit::Findings,
        _ => Exit::WorkRemains,
    };
    let fields = json!({
        "outcome": outcome(&report.outcome),
        "held_by": holder(&report.outcome),
        "master_key_id": report.master_key.to_string(),
        "rewrapped": report.rewrapped,
        "already_current": report.already_current,
    });
    Ok(Report::new("rewrap", exit, text, fields))
}

/// Says on standard error who has the lease, once for each that has it.
fn saying_who_holds_the_lease() -> impl Fn(RotationEvent) + Send + Sync + 'static {
    let said = Mutex::new(None);
    move |event| {
        if let RotationEvent::WaitingForLease { owner, since } = event
            && let Ok(mut said) = said.lock()
            && said.replace(since) != Some(since)
        {
            let (owner, since) = (output::printable(&owner), output::moment(since));
            // With standard error closed there is nobody to tell.
            let _ =
                writeln!(std::io::stderr(), "rewrap: waiting for {owner}, which runs a job since {since}");
        }
    }
}
