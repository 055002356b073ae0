//! Whoever can write the database gets an error for it, never another plaintext: every bit, every bound column, every
//! exchange of rows and keys, on both stores.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

#[path = "../common/mod.rs"]
mod common;
mod keys;
mod matrix;
mod transplants;

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use common::legacy::{add_legacy_rows, legacy_salt, salt};
use common::{Dialect, KeyFiles, Pool, TestDatabase, on_both_stores, read_token, token};
use credvault::{ErrorKind, Finding, IntegrationId, Organization, Problem, Vault};
use time::macros::datetime;

on_both_stores!(
    every_changed_bit_of_a_stored_text_is_noticed,
    every_changed_bit_of_a_legacy_text_is_noticed,
    a_row_in_the_place_of_another_does_not_open,
    a_row_whose_columns_were_changed_does_not_open,
    verify_reports_each_row_and_quarantine_takes_each,
);

/// What reading a row that someone changed may answer.
const REFUSALS: [ErrorKind; 4] =
    [ErrorKind::Tampered, ErrorKind::Malformed, ErrorKind::KeyUnavailable, ErrorKind::Unsupported];

struct Home {
    vault: Vault,
    organization: Organization,
    integration: IntegrationId,
    pool: Pool,
    spec: String,
    _keys: KeyFiles,
}

async fn begin(database: &TestDatabase) -> Home {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    database.create_vault(&spec).await;
    let pool = database.pool(2).await;
    let vault = pool.open_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    organization.put(integration, &token("ghp_right")).await.unwrap();
    Home { vault, organization, integration, pool, spec, _keys: keys }
}

/// Reads what can't be opened any more.
async fn refused(organization: &Organization, integration: IntegrationId, what: &str) -> ErrorKind {
    match organization.get(integration).await {
        Ok(read) => panic!("{what}: {read:?}"),
        Err(error) => {
            assert!(REFUSALS.contains(&error.kind()), "{what}: {error:?}");
            assert!(!error.is_retryable(), "{what}: {error:?}");
            error.kind()
        }
    }
}

/// A text in SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Every other text that one changed bit makes of `text`, character by character; none with a NUL, which is no
/// character of PostgreSQL's.
fn flipped_characters(text: &str) -> impl Iterator<Item = String> {
    let bits = (0..text.len()).flat_map(|at| (0..7).map(move |bit| (at, bit)));
    bits.filter_map(|(at, bit)| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        (bytes[at] != 0).then(|| String::from_utf8(bytes).unwrap())
    })
}

/// Every other text of which one bit of what it encodes was changed.
fn flipped_bits(bytes: &[u8], encode: impl Fn(&[u8]) -> String) -> Vec<String> {
    let bits = (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    bits.map(|(at, bit)| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << bit;
        encode(&bytes)
    })
    .collect()
}

