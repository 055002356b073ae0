//! Whether every key and every row is as it was written: `verify`.

use std::fmt::Write;

use credvault::{ErrorKind, Finding, Problem, Verification};
use serde_json::{Value, json};

use crate::arguments::{Global, Verify};
use crate::connection;
use crate::failure::Exit;
use crate::output::{self, Report};

/// `credvault verify`.
pub(crate) async fn verify(global: &Global, asked: &Verify) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let sample = asked.sample.filter(|_| !asked.all);
    let (verify, rows) = match sample {
        Some(rows) => (vault.verify().sample(rows)?, rows.into()),
        None => (vault.verify(), vault.keys().list().await?.iter().map(|key| key.rows).sum()),
    };
    let bar = output::progress("Verifying", rows);
    let shown = bar.clone();
    let verification = verify.on_progress(move |read| shown.set_position(read)).run().await;
    bar.finish_and_clear();
    let verification = verification?;
    let exit = if verification.findings_count == 0 { Exit::Done } else { Exit::Findings };

    let mut facts = vec![
        ("master keys checked", output::grouped(verification.master_keys_checked)),
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
    text.push_str(&verdict(&verification, sample));
    let fields = json!({
        "sample": sample,
        "master_keys_checked": verification.master_keys_checked,
        "keys_checked": verification.keys_checked,
        "rows_opened": verification.rows_opened,
        "rows_unopened": verification.rows_unopened,
        "findings_count": verification.findings_count,
        "findings": findings(&verification.findings),
    });
    Ok(Report::new("verify", exit, text, fields))
}

fn verdict(verification: &Verification, sample: Option<u32>) -> String {
    let rows = match sample {
        Some(_) => "each row of the sample",
        None => "every row",
    };
    match (verification.findings_count, verification.rows_unopened) {
        (0, 0) => format!("Every key and {rows} is as it was written.\n"),
        (0, _) => format!(
            "Every key and {rows} is as it was written, legacy rows aside: `credvault adopt` registers their key.\n"
        ),
        _ if are_keys_away(verification) => {
            "Nothing of this is known to be damaged: give the keys that are away, and verify again.\n".to_owned()
        }
        _ => "Restore rows from a backup, or store their credentials anew; what to do about the rest is in the manual's \
              page on operations.\n"
            .to_owned(),
    }
}

/// Whether all that was found is that keys aren't to be had, as where an organization withholds its own.
fn are_keys_away(verification: &Verification) -> bool {
    verification.findings_count == verification.findings.len() as u64
        && verification
            .findings
            .iter()
            .all(|finding| matches!(finding.problem(), Problem::DoesNotOpen(ErrorKind::KeyUnavailable, _)))
}

/// Findings as JSON.
pub(crate) fn findings(findings: &[Finding]) -> Vec<Value> {
    findings.iter().map(finding).collect()
}

fn finding(finding: &Finding) -> Value {
    let (mut integration, mut data_key, mut master_key, mut organization) = (None, None, None, None);
    let about = match finding {
        Finding::Row { integration: id, .. } => {
            integration = Some(id.to_string());
            "row"
        }
        Finding::Quarantine { integration: id, .. } => {
            integration = Some(id.to_string());
            "quarantine"
        }
        Finding::Key { key, .. } => {
            data_key = Some(key.to_string());
            "data key"
        }
        Finding::KeyRecord { .. } => "data key",
        Finding::Scope { organization: id, .. } => {
            organization = id.map(|id| id.to_string());
            "data keys"
        }
        Finding::MasterKey { key, .. } => {
            master_key = Some(key.to_string());
            "master key"
        }
        Finding::MasterKeys { .. } => "master keys",
        _ => "other",
    };
    json!({
        "about": about,
        "integration_id": integration,
        "data_key_id": data_key,
        "master_key_id": master_key,
        "organization_id": organization,
        "kind": finding.problem().kind(),
        "message": finding.problem().to_string(),
    })
}
