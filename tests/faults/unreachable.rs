//! A server that isn't there, or doesn't answer.

use std::time::{Duration, Instant};

use credvault::{ErrorKind, Vault, migrate, pending_migrations};
use tokio::net::TcpListener;

use crate::calls::{assert_all_failed_within, assert_no_session_is_in_a_transaction, make_all};
use crate::common::long::short_or_long;
use crate::common::postgres::Server;
use crate::common::service::{Service, put, read};
use crate::common::slow_link::SlowLink;
use crate::common::{Dialect, TestDatabase};

/// The time after which a connection is given up, and what a busy machine adds.
const CONNECT_LIMIT: Duration = Duration::from_secs(5 + 3);

/// A call that nobody answers ends by itself, retryable, within the time for a connection.
async fn assert_fails_in_time<T>(what: &str, call: impl Future<Output = credvault::Result<T>>) {
    let began = Instant::now();
    let ended = tokio::time::timeout(3 * CONNECT_LIMIT, call).await;
    let Err(error) = ended.unwrap_or_else(|_| panic!("{what} never ends")) else {
        panic!("{what} succeeded")
    };
    assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{what}: {error:?}");
    assert!(began.elapsed() < CONNECT_LIMIT, "{what} took {:?}", began.elapsed());
}

/// Whatever connects to the server at `url` says in time that it can't.
async fn assert_nothing_opens(url: &str) {
    let builder = || Vault::builder().url(url).master_key("env:CREDVAULT_NO_KEY").unwrap();
    tokio::join!(
        assert_fails_in_time("open", builder().build()),
        assert_fails_in_time("create", builder().create_if_missing().build()),
        assert_fails_in_time("migrate", migrate(url)),
        assert_fails_in_time("pending migrations", pending_migrations(url)),
        assert_fails_in_time("check the master keys", async {
            builder().check_master_keys().await.and_then(|check| check.vault)
        }),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nothing_listens_is_said_within_seconds() {
    // Port 1 is for TCPMUX, which nobody runs.
    assert_nothing_opens("postgres://postgres@127.0.0.1:1/app?sslmode=disable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_server_accepts_and_never_answers_is_said_within_seconds() {
    // The system accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://postgres@{}/app?sslmode=disable", silent.local_addr().unwrap());
    assert_nothing_opens(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_vault_says_within_seconds_that_its_server_is_gone_and_goes_on_when_it_is_back() {
    let mut server = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    server.kill();
    assert_all_failed_within(CONNECT_LIMIT, &make_all(&vault, tenant).await);
    server.start_again();
    put(&vault, tenant, "after").await;
    assert_eq!(read(&vault, tenant).await.unwrap(), "after");
    assert_no_session_is_in_a_transaction(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_to_a_server_that_stops_answering_ends_within_the_limit() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let link = SlowLink::to(database, 0..=0).await;
    // The limit of 30 seconds is the default's.
    let limit = short_or_long(Some(Duration::from_secs(1)), None);
    let builder = Vault::builder().url(link.url());
    let builder = limit.into_iter().fold(builder, |builder, limit| builder.call_limit(limit));
    let vault = service.open_by(builder).await;
    read(&vault, tenant).await;
    let limit = limit.unwrap_or(Duration::from_secs(30)) + Duration::from_secs(2);
    for _ in 0..short_or_long(1, 2) {
        link.stand_still();
        assert_all_failed_within(limit, &make_all(&vault, tenant).await);
        // Those that the calls before left without an answer don't keep the next ones for longer.
        assert_all_failed_within(limit, &make_all(&vault, tenant).await);
        link.hurry();
        // What was sent may be carried out now; the pool has its connections back.
        assert_no_session_is_in_a_transaction(&service).await;
        let began = Instant::now();
        let organization = vault.organization(tenant.organization);
        organization.ensure_integration("github").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    }
    drop(vault);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_whose_master_keys_are_locked_is_not_waited_for_beyond_the_limit() {
    let (service, _vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    let mut other = service.database.connect().await;
    other.begin().await;
    other.execute("LOCK TABLE vault_master_keys IN ACCESS EXCLUSIVE MODE").await;
    let builder = || service.builder(&["first"]).call_limit(Duration::from_secs(1));
    assert_fails_in_time("open", builder().build()).await;
    other.execute("ROLLBACK").await;
    builder().build().await.unwrap();
}
