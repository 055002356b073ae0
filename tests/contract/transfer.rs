//! Transfer of an integration to another organization.

use credvault::{ErrorKind, Finding, IntegrationId, KeyState, Organization, Problem, Vault};
use uuid::Uuid;

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read_token, token};

on_both_stores!(
    transfer_moves_the_integration_and_its_credential,
    a_transfer_that_was_made_already_changes_nothing,
    transfer_seals_under_the_active_key_of_the_new_organization,
    a_connector_that_the_new_organization_has_is_in_the_way,
    what_neither_organization_has_is_not_found,
    an_integration_moved_by_hand_stays_sealed_until_it_is_transferred,
    a_revision_of_before_a_transfer_conflicts,
);

struct Two {
    vault: Vault,
    from: Organization,
    to: Organization,
    integration: IntegrationId,
    _keys: KeyFiles,
}

async fn begin(database: &TestDatabase) -> Two {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (from, integration) = database.add_tenant().await;
    let (from, to) = (vault.organization(from), vault.organization(database.add_organization().await));
    from.put(integration, &token("moves")).await.unwrap();
    Two { vault, from, to, integration, _keys: keys }
}

impl Two {
    async fn transfer(&self) -> credvault::Result<()> {
        self.vault.transfer(self.integration, self.from.id(), self.to.id()).await
    }

    async fn assert_moved(&self) {
        assert!(self.from.get(self.integration).await.unwrap().is_none());
        assert!(self.from.list().await.unwrap().is_empty());
        assert_eq!(read_token(&self.to, self.integration).await, "moves");
        assert_eq!(self.to.list().await.unwrap().len(), 1);
        assert!(self.vault.verify().run().await.unwrap().findings.is_empty());
    }
}

async fn transfer_moves_the_integration_and_its_credential(database: TestDatabase) {
    let two = begin(&database).await;
    let before = two.from.describe(two.integration).await.unwrap().unwrap();
    two.transfer().await.unwrap();
    two.assert_moved().await;
    let after = two.to.describe(two.integration).await.unwrap().unwrap();
    assert_eq!((after.organization_id, after.updated_at), (two.to.id(), before.updated_at));
    two.to.put(two.integration, &token("theirs now")).await.unwrap();
    assert_eq!(two.from.put(two.integration, &token("no")).await.unwrap_err().kind(), ErrorKind::NotFound);
    // And back again.
    two.vault.transfer(two.integration, two.to.id(), two.from.id()).await.unwrap();
    assert_eq!(read_token(&two.from, two.integration).await, "theirs now");
}

async fn a_transfer_that_was_made_already_changes_nothing(database: TestDatabase) {
    let two = begin(&database).await;
    two.transfer().await.unwrap();
    let before = database.dump().await;
    two.transfer().await.unwrap();
    two.vault.transfer(two.integration, two.to.id(), two.to.id()).await.unwrap();
    assert_eq!(database.dump().await, before);
    two.assert_moved().await;
}

async fn transfer_seals_under_the_active_key_of_the_new_organization(database: TestDatabase) {
    let two = begin(&database).await;
    let shared = two.from.describe(two.integration).await.unwrap().unwrap().key_id.unwrap();
    let own = two.vault.keys().create(two.to.id()).await.unwrap();
    two.transfer().await.unwrap();
    two.assert_moved().await;
    assert_eq!(two.to.describe(two.integration).await.unwrap().unwrap().key_id, Some(own));
    two.vault.transfer(two.integration, two.to.id(), two.from.id()).await.unwrap();
    assert_eq!(two.from.describe(two.integration).await.unwrap().unwrap().key_id, Some(shared));
    let active = two.vault.keys().list().await.unwrap();
    assert_eq!(active.iter().filter(|key| key.state == KeyState::Active).count(), 2);
}

async fn a_connector_that_the_new_organization_has_is_in_the_way(database: TestDatabase) {
    let two = begin(&database).await;
    two.to.ensure_integration("github").await.unwrap();
    let before = database.dump().await;
    let error = two.transfer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(database.dump().await, before);
    assert_eq!(read_token(&two.from, two.integration).await, "moves");
}

async fn what_neither_organization_has_is_not_found(database: TestDatabase) {
    let two = begin(&database).await;
    let (theirs, nobody) = (database.add_organization().await, Uuid::new_v4());
    let empty = two.from.ensure_integration("without a credential").await.unwrap();
    let before = database.dump().await;
    for (integration, from, to) in [
        (two.integration, two.to.id(), theirs),
        (two.integration, nobody.into(), two.to.id()),
        (Uuid::new_v4().into(), two.from.id(), two.to.id()),
        (empty, two.from.id(), two.to.id()),
    ] {
        let error = two.vault.transfer(integration, from, to).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert_eq!(database.dump().await, before);
}

async fn an_integration_moved_by_hand_stays_sealed_until_it_is_transferred(database: TestDatabase) {
    let two = begin(&database).await;
    database.move_by_hand(two.integration, &two.to).await;
    let error = two.to.get(two.integration).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
    assert!(error.to_string().contains(&two.integration.to_string()), "{error}");
    assert_eq!(read_token(&two.from, two.integration).await, "moves", "it is sealed to the old one");
    assert!(two.from.describe(two.integration).await.unwrap().is_none());
    let findings = two.vault.verify().run().await.unwrap().findings;
    assert!(
        matches!(&findings[..], [Finding::Row { integration, problem: Problem::DoesNotOpen(ErrorKind::Tampered, _) }]
            if *integration == two.integration),
        "{findings:?}"
    );
    two.transfer().await.unwrap();
    two.assert_moved().await;
}

async fn a_revision_of_before_a_transfer_conflicts(database: TestDatabase) {
    let two = begin(&database).await;
    let revision = two.from.get(two.integration).await.unwrap().unwrap().revision;
    two.transfer().await.unwrap();
    let error = two.to.update(two.integration, &revision, &token("lost")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    two.assert_moved().await;
}

/// On PostgreSQL; SQLite has one writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_waited_for_a_transfer_deletes_nothing_of_the_new_organization() {
    let database = TestDatabase::create(common::Dialect::Postgres).await;
    let two = begin(&database).await;
    let mut transfer = database.connect().await;
    transfer.begin().await;
    let (to, integration) = (two.to.id(), two.integration);
    transfer
        .execute(&format!("UPDATE integrations SET organization_id = '{to}' WHERE id = '{integration}'"))
        .await;
    transfer
        .execute(&format!(
            "UPDATE integration_credentials SET updated_at = updated_at WHERE integration_id = '{integration}'"
        ))
        .await;
    let from = two.from.clone();
    let delete = tokio::spawn(async move { from.delete(integration).await });
    let waiting = "SELECT count(*)::text FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.fetch_one_text(waiting).await.as_deref() != Some("1") {
        tokio::task::yield_now().await;
    }
    transfer.execute("COMMIT").await;
    assert!(!delete.await.unwrap().unwrap());
    assert!(database.raw_row(integration).await.is_some());
}
