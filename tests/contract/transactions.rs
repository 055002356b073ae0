//! `put_in` and `update_in`: inside the caller's transaction, on the caller's connection alone.

use std::time::Duration;

use credvault::{Connection, ErrorKind, IntegrationId, Organization, Vault};
use sqlx::{Connection as _, Executor, SqliteConnection};
use tokio::time::timeout;
use uuid::Uuid;

use crate::common::{
    self, Dialect, KeyFiles, Pool, RawConnection, TestDatabase, on_both_stores, read, read_token, token,
};

on_both_stores!(
    an_integration_and_its_credential_are_made_in_one_transaction,
    update_in_is_undone_with_its_transaction,
    what_put_in_refuses_leaves_the_transaction_usable,
    a_pool_of_one_connection_does_not_deadlock,
    a_connection_to_the_other_kind_of_database_is_invalid_input,
    in_repeatable_read_a_row_that_was_re_encrypted_meanwhile_is_a_retryable_error,
);

async fn begin(database: &TestDatabase) -> (KeyFiles, Vault, Organization) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let organization = vault.organization(database.add_organization().await);
    (keys, vault, organization)
}

async fn an_integration_and_its_credential_are_made_in_one_transaction(database: TestDatabase) {
    let (keys, vault, organization) = begin(&database).await;
    let cold = database.open_vault(&keys.spec("master.key")).await.organization(organization.id());
    let mut connection = database.connect().await;
    let before = database.dump().await;
    for vault in [&organization, &cold] {
        connection.begin().await;
        let integration = connection.add_integration(&organization, "github").await;
        vault.put_in(connection.lend(), integration, &token("undone")).await.unwrap();
        connection.execute("ROLLBACK").await;
        assert_eq!(database.dump().await, before, "a rollback leaves nothing");
    }

    connection.begin().await;
    let integration = connection.add_integration(&organization, "github").await;
    let revision = organization.put_in(connection.lend(), integration, &token("first")).await.unwrap();
    assert!(cold.get(integration).await.unwrap().is_none(), "nobody sees it before the commit");
    let second = token("second");
    let updated = organization.update_in(connection.lend(), integration, &revision, &second).await.unwrap();
    connection.execute("COMMIT").await;
    assert_eq!(read(&cold, integration).await.unwrap().unwrap(), ("second".to_owned(), updated));
    assert!(vault.verify().run().await.unwrap().findings.is_empty());
}

async fn update_in_is_undone_with_its_transaction(database: TestDatabase) {
    let (_keys, _vault, organization) = begin(&database).await;
    let integration = organization.ensure_integration("github").await.unwrap();
    let revision = organization.put(integration, &token("stands")).await.unwrap();
    let mut connection = database.connect().await;
    connection.begin().await;
    organization.update_in(connection.lend(), integration, &revision, &token("undone")).await.unwrap();
    connection.execute("ROLLBACK").await;
    assert_eq!(read(&organization, integration).await.unwrap().unwrap(), ("stands".to_owned(), revision));
}

