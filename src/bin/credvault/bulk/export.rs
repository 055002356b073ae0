//! `credvault export`: credentials in clear, to a new file of the user's alone or to a pipe, never to a terminal.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use credvault::{CredentialLine, Credentials, Error, ExposeSecret, IntegrationId, OrganizationId, Vault};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::MAX_LISTED;
use crate::arguments::Global;
use crate::confirmation;
use crate::connection;
use crate::failure::{Exit, refused, usage};
use crate::output::{self, Report};
use crate::standard_streams;

/// What has to be typed.
const WORDS: &str = "in clear";

#[derive(Args)]
pub(crate) struct Export {
    /// Write to a new file with mode 0600; else to standard output, which is a pipe.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Only the credentials of this organization.
    #[arg(long, value_name = "ID")]
    organization: Option<OrganizationId>,
    /// Don't ask whether to export. Without a terminal, both questions are answered by flags.
    #[arg(long)]
    yes: bool,
    /// Don't ask again: the secrets are to be written in clear.
    #[arg(long)]
    in_clear: bool,
}

/// What was written, and what was not.
#[derive(Default)]
struct Tally {
    written: u64,
    unopened: u64,
    /// The first [`MAX_LISTED`] that did not open.
    reasons: Vec<Unopened>,
}

struct Unopened {
    organization: OrganizationId,
    integration: IntegrationId,
    error: Error,
}

/// A new file, removed again unless it is kept: half an export is secrets that nobody asked for.
struct NewFile<'p> {
    path: &'p Path,
    file: File,
    is_kept: bool,
}

/// `credvault export`.
pub(crate) async fn run(global: &Global, export: &Export) -> anyhow::Result<Report> {
    let pipe = match export.out {
        Some(_) => None,
        None => Some(standard_output()?),
    };
    confirm(export)?;
    let Some(path) = &export.out else {
        let mut pipe = pipe.context("there is nowhere to write to")?;
        let vault = connection::open(global).await?;
        let tally = write_all(&vault, export, &mut pipe).await?;
        let report = report(&tally, None);
        if report.exit() != Exit::Done {
            // With standard error closed there is nobody to tell but the exit code.
            let _ = io::stderr().write_all(report.form(global.output).as_bytes());
        }
        return Ok(Report::nothing(report.exit()));
    };
    let mut new = NewFile::create(path)?;
    let vault = connection::open(global).await?;
    let tally = tokio::select! {
        tally = write_all(&vault, export, &mut new.file) => tally?,
        _ = tokio::signal::ctrl_c() => bail!("the export was interrupted; its file is removed"),
    };
    new.file.sync_all().with_context(|| format!("the file {path:?} can't be written"))?;
    new.is_kept = true;
    Ok(report(&tally, Some(path)))
}

/// Standard output, if secrets may go there.
fn standard_output() -> anyhow::Result<File> {
    if standard_streams::shows_on_a_terminal() {
        return Err(usage(
            "secrets are not shown on a terminal: give --out PATH, or a pipe as standard output",
        ));
    }
    let output = standard_streams::output().context("standard output can't be written")?;
    if others_can_read(&output)? {
        return Err(usage(
            "standard output is a file that others can read: give --out PATH, which makes one that only you can read",
        ));
    }
    Ok(output)
}

#[cfg(unix)]
fn others_can_read(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    /// All rights of the group and of others.
    const OTHERS: u32 = 0o077;
    let metadata = file.metadata()?;
    Ok(metadata.is_file() && metadata.mode() & OTHERS != 0)
}

#[cfg(not(unix))]
fn others_can_read(_: &File) -> io::Result<bool> {
    // The rights of a file are its folder's there, those of --out among them.
    Ok(false)
}

