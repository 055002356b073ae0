//! The walk over all credentials, beside everything that happens meanwhile.

use std::collections::BTreeMap;

use credvault::{Credentials, ErrorKind, ExposeSecret, IntegrationId, Organization, OrganizationId};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, token};

on_both_stores!(
    a_walk_gives_every_credential_once_with_its_place,
    what_does_not_open_is_read_again_as_it_stands,
    a_walk_over_one_organization_gives_none_that_left_it,
    what_does_not_open_is_an_entry_and_the_walk_goes_on,
);

/// What a walk gives from here on: organization, connector, and the token or the kind of error.
async fn rest(
    mut walk: Credentials,
) -> BTreeMap<IntegrationId, (OrganizationId, String, Result<String, ErrorKind>)> {
    let mut entries = BTreeMap::new();
    while let Some(entry) = walk.next().await.unwrap() {
        let token = match entry.stored {
            Ok(stored) => Ok(stored.credential.field("access_token").unwrap().expose_secret().to_owned()),
            Err(error) => Err(error.kind()),
        };
        let place = (entry.organization_id, entry.connector, token);
        assert!(entries.insert(entry.integration_id, place).is_none(), "given twice");
    }
    assert!(walk.next().await.unwrap().is_none(), "it has ended");
    entries
}

async fn a_walk_gives_every_credential_once_with_its_place(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    assert!(rest(vault.credentials()).await.is_empty());
    let organizations = [database.add_organization().await, database.add_organization().await];
    let mut stored = BTreeMap::new();
    // More than two pages.
    for number in 0..230 {
        let (id, connector, text) = (organizations[number % 2], format!("c{number}"), format!("t{number}"));
        let organization = vault.organization(id);
        let (integration, _) = organization.put_by_connector(&connector, &token(&text)).await.unwrap();
        stored.insert(integration, (id, connector, Ok(text)));
    }
    database.add_tenant().await;
    assert_eq!(rest(vault.credentials()).await, stored);
    stored.retain(|_, (id, _, _)| *id == organizations[1]);
    assert_eq!(rest(vault.credentials().of(organizations[1])).await, stored);
}

/// An organization's credentials, each with its connector for a token, and all damaged.
async fn damaged<const N: usize>(
    database: &TestDatabase,
    organization: &Organization,
    connectors: [&str; N],
) -> Vec<(IntegrationId, String)> {
    let mut stored = Vec::new();
    for connector in connectors {
        let (integration, _) = organization.put_by_connector(connector, &token(connector)).await.unwrap();
        database.set(integration, "credential_data_encrypted = 'cv1.AAAA'").await;
        stored.push((integration, connector.to_owned()));
    }
    stored
}

async fn what_does_not_open_is_read_again_as_it_stands(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (from, to) = (database.add_organization().await, database.add_organization().await);
    let organization = vault.organization(from);
    let mut stored = damaged(&database, &organization, ["a", "b", "c", "d"]).await;
    let mut walk = vault.credentials();
    let first = walk.next().await.unwrap().unwrap();
    assert_eq!(first.stored.unwrap_err().kind(), ErrorKind::Malformed);
    stored.retain(|(integration, _)| *integration != first.integration_id);

    // The walk's page has all three as they were.
    let [mended, moved, deleted] = [0, 1, 2].map(|at: usize| stored[at].clone());
    for (integration, connector) in [&mended, &moved] {
        organization.put(*integration, &token(connector)).await.unwrap();
    }
    vault.transfer(moved.0, from, to).await.unwrap();
    assert!(organization.delete(deleted.0).await.unwrap());
    vault.rotation().force().run().await.unwrap();
    let expected =
        [(mended.0, (from, mended.1.clone(), Ok(mended.1))), (moved.0, (to, moved.1.clone(), Ok(moved.1)))];
    assert_eq!(rest(walk).await, expected.into());
}

async fn a_walk_over_one_organization_gives_none_that_left_it(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (from, to) = (database.add_organization().await, database.add_organization().await);
    let organization = vault.organization(from);
    let mut stored = damaged(&database, &organization, ["a", "b"]).await;
    let mut walk = vault.credentials().of(from);
    let first = walk.next().await.unwrap().unwrap();
    stored.retain(|(integration, _)| *integration != first.integration_id);
    let (integration, connector) = &stored[0];
    organization.put(*integration, &token(connector)).await.unwrap();
    vault.transfer(*integration, from, to).await.unwrap();
    assert_eq!(rest(walk).await, BTreeMap::new());
}

async fn what_does_not_open_is_an_entry_and_the_walk_goes_on(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let organization = vault.organization(database.add_organization().await);
    let mut stored = Vec::new();
    for connector in ["a", "b", "c", "d"] {
        stored.push(organization.put_by_connector(connector, &token(connector)).await.unwrap().0);
    }
    let text = database.raw_row(stored[0]).await.unwrap().stored;
    database.set(stored[1], &format!("credential_data_encrypted = '{text}'")).await;
    database.set(stored[2], "credential_data_encrypted = 'cv1.AAAA'").await;
    database.set(stored[3], "credential_data_encrypted = 'cv9.AAAA'").await;
    let entries = rest(vault.credentials()).await;
    let tokens: Vec<_> = stored.iter().map(|id| entries[id].2.clone()).collect();
    assert_eq!(tokens[0], Ok("a".to_owned()));
    assert_eq!(tokens[1], Err(ErrorKind::Tampered));
    assert_eq!(tokens[2], Err(ErrorKind::Malformed));
    assert!(tokens[3].is_err());
}
