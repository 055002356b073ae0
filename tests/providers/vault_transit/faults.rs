//! What a server answers when it doesn't do what it was asked: how often it is asked, and what the person on call reads.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::{MasterKeyProvider, VaultTransit};
use serde_json::json;

use super::double::{Answer, actions, answer_looks_with, answer_with, fails, take_calls};
use super::{assert_says, at, context, key, provider, record_of, refusal};
use crate::conformance::MANY;

#[tokio::test]
async fn a_refusal_is_said_once_in_words_of_ours() {
    let key = key();
    let record = record_of(&key).await;
    take_calls(&key);
    use ErrorKind::{InvalidInput, KeyUnavailable, Provider, Refused, Tampered};
    for (status, error, kind, says) in [
        (400, "cipher: message authentication failed", Tampered, "altered"),
        (400, "no text that is known", Provider, "HTTP status 400"),
        (403, "permission denied", Refused, "capabilities = [\"update\"]"),
        (404, "", KeyUnavailable, "team/transit"),
        (405, "unsupported operation", InvalidInput, "no transit engine"),
        (307, "", Provider, "not followed"),
        (418, "", Provider, "HTTP status 418"),
    ] {
        answer_with(&key, vec![fails(status, error); MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, kind, &[says, &at(&key), "decrypt"]);
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key).len(), 1, "{status} is no reason to ask again, or elsewhere");
    }
}

#[tokio::test]
async fn a_failure_that_may_be_over_is_asked_again_four_times_at_most() {
    let key = key();
    let record = record_of(&key).await;
    take_calls(&key);
    for (status, says) in [(429, "too often"), (500, "500"), (502, "502"), (412, "newest"), (503, "503")] {
        answer_with(&key, vec![fails(status, ""); 2]);
        provider(&key).unlock(&record, &context()).await.unwrap();
        assert_eq!(take_calls(&key).len(), 3, "{status} twice, then the key");

        let began = Instant::now();
        answer_with(&key, vec![fails(status, ""); MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &[says]);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key).len(), 4, "{status} for good");
        assert!(began.elapsed() < Duration::from_secs(22));
        answer_with(&key, []);
    }
}

#[tokio::test]
async fn a_look_at_the_key_that_fails_is_made_again_and_nothing_is_encrypted_without_it() {
    let key = key();
    for (answer, times) in [(fails(503, ""), 2), (Answer::Never, 1)] {
        answer_looks_with(&key, vec![answer; times]);
        provider(&key).create(&context()).await.unwrap();
        let calls = actions(&key);
        assert_eq!(calls.iter().filter(|call| *call == "keys").count(), times + 1, "{calls:?}");
        assert_eq!(calls[times + 1..], ["encrypt", "decrypt"]);
    }
    answer_looks_with(&key, vec![fails(503, "Vault is sealed"); 9]);
    let error = provider(&key).create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["sealed", "look at the key"]);
    assert!(error.is_retryable());
    assert_eq!(actions(&key), ["keys"; 4]);
}

#[tokio::test]
async fn nobody_at_the_address_is_tried_again_and_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let provider = VaultTransit::new(&format!("http://{nobody}/transit/k")).unwrap();
    let began = Instant::now();
    let error = provider.create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["can't be reached", &nobody.to_string()]);
    assert!(error.is_retryable() && began.elapsed() > Duration::from_millis(600), "it was asked once");
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let key = key();
    let record = record_of(&key).await;
    let plaintext =
        |text: &str| Answer::Says(200, json!({"data": {"plaintext": text}, "more": [1, {}]}).to_string());
    let bytes = |length: usize| STANDARD.encode(vec![7; length]);
    for (answer, says) in [
        (plaintext(&bytes(31)), "31 bytes in place of a master key"),
        (plaintext(&bytes(33)), "33 bytes"),
        (plaintext(""), "0 bytes"),
        (plaintext("hunter2 is no base64"), "none of Vault's"),
        (plaintext(&bytes(9_000)), "none of Vault's"),
        (Answer::Says(200, "{}".into()), "none of Vault's"),
        (Answer::Says(200, r#"{"data": {"plaintext": 1}}"#.into()), "none of Vault's"),
        (Answer::Says(200, "<html>hunter2</html>".into()), "none of Vault's"),
        (Answer::Says(204, String::new()), "HTTP status 204"),
        (Answer::Says(200, "x".repeat((1 << 20) + 1)), "more than 1048576 bytes"),
        (Answer::Says(503, "x".repeat((1 << 20) + 1)), "more than 1048576 bytes"),
    ] {
        answer_with(&key, [answer]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &[says]);
        assert!(!error.is_retryable(), "{error}");
    }
    actions(&key);
    let ciphertext = |text: &str| Answer::Says(200, json!({"data": {"ciphertext": text}}).to_string());
    for text in
        ["", "hunter2", "vault:v0:AAAA", "vault:v1:AAA", "vault:v1:", "vault:v1:AAAA$", &"x".repeat(70_000)]
    {
        answer_with(&key, [ciphertext(text)]);
        let error = provider(&key).create(&context()).await.unwrap_err();
        assert_says(&error, ErrorKind::Provider, &["none of Vault's"]);
        assert_eq!(actions(&key), ["keys", "encrypt"]);
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_left_at_its_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let endless = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 4_096]).unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").unwrap();
        let piece = [b' '; 65_536];
        let mut sent = 0;
        while stream.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        sent
    });
    let provider = VaultTransit::new(&format!("http://{address}/transit/k")).unwrap();
    let error = provider.create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["more than 1048576 bytes"]);
    // The rest is in the system's buffers.
    assert!(endless.await.unwrap() < 32 << 20);
}
