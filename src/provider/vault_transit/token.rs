//! The token that a server is asked with: given, or got by a login, kept alive, and got anew when it ends.

use std::cmp::max;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::failure::Action;
use super::server::{Answer, Server};
use super::settings::{Identity, Login, is_same, service_account_token};
use crate::error::{Error, Result};
use crate::json;
use crate::provider::{CachePeriod, in_background, service};
use crate::secret::SecretText;

/// How long a token may be seen to afterwards, when the answer that was wanted is there already.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// A token and what is known of its end.
pub(super) struct Held {
    pub(super) token: SecretText,
    lease: Mutex<Option<Lease>>,
}

impl Held {
    fn new(token: SecretText, lease: Option<Lease>) -> Self {
        Self { token, lease: Mutex::new(lease) }
    }

    fn lease(&self) -> Option<Lease> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, lease: Lease) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// `None` for a root's token, which has no end.
    ends: Option<Instant>,
    whole: Duration,
    renewal: Renewal,
}

/// Whether more time is given to a token when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    Possible,
    Never,
}

impl Lease {
    /// As Vault says it: no time is no end.
    fn new(left: Duration, whole: Duration, renewal: Renewal) -> Self {
        // Beyond what a clock can hold is no end either.
        let ends = if left.is_zero() { None } else { Instant::now().checked_add(left) };
        Self { ends, whole: max(left, whole), renewal }
    }

    /// How much is left, of a token that has an end.
    fn left(&self) -> Option<Duration> {
        Some(self.ends?.saturating_duration_since(Instant::now()))
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Whether it is to be renewed at a use. What a login gave can be had again, and is once half of it is over. What was
    /// given is at each: when the next is, nobody knows.
    fn is_due(&self, identity: &Identity) -> bool {
        let is_due = self.left().is_some_and(|left| match identity {
            Identity::Login(_) => left < self.whole / 2,
            Identity::Token(_) => true,
        });
        is_due && self.renewal == Renewal::Possible
    }
}

/// A token to ask with.
pub(super) struct Given {
    pub(super) held: Arc<Held>,
    /// Whether it was used before, so that another login may help when it is refused.
    pub(super) is_of_an_earlier_login: bool,
}

/// The token of a provider, kept between its calls.
#[derive(Default)]
pub(super) struct Tokens(tokio::sync::Mutex<Option<Arc<Held>>>);

impl Tokens {
    /// The token to ask with. Several who need a login at once wait for one.
    ///
    /// # Errors
    ///
    /// `Provider` if a token or what a login takes is not there; `Refused` if the server doesn't accept it.
    pub(super) async fn get(&self, server: &Server) -> Result<Given> {
        let mut slot = self.0.lock().await;
        let (held, is_of_an_earlier_login) = match (&server.settings.identity, slot.take()) {
            (Identity::Login(_), Some(held)) if !held.lease().is_some_and(|lease| lease.is_over()) => {
                (held, true)
            }
            (Identity::Login(login), _) => (Arc::new(logged_in(server, login).await?), false),
            (Identity::Token(source), known) => {
                let source = source.clone();
                let token = in_background(move || source.secret()).await?;
                let known = known.filter(|known| is_same(&known.token, &token));
                (known.unwrap_or_else(|| Arc::new(Held::new(token, None))), false)
            }
        };
        *slot = Some(Arc::clone(&held));
        Ok(Given { held, is_of_an_earlier_login })
    }

