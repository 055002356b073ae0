//! What someone changed in the records of keys.

use std::collections::HashSet;

use credvault::{DataKeyId, ErrorKind, Finding, KeyState, Outcome, Problem, Vault};
use uuid::Uuid;

use crate::common::{self, Dialect, TestDatabase, on_both_stores, read, token};
use crate::{
    Home, REFUSALS, begin, cv1, decoded, flipped_bits, flipped_characters, quoted, refused, reshaped,
};

on_both_stores!(
    every_changed_bit_of_a_wrapped_key_is_noticed,
    a_record_that_names_no_key_is_a_finding_and_stops_nothing,
    exchanged_records_of_keys_are_noticed
);

/// The active shared key.
pub(crate) async fn shared_key(vault: &Vault) -> DataKeyId {
    let keys = vault.keys().list().await.unwrap();
    let active = |key: &&credvault::DataKeySummary| key.state == KeyState::Active;
    keys.iter().filter(active).find(|key| key.organization_id.is_none()).unwrap().id
}

/// What a vault that has not unwrapped anything yet answers, and what verify finds.
async fn assert_key_refused(home: &Home, key: DataKeyId, what: &str) -> ErrorKind {
    let cold = home.pool.open_vault(&home.spec).await;
    let organization = cold.organization(home.organization.id());
    let kind = refused(&organization, home.integration, what).await;
    let error = organization.put(home.integration, &token("no")).await.unwrap_err();
    assert!(REFUSALS.contains(&error.kind()), "{what}: {error:?}");
    let findings = cold.verify().run().await.unwrap().findings;
    let found = findings.iter().any(|finding| matches!(finding, Finding::Key { key: id, .. } if *id == key));
    assert!(found, "{what}: {findings:?}");
    kind
}

async fn every_changed_bit_of_a_wrapped_key_is_noticed(database: TestDatabase) {
    let home = begin(&database).await;
    let key = shared_key(&home.vault).await;
    let material = format!("SELECT wrapped_key FROM vault_key_material WHERE data_key_id = '{key}'");
    let right = database.fetch_one_text(&material).await.unwrap();
    let mut texts: HashSet<_> = flipped_characters(&right).step_by(3).collect();
    texts.extend(flipped_bits(&decoded(&right), cv1));
    texts.extend(reshaped(&right).into_iter().filter(|text| text.len() < 4_000).step_by(5));
    let mut connection = database.connect().await;
    let mut set = async |text: &str| {
        let sql = format!(
            "UPDATE vault_key_material SET wrapped_key = {} WHERE data_key_id = '{key}'",
            quoted(text)
        );
        assert_eq!(connection.execute(&sql).await, 1);
    };
    for text in &texts {
        set(text).await;
        assert_key_refused(&home, key, text).await;
    }
    set(&right).await;

    let check = match database.dialect() {
        Dialect::Postgres => "encode(key_check, 'hex')",
        Dialect::Sqlite => "hex(key_check)",
    };
    let check = format!("SELECT {check} FROM vault_data_keys WHERE id = '{key}'");
    let check = u128::from_str_radix(&database.fetch_one_text(&check).await.unwrap(), 16).unwrap();
    for bit in 0..128 {
        let changed = format!("{:032x}", check ^ (1 << bit));
        let bytes = match database.dialect() {
            Dialect::Postgres => format!("decode('{changed}', 'hex')"),
            Dialect::Sqlite => format!("x'{changed}'"),
        };
        let sql = format!("UPDATE vault_data_keys SET key_check = {bytes} WHERE id = '{key}'");
        assert_eq!(connection.execute(&sql).await, 1);
        if bit % 8 == 0 {
            assert_eq!(assert_key_refused(&home, key, &changed).await, ErrorKind::Tampered);
        } else {
            let cold = home.pool.open_vault(&home.spec).await.organization(home.organization.id());
            assert_eq!(refused(&cold, home.integration, &changed).await, ErrorKind::Tampered);
        }
    }
}

