//! How a vault is made and opened, and with which master keys.

use credvault::{ErrorKind, KeyState, Vault, provider};

use crate::common::vault::MasterKeyParts;
use crate::common::{self, Dialect, KeyFiles, TestDatabase, on_both_stores, read_token, token};

on_both_stores!(
    open_never_makes_a_vault,
    open_never_migrates_and_never_begins_a_vault_in_a_migrated_database,
    a_wrong_master_key_fails_at_open_and_touches_nothing,
    further_master_keys_are_accepted,
    a_vault_begins_with_one_master_key_that_is_certain,
    running_services_follow_a_rewrap_without_a_restart,
    of_eight_that_begin_a_vault_at_once_one_makes_it_and_all_open_it,
    a_first_key_that_was_left_pre_active_is_finished_by_the_next_init,
);

async fn open_never_makes_a_vault(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    let error = Vault::open(database.url(), &spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");
    assert!(error.to_string().contains("credvault init"), "{error}");
    match database.dialect() {
        Dialect::Postgres => {
            let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
            assert_eq!(database.fetch_one_text(tables).await.as_deref(), Some("0"));
        }
        Dialect::Sqlite => {
            let path = database.url().strip_prefix("sqlite:").unwrap();
            assert!(!std::path::Path::new(path).exists(), "open made {path}");
        }
    }
}

async fn open_never_migrates_and_never_begins_a_vault_in_a_migrated_database(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    credvault::migrate(database.url()).await.unwrap();
    let before = database.dump().await;
    let error = Vault::open(database.url(), &spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");
    assert_eq!(database.dump().await, before);
}

async fn a_wrong_master_key_fails_at_open_and_touches_nothing(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("right.key")).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();

    let right = keys.key("right.key");
    let mut other_bytes = right;
    other_bytes.key[31] ^= 1;
    let same_id = keys.write("same id.key", &other_bytes.line());
    let other = keys.generate("other.key");
    let other_id = keys.key("other.key").id;
    let same_key = keys.write("same key.key", &MasterKeyParts { id: other_id, key: right.key }.line());
    let id = uuid::Uuid::from_bytes(right.id).to_string();

    let before = database.dump().await;
    for (spec, kind) in [
        (&same_id, ErrorKind::KeyMismatch),
        (&other, ErrorKind::KeyUnavailable),
        (&same_key, ErrorKind::KeyUnavailable),
        (&keys.spec("missing.key"), ErrorKind::Provider),
        (&"env:CREDVAULT_TEST_VARIABLE_THAT_NOBODY_SETS".to_owned(), ErrorKind::Provider),
        (&"passphrase:env:CREDVAULT_TEST_VARIABLE_THAT_NOBODY_SETS".to_owned(), ErrorKind::KeyUnavailable),
    ] {
        let error = Vault::open(database.url(), spec).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{spec}: {error}");
        if kind != ErrorKind::Provider {
            assert!(error.to_string().contains(&id), "{spec}: the key that is needed is named: {error}");
        }
        let builder = Vault::builder().url(database.url()).master_key(spec).unwrap();
        let error = builder.create_if_missing().build().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{spec}, if missing: {error}");
    }
    assert_eq!(database.dump().await, before);
    database.open_vault(&keys.write("copy.key", &right.line())).await;
}

async fn further_master_keys_are_accepted(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    database.create_vault(&first).await;
    let both = [keys.key("second.key").line(), "# and\n\n".to_owned(), keys.key("first.key").line()];
    let both = keys.write("both.key", &both.concat());
    database.open_vault(&both).await;
    for order in [[&second, &first], [&first, &second], [&first, &first]] {
        let [one, two] = order;
        let builder = Vault::builder().url(database.url()).master_key(one).unwrap();
        builder.master_key(two).unwrap().build().await.unwrap();
    }
}

async fn a_vault_begins_with_one_master_key_that_is_certain(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    let both = [keys.key("first.key").line(), keys.key("second.key").line()].concat();
    for spec in [keys.write("both.key", &both), keys.write("none.key", "# none\n"), keys.spec("missing.key")]
    {
        let builder = Vault::builder().url(database.url()).master_key(&spec).unwrap();
        let error = builder.create_if_missing().build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider, "{spec}: {error}");
        let vaults = database.fetch_one_text("SELECT count(*) FROM vault_identity").await;
        assert_eq!(vaults.as_deref(), Some("0"));
    }
    // Of several providers the first one's key becomes the vault's.
    let builder = Vault::builder().url(database.url()).master_key(&first).unwrap();
    let vault = builder.master_key(&second).unwrap().create_if_missing().build().await.unwrap();
    let status = vault.status().await.unwrap();
    let ids: Vec<_> = status.master_keys.iter().map(|key| *key.id.as_bytes()).collect();
    assert_eq!(ids, [keys.key("first.key").id]);
}

