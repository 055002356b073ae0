//! `credvault import`: lines of JSON into the vault, by several tasks, in flat memory.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use credvault::{
    Credential, CredentialLine, Error, ErrorKind, ExposeSecret, IntegrationId, Organization, Vault,
};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::lines::{Line, Lines};
use super::{MAX_LISTED, bytes_style};
use crate::arguments::Global;
use crate::connection;
use crate::failure::{Exit, usage};
use crate::output::{self, Report};
use crate::standard_streams;

/// Tasks at once. More gain nothing beside SQLite's one writer, and wait longer for it.
const TASKS: usize = 4;

/// Lines that wait for one task, at most: the largest take some MiB.
const WAITING_LINES: usize = 4;

/// How often a line is tried that another writer got in the way of.
const ATTEMPTS: u32 = 3;

/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct Import {
    /// Read this file, and not standard input.
    #[arg(long = "in", value_name = "PATH")]
    file: Option<PathBuf>,
    /// Read, compare and count, and write nothing. What only a write finds out is not reported: a credential that is too
    /// large, an `integration_id` that is not the organization's.
    #[arg(long)]
    dry_run: bool,
}

/// Whether lines are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Store,
    DryRun,
}

/// What became of a line.
enum Done {
    Added,
    Replaced,
    Unchanged,
}

/// What became of all of them.
#[derive(Default)]
struct Tally {
    added: u64,
    replaced: u64,
    unchanged: u64,
    bad: u64,
    /// The first [`MAX_LISTED`] bad lines, by number.
    reasons: BTreeMap<u64, String>,
}

type Shared = Arc<Mutex<Tally>>;
type Numbered = (u64, CredentialLine);

/// `credvault import`.
pub(crate) async fn run(global: &Global, import: &Import) -> anyhow::Result<Report> {
    let input = match &import.file {
        Some(path) => File::open(path).with_context(|| format!("the file {path:?} can't be read"))?,
        None if io::stdin().is_terminal() => {
            return Err(usage(
                "standard input is a terminal: give a file, by --in PATH or as standard input",
            ));
        }
        None => standard_streams::input().context("standard input can't be read")?,
    };
    let mode = if import.dry_run { Mode::DryRun } else { Mode::Store };
    let vault = connection::open(global).await?;
    let tally = Shared::default();
    let bar = bar(&input);
    let outcome = store_all(&vault, input, mode, &tally, &bar).await;
    bar.finish_and_clear();
    let tally = lock(&tally);
    outcome.with_context(|| {
        let stored = tally.added + tally.replaced + tally.unchanged;
        let stored = output::count(stored, "line");
        format!(
            "the import stopped after {stored}; when the cause is gone import all again, which is harmless"
        )
    })?;
    Ok(report(&tally, mode))
}

/// A bar over the bytes of a file, or a count of them.
fn bar(input: &File) -> ProgressBar {
    let length = input.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let bar = output::progress("Importing", length.unwrap_or(0));
    if let Some(style) = bytes_style(length) {
        bar.set_style(style);
    }
    bar
}

/// A thread reads; each organization's lines go to one task, in their order.
async fn store_all(
    vault: &Vault,
    input: File,
    mode: Mode,
    tally: &Shared,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let mut senders = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let (sender, receiver) = channel(WAITING_LINES);
        senders.push(sender);
        tasks.spawn(store_each(vault.clone(), receiver, mode, Arc::clone(tally)));
    }
    let (say, said) = oneshot::channel();
    let (counted, shown) = (Arc::clone(tally), bar.clone());
    // No task of the runtime, which would wait for it at the end: where a task failed, nobody waits for the next line.
    std::thread::spawn(move || {
        // Nobody waits for it any more where this fails.
        let _ = say.send(read_all(input, &senders, &counted, &shown));
    });
    // The first error ends all others: a task may be dropped wherever it is.
    while let Some(task) = tasks.join_next().await {
        task.context("a task of the import ended early").flatten()?;
    }
    let read = said.await.context("the reading thread of the import ended early")?;
    read.context("the lines can't be read")
}

/// Reads all lines and hands them to the tasks; ends early where one of those did.
fn read_all(
    input: File,
    senders: &[Sender<Numbered>],
    tally: &Mutex<Tally>,
    bar: &ProgressBar,
) -> io::Result<()> {
    let mut lines = Lines::new(input, CredentialLine::MAX_BYTES);
    while let Some((number, line)) = lines.next()? {
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(line)) => {
                let organization = line.organization_id.as_uuid().as_u128();
                let [.., low] = organization.to_be_bytes();
                let Some(sender) = senders.get(usize::from(low) % TASKS) else { return Ok(()) };
                if sender.blocking_send((number, line)).is_err() {
                    return Ok(());
                }
            }
            Err(reason) => lock(tally).add_bad(number, reason),
        }
        bar.set_position(lines.consumed());
    }
    Ok(())
}

