//! A row that can't be opened never stops the others.

use credvault::{ErrorKind, Outcome};

use crate::common::service::{Service, first_token, put, read};
use crate::common::{self, TestDatabase, on_both_stores};

async fn a_tampered_row_is_left_as_it_is_and_the_others_go_on(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 20).await;
    let (poison, others) = tenants.split_first().unwrap();
    let tampered = service.tamper_with(*poison).await;
    let row = |rows: Vec<Vec<Option<String>>>| {
        rows.into_iter().find(|row| row[0].as_deref() == Some(&poison.integration.to_string())).unwrap()
    };
    let before = row(service.rows().await);
    let quarantined = "SELECT count(*) FROM vault_quarantine";
    let since = format!(
        "SELECT since FROM vault_quarantine WHERE integration_id = '{}' AND reason = 'tampered'",
        poison.integration
    );

    let report = vault.rotation().force().batch_size(3).unwrap().run().await.unwrap();
    assert_eq!(report.outcome, Outcome::Quarantine);
    assert_eq!((report.re_encrypted, report.quarantined, report.remaining), (19, 1, 0));
    assert_eq!(row(service.rows().await), before, "the row was touched");
    let first_since = service.database.fetch_one_text(&since).await;

    // Again, and it is neither listed twice nor anew.
    for _ in 0..2 {
        let report = vault.rotation().force().run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Quarantine);
        assert_eq!((report.re_encrypted, report.quarantined), (19, 1));
    }
    assert_eq!(service.count(quarantined).await, 1);
    assert_eq!(service.database.fetch_one_text(&since).await, first_since);
    assert_eq!(row(service.rows().await), before, "the row was touched");
    for tenant in others {
        assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
    }
    let organization = vault.organization(poison.organization);
    assert_eq!(organization.get(poison.integration).await.unwrap_err().kind(), ErrorKind::Tampered);
    assert_eq!(organization.list().await.unwrap().len(), 1);
    assert!(organization.describe(poison.integration).await.unwrap().is_some());
    assert_eq!(vault.status().await.unwrap().quarantined_rows, 1);

    // Written anew it is no longer counted, and out at the next rotation.
    assert_eq!(service.stored(*poison).await, tampered);
    put(&vault, *poison, "repaired").await;
    assert_eq!(vault.status().await.unwrap().quarantined_rows, 0);
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined), (Outcome::Complete, 0));
    assert_eq!((report.re_encrypted, report.already_current), (0, 20));
    assert_eq!(service.count(quarantined).await, 0);
    assert_eq!(read(&vault, *poison).await.unwrap(), "repaired");
    service.assert_all_current(&vault).await;
}

async fn a_quarantined_row_can_be_deleted_or_restored(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 5).await;
    let good = service.stored(tenants[1]).await;
    for poison in &tenants[..3] {
        service.tamper_with(*poison).await;
    }
    assert_eq!(vault.rotation().force().run().await.unwrap().quarantined, 3);

    assert!(vault.organization(tenants[0].organization).delete(tenants[0].integration).await.unwrap());
    // From a backup, still under the old key.
    service.set_stored(tenants[1], &good).await;
    service
        .database
        .execute(&format!("DELETE FROM integrations WHERE id = '{}'", tenants[2].integration))
        .await;
    service
        .database
        .execute(&format!(
            "DELETE FROM integration_credentials WHERE integration_id = '{}'",
            tenants[2].integration
        ))
        .await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.quarantined), (Outcome::Complete, 1, 0));
    assert_eq!(read(&vault, tenants[0]).await, None);
    assert_eq!(read(&vault, tenants[1]).await.unwrap(), first_token(tenants[1]));
    service.assert_all_current(&vault).await;
}

async fn a_row_whose_scope_was_changed_by_hand_is_quarantined(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let by_hand = tenants[0];
    let new = uuid::Uuid::new_v4();
    service
        .database
        .execute(&format!(
            "UPDATE integrations SET organization_id = '{new}' WHERE id = '{}'",
            by_hand.integration
        ))
        .await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.quarantined), (Outcome::Quarantine, 2, 1));
    assert_eq!(vault.verify().run().await.unwrap().findings_count, 1);
    vault.transfer(by_hand.integration, by_hand.organization, new).await.unwrap();
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
    service.assert_all_current(&vault).await;
}

async fn a_process_without_the_master_key_puts_nothing_in_quarantine(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let first_alone = service.builder(&["first"]).build().await.unwrap();
    let second = credvault::provider::from_spec(&service.key("second")).unwrap();
    vault.rewrap(second).run().await.unwrap();
    vault.keys().create(tenants[0].organization).await.unwrap();

    let error = first_alone.rotation().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert_eq!(vault.status().await.unwrap().quarantined_rows, 0);
    assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
    service.assert_all_current(&vault).await;
}

/// Repaired where it stands: its stored text is the one that didn't open.
async fn a_quarantined_row_whose_columns_were_repaired_is_out_again(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let set_type = async |text: &str| {
        let sql = format!(
            "UPDATE integration_credentials SET credential_type = '{text}' WHERE integration_id = '{}'",
            tenants[0].integration
        );
        service.database.execute(&sql).await;
    };
    set_type("oauth2").await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.quarantined), (Outcome::Quarantine, 2, 1));
    set_type("token").await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted, report.quarantined), (Outcome::Complete, 1, 0));
    assert_eq!(read(&vault, tenants[0]).await.unwrap(), first_token(tenants[0]));
    service.assert_all_current(&vault).await;
}

/// As after a rewrap that was interrupted: the old rows' key is wrapped by a master key that a process lacks.
async fn a_process_that_lacks_an_old_keys_master_key_puts_nothing_in_quarantine(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 3).await;
    let first_alone = service.builder(&["first"]).build().await.unwrap();
    let provider = |name: &str| credvault::provider::from_spec(&service.key(name)).unwrap();
    vault.rewrap(provider("second")).run().await.unwrap();
    // The first master key is active again, and wraps the active data key; the old one was left behind.
    let old = service
        .database
        .fetch_text("SELECT m.data_key_id, m.master_key_id, m.wrapped_key FROM vault_key_material AS m WHERE m.wrapped_key IS NOT NULL")
        .await
        .remove(0)
        .into_iter()
        .map(Option::unwrap)
        .collect::<Vec<_>>();
    vault.rewrap(provider("first")).run().await.unwrap();
    vault.keys().create(uuid::Uuid::new_v4()).await.unwrap();
    service
        .database
        .execute(&format!(
            "UPDATE vault_key_material SET master_key_id = '{}', wrapped_key = '{}' WHERE data_key_id = '{}'",
            old[1], old[2], old[0]
        ))
        .await;

    let error = first_alone.rotation().force().run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert_eq!(vault.status().await.unwrap().quarantined_rows, 0);
    assert_eq!(vault.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
    service.assert_all_current(&vault).await;
}

on_both_stores!(
    a_quarantined_row_whose_columns_were_repaired_is_out_again,
    a_process_that_lacks_an_old_keys_master_key_puts_nothing_in_quarantine,
    a_process_without_the_master_key_puts_nothing_in_quarantine,
    a_tampered_row_is_left_as_it_is_and_the_others_go_on,
    a_quarantined_row_can_be_deleted_or_restored,
    a_row_whose_scope_was_changed_by_hand_is_quarantined,
);
