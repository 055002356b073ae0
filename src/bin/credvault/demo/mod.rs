//! `credvault demo`: a vault's life with some thousand tokens, in a folder that goes away.

mod crowd;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use credvault::provider::KeyFile;
use credvault::{Outcome, RotationEvent, Vault, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::arguments::{Demo, Global};
use crate::connection;
use crate::failure::{Exit, refused};
use crate::output::{self, Report};
use crowd::Crowd;
use tokens::Tokens;

/// Rows on a page of the demo's rotation, more than a service's: nobody else is to be let through.
const BATCH_SIZE: u32 = 2_000;

/// A part of the demo.
struct Step {
    what: &'static str,
    how_many: u64,
    unit: &'static str,
    took: Duration,
}

/// Where the demo happens.
struct Stage {
    folder: TempDir,
    url: String,
    first_key: PathBuf,
    second_key: PathBuf,
}

/// `credvault demo`.
pub(crate) async fn run(global: &Global, demo: &Demo) -> anyhow::Result<Report> {
    let stage = Stage::set(global).await?;
    // A demo that is interrupted takes its folder with it, too.
    let steps = tokio::select! {
        steps = play(&stage, demo) => steps?,
        _ = tokio::signal::ctrl_c() => bail!("the demo was interrupted; its folder is removed"),
    };
    stage.leave(demo, &steps)
}

async fn play(stage: &Stage, demo: &Demo) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();

    let start = Instant::now();
    let first = KeyFile::generate(&stage.first_key)?;
    let second = KeyFile::generate(&stage.second_key)?;
    let vault = Vault::builder()
        .url(&stage.url)
        .master_key(&spec(&stage.first_key))?
        .master_key(&spec(&stage.second_key))?
        .create_if_missing()
        .build()
        .await?;
    steps.push(Step {
        what: "make a vault and two key files",
        how_many: 1,
        unit: "vault",
        took: start.elapsed(),
    });

    let crowd = Crowd::new(vault.clone(), Tokens::draw()?, demo.tokens, demo.organizations);
    let tokens = u64::from(demo.tokens);
    let took = crowd.store().await?;
    steps.push(Step { what: "store tokens", how_many: tokens, unit: "token", took });
    let took = crowd.compare("Reading").await?;
    steps.push(Step { what: "read and compare", how_many: tokens, unit: "token", took });

    let (re_encrypted, took) = rotate(&vault, tokens).await?;
    steps.push(Step { what: "rotate the data key", how_many: re_encrypted, unit: "row", took });

    let start = Instant::now();
    let rewrapped = vault.rewrap(provider::from_spec(&spec(&stage.second_key))?).run().await?;
    if rewrapped.master_key != second {
        bail!("the rewrap from master key {first} ended under {}, not {second}", rewrapped.master_key);
    }
    let took = start.elapsed();
    steps.push(Step {
        what: "rewrap to the second key file",
        how_many: rewrapped.rewrapped,
        unit: "data key",
        took,
    });

    let took = crowd.compare("Reading again").await?;
    steps.push(Step { what: "read and compare again", how_many: tokens, unit: "token", took });

    let start = Instant::now();
    let bar = output::progress("Verifying", tokens);
    let shown = bar.clone();
    let verification = vault.verify().on_progress(move |read| shown.set_position(read)).run().await;
    bar.finish_and_clear();
    let verification = verification?;
    if verification.findings_count > 0 || verification.rows_opened != tokens {
        bail!(
            "verification opened {} of {tokens} rows and found {} that are not as they were written",
            verification.rows_opened,
            verification.findings_count
        );
    }
    steps.push(Step { what: "verify", how_many: tokens, unit: "row", took: start.elapsed() });
    Ok(steps)
}

fn spec(key_file: &Path) -> String {
    format!("file:{}", key_file.display())
}

/// Rotates the data key; gives the rows that were re-encrypted.
async fn rotate(vault: &Vault, tokens: u64) -> anyhow::Result<(u64, Duration)> {
    let start = Instant::now();
    let bar = output::progress("Re-encrypting", tokens);
    let shown = bar.clone();
    let report = vault
        .rotation()
        .force()
        .batch_size(BATCH_SIZE)?
        .workers(1)?
        .on_event(move |event| {
            if let RotationEvent::Progress(progress) = event {
                shown.set_position(progress.re_encrypted);
            }
        })
        .run()
        .await;
    bar.finish_and_clear();
    let report = report?;
    if report.outcome != Outcome::Complete || report.re_encrypted != tokens {
        bail!(
            "the rotation re-encrypted {} of {tokens} rows, and left {}",
            report.re_encrypted,
            report.remaining
        );
    }
    Ok((report.re_encrypted, start.elapsed()))
}

