//! What holds for providers that keep something in the provider record, which who writes to the database can change.

use credvault::ErrorKind;

use super::{Recorded, open, vault_with_a_row};
use crate::common::{TestDatabase, read_token};

macro_rules! claims {
    ($counterpart:ty) => {
        crate::conformance::tests! {
            records of $counterpart;
            vaults: a_record_that_is_altered_or_cut_opens_nothing_and_nothing_is_written;
        }
    };
}
pub(crate) use claims;

/// The places in a record that are altered, and those at which it is cut: each may cost a call.
const PLACES: usize = 12;

pub(crate) async fn a_record_that_is_altered_or_cut_opens_nothing_and_nothing_is_written<C: Recorded>(
    database: TestDatabase,
) {
    let key = C::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, key.provider()).await;
    vault.close().await;
    let record = database.fetch_one_text("SELECT provider_record FROM vault_master_keys").await.unwrap();
    assert!(record.is_ascii() && record.len() > PLACES, "{record}");
    let place = |nth: usize| nth * record.len() / PLACES;
    let altered = (0..PLACES).map(|nth| {
        let at = place(nth);
        // Another of the same kind where that may be a digit.
        let other = match record.as_bytes()[at] {
            b'A' => 'B',
            b'1' => '2',
            b'0'..=b'9' => '1',
            _ => 'A',
        };
        (format!("altered at {at}"), format!("{}{other}{}", &record[..at], &record[at + 1..]))
    });
    let cut = (0..PLACES).map(|nth| (format!("cut at {}", place(nth)), record[..place(nth)].to_owned()));
    let more = ["A", "AAAA", "=", "\n", "$"];
    let more = more.map(|more| (format!("with {more:?} behind it"), format!("{record}{more}")));

    let mut kinds = Vec::new();
    for (what, altered) in altered.chain(cut).chain(more) {
        let set = format!("UPDATE vault_master_keys SET provider_record = '{altered}'");
        assert_eq!(database.try_execute(&set).await.unwrap(), 1);
        let before = database.dump().await;
        let error = open(&database, [key.provider()]).await.map(|_| ()).expect_err(&what);
        let as_documented = [
            ErrorKind::Malformed,
            ErrorKind::Unsupported,
            ErrorKind::Refused,
            ErrorKind::KeyUnavailable,
            C::ALTERED,
        ];
        assert!(as_documented.contains(&error.kind()), "{what}: {:?} {error}", error.kind());
        assert!(!error.is_retryable(), "{what}: {error}");
        assert_eq!(database.dump().await, before, "{what}");
        kinds.push(error.kind());
    }
    // It was more than its form that was looked at.
    assert!(kinds.contains(&C::ALTERED), "{kinds:?}");

    database.execute(&format!("UPDATE vault_master_keys SET provider_record = '{record}'")).await;
    let vault = open(&database, [key.provider()]).await.unwrap();
    assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
}
