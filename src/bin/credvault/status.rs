//! What is in the vault and what remains to be done: `status`.

use std::fmt::Write;

use credvault::{DataKeyId, KeyState, Phase, RunSummary, Status};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::arguments::{self, Global};
use crate::connection;
use crate::failure::Exit;
use crate::keys;
use crate::output::{self, Report};
use crate::rotation::runs;

/// How many runs are looked through for the last rotation: rewraps may have come after it.
const RUNS_LOOKED_THROUGH: u32 = 50;

/// The state of a vault, with what follows from it.
struct Standing {
    status: Status,
    /// How the rows were counted, as the JSON spells it.
    counting: &'static str,
    last_rotation: Option<RunSummary>,
    next_due: Option<OffsetDateTime>,
    /// The active data keys that a rotation would replace now.
    due: Vec<DataKeyId>,
}

/// `credvault status`.
pub(crate) async fn status(global: &Global, asked: &arguments::Status) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let (status, counting) = match asked.count {
        true => (vault.exact_status().await?, "exact"),
        false => (vault.status().await?, "estimate"),
    };
    let runs = vault.runs(RUNS_LOOKED_THROUGH).await?;
    let is_rotation = |run: &RunSummary| run.kind == "rotate" && run.finished_at.is_some();
    let max_age = Duration::try_from(asked.max_age).unwrap_or(Duration::MAX);
    let standing = Standing {
        last_rotation: runs.into_iter().find(is_rotation),
        next_due: status.next_due(max_age),
        due: due(&status, max_age),
        counting,
        status,
    };
    Ok(Report::new("status", standing.exit(), standing.text(), standing.fields()))
}

fn due(status: &Status, max_age: Duration) -> Vec<DataKeyId> {
    let active = status.data_keys.iter().filter(|key| key.state == KeyState::Active);
    let is_due = |key: &&credvault::DataKeySummary| {
        let since = key.activated_at.unwrap_or(key.created_at);
        key.compromised_at.is_some() || status.at - since > max_age
    };
    active.filter(is_due).map(|key| key.id).collect()
}

impl Standing {
    fn exit(&self) -> Exit {
        match self.status.quarantined_rows {
            0 if self.status.stale_rows > 0 || !self.due.is_empty() || self.has_unfinished_rotation() => {
                Exit::WorkRemains
            }
            0 => Exit::Done,
            _ => Exit::Findings,
        }
    }

    /// Whether the last rotation ended before its work was done.
    fn has_unfinished_rotation(&self) -> bool {
        let outcome = self.last_rotation.as_ref().and_then(|run| run.outcome.as_deref());
        outcome.is_some_and(|outcome| !matches!(outcome, "complete" | "findings"))
    }

    /// The master keys that still wrap data keys after a rewrap that did not come to its end.
    fn old_master_keys(&self) -> impl Iterator<Item = &credvault::MasterKeySummary> {
        self.status.master_keys.iter().filter(|key| key.state != KeyState::Active && key.wraps > 0)
    }

    fn text(&self) -> String {
        let status = &self.status;
        let ended = |run: &Option<RunSummary>| match run {
            Some(RunSummary { kind, outcome: Some(outcome), finished_at: Some(when), .. }) => {
                format!("{kind}: {outcome}, {}", output::moment(*when))
            }
            _ => "none yet".to_owned(),
        };
        let mut facts = vec![("vault", status.vault_id.to_string())];
        if status.phase != Phase::None {
            facts.push(("adoption", status.phase.as_str().to_owned()));
        }
        let counted = match self.counting {
            "exact" => "counted",
            _ => "by key alone; --count counts exactly",
        };
        let advice = |rows, advice| match rows {
            0 => String::new(),
            _ => format!(": {advice}"),
        };
        facts.push((
            "stale rows",
            format!(
                "{} ({counted}){}",
                output::grouped(status.stale_rows),
                advice(status.stale_rows, "`credvault rotate` re-encrypts them")
            ),
        ));
        facts.push((
            "quarantined rows",
            format!(
                "{}{}",
                output::grouped(status.quarantined_rows),
                advice(status.quarantined_rows, "`credvault quarantine list` names them")
            ),
        ));
        if let Some(run) = &status.running {
            let (owner, since) = (&run.owner, output::moment(run.started_at));
            facts.push(("running", format!("{}: {owner}, since {since}", run.kind)));
        }
        facts.push(("last run", ended(&status.last_run)));
        if status.last_run.as_ref().map(|run| run.id) != self.last_rotation.as_ref().map(|run| run.id) {
            facts.push(("last rotation", ended(&self.last_rotation)));
        }
        let due = match (self.next_due, self.due.is_empty()) {
            (None, _) => "never: there is no active data key".to_owned(),
            (Some(when), true) => output::moment(when),
            (Some(when), false) => {
                format!("since {}: `credvault rotate` makes a new data key", output::moment(when))
            }
        };
        facts.push(("next due", due));
        let mut text = output::facts(&facts);
        text.push('\n');
        text.push_str(&output::table(
            ["MASTER KEY", "ORGANIZATION", "PROVIDER", "STATE", "WRAPS"],
            status.master_keys.iter().map(|key| {
                [
                    key.id.to_string(),
                    key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
                    key.provider.clone(),
                    key.state.as_str().to_owned(),
                    output::count(key.wraps, "data key"),
                ]
            }),
        ));
        for key in self.old_master_keys() {
            // Writing to memory does not fail.
            let _ = writeln!(
                text,
                "Master key {} still wraps {}: the same `credvault rewrap` again goes on.",
                key.id,
                output::count(key.wraps, "data key")
            );
        }
        for (key, time) in status.master_keys.iter().filter_map(|key| Some((key, key.usable_for?))) {
            let _ = writeln!(
                text,
                "Master key {} is used for {} s by a process that has just got it, should its key service not answer.",
                key.id,
                output::grouped(time.as_secs())
            );
        }
        text.push('\n');
        text.push_str(&keys::table(&status.data_keys));
        text
    }

    fn fields(&self) -> Value {
        let status = &self.status;
        let master_keys: Vec<Value> = status
            .master_keys
            .iter()
            .map(|key| {
                json!({
                    "master_key_id": key.id.to_string(),
                    "organization_id": key.organization_id.map(|id| id.to_string()),
                    "provider": key.provider,
                    "state": key.state.as_str(),
                    "wraps": key.wraps,
                    "usable_for_seconds": key.usable_for.map(|time| time.as_secs()),
                })
            })
            .collect();
        json!({
            "state": match self.exit() {
                Exit::Findings => "quarantine",
                Exit::WorkRemains => "work-remains",
                _ => "ok",
            },
            "at": output::rfc3339(status.at),
            "vault_id": status.vault_id.to_string(),
            "phase": status.phase.as_str(),
            "counting": self.counting,
            "stale_rows": status.stale_rows,
            "quarantined_rows": status.quarantined_rows,
            "running": status.running.as_ref().map(runs::document),
            "last_run": status.last_run.as_ref().map(runs::document),
            "last_rotation": self.last_rotation.as_ref().map(runs::document),
            "next_due": self.next_due.map(output::rfc3339),
            "due_data_key_ids": self.due.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "old_master_key_ids": self.old_master_keys().map(|key| key.id.to_string()).collect::<Vec<_>>(),
            "master_keys": master_keys,
            "data_keys": keys::documents(&status.data_keys),
        })
    }
}
