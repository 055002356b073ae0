//! Calls that are dropped at any await leave no connection in a transaction and nothing half done.

mod common;

use std::collections::{HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::long::short_or_long;
use common::service::{Service, Tenant, assert_sound, first_token, put, random_below, read, token};
use common::slow_link::SlowLink;
use common::{Dialect, TestDatabase, on_both_stores};
use credvault::{ErrorKind, OrganizationId, Vault};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{PgPool, SqlitePool};

/// The calls, by turns.
const CALLS: u64 = 10;

/// The caller's own pool, for `put_in`.
enum CallersPool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A vault with tenants, and all that their credentials may be.
struct Scene {
    service: Service,
    vault: Vault,
    callers: CallersPool,
    tenants: Vec<Tenant>,
    /// Where each integration may be: its organization, and the one that it is transferred to and fro.
    others: Vec<OrganizationId>,
    may_hold: HashMap<usize, HashSet<Option<String>>>,
    writes: u64,
}

impl Scene {
    /// A scene on the database, reached by `url`.
    async fn new(service: Service, vault: Vault, url: &str) -> Self {
        let callers = match service.database.dialect() {
            Dialect::Postgres => {
                let options: PgConnectOptions = url.parse().unwrap();
                let options = options.application_name("the caller");
                CallersPool::Postgres(
                    PgPoolOptions::new().max_connections(4).connect_with(options).await.unwrap(),
                )
            }
            Dialect::Sqlite => {
                let options: SqliteConnectOptions = url.parse().unwrap();
                let options = options.busy_timeout(Duration::from_secs(10));
                CallersPool::Sqlite(SqlitePool::connect_with(options).await.unwrap())
            }
        };
        let tenants = service.add_tenants_with_tokens(&vault, 12).await;
        let others = tenants.iter().map(|_| uuid::Uuid::new_v4().into()).collect();
        let may_hold =
            tenants.iter().enumerate().map(|(at, tenant)| (at, HashSet::from([Some(first_token(*tenant))])));
        let may_hold = may_hold.collect();
        Self { service, vault, callers, tenants, others, may_hold, writes: 0 }
    }

    /// Who has the integration now: asked on a connection of the test's own.
    async fn holder(&self, at: usize) -> Tenant {
        let integration = self.tenants[at].integration;
        let sql = format!("SELECT organization_id FROM integrations WHERE id = '{integration}'");
        let organization = self.service.database.fetch_one_text(&sql).await.unwrap().parse().unwrap();
        Tenant { organization, integration }
    }

    /// One call of the kind `which`, and what `drop_early` makes of it; whether it was dropped.
    async fn call(&mut self, which: u64, drop_early: &impl DropEarly) -> bool {
        self.writes += 1;
        let text = format!("write {}", self.writes);
        let at = random_below(self.tenants.len() as u64) as usize;
        let tenant = self.holder(at).await;
        let vault = self.vault.clone();
        let organization = vault.organization(tenant.organization);
        let (new, integration) = (token(&text), tenant.integration);
        let may_hold = self.may_hold.get_mut(&at).unwrap();
        match which % CALLS {
            0 => drop_early.run(organization.get(integration)).await,
            1 => {
                may_hold.insert(Some(text));
                drop_early.run(organization.put(integration, &new)).await
            }
            2 => {
                may_hold.insert(Some(text));
                drop_early
                    .run(async {
                        let Some(stored) = organization.get(integration).await? else { return Ok(()) };
                        organization.update(integration, &stored.revision, &new).await.map(drop)
                    })
                    .await
            }
            3 => {
                may_hold.insert(None);
                drop_early.run(organization.delete(integration)).await
            }
            4 | 5 => {
                let to = if tenant.organization == self.tenants[at].organization {
                    self.others[at]
                } else {
                    self.tenants[at].organization
                };
                drop_early.run(vault.transfer(integration, tenant.organization, to)).await
            }
            6 => {
                may_hold.insert(Some(text));
                match &self.callers {
                    CallersPool::Postgres(pool) => {
                        drop_early
                            .run(async {
                                let mut transaction = pool.begin().await.unwrap();
                                organization.put_in(&mut *transaction, integration, &new).await?;
                                transaction.commit().await.unwrap();
                                Ok(())
                            })
                            .await
                    }
                    CallersPool::Sqlite(pool) => {
                        drop_early
                            .run(async {
                                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                                organization.put_in(&mut *transaction, integration, &new).await?;
                                transaction.commit().await.unwrap();
                                Ok(())
                            })
                            .await
                    }
                }
            }
            7 => drop_early.run(vault.keys().create(tenant.organization)).await,
            _ => {
                self.service.expire_lease().await;
                drop_early.run(vault.rotation().force().batch_size(3).unwrap().run()).await
            }
        }
    }

    /// After whatever was dropped: normal calls succeed at once, each credential is one that was written, whole.
    async fn assert_sound(mut self) {
        for at in 0..self.tenants.len() {
            let tenant = self.holder(at).await;
            let held = read(&self.vault, tenant).await;
            assert!(self.may_hold[&at].contains(&held), "{tenant:?} holds {held:?}, which nobody wrote");
        }
        // Integration and seal agree.
        assert_sound(&self.vault).await;
        let began = Instant::now();
        for number in 0..100 {
            let tenant = self.holder(number % self.tenants.len()).await;
            let text = format!("normal call {number}");
            put(&self.vault, tenant, &text).await;
            assert_eq!(read(&self.vault, tenant).await.unwrap(), text);
        }
        println!("100 normal calls: {:?}", began.elapsed());
        self.service.expire_lease().await;
        self.vault.rotation().force().run().await.unwrap();
        self.vault = self.service.open().await;
        self.service.assert_all_current(&self.vault).await;
    }

    /// Nobody is left in a transaction.
    async fn assert_no_transaction_is_left(&self) {
        match &self.service.database {
            TestDatabase::Postgres(database) => {
                let left = format!(
                    "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = '{}' AND application_name = 'credvault' AND state <> 'idle'",
                    database.name()
                );
                let deadline = Instant::now() + Duration::from_secs(5);
                while self.service.count(&left).await > 0 {
                    assert!(Instant::now() < deadline, "a connection was left in a transaction");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            TestDatabase::Sqlite(_) => {
                // What runs to its end in the background has a moment to do so; a lock that stays is an error.
                let write = "PRAGMA busy_timeout = 5000; UPDATE vault_identity SET phase = phase";
                self.service.database.try_execute(write).await.expect("a lock was left");
                let check = self.service.database.fetch_one_text("PRAGMA integrity_check").await;
                assert_eq!(check.as_deref(), Some("ok"));
            }
        }
    }
}

/// A way to drop a call before its end.
trait DropEarly {
    /// Runs the call until it is dropped, and says whether it was. What it gives must be no error but one of those
    /// that calls beside each other give.
    async fn run<T>(&self, call: impl Future<Output = credvault::Result<T>>) -> bool;
}

fn assert_expected<T>(result: credvault::Result<T>) {
    if let Err(error) = result {
        // What was dropped may still be done, after its caller looked; and may hold the lease.
        let expected = [ErrorKind::Conflict, ErrorKind::NotFound, ErrorKind::LeaseLost];
        assert!(expected.contains(&error.kind()), "{error:?}");
    }
}

struct AfterPolls(u64);

impl DropEarly for AfterPolls {
    async fn run<T>(&self, call: impl Future<Output = credvault::Result<T>>) -> bool {
        let mut call = pin!(call);
        let mut polls = 0;
        let ended = poll_fn(|context| {
            if polls == self.0 {
                return Poll::Ready(None);
            }
            polls += 1;
            call.as_mut().poll(context).map(Some)
        })
        .await;
        ended.map(assert_expected).is_none()
    }
}

struct After(Duration);

impl DropEarly for After {
    async fn run<T>(&self, call: impl Future<Output = credvault::Result<T>>) -> bool {
        tokio::time::timeout(self.0, call).await.map(assert_expected).is_err()
    }
}

async fn calls_dropped_at_any_poll_leave_nothing_half_done(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let url = service.database.url().to_owned();
    let mut scene = Scene::new(service, vault, &url).await;
    let mut dropped = 0;
    for polls in 0..60 {
        for which in 0..CALLS {
            dropped += u64::from(scene.call(which, &AfterPolls(polls)).await);
        }
        scene.assert_no_transaction_is_left().await;
    }
    println!("dropped {dropped} of {}", 60 * CALLS);
    assert!(dropped > 100, "only {dropped} were dropped");
    scene.assert_sound().await;
}

on_both_stores!(calls_dropped_at_any_poll_leave_nothing_half_done);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_dropped_on_a_slow_connection_leave_nothing_half_done() {
    let (service, _) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    // One way; there and back it is 40 ms.
    let link = SlowLink::to(database, 20..=20).await;
    let vault = Vault::builder().url(link.url()).master_key(&service.key("first")).unwrap();
    let vault = vault.build().await.unwrap();
    let mut scene = Scene::new(service, vault, link.url()).await;
    let (began, mut calls, mut dropped) = (Instant::now(), 0, 0);
    let most = short_or_long(120, 1_000);
    while calls < most {
        let after = After(Duration::from_micros(random_below(150_000)));
        dropped += u64::from(scene.call(calls, &after).await);
        calls += 1;
    }
    println!("dropped {dropped} of {calls} in {:?}", began.elapsed());
    assert!(dropped > calls / 3, "only {dropped} were dropped");
    scene.assert_no_transaction_is_left().await;
    // The rest need not be slow: the same pool, the same connections.
    link.hurry();
    scene.assert_sound().await;
}
