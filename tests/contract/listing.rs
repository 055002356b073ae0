//! List, expiring, integration and ensure_integration.

use std::collections::HashSet;

use credvault::{DataKeyId, Organization, Summary, Vault};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores, token};

on_both_stores!(
    list_is_by_connector_and_of_one_organization,
    expiring_is_soonest_first_over_all_organizations,
    one_bad_row_breaks_no_list,
    ensure_integration_makes_one_however_many_ask,
);

const SOON: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

async fn begin(database: &TestDatabase) -> (KeyFiles, Vault, Organization) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let organization = vault.organization(database.add_organization().await);
    (keys, vault, organization)
}

async fn list_is_by_connector_and_of_one_organization(database: TestDatabase) {
    let (_keys, vault, organization) = begin(&database).await;
    for connector in ["slack", "aws", "pagerduty", "github", "without a credential"] {
        let integration = organization.ensure_integration(connector).await.unwrap();
        if connector != "without a credential" {
            organization.put(integration, &token(connector)).await.unwrap();
        }
    }
    let other = vault.organization(database.add_organization().await);
    let theirs = other.ensure_integration("gcp").await.unwrap();
    other.put(theirs, &token("t")).await.unwrap();

    let listed = organization.list().await.unwrap();
    let connectors: Vec<_> = listed.iter().map(|summary| summary.connector_type.as_str()).collect();
    assert_eq!(connectors, ["aws", "github", "pagerduty", "slack"]);
    for summary in &listed {
        let described = organization.describe(summary.integration_id).await.unwrap().unwrap();
        assert_eq!(&described, summary);
        assert_eq!(summary.organization_id, organization.id());
    }
}

async fn expiring_is_soonest_first_over_all_organizations(database: TestDatabase) {
    let (_keys, vault, _) = begin(&database).await;
    let mut expected = Vec::new();
    for minutes in [30, -10, 20, -500_000_000, 0] {
        let organization = vault.organization(database.add_organization().await);
        let integration = organization.ensure_integration("github").await.unwrap();
        let expiry = SOON + Duration::minutes(minutes);
        organization.put(integration, &token("t").with_expiry(expiry)).await.unwrap();
        expected.push((expiry, integration));
    }
    expected.sort();
    let organization = vault.organization(database.add_organization().await);
    let forever = organization.ensure_integration("github").await.unwrap();
    organization.put(forever, &token("never expires")).await.unwrap();

    let seen = |summaries: Vec<Summary>| -> Vec<_> {
        summaries.into_iter().map(|s| (s.expires_at.unwrap(), s.integration_id)).collect()
    };
    let all = vault.expiring(SOON + Duration::days(1), 100).await.unwrap();
    assert_eq!(seen(all), expected);
    let two = vault.expiring(SOON + Duration::days(1), 2).await.unwrap();
    assert_eq!(seen(two), expected[..2]);
    let before = vault.expiring(SOON, u32::MAX).await.unwrap();
    assert_eq!(seen(before), expected[..2], "what expires at the moment itself does not expire before it");
    let after = vault.expiring(SOON + Duration::microseconds(1), 100).await.unwrap();
    assert_eq!(seen(after), expected[..3]);
    assert!(vault.expiring(SOON, 0).await.unwrap().is_empty());
}

