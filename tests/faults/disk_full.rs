//! A PostgreSQL server whose disk is full: of data, or of its write-ahead log, which it does not survive.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use credvault::{Credential, CredentialType, ErrorKind, ExposeSecret, Vault};

use crate::calls::assert_no_session_is_in_a_transaction;
use crate::common::TestDatabase;
use crate::common::postgres::{Server, SmallDisk};
use crate::common::service::{Service, Tenant, put, read};

/// A server's own files take about half of it.
const DISK_MEGABYTES: u32 = 100;

/// So much text a write that the disk soon has no room for another.
const LOAD_BYTES: usize = 400_000;

/// The number of the write before the disk is full.
const FIRST: u64 = 1;

/// The number and the load of a write.
fn loaded_with(number: u64) -> Credential {
    // Nothing that the server compresses: a sealed text is random.
    Credential::new(CredentialType::token())
        .with_field("access_token", number.to_string())
        .with_field("load", "x".repeat(LOAD_BYTES))
}

/// Takes what is left of a disk.
fn fill(folder: &Path) {
    let mut ballast = std::fs::File::create(folder.join("ballast")).unwrap();
    let chunk = vec![1; 64 << 10];
    while ballast.write_all(&chunk).is_ok() {}
}

/// Writes until the disk has no room; gives the last number that was acknowledged.
async fn write_until_full(vault: &Vault, tenant: Tenant) -> (u64, credvault::Error) {
    let organization = vault.organization(tenant.organization);
    for number in FIRST + 1..1_000 {
        if let Err(error) = organization.put(tenant.integration, &loaded_with(number)).await {
            return (number - 1, error);
        }
    }
    panic!("the disk never was full");
}

/// The number that a tenant has.
async fn number(vault: &Vault, tenant: Tenant) -> u64 {
    let stored = vault.organization(tenant.organization).get(tenant.integration).await.unwrap().unwrap();
    stored.credential.field("access_token").unwrap().expose_secret().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_writes_are_refused_reads_go_on_and_nothing_is_lost() {
    let server = Server::on_small_disk(SmallDisk::Data, DISK_MEGABYTES);
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let [loaded, other] = service.add_tenants(2).await[..] else { unreachable!() };
    put(&vault, other, "kept").await;
    let organization = vault.organization(loaded.organization);
    organization.put(loaded.integration, &loaded_with(FIRST)).await.unwrap();
    let folder = server.folder(SmallDisk::Data);
    // The log has the room that it takes, so that the server stands.
    service.database.execute("CHECKPOINT").await;
    fill(&folder);
    let (acknowledged, error) = write_until_full(&vault, loaded).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{error}");
    println!("after {acknowledged} writes: {error}");
    std::fs::remove_file(folder.join("ballast")).unwrap();
    let found = after_recovery(&vault, loaded).await;
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{acknowledged} became {found}");
    assert_eq!(read(&vault, other).await.unwrap(), "kept");
    put(&vault, other, "there is room again").await;
    assert_eq!(vault.rotation().force().run().await.unwrap().re_encrypted, 2);
    assert_no_session_is_in_a_transaction(&service).await;
    service.assert_all_current(&vault).await;
}

/// The number that a tenant has, as soon as the database answers.
async fn after_recovery(vault: &Vault, tenant: Tenant) -> u64 {
    for _ in 0..100 {
        if vault.organization(tenant.organization).get(tenant.integration).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    number(vault, tenant).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_log_has_no_room_fails_calls_in_time_and_comes_back_with_what_it_acknowledged() {
    let mut server = Server::on_small_disk(SmallDisk::WriteAheadLog, 80);
    let (service, vault) = Service::begin(TestDatabase::Postgres(server.database().await)).await;
    let tenant = service.add_tenants(1).await[0];
    vault.organization(tenant.organization).put(tenant.integration, &loaded_with(FIRST)).await.unwrap();
    let folder = server.folder(SmallDisk::WriteAheadLog);
    fill(&folder);
    let (acknowledged, error) = write_until_full(&vault, tenant).await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{error}");
    println!("after {acknowledged} writes: {error}");
    std::fs::remove_file(folder.join("ballast")).unwrap();
    tokio::task::block_in_place(|| server.restart());
    let found = after_recovery(&vault, tenant).await;
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{acknowledged} became {found}");
    put(&vault, tenant, "there is room again").await;
    assert_no_session_is_in_a_transaction(&service).await;
}
