//! Writers, refreshers and readers beside two rotators for a while: no write is lost, no read fails, none is old.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use credvault::{
    Credential, CredentialType, ErrorKind, ExposeSecret, Organization, Outcome, Revision, Rotation, Vault,
};
use tokio::task::JoinSet;

use crate::common::service::{Service, Tenant, random_below};
use crate::common::{self, TestDatabase, on_both_stores};

/// In seconds, how long it goes on: longer than it does anyway.
const SECONDS: &str = "CREDVAULT_ENDURANCE_SECONDS";
const SHORTEST: u64 = 10;

/// How much longer at most, on a slow machine, until there was a test.
const PATIENCE: Duration = Duration::from_secs(60);

const WRITERS: usize = 3;
/// Tenants of each writer.
const WRITTEN: usize = 16;
/// Tenants whose tokens two refreshers refresh.
const REFRESHED: usize = 8;
/// Rows on a page: several pages a rotation, each among writes.
const PAGE_ROWS: u32 = 9;

/// What everybody works on.
struct Scene {
    service: Service,
    tenants: Vec<Tenant>,
    /// The number of the last token of each tenant whose write was acknowledged.
    acknowledged: Vec<AtomicU64>,
    /// The refresh tokens that the provider has got, by tenant and number.
    sent: Mutex<HashSet<(usize, u64)>>,
    is_over: AtomicBool,
    writes: AtomicU64,
    conflicts: AtomicU64,
    refreshes: AtomicU64,
    reads: AtomicU64,
    /// Of each of the rotators.
    rotations: [AtomicU64; 2],
    gave_way: AtomicU64,
}

