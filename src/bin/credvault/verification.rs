//! What an operator asks: `verify`, `status`.

use std::fmt::Write;

use credvault::{Finding, Phase, Problem, RunSummary};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::connection;
use crate::failure::Exit;
use crate::keys;
use crate::output::{self, Report};

/// `credvault verify`.
pub(crate) async fn verify(global: &Global) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let rows = vault.keys().list().await?.iter().map(|key| key.rows).sum();
    let bar = output::progress("Verifying", rows);
    let shown = bar.clone();
    let verification = vault.verify().on_progress(move |read| shown.set_position(read)).run().await;
    bar.finish_and_clear();
    let verification = verification?;
    let exit = if verification.findings_count == 0 { Exit::Done } else { Exit::Findings };

    let mut facts = vec![
        ("data keys checked", output::grouped(verification.keys_checked)),
        ("rows opened", output::grouped(verification.rows_opened)),
    ];
    if verification.rows_unopened > 0 {
        facts.push(("legacy rows, not adopted", output::grouped(verification.rows_unopened)));
    }
    facts.push(("findings", output::grouped(verification.findings_count)));
    let mut text = output::facts(&facts);
    for finding in &verification.findings {
        // Writing to memory does not fail.
        let _ = writeln!(text, "  {}", output::printable(&finding.to_string()));
    }
    let unlisted = verification.findings_count - verification.findings.len() as u64;
    if unlisted > 0 {
        let _ = writeln!(text, "  and {} more", output::grouped(unlisted));
    }
    text.push_str(match exit {
        Exit::Done if verification.rows_unopened > 0 => {
            "Every key and every other row is as it was written; `credvault adopt` registers the key of the legacy rows.\n"
        }
        Exit::Done => "Every key and every row is as it was written.\n",
        _ => "Restore the rows above from a backup, or store their credentials anew.\n",
    });
    let fields = json!({
        "keys_checked": verification.keys_checked,
        "rows_opened": verification.rows_opened,
        "rows_unopened": verification.rows_unopened,
        "findings_count": verification.findings_count,
        "findings": verification.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    Ok(Report::new("verify", exit, text, fields))
}

fn finding(finding: &Finding) -> Value {
    let of = |integration: Option<String>, key: Option<String>, problem: &Problem| {
        let kind = match problem {
            Problem::DoesNotOpen(kind, _) => kind.to_string(),
            Problem::ExpiryDiffers => "expiry differs".to_owned(),
            _ => "other".to_owned(),
        };
        json!({
            "integration_id": integration,
            "data_key_id": key,
            "kind": kind,
            "message": problem.to_string(),
        })
    };
    match finding {
        Finding::Row { integration, problem } => of(Some(integration.to_string()), None, problem),
        Finding::Key { key, problem } => of(None, Some(key.to_string()), problem),
        Finding::KeyRecord { problem } => of(None, None, problem),
        other => json!({
            "integration_id": null,
            "data_key_id": null,
            "kind": "other",
            "message": other.to_string(),
        }),
    }
}

/// `credvault status`.
pub(crate) async fn status(global: &Global) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let status = vault.status().await?;
    let exit = match (status.quarantined_rows, status.stale_rows) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::WorkRemains,
        _ => Exit::Findings,
    };
    let last_run = match &status.last_run {
        Some(RunSummary { kind, outcome: Some(outcome), finished_at: Some(when), .. }) => {
            format!("{kind}: {outcome}, {}", output::moment(*when))
        }
        _ => "none yet".to_owned(),
    };
    let mut facts = vec![
        ("vault", status.vault_id.to_string()),
        ("stale rows", advice(status.stale_rows, "`credvault rotate` re-encrypts them")),
        ("quarantined rows", advice(status.quarantined_rows, "`credvault verify` names them")),
        ("last job", last_run),
    ];
    if status.phase != Phase::None {
        facts.insert(1, ("adoption", status.phase.as_str().to_owned()));
    }
    let mut text = output::facts(&facts);
    text.push('\n');
    text.push_str(&output::table(
        ["MASTER KEY", "PROVIDER", "STATE", "WRAPS"],
        status.master_keys.iter().map(|key| {
            [
                key.id.to_string(),
                key.provider.clone(),
                key.state.as_str().to_owned(),
                output::count(key.wraps, "data key"),
            ]
        }),
    ));
    text.push('\n');
    text.push_str(&keys::table(&status.data_keys));
    let master_keys: Vec<Value> = status
        .master_keys
        .iter()
        .map(|key| {
            json!({
                "master_key_id": key.id.to_string(),
                "provider": key.provider,
                "state": key.state.as_str(),
                "wraps": key.wraps,
            })
        })
        .collect();
    let fields = json!({
        "vault_id": status.vault_id.to_string(),
        "phase": status.phase.as_str(),
        "stale_rows": status.stale_rows,
        "quarantined_rows": status.quarantined_rows,
        "last_job": status.last_run.map(|run| {
            json!({
                "finished_at": run.finished_at.map(output::rfc3339),
                "outcome": format!("{}: {}", run.kind, run.outcome.unwrap_or_default()),
            })
        }),
        "master_keys": master_keys,
        "data_keys": keys::documents(&status.data_keys),
    });
    Ok(Report::new("status", exit, text, fields))
}

fn advice(rows: u64, advice: &str) -> String {
    if rows == 0 { "0".to_owned() } else { format!("{}: {advice}", output::grouped(rows)) }
}
