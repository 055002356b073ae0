//! Strategies for GitHub's tokens.
//!
//! | Token | Shape | Characters |
//! |---|---|---|
//! | [`personal_token`], classic | `ghp_` and 36 letters and digits | 40 |
//! | [`fine_grained_token`] | `github_pat_`, 22 letters and digits, `_`, 59 more | 93 |
//! | [`oauth_token`], of an OAuth app | `gho_` and 36 | 40 |
//! | [`user_token`], of a GitHub App for a user | `ghu_` and 36 | 40 |
//! | [`refresh_token`], which comes with one | `ghr_` and 76 | 80 |
//! | [`installation_token`], of a GitHub App | `ghs_` and 36 | 40 |
//! | [`long_installation_token`] | `ghs_`, the app's id, `_`, a JSON web token: two dots | 520 |
//!
//! The prefixes are GitHub's promise, the lengths are not: they have grown before, and the long installation tokens vary.
//! A service should take a token for opaque text. The six characters at the end of GitHub's short ones are a checksum; here
//! they are random like the rest, so that scanners of secrets don't take them for real. A token shrinks no further: its
//! letters never explain a failure.

use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use super::PlainCredential;
use super::credentials::plain;
use crate::credential::{Credential, CredentialType};

/// A classic personal access token: `ghp_…`.
pub fn personal_token() -> impl Strategy<Value = String> + Clone {
    "ghp_[A-Za-z0-9]{36}".no_shrink()
}

/// A fine-grained personal access token: `github_pat_…`.
pub fn fine_grained_token() -> impl Strategy<Value = String> + Clone {
    "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}".no_shrink()
}

/// An OAuth app's token: `gho_…`.
pub fn oauth_token() -> impl Strategy<Value = String> + Clone {
    "gho_[A-Za-z0-9]{36}".no_shrink()
}

/// A GitHub App's token for a user: `ghu_…`. It expires after eight hours.
pub fn user_token() -> impl Strategy<Value = String> + Clone {
    "ghu_[A-Za-z0-9]{36}".no_shrink()
}

/// The refresh token of a [`user_token`]: `ghr_…`. **It is good once**, within six months.
pub fn refresh_token() -> impl Strategy<Value = String> + Clone {
    "ghr_[A-Za-z0-9]{76}".no_shrink()
}

/// A GitHub App's token for an installation: `ghs_…`, opaque, as until 2026. It expires after an hour.
pub fn installation_token() -> impl Strategy<Value = String> + Clone {
    "ghs_[A-Za-z0-9]{36}".no_shrink()
}

/// An [`installation_token`] of the longer form, with a JSON web token in it.
pub fn long_installation_token() -> impl Strategy<Value = String> + Clone {
    // Header, payload, and an RSA signature of 256 bytes.
    "ghs_[1-9][0-9]{6}_eyJ[A-Za-z0-9_-]{33}\\.eyJ[A-Za-z0-9_-]{125}\\.[A-Za-z0-9_-]{342}".no_shrink()
}

/// A token to call GitHub with, of any of these shapes.
pub fn access_token() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        personal_token(),
        fine_grained_token(),
        oauth_token(),
        user_token(),
        installation_token(),
        long_installation_token(),
    ]
}

/// A user's credential as [`Credential::github_user`] makes it: `access_token` and `refresh_token`, with an expiry.
pub fn user() -> impl Strategy<Value = PlainCredential> + Clone {
    (user_token(), refresh_token(), expiry()).prop_map(|(access_token, refresh_token, expires_at)| {
        PlainCredential::from(&Credential::github_user(access_token, refresh_token, expires_at))
    })
}

/// An installation's credential as [`Credential::github_installation`] makes it: `access_token`, of either length, and
/// `installation_id`, with an expiry.
pub fn installation() -> impl Strategy<Value = PlainCredential> + Clone {
    let token = prop_oneof![installation_token(), long_installation_token()];
    (token, 1..=99_999_999_u64, expiry()).prop_map(|(access_token, installation_id, expires_at)| {
        PlainCredential::from(&Credential::github_installation(access_token, installation_id, expires_at))
    })
}

/// A personal access token as people paste it: `access_token` and `login`; a fine-grained one mostly with an expiry.
pub fn personal() -> impl Strategy<Value = PlainCredential> + Clone {
    let token = prop_oneof![
        personal_token().prop_map(|token| (token, None)),
        (fine_grained_token(), proptest::option::weighted(0.8, expiry())),
    ];
    (token, login()).prop_map(|((access_token, expires_at), login)| {
        let fields = [("access_token", Some(access_token)), ("login", Some(login))];
        plain(CredentialType::token(), fields, expires_at)
    })
}

/// An OAuth app's credential: `access_token` and `login`, without an expiry.
pub fn oauth_app() -> impl Strategy<Value = PlainCredential> + Clone {
    (oauth_token(), login()).prop_map(|(access_token, login)| {
        let fields = [("access_token", Some(access_token)), ("login", Some(login))];
        plain(CredentialType::oauth2(), fields, None)
    })
}

/// Any of GitHub's credentials.
pub fn credential() -> impl Strategy<Value = PlainCredential> + Clone {
    prop_oneof![user(), installation(), personal(), oauth_app()]
}

/// A login: 1 to 39 letters and digits, single hyphens between them.
pub fn login() -> impl Strategy<Value = String> + Clone {
    "[a-z0-9](-?[a-z0-9]){0,19}"
}

/// A moment as GitHub's API gives one, in whole seconds, in the years 2020 to 2040.
pub fn expiry() -> impl Strategy<Value = OffsetDateTime> + Clone {
    (1_577_836_800..2_208_988_800_i64)
        .prop_map(|seconds| OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::seconds(seconds)))
}
