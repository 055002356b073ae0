//! Many organizations' tokens, stored and read by several tasks at once, as a service does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use credvault::{IntegrationId, OrganizationId, Vault};
use indicatif::ProgressBar;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::tokens::{Tokens, connector, same};
use crate::output;

/// Tasks at once. More gain nothing beside SQLite's one writer, and wait longer for it.
const TASKS: usize = 4;

/// The organizations and their tokens.
pub(crate) struct Crowd(Arc<Inner>);

struct Inner {
    vault: Vault,
    tokens: Tokens,
    organizations: Vec<OrganizationId>,
    /// Of each token, once it is stored.
    integrations: Vec<OnceCell<IntegrationId>>,
}

impl Crowd {
    /// `tokens` tokens dealt out to `organizations` organizations, which get one each at least.
    pub(crate) fn new(vault: Vault, source: Tokens, tokens: u32, organizations: u32) -> Self {
        let organizations = (0..organizations.min(tokens)).map(|_| Uuid::new_v4().into()).collect();
        let integrations = (0..tokens).map(|_| OnceCell::new()).collect();
        Self(Arc::new(Inner { vault, tokens: source, organizations, integrations }))
    }

    /// Stores every token.
    ///
    /// # Errors
    ///
    /// The first of the vault's.
    pub(crate) async fn store(&self) -> anyhow::Result<Duration> {
        self.each("Storing", |crowd, number| async move { crowd.store(number).await }).await
    }

    /// Reads every token and compares it with what was stored.
    ///
    /// # Errors
    ///
    /// If one is another, or not there; the first of the vault's.
    pub(crate) async fn compare(&self, what: &'static str) -> anyhow::Result<Duration> {
        self.each(what, |crowd, number| async move { crowd.compare(number).await }).await
    }

    /// Does `work` for every token, by several tasks.
    async fn each<F, W>(&self, what: &'static str, work: F) -> anyhow::Result<Duration>
    where
        F: Fn(Arc<Inner>, u32) -> W + Copy + Send + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let start = Instant::now();
        let bar = output::progress(what, self.0.integrations.len() as u64);
        let next = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            tasks.spawn(take_turns(Arc::clone(&self.0), Arc::clone(&next), bar.clone(), work));
        }
        let mut outcome = Ok(());
        while let Some(task) = tasks.join_next().await {
            outcome = outcome.and(task.context("a task of the demo ended early").flatten());
        }
        bar.finish_and_clear();
        outcome.map(|()| start.elapsed())
    }
}

async fn take_turns<F, W>(
    crowd: Arc<Inner>,
    next: Arc<AtomicU32>,
    bar: ProgressBar,
    work: F,
) -> anyhow::Result<()>
where
    F: Fn(Arc<Inner>, u32) -> W,
    W: Future<Output = anyhow::Result<()>>,
{
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number as usize >= crowd.integrations.len() {
            return Ok(());
        }
        work(Arc::clone(&crowd), number).await?;
        bar.inc(1);
    }
}

impl Inner {
    /// The organization of token `number`, and which of its tokens that is.
    fn holder(&self, number: u32) -> (OrganizationId, u32) {
        let at = number as usize;
        let slot = at / self.organizations.len();
        // There are no more slots than tokens.
        (self.organizations[at % self.organizations.len()], u32::try_from(slot).unwrap_or(u32::MAX))
    }

    async fn store(&self, number: u32) -> anyhow::Result<()> {
        let (organization, slot) = self.holder(number);
        let organization = self.vault.organization(organization);
        let (integration, _) =
            organization.put_by_connector(&connector(slot), &self.tokens.credential(number)).await?;
        self.integrations[number as usize].set(integration)?;
        Ok(())
    }

    async fn compare(&self, number: u32) -> anyhow::Result<()> {
        let integration = *self.integrations[number as usize].get().context("a token was not stored")?;
        let organization = self.vault.organization(self.holder(number).0);
        match organization.get(integration).await? {
            Some(stored) if same(&stored.credential, &self.tokens.credential(number)) => Ok(()),
            Some(_) => bail!("integration {integration}: another credential came back than was stored"),
            None => bail!("integration {integration}: its credential is gone"),
        }
    }
}
