//! The jobs: `rotate`, `rewrap`.

use credvault::{Outcome, RotationEvent, RotationReport};
use serde_json::{Value, json};

use crate::arguments::{Global, Rewrap, Rotate};
use crate::confirmation;
use crate::connection::{self, Prompt};
use crate::failure::Exit;
use crate::keys;
use crate::output::{self, Report};

/// `credvault rotate`.
pub(crate) async fn rotate(global: &Global, rotate: &Rotate) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let mut rotation = vault.rotation();
    rotation = if rotate.force {
        rotation.force()
    } else {
        rotation.max_age(time::Duration::try_from(rotate.max_age).unwrap_or(time::Duration::MAX))
    };
    if let Some(organization) = rotate.organization {
        rotation = rotation.organization(organization);
    }
    if let Some(rows) = rotate.batch_size {
        rotation = rotation.batch_size(rows)?;
    }
    let bar = output::progress("Re-encrypting", 0);
    let shown = bar.clone();
    let report = rotation
        .on_event(move |event| {
            if let RotationEvent::Progress(progress) = event {
                shown.set_length(progress.stale.max(progress.re_encrypted));
                shown.set_position(progress.re_encrypted);
            }
        })
        .run()
        .await;
    bar.finish_and_clear();
    let report = report?;
    let (exit, verdict) = verdict(&report);
    let text = match report.outcome {
        Outcome::HeldBy { .. } => format!("{verdict}\n"),
        _ => format!("{}\n{}{verdict}\n", keys::table(&report.keys), counts(&report)),
    };
    let fields = json!({
        "outcome": outcome(&report.outcome),
        "held_by": holder(&report.outcome),
        "new_data_key_ids": report.new_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "re_encrypted": report.re_encrypted,
        "already_current": report.already_current,
        "lost_to_concurrent_writes": report.lost_to_concurrent_writes,
        "quarantined": report.quarantined,
        "remaining": report.remaining,
        "legacy": report.legacy,
        "data_keys": keys::documents(&report.keys),
    });
    Ok(Report::new("rotate", exit, text, fields))
}

fn counts(report: &RotationReport) -> String {
    let rows = |number| output::count(number, "row");
    let mut facts = vec![
        ("new data keys", output::grouped(report.new_keys.len() as u64)),
        ("re-encrypted", rows(report.re_encrypted)),
        ("already current", rows(report.already_current)),
        ("quarantined", rows(report.quarantined)),
        ("remaining", rows(report.remaining)),
    ];
    if report.legacy > 0 {
        facts.push(("legacy, left as is", rows(report.legacy)));
    }
    if report.lost_to_concurrent_writes > 0 {
        facts.push(("gave way to writes", output::count(report.lost_to_concurrent_writes, "time")));
    }
    output::facts(&facts)
}

fn verdict(report: &RotationReport) -> (Exit, String) {
    let quarantine = || {
        format!(
            "Not opened, and left as is: {}. `credvault verify` names what does not open.",
            output::count(report.quarantined, "row")
        )
    };
    match &report.outcome {
        Outcome::HeldBy { .. } => (Exit::Done, held(&report.outcome)),
        _ if report.quarantined > 0 => (Exit::Findings, quarantine()),
        Outcome::Complete if report.re_encrypted == 0 && report.new_keys.is_empty() => {
            (Exit::Done, "Nothing was due.".to_owned())
        }
        Outcome::Complete => {
            let aside = if report.legacy > 0 { ", legacy rows aside" } else { "" };
            (Exit::Done, format!("Complete: no row is left outside the active key of its scope{aside}."))
        }
        _ => (
            Exit::WorkRemains,
            format!(
                "{} could not be re-encrypted yet: run it again.",
                output::count(report.remaining, "row")
            ),
        ),
    }
}

/// What a rewrap takes for granted.
const FLEET_IS_READY: &str = "every service must have the new master key already, beside the old one: \
                              one that has not can't read any credential after this";

/// `credvault rewrap`.
pub(crate) async fn rewrap(global: &Global, rewrap: &Rewrap) -> anyhow::Result<Report> {
    let url = connection::database(global)?;
    let mut keys = connection::master_keys(global, Prompt::Once)?;
    if !rewrap.yes {
        confirmation::that(
            FLEET_IS_READY,
            "nothing was rewrapped: give every service the new master key first",
        )?;
    }
    let to = connection::master_key(&rewrap.to, Prompt::Twice)?;
    // A rewrap that ended early left data keys under either key.
    keys.push(to.clone());
    let vault = connection::open_with(url, keys).await?;
    let report = vault.rewrap(to).run().await?;
    let text = match &report.outcome {
        Outcome::HeldBy { .. } => format!("{}\n", held(&report.outcome)),
        _ => format!(
            "Master key {} is the active one; {} rewrapped, {} under it before.\n\
             Back this master key up, apart from the database: without it everything in the vault is lost.\n\
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

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Quarantine => "quarantine",
        Outcome::HeldBy { .. } => "held-by-another",
        _ => "work-remains",
    }
}

fn holder(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::HeldBy { owner, since } => json!({ "owner": owner, "since": output::rfc3339(*since) }),
        _ => Value::Null,
    }
}

fn held(outcome: &Outcome) -> String {
    match outcome {
        Outcome::HeldBy { owner, since } => format!(
            "Nothing was done: {} runs a job since {}.",
            output::printable(owner),
            output::moment(*since)
        ),
        _ => String::new(),
    }
}
