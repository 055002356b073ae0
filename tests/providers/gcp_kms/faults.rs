//! What KMS answers when it doesn't do what it was asked: how often it is asked, and what the person on call reads.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;
use serde_json::{Value, json};

use super::double::{
    Accident, Answer, actions, answer_with, crc32c, fails, fails_by, have_accidents, nothing, take_calls,
};
use super::{assert_says, context, key, provider, record_of, refusal};
use crate::conformance::MANY;

#[tokio::test]
async fn each_documented_error_is_said_once_in_words_of_ours() {
    let key = key();
    let record = record_of(&key).await;
    take_calls(&key);
    use ErrorKind::{KeyUnavailable, Provider, Refused, Tampered};
    for (status, code, kind, says) in [
        (403, "PERMISSION_DENIED", Refused, "roles/cloudkms.cryptoKeyDecrypter"),
        (401, "UNAUTHENTICATED", Refused, "credentials"),
        (404, "NOT_FOUND", KeyUnavailable, "no such key"),
        (400, "FAILED_PRECONDITION", KeyUnavailable, "no state to be used"),
        (400, "INVALID_ARGUMENT", Tampered, "altered"),
        (400, "OUT_OF_RANGE", Provider, "OUT_OF_RANGE, with HTTP status 400"),
        (418, "hunter2 is no code", Provider, "an unknown status, with HTTP status 418"),
    ] {
        answer_with(&key, vec![fails(status, code); MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, kind, &[says, &key, "useToDecrypt"]);
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key).len(), 1, "{code} is no reason to ask again");
    }
    for (reason, is_said) in [("SERVICE_DISABLED", true), ("hunter2", false), ("", false)] {
        answer_with(&key, [fails_by(403, "PERMISSION_DENIED", reason)]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, Refused, &[if is_said { reason } else { "access denied" }]);
    }
    for (code, kind, says) in [
        ("PERMISSION_DENIED", Refused, "roles/cloudkms.cryptoKeyEncrypterDecrypter"),
        ("INVALID_ARGUMENT", ErrorKind::InvalidInput, "ENCRYPT_DECRYPT"),
    ] {
        answer_with(&key, [fails(400, code)]);
        let error = provider(&key).create(&context()).await.unwrap_err();
        assert_says(&error, kind, &[says, "useToEncrypt"]);
    }
}

#[tokio::test]
async fn a_failure_that_may_be_over_is_asked_again_four_times_at_most() {
    let key = key();
    let record = record_of(&key).await;
    take_calls(&key);
    for answer in [
        fails(429, "RESOURCE_EXHAUSTED"),
        fails(503, "UNAVAILABLE"),
        fails(500, "INTERNAL"),
        fails(504, "DEADLINE_EXCEEDED"),
        fails(502, "hunter2 is no code"),
        Answer::Says(503, "<html>hunter2</html>".into()),
    ] {
        answer_with(&key, vec![answer.clone(); 2]);
        provider(&key).unlock(&record, &context()).await.unwrap();
        assert_eq!(take_calls(&key).len(), 3, "twice, then the key");

        let began = Instant::now();
        answer_with(&key, vec![answer; MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &["Google Cloud KMS", &key]);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key).len(), 4, "for good");
        assert!(began.elapsed() < Duration::from_secs(22));
        answer_with(&key, []);
    }
}

/// Turns a bit in the bytes of `name`, and leaves the checksum.
fn turn(message: &mut Value, name: &str) {
    let mut bytes = STANDARD.decode(message[name].as_str().unwrap()).unwrap();
    bytes[3] ^= 1;
    message[name] = STANDARD.encode(bytes).into();
}

fn lose(message: &mut Value, name: &str) {
    message.as_object_mut().unwrap().remove(name).unwrap();
}

