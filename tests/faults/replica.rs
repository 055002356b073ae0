//! A hot standby that lags: what has not reached it yet is absent, and what would write is refused.

use std::time::{Duration, Instant};

use credvault::{ExposeSecret, Vault};

use crate::common::TestDatabase;
use crate::common::postgres::Server;
use crate::common::service::{Service, first_token, put, read};
use crate::role_settings::assert_writes_are_refused_as_read_only;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_reads_what_it_has_and_says_that_it_is_read_only() {
    let primary = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(primary.database().await)).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let tenants = service.add_tenants_with_tokens(&vault, 2).await;
    let standby = tokio::task::block_in_place(|| primary.standby("1h"));
    // From here on the replica hears of everything and shows none of it.
    put(&vault, tenants[0], "newer").await;
    let newcomer = service.add_tenants_with_tokens(&vault, 1).await[0];
    vault.rotation().force().run().await.unwrap();

    let replica = service.open_by(Vault::builder().url(standby.url(database))).await;
    assert_eq!(read(&replica, tenants[0]).await.unwrap(), first_token(tenants[0]));
    assert_eq!(read(&replica, newcomer).await, None);
    assert_eq!(replica.status().await.unwrap().stale_rows, 0);
    assert!(replica.verify().run().await.unwrap().findings.is_empty());
    assert_writes_are_refused_as_read_only(&replica, tenants[1]).await;
    assert_eq!(read(&vault, tenants[0]).await.unwrap(), "newer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_follows_writes_and_switches_of_keys_without_a_restart() {
    let primary = Server::start();
    let (service, vault) = Service::begin(TestDatabase::Postgres(primary.database().await)).await;
    let TestDatabase::Postgres(database) = &service.database else { unreachable!() };
    let tenant = service.add_tenants_with_tokens(&vault, 1).await[0];
    let standby = tokio::task::block_in_place(|| primary.standby("0"));
    let replica = service.open_by(Vault::builder().url(standby.url(database))).await;
    for round in 0..5 {
        let text = format!("round {round}");
        put(&vault, tenant, &text).await;
        vault.rotation().force().run().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Each read in between is of some moment, whole.
        loop {
            let stored = replica.organization(tenant.organization).get(tenant.integration).await.unwrap();
            let credential = stored.unwrap().credential;
            if credential.field("access_token").unwrap().expose_secret() == text {
                break;
            }
            assert!(Instant::now() < deadline, "it never followed");
        }
    }
}
