//! The rotation: `rotate`, and the one that ends an adoption. What it says while it runs, and at its end.

mod documents;
mod progress;
mod prose;
pub(crate) mod report;
pub(crate) mod runs;

use credvault::{Rotation, RotationPlan, RotationReport};
use serde_json::json;

use self::progress::Teller;
use crate::arguments::{Form, Global, Rotate};
use crate::connection::{self, Prompt};
use crate::failure::Exit;
use crate::interruption::Interruption;
use crate::keys;
use crate::output::{self, Report};

/// `credvault rotate`.
pub(crate) async fn rotate(global: &Global, asked: &Rotate) -> anyhow::Result<Report> {
    if asked.dry_run {
        let vault = connection::open(global).await?;
        return Ok(plan(&as_asked(vault.rotation(), asked)?.plan().await?));
    }
    let (url, keys) = (connection::database(global)?, connection::master_keys(global, Prompt::Once)?);
    // From here on: whatever was asked at the terminal is answered.
    let interruption = Interruption::listen()?;
    let report = match interruption.or(connection::open_with(url, keys)).await {
        Some(vault) => {
            let rotation = as_asked(vault?.rotation(), asked)?;
            watched(rotation, "rotate", global.output, &interruption).await?
        }
        None => RotationReport::stopped_before_it_began(),
    };
    let mut fields = report::fields(&report);
    fields["event"] = json!("report");
    Ok(Report::new("rotate", report::exit(&report), report::text(&report), fields))
}

fn as_asked(mut rotation: Rotation, asked: &Rotate) -> anyhow::Result<Rotation> {
    rotation = if asked.force {
        rotation.force()
    } else {
        rotation.max_age(time::Duration::try_from(asked.max_age).unwrap_or(time::Duration::MAX))
    };
    if let Some(organization) = asked.organization {
        rotation = rotation.organization(organization);
    }
    if let Some(rows) = asked.batch_size {
        rotation = rotation.batch_size(rows)?;
    }
    if let Some(workers) = asked.workers {
        rotation = rotation.workers(workers)?;
    }
    if let Some(rows) = asked.rows_per_second {
        rotation = rotation.rows_per_second(rows)?;
    }
    if let Some(rows) = asked.max_rows {
        rotation = rotation.max_rows(rows);
    }
    if let Some(duration) = asked.max_duration {
        rotation = rotation.max_duration(duration);
    }
    if asked.wait {
        rotation = rotation.wait_for_lease();
    }
    Ok(rotation.max_wait(asked.max_wait))
}

/// Runs a rotation that tells of its progress and ends at a signal.
pub(crate) async fn watched(
    rotation: Rotation,
    command: &'static str,
    form: Form,
    interruption: &Interruption,
) -> anyhow::Result<RotationReport> {
    let teller = Teller::begin(command, form);
    let (asked, stopping) = (interruption.asked(), teller.stopping());
    let signal = async move {
        asked.await;
        stopping();
    };
    let rotation = rotation.owner(owner()).on_event(teller.listener()).stop_when(signal);
    let report = rotation.run().await;
    teller.end().await;
    Ok(report?)
}

/// Who runs a job, for others who find the lease taken.
pub(crate) fn owner() -> String {
    #[cfg(unix)]
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let host = std::env::var("COMPUTERNAME").unwrap_or_default();
    format!("{host}, process {}", std::process::id())
}

/// What a rotation would do.
fn plan(plan: &RotationPlan) -> Report {
    let ids: Vec<String> = plan.due.iter().map(ToString::to_string).collect();
    let due = match ids.is_empty() {
        true => "none".to_owned(),
        false => ids.join(", "),
    };
    let facts = output::facts(&[("data keys due", due), ("to re-encrypt", output::count(plan.rows, "row"))]);
    let text = format!(
        "{}\n{facts}Nothing was written: this is what a rotation would do now.\n",
        keys::table(&plan.keys)
    );
    let fields = json!({
        "event": "plan",
        "due_data_key_ids": ids,
        "rows": plan.rows,
        "data_keys": keys::documents(&plan.keys),
    });
    Report::new("rotate", Exit::Done, text, fields)
}