fn cv1(bytes: &[u8]) -> String {
    format!("cv1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn decoded(stored: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(stored.strip_prefix("cv1.").unwrap()).unwrap()
}

/// Other spellings of the same bytes, shorter and longer ones.
fn reshaped(stored: &str) -> Vec<String> {
    let bytes = decoded(stored);
    let mut texts: Vec<String> = (0..stored.len()).map(|chars| stored[..chars].to_owned()).collect();
    texts.extend((0..bytes.len()).map(|count| cv1(&bytes[..count])));
    texts.extend((1..bytes.len()).map(|from| cv1(&bytes[from..])));
    for more in [vec![0], vec![0; 16], vec![0xff; 128], vec![0; 900_000]] {
        texts.push(cv1(&[&bytes[..], &more].concat()));
        texts.push(cv1(&[&more[..], &bytes].concat()));
    }
    for more in ["A", "AA", "=", "==", "\n", " ", ".", "é", &"A".repeat(1 << 20)] {
        texts.push(format!("{stored}{more}"));
        texts.push(format!("{more}{stored}"));
        texts.push(stored.replacen('.', &format!(".{more}"), 1));
    }
    texts.push(format!("cv1.{}", URL_SAFE.encode(&bytes)));
    texts.push(format!("cv1.{}", STANDARD.encode(&bytes)));
    texts.push(STANDARD.encode(&bytes));
    texts.push(stored.to_uppercase());
    texts.retain(|text| text != stored);
    texts
}

async fn every_changed_bit_of_a_stored_text_is_noticed(database: TestDatabase) {
    let home = begin(&database).await;
    let right = database.raw_row(home.integration).await.unwrap().stored;
    let texts = flipped_characters(&right)
        .chain(flipped_bits(&decoded(&right), cv1))
        .chain(reshaped(&right))
        .collect::<HashSet<_>>();
    assert!(texts.len() > 3_000 && !texts.contains(&right), "{}", texts.len());
    let mut kinds = HashSet::new();
    let mut connection = database.connect().await;
    for text in &texts {
        let sql = format!(
            "UPDATE integration_credentials SET credential_data_encrypted = {} WHERE integration_id = '{}'",
            quoted(text),
            home.integration
        );
        assert_eq!(connection.execute(&sql).await, 1);
        let shown = text.get(..300).unwrap_or(text);
        kinds.insert(refused(&home.organization, home.integration, shown).await);
    }
    assert!(kinds.is_superset(&HashSet::from([
        ErrorKind::Tampered,
        ErrorKind::Malformed,
        ErrorKind::Unsupported
    ])));
    database.set(home.integration, &format!("credential_data_encrypted = {}", quoted(&right))).await;
    assert_eq!(read_token(&home.organization, home.integration).await, "ghp_right");
}

async fn every_changed_bit_of_a_legacy_text_is_noticed(database: TestDatabase) {
    let home = begin(&database).await;
    let rows = add_legacy_rows(&database).await;
    home.vault.adoption(salt(&legacy_salt())).run().await.unwrap();
    let row = rows.iter().min_by_key(|row| row.stored.len()).unwrap();
    let organization = home.vault.organization(row.organization);
    assert!(organization.get(row.integration).await.unwrap().is_some());
    let bytes = STANDARD.decode(&row.stored).unwrap();
    let texts = flipped_characters(&row.stored)
        .chain(flipped_bits(&bytes, |bytes| STANDARD.encode(bytes)))
        .chain((0..row.stored.len()).map(|chars| row.stored[..chars].to_owned()))
        .collect::<HashSet<_>>();
    let mut connection = database.connect().await;
    for text in &texts {
        let sql = format!(
            "UPDATE integration_credentials SET credential_data_encrypted = {} WHERE integration_id = '{}'",
            quoted(text),
            row.integration
        );
        assert_eq!(connection.execute(&sql).await, 1);
        refused(&organization, row.integration, text).await;
    }
    // A legacy value is of its integration's organization alone, which nothing but the vault's own check tells.
    connection
        .execute(&format!(
            "UPDATE integration_credentials SET credential_data_encrypted = {} WHERE integration_id = '{}'",
            quoted(&row.stored),
            row.integration
        ))
        .await;
    assert!(organization.get(row.integration).await.unwrap().is_some());
    assert!(home.organization.get(row.integration).await.unwrap().is_none());
    // Neither stands under the other's key.
    let own = database.raw_row(home.integration).await.unwrap();
    database.set(row.integration, &format!("encryption_key_id = '{}'", own.key_column)).await;
    assert_eq!(refused(&organization, row.integration, "legacy").await, ErrorKind::Tampered);
    database.set(home.integration, "encryption_key_id = 'v1'").await;
    assert_eq!(refused(&home.organization, home.integration, "cv1").await, ErrorKind::Tampered);
}

async fn a_row_in_the_place_of_another_does_not_open(database: TestDatabase) {
    let home = begin(&database).await;
    let (organization, integration) = (&home.organization, home.integration);
    let sibling = organization.ensure_integration("slack").await.unwrap();
    let (stranger, theirs) = database.add_tenant().await;
    let stranger = home.vault.organization(stranger);
    let place = |integration| format!("integration_id = '{integration}'");
    for (other, place_of_other) in [(organization, sibling), (&stranger, theirs)] {
        // The whole row of another: its text, type and key.
        other.put(place_of_other, &token("another")).await.unwrap();
        let row = database.raw_row(place_of_other).await.unwrap();
        let mine = database.raw_row(integration).await.unwrap();
        for (to, stored) in [(integration, &row.stored), (place_of_other, &mine.stored)] {
            database.set(to, &format!("credential_data_encrypted = {}", quoted(stored))).await;
        }
        assert_eq!(refused(organization, integration, "exchanged").await, ErrorKind::Tampered);
        assert_eq!(refused(other, place_of_other, "exchanged").await, ErrorKind::Tampered);
        assert_eq!(home.vault.verify().run().await.unwrap().findings_count, 2);

        // The row itself in another integration.
        database.set(integration, &format!("credential_data_encrypted = {}", quoted(&mine.stored))).await;
        assert!(other.delete(place_of_other).await.unwrap());
        database.set(integration, &place(place_of_other)).await;
        assert_eq!(refused(other, place_of_other, "moved").await, ErrorKind::Tampered);
        assert!(organization.get(integration).await.unwrap().is_none());
        if other.id() != organization.id() {
            assert!(organization.get(place_of_other).await.unwrap().is_none());
        }
        database.set(place_of_other, &place(integration)).await;
        assert_eq!(read_token(organization, integration).await, "ghp_right");
    }

    // The integration in another organization: see the contract of transfer, too.
    stranger.delete(theirs).await.unwrap();
    database.execute(&format!("DELETE FROM integrations WHERE id = '{theirs}'")).await;
    database.move_by_hand(integration, &stranger).await;
    assert_eq!(refused(&stranger, integration, "moved by hand").await, ErrorKind::Tampered);
}

async fn a_row_whose_columns_were_changed_does_not_open(database: TestDatabase) {
    let home = begin(&database).await;
    let (organization, integration) = (&home.organization, home.integration);
    let right = database.raw_row(integration).await.unwrap();
    // Another key that is there.
    let new = home.vault.keys().create(database.add_organization().await).await.unwrap();
    let mut with_its_id = decoded(&right.stored);
    with_its_id[4..20].copy_from_slice(new.as_bytes());
    let changes = [
        (format!("encryption_key_id = '{new}'"), ErrorKind::Tampered),
        ("encryption_key_id = 'v1'".to_owned(), ErrorKind::Tampered),
        (format!("credential_data_encrypted = '{}'", cv1(&with_its_id)), ErrorKind::Tampered),
        (
            format!("encryption_key_id = '{new}', credential_data_encrypted = '{}'", cv1(&with_its_id)),
            ErrorKind::Tampered,
        ),
        ("credential_type = 'oauth2'".to_owned(), ErrorKind::Tampered),
        ("credential_type = 'token '".to_owned(), ErrorKind::Tampered),
        ("credential_type = 'Token'".to_owned(), ErrorKind::Tampered),
        ("credential_type = ''".to_owned(), ErrorKind::Tampered),
    ];
    for (change, kind) in changes {
        database.set(integration, &change).await;
        assert_eq!(refused(organization, integration, &change).await, kind, "{change}");
        let findings = home.vault.verify().run().await.unwrap().findings;
        assert!(
            matches!(findings[..], [Finding::Row { integration: found, problem: Problem::DoesNotOpen(of, _) }]
                if found == integration && of == kind),
            "{change}: {findings:?}"
        );
        let restored = format!(
            "encryption_key_id = '{}', credential_data_encrypted = '{}', credential_type = 'token'",
            right.key_column, right.stored
        );
        database.set(integration, &restored).await;
        assert_eq!(read_token(organization, integration).await, "ghp_right");
    }

    // The column of the expiry is an index: the sealed one is the true one.
    let sealed = datetime!(2031-01-01 00:00 UTC);
    organization.put(integration, &token("t").with_expiry(sealed)).await.unwrap();
    for column in ["NULL", if database.dialect() == Dialect::Postgres { "'2040-01-01'" } else { "1" }] {
        database.set(integration, &format!("expires_at = {column}")).await;
        let stored = organization.get(integration).await.unwrap().unwrap();
        assert_eq!(stored.credential.expires_at(), Some(sealed));
        let findings = home.vault.verify().run().await.unwrap().findings;
        assert!(
            matches!(findings[..], [Finding::Row { problem: Problem::ExpiryDiffers, .. }]),
            "{findings:?}"
        );
    }
}

async fn verify_reports_each_row_and_quarantine_takes_each(database: TestDatabase) {
    let home = begin(&database).await;
    let mut connection = database.connect().await;
    let (mut tampered, mut texts) = (HashSet::new(), Vec::new());
    for number in 0..120_usize {
        let integration =
            connection.add_integration(&home.organization, &format!("connector {number}")).await;
        home.organization.put(integration, &token("t")).await.unwrap();
        let stored = database.raw_row(integration).await.unwrap().stored;
        // Every second row: another bit in each, spread over the whole text.
        if number % 2 == 0 {
            let bits = flipped_bits(&decoded(&stored), cv1);
            let text = &bits[number * bits.len() / 120];
            database.set(integration, &format!("credential_data_encrypted = '{text}'")).await;
            tampered.insert(integration);
            texts.push((integration, text.clone()));
        }
    }
    let verification = home.vault.verify().run().await.unwrap();
    let found: HashSet<_> = verification
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::Row { integration, problem: Problem::DoesNotOpen(kind, _) } => {
                assert!(REFUSALS.contains(kind), "{finding}");
                *integration
            }
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(found, tampered);
    assert_eq!((verification.rows_opened, verification.findings_count), (61, 60));

    let report = home.vault.rotation().force().run().await.unwrap();
    assert_eq!((report.re_encrypted, report.quarantined, report.remaining), (61, 60, 0));
    for (integration, text) in texts {
        assert_eq!(database.raw_row(integration).await.unwrap().stored, text, "left as it was");
    }
    assert_eq!(home.vault.verify().run().await.unwrap().findings_count, 60);
}
