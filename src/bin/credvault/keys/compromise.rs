//! A data key that others may have: `keys compromise`, and the list of what is under it.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::Context;
use credvault::{DataKeyId, DataKeySummary, OrganizationId, RunSummary, Summary, Vault};
use serde_json::json;

use super::find;
use crate::arguments::{Compromise, Form, Global};
use crate::connection;
use crate::failure::{Exit, usage};
use crate::output::{self, Report};
use crate::standard_streams;
use crate::summaries::expiry;

const COMMAND: &str = "keys compromise";

/// How many runs are looked through for a rotation since the key was marked.
const RUNS_LOOKED_THROUGH: u32 = 50;

/// Where each credential is printed as it is read, so that any number of them takes the same memory.
enum Listing {
    Text(BufWriter<File>),
    Json(BufWriter<File>),
    Csv(Box<csv::Writer<File>>),
}

/// How many were listed.
#[derive(Default)]
struct Tally {
    credentials: u64,
    organizations: u64,
    last: Option<OrganizationId>,
}

/// `credvault keys compromise`.
pub(crate) async fn run(global: &Global, asked: &Compromise) -> anyhow::Result<Report> {
    let out = standard_streams::output()?;
    let mut listing = match (asked.csv, global.output) {
        (true, Form::Json) => return Err(usage("--csv and --output json are two forms: choose one")),
        (true, Form::Text) => Listing::Csv(Box::new(csv::Writer::from_writer(out))),
        (false, Form::Text) => Listing::Text(BufWriter::new(out)),
        (false, Form::Json) => Listing::Json(BufWriter::new(out)),
    };
    let vault = connection::open(global).await?;
    let marked = vault.keys().compromise(asked.id).await?;
    let key = find(&vault, asked.id).await?;
    let tally = list(&vault, key.id, &mut listing).await?;
    let rotated_since = rotated_since(&vault, &key).await?;

    let text = text(&key, marked.new_key, &tally, rotated_since);
    if let Listing::Csv(_) = listing {
        // With standard error closed there is nobody to tell.
        let _ = io::stderr().write_all(text.trim_start().as_bytes());
        return Ok(Report::nothing(Exit::Done));
    }
    let fields = json!({
        "event": "report",
        "data_key_id": key.id.to_string(),
        "compromised_at": key.compromised_at.map(output::rfc3339),
        "already_marked": marked.already_marked,
        "new_data_key_id": marked.new_key.map(|id| id.to_string()),
        "credentials": tally.credentials,
        "organizations": tally.organizations,
        "other_rows": key.other_rows,
        "rotated_since": rotated_since,
    });
    Ok(Report::new(COMMAND, Exit::Done, text, fields))
}

/// Lists what is under the key.
async fn list(vault: &Vault, key: DataKeyId, listing: &mut Listing) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut credentials = vault.keys().credentials_under(key);
    let mut written = listing.begin();
    while let Some(credential) = credentials.next().await? {
        written = written.and_then(|()| listing.add(&credential));
        if written.is_err() {
            break;
        }
        tally.credentials += 1;
        if tally.last.replace(credential.organization_id) != Some(credential.organization_id) {
            tally.organizations += 1;
        }
    }
    // Half a list must not pass for a whole one, were its reader gone or its disk full.
    written
        .and_then(|()| listing.flush())
        .context("the key is marked, and the list of what is under it was cut off: call it again")?;
    Ok(tally)
}

impl Listing {
    fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::Text(out) => {
                Self::line(out, ["ORGANIZATION", "CONNECTOR", "INTEGRATION", "TYPE", "EXPIRES"])
            }
            Self::Json(_) => Ok(()),
            Self::Csv(out) => {
                let heading =
                    ["organization_id", "connector", "integration_id", "credential_type", "expires_at"];
                out.write_record(heading).map_err(io::Error::from)
            }
        }
    }

    fn add(&mut self, credential: &Summary) -> io::Result<()> {
        let (organization, integration) =
            (credential.organization_id.to_string(), credential.integration_id.to_string());
        let (connector, kind) = (credential.connector_type.as_str(), credential.credential_type.as_str());
        let expires_at = credential.expires_at.map(output::rfc3339);
        match self {
            Self::Text(out) => Self::line(
                out,
                [
                    &organization,
                    &output::printable(connector),
                    &integration,
                    &output::printable(kind),
                    &expiry(credential.expires_at),
                ],
            ),
            Self::Json(out) => {
                let fields = json!({
                    "organization_id": organization,
                    "connector": connector,
                    "integration_id": integration,
                    "credential_type": kind,
                    "expires_at": expires_at,
                });
                out.write_all(output::event(COMMAND, "credential", fields).as_bytes())
            }
            Self::Csv(out) => {
                let record =
                    [&organization, connector, &integration, kind, expires_at.as_deref().unwrap_or_default()];
                out.write_record(record).map_err(io::Error::from)
            }
        }
    }

    /// A line of a table whose columns nobody knows the widths of before its end: those of usual values.
    fn line(
        out: &mut impl Write,
        [organization, connector, integration, kind, expires]: [&str; 5],
    ) -> io::Result<()> {
        writeln!(out, "{organization:36}  {connector:10}  {integration:36}  {kind:15}  {expires}")
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Text(out) | Self::Json(out) => out.flush(),
            Self::Csv(out) => out.flush(),
        }
    }
}

/// Whether a rotation may have taken credentials away from the key since it was marked.
async fn rotated_since(vault: &Vault, key: &DataKeySummary) -> anyhow::Result<bool> {
    let since = |run: &RunSummary| {
        run.kind == "rotate"
            && run.finished_at.is_none_or(|finished_at| key.compromised_at.is_some_and(|at| finished_at > at))
    };
    Ok(vault.runs(RUNS_LOOKED_THROUGH).await?.iter().any(since))
}

fn text(key: &DataKeySummary, new_key: Option<DataKeyId>, tally: &Tally, rotated_since: bool) -> String {
    let mut text = format!(
        "\nData key {} is compromised since {}.\n",
        key.id,
        key.compromised_at.map_or_else(|| "now".to_owned(), output::moment)
    );
    if let Some(new) = new_key {
        text.push_str(&format!(
            "Data key {new} took its place: nothing more is sealed under the compromised one.\n"
        ));
    }
    text.push_str(&format!(
        "Under it: {} of {}.\n",
        output::count(tally.credentials, "credential"),
        output::count(tally.organizations, "organization")
    ));
    if key.other_rows > 0 {
        text.push_str(&format!(
            "Besides, {} sealed by it, as their text says, though their column names another key: `credvault verify` \
             names them.\n",
            output::count(key.other_rows, "row")
        ));
    }
    if rotated_since {
        text.push_str(
            "A rotation ran since it was marked: what that re-encrypted is not listed, and is compromised all the same.\n",
        );
    }
    text.push_str(
        "Whoever has the key and a copy of the database can read what is listed:\n\
         1. Keep this list: after the rotation nothing tells what was under the key.\n\
         2. `credvault rotate` now: the rotation is due at once.\n\
         3. Have each credential re-issued at its provider, and store the new one.\n",
    );
    text
}
