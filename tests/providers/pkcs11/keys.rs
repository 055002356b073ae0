//! Which key a token's record opens with, and which keys are taken.

use credvault::ErrorKind;
use credvault::provider::{KeyBytes, MasterKeyProvider, Pkcs11, ProviderRecord};
use cryptoki::object::Attribute;

use super::softhsm::Token;
use super::{assert_says, context, record_of, refusal, refusal_to_create};

#[tokio::test]
async fn a_created_key_is_unlocked_with_its_id_and_each_record_is_another() {
    let token = Token::new();
    let provider = token.provider();
    assert_eq!(provider.kind(), "pkcs11");
    assert!(provider.cache().is_some());
    let (key, record) = provider.create(&context()).await.unwrap();
    assert_eq!(key.id(), context().master_key_id);
    assert!(record.as_str().starts_with("pkcs11-aes-gcm$v=1$"), "{}", record.as_str());
    assert_eq!(provider.unlock(&record, &context()).await.unwrap().id(), key.id());

    let same = KeyBytes::copy_of(&[7; 32]).unwrap();
    let records =
        [provider.wrap(&same, &context()).await.unwrap(), provider.wrap(&same, &context()).await.unwrap()];
    assert_ne!(records[0], records[1]);
    for record in &records {
        provider.unlock(record, &context()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_or_cut_anywhere_is_refused() {
    let token = Token::new();
    let record = record_of(&token).await;
    let text = record.as_str();
    let mut reached = 0;
    for place in 0..text.len() {
        for with in ["A", "b", "=", "$", "\u{e9}"] {
            if text[place..].starts_with(with) {
                continue;
            }
            let changed = format!("{}{with}{}", &text[..place], &text[place + 1..]);
            let error = refusal(&token, &ProviderRecord::new(changed).unwrap(), &context()).await;
            let kind = error.kind();
            reached += usize::from(kind == ErrorKind::Tampered);
            assert!(
                [ErrorKind::Tampered, ErrorKind::Malformed, ErrorKind::Unsupported].contains(&kind),
                "{place}: {error}"
            );
        }
        let error =
            refusal(&token, &ProviderRecord::new(text[..place].to_owned()).unwrap(), &context()).await;
        assert!([ErrorKind::Malformed, ErrorKind::Unsupported].contains(&error.kind()), "{place}: {error}");
    }
    // Each of the 16 and 64 characters that stand for bytes, nearly twice.
    assert!(reached >= 80, "{reached}");
    for more in [format!("{text}A"), format!("{text}AAAA"), format!("{text}\n"), format!("{text}=")] {
        let error = refusal(&token, &ProviderRecord::new(more).unwrap(), &context()).await;
        assert_says(&error, ErrorKind::Malformed, &["pkcs11-aes-gcm$v=1$iv$ciphertext"]);
    }
    token.provider().unlock(&record, &context()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_could_leave_the_token_or_is_not_as_it_should_be_makes_no_record() {
    let token = Token::without_key();
    for (label, attribute, says) in [
        ("extractable", Attribute::Extractable(true), "CKA_EXTRACTABLE is not false"),
        ("shown", Attribute::Sensitive(false), "CKA_SENSITIVE is not true"),
        ("public", Attribute::Private(false), "CKA_PRIVATE is not true"),
        ("seals", Attribute::Decrypt(false), "CKA_DECRYPT is not true"),
        ("opens", Attribute::Encrypt(false), "CKA_ENCRYPT is not true"),
        ("short", Attribute::ValueLen(16.into()), "CKA_VALUE_LEN is not 32"),
    ] {
        token.add_key(label, &[attribute]);
        let uri = token.uri_of(&format!("token={};object={label}", token.label));
        let error = refusal_to_create(&uri).await;
        assert_says(&error, ErrorKind::Refused, &[says, label, &token.label]);
        let key = KeyBytes::copy_of(&[7; 32]).unwrap();
        let error = Pkcs11::from_uri(&uri).unwrap().wrap(&key, &context()).await.unwrap_err();
        assert_says(&error, ErrorKind::Refused, &[says]);
    }
    assert_eq!(token.calls("EncryptInit"), 0);
}

#[tokio::test]
async fn what_is_missing_is_named_and_what_is_there_twice_is_too() {
    let token = Token::new();
    let nowhere = token.folder.path().join("nowhere.so");
    let error = refusal_to_create(&format!("pkcs11:object=k?module-path={}", nowhere.display())).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["can't be loaded", "nowhere.so"]);
    let no_module = token.folder.path().join("pin");
    let error = refusal_to_create(&format!("pkcs11:object=k?module-path={}", no_module.display())).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["can't be loaded"]);

    let error = refusal_to_create(&token.uri_of("token=other;object=credvault")).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["PKCS#11 token \"other\" is not there"]);
    for attributes in ["serial=none", "model=none", "manufacturer=none", "slot-id=4242"] {
        let error =
            refusal_to_create(&token.uri_of(&format!("token={};object=credvault;{attributes}", token.label)))
                .await;
        assert_says(&error, ErrorKind::KeyUnavailable, &["is not there"]);
    }
    assert_eq!(token.calls("Login"), 0);

    for key in ["object=other", "id=%02", "object=credvault;id=%02"] {
        let error = refusal_to_create(&token.uri_of(&format!("token={};{key}", token.label))).await;
        assert_says(&error, ErrorKind::KeyUnavailable, &["is not in PKCS#11 token", &token.label]);
    }
    let right = token.uri_of(&format!(
        "token={};manufacturer=SoftHSM%20project;model=SoftHSM%20v2;type=secret-key;object=credvault;id=%01",
        token.label
    ));
    Pkcs11::from_uri(&right).unwrap().create(&context()).await.unwrap();

    token.add_key("credvault", &[Attribute::Id(vec![0xab, 2])]);
    let error = refusal_to_create(&token.uri()).await;
    assert_says(&error, ErrorKind::Refused, &["several AES keys", "id 01", "id ab02", "add `id`"]);
    Pkcs11::from_uri(&right).unwrap().create(&context()).await.unwrap();

    token.twin();
    let error = refusal_to_create(&token.uri()).await;
    assert_says(&error, ErrorKind::Refused, &["2 tokens match", "serial", "in slot", &token.label]);
}

#[tokio::test]
async fn a_key_is_wrapped_anew_under_a_new_key_of_the_token() {
    let token = Token::new();
    let of = |label: &str| {
        Pkcs11::from_uri(&token.uri_of(&format!("token={};object={label}", token.label))).unwrap()
    };
    let key = KeyBytes::copy_of(&[7; 32]).unwrap();
    let before = of("credvault").wrap(&key, &context()).await.unwrap();
    token.add_key("next", &[Attribute::Id(vec![2])]);
    let after = of("next").wrap(&key, &context()).await.unwrap();
    of("credvault").unlock(&before, &context()).await.unwrap();
    of("next").unlock(&after, &context()).await.unwrap();
    for (label, record) in [("credvault", &after), ("next", &before)] {
        let error = of(label).unlock(record, &context()).await.unwrap_err();
        assert_says(&error, ErrorKind::Tampered, &["was made under another key than key", label]);
    }
}

#[tokio::test]
async fn a_token_that_was_initialised_again_has_lost_its_key_and_says_so() {
    let token = Token::new();
    let record = record_of(&token).await;
    token.reinitialize();
    let error = refusal(&token, &record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["\"credvault\" is not in PKCS#11 token"]);
    token.add_key("credvault", &[]);
    let error = refusal(&token, &record, &context()).await;
    assert_says(&error, ErrorKind::Tampered, &["another key"]);
    record_of(&token).await;
}
