//! Statements, counted as sqlx traces them.

use credvault::Credential;
use time::OffsetDateTime;
use tracing::Instrument;

use crate::Counted;
use crate::common::statements::{counted, counting};
use crate::common::{self, TestDatabase, on_both_stores, read, read_token, token};

on_both_stores!(
    a_hundred_concurrent_first_reads_unwrap_once,
    a_hundred_concurrent_first_writes_unwrap_once,
    with_a_warm_keyring_every_call_is_one_statement,
    what_a_cold_or_stale_keyring_costs_is_bounded,
);

/// How many statements read a data key's record to unwrap it.
fn unwraps(statements: &[String]) -> usize {
    statements.iter().filter(|sql| sql.contains("LEFT JOIN vault_key_material")).count()
}

async fn a_hundred_concurrent_first_reads_unwrap_once(database: TestDatabase) {
    let (counted_vault, organization, integration) = Counted::begin(&database).await;
    let span = counted();
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let organization = organization.clone();
            let read = async move { read_token(&organization, integration).await };
            tokio::spawn(read.instrument(span.clone()))
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), "there");
    }
    let statements = counted_vault.statements_of(&span).await;
    let gets = statements.iter().filter(|sql| sql.contains("c.credential_type")).count();
    assert_eq!((gets, unwraps(&statements)), (100, 1));
}

async fn a_hundred_concurrent_first_writes_unwrap_once(database: TestDatabase) {
    let (counted_vault, organization, integration) = Counted::begin(&database).await;
    let span = counted();
    let writes: Vec<_> = (0..100)
        .map(|_| {
            let organization = organization.clone();
            let write = async move { organization.put(integration, &token("t")).await.map(drop) };
            tokio::spawn(write.instrument(span.clone()))
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let statements = counted_vault.statements_of(&span).await;
    let puts = statements.iter().filter(|sql| sql.starts_with("INSERT")).count();
    assert_eq!((puts, unwraps(&statements)), (100, 1));
    // Who has sealed with a key opens with it, too.
    let (_, span) = counting(organization.get(integration)).await;
    assert_eq!(counted_vault.statements_of(&span).await.len(), 1);
}

async fn with_a_warm_keyring_every_call_is_one_statement(database: TestDatabase) {
    let (counted_vault, organization, integration) = Counted::begin(&database).await;
    let put: Credential = token("t").with_expiry(OffsetDateTime::now_utc());
    organization.put(integration, &put).await.unwrap();
    let (_, mut revision) = read(&organization, integration).await.unwrap().unwrap();
    let vault = &counted_vault.vault;

    macro_rules! one_statement {
        ($begin:literal, $call:expr) => {{
            let (answer, span) = counting($call).await;
            let statements = counted_vault.statements_of(&span).await;
            assert!(
                matches!(&statements[..], [sql] if sql.starts_with($begin)),
                "{}: {statements:#?}",
                stringify!($call)
            );
            answer.unwrap()
        }};
    }
    // Twice: the first time may prepare.
    for _ in 0..2 {
        one_statement!("INSERT", organization.put(integration, &put));
        let got = one_statement!("SELECT", organization.get(integration));
        revision.clone_from(&got.unwrap().revision);
        one_statement!("UPDATE", organization.update(integration, &revision, &put));
        one_statement!("SELECT", organization.describe(integration)).unwrap();
        assert_eq!(one_statement!("SELECT", organization.list()).len(), 1);
        let later = OffsetDateTime::now_utc() + time::Duration::HOUR;
        assert_eq!(one_statement!("SELECT", vault.expiring(later, 10)).len(), 1);
        assert!(one_statement!("DELETE", organization.delete(integration)));
        assert!(one_statement!("SELECT", organization.get(integration)).is_none());
    }
    let mut connection = database.connect().await;
    connection.begin().await;
    let (written, span) = counting(organization.put_in(connection.lend(), integration, &put)).await;
    let revision = written.unwrap();
    let (written, span_of_update) =
        counting(organization.update_in(connection.lend(), integration, &revision, &put)).await;
    written.unwrap();
    connection.execute("COMMIT").await;
    for span in [span, span_of_update] {
        assert_eq!(counted_vault.statements_of(&span).await.len(), 1);
    }
}

async fn what_a_cold_or_stale_keyring_costs_is_bounded(database: TestDatabase) {
    let (counted_vault, organization, integration) = Counted::begin(&database).await;
    let (got, span) = counting(read(&organization, integration)).await;
    got.unwrap().unwrap();
    assert_eq!(counted_vault.statements_of(&span).await.len(), 2, "a cold get reads row and key");

    organization.put(integration, &token("t")).await.unwrap();
    let rotator = database.open_vault(&counted_vault.keys.spec("master.key")).await;
    rotator.rotation().force().run().await.unwrap();
    let (put, span) = counting(organization.put(integration, &token("t"))).await;
    put.unwrap();
    let statements = counted_vault.statements_of(&span).await;
    assert_eq!(
        (statements.len(), unwraps(&statements)),
        (4, 1),
        "put, why not, the key, put: {statements:#?}"
    );

    let stranger = counted_vault.vault.organization(database.add_organization().await);
    let (error, span) = counting(stranger.put(integration, &token("t"))).await;
    error.unwrap_err();
    assert_eq!(counted_vault.statements_of(&span).await.len(), 2, "put, and why not");
}
