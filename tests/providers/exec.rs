//! Master keys under a program of one's own: the sample of `examples`, and programs that misbehave.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use credvault::provider::{self, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{ErrorKind, Outcome, Vault};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use common::{KeyFiles, TestDatabase, on_both_stores, read_token, token};

on_both_stores!(
    a_vault_under_a_program_is_asked_for_once_however_many_read,
    a_wrong_key_is_found_out_before_a_row_is_touched,
    rows_are_read_while_the_master_key_goes_to_a_program_and_back,
    a_refresh_wraps_under_the_programs_new_key,
);

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/exec_provider/wrap.py");

/// A program of a test: what it does is text of `sh`, and each run of it counts.
struct Program(TempDir);

impl Program {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let runs = folder.path().join("runs").display().to_string();
        fs::write(&path, format!("#!/bin/sh\necho >>'{runs}'\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self(folder)
    }

    /// The sample, with a key of its own.
    fn sample() -> Self {
        let program = Self::new("");
        let key = program.0.path().join("key");
        let text = format!("CREDVAULT_EXEC_KEY_FILE='{}' exec python3 '{SAMPLE}'\n", key.display());
        let path = program.0.path().join("program");
        fs::write(&path, fs::read_to_string(&path).unwrap() + &text).unwrap();
        program.draw_key();
        program
    }

    fn draw_key(&self) {
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        fs::write(self.0.path().join("key"), key).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.0.path().join("runs")).unwrap_or_default().lines().count()
    }

    fn provider(&self) -> Arc<dyn MasterKeyProvider> {
        provider::from_spec(&format!("exec:{}", self.0.path().join("program").display())).unwrap()
    }

    /// The kind of error that unlocking gives, and its text.
    async fn unlock(&self) -> (ErrorKind, String) {
        let record = ProviderRecord::new("record".to_owned()).unwrap();
        let error = self.provider().unlock(&record, &context()).await.unwrap_err();
        (error.kind(), format!("{error} {error:?}"))
    }
}

fn context() -> ProviderContext {
    ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
}

async fn make(database: &TestDatabase, program: &Program) -> Vault {
    let builder = Vault::builder().url(database.url()).master_key_provider(program.provider());
    builder.create_if_missing().build().await.unwrap()
}

async fn a_vault_under_a_program_is_asked_for_once_however_many_read(database: TestDatabase) {
    let program = Program::sample();
    let vault = make(&database, &program).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("there")).await.unwrap();
    let before = program.runs();
    let builder = Vault::builder().url(database.url()).master_key_provider(program.provider());
    let opened = builder.build().await.unwrap();
    let mut reads = JoinSet::new();
    for _ in 0..100 {
        let organization = opened.organization(organization);
        reads.spawn(async move { read_token(&organization, integration).await });
    }
    assert!(reads.join_all().await.iter().all(|read| read == "there"));
    assert_eq!(program.runs(), before + 1);
}

async fn a_wrong_key_is_found_out_before_a_row_is_touched(database: TestDatabase) {
    let program = Program::sample();
    let vault = make(&database, &program).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("there")).await.unwrap();
    let before = database.dump().await;
    let wrong = Program::new(
        r#"cat >/dev/null; echo '{"version":1,"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}'"#,
    );
    let builder = Vault::builder().url(database.url()).master_key_provider(wrong.provider());
    let error = builder.build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyMismatch, "{error}");
    assert_eq!(database.dump().await, before);
}

async fn rows_are_read_while_the_master_key_goes_to_a_program_and_back(database: TestDatabase) {
    let (program, keys) = (Program::sample(), KeyFiles::new());
    let maker = database.create_vault(&keys.generate("master.key")).await;
    let (organization, integration) = database.add_tenant().await;
    maker.organization(organization).put(integration, &token("there")).await.unwrap();
    // A service that has both goes on without a restart.
    let builder = Vault::builder().url(database.url()).master_key(&keys.spec("master.key")).unwrap();
    let service = builder.master_key_provider(program.provider()).build().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (service, stop) = (service.organization(organization), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(read_token(&service, integration).await, "there");
                reads += 1;
            }
            reads
        })
    };
    // Each rotation leaves one data key more, which is kept for backups.
    for (data_keys, to) in
        [(1, program.provider()), (2, provider::from_spec(&keys.generate("next.key")).unwrap())]
    {
        let report = service.rewrap(to).run().await.unwrap();
        assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, data_keys));
        assert_eq!(service.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
    assert!(
        database.open_vault(&keys.spec("next.key")).await.verify().run().await.unwrap().findings.is_empty()
    );
}

