//! Whether every key and every row is as it was written: `verify`.

use std::fmt::Write;

use credvault::{Finding, Problem};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::connection;
use crate::failure::Exit;
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
