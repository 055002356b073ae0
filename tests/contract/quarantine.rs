//! The quarantine: what is listed, since when, and what another try takes out.

use std::collections::HashSet;

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credvault::{ErrorKind, Finding, Outcome, Problem, provider};
use sha2::Digest;

use crate::common::legacy::{add_legacy_rows, legacy_salt, salt};
use crate::common::service::{Service, Tenant, first_token, put, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

on_both_stores!(
    the_list_names_each_row_and_opens_none,
    since_is_the_time_of_the_text_that_did_not_open,
    a_retry_takes_out_what_opens_and_what_is_gone_and_says_why_the_others_remain,
    a_row_that_was_listed_anew_meanwhile_stays,
    a_process_that_lacks_a_master_key_judges_no_row,
    a_process_that_comes_to_lack_a_master_key_judges_no_further_row,
    a_value_that_opens_and_can_not_be_sealed_remains,
    an_entry_without_its_integration_is_listed_and_taken_out,
);

/// A vault with so many tenants, all of whose rows are in quarantine.
async fn begin(database: TestDatabase, tenants: usize) -> (Service, credvault::Vault, Vec<Tenant>) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, tenants).await;
    service.database.execute("UPDATE integration_credentials SET credential_type = 'oauth2'").await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined), (Outcome::Quarantine, tenants.len() as u64));
    (service, vault, tenants)
}

/// Undoes what keeps a tenant's row from opening.
async fn repair(service: &Service, tenant: Tenant) {
    service.database.set(tenant.integration, "credential_type = 'token'").await;
}

async fn the_list_names_each_row_and_opens_none(database: TestDatabase) {
    let before = time::OffsetDateTime::now_utc() - time::Duration::seconds(2);
    let (service, vault, tenants) = begin(database, 3).await;
    let listed = vault.quarantine().list().await.unwrap();
    let named: HashSet<_> = listed.iter().map(|row| (row.organization_id, row.integration_id)).collect();
    let expected: HashSet<_> = tenants.iter().map(|t| (Some(t.organization), t.integration)).collect();
    assert_eq!(named, expected);
    for row in &listed {
        assert_eq!((row.connector.as_deref(), row.reason.as_str()), (Some("github"), "tampered"));
        assert!(
            row.since > before && row.since < time::OffsetDateTime::now_utc() + time::Duration::seconds(2)
        );
    }

    // The longest there first.
    let first = tenants[1].integration;
    let long_ago = match service.database.dialect() {
        Dialect::Postgres => "'2020-01-01'",
        Dialect::Sqlite => "unixepoch('2020-01-01') * 1000000",
    };
    service
        .database
        .execute(&format!("UPDATE vault_quarantine SET since = {long_ago} WHERE integration_id = '{first}'"))
        .await;
    let listed = vault.quarantine().list().await.unwrap();
    assert_eq!(listed[0].integration_id, first);
    assert_eq!(listed[0].since, time::macros::datetime!(2020-01-01 00:00 UTC));

    // One that is stored anew stays on the list until it is tried.
    put(&vault, tenants[0], "anew").await;
    assert_eq!(vault.quarantine().list().await.unwrap().len(), 3);
    assert_eq!(vault.quarantine().retry().await.unwrap().released, 1);
    assert_eq!(vault.quarantine().list().await.unwrap().len(), 2);
}

async fn since_is_the_time_of_the_text_that_did_not_open(database: TestDatabase) {
    let (service, vault, tenants) = begin(database, 2).await;
    let long_ago = match service.database.dialect() {
        Dialect::Postgres => "'2020-01-01'",
        Dialect::Sqlite => "unixepoch('2020-01-01') * 1000000",
    };
    let age = async || {
        service.database.execute(&format!("UPDATE vault_quarantine SET since = {long_ago}")).await;
    };
    let years = async || {
        let listed = vault.quarantine().list().await.unwrap();
        let of = |tenant: Tenant| {
            listed.iter().find(|row| row.integration_id == tenant.integration).unwrap().since.year()
        };
        [of(tenants[0]), of(tenants[1])]
    };
    let now = time::OffsetDateTime::now_utc().year();
    age().await;
    // The same text, by whatever it does not open.
    service.database.set(tenants[0].integration, "credential_type = 'another'").await;
    vault.rotation().run().await.unwrap();
    vault.quarantine().retry().await.unwrap();
    assert_eq!(years().await, [2020, 2020]);

    // Another text that doesn't open is there since it was put there, by whoever tries it.
    service.tamper_with(tenants[0]).await;
    vault.rotation().run().await.unwrap();
    assert_eq!(years().await, [now, 2020]);
    age().await;
    service.tamper_with(tenants[1]).await;
    vault.quarantine().retry().await.unwrap();
    assert_eq!(years().await, [2020, now]);
    assert_eq!(vault.status().await.unwrap().quarantined_rows, 2, "listed as they stand");
}