impl Scene {
    async fn begin(database: TestDatabase) -> Arc<Self> {
        let (service, vault) = Service::begin(database).await;
        let tenants = service.add_tenants(WRITERS * WRITTEN + REFRESHED).await;
        for (at, tenant) in tenants.iter().enumerate() {
            let credential = if at < WRITERS * WRITTEN { numbered(0) } else { refreshable(0) };
            vault.organization(tenant.organization).put(tenant.integration, &credential).await.unwrap();
        }
        // One of the scopes is an organization's own.
        vault.keys().create(tenants[0].organization).await.unwrap();
        let count = || AtomicU64::new(0);
        Arc::new(Self {
            service,
            acknowledged: tenants.iter().map(|_| count()).collect(),
            tenants,
            sent: Mutex::default(),
            is_over: AtomicBool::new(false),
            writes: count(),
            conflicts: count(),
            refreshes: count(),
            reads: count(),
            rotations: [count(), count()],
            gave_way: count(),
        })
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn tenant(&self, vault: &Vault, at: usize) -> (Organization, Tenant) {
        (vault.organization(self.tenants[at].organization), self.tenants[at])
    }

    fn acknowledge(&self, at: usize, number: u64) {
        self.acknowledged[at].store(number, Ordering::SeqCst);
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// What is stored, which must be no older than what was acknowledged before it was read.
    async fn read(&self, vault: &Vault, at: usize) -> Stored {
        let least = self.acknowledged[at].load(Ordering::SeqCst);
        let (organization, tenant) = self.tenant(vault, at);
        let stored = organization.get(tenant.integration).await.unwrap().expect("it is never deleted");
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

    /// Replaces what was read; `None` if it was changed or re-encrypted since.
    async fn update(&self, vault: &Vault, at: usize, from: &Revision, to: &Credential) -> Option<Revision> {
        let (organization, tenant) = self.tenant(vault, at);
        match organization.update(tenant.integration, from, to).await {
            Ok(revision) => Some(revision),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Puts, and updates by revision, ever higher numbers to tenants that nobody else writes.
    async fn write(&self, vault: Vault, tenants: std::ops::Range<usize>) {
        while self.goes_on() {
            for at in tenants.clone() {
                let last = self.acknowledged[at].load(Ordering::SeqCst);
                if last % 3 == 2 {
                    let stored = self.read(&vault, at).await;
                    assert_eq!(stored.number, last, "a write was lost");
                    if self.update(&vault, at, &stored.revision, &numbered(last + 1)).await.is_none() {
                        continue;
                    }
                } else {
                    let (organization, tenant) = self.tenant(&vault, at);
                    organization.put(tenant.integration, &numbered(last + 1)).await.unwrap();
                }
                self.acknowledge(at, last + 1);
            }
        }
    }

    /// Refreshes tokens, beside another that does so: who takes the refresh token out of the credential sends it.
    async fn refresh(&self, vault: Vault, name: &str) {
        let mut claims = 0;
        while self.goes_on() {
            let at = WRITERS * WRITTEN + random_below(REFRESHED as u64) as usize;
            let stored = self.read(&vault, at).await;
            let Some(refresh_token) = stored.refresh_token else { continue };
            claims += 1;
            let claim = format!("{claims} of {name}");
            let claimed = numbered(stored.number).with_field("claim", claim.as_str());
            let Some(mut revision) = self.update(&vault, at, &stored.revision, &claimed).await else {
                continue;
            };
            let fresh = self.exchange(at, refresh_token).await;
            while self.update(&vault, at, &revision, &refreshable(fresh)).await.is_none() {
                // It was re-encrypted: nobody else may have written it.
                let stored = self.read(&vault, at).await;
                assert_eq!(stored.claim.as_ref(), Some(&claim), "a claim was lost");
                revision = stored.revision;
            }
            self.acknowledge(at, fresh);
            self.refreshes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The provider: gives the next token for a refresh token, once.
    async fn exchange(&self, at: usize, refresh_token: u64) -> u64 {
        assert!(self.sent.lock().unwrap().insert((at, refresh_token)), "{refresh_token} was sent twice");
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

    /// Whether all has happened beside which nothing may be lost.
    fn is_a_test(&self) -> bool {
        let needed = [&self.refreshes, &self.conflicts, &self.gave_way];
        needed.into_iter().chain(&self.rotations).all(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Replaces every key, over and over, by turns with another that does so.
    async fn rotate(&self, vault: Vault, which: usize, speed: impl Fn(Rotation) -> Rotation) {
        while self.goes_on() {
            let rotation = speed(vault.rotation().force().batch_size(PAGE_ROWS).unwrap());
            let report = rotation.run().await.unwrap();
            if !matches!(report.outcome, Outcome::HeldBy { .. }) {
                assert_eq!((&report.outcome, report.new_keys.len()), (&Outcome::Complete, 2));
                self.gave_way.fetch_add(report.lost_to_concurrent_writes, Ordering::Relaxed);
                self.rotations[which].fetch_add(1, Ordering::Relaxed);
            }
            // The other's turn.
            tokio::time::sleep(Duration::from_millis(20 + random_below(20))).await;
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

fn duration() -> Duration {
    let asked = std::env::var(SECONDS).map_or(SHORTEST, |seconds| seconds.parse().expect(SECONDS));
    Duration::from_secs(asked.max(SHORTEST))
}

async fn no_write_is_lost_and_no_read_fails_beside_two_rotators(database: TestDatabase) {
    let scene = Scene::begin(database).await;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (scene, vault) = (Arc::clone(&scene), scene.service.open().await);
        tasks.spawn(async move { scene.write(vault, writer * WRITTEN..(writer + 1) * WRITTEN).await });
    }
    for name in ["one", "the other"] {
        let (scene, vault) = (Arc::clone(&scene), scene.service.open().await);
        tasks.spawn(async move { scene.refresh(vault, name).await });
    }
    let (reading, vault) = (Arc::clone(&scene), scene.service.open().await);
    tasks.spawn(async move { reading.read_all(vault).await });
    let (yielding, vault) = (Arc::clone(&scene), scene.service.open().await);
    tasks.spawn(async move { yielding.rotate(vault, 0, |rotation| rotation).await });
    let (hurrying, vault) = (Arc::clone(&scene), scene.service.open().await);
    tasks.spawn(async move { hurrying.rotate(vault, 1, |rotation| rotation.workers(2).unwrap()).await });

    let began = Instant::now();
    while !(began.elapsed() >= duration() && scene.is_a_test()) {
        assert!(began.elapsed() < duration() + PATIENCE, "nothing stood in another's way");
        match tokio::time::timeout(Duration::from_millis(100), tasks.join_next()).await {
            Ok(Some(ended)) => ended.unwrap(),
            Ok(None) => unreachable!("they go on until told to stop"),
            Err(_) => {}
        }
    }
    scene.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{} writes, {} refreshes among them, {} conflicts, {} reads, {} rotations, {} swaps that gave way",
        count(&scene.writes),
        count(&scene.refreshes),
        count(&scene.conflicts),
        count(&scene.reads),
        scene.rotations.iter().map(count).sum::<u64>(),
        count(&scene.gave_way),
    );

    let vault = scene.service.open().await;
    for (at, last) in scene.acknowledged.iter().enumerate() {
        assert_eq!(scene.read(&vault, at).await.number, last.load(Ordering::SeqCst), "a write was lost");
    }
    // What a writer began before the last switch may have ended after the last sweep.
    vault.rotation().run().await.unwrap();
    scene.service.assert_all_current(&vault).await;
    scene.service.assert_keys_hold(&vault).await;
}

on_both_stores!(no_write_is_lost_and_no_read_fails_beside_two_rotators);