/// On PostgreSQL and SQLite alike the column takes any short text.
async fn a_record_that_names_no_key_is_a_finding_and_stops_nothing(database: TestDatabase) {
    let home = begin(&database).await;
    database
        .execute(
            "INSERT INTO vault_data_keys (id, state, key_check)
             SELECT 'no key''s id', 'deactivated', key_check FROM vault_data_keys WHERE id <> 'v1'",
        )
        .await;
    let findings = home.vault.verify().run().await.unwrap().findings;
    assert!(
        matches!(
            &findings[..],
            [Finding::KeyRecord { problem: Problem::DoesNotOpen(ErrorKind::Malformed, _) }]
        ),
        "{findings:?}"
    );
    assert_eq!(home.vault.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
    home.vault.status().await.unwrap();
}

async fn exchanged_records_of_keys_are_noticed(database: TestDatabase) {
    let home = begin(&database).await;
    let shared = shared_key(&home.vault).await;
    let own = home.vault.keys().create(home.organization.id()).await.unwrap();
    home.organization.put(home.integration, &token("ghp_right")).await.unwrap();
    let other_organization = database.add_organization().await;
    let other_own = home.vault.keys().create(other_organization).await.unwrap();
    let other_master = Uuid::new_v4();
    database
        .execute(&format!(
            "INSERT INTO vault_master_keys (id, provider, provider_record, key_check, state)
             SELECT '{other_master}', provider, provider_record, key_check, 'deactivated' FROM vault_master_keys"
        ))
        .await;
    let exchange = |table: &str, column: &str, id: &str, with: DataKeyId| {
        format!(
            "UPDATE {table} SET {column} = other.{column}
               FROM (SELECT {id} AS id, {column} FROM {table}) AS other
              WHERE {table}.{id} IN ('{own}', '{with}') AND other.id IN ('{own}', '{with}')
                AND other.id <> {table}.{id}"
        )
    };
    let of_another =
        format!("UPDATE vault_data_keys SET organization_id = '{}' WHERE id = '{own}'", Uuid::new_v4());
    let changes = [
        vec![exchange("vault_key_material", "wrapped_key", "data_key_id", shared)],
        vec![exchange("vault_key_material", "wrapped_key", "data_key_id", other_own)],
        vec![exchange("vault_data_keys", "key_check", "id", shared)],
        vec![
            exchange("vault_key_material", "wrapped_key", "data_key_id", shared),
            exchange("vault_data_keys", "key_check", "id", shared),
        ],
        vec![
            exchange("vault_key_material", "wrapped_key", "data_key_id", other_own),
            exchange("vault_data_keys", "key_check", "id", other_own),
        ],
        vec![of_another],
        vec![format!(
            "UPDATE vault_key_material SET master_key_id = '{other_master}' WHERE data_key_id = '{own}'"
        )],
        vec![format!(
            "UPDATE vault_data_keys SET organization_id = NULL, state = 'deactivated' WHERE id = '{own}'"
        )],
    ];
    for change in &changes {
        // Opened before, as it has to be where a master key seems to be needed that nobody has.
        let cold = home.pool.open_vault(&home.spec).await;
        let organization = cold.organization(home.organization.id());
        let mut connection = database.connect().await;
        let before = database.dump().await;
        let keys = "CREATE TABLE keys_before AS SELECT * FROM vault_data_keys;
                    CREATE TABLE material_before AS SELECT * FROM vault_key_material";
        connection.execute(keys).await;
        for sql in change {
            assert!(connection.execute(sql).await > 0, "{sql}");
        }
        assert_eq!(
            refused(&organization, home.integration, &change[0]).await,
            ErrorKind::Tampered,
            "{change:?}"
        );
        let findings = cold.verify().run().await.unwrap().findings;
        let found = |finding: &Finding| matches!(finding, Finding::Key { key, .. } if *key == own);
        assert!(findings.iter().any(found), "{change:?}: {findings:?}");
        connection
            .execute(
                "UPDATE vault_data_keys
                    SET key_check = b.key_check, organization_id = b.organization_id, state = b.state
                   FROM keys_before AS b WHERE b.id = vault_data_keys.id;
                 UPDATE vault_key_material
                    SET wrapped_key = b.wrapped_key, master_key_id = b.master_key_id
                   FROM material_before AS b WHERE b.data_key_id = vault_key_material.data_key_id;
                 DROP TABLE keys_before; DROP TABLE material_before",
            )
            .await;
        assert_eq!(database.dump().await, before);
        assert_eq!(read(&organization, home.integration).await.unwrap().unwrap().0, "ghp_right");
    }

    // What belongs to the master key and to the vault itself is noticed at open.
    for (change, undo) in [
        (
            format!("UPDATE vault_identity SET vault_id = '{}'", Uuid::new_v4()),
            format!("UPDATE vault_identity SET vault_id = '{}'", home.vault.id()),
        ),
        (
            "UPDATE vault_master_keys SET key_check = (SELECT key_check FROM vault_data_keys WHERE id <> 'v1' LIMIT 1)"
                .to_owned(),
            String::new(),
        ),
    ] {
        database.execute(&change).await;
        let error = Vault::open(database.url(), &home.spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyMismatch, "{change}: {error}");
        database.execute(&undo).await;
    }
}