async fn what_put_in_refuses_leaves_the_transaction_usable(database: TestDatabase) {
    let (_keys, vault, organization) = begin(&database).await;
    let integration = organization.ensure_integration("github").await.unwrap();
    let stale = organization.put(integration, &token("first")).await.unwrap();
    organization.put(integration, &token("second")).await.unwrap();
    let stranger = vault.organization(Uuid::new_v4());
    let mut connection = database.connect().await;
    connection.begin().await;
    let slack = connection.add_integration(&organization, "slack").await;
    let error = organization.update_in(connection.lend(), integration, &stale, &token("no")).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
    let error = stranger.put_in(connection.lend(), integration, &token("no")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    organization.put_in(connection.lend(), slack, &token("yes")).await.unwrap();
    connection.execute("COMMIT").await;
    assert_eq!(read_token(&organization, integration).await, "second");
    assert_eq!(read_token(&organization, slack).await, "yes");
}

/// Puts in a transaction on the pool's one connection while `meanwhile` waits for it.
async fn put_on(
    pool: &Pool,
    organization: &Organization,
    integration: IntegrationId,
    meanwhile: impl AsyncFnOnce(),
) {
    let put = token("put_in");
    match pool {
        Pool::Postgres(pool) => {
            let mut transaction = pool.begin().await.unwrap();
            meanwhile().await;
            organization.put_in(&mut *transaction, integration, &put).await.unwrap();
            transaction.commit().await.unwrap();
        }
        Pool::Sqlite(pool) => {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            meanwhile().await;
            organization.put_in(&mut *transaction, integration, &put).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
}

async fn a_pool_of_one_connection_does_not_deadlock(database: TestDatabase) {
    let (keys, _vault, organization) = begin(&database).await;
    let integration = organization.ensure_integration("github").await.unwrap();
    let other = organization.ensure_integration("slack").await.unwrap();
    organization.put(other, &token("there")).await.unwrap();
    let pool = database.pool(1).await;
    // A vault with a cold keyring, then the same with a warm one.
    let vault = pool.open_vault(&keys.spec("master.key")).await;
    let organization = vault.organization(organization.id());
    for _ in 0..2 {
        let mut waiting = Vec::new();
        let whole = put_on(&pool, &organization, integration, async || {
            for number in 0..8 {
                let organization = organization.clone();
                waiting.push(tokio::spawn(async move {
                    if number % 2 == 0 {
                        organization.put(other, &token("there")).await.unwrap();
                    }
                    read_token(&organization, other).await
                }));
            }
            // Until they all wait: those that put hold the keyring's place for the key that put_in needs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(waiting.iter().all(|call| !call.is_finished()));
        });
        timeout(Duration::from_secs(20), whole).await.expect("put_in waits for itself");
        for call in waiting {
            let read = timeout(Duration::from_secs(20), call).await.expect("a call waits for ever");
            assert_eq!(read.unwrap(), "there");
        }
        assert_eq!(read_token(&organization, integration).await, "put_in");
    }
}

async fn a_connection_to_the_other_kind_of_database_is_invalid_input(database: TestDatabase) {
    let (keys, _vault, organization) = begin(&database).await;
    let integration = organization.ensure_integration("github").await.unwrap();
    let cold = database.open_vault(&keys.spec("master.key")).await.organization(organization.id());
    let revision = organization.put(integration, &token("stands")).await.unwrap();
    let mut other = match database.dialect() {
        Dialect::Postgres => {
            RawConnection::Sqlite(SqliteConnection::connect("sqlite::memory:").await.unwrap())
        }
        Dialect::Sqlite => TestDatabase::create(Dialect::Postgres).await.connect().await,
    };
    for organization in [&organization, &cold] {
        let put = organization.put_in(other.lend(), integration, &token("no")).await.unwrap_err();
        let update = organization.update_in(other.lend(), integration, &revision, &token("no")).await;
        for error in [put, update.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
    assert_eq!(read_token(&organization, integration).await, "stands");
}

async fn in_repeatable_read_a_row_that_was_re_encrypted_meanwhile_is_a_retryable_error(
    database: TestDatabase,
) {
    let (_keys, vault, organization) = begin(&database).await;
    let integration = organization.ensure_integration("github").await.unwrap();
    organization.put(integration, &token("before")).await.unwrap();
    // On SQLite a transaction that began as a reader meets the same when it becomes a writer.
    let begin = match database.dialect() {
        Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        Dialect::Sqlite => "BEGIN DEFERRED",
    };
    let mut connection = database.connect().await;
    connection.execute(begin).await;
    // Takes the snapshot.
    match connection.lend() {
        Connection::Postgres(connection) => {
            connection.fetch_all("SELECT count(*) FROM integration_credentials").await.unwrap();
        }
        Connection::Sqlite(connection) => {
            connection.fetch_all("SELECT count(*) FROM integration_credentials").await.unwrap();
        }
        _ => unreachable!(),
    }
    // It knows that the transaction may still write under the key of before.
    let report = vault.rotation().force().max_wait(Duration::ZERO).run().await.unwrap();
    assert_eq!(report.re_encrypted, 1);
    let error = organization.put_in(connection.lend(), integration, &token("no")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true), "{error}");
    connection.execute("ROLLBACK").await;

    connection.begin().await;
    organization.put_in(connection.lend(), integration, &token("in a new transaction")).await.unwrap();
    connection.execute("COMMIT").await;
    assert_eq!(read_token(&organization, integration).await, "in a new transaction");
}
