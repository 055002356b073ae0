//! A vault whose master key Azure wraps.

use credvault::provider::{ProviderContext, ProviderRecord};
use credvault::{ErrorKind, Outcome, Vault};
use uuid::Uuid;

use super::keys::{forged, key_check, planted};
use super::{Key, assert_says, version_of};
use crate::common::{Dialect, TestDatabase, read_token, token};

/// The vault's id, and the id and record of its one master key.
async fn master_key(database: &TestDatabase) -> (Uuid, Uuid, ProviderRecord) {
    let text = async |sql: &str| database.fetch_one_text(sql).await.unwrap();
    let id = async |sql: &str| Uuid::parse_str(&text(sql).await).unwrap();
    (
        id("SELECT vault_id FROM vault_identity").await,
        id("SELECT id FROM vault_master_keys").await,
        ProviderRecord::new(text("SELECT provider_record FROM vault_master_keys").await).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_by_the_public_half_does_not_take_the_place_of_the_true_one() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let key = Key::rsa();
    let vault = database.create_vault(&key.spec()).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    vault.close().await;

    let (vault, id, record) = master_key(&database).await;
    let (context, version) = (ProviderContext::new(vault.into(), id.into()), version_of(&record));
    for (record, kind) in [
        (forged(&key, &version, &[9; 32]), ErrorKind::Tampered),
        (planted(&key, &version, &[9; 32], &context), ErrorKind::KeyMismatch),
    ] {
        database
            .execute(&format!("UPDATE vault_master_keys SET provider_record = '{}'", record.as_str()))
            .await;
        let before = database.dump().await;
        let error = Vault::open(database.url(), &key.spec()).await.unwrap_err();
        assert_says(&error, kind, &[]);
        assert_eq!(database.dump().await, before);
    }
    database.execute(&format!("UPDATE vault_master_keys SET provider_record = '{}'", record.as_str())).await;
    let vault = database.open_vault(&key.spec()).await;
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
}

/// What the manual says that an RSA key does not protect from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_planted_by_the_public_half_gets_everything_at_the_next_rotation_or_rewrap() {
    for by in [Change::Rotation, Change::Rewrap] {
        let database = TestDatabase::create(Dialect::Sqlite).await;
        let key = Key::rsa();
        let vault = database.create_vault(&key.spec()).await;
        let (organization, integration) = database.add_tenant().await;
        vault.organization(organization).put(integration, &token("t")).await.unwrap();
        vault.close().await;

        let (vault, _, record) = master_key(&database).await;
        let (theirs, id) = ([9; 32], Uuid::new_v4());
        let context = ProviderContext::new(vault.into(), id.into());
        let record = planted(&key, &version_of(&record), &theirs, &context);
        let check: String = key_check(&theirs, vault, id).iter().map(|byte| format!("{byte:02x}")).collect();
        database
            .execute("UPDATE vault_master_keys SET state = 'deactivated', deactivated_at = activated_at")
            .await;
        database
            .execute(&format!(
                "INSERT INTO vault_master_keys
                        (id, provider, provider_record, key_check, state, created_at, activated_at)
                 SELECT '{id}', provider, '{}', x'{check}', 'active', created_at, activated_at FROM vault_master_keys",
                record.as_str()
            ))
            .await;

        let vault = database.open_vault(&key.spec()).await;
        let findings = vault.verify().run().await.unwrap().findings;
        assert!(findings.is_empty(), "verify notices it, and the manual says that it doesn't: {findings:?}");
        let wrapper = async || {
            let key = database.raw_row(integration).await.unwrap().key_column;
            let sql = format!("SELECT master_key_id FROM vault_key_material WHERE data_key_id = '{key}'");
            database.fetch_one_text(&sql).await.unwrap()
        };
        assert_ne!(wrapper().await, id.to_string(), "what is stored is closed to them until then");
        match by {
            Change::Rotation => {
                let report = vault.rotation().force().run().await.unwrap();
                assert_eq!(report.outcome, Outcome::Complete);
            }
            Change::Rewrap => {
                let next = credvault::provider::from_spec(&key.spec()).unwrap();
                assert_eq!(vault.rewrap(next).run().await.unwrap().outcome, Outcome::Complete);
            }
        }
        assert!(vault.verify().run().await.unwrap().findings.is_empty());
        assert_eq!(wrapper().await, id.to_string(), "{by:?}");
        assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
    }
}

/// What changes which master key a row is under.
#[derive(Clone, Copy, Debug)]
enum Change {
    Rotation,
    Rewrap,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_after_a_rotation_has_the_newest_version_wrap_the_same_key() {
    for key in [Key::rsa(), Key::hsm()] {
        let database = TestDatabase::create(Dialect::Sqlite).await;
        let vault = database.create_vault(&key.spec()).await;
        let (organization, integration) = database.add_tenant().await;
        vault.organization(organization).put(integration, &token("t")).await.unwrap();
        let before = database.dump().await;
        let record = || database.fetch_one_text("SELECT provider_record FROM vault_master_keys");
        let first = record().await.unwrap();

        let newest = key.rotate();
        key.actions();
        assert!(vault.refresh_master_keys().await.unwrap()[0].refreshed);
        assert_eq!(key.actions(), ["unwrapkey", "wrapkey", "unwrapkey"]);
        let after = database.dump().await;
        let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
        assert_eq!(changed, 1, "the record alone");
        assert!(record().await.unwrap().contains(&newest));

        // The version before is not needed any more.
        let first = version_of(&ProviderRecord::new(first).unwrap());
        key.disable(&first);
        let vault = database.open_vault(&key.spec()).await;
        assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
        key.disable(&newest);
        let error = vault.refresh_master_keys().await.unwrap_err();
        assert_says(&error, ErrorKind::KeyUnavailable, &["disabled"]);
        assert_eq!(database.dump().await, after);
    }
}
