//! The token that a server is asked with: given, or got by a login, kept alive, and got anew when it ends.

use std::cmp::max;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tokio::sync::Mutex;
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
    lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// `None` for a root's token, which has no end.
    ends: Option<Instant>,
    whole: Duration,
    is_renewable: bool,
}

impl Lease {
    /// As Vault says it: no seconds are no end.
    fn new(left: u64, whole: u64, is_renewable: bool) -> Self {
        // Beyond what a clock can hold is no end either.
        let ends = if left == 0 { None } else { Instant::now().checked_add(Duration::from_secs(left)) };
        Self { ends, whole: Duration::from_secs(max(left, whole)), is_renewable }
    }

    /// How much is left, of a token that has an end.
    fn left(&self) -> Option<Duration> {
        Some(self.ends?.saturating_duration_since(Instant::now()))
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Half of it is over, or less than `at_least` is left.
    fn is_short(&self, at_least: Duration) -> bool {
        self.left().is_some_and(|left| left < max(self.whole / 2, at_least))
    }
}

/// A master key is asked for so often, and a token used no more than that.
fn until_the_next_use() -> Duration {
    CachePeriod::default().renewed_after()
}

/// A token to ask with.
pub(super) struct Given {
    pub(super) held: Arc<Held>,
    /// Whether it was used before, so that another login may help when it is refused.
    pub(super) is_of_an_earlier_login: bool,
}

/// The token of a provider, kept between its calls.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Option<Arc<Held>>>);

impl Tokens {
    /// The token to ask with. Several who need a login at once wait for one.
    ///
    /// # Errors
    ///
    /// `Provider` if a token or what a login takes is not there; `Refused` if the server doesn't accept it.
    pub(super) async fn get(&self, server: &Server) -> Result<Given> {
        let mut slot = self.0.lock().await;
        let (held, is_of_an_earlier_login) = match (&server.settings.identity, slot.take()) {
            (Identity::Login(_), Some(held)) if !held.lease.is_some_and(|lease| lease.is_over()) => {
                (held, true)
            }
            (Identity::Login(login), _) => (Arc::new(logged_in(server, login).await?), false),
            (Identity::Token(source), known) => {
                let source = source.clone();
                let token = in_background(move || source.secret()).await?;
                let known = known.filter(|known| is_same(&known.token, &token));
                (known.unwrap_or_else(|| Arc::new(Held { token, lease: None })), false)
            }
        };
        *slot = Some(Arc::clone(&held));
        Ok(Given { held, is_of_an_earlier_login })
    }

    /// Forgets a token that was refused.
    pub(super) async fn forget(&self, refused: &Arc<Held>) {
        self.0.lock().await.take_if(|held| Arc::ptr_eq(held, refused));
    }

    /// Sees to it that a token which was used just now can be used the next time, too. That it can't be is no error yet.
    pub(super) async fn keep_alive(&self, server: &Server, held: &Arc<Held>) {
        let result = tokio::time::timeout(AFTERWARDS, lease(server, held)).await;
        match result {
            Ok(Ok(lease)) => {
                let left = lease.left();
                if matches!(server.settings.identity, Identity::Token(_))
                    && left.is_some_and(|left| left <= until_the_next_use())
                {
                    let seconds = left.unwrap_or_default().as_secs();
                    tracing::warn!(key = %server.key, seconds, "the token ends before it is needed again: give another");
                }
                let renewed =
                    Held { token: SecretText::copy_of(held.token.expose_secret()), lease: Some(lease) };
                let mut slot = self.0.lock().await;
                if slot.as_ref().is_some_and(|now| Arc::ptr_eq(now, held)) {
                    *slot = Some(Arc::new(renewed));
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "whether the token lasts is not known"),
            Err(_) => tracing::warn!(key = %server.key, "whether the token lasts is not known: no answer"),
        }
    }
}

/// The lease of a token, renewed if it is short and can be.
async fn lease(server: &Server, held: &Held) -> Result<Lease> {
    let lease = match held.lease {
        Some(lease) => lease,
        None => {
            let answer = server.call(&Action::LookUpToken, Some(&held.token), None).await?;
            let whole = answer.number(["data", "creation_ttl"]).unwrap_or(0);
            let is_renewable = answer.is_true(["data", "renewable"]);
            Lease::new(answer.number(["data", "ttl"])?, whole, is_renewable)
        }
    };
    // What a login gave can be had again; what was given is to last for the next use, and once more.
    let at_least = match server.settings.identity {
        Identity::Login(_) => Duration::ZERO,
        Identity::Token(_) => until_the_next_use() * 2,
    };
    if !lease.is_renewable || !lease.is_short(at_least) {
        return Ok(lease);
    }
    let body = Zeroizing::new("{}".to_owned());
    let renewed = server.call(&Action::RenewToken, Some(&held.token), Some(&body)).await?;
    lease_of(&renewed, lease.whole.as_secs())
}

fn lease_of(answer: &Answer, whole: u64) -> Result<Lease> {
    let left = answer.number(["auth", "lease_duration"])?;
    Ok(Lease::new(left, whole, answer.is_true(["auth", "renewable"])))
}

async fn logged_in(server: &Server, login: &Login) -> Result<Held> {
    let credentials = login.clone();
    let body = in_background(move || body_of(&credentials)).await?;
    let action = Action::LogIn(login);
    let answer = service::asked(server.key.origin(), || server.call(&action, None, Some(&body))).await?;
    let within = |error: Error| error.within(format_args!("login by {login} at {}", server.key));
    let token = answer.string(["auth", "client_token"]).map_err(within)?;
    Ok(Held { token, lease: Some(lease_of(&answer, 0).map_err(within)?) })
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
    use super::*;

    #[test]
    fn a_lease_is_short_when_half_is_over_or_less_than_is_needed_is_left() {
        const HOUR: u64 = 3_600;
        for (left, whole, is_short_of_a_login, is_short_given) in [
            (0, 0, false, false),
            (HOUR, HOUR, false, true),
            (HOUR - 1, 2 * HOUR, true, true),
            (2 * HOUR - 1, 2 * HOUR, false, true),
            (2 * HOUR + 60, 2 * HOUR + 60, false, false),
            (13 * HOUR, 24 * HOUR, false, false),
            (11 * HOUR, 24 * HOUR, true, true),
            (u64::MAX, u64::MAX, false, false),
        ] {
            let lease = Lease::new(left, whole, true);
            let short = [Duration::ZERO, until_the_next_use() * 2].map(|at_least| lease.is_short(at_least));
            assert_eq!(short, [is_short_of_a_login, is_short_given], "{left} of {whole}");
        }
    }
}
