//! Rows that did not open: `quarantine list`, `quarantine retry`.

use std::fmt::Write;

use credvault::{QuarantineReport, QuarantinedCredential, Vault};
use serde_json::json;

use crate::arguments::{Global, Quarantine};
use crate::connection;
use crate::failure::Exit;
use crate::output::{self, Report};
use crate::verification;

/// `credvault quarantine`.
pub(crate) async fn run(global: &Global, command: &Quarantine) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    match command {
        Quarantine::List => list(&vault).await,
        Quarantine::Retry => retry(&vault).await,
    }
}

async fn list(vault: &Vault) -> anyhow::Result<Report> {
    let credentials = vault.quarantine().list().await?;
    let documents: Vec<_> = credentials
        .iter()
        .map(|credential| {
            json!({
                "integration_id": credential.integration_id.to_string(),
                "organization_id": credential.organization_id.map(|id| id.to_string()),
                "connector": credential.connector,
                "reason": credential.reason,
                "since": output::rfc3339(credential.since),
            })
        })
        .collect();
    let fields = json!({ "credentials": documents });
    if credentials.is_empty() {
        let text = "No row is in quarantine.\n".to_owned();
        return Ok(Report::new("quarantine list", Exit::Done, text, fields));
    }
    let gone = || "(gone)".to_owned();
    let row = |credential: &QuarantinedCredential| {
        [
            credential.connector.clone().unwrap_or_else(gone),
            credential.integration_id.to_string(),
            credential.organization_id.map_or_else(gone, |id| id.to_string()),
            credential.reason.clone(),
            output::moment(credential.since),
        ]
    };
    let mut text = output::table(
        ["CONNECTOR", "INTEGRATION", "ORGANIZATION", "REASON", "SINCE"],
        credentials.iter().map(row),
    );
    text.push_str(
        "Restore them from a backup, or store them anew; then `credvault quarantine retry` takes them out.\n",
    );
    Ok(Report::new("quarantine list", Exit::Findings, text, fields))
}

async fn retry(vault: &Vault) -> anyhow::Result<Report> {
    let report = vault.quarantine().retry().await?;
    let exit = if report.remaining.is_empty() { Exit::Done } else { Exit::Findings };
    let fields = json!({
        "released": report.released,
        "gone": report.gone,
        "remaining": verification::findings(&report.remaining),
    });
    Ok(Report::new("quarantine retry", exit, retried(&report), fields))
}

fn retried(report: &QuarantineReport) -> String {
    let remaining = report.remaining.len() as u64;
    let mut text = output::facts(&[
        ("open again", output::count(report.released, "row")),
        ("gone", output::count(report.gone, "row")),
        ("remaining", output::count(remaining, "row")),
    ]);
    for finding in &report.remaining {
        // Writing to memory does not fail.
        let _ = writeln!(text, "  {}", output::printable(&finding.to_string()));
    }
    text.push_str(match (remaining, report.released) {
        (0, 0) => "None remains.\n",
        (0, _) => "None remains; `credvault rotate` re-encrypts what opens again.\n",
        _ => "Restore what remains from a backup, or store it anew.\n",
    });
    text
}
