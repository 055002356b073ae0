//! One vault that goes from each provider to each other one, while services read it and are not started again.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, unused_imports, unused_macros, reason = "of the suite, the counterparts alone")]
mod conformance;
#[allow(dead_code, reason = "what a test asks of the double, the chain does not")]
mod double;

#[allow(dead_code, reason = "what a test asks of the double, the chain does not")]
mod aws_kms {
    pub(crate) mod counterpart;
    mod double;
    mod moto;
}
#[allow(dead_code, reason = "what a test asks of the double, the chain does not")]
mod azure_kv {
    pub(crate) mod counterpart;
    mod double;
}
#[allow(dead_code, reason = "what a test asks of a program, the chain does not")]
mod exec {
    pub(crate) mod counterpart;
    mod program;
}
#[allow(dead_code, reason = "what a test asks of the double, the chain does not")]
mod gcp_kms {
    pub(crate) mod counterpart;
    mod double;
    mod service;
}
mod local {
    pub(crate) mod key_file;
    pub(crate) mod passphrase;
}
#[allow(dead_code, reason = "what a test asks of a token, the chain does not")]
mod pkcs11 {
    pub(crate) mod counterpart;
    mod softhsm;
}
#[allow(dead_code, reason = "what a test asks of the double, the chain does not")]
mod vault_transit {
    pub(crate) mod counterpart;
    mod double;
}

use std::any::Any;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use credvault::{IntegrationId, OrganizationId, Outcome, Vault, provider};
use tokio::process::Command;

use common::{Dialect, TestDatabase, on_both_stores, read_token, token};
use conformance::Counterpart;

on_both_stores!(rows_come_through_rewraps_from_provider_to_provider);

const ROWS: usize = 200;

/// A key of a provider, and the counterpart that gives it.
struct Link {
    spec: String,
    _counterpart: Box<dyn Any>,
}

async fn link<C: Counterpart + 'static>() -> Link {
    let counterpart = C::fresh().await;
    Link { spec: counterpart.spec(), _counterpart: Box::new(counterpart) }
}

/// A fresh key of each provider in the chain.
async fn fresh(provider: usize) -> Option<Link> {
    Some(match provider {
        0 => link::<local::key_file::File>().await,
        1 => link::<vault_transit::counterpart::Key>().await,
        2 => link::<aws_kms::counterpart::Key>().await,
        3 => link::<pkcs11::counterpart::Key>().await,
        4 => link::<local::passphrase::Words>().await,
        5 => link::<exec::counterpart::Sample>().await,
        6 => link::<azure_kv::counterpart::InVault>().await,
        7 => link::<azure_kv::counterpart::InHsm>().await,
        8 => link::<gcp_kms::counterpart::Key>().await,
        _ => return None,
    })
}

/// The providers in an order in which each follows upon each other once; it begins and ends with the first.
fn walk(from: usize, providers: usize, path: &mut Vec<usize>) {
    path.push(from);
    for to in from + 1..providers {
        match to == from + 1 {
            true => walk(to, providers, path),
            false => path.push(to),
        }
        path.push(from);
    }
}

#[test]
fn the_walk_takes_each_pair_once() {
    let mut path = Vec::new();
    walk(0, 5, &mut path);
    let mut pairs: Vec<_> = path.windows(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!((path[0], path[path.len() - 1], pairs.len()), (0, 0, 5 * 4));
    pairs.sort_unstable();
    pairs.dedup();
    assert!(pairs.len() == 5 * 4 && pairs.iter().all(|(from, to)| from != to), "{path:?}");
}

struct Rows(Vec<(OrganizationId, IntegrationId)>);

impl Rows {
    async fn put(database: &TestDatabase, vault: &Vault) -> Self {
        let mut rows = Vec::new();
        for nth in 0..ROWS {
            let (organization, integration) = database.add_tenant().await;
            vault.organization(organization).put(integration, &token(&format!("token {nth}"))).await.unwrap();
            rows.push((organization, integration));
        }
        Self(rows)
    }

    async fn assert_intact(&self, vault: &Vault) {
        for (nth, (organization, integration)) in self.0.iter().enumerate() {
            let read = read_token(&vault.organization(*organization), *integration).await;
            assert_eq!(read, format!("token {nth}"));
        }
    }
}

/// The command, as an operator gives it.
async fn rewrap_by_command(database: &TestDatabase, from: &str, to: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_credvault"))
        .args(["--database", database.url(), "--master-key", from, "rewrap", "--yes", "--to", to])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&said));
}

async fn rows_come_through_rewraps_from_provider_to_provider(database: TestDatabase) {
    let mut providers = 0;
    while fresh(providers).await.is_some() {
        providers += 1;
    }
    // On one of the stores, for what differs there is not the provider: from each to the next, and back to the first.
    let mut path: Vec<usize> = (0..providers).chain([0]).collect();
    if database.dialect() == Dialect::Sqlite {
        path.clear();
        walk(0, providers, &mut path);
    }
    let mut links = Vec::new();
    for provider in path {
        links.push(fresh(provider).await.unwrap());
    }
    let vault = database.create_vault(&links[0].spec).await;
    let rows = Arc::new(Rows::put(&database, &vault).await);
    vault.close().await;

    // Services that got all the keys first, and are never opened again: one that reads, one that begins to, later.
    let all = || {
        let builder = Vault::builder().url(database.url());
        links.iter().try_fold(builder, |builder, link| builder.master_key(&link.spec)).unwrap()
    };
    let (service, idle) = (all().build().await.unwrap(), all().build().await.unwrap());
    let (is_over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reader = tokio::spawn({
        let (rows, is_over, rounds) = (Arc::clone(&rows), Arc::clone(&is_over), Arc::clone(&rounds));
        let service = service.clone();
        async move {
            while !is_over.load(Ordering::Relaxed) {
                rows.assert_intact(&service).await;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            // The data key that it holds was unwrapped under the first; another one is under the last.
            assert_eq!(service.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
            rows.assert_intact(&service).await;
        }
    });
    for (step, [from, to]) in links.windows(2).map(|pair| [&pair[0].spec, &pair[1].spec]).enumerate() {
        // By the command and by the library, in turns.
        if step % 2 == 0 {
            rewrap_by_command(&database, from, to).await;
        } else {
            let vault = database.open_vault(from).await;
            let report = vault.rewrap(provider::from_spec(to).unwrap()).run().await.unwrap();
            // The one of the rows, and one of each step before.
            let data_keys = step as u64 + 1;
            assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, data_keys), "{from} to {to}");
            vault.close().await;
        }
        let error = Vault::open(database.url(), from).await.map(|_| ()).unwrap_err();
        assert!(!error.is_retryable(), "{from}: {error}");
        let vault = database.open_vault(to).await;
        rows.assert_intact(&vault).await;
        conformance::keys::assert_follows(&database, &vault, &service).await;
        vault.close().await;
        assert!(!reader.is_finished(), "the reader ended");
    }
    is_over.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    assert!(rounds.load(Ordering::Relaxed) > 0);
    rows.assert_intact(&idle).await;
    assert!(idle.verify().run().await.unwrap().findings.is_empty());
}