impl Stage {
    /// A folder, and in it the database, unless one was named that is empty.
    ///
    /// The environment's database is not used: it may be one in production.
    async fn set(global: &Global) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("credvault-demo-").tempdir();
        let folder = folder.context("there is no place for the demo's folder; TMPDIR may name another")?;
        let url = match &global.database {
            Some(url) => {
                let url = connection::without_password(url)?;
                if !credvault::is_empty_database(&url).await? {
                    return Err(refused(
                        "the demo needs an empty database, and this one has tables: name another, or none",
                    ));
                }
                url
            }
            None => format!("sqlite:{}", folder.path().join("vault.db").display()),
        };
        let (first_key, second_key) = (folder.path().join("first.key"), folder.path().join("second.key"));
        Ok(Self { folder, url, first_key, second_key })
    }

    /// The report; the folder goes away unless it is to be kept.
    fn leave(self, demo: &Demo, steps: &[Step]) -> anyhow::Result<Report> {
        let program = std::env::args().next().unwrap_or_else(|| "credvault".to_owned());
        let is_embedded = self.url.contains(&*self.folder.path().to_string_lossy());
        let total: Duration = steps.iter().map(|step| step.took).sum();
        let mut text = output::table(
            ["STEP", "HOW MANY", "SECONDS", "A SECOND"],
            steps.iter().map(|step| {
                [
                    step.what.to_owned(),
                    output::count(step.how_many, step.unit),
                    seconds(step.took),
                    step.rate(),
                ]
            }),
        );
        text.push_str(&format!(
            "\n{} in GitHub's shapes over {}, {} seconds in all. Everything came back as it was stored.\n",
            output::count(demo.tokens.into(), "token"),
            output::count(demo.organizations.min(demo.tokens).into(), "organization"),
            seconds(total)
        ));
        // The keys of a vault in somebody's database must not go away with the folder.
        let kept: Option<PathBuf> = match demo.keep || !is_embedded {
            true => Some(self.folder.keep()),
            false => {
                self.folder.close().context("the demo's folder can't be removed")?;
                None
            }
        };
        if let Some(folder) = &kept {
            let database = if is_embedded {
                format!(" --database '{}'", self.url)
            } else {
                " --database URL".to_owned()
            };
            let key = spec(&self.second_key);
            text.push_str(&format!(
                "\nWhat it made is kept in {}:\n  {program} status{database} --master-key '{key}'\n",
                folder.display()
            ));
        }
        text.push_str(&go_on(&program));
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| {
                json!({ "step": step.what, "count": step.how_many, "seconds": step.took.as_secs_f64() })
            })
            .collect();
        let fields = json!({
            "tokens": demo.tokens,
            "organizations": demo.organizations.min(demo.tokens),
            "steps": steps,
            "seconds": total.as_secs_f64(),
            "folder": kept.map(|folder| folder.to_string_lossy().into_owned()),
        });
        Ok(Report::new("demo", Exit::Done, text, fields))
    }
}

impl Step {
    fn rate(&self) -> String {
        /// Fewer have no rate worth the name.
        const ENOUGH: u64 = 10;
        if self.how_many < ENOUGH || self.took.is_zero() {
            return String::new();
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people to read"
        )]
        let rate = (self.how_many as f64 / self.took.as_secs_f64()).round() as u64;
        output::grouped(rate)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

/// The commands to go on with, ready to copy.
fn go_on(program: &str) -> String {
    let organization = uuid::Uuid::new_v4();
    format!(
        "\nGo on with a vault of your own:\n\
         \x20 {program} master-key generate --out master.key    # and back it up\n\
         \x20 export CREDVAULT_MASTER_KEY=file:master.key\n\
         \x20 export CREDVAULT_DATABASE=sqlite:credvault.db      # or postgres://…\n\
         \x20 {program} init\n\
         \x20 printf %s ghp_example | {program} put --organization {organization} --connector github \
         --create --field access_token\n\
         \x20 {program} get --organization {organization} --connector github --field access_token\n"
    )
}