    /// Forgets a token that was refused.
    pub(super) async fn forget(&self, refused: &Held) {
        self.0.lock().await.take_if(|held| is_same(&held.token, &refused.token));
    }
}

/// Sees to it that a token which was used just now can be used later, too: beside the caller, who has a key in hand and may be
/// cancelled. That it can't be is no error yet.
pub(super) fn keep_alive(server: Arc<Server>, held: Arc<Held>) {
    tokio::spawn(async move {
        match tokio::time::timeout(AFTERWARDS, lease(&server, &held)).await {
            Ok(Ok(lease)) => {
                held.note(lease);
                let left = lease.left().filter(|left| *left <= CachePeriod::default().renewed_after());
                if let (Identity::Token(_), Some(left)) = (&server.settings.identity, left) {
                    let seconds = left.as_secs();
                    tracing::warn!(key = %server.key, seconds, "the token ends before it is needed again: give another");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "whether the token lasts is not known"),
            Err(_) => tracing::warn!(key = %server.key, "whether the token lasts is not known: no answer"),
        }
    });
}

/// The lease of a token, renewed if it is due and can be.
async fn lease(server: &Server, held: &Held) -> Result<Lease> {
    let lease = match held.lease() {
        Some(lease) => lease,
        None => {
            let answer = server.call(&Action::LookUpToken, Some(&held.token), None).await?;
            let whole = answer.seconds(["data", "creation_ttl"]).unwrap_or_default();
            let lease = Lease::new(answer.seconds(["data", "ttl"])?, whole, renewal(&answer, "data"));
            // It stands, whatever becomes of the renewal.
            held.note(lease);
            lease
        }
    };
    if !lease.is_due(&server.settings.identity) {
        return Ok(lease);
    }
    let body = Zeroizing::new("{}".to_owned());
    let renewed = server.call(&Action::RenewToken, Some(&held.token), Some(&body)).await?;
    lease_of(&renewed, lease.whole)
}

fn lease_of(answer: &Answer, whole: Duration) -> Result<Lease> {
    Ok(Lease::new(answer.seconds(["auth", "lease_duration"])?, whole, renewal(answer, "auth")))
}

fn renewal(answer: &Answer, of: &str) -> Renewal {
    if answer.is_true([of, "renewable"]) { Renewal::Possible } else { Renewal::Never }
}

async fn logged_in(server: &Server, login: &Login) -> Result<Held> {
    let credentials = login.clone();
    let body = in_background(move || body_of(&credentials)).await?;
    let action = Action::LogIn(login);
    let answer = service::asked(server.key.origin(), || server.call(&action, None, Some(&body))).await?;
    let within = |error: Error| error.within(format_args!("login by {login} at {}", server.key));
    let token = answer.string(["auth", "client_token"]).map_err(within)?;
    Ok(Held::new(token, Some(lease_of(&answer, Duration::ZERO).map_err(within)?)))
}

/// The body of a login, of its whole length, so that it never moves and leaves a copy behind.
fn body_of(login: &Login) -> Result<Zeroizing<String>> {
    let (first, second) = match login {
        Login::AppRole { role, secret, .. } => (
            ("role_id", role.secret()?),
            secret.as_ref().map(|secret| Ok(("secret_id", secret.secret()?))).transpose()?,
        ),
        Login::Kubernetes { role, token, .. } => {
            (("role", SecretText::copy_of(role)), Some(("jwt", service_account_token(token)?)))
        }
    };
    let members = [Some(first), second];
    let length: usize = members
        .iter()
        .flatten()
        .map(|(name, value)| json::string_bytes(name) + json::string_bytes(value.expose_secret()) + 2)
        .sum();
    let mut body = Zeroizing::new(String::with_capacity(length + 2));
    for (name, value) in members.iter().flatten() {
        let before = if body.is_empty() { '{' } else { ',' };
        body.push(before);
        json::push_string(&mut body, name);
        body.push(':');
        json::push_string(&mut body, value.expose_secret());
    }
    body.push('}');
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Source;
    use super::*;

    fn given() -> Identity {
        Identity::Token(Source::Variable("VAULT_TOKEN".to_owned()))
    }

    fn login() -> Identity {
        let role = Source::Variable("VAULT_ROLE_ID".to_owned());
        Identity::Login(Login::AppRole { mount: "approle".to_owned(), role, secret: None })
    }

    #[test]
    fn a_login_is_renewed_when_half_of_it_is_over_and_what_was_given_at_each_use() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let second = Duration::from_secs(1);
        for (left, whole, is_due_of_a_login, is_due_given) in [
            (hours(0), hours(0), false, false),
            (hours(1) + second, hours(2), false, true),
            (hours(1) - second, hours(2), true, true),
            (hours(13), hours(24), false, true),
            (hours(11), hours(24), true, true),
            (hours(768), hours(768), false, true),
            (Duration::MAX, Duration::MAX, false, false),
        ] {
            let is_due = |renewal| {
                let lease = Lease::new(left, whole, renewal);
                [lease.is_due(&login()), lease.is_due(&given())]
            };
            assert_eq!(is_due(Renewal::Possible), [is_due_of_a_login, is_due_given], "{left:?} of {whole:?}");
            assert_eq!(is_due(Renewal::Never), [false, false]);
        }
    }

    #[tokio::test]
    async fn a_token_that_was_refused_is_forgotten_though_its_lease_was_noted_since() {
        let token = |text: &str| Arc::new(Held::new(SecretText::copy_of(text), None));
        let held = token("hvs.one");
        for (kept, is_forgotten) in
            [(Arc::clone(&held), true), (token("hvs.one"), true), (token("hvs.two"), false)]
        {
            let tokens = Tokens(tokio::sync::Mutex::new(Some(Arc::clone(&kept))));
            kept.note(Lease::new(Duration::from_secs(9), Duration::ZERO, Renewal::Possible));
            tokens.forget(&held).await;
            assert_eq!(tokens.0.lock().await.is_none(), is_forgotten);
        }
    }
}
