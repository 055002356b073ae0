//! Records of keys in the place of others: of another key, of another organization, of another vault. The error says which
//! key it is, and what is wrong with it.

use credvault::{DataKeyId, ErrorKind, MasterKeyId, Vault};

use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores, token};
use crate::keys::shared_key;
use crate::{Home, begin, quoted, read_token};

on_both_stores!(
    a_key_in_the_place_of_another_is_named_with_what_is_wrong,
    a_key_of_another_vault_is_refused_and_named,
    a_key_of_another_vault_under_the_same_master_key_is_refused_and_named,
    a_master_key_of_another_vault_is_refused_and_named,
);

/// What a vault keeps of a data key, as SQL takes it.
struct Record {
    id: String,
    master_key: String,
    wrapped: String,
    check: String,
}

impl Record {
    async fn of(database: &TestDatabase, key: DataKeyId) -> Self {
        let (check, bytes) = match database.dialect() {
            Dialect::Postgres => ("encode(k.key_check, 'hex')", "\\x"),
            Dialect::Sqlite => ("hex(k.key_check)", ""),
        };
        let sql = format!(
            "SELECT k.id, m.master_key_id, m.wrapped_key, {check}
               FROM vault_data_keys AS k JOIN vault_key_material AS m ON m.data_key_id = k.id
              WHERE k.id = '{key}'"
        );
        let row = database.fetch_text(&sql).await.remove(0);
        let [id, master_key, wrapped, check] = row.try_into().unwrap();
        let check = format!("'{bytes}{}'", check.unwrap());
        let check = if bytes.is_empty() { format!("x{check}") } else { format!("{check}::bytea") };
        Self { id: id.unwrap(), master_key: master_key.unwrap(), wrapped: quoted(&wrapped.unwrap()), check }
    }

    /// Puts it in the place of `key`.
    async fn put_in(&self, database: &TestDatabase, key: DataKeyId) {
        let Self { master_key, wrapped, check, .. } = self;
        database
            .execute(&format!(
                "UPDATE vault_key_material SET wrapped_key = {wrapped}, master_key_id = '{master_key}'
                  WHERE data_key_id = '{key}';
                 UPDATE vault_data_keys SET key_check = {check} WHERE id = '{key}'"
            ))
            .await;
    }
}

/// That a call which needs `key` for the first time says so, in words that name it, and that verify finds it by the same.
async fn assert_refused(vault: &Vault, home: &Home, key: DataKeyId, words: &str) {
    let organization = vault.organization(home.organization.id());
    let read = organization.get(home.integration).await.unwrap_err();
    let put = organization.put(home.integration, &token("no")).await.unwrap_err();
    let findings = vault.verify().run().await.unwrap().findings;
    for error in [&read, &put] {
        assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
        let text = error.to_string();
        assert!(text.contains(&key.to_string()) && text.contains(words), "{text}, and not: {words}");
    }
    let found = findings.iter().map(ToString::to_string).find(|it| it.contains(&format!("data key {key}")));
    assert!(found.as_ref().is_some_and(|text| text.contains(words)), "{words}: {findings:?}");
}

fn not_under(master: &str) -> String {
    format!("does not authenticate under master key {master} in this place")
}

const OTHER_CHECK: &str = "its key check is not the key's";
const OTHER_MASTER: &str = "its column master_key_id names another key than its wrapped text";

async fn a_key_in_the_place_of_another_is_named_with_what_is_wrong(database: TestDatabase) {
    let home = begin(&database).await;
    let shared = shared_key(&home.vault).await;
    let own = home.vault.keys().create(home.organization.id()).await.unwrap();
    home.organization.put(home.integration, &token("ghp_right")).await.unwrap();
    let stranger = database.add_organization().await;
    let of_another = home.vault.keys().create(stranger).await.unwrap();
    let mine = Record::of(&database, own).await;
    let master = mine.master_key.clone();
    for other in [shared, of_another] {
        let theirs = Record::of(&database, other).await;
        // All of it; its wrapped text alone; its check alone.
        for (wrapped, check, words) in [
            (&theirs.wrapped, &theirs.check, not_under(&master)),
            (&theirs.wrapped, &mine.check, not_under(&master)),
            (&mine.wrapped, &theirs.check, OTHER_CHECK.to_owned()),
        ] {
            let record = Record {
                id: own.to_string(),
                master_key: master.clone(),
                wrapped: wrapped.clone(),
                check: check.clone(),
            };
            record.put_in(&database, own).await;
            assert_refused(&home.pool.open_vault(&home.spec).await, &home, own, &words).await;
        }
        mine.put_in(&database, own).await;
    }

    // The record itself in another scope: a key of nobody else's organization, and for all.
    let scope =
        |sql: String| format!("UPDATE vault_data_keys SET organization_id = {sql} WHERE id = '{own}'");
    database
        .execute(&format!("UPDATE vault_data_keys SET state = 'deactivated' WHERE id = '{of_another}'"))
        .await;
    for to in [format!("'{stranger}'"), "NULL".to_owned()] {
        let keep = match to.as_str() {
            "NULL" => format!("UPDATE vault_data_keys SET state = 'deactivated' WHERE id = '{shared}'"),
            _ => String::new(),
        };
        database.execute(&keep).await;
        database.execute(&scope(to.clone())).await;
        let cold = home.pool.open_vault(&home.spec).await;
        let organization = cold.organization(home.organization.id());
        let error = organization.get(home.integration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tampered, "{to}: {error}");
        let text = error.to_string();
        assert!(text.contains(&own.to_string()) && text.contains(&not_under(&master)), "{to}: {text}");
        database.execute(&scope(format!("'{}'", home.organization.id()))).await;
    }
    database.execute(&format!("UPDATE vault_data_keys SET state = 'active' WHERE id = '{shared}'")).await;

    // Under another master key than wrapped it.
    let (next, keys) = (KeyFiles::new(), Record::of(&database, own).await);
    let next = next.generate("next.key");
    home.vault.rewrap(credvault::provider::from_spec(&next).unwrap()).run().await.unwrap();
    let new_master = Record::of(&database, own).await.master_key;
    assert_ne!(new_master, master);
    database
        .execute(&format!(
            "UPDATE vault_key_material SET wrapped_key = {} WHERE data_key_id = '{own}'",
            keys.wrapped
        ))
        .await;
    assert_refused(&home.pool.open_vault(&next).await, &home, own, OTHER_MASTER).await;
    // With the column set back, it is the same key as before, wrapped by a key that is still known by its id.
    keys.put_in(&database, own).await;
    let vault = home.pool.builder().master_key(&next).unwrap().master_key(&home.spec).unwrap().build().await;
    let organization = vault.unwrap().organization(home.organization.id());
    assert_eq!(read_token(&organization, home.integration).await, "ghp_right");
}

