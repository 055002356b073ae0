//! What the strategies draw.

use std::collections::BTreeSet;

use credvault::test_util::{self, PlainCredential, credentials, github};
use credvault::{Credential, ExposeSecret};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use time::OffsetDateTime;
use uuid::Uuid;

/// `count` values of a strategy, the same at each run.
fn drawn<T: std::fmt::Debug>(count: usize, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn every_drawn_credential_comes_back_from_a_vault_as_it_was() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let vault = runtime.block_on(test_util::vault()).unwrap();
    let organization = vault.organization(Uuid::new_v4());
    let integration = runtime.block_on(organization.ensure_integration("any")).unwrap();
    proptest!(|(drawn in credentials::any())| {
        let stored = runtime.block_on(async {
            organization.put(integration, &drawn.credential()).await.unwrap();
            organization.get(integration).await.unwrap().unwrap()
        });
        prop_assert_eq!(PlainCredential::from(&stored.credential), drawn);
    });
}

#[test]
fn every_kind_is_drawn() {
    let types: BTreeSet<String> = drawn(500, credentials::any())
        .iter()
        .map(|credential| credential.credential_type.as_str().to_owned())
        .collect();
    for name in ["oauth2", "token", "service_account"] {
        assert!(types.contains(name), "{name}");
    }
    assert!(types.len() > 10, "types of the service's own: {types:?}");
    assert!(types.iter().any(|name| !name.is_ascii()));
    for (strategy, name) in [
        (credentials::oauth2().boxed(), "oauth2"),
        (credentials::token().boxed(), "token"),
        (credentials::service_account().boxed(), "service_account"),
        (github::user().boxed(), "oauth2"),
        (github::oauth_app().boxed(), "oauth2"),
        (github::installation().boxed(), "token"),
        (github::personal().boxed(), "token"),
    ] {
        assert!(drawn(50, strategy).iter().all(|credential| credential.credential_type.as_str() == name));
    }
}

#[test]
fn hostile_credentials_are_hostile() {
    let credentials = drawn(2_000, credentials::hostile());
    let names = || credentials.iter().flat_map(|credential| credential.fields.keys());
    let values = || credentials.iter().flat_map(|credential| credential.fields.values());
    let has = |found: bool, what: &str| assert!(found, "none has {what}");
    has(credentials.iter().any(|credential| credential.fields.is_empty()), "no fields");
    has(names().any(String::is_empty), "an empty name");
    has(values().any(String::is_empty), "an empty value");
    has(names().any(|name| name.contains('\0')), "NUL in a name");
    has(values().any(|value| value.contains('\0')), "NUL in a value");
    has(values().any(|value| value.contains('\u{202e}')), "a mark that reverses");
    has(values().any(|value| value.chars().any(|it| it > '\u{ffff}')), "a character beyond the first plane");
    let both = |it: &PlainCredential| it.fields.contains_key("é") && it.fields.contains_key("e\u{301}");
    has(credentials.iter().any(both), "two names that look the same");
    has(values().any(|value| value.len() > credentials::MAX_DRAWN_VALUE_BYTES / 2), "a long value");
    assert!(values().all(|value| value.len() <= credentials::MAX_DRAWN_VALUE_BYTES));
}

#[test]
fn expiries_reach_from_the_first_to_the_last_moment() {
    let moments = drawn(500, credentials::expiry());
    let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
    assert_eq!(first.to_string(), "0001-01-01 0:00:00.0 +00:00:00");
    assert_eq!(last.to_string(), "9999-12-31 23:59:59.999999 +00:00:00");
    assert!(moments.iter().any(|moment| *moment < OffsetDateTime::UNIX_EPOCH && moment != first));
    let expiries = drawn(200, credentials::any());
    assert!(expiries.iter().any(|it| it.expires_at.is_some()));
    assert!(expiries.iter().any(|it| it.expires_at.is_none()));
}

#[test]
fn tokens_have_githubs_shapes() {
    for (strategy, prefix, length) in [
        (github::personal_token().boxed(), "ghp_", 40),
        (github::fine_grained_token().boxed(), "github_pat_", 93),
        (github::oauth_token().boxed(), "gho_", 40),
        (github::user_token().boxed(), "ghu_", 40),
        (github::refresh_token().boxed(), "ghr_", 80),
        (github::installation_token().boxed(), "ghs_", 40),
        (github::long_installation_token().boxed(), "ghs_", 520),
    ] {
        let tokens = drawn(50, strategy);
        for token in &tokens {
            assert!(token.starts_with(prefix) && token.len() == length, "{token}");
            let dots = token.bytes().filter(|byte| *byte == b'.').count();
            assert_eq!(dots, if length == 520 { 2 } else { 0 }, "{token}");
            assert!(token.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it)), "{token}");
        }
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), 50, "they are all different");
    }
    let lengths: BTreeSet<usize> = drawn(100, github::access_token()).iter().map(String::len).collect();
    assert_eq!(lengths, BTreeSet::from([40, 93, 520]));
}

#[test]
fn a_plain_credential_is_the_credential_in_clear() {
    let credential = Credential::github_user("ghu_a", "ghr_b", OffsetDateTime::UNIX_EPOCH);
    let plain = PlainCredential::from(&credential);
    assert!(format!("{plain:?}").contains("ghr_b"), "a failed property shows it");
    let again = plain.credential();
    assert_eq!(again.field("refresh_token").unwrap().expose_secret(), "ghr_b");
    assert_eq!(again.expires_at(), Some(OffsetDateTime::UNIX_EPOCH));
    assert_eq!(PlainCredential::from(&again), plain);
}
