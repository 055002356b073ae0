//! A crowd at work on a vault: writers, refreshers, readers and rotators, who know at each moment what must be there.
//!
//! What fails in a way that may be over is made again until it succeeds, as a service does; so what is there in the end is
//! the last that was acknowledged, whatever failed in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use credvault::{
    Credential, CredentialType, Error, ErrorKind, ExposeSecret, Organization, Outcome, Revision, Rotation,
    Vault,
};
use tokio::task::JoinSet;

use super::service::{Service, Tenant, random_below};

/// Tenants of each writer.
const WRITTEN: usize = 16;
/// Tenants whose tokens the refreshers refresh.
const REFRESHED: usize = 8;
/// Rows on a page of a rotation: several pages, each among writes.
const PAGE_ROWS: u32 = 9;

/// How long a call may go on failing: longer than a server takes that starts again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What everybody works on.
pub struct Crowd {
    service: Service,
    writers: usize,
    tenants: Vec<Tenant>,
    /// The number of the last token of each tenant whose write was acknowledged.
    acknowledged: Vec<AtomicU64>,
    /// The number after that of the last refresh token that the provider has got, of each tenant: they go up.
    sent: Vec<AtomicU64>,
    is_over: AtomicBool,
    pub writes: AtomicU64,
    pub conflicts: AtomicU64,
    pub refreshes: AtomicU64,
    pub reads: AtomicU64,
    /// Calls that failed in a way that may be over.
    pub failures: AtomicU64,
    pub rotations: AtomicU64,
    pub failed_rotations: AtomicU64,
    /// Swaps of a rotation that gave way to a writer.
    pub gave_way: AtomicU64,
}

impl Crowd {
    /// A crowd of so many writers, whose tenants have their first tokens.
    pub async fn begin(service: Service, vault: &Vault, writers: usize) -> Arc<Self> {
        let tenants = service.add_tenants(writers * WRITTEN + REFRESHED).await;
        for (at, tenant) in tenants.iter().enumerate() {
            let credential = if at < writers * WRITTEN { numbered(0) } else { refreshable(0) };
            vault.organization(tenant.organization).put(tenant.integration, &credential).await.unwrap();
        }
        // One of the scopes is an organization's own.
        vault.keys().create(tenants[0].organization).await.unwrap();
        let count = || AtomicU64::new(0);
        let sent = tenants.iter().map(|_| count()).collect();
        Arc::new(Self {
            service,
            writers,
            acknowledged: tenants.iter().map(|_| count()).collect(),
            tenants,
            sent,
            is_over: AtomicBool::new(false),
            writes: count(),
            conflicts: count(),
            refreshes: count(),
            reads: count(),
            failures: count(),
            rotations: count(),
            failed_rotations: count(),
            gave_way: count(),
        })
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Lets the writers, two refreshers and a reader begin, each with a vault that `open` gives: one of its own, as processes
    /// have it, or one for all.
    pub async fn start(self: &Arc<Self>, mut open: impl AsyncFnMut() -> Vault) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for writer in 0..self.writers {
            let (crowd, vault) = (Arc::clone(self), open().await);
            tasks.spawn(async move { crowd.write(vault, writer * WRITTEN..(writer + 1) * WRITTEN).await });
        }
        for name in ["one", "the other"] {
            let (crowd, vault) = (Arc::clone(self), open().await);
            tasks.spawn(async move { crowd.refresh(vault, name).await });
        }
        let (crowd, vault) = (Arc::clone(self), open().await);
        tasks.spawn(async move { crowd.read_all(vault).await });
        tasks
    }

