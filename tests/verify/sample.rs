//! A sample: as many rows as it was asked for, from all of the table.

use std::collections::HashSet;

use credvault::{ErrorKind, Finding, IntegrationId, MAX_SAMPLE_ROWS};

use crate::Home;
use crate::common::statements::{counting, statements_of};
use crate::common::{self, Dialect, TestDatabase, on_both_stores, token};

on_both_stores!(
    a_sample_opens_as_many_rows_as_it_was_asked_for_and_checks_every_key,
    a_sample_is_drawn_from_all_of_a_large_table,
    a_sample_of_a_table_full_of_holes_is_as_large,
);

/// Rows that don't open, so that the findings say which were drawn; each says its place by its integration's id.
async fn add_numbered_rows(home: &Home, rows: u32) {
    // Long enough that a large table has many pages.
    let insert = |source: &str, id: &str, text: &str| {
        format!(
            "{source}
             INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
             SELECT {id}, {id}, {id}, 'github', 'active' FROM numbers;
             {source}
             INSERT INTO integration_credentials
                    (id, integration_id, credential_type, credential_data_encrypted, encryption_key_id)
             SELECT {id}, {id}, 'token', {text}, k.id FROM numbers, vault_data_keys AS k
              WHERE k.state = 'active' AND k.organization_id IS NULL
              ORDER BY n;"
        )
    };
    let sql = match home.database.dialect() {
        Dialect::Postgres => insert(
            &format!("WITH numbers (n) AS (SELECT generate_series(0, {rows} - 1))"),
            "('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid",
            "repeat('x', 700)",
        ),
        Dialect::Sqlite => insert(
            &format!(
                "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows} - 1)"
            ),
            "printf('00000000-0000-4000-8000-%012d', n)",
            "printf('%.700c', 'x')",
        ),
    };
    home.database.execute(&sql).await;
}

/// The numbers of the rows that a sample drew.
async fn drawn(home: &Home, rows: u32) -> Vec<u32> {
    let verification = home.vault.verify().sample(rows).unwrap().run().await.unwrap();
    let number = |finding: &Finding| match finding {
        Finding::Row { integration, .. } => {
            let text = integration.to_string();
            text.rsplit('-').next().unwrap().parse().unwrap()
        }
        other => panic!("{other}"),
    };
    let numbers: Vec<u32> = verification.findings.iter().map(number).collect();
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len(), "each row once");
    numbers
}

async fn a_sample_opens_as_many_rows_as_it_was_asked_for_and_checks_every_key(database: TestDatabase) {
    let home = Home::begin(database).await;
    let mut integrations: Vec<IntegrationId> = Vec::new();
    let organization = home.vault.organization(home.shared.organization);
    for number in 0..40 {
        let integration = organization.ensure_integration(&format!("connector {number}")).await.unwrap();
        organization.put(integration, &token("t")).await.unwrap();
        integrations.push(integration);
    }
    let whole = home.vault.verify().run().await.unwrap();
    assert_eq!(whole.rows_opened, 42);
    for (rows, opened) in [(1, 1), (2, 2), (41, 41), (42, 42), (43, 42), (MAX_SAMPLE_ROWS, 42)] {
        let verification = home.vault.verify().sample(rows).unwrap().run().await.unwrap();
        assert_eq!(verification.rows_opened, opened, "{rows}");
        assert_eq!(verification.keys_checked, whole.keys_checked);
        assert_eq!(verification.master_keys_checked, whole.master_keys_checked);
        assert_eq!(verification.findings_count, 0);
    }
    for rows in [0, MAX_SAMPLE_ROWS + 1] {
        assert_eq!(home.vault.verify().sample(rows).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

async fn a_sample_is_drawn_from_all_of_a_large_table(database: TestDatabase) {
    const ROWS: u32 = 10_000;
    let home = Home::begin(database).await;
    for tenant in [home.shared, home.own] {
        assert!(home.vault.organization(tenant.organization).delete(tenant.integration).await.unwrap());
    }
    add_numbered_rows(&home, ROWS).await;
    let mut tenths = [0; 10];
    let mut all = HashSet::new();
    for _ in 0..10 {
        let (numbers, span) = counting(drawn(&home, 60)).await;
        assert_eq!(numbers.len(), 60);
        let statements = statements_of(&span);
        let draws = statements.iter().filter(|sql| sql.contains("ORDER BY random()"));
        let by_parts = |sql: &&String| sql.contains("TABLESAMPLE") || sql.contains("points");
        let (parts, passes): (Vec<_>, Vec<_>) = draws.partition(by_parts);
        assert_eq!((parts.len(), passes.len()), (1, 0), "no pass over the whole table");
        for number in numbers {
            tenths[(number / (ROWS / 10)) as usize] += 1;
            all.insert(number);
        }
    }
    // 60 are expected in each; 20 are five times its deviation away from it.
    assert!(tenths.iter().all(|drawn| (20..=110).contains(drawn)), "{tenths:?}");
    assert!(all.len() > 500, "another sample each time");
}

async fn a_sample_of_a_table_full_of_holes_is_as_large(database: TestDatabase) {
    let home = Home::begin(database).await;
    for tenant in [home.shared, home.own] {
        assert!(home.vault.organization(tenant.organization).delete(tenant.integration).await.unwrap());
    }
    add_numbered_rows(&home, 10_000).await;
    // One row in five hundred stays where it is.
    home.database
        .execute(match home.database.dialect() {
            Dialect::Postgres => {
                "DELETE FROM integration_credentials WHERE right(integration_id::text, 6)::integer % 500 <> 7"
            }
            Dialect::Sqlite => {
                "DELETE FROM integration_credentials WHERE CAST(substr(integration_id, 31) AS INTEGER) % 500 <> 7"
            }
        })
        .await;
    for (rows, expected) in [(1, 1), (15, 15), (20, 20), (21, 20)] {
        let numbers = drawn(&home, rows).await;
        assert_eq!(numbers.len(), expected);
        assert!(numbers.iter().all(|number| number % 500 == 7));
    }
}