async fn a_retry_takes_out_what_opens_and_what_is_gone_and_says_why_the_others_remain(
    database: TestDatabase,
) {
    let (service, vault, tenants) = begin(database, 5).await;
    let [repaired, anew, deleted, transferred, poison] = tenants[..] else { unreachable!() };
    repair(&service, repaired).await;
    put(&vault, anew, "anew").await;
    assert!(vault.organization(deleted.organization).delete(deleted.integration).await.unwrap());
    // Moved by hand: it opens as its old organization's, and no more as it stands.
    repair(&service, transferred).await;
    let to = vault.organization(uuid::Uuid::new_v4());
    service.database.move_by_hand(transferred.integration, &to).await;
    let before = service.rows().await;

    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.gone, report.remaining.len()), (2, 1, 2));
    for finding in &report.remaining {
        let Finding::Row { integration, problem: Problem::DoesNotOpen(kind, message) } = finding else {
            panic!("{finding}");
        };
        assert!([transferred.integration, poison.integration].contains(integration));
        assert_eq!(*kind, ErrorKind::Tampered);
        assert!(!message.is_empty() && !message.contains(&integration.to_string()), "{message}");
    }
    assert_eq!(service.rows().await, before, "no credential is written");
    let listed = vault.quarantine().list().await.unwrap();
    assert_eq!(listed.len(), 2);

    vault.transfer(transferred.integration, transferred.organization, to.id()).await.unwrap();
    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.gone, report.remaining.len()), (1, 0, 1));
    repair(&service, poison).await;
    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.gone, report.remaining.len()), (1, 0, 0));
    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.gone, report.remaining.len()), (0, 0, 0));

    // What opens again is stale, and the next rotation's.
    assert_eq!(vault.status().await.unwrap().stale_rows, 2);
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 2));
    service.assert_all_current(&vault).await;
    assert_eq!(read(&vault, repaired).await.unwrap(), first_token(repaired));
    assert_eq!(read(&vault, anew).await.unwrap(), "anew");
}

/// As by a rotation that puts a row there with another text while a retry is about to take it out.
async fn a_row_that_was_listed_anew_meanwhile_stays(database: TestDatabase) {
    let (service, vault, tenants) = begin(database, 2).await;
    for tenant in tenants {
        repair(&service, tenant).await;
    }
    let another = match service.database.dialect() {
        Dialect::Postgres => "sha256('another')",
        Dialect::Sqlite => "zeroblob(32)",
    };
    // When the first is taken out, the other one is listed anew.
    let update = format!("UPDATE vault_quarantine SET stored_sha256 = {another};");
    service.add_trigger("meanwhile", "AFTER DELETE ON vault_quarantine", &update).await;
    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.gone, report.remaining.len()), (1, 0, 0));
    assert_eq!(vault.quarantine().list().await.unwrap().len(), 1);
    assert_eq!(vault.quarantine().retry().await.unwrap().released, 1);
}

async fn a_process_that_lacks_a_master_key_judges_no_row(database: TestDatabase) {
    let (service, vault, tenants) = begin(database, 2).await;
    repair(&service, tenants[0]).await;
    let first_alone = service.builder(&["first"]).build().await.unwrap();
    let second = provider::from_spec(&service.key("second")).unwrap();
    vault.rewrap(second).run().await.unwrap();
    let before = service.database.dump().await;

    let error = first_alone.quarantine().retry().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert_eq!(service.database.dump().await, before);
    assert_eq!(first_alone.quarantine().list().await.unwrap().len(), 2);
    assert_eq!(vault.quarantine().retry().await.unwrap().released, 1);
}