async fn running_services_follow_a_rewrap_without_a_restart(database: TestDatabase) {
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    database.create_vault(&first).await;
    let service = async || {
        let builder = Vault::builder().url(database.url()).master_key(&first).unwrap();
        builder.master_key(&second).unwrap().build().await.unwrap()
    };
    let (warm, cold, operator) = (service().await, service().await, service().await);
    let (organization, integration) = database.add_tenant().await;
    warm.organization(organization).put(integration, &token("before")).await.unwrap();
    assert_eq!(read_token(&warm.organization(organization), integration).await, "before");

    let report = operator.rewrap(provider::from_spec(&second).unwrap()).run().await.unwrap();
    assert_eq!(report.rewrapped, 1);
    for service in [&warm, &cold] {
        let organization = service.organization(organization);
        let before = read_token(&organization, integration).await;
        assert!(before == "before" || before == "written after the rewrap");
        organization.put(integration, &token("written after the rewrap")).await.unwrap();
        assert_eq!(read_token(&organization, integration).await, "written after the rewrap");
        // Also a new data key, which only the new master key has wrapped.
        service.keys().create(organization.id()).await.unwrap();
        organization.put(integration, &token("written after the rewrap")).await.unwrap();
    }
    // A service that only ever got the old key can't unwrap what it hasn't got yet, and says which key it needs.
    let error = Vault::open(database.url(), &first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
    assert!(error.to_string().contains(&report.master_key.to_string()), "{error}");
    let status = warm.status().await.unwrap();
    let wraps: Vec<_> = status.master_keys.iter().map(|key| (key.state, key.wraps)).collect();
    assert_eq!(wraps, [(KeyState::Deactivated, 0), (KeyState::Active, 3)]);
}

async fn of_eight_that_begin_a_vault_at_once_one_makes_it_and_all_open_it(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    let beginning: Vec<_> = (0..8)
        .map(|_| {
            let builder = Vault::builder().url(database.url()).master_key(&spec).unwrap();
            tokio::spawn(builder.create_if_missing().build())
        })
        .collect();
    let mut vaults = Vec::new();
    for begun in beginning {
        vaults.push(begun.await.unwrap().unwrap());
    }
    for vault in &vaults {
        assert_eq!(vault.id(), vaults[0].id());
        let (organization, integration) = database.add_tenant().await;
        vault.organization(organization).put(integration, &token("t")).await.unwrap();
    }
    let counts = database
        .fetch_text(
            "SELECT (SELECT count(*) FROM vault_identity),
                    (SELECT count(*) FROM vault_master_keys WHERE state = 'active'),
                    (SELECT count(*) FROM vault_master_keys),
                    (SELECT count(*) FROM vault_data_keys WHERE state = 'active'),
                    (SELECT count(*) FROM vault_data_keys WHERE id <> 'v1')",
        )
        .await;
    assert_eq!(counts[0], vec![Some("1".to_owned()); 5]);
    assert!(vaults[0].verify().run().await.unwrap().findings.is_empty());
}

async fn a_first_key_that_was_left_pre_active_is_finished_by_the_next_init(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    database.create_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;
    let leave_pre_active = "UPDATE vault_data_keys SET state = 'pre-active', activated_at = NULL
                             WHERE id <> 'v1'";
    database.execute(leave_pre_active).await;

    let vault = database.open_vault(&spec).await;
    let error = vault.organization(organization).put(integration, &token("t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");
    assert!(error.to_string().contains("credvault init"), "{error}");
    assert!(database.raw_row(integration).await.is_none());

    let other = keys.generate("other.key");
    let builder = Vault::builder().url(database.url()).master_key(&other).unwrap();
    let error = builder.create_if_missing().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "only the right master key finishes it");

    database.create_vault(&spec).await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    let states: Vec<_> = vault
        .keys()
        .list()
        .await
        .unwrap()
        .into_iter()
        .filter(|key| !key.id.is_legacy())
        .map(|key| (key.state, key.activated_at.is_some()))
        .collect();
    assert_eq!(states, [(KeyState::Active, true)], "it is the first key that was finished, not another");

    // A rotation does so, too.
    database.execute(&format!("DELETE FROM integration_credentials; {leave_pre_active}")).await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!(report.new_keys.len(), 1);
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
}

#[tokio::test]
async fn open_leaves_an_sqlite_file_that_holds_no_vault_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("another program's.db");
    let url = format!("sqlite:{}", path.display());
    let mut connection =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("{url}?mode=rwc")).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id INTEGER)").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let keys = KeyFiles::new();
    let error = Vault::open(&url, &keys.generate("master.key")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialized, "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}