async fn one_bad_row_breaks_no_list(database: TestDatabase) {
    let (_keys, vault, organization) = begin(&database).await;
    // A key whose id is no id, as only someone with the database's password can make it.
    database
        .execute(match database.dialect() {
            Dialect::Postgres => {
                "INSERT INTO vault_data_keys (id, state, key_check)
                 VALUES ('Garbage, quoted', 'deactivated', decode(repeat('00', 16), 'hex'));
                 INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
                 SELECT 'Garbage, quoted', id, 'garbage' FROM vault_master_keys"
            }
            Dialect::Sqlite => {
                "INSERT INTO vault_data_keys (id, state, key_check)
                 VALUES ('Garbage, quoted', 'deactivated', zeroblob(16));
                 INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
                 SELECT 'Garbage, quoted', id, 'garbage' FROM vault_master_keys"
            }
        })
        .await;
    let (first_moment, last_moment) = match database.dialect() {
        Dialect::Postgres => ("'-infinity'", "'infinity'"),
        Dialect::Sqlite => ("-9223372036854775808", "9223372036854775807"),
    };
    let mut bad = vec![
        "encryption_key_id = 'Garbage, quoted'".to_owned(),
        "encryption_key_id = 'v1'".to_owned(),
        "credential_type = ''".to_owned(),
        "credential_type = '\u{1}🦀\u{202e} \u{fffd}'".to_owned(),
        "credential_data_encrypted = ''".to_owned(),
        "credential_data_encrypted = 'garbage 🦀'".to_owned(),
        format!("expires_at = {first_moment}"),
        format!("created_at = {last_moment}, updated_at = {first_moment}"),
    ];
    if database.dialect() == Dialect::Sqlite {
        // SQLite takes any bytes for text.
        bad.push("credential_type = CAST(x'ff00fe' AS TEXT)".to_owned());
        bad.push("credential_data_encrypted = CAST(x'ff00fe' AS TEXT)".to_owned());
    }
    let mut integrations = HashSet::new();
    for (number, garbage) in bad.iter().enumerate() {
        let integration = organization.ensure_integration(&format!("connector {number}")).await.unwrap();
        organization.put(integration, &token("t").with_expiry(SOON)).await.unwrap();
        database.set(integration, garbage).await;
        integrations.insert(integration);
        assert!(organization.describe(integration).await.unwrap().is_some(), "{garbage}");
        // No plaintext comes of garbage; what opens is a row whose times alone were changed.
        let got = organization.get(integration).await;
        let opens = ["expires_at", "created_at"].iter().any(|column| garbage.starts_with(column));
        assert_eq!(matches!(got, Ok(Some(_))), opens, "{garbage}: {got:?}");
    }
    let listed = organization.list().await.unwrap();
    assert_eq!(listed.iter().map(|s| s.integration_id).collect::<HashSet<_>>(), integrations);
    let of = |number: usize| {
        let connector = format!("connector {number}");
        listed.iter().find(|summary| summary.connector_type == connector).unwrap()
    };
    assert_eq!(of(0).key_id, None, "no id of a key");
    assert_eq!(of(1).key_id, Some(DataKeyId::LEGACY));
    assert_eq!(of(3).credential_type.as_str(), "\u{1}🦀\u{202e} \u{fffd}");
    assert_eq!(of(6).expires_at, None, "no moment of a credential");
    assert_eq!(of(7).created_at, OffsetDateTime::UNIX_EPOCH);

    let expiring = vault.expiring(SOON + Duration::days(1), 100).await.unwrap();
    assert_eq!(expiring.iter().map(|s| s.integration_id).collect::<HashSet<_>>(), integrations);
}

async fn ensure_integration_makes_one_however_many_ask(database: TestDatabase) {
    let (_keys, vault, organization) = begin(&database).await;
    assert_eq!(organization.integration("github").await.unwrap(), None);
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let organization = organization.clone();
            tokio::spawn(async move { organization.ensure_integration("github").await.unwrap() })
        })
        .collect();
    let mut made = HashSet::new();
    for asked in asking {
        made.insert(asked.await.unwrap());
    }
    assert_eq!(made.len(), 1);
    assert_eq!(organization.integration("github").await.unwrap(), made.iter().next().copied());

    let slack = organization.ensure_integration("slack").await.unwrap();
    let other = vault.organization(database.add_organization().await);
    let theirs = other.ensure_integration("github").await.unwrap();
    assert!(slack != theirs && !made.contains(&slack) && !made.contains(&theirs));
    let status =
        database.fetch_one_text(&format!("SELECT status FROM integrations WHERE id = '{slack}'")).await;
    assert_eq!(status.as_deref(), Some("active"));
    organization.put(slack, &token("t")).await.unwrap();
}
