//! Rows, and what names something that isn't there.

use credvault::{DataKeyId, Finding, Problem};
use uuid::Uuid;

use crate::Home;
use crate::common::legacy::{add_legacy_rows, legacy_salt, salt};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

on_both_stores!(
    a_row_whose_key_has_no_material_is_named,
    a_legacy_row_without_its_placeholder_is_named,
    a_credential_without_an_integration_is_named_in_every_row_and_in_a_sample,
    findings_beyond_the_first_thousand_are_counted,
    an_entry_of_the_quarantine_without_its_credential_is_named,
    a_legacy_row_that_expires_at_no_time_is_a_row_like_any_other,
);

/// As rows that stood before the foreign key, which is NOT VALID then.
async fn a_row_whose_key_has_no_material_is_named(database: TestDatabase) {
    let home = Home::begin(database).await;
    home.drop_guard_of_keys().await;
    let [shared, own] = [home.shared.integration, home.own.integration];
    let unknown = Uuid::now_v7();
    home.database.set(shared, &format!("encryption_key_id = '{unknown}'")).await;
    home.database.set(own, "encryption_key_id = 'no key'").await;
    let mut expected = [
        format!("integration {shared}: its data key {unknown} has no material, so nothing opens it"),
        format!("integration {own}: its data key no key has no material, so nothing opens it"),
    ];
    expected.sort();
    let mut found = home.findings().await;
    found.sort();
    assert_eq!(found, expected);
    let sampled = home.vault.verify().sample(2).unwrap().run().await.unwrap();
    assert_eq!((sampled.findings_count, sampled.rows_opened), (2, 0));

    // The row is whole, and its key is not.
    let row = home.database.raw_row(shared).await.unwrap();
    let key = {
        use base64::Engine;
        let header = &row.stored.strip_prefix("cv1.").unwrap()[..28];
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
        Uuid::from_slice(&bytes[4..20]).unwrap()
    };
    home.database.set(shared, &format!("encryption_key_id = '{key}'")).await;
    home.database.execute(&format!("DELETE FROM vault_key_material WHERE data_key_id = '{key}'")).await;
    let cold = home.open().await;
    let findings = cold.verify().run().await.unwrap().findings;
    let named = |finding: &Finding| {
        matches!(finding, Finding::Row { integration, problem: Problem::KeyGone(column) }
            if *integration == shared && *column == key.to_string())
    };
    assert!(findings.iter().any(named), "{findings:?}");
}

async fn a_legacy_row_without_its_placeholder_is_named(database: TestDatabase) {
    let home = Home::begin(database).await;
    let legacy = add_legacy_rows(&home.database).await;
    let verification = home.vault.verify().run().await.unwrap();
    assert_eq!(verification.rows_unopened, legacy.len() as u64);
    assert_eq!(verification.findings_count, 0);

    home.drop_guard_of_keys().await;
    home.database.execute("DELETE FROM vault_key_material WHERE data_key_id = 'v1'").await;
    let verification = home.vault.verify().run().await.unwrap();
    assert_eq!(verification.rows_unopened, 0);
    assert_eq!(verification.findings_count, legacy.len() as u64);
    let of_v1 = |finding: &Finding| {
        matches!(finding, Finding::Row { problem: Problem::KeyGone(column), .. }
            if *column == DataKeyId::LEGACY.to_string())
    };
    assert!(verification.findings.iter().all(of_v1), "{:?}", verification.findings);
}

async fn a_credential_without_an_integration_is_named_in_every_row_and_in_a_sample(database: TestDatabase) {
    let home = Home::begin(database).await;
    home.drop_guard_of_integrations().await;
    let gone = home.shared.integration;
    home.database.execute(&format!("DELETE FROM integrations WHERE id = '{gone}'")).await;
    let expected = format!("integration {gone}: there is no such integration, and a credential of it");
    assert_eq!(home.findings().await, std::slice::from_ref(&expected));
    let sampled = home.vault.verify().sample(2).unwrap().run().await.unwrap();
    assert_eq!((sampled.findings_count, sampled.rows_opened), (1, 1));
    assert_eq!(sampled.findings[0].to_string(), expected);
}

async fn findings_beyond_the_first_thousand_are_counted(database: TestDatabase) {
    let home = Home::begin(database).await;
    home.drop_guard_of_integrations().await;
    let dialect = home.database.dialect();
    let insert = match dialect {
        Dialect::Postgres => {
            "INSERT INTO integration_credentials
                    (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             SELECT gen_random_uuid(), gen_random_uuid(), 'token', 'nobody''s', 'v1' FROM generate_series(1, 1500)"
        }
        Dialect::Sqlite => {
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1500)
             INSERT INTO integration_credentials
                    (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             SELECT printf('00000000-0000-4000-8000-%012d', n), printf('00000000-0000-4000-9000-%012d', n),
                    'token', 'nobody''s', 'v1'
               FROM numbers"
        }
    };
    home.database.execute(insert).await;
    let verification = home.vault.verify().run().await.unwrap();
    assert_eq!((verification.findings_count, verification.findings.len()), (1_500, credvault::MAX_FINDINGS));
    assert_eq!(verification.rows_opened, 2);
}

async fn an_entry_of_the_quarantine_without_its_credential_is_named(database: TestDatabase) {
    let home = Home::begin(database).await;
    let (organization, integration) = (home.shared.organization, home.shared.integration);
    home.database.set(integration, "credential_type = 'oauth2'").await;
    assert_eq!(home.vault.rotation().force().run().await.unwrap().quarantined, 1);
    assert_eq!(home.findings().await.len(), 1, "the row, and not its entry");
    assert!(home.vault.organization(organization).delete(integration).await.unwrap());
    assert_eq!(
        home.findings().await,
        [format!("quarantine of integration {integration}: there is no such credential any more")]
    );
    home.vault.quarantine().retry().await.unwrap();
    assert_eq!(home.findings().await, [] as [String; 0]);
}

async fn a_legacy_row_that_expires_at_no_time_is_a_row_like_any_other(database: TestDatabase) {
    let home = Home::begin(database).await;
    let legacy = add_legacy_rows(&home.database).await;
    let moments = match home.database.dialect() {
        Dialect::Postgres => ["'infinity'", "'-infinity'"],
        Dialect::Sqlite => ["9223372036854775807", "-9223372036854775808"],
    };
    for (row, moment) in legacy.iter().zip(moments) {
        home.database.set(row.integration, &format!("expires_at = {moment}")).await;
    }
    assert_eq!(home.findings().await, [] as [String; 0]);
    home.vault.adoption(salt(&legacy_salt())).run().await.unwrap();
    let verification = home.vault.verify().run().await.unwrap();
    assert_eq!((verification.findings_count, verification.rows_unopened), (0, 0));
    assert_eq!(verification.rows_opened, 2 + legacy.len() as u64);
}
