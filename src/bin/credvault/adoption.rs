//! The rows of the service that was there before: `adopt`, a step at a time.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use credvault::{KeyState, LegacySalt, Phase, RotationReport};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{Adopt, AdoptionStep, Global};
use crate::confirmation;
use crate::connection::{self, Prompt};
use crate::failure::{Exit, usage};
use crate::interruption::Interruption;
use crate::output::{self, Report};
use crate::rotation;
use crate::standard_streams;

/// The most bytes of a salt: no variable of a service is as long; a larger file is another one, given by mistake.
const MAX_SALT_BYTES: usize = 65_536;

/// What re-encryption takes for granted.
const ONLY_READER: &str = "nothing but credvault may read the table integration_credentials any more: another service \
                           can't read what is re-encrypted";

/// What the cut-over takes for granted.
const ONLY_WRITER: &str = "nothing but credvault may write the table integration_credentials any more: the database \
                           refuses what another service writes";

/// `credvault adopt`.
pub(crate) async fn run(global: &Global, adopt: &Adopt) -> anyhow::Result<Report> {
    match &adopt.step {
        AdoptionStep { re_encrypt: true, .. } => re_encrypt(global, adopt).await,
        AdoptionStep { cut_over: true, .. } => cut_over(global, adopt).await,
        AdoptionStep { salt_file, salt_variable, .. } => {
            let salt = LegacySalt::new(salt(salt_file.as_deref(), salt_variable.as_deref())?);
            begin(global, if adopt.accept_leaked_salt { salt.accept_leaked() } else { salt }).await
        }
    }
}

/// What a step comes to, as JSON; the fields of the others are null.
fn fields(step: Phase, already_done: bool) -> Value {
    json!({
        "event": "report",
        "step": step.as_str(),
        "already_done": already_done,
        "rows_tried": null,
        "rows_opened": null,
        "rotation": null,
    })
}

async fn begin(global: &Global, salt: LegacySalt) -> anyhow::Result<Report> {
    let vault = connection::open(global).await?;
    let report = vault.adoption(salt).run().await?;
    let begin = match report.already_registered {
        true => "The legacy key is registered already.",
        false => {
            "The legacy key is registered: legacy rows read like any other from now on, and stay as they are."
        }
    };
    let checked = match report.rows_tried {
        0 => "There are no legacy rows: nothing could be checked.".to_owned(),
        tried => format!(
            "It opens {} of the first {}.",
            output::grouped(report.rows_opened),
            output::count(tried, "legacy row")
        ),
    };
    let mut fields = fields(Phase::Observe, report.already_registered);
    fields["rows_tried"] = json!(report.rows_tried);
    fields["rows_opened"] = json!(report.rows_opened);
    Ok(Report::new("adopt", Exit::Done, format!("{begin}\n{checked}\n"), fields))
}

async fn re_encrypt(global: &Global, adopt: &Adopt) -> anyhow::Result<Report> {
    if !adopt.yes {
        confirmation::that(ONLY_READER, "nothing was changed")?;
    }
    let moved = connection::open(global).await?.re_encrypt_legacy_rows().await?;
    let text = match moved {
        true => "Rotations re-encrypt legacy rows from now on: `credvault rotate` does so.\n",
        false => "Rotations re-encrypt legacy rows already.\n",
    };
    Ok(Report::new("adopt", Exit::Done, text.to_owned(), fields(Phase::ReEncrypt, !moved)))
}

async fn cut_over(global: &Global, adopt: &Adopt) -> anyhow::Result<Report> {
    let (url, keys) = (connection::database(global)?, connection::master_keys(global, Prompt::Once)?);
    if !adopt.yes {
        confirmation::that(ONLY_WRITER, "nothing was changed")?;
    }
    let interruption = Interruption::listen()?;
    let switch = async {
        let vault = connection::open_with(url, keys).await?;
        let moved = vault.cut_over_legacy_rows().await?;
        anyhow::Ok((vault, moved))
    };
    let (report, already_done) = match interruption.or(switch).await {
        Some(switched) => {
            let (vault, moved) = switched?;
            (rotation::watched(vault.rotation(), "adopt", global.output, &interruption).await?, !moved)
        }
        None => (RotationReport::stopped_before_it_began(), false),
    };
    let (exit, verdict) = match (rotation::report::exit(&report), is_over(&report)) {
        (exit, true) => (exit, "The legacy key is destroyed: the adoption is over."),
        (Exit::Findings, false) => (
            Exit::Findings,
            "The legacy key is kept for the rows that did not open; store them anew, and rotate again.",
        ),
        (_, false) => (
            Exit::WorkRemains,
            "The adoption is not over: `credvault rotate` goes on with it, and destroys the legacy key at its end.",
        ),
    };
    let refused = match report.stopped {
        Some(_) => "",
        None => "The database refuses new legacy rows from now on.\n",
    };
    let text = format!("{refused}{}{verdict}\n", rotation::report::text(&report));
    let mut fields = fields(Phase::CutOver, already_done);
    fields["rotation"] = rotation::report::fields(&report);
    Ok(Report::new("adopt", exit, text, fields))
}

/// Whether the legacy key is no more.
fn is_over(report: &RotationReport) -> bool {
    report.keys.iter().any(|key| key.id.is_legacy() && key.state == KeyState::Destroyed)
}

fn salt(file: Option<&Path>, variable: Option<&str>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = match (file, variable) {
        (Some(path), _) => File::open(path)
            .and_then(|file| standard_streams::read_bounded(file, MAX_SALT_BYTES))
            .with_context(|| format!("the salt file {path:?} can't be read"))?,
        (None, Some(name)) => {
            // What a shell would not take for a name may be the salt itself, and is not repeated.
            let is_name =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let value = if is_name { std::env::var_os(name) } else { None };
            let value = value.ok_or_else(|| usage("the variable that --salt-env names is not set"))?;
            Some(Zeroizing::new(value.into_encoded_bytes())).filter(|bytes| bytes.len() <= MAX_SALT_BYTES)
        }
        (None, None) => None,
    };
    bytes.ok_or_else(|| usage(format!("a salt has {MAX_SALT_BYTES} bytes at most")))
}
