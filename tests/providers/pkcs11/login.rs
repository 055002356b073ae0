//! The PIN: where it is, and that a wrong one never costs a token more than one try.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use credvault::ErrorKind;
use credvault::provider::{MasterKeyProvider, Pkcs11};

use super::softhsm::{PIN, Token};
use super::{assert_says, context, record_of, refusal, refusal_to_create};

const WRONG: &str = "pin-hunter3";

#[tokio::test]
async fn a_wrong_pin_is_sent_once_however_often_the_key_is_asked_for() {
    let token = Token::new();
    let record = record_of(&token).await;
    token.forget_calls();
    token.write_pin(WRONG);
    for attempt in 0..5 {
        // A provider of its own, as each opening of a vault has one.
        let error = refusal(&token, &record, &context()).await;
        assert_says(&error, ErrorKind::KeyUnavailable, &["refused the PIN of PIN file", &token.label]);
        assert_eq!(error.to_string().contains("doesn't send it again"), attempt > 0);
        assert!(!error.is_retryable());
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }
    assert_eq!(token.calls("Login"), 1);
    // Another one is sent, and the right one still opens.
    token.write_pin("short");
    refusal(&token, &record, &context()).await;
    assert_eq!(token.calls("Login"), 2);
    token.write_pin(PIN);
    token.provider().unlock(&record, &context()).await.unwrap();
    assert_eq!(token.calls("Login"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_pin_is_sent_once_by_many_at_a_time() {
    let token = Token::new();
    let record = record_of(&token).await;
    token.forget_calls();
    token.write_pin(WRONG);
    let calls = (0..8).map(|_| {
        let (provider, record) = (token.provider(), record.clone());
        tokio::spawn(async move { provider.unlock(&record, &context()).await.unwrap_err() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_says(&call.await.unwrap(), ErrorKind::KeyUnavailable, &["refused the PIN"]);
    }
    assert_eq!(token.calls("Login"), 1);
}

#[tokio::test]
async fn no_pin_is_sent_to_a_token_that_has_locked_it_or_would_at_the_next_one() {
    const FINAL_TRY: &str = "GetTokenInfo flags=0x20000 999";
    const LOCKED: &str = "GetTokenInfo flags=0x40000 999";

    let token = Token::new();
    let record = record_of(&token).await;
    token.forget_calls();
    token.fault(LOCKED);
    let error = refusal(&token, &record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["has locked its PIN", "security officer", &token.label]);
    token.fault(FINAL_TRY);
    let error = refusal(&token, &record, &context()).await;
    assert_says(&error, ErrorKind::Refused, &["one try of its PIN left", "by hand"]);
    assert_eq!(token.calls("Login"), 0);

    // CKR_PIN_LOCKED, CKR_PIN_EXPIRED, CKR_USER_PIN_NOT_INITIALIZED; and failures that don't say whether a try was counted.
    for (value, kind, says) in [
        ("0xA4", ErrorKind::KeyUnavailable, "has locked its PIN"),
        ("0xA3", ErrorKind::KeyUnavailable, "has expired"),
        ("0x102", ErrorKind::KeyUnavailable, "has no user PIN yet"),
        ("0x30", ErrorKind::Provider, "C_Login failed with DeviceError"),
        ("0x6", ErrorKind::Provider, "C_Login failed with FunctionFailed"),
    ] {
        token.forget_calls();
        token.fault(&format!("Login rv={value} 99"));
        let error = refusal(&token, &record, &context()).await;
        assert_says(&error, kind, &[says, &token.label]);
        assert_eq!(token.calls("Login"), 1, "{value}");
    }
    token.fault("");
    token.provider().unlock(&record, &context()).await.unwrap();
}

#[tokio::test]
async fn a_login_of_the_host_is_used_and_kept() {
    let token = Token::new();
    let record = record_of(&token).await;
    let host = token.of_a_host();
    token.forget_calls();
    token.write_pin(WRONG);
    token.provider().unlock(&record, &context()).await.unwrap();
    assert_eq!((token.calls("Login"), token.calls("Logout")), (0, 0));
    let state = host.get_session_info().unwrap().session_state();
    assert!(matches!(state, cryptoki::session::SessionState::RwUser), "{state:?}");
    // With its last session, the process is logged out, and a PIN is wanted again.
    drop(host);
    refusal(&token, &record, &context()).await;
    assert_eq!((token.calls("Login"), token.calls("Logout")), (1, 0));
    // Every session that was opened was closed.
    assert_eq!(token.calls("OpenSession"), token.calls("CloseSession"));
}

#[tokio::test]
async fn a_pin_is_read_from_a_file_that_others_may_not_read_or_is_asked_for() {
    let token = Token::new();
    let path = token.folder.path().join("pin");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let error = refusal_to_create(&token.uri()).await;
    assert_says(&error, ErrorKind::Provider, &["PIN file", "mode 0644"]);
    fs::remove_file(&path).unwrap();
    assert_says(&refusal_to_create(&token.uri()).await, ErrorKind::Provider, &["PIN file", "can't be found"]);
    let (without, _) =
        token.uri().split_once('&').map(|(uri, pin)| (uri.to_owned(), pin.to_owned())).unwrap();
    let error = refusal_to_create(&without).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["wants a PIN", "`pin-source`"]);
    assert_eq!(token.calls("Login"), 0);
}

/// The environment of a running process can't be changed safely: this test runs itself once more with the variable set.
#[tokio::test]
async fn a_pin_is_read_from_a_variable() {
    const VARIABLE: &str = "CREDVAULT_TEST_PIN";
    const URI: &str = "CREDVAULT_TEST_URI";

    if let Ok(uri) = std::env::var(URI) {
        let provider = Pkcs11::from_uri(&uri).unwrap();
        let (_, record) = provider.create(&context()).await.unwrap();
        provider.unlock(&record, &context()).await.unwrap();
        return;
    }
    let token = Token::new();
    let (uri, _) =
        token.uri().split_once("&pin-source").map(|(uri, pin)| (uri.to_owned(), pin.to_owned())).unwrap();
    let uri = format!("{uri}&pin-source=env:{VARIABLE}");
    let error = refusal_to_create(&uri).await;
    assert_says(&error, ErrorKind::Provider, &["environment variable CREDVAULT_TEST_PIN is not set"]);
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pkcs11::login::a_pin_is_read_from_a_variable"])
        .env(VARIABLE, PIN)
        .env(URI, uri)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
}