/// As after a rewrap that was made, or interrupted, in the midst of a retry: what its rows' key is wrapped by changes.
async fn a_process_that_comes_to_lack_a_master_key_judges_no_further_row(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let database = &service.database;
    let tenants = service.add_tenants_with_tokens(&vault, 2).await;
    let [first, second] = tenants[..] else { unreachable!() };
    let key = vault.keys().create(second.organization).await.unwrap();
    put(&vault, second, "under its own key").await;
    database.execute("UPDATE integration_credentials SET credential_type = 'oauth2'").await;
    assert_eq!(vault.rotation().force().run().await.unwrap().quarantined, 2);
    let by = |name: &str| provider::from_spec(&service.key(name)).unwrap();
    vault.rewrap(by("second")).run().await.unwrap();
    let material = "SELECT master_key_id, wrapped_key FROM vault_key_material WHERE data_key_id";
    let by_second = database.fetch_text(&format!("{material} = '{key}'")).await.remove(0);
    let [Some(master_key), Some(wrapped)] = &by_second[..] else { unreachable!() };
    vault.rewrap(by("first")).run().await.unwrap();

    let first_alone = service.builder(&["first"]).build().await.unwrap();
    repair(&service, first).await;
    let long_ago = match database.dialect() {
        Dialect::Postgres => "'2020-01-01'",
        Dialect::Sqlite => "0",
    };
    let update = format!("UPDATE vault_quarantine SET since = {long_ago} WHERE integration_id");
    database.execute(&format!("{update} = '{}'", first.integration)).await;
    let rewrap = format!(
        "UPDATE vault_key_material SET master_key_id = '{master_key}', wrapped_key = '{wrapped}'
          WHERE data_key_id = '{key}';"
    );
    service.add_trigger("meanwhile", "AFTER DELETE ON vault_quarantine", &rewrap).await;
    for _ in 0..2 {
        let error = first_alone.quarantine().retry().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
        let listed = vault.quarantine().list().await.unwrap();
        assert_eq!((listed.len(), listed[0].integration_id), (1, second.integration));
        assert_eq!(listed[0].reason, "tampered", "not judged by a process that lacks its key");
    }
    repair(&service, second).await;
    assert_eq!(vault.quarantine().retry().await.unwrap().released, 1);
}

/// It would only be put there again.
async fn a_value_that_opens_and_can_not_be_sealed_remains(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let legacy = add_legacy_rows(&service.database).await;
    vault.adoption(salt(&legacy_salt())).run().await.unwrap();
    service.database.execute("UPDATE vault_identity SET phase = 're-encrypt'").await;
    // The old service knew no limit: a value that is longer than the vault's own may be, sealed as it sealed.
    let row = &legacy[0];
    let mut value = format!("{{\"k\":\"{}\"}}", "v".repeat(credvault::MAX_VALUE_BYTES + 1)).into_bytes();
    let key = sha2::Sha256::digest(legacy_salt());
    let nonce = [7; 12];
    let tag =
        Aes256Gcm::new(&key).encrypt_inout_detached(&nonce.into(), b"", value.as_mut_slice().into()).unwrap();
    let stored = STANDARD.encode([&nonce[..], &value, &tag].concat());
    service.database.set(row.integration, &format!("credential_data_encrypted = '{stored}'")).await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!(report.quarantined, 1, "{report:?}");
    assert!(vault.organization(row.organization).get(row.integration).await.unwrap().is_some());

    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.remaining.len()), (0, 1));
    assert_eq!(report.remaining[0].problem().kind(), "invalid input");
    assert_eq!(vault.quarantine().list().await.unwrap()[0].reason, "invalid input");
}

/// As a program on SQLite leaves it that has the pragma foreign_keys off.
async fn an_entry_without_its_integration_is_listed_and_taken_out(database: TestDatabase) {
    let (service, vault, tenants) = begin(database, 1).await;
    if service.database.dialect() == Dialect::Postgres {
        service
            .database
            .execute("ALTER TABLE vault_quarantine DROP CONSTRAINT vault_quarantine_integration_id_fkey")
            .await;
    }
    service
        .database
        .execute(&format!("DELETE FROM integrations WHERE id = '{}'", tenants[0].integration))
        .await;
    let listed = vault.quarantine().list().await.unwrap();
    assert_eq!((listed.len(), listed[0].organization_id, listed[0].connector.clone()), (1, None, None));
    let report = vault.quarantine().retry().await.unwrap();
    assert_eq!((report.released, report.gone, report.remaining.len()), (0, 1, 0));
    assert!(vault.quarantine().list().await.unwrap().is_empty());
}
