//! What holds for every provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use credvault::provider::{self, ProviderRecord};
use credvault::test_util::FaultyProvider;
use credvault::{ErrorKind, Outcome, Vault};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::shown::Secrets;
use super::{Counterpart, context, open, vault_with_a_row};
use crate::common::{KeyFiles, TestDatabase, read_token, token};

macro_rules! claims {
    ($counterpart:ty) => {
        crate::conformance::tests! {
            keys of $counterpart;
            vaults:
                a_vault_opens_with_the_key_that_it_was_made_with,
                a_vault_is_refused_another_key_and_left_as_it_is,
                a_wrong_key_is_found_out_before_a_row_is_touched,
                a_key_is_of_its_vault_only,
                the_key_is_asked_for_once_however_many_read_at_once,
                a_rewrap_leads_here_and_on_and_back_to_a_file_under_a_reader;
            alone: no_secret_is_in_an_error_a_debug_or_a_trace;
        }
    };
}
pub(crate) use claims;

pub(crate) async fn a_vault_opens_with_the_key_that_it_was_made_with<C: Counterpart>(database: TestDatabase) {
    let key = C::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, key.provider()).await;
    vault.close().await;
    let kinds = database.fetch_text("SELECT provider FROM vault_master_keys").await;
    assert_eq!(kinds, [[Some(C::KIND.to_owned())]]);
    let vault = open(&database, [key.provider()]).await.unwrap();
    assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
    vault.organization(organization).put(integration, &token("new")).await.unwrap();
    assert!(vault.verify().run().await.unwrap().findings.is_empty());
}

pub(crate) async fn a_vault_is_refused_another_key_and_left_as_it_is<C: Counterpart>(database: TestDatabase) {
    let (key, other, keys) = (C::fresh().await, C::fresh().await, KeyFiles::new());
    let file = provider::from_spec(&keys.generate("other.key")).unwrap();
    let (vault, organization, integration) = vault_with_a_row(&database, key.provider()).await;
    vault.close().await;
    let before = database.dump().await;
    let error = open(&database, [other.provider()]).await.unwrap_err();
    assert_eq!(error.kind(), C::ANOTHER_KEY, "{error}");
    assert!(!error.is_retryable(), "{error}");
    let error = open(&database, [Arc::clone(&file)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    assert_eq!(database.dump().await, before);

    // What doesn't fit does no harm beside what does, in either order.
    for keys in [[other.provider(), file.clone(), key.provider()], [key.provider(), file, other.provider()]] {
        let vault = open(&database, keys).await.unwrap();
        assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
    }
    assert_eq!(database.dump().await, before);
}

pub(crate) async fn a_wrong_key_is_found_out_before_a_row_is_touched<C: Counterpart>(database: TestDatabase) {
    let key = C::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, key.provider()).await;
    vault.close().await;
    let before = database.dump().await;
    let error = open(&database, [key.impostor()]).await.unwrap_err();
    assert_eq!(error.kind(), C::WRONG_KEY, "{error}");
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(database.dump().await, before);
    let vault = open(&database, [key.provider()]).await.unwrap();
    assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
}

pub(crate) async fn the_key_is_asked_for_once_however_many_read_at_once<C: Counterpart>(
    database: TestDatabase,
) {
    let key = C::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, key.provider()).await;
    // A second data key, under which the row isn't.
    vault.keys().create(organization).await.unwrap();
    vault.close().await;

    let counted = FaultyProvider::new(key.provider());
    let vault = open(&database, [counted.provider()]).await.unwrap();
    let mut calls = JoinSet::new();
    for at in 0..100 {
        let organization = vault.organization(organization);
        calls.spawn(async move {
            if at % 10 == 0 {
                organization.put(integration, &token("there")).await.unwrap();
            }
            read_token(&organization, integration).await
        });
    }
    assert!(calls.join_all().await.iter().all(|read| read == "there"));
    let calls = counted.calls();
    assert_eq!((calls.create, calls.unlock, calls.wrap), (0, 1, 0));
}

