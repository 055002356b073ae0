//! The events of a rotation, for programs: a JSON document each.

use std::time::{Duration, Instant};

use credvault::{OlderTransactions, Progress, RotationEvent};
use serde_json::{Value, json};

use super::progress::Told;
use super::prose::{rate, seconds_left};
use crate::output;

/// How often progress is told at most.
const EVERY: Duration = Duration::from_secs(1);

/// What was told.
pub(super) struct Documents {
    command: &'static str,
    /// The last progress, and when it was told.
    progress: Option<(Instant, Progress)>,
    /// The last document of something waited for: the same is not told again.
    waits: Option<String>,
}

impl Documents {
    pub(super) fn of(command: &'static str) -> Self {
        Self { command, progress: None, waits: None }
    }

    /// The document of an event.
    pub(super) fn hear(&mut self, told: &Told) -> Option<String> {
        let event = match told {
            Told::Event(event) => event,
            Told::Stopping => return Some(self.document("stopping", json!({}))),
            Told::End => return None,
        };
        match event {
            RotationEvent::WaitingForLease { owner, since } => {
                let holder = json!({ "owner": owner, "since": output::rfc3339(*since) });
                self.unless_told("waiting-for-lease", json!({ "held_by": holder }))
            }
            RotationEvent::Began { run } => Some(self.document("began", json!({ "run": run }))),
            RotationEvent::Switched { key, organization_id } => Some(self.document(
                "switched",
                json!({
                    "data_key_id": key.to_string(),
                    "organization_id": organization_id.map(|id| id.to_string()),
                }),
            )),
            RotationEvent::Quarantined { integration_id, reason } => Some(self.document(
                "quarantined",
                json!({ "integration_id": integration_id.to_string(), "kind": reason.to_string() }),
            )),
            RotationEvent::Waiting(waiting) => self.unless_told(
                "waiting",
                json!({ "rows": waiting.rows, "transactions": transactions(&waiting.transactions) }),
            ),
            RotationEvent::Unused { key } => {
                Some(self.document("unused", json!({ "data_key_id": key.to_string() })))
            }
            RotationEvent::LegacyKeyDestroyed => Some(self.document("legacy-key-destroyed", json!({}))),
            _ => None,
        }
    }

    /// The document of the progress, if it is time for one.
    pub(super) fn look_at(&mut self, progress: Progress, now: Instant) -> Option<String> {
        let (at, before) = *self.progress.get_or_insert((now, Progress::default()));
        let took = now.duration_since(at);
        if progress == before || took < EVERY {
            return None;
        }
        self.progress = Some((now, progress));
        let left = progress.stale.saturating_sub(progress.re_encrypted);
        let rate = rate(progress.re_encrypted.saturating_sub(before.re_encrypted), took);
        Some(self.document(
            "progress",
            json!({
                "re_encrypted": progress.re_encrypted,
                "remaining": left,
                "rows_per_second": rate,
                "seconds_left": seconds_left(left, rate),
            }),
        ))
    }

    fn unless_told(&mut self, event: &str, fields: Value) -> Option<String> {
        let document = self.document(event, fields);
        if self.waits.as_ref() == Some(&document) {
            return None;
        }
        self.waits = Some(document.clone());
        Some(document)
    }

    fn document(&self, event: &str, fields: Value) -> String {
        output::event(self.command, event, fields)
    }
}

/// Transactions that are older than a switch, as JSON.
pub(super) fn transactions(transactions: &OlderTransactions) -> Vec<Value> {
    let sessions = transactions
        .of_sessions()
        .map(|(pid, application)| json!({ "pid": pid, "application": application, "gid": null }));
    let prepared = transactions.prepared().map(|gid| json!({ "pid": null, "application": null, "gid": gid }));
    sessions.chain(prepared).collect()
}
