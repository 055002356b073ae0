//! The data keys: `keys list`, `keys show`, `keys create`.

use credvault::{DataKeySummary, Error, ErrorKind, KeyState};
use serde_json::{Value, json};

use crate::arguments::{Global, Keys};
use crate::connection;
use crate::failure::Exit;
use crate::output::{self, Report};

/// `credvault keys`.
pub(crate) async fn run(global: &Global, command: &Keys) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    match *command {
        Keys::List => {
            let keys = vault.keys().list().await?;
            let fields = json!({ "data_keys": documents(&keys) });
            Ok(Report::new("keys list", Exit::Done, table(&keys), fields))
        }
        Keys::Show { id } => {
            let keys = vault.keys().list().await?;
            let key = keys.iter().find(|key| key.id == id).ok_or_else(|| {
                let message =
                    format!("the vault has no data key {id}; `credvault keys list` lists those it has");
                Error::new(ErrorKind::NotFound, message)
            })?;
            Ok(show(key))
        }
        Keys::Create { organization } => {
            let id = vault.keys().create(organization).await?;
            let text = format!(
                "Organization {organization} has its own data key {id} from now on.\n\
                 What it wrote before follows with the next `credvault rotate`.\n"
            );
            let fields =
                json!({ "organization_id": organization.to_string(), "data_key_id": id.to_string() });
            Ok(Report::new("keys create", Exit::Done, text, fields))
        }
    }
}

/// The data keys as a table; without the legacy key's placeholder where no legacy key was adopted.
pub(crate) fn table(keys: &[DataKeySummary]) -> String {
    let row = |key: &DataKeySummary| {
        [
            key.id.to_string(),
            key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            state(key),
            output::grouped(key.rows),
            output::moment(key.activated_at.unwrap_or(key.created_at)),
        ]
    };
    let is_shown = |key: &&DataKeySummary| !key.id.is_legacy() || key.rows > 0 || key.master_key_id.is_some();
    output::table(
        ["DATA KEY", "ORGANIZATION", "STATE", "ROWS", "SINCE"],
        keys.iter().filter(is_shown).map(row),
    )
}

fn state(key: &DataKeySummary) -> String {
    match key.compromised_at {
        Some(_) => format!("{}, compromised", key.state.as_str()),
        None => key.state.as_str().to_owned(),
    }
}

/// The data keys as JSON.
pub(crate) fn documents(keys: &[DataKeySummary]) -> Vec<Value> {
    keys.iter().map(document).collect()
}

fn document(key: &DataKeySummary) -> Value {
    json!({
        "data_key_id": key.id.to_string(),
        "organization_id": key.organization_id.map(|id| id.to_string()),
        "state": key.state.as_str(),
        "rows": key.rows,
        "master_key_id": key.master_key_id.map(|id| id.to_string()),
        "created_at": output::rfc3339(key.created_at),
        "activated_at": key.activated_at.map(output::rfc3339),
        "compromised_at": key.compromised_at.map(output::rfc3339),
    })
}

/// One key, and what it is needed for.
fn show(key: &DataKeySummary) -> Report {
    let moment = |moment: Option<_>| moment.map_or_else(|| "never".to_owned(), output::moment);
    let (sealing, opening) = (key.state == KeyState::Active, key.rows > 0);
    let rows = output::count(key.rows, "row");
    let needed = match (sealing, opening) {
        (true, true) => format!("sealing what is written, and {rows} under it"),
        (true, false) => "sealing what is written".to_owned(),
        (false, true) => format!("{rows} under it: `credvault rotate` re-encrypts them"),
        // That no row names it now does not say that none ever will: a transaction may be under way.
        (false, false) => "no row at this moment".to_owned(),
    };
    let text = output::facts(&[
        ("data key", key.id.to_string()),
        ("organization", key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string())),
        ("state", state(key)),
        ("rows", output::grouped(key.rows)),
        ("master key", key.master_key_id.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        ("created", output::moment(key.created_at)),
        ("active since", moment(key.activated_at)),
        ("compromised", moment(key.compromised_at)),
        ("needed for", needed),
    ]);
    let mut fields = json!({ "needed_for_sealing": sealing, "needed_for_rows": opening });
    if let (Value::Object(fields), Value::Object(key)) = (&mut fields, document(key)) {
        fields.extend(key);
    }
    Report::new("keys show", Exit::Done, text, fields)
}
