//! Strategies for credentials of every kind: all that they draw, a vault takes and gives back as it was.
//!
//! [`any`](fn@any) is what a service should stand; the others are for a property about one kind.
//!
//! ```
//! use credvault::test_util::{PlainCredential, credentials, proptest};
//! use proptest::prelude::*;
//!
//! proptest!(|(credential in credentials::any())| {
//!     prop_assert_eq!(PlainCredential::from(&credential.credential()), credential);
//! });
//! ```

use proptest::collection::btree_map;
use proptest::option;
use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use super::{PlainCredential, github};
use crate::clock::Timestamp;
use crate::credential::CredentialType;

/// The most fields of a drawn credential; the format takes 65,535.
pub const MAX_DRAWN_FIELDS: usize = 12;

/// The most bytes of a drawn value: that many fields of it stay within what a credential can hold.
pub const MAX_DRAWN_VALUE_BYTES: usize = 40_000;

/// Text that programs have stumbled over: empty, NUL, line ends, marks that reverse or join, two spellings of one letter,
/// quotes, placeholders, and what looks like a stored value.
const HOSTILE_TEXTS: [&str; 20] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\r\n",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "\u{200d}",
    "é",
    "e\u{301}",
    "👩‍👩‍👧‍👦",
    "\u{10ffff}",
    "'; --",
    "\"\\",
    "$1",
    "{}",
    "%s",
    "null",
    "cv1.AAAA",
];

/// Any credential: each kind below, and [GitHub's](github::credential).
pub fn any() -> impl Strategy<Value = PlainCredential> + Clone {
    prop_oneof![oauth2(), token(), service_account(), other(), hostile(), github::credential()]
}

/// An OAuth 2 authorization: `access_token`, mostly with `refresh_token`, `scope` and an expiry.
pub fn oauth2() -> impl Strategy<Value = PlainCredential> + Clone {
    let scope = "[a-z]{2,8}(:[a-z]{2,8})?( [a-z]{2,8}){0,3}";
    (
        opaque_token(),
        option::weighted(0.8, opaque_token()),
        option::of(scope),
        option::weighted(0.8, expiry()),
    )
        .prop_map(|(access_token, refresh_token, scope, expires_at)| {
            let fields =
                [("access_token", Some(access_token)), ("refresh_token", refresh_token), ("scope", scope)];
            plain(CredentialType::oauth2(), fields, expires_at)
        })
}

/// A token by itself: `access_token`, half of them with an expiry.
pub fn token() -> impl Strategy<Value = PlainCredential> + Clone {
    (opaque_token(), option::of(expiry())).prop_map(|(access_token, expires_at)| {
        plain(CredentialType::token(), [("access_token", Some(access_token))], expires_at)
    })
}

/// A service account as in GCP's key files: `project_id`, `client_email`, and `private_key` in PEM, of many lines. No expiry.
pub fn service_account() -> impl Strategy<Value = PlainCredential> + Clone {
    let body = "([A-Za-z0-9+/]{64}\n){4,26}[A-Za-z0-9+/]{2}==\n".no_shrink();
    ("[a-z][a-z0-9]{5,28}", body).prop_map(|(project, body)| {
        let fields = [
            ("client_email", Some(format!("service@{project}.iam.gserviceaccount.com"))),
            ("private_key", Some(format!("-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n"))),
            ("project_id", Some(project)),
        ];
        plain(CredentialType::service_account(), fields, None)
    })
}

/// A type of the service's own, of up to 50 characters of any script, with a field `secret`.
pub fn other() -> impl Strategy<Value = PlainCredential> + Clone {
    (own_type(), opaque_token(), option::of(expiry())).prop_map(|(credential_type, secret, expires_at)| {
        plain(credential_type, [("secret", Some(secret))], expires_at)
    })
}

/// Whatever the vault takes: any type, up to [`MAX_DRAWN_FIELDS`] fields whose names and values are empty, hold NUL, are
/// hostile Unicode, or (values, now and then) have up to [`MAX_DRAWN_VALUE_BYTES`]; any expiry, or none.
pub fn hostile() -> impl Strategy<Value = PlainCredential> + Clone {
    let credential_type = prop_oneof![
        Just(CredentialType::oauth2()),
        Just(CredentialType::token()),
        Just(CredentialType::service_account()),
        own_type(),
    ];
    let value = prop_oneof![19 => hostile_text(), 1 => long_text()];
    let fields = btree_map(hostile_text(), value, 0..=MAX_DRAWN_FIELDS);
    (credential_type, fields, option::of(expiry())).prop_map(|(credential_type, fields, expires_at)| {
        PlainCredential { credential_type, fields, expires_at }
    })
}

/// A token as OAuth 2 allows one: 1 to 200 visible ASCII characters (RFC 6749, appendix A.12).
pub fn opaque_token() -> impl Strategy<Value = String> + Clone {
    "[!-~]{1,200}"
}

/// A moment at which a credential may expire: in the years 0001 to 9999 UTC, in whole microseconds, which is what a vault
/// keeps; one in ten is the first or the last of them.
pub fn expiry() -> impl Strategy<Value = OffsetDateTime> + Clone {
    let (first, last) = (Timestamp::MIN_MICROSECONDS, Timestamp::MAX_MICROSECONDS);
    prop_oneof![18 => first..=last, 1 => Just(first), 1 => Just(last)]
        .prop_map(|at| OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::microseconds(at)))
}

/// Up to 40 characters, none of them barred: empty, NUL and other control characters, any plane of Unicode.
pub fn hostile_text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![proptest::sample::select(&HOSTILE_TEXTS[..]).prop_map(str::to_owned), "(?s).{0,40}"]
}

/// One character, again and again.
fn long_text() -> impl Strategy<Value = String> + Clone {
    (proptest::char::any(), 1..=MAX_DRAWN_VALUE_BYTES)
        .prop_map(|(character, bytes)| std::iter::repeat_n(character, bytes / character.len_utf8()).collect())
}

fn own_type() -> impl Strategy<Value = CredentialType> + Clone {
    // A type has no control characters: `\p{Cc}`.
    "[^\\p{Cc}]{1,50}".prop_filter_map("a type that the vault takes", |text: String| text.parse().ok())
}

/// A credential with those fields that are there.
pub(super) fn plain<const FIELDS: usize>(
    credential_type: CredentialType,
    fields: [(&str, Option<String>); FIELDS],
    expires_at: Option<OffsetDateTime>,
) -> PlainCredential {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    PlainCredential { credential_type, fields, expires_at }
}
