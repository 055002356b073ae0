//! A verification writes nothing.

use crate::Home;
use crate::common::legacy::add_legacy_rows;
use crate::common::{self, TestDatabase, on_both_stores};

on_both_stores!(verify_and_the_list_of_the_quarantine_only_read);

/// Where nothing can be written both do all that they do, and the database is as it was, byte for byte.
async fn verify_and_the_list_of_the_quarantine_only_read(database: TestDatabase) {
    let home = Home::begin(database).await;
    add_legacy_rows(&home.database).await;
    home.database.set(home.shared.integration, "credential_type = 'oauth2'").await;
    assert_eq!(home.vault.rotation().force().run().await.unwrap().quarantined, 1);
    let url = match &home.database {
        TestDatabase::Postgres(postgres) => {
            let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
            home.database
                .execute(&format!(
                    "CREATE ROLE {role} LOGIN;
                     ALTER ROLE {role} SET default_transaction_read_only = on;
                     GRANT SELECT ON integration_credentials, integrations, vault_identity, vault_master_keys,
                                     vault_data_keys, vault_key_material, vault_quarantine TO {role}"
                ))
                .await;
            postgres.url_as(&role)
        }
        TestDatabase::Sqlite(_) => format!("{}?mode=ro", home.database.url()),
    };
    let before = home.database.dump().await;
    let spec = home.keys.spec("second.key");
    let reader = credvault::Vault::open(&url, &spec).await.unwrap();
    for verify in [reader.verify(), reader.verify().sample(1_000).unwrap()] {
        let verification = verify.run().await.unwrap();
        assert_eq!((verification.rows_opened, verification.findings_count), (1, 1));
        assert!(verification.rows_unopened > 0 && verification.keys_checked > 3);
    }
    assert_eq!(reader.quarantine().list().await.unwrap().len(), 1);
    assert!(reader.rotation().run().await.is_err(), "this role can write after all");
    assert_eq!(home.database.dump().await, before);
}
