//! What holds for providers that ask somebody: a key service, a token, a program.

use std::time::{Duration, Instant};

use credvault::provider::{self, KeyBytes, ProviderContext};
use credvault::{Error, ErrorKind};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::shown::Secrets;
use super::{MANY, Service, Weather, context, open, vault_with_a_row};
use crate::common::{TestDatabase, read_token};

macro_rules! claims {
    ($counterpart:ty) => {
        crate::conformance::tests! {
            services of $counterpart;
            vaults:
                a_refresh_makes_a_new_record_of_the_same_key,
                vaults_opened_at_once_get_the_key_by_one_call;
            clocks:
                an_outage_is_borne_until_the_ceiling,
                a_renewal_is_one_call_however_many_need_the_key_again,
                an_organizations_own_key_that_is_taken_away_closes_that_organization_only;
            alone:
                a_record_opens_for_its_vault_master_key_and_organization_only,
                a_failure_that_may_be_over_is_asked_again_and_four_times_at_most,
                an_answer_that_never_comes_is_waited_for_22_seconds_at_most,
                a_refusal_is_not_asked_again,
                a_spec_asks_nothing,
                no_secret_of_a_service_that_fails_is_shown;
        }
    };
}
pub(crate) use claims;

/// How often a service is asked at most, and how long that takes at most.
const ATTEMPTS: usize = 4;
const BOUND: Duration = Duration::from_secs(22);

/// The pauses between them, at the least: half of 0.2, of 0.4 and of 0.8 s.
const PAUSES: Duration = Duration::from_millis(700);

/// The bound, and what a machine that runs all of this at once adds; without it, in `service`'s own tests, by a clock.
const BUSY_BOUND: Duration = Duration::from_secs(30);

const OPENINGS: usize = 100;

pub(crate) async fn a_record_opens_for_its_vault_master_key_and_organization_only<S: Service>() {
    let service = S::fresh().await;
    let provider = service.provider();
    let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
    let of = |vault: Uuid, key: Uuid, organization: Option<Uuid>| {
        ProviderContext::new(vault.into(), key.into()).for_organization(organization.map(Into::into))
    };
    let (shared, own) = (of(one, two, None), of(one, two, Some(three)));
    for (ours, others) in [
        (shared, [of(three, two, None), of(one, three, None), of(two, one, None), own]),
        (own, [of(three, two, Some(three)), of(one, three, Some(three)), of(one, two, Some(two)), shared]),
    ] {
        let given = KeyBytes::copy_of(&[7; 32]).unwrap();
        for record in [provider.create(&ours).await.unwrap().1, provider.wrap(&given, &ours).await.unwrap()] {
            assert_eq!(provider.unlock(&record, &ours).await.unwrap().id(), ours.master_key_id);
            for other in others {
                let error = provider.unlock(&record, &other).await.expect_err("it opens elsewhere");
                assert_eq!(error.kind(), S::ALTERED, "{error}");
                assert!(!error.is_retryable(), "{error}");
            }
        }
    }
}

pub(crate) async fn a_failure_that_may_be_over_is_asked_again_and_four_times_at_most<S: Service>() {
    let service = S::fresh().await;
    let provider = service.provider();
    let (_, record) = provider.create(&context()).await.unwrap();
    for weather in [Weather::Throttled, Weather::Away] {
        service.take_calls();
        service.weather(weather, 2);
        provider.unlock(&record, &context()).await.unwrap();
        assert_eq!(service.take_calls(), 3, "{weather:?} twice, then the key");

        for what in ["unlock", "create", "wrap"] {
            service.weather(weather, MANY);
            let began = Instant::now();
            let error = failure(&service, what, &record).await;
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Provider, true), "{what}: {error}");
            assert_eq!(service.take_calls(), ATTEMPTS, "{what}: {weather:?} for good");
            let took = began.elapsed();
            assert!((PAUSES..BOUND).contains(&took), "{what}: {took:?}");
        }
        service.clear_up();
        provider.unlock(&record, &context()).await.unwrap();
    }
}

async fn failure<S: Service>(service: &S, what: &str, record: &provider::ProviderRecord) -> Error {
    let provider = service.provider();
    match what {
        "unlock" => provider.unlock(record, &context()).await.map(|_| ()),
        "create" => provider.create(&context()).await.map(|_| ()),
        _ => provider.wrap(&KeyBytes::copy_of(&[7; 32]).unwrap(), &context()).await.map(|_| ()),
    }
    .expect_err(what)
}

