//! What KMS answers when it doesn't do what it was asked: how often it is asked, and what the person on call reads.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::{KeyBytes, MasterKeyProvider};
use serde_json::json;
use tempfile::TempDir;

use super::double::{Answer, answer_with, fails, take_calls};
use super::{assert_says, context, key, provider, record_of, refusal};
use crate::conformance::MANY;

#[tokio::test]
async fn each_documented_error_is_said_once_in_words_of_ours() {
    let key = key().await;
    let record = record_of(&key).await;
    take_calls(&key);
    use ErrorKind::{InvalidInput, KeyUnavailable, Provider, Refused, Tampered};
    for (status, code, kind, says) in [
        (400, "AccessDeniedException", Refused, "lacks kms:Decrypt"),
        (400, "NotFoundException", KeyUnavailable, "no such key"),
        (400, "DisabledException", KeyUnavailable, "disabled"),
        (400, "KMSInvalidStateException", KeyUnavailable, "deletion is scheduled"),
        (400, "InvalidCiphertextException", Tampered, "altered"),
        (400, "IncorrectKeyException", KeyUnavailable, "of another key"),
        (400, "InvalidKeyUsageException", InvalidInput, "ENCRYPT_DECRYPT"),
        (400, "UnrecognizedClientException", Refused, "credentials"),
        (400, "InvalidSignatureException", Refused, "credentials"),
        (400, "ExpiredTokenException", Refused, "out of date"),
        (400, "ValidationException", Provider, "ValidationException"),
        (400, "com.amazonaws.kms#DisabledException", KeyUnavailable, "disabled"),
        (418, "hunter2 is no code", Provider, "an unknown code, with HTTP status 418"),
    ] {
        answer_with(&key, vec![fails(status, code); MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, kind, &[says, &key, "kms:Decrypt", "b2a7f0c4"]);
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key).len(), 1, "{code} is no reason to ask again");
    }
    for (action, code) in
        [("kms:GenerateDataKey", "DisabledException"), ("kms:Encrypt", "AccessDeniedException")]
    {
        answer_with(&key, [fails(400, code)]);
        let error = match action {
            "kms:Encrypt" => {
                provider(&key).wrap(&KeyBytes::generate().unwrap(), &context()).await.unwrap_err()
            }
            _ => provider(&key).create(&context()).await.unwrap_err(),
        };
        assert_says(&error, error.kind(), &[action]);
    }
}

#[tokio::test]
async fn a_failure_that_may_be_over_is_asked_again_four_times_at_most() {
    let key = key().await;
    let record = record_of(&key).await;
    take_calls(&key);
    for (status, code) in [
        (400, "ThrottlingException"),
        (500, "KMSInternalException"),
        (500, "KeyUnavailableException"),
        (500, "DependencyTimeoutException"),
        (503, "ServiceUnavailable"),
        (502, "NoCodeOfKms"),
    ] {
        answer_with(&key, vec![fails(status, code); 2]);
        provider(&key).unlock(&record, &context()).await.unwrap();
        assert_eq!(take_calls(&key).len(), 3, "{code} twice, then the key");

        let began = Instant::now();
        answer_with(&key, vec![fails(status, code); MANY]);
        let error = refusal(&key, &record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &["AWS KMS"]);
        assert!(error.is_retryable(), "{error}");
        assert_eq!(take_calls(&key).len(), 4, "{code} for good");
        assert!(began.elapsed() < Duration::from_secs(22));
        answer_with(&key, []);
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let key = key().await;
    let record = record_of(&key).await;
    let says = |body: serde_json::Value| Answer::Says(200, body.to_string());
    let bytes = |length: usize| STANDARD.encode(vec![7; length]);
    for (answer, says) in [
        (says(json!({"KeyId": key, "Plaintext": bytes(31)})), "31 bytes in place of a master key"),
        (says(json!({"KeyId": key, "Plaintext": bytes(33)})), "33 bytes"),
        (says(json!({"KeyId": key})), "without what was asked for"),
        (says(json!({"Plaintext": bytes(32)})), "without what was asked for"),
        (says(json!({})), "without what was asked for"),
        (Answer::Says(200, "<html>hunter2</html>".into()), "HTTP status 200"),
        (Answer::Says(407, "<html>hunter2</html>".into()), "HTTP status 407"),
    ] {
        answer_with(&key, [answer]);
        assert_says(&refusal(&key, &record, &context()).await, ErrorKind::Provider, &[says]);
    }
    let other = key.replace("us-east-1", "us-east-2");
    answer_with(&key, [says(json!({"KeyId": other, "Plaintext": bytes(32)}))]);
    assert_says(&refusal(&key, &record, &context()).await, ErrorKind::Tampered, &[&other]);

    let made = |key: &str, ciphertext: usize| {
        says(json!({"KeyId": key, "Plaintext": bytes(32), "CiphertextBlob": bytes(ciphertext)}))
    };
    for (answer, says) in [
        (made(&other, 180), "nothing is kept under it"),
        (made("alias/hunter2", 180), "without what was asked for"),
        (made(&key, 0), "ciphertext of 0 bytes"),
        (made(&key, 6_145), "ciphertext of 6145 bytes"),
    ] {
        answer_with(&key, [answer]);
        let error = provider(&key).create(&context()).await.unwrap_err();
        assert_says(&error, ErrorKind::Provider, &[says]);
    }
}

/// The command in an environment of its own, for what the process's variables say.
async fn init(variables: &[(&str, &str)], spec: &str) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("vault.db").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_credvault"));
    command.env_clear().envs(variables.iter().copied());
    command.env("HOME", folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
    command.args(["--database", &url, "--master-key", spec, "init"]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let _ = std::io::stderr().write_all(&output.stderr);
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn missing_credentials_and_regions_and_services_are_told_apart() {
    let key = key().await;
    let spec = format!("aws-kms:{key}");
    let endpoint = super::double::variable("AWS_ENDPOINT_URL_KMS");
    let credentials = [("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let with = |more: [(&'static str, &str); 1]| {
        [&credentials[..], &more.map(|(name, value)| (name, value.to_owned().leak() as &str))].concat()
    };

    let (done, said) = init(&[("AWS_ENDPOINT_URL_KMS", &endpoint)], &spec).await;
    assert!(!done && said.contains("no AWS credentials"), "{said}");
    let (done, said) = init(&credentials, "aws-kms:alias/credvault").await;
    assert!(!done && said.contains("AWS_REGION"), "{said}");
    // Nobody listens on port 1.
    let (done, said) = init(&with([("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")]), &spec).await;
    assert!(!done && said.contains("can't be reached") && !said.contains("hunter2"), "{said}");
    take_calls(&key);
    let (done, said) = init(&with([("AWS_ENDPOINT_URL", &endpoint)]), &spec).await;
    assert!(done, "{said}");
    assert_eq!(take_calls(&key)[0].action, "GenerateDataKey");
}