#[tokio::test]
async fn what_is_altered_on_the_way_is_found_out_in_each_place_and_asked_for_again() {
    let key = key();
    let record = record_of(&key).await;
    take_calls(&key);
    let to_encrypt: [(Accident, Accident, &str); 9] = [
        (|request| turn(request, "plaintext"), nothing, "what was sent"),
        (|request| turn(request, "additionalAuthenticatedData"), nothing, "what was sent"),
        (|request| lose(request, "plaintextCrc32c"), nothing, "the key that was sent"),
        (|request| lose(request, "additionalAuthenticatedDataCrc32c"), nothing, "the context that was sent"),
        (nothing, |answer| lose(answer, "verifiedPlaintextCrc32c"), "the key that was sent"),
        (nothing, |answer| answer["verifiedPlaintextCrc32c"] = false.into(), "the key that was sent"),
        (nothing, |answer| turn(answer, "ciphertext"), "the ciphertext"),
        (nothing, |answer| answer["ciphertextCrc32c"] = "1".into(), "the ciphertext"),
        (nothing, |answer| lose(answer, "ciphertextCrc32c"), "the ciphertext"),
    ];
    for (to_the_request, to_the_answer, says) in to_encrypt {
        have_accidents(&key, [(to_the_request, to_the_answer)]);
        let (_, made) = provider(&key).create(&context()).await.unwrap();
        assert_eq!(actions(&key).len(), 2, "{says}: altered, then whole");
        provider(&key).unlock(&made, &context()).await.unwrap();
        take_calls(&key);
    }
    let to_decrypt: [(Accident, Accident, &str); 5] = [
        (|request| turn(request, "ciphertext"), nothing, "what was sent"),
        (|request| turn(request, "additionalAuthenticatedData"), nothing, "what was sent"),
        (nothing, |answer| turn(answer, "plaintext"), "the key that Google Cloud KMS gave"),
        (nothing, |answer| answer["plaintextCrc32c"] = "1".into(), "the key that Google Cloud KMS gave"),
        (nothing, |answer| lose(answer, "plaintextCrc32c"), "the key that Google Cloud KMS gave"),
    ];
    for (to_the_request, to_the_answer, says) in to_decrypt {
        have_accidents(&key, [(to_the_request, to_the_answer)]);
        provider(&key).unlock(&record, &context()).await.unwrap();
        assert_eq!(actions(&key).len(), 2, "{says}: altered, then whole");
    }

    // For good.
    for (to_the_request, to_the_answer, says) in [to_encrypt[0], to_encrypt[3], to_encrypt[4], to_encrypt[6]]
    {
        have_accidents(&key, vec![(to_the_request, to_the_answer); MANY]);
        let error = provider(&key).create(&context()).await.unwrap_err();
        assert_says(&error, ErrorKind::Provider, &[says, "CRC32C", &key]);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(actions(&key).len(), 4, "{says}");
    }
    for (to_the_request, to_the_answer, says) in [to_decrypt[0], to_decrypt[2]] {
        have_accidents(&key, vec![(to_the_request, to_the_answer); MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &[says, "CRC32C", &key]);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(actions(&key).len(), 4, "{says}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let key = key();
    let record = record_of(&key).await;
    let says = |body: Value| Answer::Says(200, body.to_string());
    let given = |length: usize| {
        let bytes = vec![7; length];
        says(json!({"plaintext": STANDARD.encode(&bytes), "plaintextCrc32c": crc32c(&bytes).to_string()}))
    };
    for (answer, says) in [
        (given(31), "31 bytes in place of a master key"),
        (given(33), "33 bytes"),
        (says(json!({"plaintextCrc32c": "0"})), "0 bytes"),
        (Answer::Says(200, "<html>hunter2</html>".into()), "makes no sense"),
        (Answer::Says(407, "<html>hunter2</html>".into()), "HTTP status 407"),
    ] {
        answer_with(&key, [answer]);
        assert_says(&refusal(&key, &record, &context()).await, ErrorKind::Provider, &[says]);
    }

    let made = |name: &str, length: usize| {
        let bytes = vec![7; length];
        says(json!({
            "name": name,
            "ciphertext": STANDARD.encode(&bytes),
            "ciphertextCrc32c": crc32c(&bytes).to_string(),
            "verifiedPlaintextCrc32c": true,
            "verifiedAdditionalAuthenticatedDataCrc32c": true,
        }))
    };
    let version = format!("{key}/cryptoKeyVersions/1");
    for (answer, says) in [
        (made(&version.replace("/k-", "/other-"), 113), "nothing is kept under it"),
        (made("hunter2", 113), "doesn't say which version"),
        (made(&key, 113), "doesn't say which version"),
        (made(&version, 0), "ciphertext of 0 bytes"),
        (made(&version, 8_193), "ciphertext of 8193 bytes"),
    ] {
        answer_with(&key, [answer]);
        let error = provider(&key).create(&context()).await.unwrap_err();
        assert_says(&error, ErrorKind::Provider, &[says]);
    }
}

/// An address whose every answer leads on to the double.
fn redirects() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut request = [0; 16_384];
            let length = stream.read(&mut request).unwrap();
            let path =
                String::from_utf8_lossy(&request[..length]).split(' ').nth(1).unwrap_or("/").to_owned();
            let to = super::double::variable("CREDVAULT_GCP_DOUBLE");
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{to}{path}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let key = key();
    let provider = provider(&key).with_endpoint(&redirects()).unwrap();
    let error = provider.create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["HTTP status 307"]);
    assert!(!error.is_retryable());
    assert!(take_calls(&key).is_empty(), "the key was sent on");
}

#[tokio::test]
async fn an_endpoint_that_is_given_goes_before_the_environments() {
    let key = key();
    let double = format!("http://{}/", super::double::variable("CREDVAULT_GCP_DOUBLE"));
    provider(&key).with_endpoint(&double).unwrap().create(&context()).await.unwrap();
    assert_eq!(actions(&key), ["encrypt"]);

    // A port that nobody listens at any more.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = provider(&key).with_endpoint(&format!("http://{nobody}")).unwrap();
    let error = elsewhere.create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["can't be reached", &key]);
    assert!(error.is_retryable() && take_calls(&key).is_empty());

    let error = provider(&key).with_endpoint("http://10.0.0.7").unwrap_err();
    assert_says(&error, ErrorKind::InvalidInput, &["https://HOST"]);
}
