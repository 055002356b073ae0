//! Pages of any size give the same end.

use std::time::Duration;

use credvault::{ErrorKind, Outcome};

use crate::common::service::{Service, active_key, first_token, key, read};
use crate::common::{self, Dialect, TestDatabase, on_both_stores};

async fn pages_of_any_size_give_the_same_end(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 15).await;
    for rows in [1, 7, 15, 5_000] {
        let report = vault.rotation().force().batch_size(rows).unwrap().run().await.unwrap();
        assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 15));
        assert_eq!((report.already_current, report.lost_to_concurrent_writes, report.remaining), (0, 0, 0));
        let under_new_key = report.keys.iter().find(|key| key.id == report.new_keys[0]).unwrap().rows;
        assert_eq!(under_new_key, 15);
        service.assert_all_current(&vault).await;
        for tenant in &tenants {
            assert_eq!(read(&vault, *tenant).await.unwrap(), first_token(*tenant));
        }
    }
    for rows in [0, 5_001, u32::MAX] {
        assert_eq!(vault.rotation().batch_size(rows).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

async fn a_rotation_of_nothing_says_so_by_counts(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys.len(), report.re_encrypted), (Outcome::Complete, 1, 0));
    service.add_tenants_with_tokens(&vault, 5).await;
    let before = service.rows().await;
    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.new_keys.len()), (Outcome::Complete, 0));
    assert_eq!((report.re_encrypted, report.already_current), (0, 5));
    assert_eq!(service.rows().await, before);
    // As old as any limit: it is due.
    let report = vault.rotation().max_age(time::Duration::ZERO).run().await.unwrap();
    assert_eq!((report.new_keys.len(), report.re_encrypted), (1, 5));
    service.assert_all_current(&vault).await;
}

async fn one_organizations_rotation_leaves_other_keys_active(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 3).await;
    let own = vault.keys().create(tenants[0].organization).await.unwrap();
    // What it wrote before follows with the next rotation.
    assert_eq!(vault.rotation().run().await.unwrap().re_encrypted, 1);
    let report = vault.rotation().force().organization(tenants[0].organization).run().await.unwrap();
    assert_eq!((report.new_keys.len(), report.re_encrypted), (1, 1));
    assert_ne!(report.new_keys[0], own);
    service.assert_all_current(&vault).await;
}

async fn an_organization_without_a_key_of_its_own_is_named_and_nothing_rotated(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 2).await;
    let before = service.rows().await;
    let rotation = || vault.rotation().force().organization(tenants[0].organization);
    // Again: the lease was given back.
    for _ in 0..2 {
        let error = rotation().run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&tenants[0].organization.to_string()), "{error}");
    }
    assert_eq!(service.rows().await, before);
}

/// A statement's text for each number of rows would be prepared for each, and kept by each connection: a hundred of them.
async fn connections_keep_no_more_statements_for_pages_of_more_sizes(database: TestDatabase) {
    let (service, _) = Service::begin(database).await;
    let pool = service.database.pool(1).await;
    let vault = service.open_by(pool.builder()).await;
    let mut kept = Vec::new();
    for rows in 1..=6 {
        service.add_tenants_with_tokens(&vault, 1).await;
        // The second one meets what a later one meets, as a key that is no longer the first.
        for _ in 0..2 {
            let report = vault.rotation().force().run().await.unwrap();
            assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, rows));
        }
        kept.push(pool.statements_of_a_connection().await);
    }
    assert!(kept[0] > 0);
    assert_eq!(kept, vec![kept[0]; kept.len()]);
}