/// Another vault, in a database of its own, with the master key of `spec`; gives its shared key's record.
async fn another_vault(dialect: Dialect, spec: &str) -> (TestDatabase, Record) {
    let database = TestDatabase::create(dialect).await;
    let vault = database.create_vault(spec).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("ghp_theirs")).await.unwrap();
    let record = Record::of(&database, shared_key(&vault).await).await;
    (database, record)
}

async fn a_key_of_another_vault_is_refused_and_named(database: TestDatabase) {
    let home = begin(&database).await;
    let key = shared_key(&home.vault).await;
    let keys = KeyFiles::new();
    let spec = keys.generate("their.key");
    let (_theirs, record) = another_vault(database.dialect(), &spec).await;
    assert_ne!(record.master_key, Record::of(&database, key).await.master_key);
    // The text alone, as the database knows no such master key.
    database
        .execute(&format!(
            "UPDATE vault_key_material SET wrapped_key = {} WHERE data_key_id = '{key}'",
            record.wrapped
        ))
        .await;
    assert_refused(&home.pool.open_vault(&home.spec).await, &home, key, OTHER_MASTER).await;
}

async fn a_key_of_another_vault_under_the_same_master_key_is_refused_and_named(database: TestDatabase) {
    let home = begin(&database).await;
    let key = shared_key(&home.vault).await;
    let (_theirs, record) = another_vault(database.dialect(), &home.spec).await;
    assert_eq!(record.master_key, Record::of(&database, key).await.master_key);
    record.put_in(&database, key).await;
    let words = not_under(&record.master_key);
    assert_refused(&home.pool.open_vault(&home.spec).await, &home, key, &words).await;

    // As a key of its own, which is what the other vault calls it.
    let Record { id, master_key, wrapped, check } = &record;
    database
        .execute(&format!(
            "INSERT INTO vault_data_keys (id, state, key_check, activated_at, deactivated_at)
             SELECT '{id}', 'deactivated', {check}, created_at, created_at FROM vault_data_keys WHERE id = '{key}';
             INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
             VALUES ('{id}', '{master_key}', {wrapped})"
        ))
        .await;
    let foreign: DataKeyId = id.parse().unwrap();
    let findings = home.pool.open_vault(&home.spec).await.verify().run().await.unwrap().findings;
    let found = |it: &String| it.contains(&format!("data key {foreign}")) && it.contains(&words);
    assert!(findings.iter().map(ToString::to_string).any(|it| found(&it)), "{findings:?}");
}

async fn a_master_key_of_another_vault_is_refused_and_named(database: TestDatabase) {
    let home = begin(&database).await;
    let key = shared_key(&home.vault).await;
    let keys = KeyFiles::new();
    let spec = keys.generate("their.key");
    let (theirs, record) = another_vault(database.dialect(), &spec).await;
    // All that the other vault has of both, and whoever opens has its master key, too.
    let (check, bytes) = match database.dialect() {
        Dialect::Postgres => ("encode(key_check, 'hex')", "decode('#', 'hex')"),
        Dialect::Sqlite => ("hex(key_check)", "x'#'"),
    };
    let check = theirs.fetch_one_text(&format!("SELECT {check} FROM vault_master_keys")).await.unwrap();
    database
        .execute(&format!(
            "INSERT INTO vault_master_keys (id, provider, provider_record, key_check, state)
             SELECT '{}', provider, provider_record, {}, 'deactivated' FROM vault_master_keys",
            record.master_key,
            bytes.replace('#', &check)
        ))
        .await;
    record.put_in(&database, key).await;
    let builder = || home.pool.builder().master_key(&home.spec).unwrap();
    let error = builder().master_key(&spec).unwrap().build().await.unwrap_err();
    let master: MasterKeyId = record.master_key.parse().unwrap();
    assert_eq!(error.kind(), ErrorKind::KeyMismatch);
    let words = format!("the master key given is not master key {master} of this vault");
    assert!(error.to_string().contains(&words), "{error}");
    // Without it, it is missing.
    let error = builder().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
    assert!(error.to_string().contains(&format!("master key {master}")), "{error}");
}
