//! What a rotation says at its end.

use credvault::{DataKeyId, IntegrationId, Outcome, RotationReport, StopReason};
use serde_json::{Value, json};

use super::documents::transactions;
use crate::failure::Exit;
use crate::keys;
use crate::output;

/// The most rows that are named in the text of a report; its JSON names more.
const MAX_NAMED_ROWS: usize = 10;

/// How a rotation ended.
pub(crate) fn exit(report: &RotationReport) -> Exit {
    match report.outcome {
        Outcome::HeldBy { .. } => Exit::Done,
        _ if report.quarantined > 0 => Exit::Findings,
        Outcome::Complete => Exit::Done,
        _ => Exit::WorkRemains,
    }
}

/// The report, for people.
pub(crate) fn text(report: &RotationReport) -> String {
    if let Outcome::HeldBy { .. } = report.outcome {
        return format!("{}\n", held(&report.outcome));
    }
    let mut text = String::new();
    if !report.keys.is_empty() {
        text = format!("{}\n", keys::table(&report.keys));
    }
    text.push_str(&counts(report));
    for line in verdict(report) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn counts(report: &RotationReport) -> String {
    let rows = |number| output::count(number, "row");
    let mut facts = vec![
        ("new data keys", output::grouped(report.new_keys.len() as u64)),
        ("re-encrypted", rows(report.re_encrypted)),
    ];
    for (key, number) in &report.re_encrypted_from {
        facts.push(("", format!("{} from {key}", output::grouped(*number))));
    }
    facts.extend([
        ("already current", rows(report.already_current)),
        ("quarantined", rows(report.quarantined)),
        ("remaining", rows(report.remaining)),
    ]);
    if report.legacy > 0 {
        facts.push(("legacy, left as is", rows(report.legacy)));
    }
    if report.lost_to_concurrent_writes > 0 {
        facts.push(("gave way to writes", output::count(report.lost_to_concurrent_writes, "time")));
    }
    for key in &report.unused_keys {
        facts.push(("unused from now on", key.to_string()));
    }
    output::facts(&facts)
}

/// What it comes to, a line each.
fn verdict(report: &RotationReport) -> Vec<String> {
    let mut lines = Vec::new();
    if report.quarantined > 0 {
        lines.push(format!(
            "Not opened, and left as is: {}. `credvault quarantine list` names them.",
            output::count(report.quarantined, "row")
        ));
    }
    for withheld in &report.withheld {
        lines.push(format!(
            "Organization {}: its own master key can't be had, so nothing of it was rotated: {}",
            withheld.organization_id,
            output::printable(&withheld.reason)
        ));
    }
    if let Some(reason) = report.stopped {
        lines.push(format!(
            "Stopped {}: about {} remain. Run it again: it goes on.",
            match reason {
                StopReason::MaxRows => "after as many rows as --max-rows allows",
                StopReason::MaxDuration => "after as long as --max-duration allows",
                _ => "as it was asked to",
            },
            output::count(report.remaining, "row")
        ));
        return lines;
    }
    if report.remaining > 0 {
        lines.push(format!(
            "{} could not be re-encrypted yet{}: run it again.",
            output::count(report.remaining, "row"),
            if report.locked.is_empty() { "" } else { ", as others hold or keep changing them" }
        ));
        let named = report.locked.iter().take(MAX_NAMED_ROWS);
        lines.extend(named.map(|integration| format!("  integration {integration}")));
        let unnamed = report.remaining.saturating_sub(MAX_NAMED_ROWS as u64);
        if unnamed > 0 && !report.locked.is_empty() {
            lines.push(format!("  and {} more", output::grouped(unnamed)));
        }
    }
    if !report.waiting.transactions.is_empty() {
        lines.push(
            "These transactions are older than the switch of keys, and may still write under the key of before:"
                .to_owned(),
        );
        lines.extend(report.waiting.transactions.iter().map(|it| format!("  {}", output::printable(&it))));
        lines.push("Run it again when they have ended: until then no key is called unused.".to_owned());
    }
    if report.legacy_key_left {
        lines.push(
            "No row needs the legacy key any more, and this role may not delete it: rotate once as the owner of the tables."
                .to_owned(),
        );
    }
    if report.outcome == Outcome::Complete {
        let aside = if report.legacy > 0 { ", legacy rows aside" } else { "" };
        lines.push(if report.is_of_nothing() {
            format!(
                "Nothing was due: 0 data keys to replace, 0 rows to re-encrypt, {} already current{aside}.",
                output::count(report.already_current, "row")
            )
        } else {
            format!("Complete: no row is left outside the active key of its scope{aside}.")
        });
    }
    lines
}

/// The report, for programs.
pub(crate) fn fields(report: &RotationReport) -> Value {
    let keys = |keys: &[DataKeyId]| keys.iter().map(DataKeyId::to_string).collect::<Vec<_>>();
    let from = report.re_encrypted_from.iter().map(|(key, rows)| (key.to_string(), json!(rows)));
    json!({
        "outcome": outcome(&report.outcome),
        "held_by": holder(&report.outcome),
        "stopped": report.stopped.map(|reason| match reason {
            StopReason::MaxRows => "max-rows",
            StopReason::MaxDuration => "max-duration",
            _ => "asked",
        }),
        "new_data_key_ids": keys(&report.new_keys),
        "re_encrypted": report.re_encrypted,
        "re_encrypted_from": Value::Object(from.collect()),
        "already_current": report.already_current,
        "lost_to_concurrent_writes": report.lost_to_concurrent_writes,
        "quarantined": report.quarantined,
        "withheld": report.withheld.iter().map(|withheld| json!({
            "organization_id": withheld.organization_id.to_string(),
            "reason": withheld.reason,
        })).collect::<Vec<_>>(),
        "remaining": report.remaining,
        "held_integration_ids": report.locked.iter().map(IntegrationId::to_string).collect::<Vec<_>>(),
        "older_transactions": transactions(&report.waiting.transactions),
        "legacy": report.legacy,
        "unused_data_key_ids": keys(&report.unused_keys),
        "legacy_key_left": report.legacy_key_left,
        "data_keys": keys::documents(&report.keys),
    })
}

/// How a job ended, as JSON spells it.
pub(crate) fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Quarantine => "quarantine",
        Outcome::HeldBy { .. } => "held-by-another",
        _ => "work-remains",
    }
}

/// Who has the lease, as JSON.
pub(crate) fn holder(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::HeldBy { owner, since } => json!({ "owner": owner, "since": output::rfc3339(*since) }),
        _ => Value::Null,
    }
}

/// Who has the lease, for people.
pub(crate) fn held(outcome: &Outcome) -> String {
    match outcome {
        Outcome::HeldBy { owner, since } => format!(
            "Nothing was begun: {} runs a job since {}.",
            output::printable(owner),
            output::moment(*since)
        ),
        _ => String::new(),
    }
}