async fn a_refresh_wraps_under_the_programs_new_key(database: TestDatabase) {
    let program = Program::sample();
    let vault = make(&database, &program).await;
    let record = "SELECT provider_record FROM vault_master_keys";
    let before = database.fetch_text(record).await;
    assert!(vault.refresh_master_keys().await.unwrap()[0].refreshed);
    assert_ne!(database.fetch_text(record).await, before);
    // With the key gone nothing is written.
    let before = database.fetch_text(record).await;
    program.draw_key();
    let error = vault.refresh_master_keys().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert_eq!(database.fetch_text(record).await, before);
}

#[tokio::test]
async fn a_record_opens_for_its_vault_master_key_and_organization_only() {
    let program = Program::sample();
    let provider = program.provider();
    let (_, record) = provider.create(&context()).await.unwrap();
    provider.unlock(&record, &context()).await.unwrap();
    let [one, two] = [1, 2].map(Uuid::from_u128);
    for other in [
        ProviderContext::new(two.into(), two.into()),
        ProviderContext::new(one.into(), one.into()),
        context().for_organization(Some(one.into())),
    ] {
        let error = provider.unlock(&record, &other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("none of this key, vault and organization"), "{error}");
    }
}

#[tokio::test]
async fn a_record_that_is_cut_or_altered_is_refused() {
    let program = Program::sample();
    let provider = program.provider();
    let (_, record) = provider.create(&context()).await.unwrap();
    let text = record.as_str();
    // Every eighth place: each costs an interpreter.
    let cut = (1..text.len()).step_by(8).map(|at| text[..at].to_owned());
    let altered = (0..text.len()).step_by(8).map(|at| {
        let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    });
    for record in cut.chain(altered) {
        let record = ProviderRecord::new(record).unwrap();
        let error = provider.unlock(&record, &context()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    }
}

#[tokio::test]
async fn what_may_be_over_is_asked_again_four_times_at_most() {
    let throttled =
        r#"cat >/dev/null; echo '{"version":1,"error":{"kind":"throttled","message":"slow down"}}'"#;
    let program = Program::new(throttled);
    let (kind, text) = program.unlock().await;
    assert_eq!((kind, program.runs()), (ErrorKind::Provider, 4), "{text}");
    assert!(text.contains("slow down"), "{text}");
    for (word, expected) in [("denied", ErrorKind::Refused), ("not-found", ErrorKind::KeyUnavailable)] {
        let program = Program::new(&throttled.replace("throttled", word));
        let (kind, text) = program.unlock().await;
        assert_eq!((kind, program.runs()), (expected, 1), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_and_asked_again_for_twenty_two_seconds_at_most() {
    let program = Program::new("sleep 600");
    let began = Instant::now();
    let (kind, text) = program.unlock().await;
    assert_eq!((kind, program.runs()), (ErrorKind::Provider, 4), "{text}");
    assert!((20..23).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // With what it had started.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let left = std::process::Command::new("pgrep").args(["-f", "^sleep 600$"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[tokio::test]
async fn nothing_that_a_program_says_amiss_is_repeated() {
    const MARKER: &str = "Mk8MarkerOfWhatTheProgramSays";
    for (text, kind) in [
        (format!("cat >/dev/null; echo '{MARKER}'"), ErrorKind::Malformed),
        (format!("cat >/dev/null; echo '{{\"version\":1,\"{MARKER}\":\"{MARKER}\"}}'"), ErrorKind::Malformed),
        (format!("cat >/dev/null; echo '{{\"version\":1,\"key\":\"{MARKER}\"}}'"), ErrorKind::Malformed),
        (format!("cat >/dev/null; echo '{MARKER}' >&2; exit 3"), ErrorKind::Provider),
    ] {
        let (given, said) = Program::new(&text).unlock().await;
        assert_eq!(given, kind, "{said}");
        assert!(!said.contains(MARKER), "{said}");
    }
}
