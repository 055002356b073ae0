use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use credvault::test_util::{self, github, proptest};
use credvault::{Credential, ExposeSecret, IntegrationId, Organization};
use proptest::prelude::*;
use time::OffsetDateTime;
use uuid::Uuid;

/// The service under test: keeps a GitHub user's token fresh, in as many workers as there are.
#[derive(Clone)]
struct TokenRefresher {
    organization: Organization,
    integration: IntegrationId,
    github: Arc<GitHub>,
}

impl TokenRefresher {
    /// Replaces the user's tokens by fresh ones, unless another worker is doing so.
    ///
    /// Who takes the refresh token out of the credential sends it. That is an `update` too: after the answer it would be
    /// too late to learn that another worker has sent the same. If a worker dies in between, the user has to
    /// connect again, as after any answer that is lost.
    async fn refresh(&self) -> credvault::Result<()> {
        let claim = Uuid::new_v4().to_string();
        let (refresh_token, mut revision) = loop {
            let Some(stored) = self.organization.get(self.integration).await? else { return Ok(()) };
            let (Some(access_token), Some(refresh_token)) =
                (text(&stored.credential, "access_token"), text(&stored.credential, "refresh_token"))
            else {
                return Ok(()); // taken
            };
            // The access token stays: those who call GitHub with it go on.
            let claimed = Credential::new(stored.credential.credential_type().clone())
                .with_field("access_token", access_token)
                .with_field("claim", claim.as_str())
                .with_expiry(stored.credential.expires_at());
            match self.organization.update(self.integration, &stored.revision, &claimed).await {
                Ok(revision) => break (refresh_token, revision),
                Err(error) if error.is_retryable() => {} // it changed: look again
                Err(error) => return Err(error),
            }
        };
        let fresh = self.github.exchange(&refresh_token).await;
        loop {
            match self.organization.update(self.integration, &revision, &fresh.credential()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
            // Re-encrypted under a new key, it still is our claim. Else the user has connected again: that is newer.
            match self.organization.get(self.integration).await? {
                Some(stored) if text(&stored.credential, "claim").as_deref() == Some(claim.as_str()) => {
                    revision = stored.revision;
                }
                _ => return Ok(()),
            }
        }
    }
}

fn text(credential: &Credential, name: &str) -> Option<String> {
    credential.field(name).map(|value| value.expose_secret().to_owned())
}

/// An access token and the refresh token that came with it.
#[derive(Clone, Debug, PartialEq)]
struct Pair(String, String);

impl Pair {
    fn credential(&self) -> Credential {
        let expires_at = OffsetDateTime::now_utc() + Duration::from_secs(8 * 60 * 60);
        Credential::github_user(self.0.as_str(), self.1.as_str(), expires_at)
    }
}

/// GitHub, as far as refreshing goes.
struct GitHub(Mutex<Issued>);

struct Issued {
    /// What it gives out next, the last of them first.
    pairs: Vec<Pair>,
    /// The authorization that each refresh token belongs to, and how often it was sent.
    refresh_tokens: HashMap<String, (u32, u32)>,
    /// How often the user has authorized the app.
    authorizations: u32,
    /// The pair that was given out last of the newest authorization.
    newest: Option<Pair>,
    /// How long an answer takes.
    latency: Duration,
}

impl Issued {
    fn issue(&mut self, authorization: u32) -> Pair {
        let pair = self.pairs.pop().expect("the plan has pairs enough");
        self.refresh_tokens.insert(pair.1.clone(), (authorization, 0));
        if authorization == self.authorizations {
            self.newest = Some(pair.clone());
        }
        pair
    }
}

impl GitHub {
    fn authorize(&self) -> Pair {
        let mut issued = self.0.lock().unwrap();
        issued.authorizations += 1;
        let authorization = issued.authorizations;
        issued.issue(authorization)
    }

    async fn exchange(&self, refresh_token: &str) -> Pair {
        let (pair, latency) = {
            let mut issued = self.0.lock().unwrap();
            let (authorization, sent) =
                issued.refresh_tokens.get_mut(refresh_token).expect("GitHub gave it out");
            *sent += 1;
            let authorization = *authorization;
            (issued.issue(authorization), issued.latency)
        };
        tokio::time::sleep(latency).await;
        pair
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A worker finds the access token about to expire.
    Refresh,
    Rotate,
    /// The user connects the service to GitHub anew.
    Connect,
}

/// Workers, rotations and perhaps a user, and when each comes; how long GitHub's answers take; the tokens it gives out.
fn plans() -> impl Strategy<Value = (Vec<(Event, Duration)>, Duration, Vec<Pair>)> {
    let moment = || (0..10_u64).prop_map(Duration::from_millis);
    let events = |event, count| proptest::collection::vec((Just(event), moment()), count);
    let events = (events(Event::Refresh, 2..6), events(Event::Rotate, 0..3), events(Event::Connect, 0..2))
        .prop_map(|(refreshes, rotations, connects)| [refreshes, rotations, connects].concat());
    let pair =
        (github::user_token(), github::refresh_token()).prop_map(|(access, refresh)| Pair(access, refresh));
    (events, moment(), proptest::collection::vec(pair, 7))
}

async fn refreshes_well(
    (events, latency, pairs): (Vec<(Event, Duration)>, Duration, Vec<Pair>),
) -> Result<(), TestCaseError> {
    let vault = test_util::vault().await.unwrap();
    let organization = vault.organization(Uuid::new_v4());
    let integration = organization.ensure_integration("github").await.unwrap();
    let (refresh_tokens, authorizations, newest) = (HashMap::new(), 0, None);
    let issued = Issued { pairs, refresh_tokens, authorizations, newest, latency };
    let github = Arc::new(GitHub(Mutex::new(issued)));
    organization.put(integration, &github.authorize().credential()).await.unwrap();

    let refresher = TokenRefresher { organization, integration, github };
    let mut tasks = tokio::task::JoinSet::new();
    for (event, moment) in events {
        let (refresher, vault) = (refresher.clone(), vault.clone());
        tasks.spawn(async move {
            tokio::time::sleep(moment).await;
            match event {
                Event::Refresh => refresher.refresh().await,
                Event::Rotate => vault.rotation().force().run().await.map(drop),
                Event::Connect => {
                    let connected = refresher.github.authorize().credential();
                    refresher.organization.put(refresher.integration, &connected).await.map(drop)
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().map_err(|error| TestCaseError::fail(error.to_string()))?;
    }

    let stored = refresher.organization.get(integration).await.unwrap().expect("it is never deleted");
    let issued = refresher.github.0.lock().unwrap();
    for (token, (_, sent)) in &issued.refresh_tokens {
        prop_assert!(*sent <= 1, "{} was sent {} times", token, sent);
    }
    let kept = text(&stored.credential, "access_token").zip(text(&stored.credential, "refresh_token"));
    prop_assert_eq!(kept.map(|(access, refresh)| Pair(access, refresh)), issued.newest.clone());
    Ok(())
}

/// In a service this is a `#[test]`.
fn every_refresh_token_is_sent_once_and_the_newest_token_stays() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    proptest!(ProptestConfig::with_cases(48), |(plan in plans())| {
        runtime.block_on(refreshes_well(plan))?;
    });
}
