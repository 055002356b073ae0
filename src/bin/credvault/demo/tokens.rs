//! Tokens in GitHub's shapes, drawn from a seed: what was stored need not be kept to be compared with.

use credvault::{Credential, CredentialType, ExposeSecret};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// The shapes, in turn: documented by GitHub, but for the lengths, which it may change.
pub(crate) const SHAPES: [Shape; 6] = [
    Shape::ClassicPersonal,
    Shape::FineGrainedPersonal,
    Shape::OauthApp,
    Shape::User,
    Shape::Installation,
    Shape::LongInstallation,
];

/// Connectors of an organization, by turns; then they are numbered.
const CONNECTORS: [&str; 5] =
    ["github", "github-app", "github-actions", "github-packages", "github-enterprise"];

const BASE62: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `ghp_` and 36 characters.
    ClassicPersonal,
    /// `github_pat_`, 22 characters, `_` and 59.
    FineGrainedPersonal,
    /// `gho_` and 36 characters.
    OauthApp,
    /// `ghu_` and 36 characters, with the refresh token `ghr_` and 76, which may be used once.
    User,
    /// `ghs_`, 40 characters in all.
    Installation,
    /// `ghs_`, 520 characters in all, as they are becoming.
    LongInstallation,
}

/// The source of a demo's tokens.
pub(crate) struct Tokens {
    seed: Zeroizing<[u8; 32]>,
    /// A whole second, so that every store gives it back as it was.
    now: OffsetDateTime,
}

impl Tokens {
    /// From a fresh random seed.
    ///
    /// # Errors
    ///
    /// If the random generator fails.
    pub(crate) fn draw() -> anyhow::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(Self { seed, now: OffsetDateTime::now_utc().replace_nanosecond(0)? })
    }

    /// The credential number `number`: the same at every call.
    pub(crate) fn credential(&self, number: u32) -> Credential {
        let mut letters = Letters::new(self, number);
        let shape = SHAPES[number as usize % SHAPES.len()];
        let login = format!("octocat-{number}");
        // Installations count upwards from some eight digits.
        let installation = 50_000_000 + u64::from(number);
        match shape {
            Shape::ClassicPersonal => Credential::new(CredentialType::token())
                .with_field("access_token", letters.token("ghp_", 36))
                .with_field("login", login),
            Shape::FineGrainedPersonal => {
                let mut token = letters.token("github_pat_", 22);
                token.push('_');
                letters.extend(&mut token, 59);
                Credential::new(CredentialType::token())
                    .with_field("access_token", token)
                    .with_field("login", login)
                    .with_expiry(self.now + Duration::days(90))
            }
            Shape::OauthApp => Credential::new(CredentialType::oauth2())
                .with_field("access_token", letters.token("gho_", 36))
                .with_field("login", login),
            Shape::User => Credential::github_user(
                letters.token("ghu_", 36),
                letters.token("ghr_", 76),
                self.now + Duration::hours(8),
            )
            .with_field("login", login),
            Shape::Installation => {
                let token = letters.token("ghs_", 36);
                Credential::github_installation(token, installation, self.now + Duration::hours(1))
            }
            Shape::LongInstallation => {
                let token = letters.token("ghs_", 516);
                Credential::github_installation(token, installation, self.now + Duration::hours(1))
            }
        }
    }
}

/// The connector of an organization's credential number `slot`.
pub(crate) fn connector(slot: u32) -> String {
    match CONNECTORS.get(slot as usize) {
        Some(name) => (*name).to_owned(),
        None => format!("github-{}", slot + 1),
    }
}

/// Whether two credentials are the same in all that they hold.
pub(crate) fn same(one: &Credential, other: &Credential) -> bool {
    one.credential_type() == other.credential_type()
        && one.expires_at() == other.expires_at()
        && one.fields().len() == other.fields().len()
        && one.fields().zip(other.fields()).all(|((name, value), (other_name, other_value))| {
            name == other_name && value.expose_secret() == other_value.expose_secret()
        })
}

/// Letters and digits, drawn from the seed for one credential.
struct Letters<'t> {
    tokens: &'t Tokens,
    number: u32,
    block: u32,
}

impl<'t> Letters<'t> {
    fn new(tokens: &'t Tokens, number: u32) -> Self {
        Self { tokens, number, block: 0 }
    }

    fn token(&mut self, prefix: &str, length: usize) -> Zeroizing<String> {
        // Room for the longest, so that none moves.
        let mut token = Zeroizing::new(String::with_capacity(520));
        token.push_str(prefix);
        self.extend(&mut token, length);
        token
    }

    fn extend(&mut self, token: &mut String, length: usize) {
        let end = token.len() + length;
        while token.len() < end {
            let mut hash = Sha256::new();
            hash.update(*self.tokens.seed);
            hash.update(self.number.to_be_bytes());
            hash.update(self.block.to_be_bytes());
            self.block += 1;
            // 248 is the largest multiple of 62 in a byte: every letter is as likely.
            let letters = hash.finalize();
            let letters =
                letters.iter().filter(|byte| **byte < 248).map(|byte| BASE62[usize::from(*byte) % 62]);
            token.extend(letters.take(end - token.len()).map(char::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_have_githubs_shapes() {
        let tokens = Tokens::draw().unwrap();
        for (number, (prefix, length)) in
            [("ghp_", 40), ("github_pat_", 93), ("gho_", 40), ("ghu_", 40), ("ghs_", 40), ("ghs_", 520)]
                .into_iter()
                .enumerate()
        {
            let credential = tokens.credential(u32::try_from(number).unwrap());
            let token = credential.field("access_token").unwrap().expose_secret();
            assert!(token.starts_with(prefix) && token.len() == length, "{prefix} {}", token.len());
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        }
        let refresh = tokens.credential(3);
        let refresh = refresh.field("refresh_token").unwrap().expose_secret();
        assert!(refresh.starts_with("ghr_") && refresh.len() == 80);
    }

    #[test]
    fn a_token_is_drawn_again_and_differs_from_all_others() {
        let (tokens, others) = (Tokens::draw().unwrap(), Tokens::draw().unwrap());
        assert!(same(&tokens.credential(7), &tokens.credential(7)));
        assert!(!same(&tokens.credential(7), &tokens.credential(13)));
        let token = |tokens: &Tokens, number| {
            tokens.credential(number).field("access_token").unwrap().expose_secret().to_owned()
        };
        assert_ne!(token(&tokens, 0), token(&tokens, 6));
        assert_ne!(token(&tokens, 0), token(&others, 0));
    }

    #[test]
    fn connectors_are_told_apart() {
        assert_eq!(connector(0), "github");
        assert_eq!(connector(5), "github-6");
        let names: std::collections::BTreeSet<String> = (0..100).map(connector).collect();
        assert_eq!(names.len(), 100);
    }
}
