//! Programs that misbehave.

use std::fs;
use std::time::Duration;

use credvault::ErrorKind;
use credvault::provider::{self, ProviderRecord};

use super::program::Program;
use crate::conformance::context;

/// The kind of error that unlocking by this program gives, and its text.
async fn unlock(program: &Program) -> (ErrorKind, String) {
    let record = ProviderRecord::new("record".to_owned()).unwrap();
    let provider = provider::from_spec(&program.spec()).unwrap();
    let error = provider.unlock(&record, &context()).await.unwrap_err();
    (error.kind(), format!("{error} {error:?}"))
}

#[tokio::test]
async fn what_a_program_says_went_wrong_is_said_in_its_words() {
    for (word, expected, runs) in [
        ("throttled", ErrorKind::Provider, 4),
        ("denied", ErrorKind::Refused, 1),
        ("not-found", ErrorKind::KeyUnavailable, 1),
        ("invalid", ErrorKind::Malformed, 1),
    ] {
        let text = r#"cat >/dev/null; echo '{"version":1,"error":{"kind":"WORD","message":"slow down"}}'"#;
        let program = Program::new(&text.replace("WORD", word));
        let (kind, text) = unlock(&program).await;
        assert_eq!((kind, program.runs()), (expected, runs), "{text}");
        assert!(text.contains("slow down"), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_what_it_started() {
    let program = Program::new("sleep 601 & echo $! >>\"$folder/children\"; wait");
    let provider = provider::from_spec(&program.spec()).unwrap();
    let record = ProviderRecord::new("record".to_owned()).unwrap();
    // It is asked again after 5 s.
    let context = context();
    let asked = tokio::time::timeout(Duration::from_secs(8), provider.unlock(&record, &context));
    asked.await.map(|_| ()).unwrap_err();
    assert_eq!(program.runs(), 2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let children = fs::read_to_string(program.folder().join("children")).unwrap();
    assert_eq!(children.lines().count(), 2);
    for child in children.lines() {
        // One that has ended and wasn't waited for yet has an empty one.
        let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&command), "");
    }
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
        let (given, said) = unlock(&Program::new(&text)).await;
        assert_eq!(given, kind, "{said}");
        assert!(!said.contains(MARKER), "{said}");
    }
}
