//! What Azure answers when it doesn't do what it was asked: how often it is asked, and what the person on call reads.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::ErrorKind;
use credvault::provider::{AzureKv, KeyBytes, MasterKeyProvider};
use serde_json::json;

use super::double::{ACCESS_TOKEN, Answer, answer_with, fails, take_calls, variable};
use super::{Key, assert_says, context, version_of};
use crate::common::traces::traced;
use crate::conformance::MANY;
use crate::conformance::shown::Secrets;

#[tokio::test]
async fn each_documented_error_is_said_once_in_words_of_ours() {
    use ErrorKind::{InvalidInput, KeyUnavailable, Provider, Refused, Tampered};
    let user = "Key Vault Crypto Service Encryption User";
    for key in [Key::rsa(), Key::hsm()] {
        let record = key.record().await;
        key.actions();
        let role =
            if key.0.contains("managedhsm") { "Managed HSM Crypto Service Encryption User" } else { user };
        for (status, code, inner, kind, says) in [
            (403, "Forbidden", Some("ForbiddenByRbac"), Refused, role),
            (403, "Forbidden", Some("AccessDenied"), Refused, "keys/unwrap/action"),
            (403, "Forbidden", None, Refused, role),
            (403, "Forbidden", Some("ForbiddenByFirewall"), Refused, "network rules"),
            (403, "Forbidden", Some("KeyDisabled"), KeyUnavailable, "disabled"),
            (403, "Forbidden", Some("KeyExpired"), KeyUnavailable, "expired"),
            (403, "Forbidden", Some("KeyNotYetValid"), KeyUnavailable, "not valid yet"),
            (403, "Forbidden", Some("KeyOperationForbidden"), InvalidInput, "--ops wrapKey unwrapKey"),
            (404, "KeyNotFound", None, KeyUnavailable, "no such key"),
            (400, "BadParameter", None, Tampered, "altered"),
            (401, "Unauthorized", None, Refused, "tenant"),
            (409, "Conflict", None, Provider, "Conflict, with HTTP status 409"),
            (418, "hunter2 is no code", None, Provider, "an unknown code, with HTTP status 418"),
        ] {
            answer_with(&key.0, vec![fails(status, code, inner); MANY]);
            let error = key.refusal(&record, &context()).await;
            assert_says(&error, kind, &[says, &key.url(), "unwrapKey", "b2a7f0c4"]);
            assert!(!error.is_retryable(), "{error}");
            assert_eq!(key.actions().len(), 1, "{code} is no reason to ask again");
        }
        for (status, code, kind, says) in [
            (400, "BadParameter", InvalidInput, "can't wrap by"),
            (403, "Forbidden", Refused, "keys/wrap/action"),
        ] {
            answer_with(&key.0, [fails(status, code, None)]);
            let error = key.provider().create(&context()).await.unwrap_err();
            assert_says(&error, kind, &[says, "wrapKey"]);
        }
    }
}