pub(crate) async fn a_rewrap_leads_here_and_on_and_back_to_a_file_under_a_reader<C: Counterpart>(
    database: TestDatabase,
) {
    let (keys, ours) = (KeyFiles::new(), [C::fresh().await, C::fresh().await]);
    let [first, last] =
        ["first.key", "last.key"].map(|name| provider::from_spec(&keys.generate(name)).unwrap());
    let path = [first, ours[0].provider(), ours[1].provider(), last];
    let (mut vault, organization, integration) = vault_with_a_row(&database, path[0].clone()).await;

    // A service that got all the keys first, and is never opened again.
    let service = open(&database, path.clone()).await.unwrap();
    let (is_over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reader = tokio::spawn({
        let (service, is_over, reads) = (service.clone(), Arc::clone(&is_over), Arc::clone(&reads));
        async move {
            let organization = service.organization(organization);
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(read_token(&organization, integration).await, "there");
                organization.put(integration, &token("there")).await.unwrap();
                reads.fetch_add(1, Ordering::Relaxed);
            }
            // With data keys that were unwrapped under the last of them.
            assert_eq!(service.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
            assert_eq!(read_token(&organization, integration).await, "there");
        }
    });
    for [from, to] in path.windows(2).map(|pair| [&pair[0], &pair[1]]) {
        let before = reads.load(Ordering::Relaxed);
        let report = vault.rewrap(to.clone()).run().await.unwrap();
        assert_eq!(report.outcome, Outcome::Complete);
        vault.close().await;
        let error = open(&database, [from.clone()]).await.unwrap_err();
        assert!([ErrorKind::KeyUnavailable, C::ANOTHER_KEY].contains(&error.kind()), "{error}");
        vault = open(&database, [to.clone()]).await.unwrap();
        assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
        assert_follows(&database, &vault, &service).await;
        while reads.load(Ordering::Relaxed) == before && !reader.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    reader.await.unwrap();
}

/// Has `service`, which has run since before, unwrap a data key that it never had.
pub(crate) async fn assert_follows(database: &TestDatabase, vault: &Vault, service: &Vault) {
    let (organization, integration) = database.add_tenant().await;
    vault.keys().create(organization).await.unwrap();
    vault.organization(organization).put(integration, &token("new")).await.unwrap();
    assert_eq!(read_token(&service.organization(organization), integration).await, "new");
}

pub(crate) async fn a_key_is_of_its_vault_only<C: Counterpart>(database: TestDatabase) {
    let key = C::fresh().await;
    let (vault, organization, integration) = vault_with_a_row(&database, key.provider()).await;
    let id = vault.id();
    vault.close().await;
    database.execute(&format!("UPDATE vault_identity SET vault_id = '{}'", Uuid::from_u128(7))).await;
    let changed = database.dump().await;
    let error = open(&database, [key.provider()]).await.unwrap_err();
    assert!(
        [ErrorKind::KeyMismatch, ErrorKind::Tampered, ErrorKind::Malformed].contains(&error.kind()),
        "{error}"
    );
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(database.dump().await, changed);
    database.execute(&format!("UPDATE vault_identity SET vault_id = '{id}'")).await;
    let vault = open(&database, [key.provider()]).await.unwrap();
    assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
}

pub(crate) async fn no_secret_is_in_an_error_a_debug_or_a_trace<C: Counterpart>() {
    let key = C::fresh().await;
    let secrets = Secrets::traced(key.secrets());
    let provider = key.provider();
    let (master_key, record) = provider.create(&context()).await.unwrap();
    // Where keys have ids of their own, it is the one to ask for.
    let mut context = context();
    context.master_key_id = master_key.id();
    let unlocked = provider.unlock(&record, &context).await.unwrap();
    let mut shown = format!("{provider:?} {} {master_key:?} {unlocked:?} {record:?}", key.spec());
    for unlocked in [
        key.impostor().unlock(&record, &context).await,
        provider.unlock(&ProviderRecord::new(format!("{}A", record.as_str())).unwrap(), &context).await,
        C::fresh().await.provider().unlock(&record, &context).await,
        provider.unlock(&record, &super::context().for_organization(Some(Uuid::nil().into()))).await,
    ] {
        shown += &match unlocked {
            Ok(key) => format!("{key:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
    }
    secrets.assert_hidden(&shown);
}
