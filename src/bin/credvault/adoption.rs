//! The rows of the service that was there before: `adopt`.

use std::fs::File;

use anyhow::Context;
use credvault::LegacySalt;
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::{Adopt, Global, Salt};
use crate::connection;
use crate::failure::{Exit, usage};
use crate::output::{self, Report};
use crate::standard_streams;

/// The most bytes of a salt: no variable of a service is as long; a larger file is another one, given by mistake.
const MAX_SALT_BYTES: usize = 65_536;

/// `credvault adopt`.
pub(crate) async fn run(global: &Global, adopt: &Adopt) -> anyhow::Result<Report> {
    let salt = LegacySalt::new(salt(&adopt.salt)?);
    let salt = if adopt.accept_leaked_salt { salt.accept_leaked() } else { salt };
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
    let fields = json!({
        "rows_tried": report.rows_tried,
        "rows_opened": report.rows_opened,
        "already_registered": report.already_registered,
    });
    Ok(Report::new("adopt", Exit::Done, format!("{begin}\n{checked}\n"), fields))
}

fn salt(salt: &Salt) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = match (&salt.file, &salt.variable) {
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