/// Asks twice; each question is answered at the terminal or by its flag.
fn confirm(export: &Export) -> anyhow::Result<()> {
    let whose = match export.organization {
        Some(organization) => format!("of organization {organization}"),
        None => "of every organization".to_owned(),
    };
    let is_answered = export.yes && export.in_clear;
    if !is_answered && !confirmation::can_ask() {
        return Err(usage(format!(
            "this writes the credentials {whose} in clear: without a terminal to ask at, say so by both --yes and \
             --in-clear"
        )));
    }
    if !export.yes && !confirmation::agrees(&format!("Export the credentials {whose}?"))? {
        return Err(refused("nothing was exported"));
    }
    if !export.in_clear {
        let question = format!(
            "Whoever reads the export has every token, password and key in it.\nType `{WORDS}` to write them so: "
        );
        if confirmation::ask(&question)? != WORDS {
            return Err(refused("nothing was exported"));
        }
    }
    Ok(())
}

impl<'p> NewFile<'p> {
    fn create(path: &'p Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(file) => Ok(Self { path, file, is_kept: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(refused(format!("{path:?} exists, and is never overwritten: name a new file")))
            }
            Err(error) => Err(error).with_context(|| format!("the file {path:?} can't be made")),
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// Writes a line for each credential.
async fn write_all(vault: &Vault, export: &Export, out: &mut File) -> anyhow::Result<Tally> {
    let (credentials, rows) = match export.organization {
        Some(id) => (vault.credentials().of(id), vault.organization(id).list().await?.len() as u64),
        None => (vault.credentials(), vault.keys().list().await?.iter().map(|key| key.rows).sum()),
    };
    let bar = output::progress("Exporting", rows);
    let mut tally = Tally::default();
    let outcome = write_each(credentials, out, &mut tally, &bar).await;
    bar.finish_and_clear();
    outcome.with_context(|| {
        format!("the export stopped after {}", output::count(tally.written, "credential"))
    })?;
    Ok(tally)
}

async fn write_each(
    mut credentials: Credentials,
    out: &mut File,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    while let Some(entry) = credentials.next().await? {
        let (organization, integration) = (entry.organization_id, entry.integration_id);
        bar.inc(1);
        let credential = match entry.stored {
            Ok(stored) => stored.credential,
            Err(error) => {
                tally.unopened += 1;
                if tally.reasons.len() < MAX_LISTED {
                    tally.reasons.push(Unopened { organization, integration, error });
                }
                continue;
            }
        };
        let line = CredentialLine {
            organization_id: organization,
            integration_id: Some(integration),
            connector: Some(entry.connector),
            credential,
        };
        out.write_all(line.to_json()?.expose_secret().as_bytes())?;
        out.write_all(b"\n")?;
        tally.written += 1;
    }
    Ok(())
}

fn report(tally: &Tally, path: Option<&Path>) -> Report {
    let exit = if tally.unopened == 0 { Exit::Done } else { Exit::Findings };
    let mut text = format!("Wrote {} in clear", output::count(tally.written, "credential"));
    if let Some(path) = path {
        let _ = write!(text, " to {path:?}, which only you can read. Delete it when it has served");
    }
    text.push_str(".\n");
    if tally.unopened > 0 {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{} could not be opened and are left out:", output::grouped(tally.unopened));
    }
    for Unopened { organization, integration, error } in &tally.reasons {
        let error = error.to_string();
        let error = output::printable(&error);
        let _ = writeln!(text, "  integration {integration} of organization {organization}: {error}");
    }
    let unlisted = tally.unopened - tally.reasons.len() as u64;
    if unlisted > 0 {
        let _ = writeln!(text, "  and {} more", output::grouped(unlisted));
    }
    let reasons: Vec<Value> = tally
        .reasons
        .iter()
        .map(|unopened| {
            json!({
                "organization_id": unopened.organization.to_string(),
                "integration_id": unopened.integration.to_string(),
                "kind": unopened.error.kind().to_string(),
                "message": unopened.error.to_string(),
            })
        })
        .collect();
    let fields = json!({
        "path": path.map(|path| path.to_string_lossy()),
        "written": tally.written,
        "unopened_count": tally.unopened,
        "unopened": reasons,
    });
    Report::new("export", exit, text, fields)
}
