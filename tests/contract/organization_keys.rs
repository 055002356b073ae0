//! An organization's own data key, and writers that haven't heard of a switch.

use credvault::{DataKeyId, IntegrationId, KeyState, Organization, Vault};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read, read_token, token};

on_both_stores!(
    all_that_an_organization_writes_is_under_its_own_key_whatever_a_stale_process_believes,
    what_an_organization_wrote_before_follows_with_the_next_rotation,
    another_own_key_takes_the_place_of_the_one_before,
    a_stale_process_writes_under_the_new_key_after_a_rotation,
);

struct TwoProcesses {
    first: Vault,
    second: Vault,
    keys: KeyFiles,
}

/// Two processes with one database, each with a warm keyring: it has sealed and opened.
async fn begin(database: &TestDatabase) -> TwoProcesses {
    let keys = KeyFiles::new();
    let first = database.create_vault(&keys.generate("master.key")).await;
    let second = database.open_vault(&keys.spec("master.key")).await;
    for vault in [&first, &second] {
        let (organization, integration) = database.add_tenant().await;
        let organization = vault.organization(organization);
        organization.put(integration, &token("warm")).await.unwrap();
        assert_eq!(read_token(&organization, integration).await, "warm");
    }
    TwoProcesses { first, second, keys }
}

impl TwoProcesses {
    /// An organization as both see it.
    async fn tenant(&self, database: &TestDatabase) -> (Organization, Organization, IntegrationId) {
        let (id, integration) = database.add_tenant().await;
        (self.first.organization(id), self.second.organization(id), integration)
    }
}

async fn key_of(organization: &Organization, integration: IntegrationId) -> DataKeyId {
    organization.describe(integration).await.unwrap().unwrap().key_id.unwrap()
}

async fn all_that_an_organization_writes_is_under_its_own_key_whatever_a_stale_process_believes(
    database: TestDatabase,
) {
    let processes = begin(&database).await;
    let (known, stale, integration) = processes.tenant(&database).await;
    let (other, _, theirs) = processes.tenant(&database).await;
    let own = processes.first.keys().create(known.id()).await.unwrap();

    stale.put(integration, &token("from the stale process")).await.unwrap();
    assert_eq!(key_of(&known, integration).await, own);
    known.put(integration, &token("from the process that made it")).await.unwrap();
    assert_eq!(key_of(&known, integration).await, own);
    assert_eq!(read_token(&stale, integration).await, "from the process that made it");

    let third = database.open_vault(&processes.keys.spec("master.key")).await.organization(known.id());
    let (_, revision) = read(&third, integration).await.unwrap().unwrap();
    third.update(integration, &revision, &token("from a new process")).await.unwrap();
    assert_eq!(key_of(&known, integration).await, own);

    other.put(theirs, &token("another's")).await.unwrap();
    let keys = processes.first.keys().list().await.unwrap();
    let shared = keys.iter().find(|key| key.state == KeyState::Active && key.organization_id.is_none());
    assert_eq!(key_of(&other, theirs).await, shared.unwrap().id, "another organization has not got it");
    assert!(processes.first.verify().run().await.unwrap().findings.is_empty());
}

async fn what_an_organization_wrote_before_follows_with_the_next_rotation(database: TestDatabase) {
    let processes = begin(&database).await;
    let (organization, stale, integration) = processes.tenant(&database).await;
    organization.put(integration, &token("before")).await.unwrap();
    let shared = key_of(&organization, integration).await;
    let own = processes.first.keys().create(organization.id()).await.unwrap();
    assert_eq!(key_of(&organization, integration).await, shared);
    assert_eq!(processes.first.exact_status().await.unwrap().stale_rows, 1);

    let report = processes.second.rotation().run().await.unwrap();
    assert_eq!((report.re_encrypted, report.new_keys.len(), report.already_current), (1, 0, 2));
    assert_eq!(key_of(&organization, integration).await, own);
    for process in [&organization, &stale] {
        assert_eq!(read_token(process, integration).await, "before");
    }
    let others = database
        .fetch_one_text(&format!(
            "SELECT count(*) FROM integration_credentials WHERE encryption_key_id = '{shared}'"
        ))
        .await;
    assert_eq!(others.as_deref(), Some("2"), "the rows of others stay where they were");
}

async fn another_own_key_takes_the_place_of_the_one_before(database: TestDatabase) {
    let processes = begin(&database).await;
    let (organization, stale, integration) = processes.tenant(&database).await;
    let first = processes.first.keys().create(organization.id()).await.unwrap();
    stale.put(integration, &token("first")).await.unwrap();
    let second = processes.first.keys().create(organization.id()).await.unwrap();
    assert_ne!(first, second);
    stale.put(integration, &token("second")).await.unwrap();
    assert_eq!(key_of(&organization, integration).await, second);
    let own: Vec<_> = processes
        .first
        .keys()
        .list()
        .await
        .unwrap()
        .into_iter()
        .filter(|key| key.organization_id == Some(organization.id()))
        .map(|key| (key.id, key.state))
        .collect();
    assert_eq!(own, [(first, KeyState::Deactivated), (second, KeyState::Active)]);
}

async fn a_stale_process_writes_under_the_new_key_after_a_rotation(database: TestDatabase) {
    let processes = begin(&database).await;
    let (organization, stale, integration) = processes.tenant(&database).await;
    stale.put(integration, &token("before")).await.unwrap();
    let report = processes.first.rotation().force().run().await.unwrap();
    let new = report.new_keys[0];
    stale.put(integration, &token("put")).await.unwrap();
    assert_eq!(key_of(&organization, integration).await, new);
    assert_eq!(read_token(&organization, integration).await, "put");

    let report = processes.first.rotation().force().run().await.unwrap();
    let (_, revision) = read(&stale, integration).await.unwrap().unwrap();
    stale.update(integration, &revision, &token("update")).await.unwrap();
    assert_eq!(key_of(&organization, integration).await, report.new_keys[0]);

    let report = processes.first.rotation().force().run().await.unwrap();
    let mut connection = database.connect().await;
    connection.begin().await;
    stale.put_in(connection.lend(), integration, &token("put_in")).await.unwrap();
    connection.execute("COMMIT").await;
    assert_eq!(key_of(&organization, integration).await, report.new_keys[0]);
    assert_eq!(read_token(&organization, integration).await, "put_in");
}