    /// Goes on for so long, and until `is_enough`, but no more than a minute longer; then everybody stops.
    pub async fn go_on(&self, tasks: JoinSet<()>, duration: Duration, is_enough: impl Fn(&Self) -> bool) {
        let mut tasks = tasks;
        let began = Instant::now();
        while !(began.elapsed() >= duration && is_enough(self)) {
            assert!(
                began.elapsed() < duration + PATIENCE,
                "nothing stood in another's way: {}",
                self.counts()
            );
            match tokio::time::timeout(Duration::from_millis(100), tasks.join_next()).await {
                Ok(Some(ended)) => ended.unwrap(),
                Ok(None) => unreachable!("they go on until told to stop"),
                Err(_) => {}
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    pub fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// What happened, in numbers.
    pub fn counts(&self) -> String {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        format!(
            "{} writes, {} refreshes among them, {} conflicts, {} reads, {} calls made again, {} rotations, {} that \
             failed, {} swaps that gave way",
            count(&self.writes),
            count(&self.refreshes),
            count(&self.conflicts),
            count(&self.reads),
            count(&self.failures),
            count(&self.rotations),
            count(&self.failed_rotations),
            count(&self.gave_way),
        )
    }

    /// Every tenant has what was acknowledged last, and after one more rotation all is under the active keys.
    pub async fn assert_nothing_is_lost(&self) {
        let vault = self.service.open().await;
        for (at, last) in self.acknowledged.iter().enumerate() {
            let number = self.read(&vault, at).await.number;
            assert_eq!(number, last.load(Ordering::SeqCst), "{:?}", self.tenants[at]);
        }
        self.service.expire_lease().await;
        // What a writer began before the last switch may have ended after the last sweep.
        let report = vault.rotation().run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Complete);
        self.service.assert_all_current(&vault).await;
        self.service.assert_keys_hold(&vault).await;
        vault.close().await;
    }

    fn tenant(&self, vault: &Vault, at: usize) -> (Organization, Tenant) {
        (vault.organization(self.tenants[at].organization), self.tenants[at])
    }

    fn acknowledge(&self, at: usize, number: u64) {
        self.acknowledged[at].store(number, Ordering::SeqCst);
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits a moment after what failed in a way that may be over; nothing else may fail.
    async fn bear(&self, error: &Error, began: Instant) {
        assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{error:?}");
        assert!(began.elapsed() < PATIENCE, "it fails for ever: {error:?}");
        self.failures.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10 + random_below(20))).await;
    }

    /// What is stored, which must be no older than what was acknowledged before it was read.
    async fn read(&self, vault: &Vault, at: usize) -> Stored {
        let least = self.acknowledged[at].load(Ordering::SeqCst);
        let (organization, tenant) = self.tenant(vault, at);
        let began = Instant::now();
        let stored = loop {
            match organization.get(tenant.integration).await {
                Ok(stored) => break stored.expect("it is never deleted"),
                Err(error) => self.bear(&error, began).await,
            }
        };
        let field = |name| stored.credential.field(name).map(|value| value.expose_secret().to_owned());
        let number = field("access_token").unwrap().parse().unwrap();
        assert!(number >= least, "{tenant:?} fell from {least} to {number}");
        self.reads.fetch_add(1, Ordering::Relaxed);
        Stored {
            number,
            refresh_token: field("refresh_token").map(|token| token.parse().unwrap()),
            claim: field("claim"),
            revision: stored.revision,
        }
    }

    async fn put(&self, vault: &Vault, at: usize, number: u64) {
        let (organization, tenant) = self.tenant(vault, at);
        let began = Instant::now();
        while let Err(error) = organization.put(tenant.integration, &numbered(number)).await {
            self.bear(&error, began).await;
        }
    }

    /// Replaces what was read; `None` if it was changed or re-encrypted since, or if that can't be told: its own answer
    /// may have been lost.
    async fn update(&self, vault: &Vault, at: usize, from: &Revision, to: &Credential) -> Option<Revision> {
        let (organization, tenant) = self.tenant(vault, at);
        let began = Instant::now();
        loop {
            match organization.update(tenant.integration, from, to).await {
                Ok(revision) => return Some(revision),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    self.conflicts.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Err(error) => self.bear(&error, began).await,
            }
        }
    }

    /// Puts, and updates by revision, ever higher numbers to tenants that nobody else writes.
    async fn write(&self, vault: Vault, tenants: std::ops::Range<usize>) {
        while self.goes_on() {
            for at in tenants.clone() {
                let next = self.acknowledged[at].load(Ordering::SeqCst) + 1;
                if next.is_multiple_of(3) {
                    self.write_by_revision(&vault, at, next).await;
                } else {
                    self.put(&vault, at, next).await;
                }
                self.acknowledge(at, next);
            }
        }
    }

    async fn write_by_revision(&self, vault: &Vault, at: usize, next: u64) {
        loop {
            let stored = self.read(vault, at).await;
            if stored.number == next {
                // It was written, and the answer was lost.
                return;
            }
            assert_eq!(stored.number, next - 1, "a write was lost");
            if self.update(vault, at, &stored.revision, &numbered(next)).await.is_some() {
                return;
            }
        }
    }

    /// Refreshes tokens, beside another that does so: who takes the refresh token out of the credential sends it.
    async fn refresh(&self, vault: Vault, name: &str) {
        let mut claims = 0;
        while self.goes_on() {
            let at = self.writers * WRITTEN + random_below(REFRESHED as u64) as usize;
            let stored = self.read(&vault, at).await;
            let Some(refresh_token) = stored.refresh_token else { continue };
            claims += 1;
            let claim = format!("{claims} of {name}");
            let claimed = numbered(stored.number).with_field("claim", claim.as_str());
            let mut revision = match self.update(&vault, at, &stored.revision, &claimed).await {
                Some(revision) => revision,
                None => {
                    let stored = self.read(&vault, at).await;
                    if stored.claim.as_ref() != Some(&claim) {
                        continue;
                    }
                    stored.revision
                }
            };
            let fresh = self.exchange(at, refresh_token).await;
            while self.update(&vault, at, &revision, &refreshable(fresh)).await.is_none() {
                let stored = self.read(&vault, at).await;
                if stored.claim.as_ref() != Some(&claim) {
                    // It was written, and the answer was lost; the other may have gone on from there.
                    assert!(stored.number >= fresh, "a claim was lost");
                    break;
                }
                // It was re-encrypted: nobody else may have written it.
                revision = stored.revision;
            }
            self.acknowledged[at].fetch_max(fresh, Ordering::SeqCst);
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.refreshes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The provider: gives the next token for a refresh token, once.
    async fn exchange(&self, at: usize, refresh_token: u64) -> u64 {
        let next = self.sent[at].fetch_max(refresh_token + 1, Ordering::SeqCst);
        assert!(refresh_token >= next, "{refresh_token} was sent twice");
        tokio::time::sleep(Duration::from_millis(random_below(4))).await;
        refresh_token + 1
    }

    /// Reads all, over and over.
    async fn read_all(&self, vault: Vault) {
        while self.goes_on() {
            for at in 0..self.tenants.len() {
                self.read(&vault, at).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Replaces every key, over and over, by turns with others that do so.
    pub async fn rotate(&self, vault: Vault, speed: impl Fn(Rotation) -> Rotation) {
        self.rotate_with_rests(vault, || Duration::from_millis(20), speed).await;
    }

    /// The same with rests between, each drawn from what `rest` gives to its double.
    pub async fn rotate_with_rests(
        &self,
        vault: Vault,
        rest: impl Fn() -> Duration,
        speed: impl Fn(Rotation) -> Rotation,
    ) {
        while self.goes_on() {
            let rotation = speed(vault.rotation().force().batch_size(PAGE_ROWS).unwrap());
            match rotation.run().await {
                Ok(report) if matches!(report.outcome, Outcome::HeldBy { .. }) => {}
                Ok(report) => {
                    assert_eq!(report.outcome, Outcome::Complete);
                    let uncut = self.failed_rotations.load(Ordering::Relaxed) == 0;
                    assert!(!uncut || report.new_keys.len() == 2, "{report:?}");
                    self.gave_way.fetch_add(report.lost_to_concurrent_writes, Ordering::Relaxed);
                    self.rotations.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let may_be_over = [ErrorKind::Store, ErrorKind::LeaseLost].contains(&error.kind());
                    assert!(may_be_over && error.is_retryable(), "{error:?}");
                    self.failed_rotations.fetch_add(1, Ordering::Relaxed);
                    self.service.expire_lease_when_possible().await;
                }
            }
            // The other's turn.
            tokio::time::sleep(rest().mul_f64(1.0 + random_below(1_000) as f64 / 1_000.0)).await;
        }
    }
}

/// A credential as it was read.
struct Stored {
    number: u64,
    refresh_token: Option<u64>,
    claim: Option<String>,
    revision: Revision,
}

fn numbered(number: u64) -> Credential {
    Credential::new(CredentialType::token()).with_field("access_token", number.to_string())
}

fn refreshable(number: u64) -> Credential {
    numbered(number).with_field("refresh_token", number.to_string())
}