pub(crate) async fn an_answer_that_never_comes_is_waited_for_22_seconds_at_most<S: Service>() {
    let service = S::fresh().await;
    let provider = service.provider();
    let (_, record) = provider.create(&context()).await.unwrap();
    service.take_calls();
    service.weather(Weather::Silent, 1);
    provider.unlock(&record, &context()).await.unwrap();
    assert_eq!(service.take_calls(), 2, "once without an answer, then the key");

    service.weather(Weather::Silent, MANY);
    let began = Instant::now();
    let error = provider.unlock(&record, &context()).await.unwrap_err();
    assert!(began.elapsed() < BUSY_BOUND, "{:?}", began.elapsed());
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Provider, true), "{error}");
    assert_eq!(service.take_calls(), ATTEMPTS);
    service.clear_up();
    provider.unlock(&record, &context()).await.unwrap();
}

pub(crate) async fn a_refusal_is_not_asked_again<S: Service>() {
    let service = S::fresh().await;
    let (_, record) = service.provider().create(&context()).await.unwrap();
    service.take_calls();
    service.weather(Weather::Denied, MANY);
    for what in ["unlock", "create", "wrap"] {
        let error = failure(&service, what, &record).await;
        assert!([ErrorKind::Refused, ErrorKind::KeyUnavailable].contains(&error.kind()), "{what}: {error}");
        assert!(!error.is_retryable(), "{what}: {error}");
        assert_eq!(service.take_calls(), 1, "{what}");
    }
}

pub(crate) async fn a_spec_asks_nothing<S: Service>() {
    let service = S::fresh().await;
    service.take_calls();
    service.weather(Weather::Away, MANY);
    let provider = provider::from_spec(&service.spec()).unwrap();
    assert_eq!((provider.kind(), service.take_calls()), (S::KIND, 0));
    let period = provider.cache().expect("a service's key is asked for again");
    assert!(period.ceiling() > period.renewed_after());
}

/// As in a process of many services, or one that opens a vault for each of its tasks: each by a provider of its own.
pub(crate) async fn vaults_opened_at_once_get_the_key_by_one_call<S: Service>(database: TestDatabase) {
    let service = S::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, service.provider()).await;
    vault.close().await;
    let pool = database.pool(5).await;
    // All are there within the 10 s until two attempts are given up.
    service.take_calls();
    service.weather(Weather::Silent, 2);
    let mut openings = JoinSet::new();
    for _ in 0..OPENINGS {
        let builder = pool.builder().master_key_provider(service.provider());
        openings.spawn(async move {
            let vault = builder.build().await.unwrap();
            read_token(&vault.organization(organization), integration).await
        });
    }
    assert!(openings.join_all().await.iter().all(|read| read == "there"));
    assert_eq!(service.take_calls(), 3, "twice without an answer, then the key for all");
}

pub(crate) async fn a_refresh_makes_a_new_record_of_the_same_key<S: Service>(database: TestDatabase) {
    const RECORD: &str = "SELECT provider_record FROM vault_master_keys";

    let service = S::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, service.provider()).await;
    let (before, record) = (database.dump().await, database.fetch_text(RECORD).await);
    service.rotate().await;
    assert!(vault.refresh_master_keys().await.unwrap()[0].refreshed);
    assert_ne!(database.fetch_text(RECORD).await, record);
    let after = database.dump().await;
    let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
    assert_eq!((changed, before.lines().count()), (1, after.lines().count()), "the record alone");
    let opened = open(&database, [service.provider()]).await.unwrap();
    assert_eq!(read_token(&opened.organization(organization), integration).await, "there");

    service.weather(Weather::Denied, MANY);
    vault.refresh_master_keys().await.unwrap_err();
    assert_eq!(database.dump().await, after);
}

pub(crate) async fn no_secret_of_a_service_that_fails_is_shown<S: Service>() {
    let service = S::fresh().await;
    let given = *b"hunter2's key, all of 32 bytes..";
    let mut secrets = service.secrets();
    secrets.push(given.to_vec());
    let secrets = Secrets::traced(secrets);
    let (provider, key) = (service.provider(), KeyBytes::copy_of(&given).unwrap());
    let record = provider.wrap(&key, &context()).await.unwrap();
    let unlocked = provider.unlock(&record, &context()).await.unwrap();
    let mut shown = format!("{provider:?} {record:?} {unlocked:?} {key:?}");
    for weather in [Weather::Throttled, Weather::Away, Weather::Denied] {
        service.weather(weather, 1);
        shown += &format!("{:?}", provider.wrap(&key, &context()).await);
        service.weather(weather, MANY);
        let error = provider.unlock(&record, &context()).await.unwrap_err();
        shown += &format!("{error} {error:?} {:?}", provider.wrap(&key, &context()).await);
    }
    service.clear_up();
    let other = context().for_organization(Some(Uuid::nil().into()));
    shown += &format!("{:?}", provider.unlock(&record, &other).await);
    shown += &format!("{:?}", service.impostor().unlock(&record, &context()).await);
    secrets.assert_hidden(&shown);
}
