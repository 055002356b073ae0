//! A token that goes away, fails, hangs, or gives something else than it should.

use std::time::{Duration, Instant};

use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;

use super::softhsm::Token;
use super::{assert_says, context, record_of, refusal};

#[tokio::test]
async fn a_lost_session_is_made_anew() {
    let token = Token::new();
    let record = record_of(&token).await;
    for place in ["Login", "FindObjectsInit", "DecryptInit", "Decrypt"] {
        token.forget_calls();
        token.fault(&format!("{place} lost 1"));
        token.provider().unlock(&record, &context()).await.unwrap();
        assert_eq!(token.calls("OpenSession"), 2, "{place}");
    }
    for place in ["FindObjectsInit", "GetAttributeValue", "EncryptInit", "Encrypt"] {
        token.forget_calls();
        token.fault(&format!("{place} lost 1"));
        let record = record_of(&token).await;
        assert_eq!(token.calls("OpenSession"), 2, "{place}");
        token.provider().unlock(&record, &context()).await.unwrap();
    }
}

#[tokio::test]
async fn what_may_be_over_is_asked_again_a_few_times_and_what_is_not_is_not() {
    let token = Token::new();
    let record = record_of(&token).await;
    // CKR_DEVICE_REMOVED, CKR_SESSION_CLOSED, CKR_SESSION_COUNT, CKR_TOKEN_NOT_PRESENT, CKR_USER_NOT_LOGGED_IN,
    // CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DEVICE_ERROR
    for (place, value) in [
        ("DecryptInit", "0x32"),
        ("Decrypt", "0xB0"),
        ("OpenSession", "0xB1"),
        ("OpenSession", "0xE0"),
        ("FindObjectsInit", "0x101"),
        ("GetSlotList", "0x190"),
        ("GetTokenInfo", "0x30"),
        ("Initialize", "0x30"),
    ] {
        token.fault(&format!("{place} rv={value} 1"));
        token
            .provider()
            .unlock(&record, &context())
            .await
            .unwrap_or_else(|error| panic!("{place} {value}: {error}"));
        token.forget_calls();
        token.fault(&format!("{place} rv={value} 999"));
        let error = refusal(&token, &record, &context()).await;
        assert_says(&error, ErrorKind::Provider, &[place, "failed with"]);
        assert!(error.is_retryable(), "{place} {value}");
        // Once an attempt.
        assert_eq!(token.calls("Initialize"), 4, "{place} {value}");
    }
    // CKR_MECHANISM_INVALID, CKR_KEY_FUNCTION_NOT_PERMITTED
    for (value, kind) in [("0x70", ErrorKind::Unsupported), ("0x68", ErrorKind::Provider)] {
        token.forget_calls();
        token.fault(&format!("DecryptInit rv={value} 99"));
        let error = refusal(&token, &record, &context()).await;
        assert_says(&error, kind, &[&token.label]);
        assert_eq!(token.calls("DecryptInit"), 1, "{value}");
    }
}

#[tokio::test]
async fn a_decryption_that_failed_once_may_have_been_the_tokens_fault_and_twice_is_the_records() {
    let token = Token::new();
    let record = record_of(&token).await;
    // CKR_GENERAL_ERROR, CKR_DEVICE_ERROR, CKR_FUNCTION_FAILED
    for value in ["0x5", "0x30", "0x6"] {
        token.fault(&format!("Decrypt rv={value} 1"));
        token.provider().unlock(&record, &context()).await.unwrap();
        token.forget_calls();
        token.fault(&format!("Decrypt rv={value} 99"));
        let error = refusal(&token, &record, &context()).await;
        assert_says(
            &error,
            ErrorKind::Tampered,
            &[
                "the record was changed",
                "or was made under another key",
                "the token itself fails",
                "C_Decrypt",
            ],
        );
        assert_eq!(token.calls("Decrypt"), 2);
    }
    // CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_AEAD_DECRYPT_FAILED
    for value in ["0x40", "0x41", "0x42"] {
        token.forget_calls();
        token.fault(&format!("Decrypt rv={value} 99"));
        assert_says(
            &refusal(&token, &record, &context()).await,
            ErrorKind::Tampered,
            &["the record was changed"],
        );
        assert_eq!(token.calls("Decrypt"), 1);
    }
}

#[tokio::test]
async fn no_record_is_made_that_the_token_would_not_give_back() {
    let token = Token::new();
    token.fault("Encrypt flip 2");
    let error = token.provider().create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["doesn't give back what it was given", "\"credvault\""]);
    // An IV that the token draws instead of the caller's is the one in the record.
    token.fault("EncryptInit iv 1");
    let (_, record) = token.provider().create(&context()).await.unwrap();
    assert!(record.as_str().starts_with("pkcs11-aes-gcm$v=1$BwcHBwcHBwcHBwcH$"), "{}", record.as_str());
    token.provider().unlock(&record, &context()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_hangs_holds_up_its_caller_for_a_limited_time_and_nobody_else() {
    let token = Token::new();
    let record = record_of(&token).await;
    token.fault("DecryptInit wait=8000 1");
    let (began, provider, another) = (Instant::now(), token.provider(), record.clone());
    let hanging =
        tokio::spawn(async move { provider.unlock(&another, &context()).await.map(|key| key.id()) });
    while token.calls("DecryptInit") == 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    token.provider().unlock(&record, &context()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Asked again after 5 s, it answers.
    assert_eq!(hanging.await.unwrap().unwrap(), context().master_key_id);
    assert!((5..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_use_one_token_at_once() {
    let token = Token::new();
    let record = record_of(&token).await;
    let calls = (0..12).map(|_| {
        let (provider, record) = (token.provider(), record.clone());
        tokio::spawn(async move {
            for _ in 0..5 {
                provider.unlock(&record, &context()).await.unwrap();
                provider.create(&context()).await.unwrap();
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(token.calls("OpenSession"), token.calls("CloseSession"));
}
