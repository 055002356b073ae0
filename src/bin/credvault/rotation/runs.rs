//! The runs of rotation and rewrap that the database keeps: `rotations`.

use credvault::RunSummary;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::connection;
use crate::failure::Exit;
use crate::output::{self, Report};

/// `credvault rotations`.
pub(crate) async fn rotations(global: &Global, limit: u32) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let runs = vault.runs(limit).await?;
    let text = if runs.is_empty() {
        "There was none yet.\n".to_owned()
    } else {
        output::table(
            ["RUN", "KIND", "OWNER", "STARTED", "ENDED", "OUTCOME", "DID"],
            runs.iter().map(|run| {
                [
                    run.id.to_string(),
                    run.kind.clone(),
                    run.owner.clone(),
                    output::moment(run.started_at),
                    run.finished_at.map_or_else(|| "not yet".to_owned(), output::moment),
                    run.outcome.clone().unwrap_or_default(),
                    did(run),
                ]
            }),
        )
    };
    let fields = json!({ "limit": limit, "runs": runs.iter().map(document).collect::<Vec<_>>() });
    Ok(Report::new("rotations", Exit::Done, text, fields))
}

/// What a run did, for people.
fn did(run: &RunSummary) -> String {
    let count = |name, what| Some(output::count(number(run, name)?, what));
    let mut parts = Vec::new();
    if let Some(error) = run.counts["error"].as_str() {
        parts.push(error.to_owned());
    }
    if let Some(keys) = count("rewrapped", "data key") {
        parts.push(format!("{keys} rewrapped"));
    }
    if let Some(rows) = count("re_encrypted", "row") {
        parts.push(format!("{rows} re-encrypted"));
    }
    if let Some(keys) = run.counts["new_keys"].as_array().filter(|keys| !keys.is_empty()) {
        parts.push(output::count(keys.len() as u64, "new data key"));
    }
    for (name, what) in [("quarantined", "in quarantine"), ("remaining", "left")] {
        if let Some(rows) = number(run, name).filter(|rows| *rows > 0) {
            parts.push(format!("{} {what}", output::count(rows, "row")));
        }
    }
    parts.join(", ")
}

fn number(run: &RunSummary, name: &str) -> Option<u64> {
    run.counts[name].as_u64()
}

/// A run as JSON.
pub(crate) fn document(run: &RunSummary) -> Value {
    let list = |name: &str| run.counts[name].as_array().cloned().unwrap_or_default();
    json!({
        "run": run.id,
        "kind": run.kind,
        "owner": run.owner,
        "started_at": output::rfc3339(run.started_at),
        "finished_at": run.finished_at.map(output::rfc3339),
        "outcome": run.outcome,
        "error": run.counts["error"].as_str(),
        "new_data_key_ids": list("new_keys"),
        "unused_data_key_ids": list("unused_keys"),
        "re_encrypted": number(run, "re_encrypted"),
        "already_current": number(run, "already_current"),
        "lost_to_concurrent_writes": number(run, "lost_to_concurrent_writes"),
        "quarantined": number(run, "quarantined"),
        "remaining": number(run, "remaining"),
        "legacy": number(run, "legacy"),
        "rewrapped": number(run, "rewrapped"),
    })
}
