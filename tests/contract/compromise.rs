//! What is under a key that is compromised, and what becomes of the key.

use std::collections::BTreeSet;

use credvault::{DataKeyId, IntegrationId, KeyState, OrganizationId, Vault};
use uuid::Uuid;

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, token};

on_both_stores!(
    all_that_is_under_a_key_is_listed_by_organization,
    a_compromised_key_is_replaced_at_once_and_once,
);

/// More than are read at once.
const MANY: usize = 1_003;

async fn active_key(vault: &Vault) -> DataKeyId {
    let keys = vault.keys().list().await.unwrap();
    keys.iter().find(|key| key.state == KeyState::Active && key.organization_id.is_none()).unwrap().id
}

async fn under(vault: &Vault, key: DataKeyId) -> Vec<(OrganizationId, IntegrationId)> {
    let mut credentials = vault.keys().credentials_under(key);
    let mut listed = Vec::new();
    while let Some(summary) = credentials.next().await.unwrap() {
        assert_eq!(summary.key_id, Some(key));
        listed.push((summary.organization_id, summary.integration_id));
    }
    listed
}

async fn all_that_is_under_a_key_is_listed_by_organization(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let key = active_key(&vault).await;
    let own = vault.organization(database.add_organization().await);
    vault.keys().create(own.id()).await.unwrap();
    let theirs = own.ensure_integration("github").await.unwrap();
    own.put(theirs, &token("under another key")).await.unwrap();

    // The first and the last of all places among them.
    let ends = [(Uuid::nil(), Uuid::nil()), (Uuid::max(), Uuid::max())];
    let ids = ends.into_iter().chain((0..MANY).map(|at| {
        // Organizations with several integrations each, some of them on two pages.
        (Uuid::from_u128(7 + at as u128 / 9), Uuid::new_v4())
    }));
    let mut expected = BTreeSet::new();
    let first = vault.organization(Uuid::new_v4());
    let template = first.ensure_integration("github").await.unwrap();
    first.put(template, &token("t")).await.unwrap();
    expected.insert((first.id(), template));
    let mut statements = String::new();
    for (at, (organization, integration)) in ids.enumerate() {
        statements.push_str(&format!(
            "INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
             VALUES ('{integration}', '{organization}', '{integration}', 'connector {at}', 'active');
             INSERT INTO integration_credentials
                    (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             SELECT '{}', '{integration}', credential_type, credential_data_encrypted, encryption_key_id
               FROM integration_credentials WHERE integration_id = '{template}';",
            Uuid::new_v4()
        ));
        expected.insert((organization.into(), integration.into()));
    }
    database.execute(&format!("BEGIN; {statements} COMMIT")).await;

    let listed = under(&vault, key).await;
    assert_eq!(listed.len(), expected.len(), "one is there twice, or missing");
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert!(listed.is_sorted_by_key(|(organization, _)| *organization), "not by organization");
}

async fn a_compromised_key_is_replaced_at_once_and_once(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    organization.put(integration, &token("t")).await.unwrap();
    let key = active_key(&vault).await;

    let compromised = vault.keys().compromise(key).await.unwrap();
    assert!(!compromised.already_marked);
    assert_eq!(compromised.new_key, Some(active_key(&vault).await));
    let again = vault.keys().compromise(key).await.unwrap();
    assert_eq!((again.already_marked, again.new_key), (true, None));

    // What was under it stays listed until a rotation.
    assert_eq!(under(&vault, key).await, [(organization.id(), integration)]);
    assert_eq!(vault.rotation().run().await.unwrap().re_encrypted, 1);
    assert_eq!(under(&vault, key).await, []);
}
