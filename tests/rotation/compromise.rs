//! A data key that is found to be compromised.

use std::collections::HashSet;

use credvault::{ErrorKind, Grace, IntegrationId, KeyState, Outcome};

use crate::common::service::{Halted, Service, active_key, first_token, key, put, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

async fn an_active_key_is_replaced_at_once_and_its_rows_follow(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 4).await;
    let leaked = active_key(&vault, None).await;
    let compromised = vault.keys().compromise(leaked).await.unwrap();
    assert!(!compromised.already_marked);
    let new = compromised.new_key.unwrap();
    assert_eq!(active_key(&vault, None).await, new);
    let summary = key(&vault, leaked).await;
    assert_eq!((summary.state, summary.rows), (KeyState::Deactivated, 4));
    let marked_at = summary.compromised_at.unwrap();
    put(&vault, tenants[0], "newer").await;
    assert_eq!(service.key_of(tenants[0]).await, new);

    // Marked is marked: the key that took its place stays.
    let again = vault.keys().compromise(leaked).await.unwrap();
    assert_eq!((again.already_marked, again.new_key), (true, None));
    assert_eq!(key(&vault, leaked).await.compromised_at, Some(marked_at));

    let report = vault.rotation().max_age(time::Duration::days(36_500)).run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys), (Outcome::Complete, vec![]));
    assert_eq!((report.re_encrypted_from, report.unused_keys), (vec![(leaked, 3)], vec![leaked]));
    assert_eq!(read(&vault, tenants[1]).await.unwrap(), first_token(tenants[1]));
    service.assert_all_current(&vault).await;
}

async fn a_deactivated_key_is_marked_and_no_other_made(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 2).await;
    let old = active_key(&vault, None).await;
    let new = vault.rotation().force().run().await.unwrap().new_keys[0];
    let compromised = vault.keys().compromise(old).await.unwrap();
    assert_eq!((compromised.already_marked, compromised.new_key), (false, None));
    assert!(key(&vault, old).await.compromised_at.is_some());
    let report = vault.rotation().run().await.unwrap();
    assert!(report.is_of_nothing(), "{report:?}");
    assert_eq!(active_key(&vault, None).await, new);
}

/// As after a call that ended between the mark and the switch.
async fn a_marked_key_that_is_active_still_is_due_at_once(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 3).await;
    let mark = async |id| {
        let sql = format!("UPDATE vault_data_keys SET compromised_at = created_at WHERE id = '{id}'");
        service.database.execute(&sql).await;
    };
    let leaked = active_key(&vault, None).await;
    mark(leaked).await;
    assert_eq!(vault.rotation().max_age(time::Duration::days(36_500)).plan().await.unwrap().due, [leaked]);
    let report = vault.rotation().max_age(time::Duration::days(36_500)).run().await.unwrap();
    assert_eq!((report.new_keys.len(), report.re_encrypted), (1, 3));
    assert_eq!(report.unused_keys, [leaked]);

    let leaked = report.new_keys[0];
    mark(leaked).await;
    let compromised = vault.keys().compromise(leaked).await.unwrap();
    assert!(compromised.already_marked);
    assert_eq!(active_key(&vault, None).await, compromised.new_key.unwrap());
}

async fn an_organizations_own_key_is_replaced_by_one_of_its_own(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 2).await;
    let (organization, shared) = (tenants[0].organization, active_key(&vault, None).await);
    let own = vault.keys().create(organization).await.unwrap();
    vault.rotation().run().await.unwrap();
    let new = vault.keys().compromise(own).await.unwrap().new_key.unwrap();
    assert_eq!(active_key(&vault, Some(organization)).await, new);
    assert_eq!(active_key(&vault, None).await, shared);
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.re_encrypted, report.unused_keys), (1, vec![own]));
    assert_eq!(service.key_of(tenants[0]).await, new);
    assert_eq!(service.key_of(tenants[1]).await, shared);
    service.assert_all_current(&vault).await;
}