#[tokio::test]
async fn a_failure_that_may_be_over_is_asked_again_four_times_at_most() {
    let key = Key::rsa();
    let record = key.record().await;
    key.actions();
    for (status, code) in [
        (408, "RequestTimeout"),
        (429, "Throttled"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailable"),
        (502, "NoCodeOfAzure"),
    ] {
        answer_with(&key.0, vec![fails(status, code, None); 2]);
        // The double says `Retry-After: 600`, which is longer than a caller waits.
        key.provider().unlock(&record, &context()).await.unwrap();
        assert_eq!(key.actions().len(), 3, "{code} twice, then the key");

        let began = Instant::now();
        answer_with(&key.0, vec![fails(status, code, None); MANY]);
        let error = key.refusal(&record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &["Azure Key Vault"]);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(key.actions().len(), 4, "{code} for good");
        assert!(began.elapsed() < Duration::from_secs(22));
        answer_with(&key.0, []);
    }
    answer_with(&key.0, vec![Answer::Says(502, "<html>hunter2</html>".to_owned()); 3]);
    key.provider().unlock(&record, &context()).await.unwrap();
    assert_eq!(key.actions().len(), 4);
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let key = Key::rsa();
    let record = key.record().await;
    let id = format!("{}/{}", key.url(), version_of(&record));
    let says = |body: serde_json::Value| Answer::Says(200, body.to_string());
    let bytes = |length: usize| URL_SAFE_NO_PAD.encode(vec![7; length]);
    let other = id.replace("/keys/", "/keys/other-");
    let other_version = format!("{}/{}", key.url(), "0".repeat(32));
    for (answer, kind, says) in [
        (says(json!({"kid": id, "value": bytes(31)})), ErrorKind::Tampered, "no master key"),
        (says(json!({"kid": id, "value": bytes(33)})), ErrorKind::Tampered, "no master key"),
        (says(json!({"kid": id})), ErrorKind::Provider, "without what was asked for"),
        (says(json!({"value": bytes(32)})), ErrorKind::Provider, "without what was asked for"),
        (
            says(json!({"kid": "hunter2", "value": bytes(32)})),
            ErrorKind::Provider,
            "without what was asked for",
        ),
        (says(json!({"kid": other, "value": bytes(32)})), ErrorKind::Provider, other.as_str()),
        (
            says(json!({"kid": other_version, "value": bytes(32)})),
            ErrorKind::Provider,
            other_version.as_str(),
        ),
        (says(json!({"kid": id, "value": "hunter2 !"})), ErrorKind::Provider, "makes no sense"),
        (Answer::Says(200, "<html>hunter2</html>".into()), ErrorKind::Provider, "makes no sense"),
        (Answer::Says(200, "x".repeat(65 * 1024)), ErrorKind::Provider, "too long"),
        (Answer::Says(302, "<html>hunter2</html>".into()), ErrorKind::Provider, "HTTP status 302"),
        (Answer::Says(407, "<html>hunter2</html>".into()), ErrorKind::Provider, "HTTP status 407"),
    ] {
        answer_with(&key.0, [answer]);
        let error = key.refusal(&record, &context()).await;
        assert_says(&error, kind, &[says, "unwrapKey", &key.url()]);
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key.0).last().unwrap().action, "unwrapkey");
    }
    for length in [0, 40, 255, 513] {
        answer_with(&key.0, [says(json!({"kid": id, "value": bytes(length)}))]);
        let error = key.provider().create(&context()).await.unwrap_err();
        assert_says(
            &error,
            ErrorKind::Provider,
            &["are no key that RSA-OAEP-256 wrapped", "wrapKey", &key.url()],
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_to_who_is_not_azure() {
    let forged = Key::named("forged-", "vault");
    let error = forged.provider().create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["certificate", "SSL_CERT_FILE"]);
    assert!(!error.is_retryable() && take_calls(&forged.0).is_empty());

    let phishing = Key::named("phishing-", "vault");
    let error = phishing.provider().create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Refused, &["not for it"]);
    let actions: Vec<String> = take_calls(&phishing.0).into_iter().map(|call| call.action).collect();
    assert_eq!(actions, ["challenge"], "a token, or the key, was sent");

    let broken = Key::named("broken-", "vault");
    let error = broken.provider().create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["Azure Key Vault"]);
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_proxy_that_makes_no_connection_is_named_and_asked_again() {
    let key = Key::rsa();
    let record = key.record().await;
    for status in [403, 502, 503, 504] {
        take_calls(key.host());
        answer_with(key.host(), vec![Answer::Says(status, String::new()); 2]);
        key.provider().unlock(&record, &context()).await.unwrap();
        assert_eq!(take_calls(key.host()).len(), 3, "{status} twice, then a connection");
    }
    answer_with(key.host(), vec![Answer::Says(503, String::new()); MANY]);
    let error = key.refusal(&record, &context()).await;
    let place = variable("CREDVAULT_AZURE_DOUBLE");
    assert_says(&error, ErrorKind::Provider, &["HTTPS_PROXY", &place, "unwrapKey", &key.url()]);
    assert!(error.is_retryable(), "{error}");
    assert_eq!(take_calls(key.host()).len(), 4);
}

#[tokio::test]
async fn an_answer_that_never_comes_names_the_action_and_the_key() {
    let key = Key::hsm();
    let record = key.record().await;
    answer_with(&key.0, vec![Answer::Never; MANY]);
    let error = key.refusal(&record, &context()).await;
    assert_says(&error, ErrorKind::Provider, &["no answer", "unwrapKey", &key.url()]);
}

#[tokio::test]
async fn nothing_that_azure_says_is_in_an_error_a_debug_or_a_trace() {
    let (given, said) = (*b"hunter2's key, all of 32 bytes..", *b"the drawn key of all of 32 bytes");
    let [token, secret] =
        [ACCESS_TOKEN, &*variable("AZURE_CLIENT_SECRET")].map(|text| text.as_bytes().to_vec());
    let secrets = Secrets::traced(vec![given.to_vec(), said.to_vec(), token, secret]);
    let key = Key::rsa();
    let provider = key.provider();
    let record = provider.wrap(&KeyBytes::copy_of(&given).unwrap(), &context()).await.unwrap();
    let says = |length: usize| {
        let kid = format!("{}/{}", key.url(), version_of(&record));
        Answer::Says(200, json!({"kid": kid, "value": URL_SAFE_NO_PAD.encode(&said[..length])}).to_string())
    };
    let html = Answer::Says(200, format!("<html>{}</html>", URL_SAFE_NO_PAD.encode(said)));
    answer_with(&key.0, [fails(500, "InternalServerError", None), says(32), says(31), html]);
    let mut shown = String::new();
    for _ in 0..3 {
        let error = provider.unlock(&record, &context()).await.unwrap_err();
        shown += &format!("{error} {error:?} {provider:?}");
    }
    assert!(String::from_utf8_lossy(&traced()).contains("typespec_client_core"), "the SDK is not traced");
    secrets.assert_hidden(&shown);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_said_to_be_unavailable() {
    let gone = AzureKv::new(&Key::rsa().url().replace("/credvault", "/gone")).unwrap();
    let error = gone.create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["no such key", "/keys/gone"]);
    assert!(!error.is_retryable());
}
