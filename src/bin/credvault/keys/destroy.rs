//! The end of a data key: `keys destroy`.

use std::fmt::Write;

use credvault::{Blocker, Grace};
use serde_json::json;

use super::find;
use crate::arguments::{Destroy, Global};
use crate::confirmation;
use crate::connection;
use crate::failure::{Exit, refused, usage};
use crate::output::{self, Report};

/// What it comes to.
const FOR_GOOD: &str = "this can't be undone: whatever is sealed under the key, in each backup and copy of the \
                        database, never opens again";

/// `credvault keys destroy`.
pub(crate) async fn run(global: &Global, asked: &Destroy) -> anyhow::Result<Report> {
    let id = asked.id;
    match asked.confirm {
        Some(confirmed) if confirmed != id => {
            return Err(usage("--confirm names another data key than the one to destroy"));
        }
        None if !confirmation::can_ask() => {
            return Err(usage(format!("{FOR_GOOD}; say so by --confirm ID, with the id again")));
        }
        _ => {}
    }
    let grace = if asked.no_grace { Grace::Waived } else { Grace::Kept };
    let vault = connection::open(global).await?;
    let key = find(&vault, id).await?;
    match key.blocked {
        None => {}
        Some(Blocker::Grace(_)) if grace == Grace::Waived => {}
        Some(blocker) => {
            let mut why = format!("data key {id} was not destroyed: {blocker}");
            // Writing to memory does not fail.
            let _ = match blocker {
                Blocker::Rows(_) | Blocker::NotKnownUnused => write!(why, " (`credvault rotate`)"),
                Blocker::Grace(_) => write!(why, "; --no-grace gives up what they hold under it"),
                _ => Ok(()),
            };
            return Err(refused(why));
        }
    }
    if asked.confirm.is_none() {
        let unused = key.unused_since.map_or_else(String::new, |since| {
            format!("Nothing in this database needs data key {id} since {}.\n", output::moment(since))
        });
        let question =
            format!("{unused}Make sure: {FOR_GOOD}.\nType the id of the key again to destroy it: ");
        if confirmation::ask(&question)? != id.to_string() {
            return Err(refused(format!("data key {id} was not destroyed: what was typed is not its id")));
        }
    }
    vault.keys().destroy(id, grace).await?;
    let fields = json!({
        "data_key_id": id.to_string(),
        "unused_since": key.unused_since.map(output::rfc3339),
        "grace_waived": asked.no_grace,
    });
    let text = format!(
        "Data key {id} is destroyed; its record is kept.\n\
         What backups of this database hold under it never opens again.\n"
    );
    Ok(Report::new("keys destroy", Exit::Done, text, fields))
}