async fn a_destroyed_or_unknown_key_is_refused(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let old = active_key(&vault, None).await;
    vault.rotation().force().run().await.unwrap();
    vault.keys().destroy(old, Grace::Waived).await.unwrap();
    let before = service.database.dump().await;
    assert_eq!(vault.keys().compromise(old).await.unwrap_err().kind(), ErrorKind::Refused);
    let unknown = uuid::Uuid::new_v4().to_string().parse().unwrap();
    assert_eq!(vault.keys().compromise(unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(service.database.dump().await, before);
}

async fn a_key_compromised_while_a_rotation_re_encrypts_under_it_gets_no_further_row(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    service.add_tenants_with_tokens(&vault, 12).await;
    let halted = Halted::after_first_page(vault.rotation().force().batch_size(3).unwrap()).await;
    let elsewhere = service.open().await;
    let leaked = active_key(&elsewhere, None).await;
    let new = elsewhere.keys().compromise(leaked).await.unwrap().new_key.unwrap();
    let report = halted.finish().await.unwrap();
    assert_eq!((report.outcome, report.remaining), (Outcome::Complete, 0));
    assert_eq!(key(&vault, new).await.rows, 12);
    service.assert_all_current(&vault).await;
    // Its switch was after what this rotation captured first, so that it captured again.
    assert!(report.unused_keys.contains(&leaked), "{:?}", report.unused_keys);
}

async fn all_credentials_under_a_key_are_listed_over_pages(database: TestDatabase) {
    const ROWS: usize = 1_200;
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_many_tenants_with_tokens(&vault, ROWS).await;
    let leaked = active_key(&vault, None).await;
    vault.keys().compromise(leaked).await.unwrap();
    put(&vault, tenants[0], "newer").await;
    let mut rows = vault.keys().credentials_under(leaked);
    let mut listed = HashSet::new();
    while let Some(row) = rows.next().await.unwrap() {
        assert_eq!((row.connector_type.as_str(), row.credential_type.as_str()), ("github", "token"));
        assert!(listed.insert(row.integration_id), "{} is listed twice", row.integration_id);
    }
    let expected: HashSet<IntegrationId> = tenants[1..].iter().map(|tenant| tenant.integration).collect();
    assert_eq!(listed.len(), ROWS - 1);
    assert_eq!(listed, expected);
}

on_both_stores!(
    an_active_key_is_replaced_at_once_and_its_rows_follow,
    a_deactivated_key_is_marked_and_no_other_made,
    a_marked_key_that_is_active_still_is_due_at_once,
    an_organizations_own_key_is_replaced_by_one_of_its_own,
    a_destroyed_or_unknown_key_is_refused,
    a_key_compromised_while_a_rotation_re_encrypts_under_it_gets_no_further_row,
    all_credentials_under_a_key_are_listed_over_pages,
);

/// Between a key's record and the switch to it a rotation may be, or may have ended early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_compromised_beside_a_rotation_is_out_of_use_at_once() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 2).await;
    for turn in 0..8 {
        let leaked = active_key(&vault, None).await;
        let before = vault.keys().list().await.unwrap().len();
        let (rotating, elsewhere) = (vault.clone(), service.open().await);
        let (report, compromised) = tokio::join!(rotating.rotation().force().run(), async {
            elsewhere.keys().compromise(leaked).await
        });
        compromised.unwrap();
        match report {
            Ok(report) => assert_eq!(report.outcome, Outcome::Complete),
            // Each found the other's key switched already.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        let keys = vault.keys().list().await.unwrap();
        assert_ne!(active_key(&vault, None).await, leaked, "turn {turn}");
        assert!(keys.len() - before <= 2, "turn {turn}: {} keys", keys.len() - before);
        assert_eq!(vault.rotation().run().await.unwrap().outcome, Outcome::Complete);
        service.assert_all_current(&vault).await;
    }
}