/// As a program leaves it that keeps no foreign keys: nobody's row holds up no rotation, and keeps its key.
async fn a_row_without_its_integration_is_left_and_keeps_its_key(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 4).await;
    let old = active_key(&vault, None).await;
    if service.database.dialect() == Dialect::Postgres {
        let sql =
            "ALTER TABLE integration_credentials DROP CONSTRAINT integration_credentials_integration_id_fkey";
        service.database.execute(sql).await;
    }
    let gone = tenants[1].integration;
    service.database.execute(&format!("DELETE FROM integrations WHERE id = '{gone}'")).await;
    assert_eq!(service.count("SELECT count(*) FROM integration_credentials").await, 4);
    for rows in [1, 100] {
        let report = vault.rotation().force().batch_size(rows).unwrap().run().await.unwrap();
        assert_eq!((&report.outcome, report.re_encrypted, report.remaining), (&Outcome::Complete, 3, 0));
        assert_eq!(report.already_current, 0);
        assert!(!report.unused_keys.contains(&old), "{report:?}");
        assert_eq!(key(&vault, old).await.rows, 1);
    }
    assert_eq!(service.key_of(tenants[1]).await, old);
}

/// Pages far behind in a large table, read by connections that have no plan yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_reads_each_integration_once_and_not_for_each_page() {
    const ROWS: u64 = 3_000;
    const LATER: u64 = 500;
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_many_tenants_with_tokens(&vault, ROWS as usize).await;
    service.database.execute("ANALYZE").await;
    let report = vault.rotation().force().max_rows(ROWS - LATER).run().await.unwrap();
    assert_eq!(report.remaining, LATER);
    vault.close().await;
    let before = integrations_read(&service).await;
    let vault = service.open().await;
    let report = vault.rotation().batch_size(50).unwrap().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, LATER));
    vault.close().await;
    let read = integrations_read(&service).await - before;
    // Those that are current are looked at, and each page asks for one row more than it takes.
    assert!((ROWS..ROWS + LATER).contains(&read), "{read} integrations were read for {ROWS} rows");
}

/// Compiling a count takes longer than counting some hundred thousand rows.
#[tokio::test]
async fn postgres_does_not_compile_what_reads_many_rows() {
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Postgres).await).await;
    service.add_tenants_with_tokens(&vault, 3).await;
    vault.close().await;
    let compile = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = on', current_database()); END $$";
    service.database.execute(compile).await;
    let vault = service.open().await;
    let key = active_key(&vault, None).await;
    let refuse_to_be_read_by_what_may_be_compiled = "
        ALTER TABLE integration_credentials RENAME TO stored;
        CREATE FUNCTION is_never_compiled() RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            IF current_setting('jit') = 'on' THEN RAISE EXCEPTION 'this may be compiled'; END IF;
            RETURN true;
        END $$;
        CREATE VIEW integration_credentials AS SELECT * FROM stored WHERE is_never_compiled()";
    service.database.execute(refuse_to_be_read_by_what_may_be_compiled).await;
    let refused = service.database.try_execute("SELECT FROM integration_credentials").await.unwrap_err();
    assert!(refused.to_string().contains("this may be compiled"), "{refused}");
    let keys = vault.keys().list().await.unwrap();
    assert_eq!(keys.iter().map(|key| key.rows).sum::<u64>(), 3);
    assert_eq!(vault.status().await.unwrap().stale_rows, 0);
    assert_eq!(vault.exact_status().await.unwrap().stale_rows, 0);
    assert!(vault.keys().credentials_under(key).next().await.unwrap().is_some());
}

/// How many integrations were read by an index. A session says so when it ends, so all others are waited for.
async fn integrations_read(service: &Service) -> u64 {
    let sessions = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while service.count(sessions).await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service
        .count("SELECT idx_tup_fetch::bigint FROM pg_stat_user_tables WHERE relname = 'integrations'")
        .await
}

on_both_stores!(
    a_row_without_its_integration_is_left_and_keeps_its_key,
    pages_of_any_size_give_the_same_end,
    connections_keep_no_more_statements_for_pages_of_more_sizes,
    a_rotation_of_nothing_says_so_by_counts,
    one_organizations_rotation_leaves_other_keys_active,
    an_organization_without_a_key_of_its_own_is_named_and_nothing_rotated,
);
