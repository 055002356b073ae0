//! The data keys: `keys`.

mod compromise;
mod create;
mod destroy;

use credvault::{Blocker, DataKeyId, DataKeySummary, Error, ErrorKind, KeyState, Vault};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::arguments::{Global, Keys};
use crate::connection;
use crate::failure::Exit;
use crate::output::{self, Report};

/// `credvault keys`.
pub(crate) async fn run(global: &Global, command: &Keys) -> anyhow::Result<Report> {
    match command {
        Keys::List => {
            let keys = connection::open(global).await?.keys().list().await?;
            let fields = json!({ "data_keys": documents(&keys) });
            Ok(Report::new("keys list", Exit::Done, table(&keys), fields))
        }
        Keys::Show { id } => Ok(show(&find(&connection::open(global).await?, *id).await?)),
        Keys::Create { organization } => create::run(global, *organization).await,
        Keys::Compromise(key) => compromise::run(global, key).await,
        Keys::Destroy(key) => destroy::run(global, key).await,
    }
}

/// One of the vault's data keys.
///
/// # Errors
///
/// `NotFound` if there is none of that id.
async fn find(vault: &Vault, id: DataKeyId) -> anyhow::Result<DataKeySummary> {
    let key = vault.keys().list().await?.into_iter().find(|key| key.id == id);
    Ok(key.ok_or_else(|| {
        let message = format!("the vault has no data key {id}; `credvault keys list` lists those it has");
        Error::new(ErrorKind::NotFound, message)
    })?)
}

/// The data keys as a table; without the legacy key's placeholder where no legacy key was adopted.
pub(crate) fn table(keys: &[DataKeySummary]) -> String {
    let row = |key: &DataKeySummary| {
        [
            key.id.to_string(),
            key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            state(key),
            output::grouped(key.rows),
            output::count(age_days(key), "day"),
            key.unused_since.map_or_else(|| "-".to_owned(), output::moment),
            kept_for(key),
        ]
    };
    let is_shown = |key: &&DataKeySummary| !key.id.is_legacy() || key.rows > 0 || key.master_key_id.is_some();
    output::table(
        ["DATA KEY", "ORGANIZATION", "STATE", "ROWS", "AGE", "UNUSED SINCE", "KEPT FOR"],
        keys.iter().filter(is_shown).map(row),
    )
}

fn state(key: &DataKeySummary) -> String {
    match key.compromised_at {
        Some(_) => format!("{}, compromised", key.state.as_str()),
        None => key.state.as_str().to_owned(),
    }
}

/// Whole days since it was activated.
fn age_days(key: &DataKeySummary) -> u64 {
    let age = OffsetDateTime::now_utc() - key.activated_at.unwrap_or(key.created_at);
    u64::try_from(age.whole_days()).unwrap_or(0)
}

/// What keeps a key from being destroyed, in few words.
fn kept_for(key: &DataKeySummary) -> String {
    match key.blocked {
        None => "nothing".to_owned(),
        Some(Blocker::Destroyed) => "-".to_owned(),
        Some(Blocker::InUse) => "sealing".to_owned(),
        Some(Blocker::Rows(rows)) => output::count(rows, "row"),
        Some(Blocker::NotKnownUnused) => "a rotation to find it unused".to_owned(),
        Some(Blocker::Grace(until)) => format!("backups, until {}", output::moment(until)),
        Some(other) => other.to_string(),
    }
}

/// The data keys as JSON.
pub(crate) fn documents(keys: &[DataKeySummary]) -> Vec<Value> {
    keys.iter().map(document).collect()
}

fn document(key: &DataKeySummary) -> Value {
    let (blocked_by, blocked_until) = match key.blocked {
        None => (None, None),
        Some(Blocker::InUse) => (Some("in-use"), None),
        Some(Blocker::Rows(_)) => (Some("rows"), None),
        Some(Blocker::NotKnownUnused) => (Some("not-known-unused"), None),
        Some(Blocker::Grace(until)) => (Some("grace"), Some(until)),
        Some(Blocker::Destroyed) => (Some("destroyed"), None),
        Some(_) => (Some("other"), None),
    };
    json!({
        "data_key_id": key.id.to_string(),
        "organization_id": key.organization_id.map(|id| id.to_string()),
        "state": key.state.as_str(),
        "rows": key.rows,
        "other_rows": key.other_rows,
        "master_key_id": key.master_key_id.map(|id| id.to_string()),
        "age_days": age_days(key),
        "created_at": output::rfc3339(key.created_at),
        "activated_at": key.activated_at.map(output::rfc3339),
        "deactivated_at": key.deactivated_at.map(output::rfc3339),
        "compromised_at": key.compromised_at.map(output::rfc3339),
        "unused_since": key.unused_since.map(output::rfc3339),
        "destroyed_at": key.destroyed_at.map(output::rfc3339),
        "blocked_by": blocked_by,
        "blocked_until": blocked_until.map(output::rfc3339),
    })
}

/// One key, and what it is kept for.
fn show(key: &DataKeySummary) -> Report {
    let moment = |moment: Option<_>| moment.map_or_else(|| "never".to_owned(), output::moment);
    let (sealing, opening) = (key.state == KeyState::Active, key.rows > 0);
    let kept_for = match key.blocked {
        None => format!("nothing: `credvault keys destroy {}` destroys it", key.id),
        Some(Blocker::Destroyed) => "nothing: it is destroyed".to_owned(),
        Some(Blocker::InUse) if opening => {
            format!("sealing what is written, and {} under it", output::count(key.rows, "row"))
        }
        Some(Blocker::InUse) => "sealing what is written".to_owned(),
        Some(Blocker::Rows(rows)) => {
            format!("{} under it: `credvault rotate` re-encrypts them", output::count(rows, "row"))
        }
        Some(Blocker::NotKnownUnused) => {
            "what may still be written under it: `credvault rotate` finds out that nothing is".to_owned()
        }
        Some(Blocker::Grace(until)) => {
            format!("backups from before it was unused, until {}", output::moment(until))
        }
        Some(other) => other.to_string(),
    };
    let mut facts = vec![
        ("data key", key.id.to_string()),
        ("organization", key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string())),
        ("state", state(key)),
        ("rows", output::grouped(key.rows)),
    ];
    if key.other_rows > 0 {
        facts.push((
            "other rows",
            format!("{}, whose column names another key", output::grouped(key.other_rows)),
        ));
    }
    facts.extend([
        ("master key", key.master_key_id.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        ("created", output::moment(key.created_at)),
        ("active since", moment(key.activated_at)),
        ("replaced", moment(key.deactivated_at)),
        ("compromised", moment(key.compromised_at)),
        ("unused since", key.unused_since.map_or_else(|| "not known to be".to_owned(), output::moment)),
        ("destroyed", moment(key.destroyed_at)),
        ("kept for", kept_for),
    ]);
    let mut fields = json!({ "needed_for_sealing": sealing, "needed_for_rows": opening });
    if let (Value::Object(fields), Value::Object(key)) = (&mut fields, document(key)) {
        fields.extend(key);
    }
    Report::new("keys show", Exit::Done, output::facts(&facts), fields)
}