/// The credential of a line, `None` for a blank one, or why it is a bad one.
fn parse(line: &Line<'_>) -> Result<Option<CredentialLine>, String> {
    let Line::Bytes(bytes) = line else {
        return Err(format!("it has more than {} bytes", CredentialLine::MAX_BYTES));
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    CredentialLine::parse(text).map(Some).map_err(|error| error.to_string())
}

async fn store_each(
    vault: Vault,
    mut lines: Receiver<Numbered>,
    mode: Mode,
    tally: Shared,
) -> anyhow::Result<()> {
    while let Some((number, line)) = lines.recv().await {
        match store_again(&vault, &line, mode).await {
            Ok(done) => lock(&tally).add(&done),
            Err(error) if is_of_the_line(&error) => lock(&tally).add_bad(number, error.to_string()),
            Err(error) => return Err(anyhow::Error::new(error).context(format!("line {number}"))),
        }
    }
    Ok(())
}

/// Whether an error is the line's own, and the others may fare better.
fn is_of_the_line(error: &Error) -> bool {
    use ErrorKind::{Conflict, InvalidInput, NotFound, Refused, Unsupported};
    matches!(error.kind(), Conflict | InvalidInput | NotFound | Refused | Unsupported)
}

/// Stores a line, and again where that may help.
async fn store_again(vault: &Vault, line: &CredentialLine, mode: Mode) -> credvault::Result<Done> {
    for _ in 1..ATTEMPTS {
        match store(vault, line, mode).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
    store(vault, line, mode).await
}

async fn store(vault: &Vault, line: &CredentialLine, mode: Mode) -> credvault::Result<Done> {
    let organization = vault.organization(line.organization_id);
    let integration = match &line.connector {
        Some(connector) => organization.integration(connector).await?,
        None => line.integration_id,
    };
    let done = match integration {
        Some(integration) => compare(&organization, integration, &line.credential).await?,
        None => Done::Added,
    };
    if mode == Mode::DryRun || matches!(done, Done::Unchanged) {
        return Ok(done);
    }
    match (integration, &line.connector) {
        (Some(integration), _) => organization.put(integration, &line.credential).await.map(drop)?,
        (None, Some(connector)) => {
            organization.put_by_connector(connector, &line.credential).await.map(drop)?;
        }
        (None, None) => {
            return Err(Error::new(ErrorKind::InvalidInput, "neither integration_id nor connector is there"));
        }
    }
    Ok(done)
}

/// What storing the credential comes to.
async fn compare(
    organization: &Organization,
    integration: IntegrationId,
    credential: &Credential,
) -> credvault::Result<Done> {
    use ErrorKind::{KeyUnavailable, Malformed, Tampered};
    match organization.get(integration).await {
        Ok(None) => Ok(Done::Added),
        Ok(Some(stored)) if same(&stored.credential, credential) => Ok(Done::Unchanged),
        Ok(Some(_)) => Ok(Done::Replaced),
        // What doesn't open is what an import from an export repairs.
        Err(error) if matches!(error.kind(), KeyUnavailable | Malformed | Tampered) => Ok(Done::Replaced),
        Err(error) => Err(error),
    }
}

/// Whether two credentials are the same in all that they hold. How long that takes shows nothing of a value.
fn same(one: &Credential, other: &Credential) -> bool {
    one.credential_type() == other.credential_type()
        && one.expires_at() == other.expires_at()
        && one.fields().len() == other.fields().len()
        && one.fields().zip(other.fields()).fold(true, |same, ((name, value), (other_name, other_value))| {
            let (value, other_value) =
                (value.expose_secret().as_bytes(), other_value.expose_secret().as_bytes());
            let difference = value.iter().zip(other_value).fold(0, |all, (one, other)| all | (one ^ other));
            same & (name == other_name) & (value.len() == other_value.len()) & (difference == 0)
        })
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    // Counts are counts, whoever failed meanwhile.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn add(&mut self, done: &Done) {
        match done {
            Done::Added => self.added += 1,
            Done::Replaced => self.replaced += 1,
            Done::Unchanged => self.unchanged += 1,
        }
    }

    fn add_bad(&mut self, number: u64, reason: String) {
        self.bad += 1;
        self.reasons.insert(number, reason);
        if self.reasons.len() > MAX_LISTED {
            self.reasons.pop_last();
        }
    }
}

fn report(tally: &Tally, mode: Mode) -> Report {
    let exit = if tally.bad == 0 { Exit::Done } else { Exit::Findings };
    let mut text = output::facts(&[
        ("added", output::grouped(tally.added)),
        ("replaced", output::grouped(tally.replaced)),
        ("unchanged", output::grouped(tally.unchanged)),
        ("bad lines", output::grouped(tally.bad)),
    ]);
    for (number, reason) in &tally.reasons {
        // Writing to memory does not fail.
        let _ = writeln!(text, "  line {number}: {}", output::printable(reason));
    }
    let unlisted = tally.bad - tally.reasons.len() as u64;
    if unlisted > 0 {
        let _ = writeln!(text, "  and {} more", output::grouped(unlisted));
    }
    if mode == Mode::DryRun {
        text.push_str("Nothing was written.\n");
    } else if exit == Exit::Findings {
        text.push_str(
            "All other lines are stored. Mend the bad ones and import again: what is stored is skipped.\n",
        );
    }
    let reasons: Vec<Value> =
        tally.reasons.iter().map(|(number, reason)| json!({ "line": number, "message": reason })).collect();
    let fields = json!({
        "dry_run": mode == Mode::DryRun,
        "added": tally.added,
        "replaced": tally.replaced,
        "unchanged": tally.unchanged,
        "bad_lines_count": tally.bad,
        "bad_lines": reasons,
    });
    Report::new("import", exit, text, fields)
}
