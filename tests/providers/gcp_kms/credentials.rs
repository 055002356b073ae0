//! Where a token comes from, and what is said when none comes.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use credvault::ErrorKind;
use tempfile::TempDir;
use uuid::Uuid;

use super::command::init;
use super::double::{
    Answer, MACHINES_TOKEN, TOKENS, UNIVERSE, actions, answer_with, fails, file, take_calls, variable,
};
use super::key;
use crate::conformance::MANY;

const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Credentials of a user in `folder`, and where the double has a token service for them alone.
fn user(folder: &TempDir) -> (String, String) {
    let (path, service) = (folder.path().join("user.json"), format!("{TOKENS}/{}", Uuid::new_v4()));
    let text = fs::read_to_string(file("user.json")).unwrap();
    fs::write(&path, text.replace(TOKENS, &service)).unwrap();
    (path.display().to_string(), service)
}

/// A metadata server of the double for one test alone: what `GCE_METADATA_HOST` says for it, and the path that it's below.
fn metadata_server() -> (String, String) {
    let path = format!("/{}", Uuid::new_v4());
    (variable("CREDVAULT_GCP_DOUBLE") + &path, path)
}

#[tokio::test]
async fn credentials_that_are_refused_are_said_and_not_tried_again() {
    let (key, folder) = (key(), TempDir::new().unwrap());
    let (path, service) = user(&folder);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("of-the-user", "of-another")).unwrap();
    let (done, said) = init(&key, &[(FILE, &path)]).await;
    assert!(!done && said.contains("Google doesn't accept the credentials"), "{said}");
    let calls = take_calls(&service);
    assert_eq!(calls.len(), 1, "asked again");
    assert_eq!(calls[0].body["refresh_token"], "1//hunter2-of-another");
    assert!(take_calls(&key).is_empty());
}

#[tokio::test]
async fn a_token_service_that_is_down_is_asked_again() {
    let (key, folder) = (key(), TempDir::new().unwrap());
    let (path, service) = user(&folder);
    answer_with(&service, vec![Answer::Says(503, "hunter2".to_owned()); 3]);
    let (done, said) = init(&key, &[(FILE, &path)]).await;
    assert!(done, "{said}");
    answer_with(&service, vec![Answer::Says(503, "hunter2".to_owned()); MANY]);
    take_calls(&service);
    let (done, said) = init(&key, &[(FILE, &path)]).await;
    assert!(!done && said.contains("no token could be had") && said.contains("try again"), "{said}");
    assert_eq!(take_calls(&service).len(), 4);
}

#[tokio::test]
async fn the_attempts_for_one_key_share_a_token() {
    let (key, folder) = (key(), TempDir::new().unwrap());
    let (path, service) = user(&folder);
    answer_with(&key, vec![fails(503, "UNAVAILABLE"); 3]);
    let (done, said) = init(&key, &[(FILE, &path)]).await;
    assert!(done, "{said}");
    assert_eq!(actions(&key), ["encrypt", "encrypt", "encrypt", "encrypt", "decrypt"]);
    assert_eq!(take_calls(&service).len(), 2, "one to encrypt with, one to decrypt with");
}

#[tokio::test]
async fn a_metadata_server_that_says_nothing_at_first_is_asked_again() {
    for what in [MACHINES_TOKEN, UNIVERSE] {
        let (key, (host, server)) = (key(), metadata_server());
        answer_with(&(server.clone() + what), [Answer::Never]);
        let (done, said) = init(&key, &[("GCE_METADATA_HOST", &host)]).await;
        assert!(done, "{what}: {said}");
        assert_eq!(take_calls(&(server + what)).len(), 3, "{what}: none, to encrypt, to decrypt");
        assert_eq!(actions(&key), ["encrypt", "decrypt"]);
    }
}

async fn says_nothing_ever(says_nothing: String, (name, value): (&str, &str), says: &str) {
    let key = key();
    answer_with(&says_nothing, vec![Answer::Never; MANY]);
    let began = Instant::now();
    let (done, said) = init(&key, &[(name, value)]).await;
    assert!(!done && said.contains(says) && said.contains("try again"), "{says_nothing}: {said}");
    assert!(began.elapsed() < Duration::from_secs(22), "{says_nothing}: {:?}", began.elapsed());
    assert_eq!(take_calls(&says_nothing).len(), 4, "{says_nothing}");
    assert!(take_calls(&key).is_empty());
}

#[tokio::test]
async fn no_token_in_time_is_said_of_whoever_was_to_give_it() {
    let folder = TempDir::new().unwrap();
    let (path, service) = user(&folder);
    let (tokenless, without_token) = metadata_server();
    let (nowhere, without_universe) = metadata_server();
    tokio::join!(
        says_nothing_ever(service, (FILE, &path), "no token could be had for the Google credentials"),
        says_nothing_ever(
            without_token + MACHINES_TOKEN,
            ("GCE_METADATA_HOST", &tokenless),
            "there are no Google credentials"
        ),
        says_nothing_ever(
            without_universe + UNIVERSE,
            ("GCE_METADATA_HOST", &nowhere),
            "there are no Google credentials"
        ),
    );
}

#[tokio::test]
async fn a_panic_of_the_sdk_is_an_error() {
    let folder = TempDir::new().unwrap();
    let (path, service) = user(&folder);
    // A token for longer than a clock can say.
    let token = r#"{"access_token": "t", "token_type": "Bearer", "expires_in": 18446744073709551615}"#;
    answer_with(&service, vec![Answer::Says(200, token.to_owned()); MANY]);
    let (done, said) = init(&key(), &[(FILE, &path)]).await;
    assert!(!done && said.contains("the SDK for Google Cloud KMS panicked"), "{said}");
    assert_eq!(take_calls(&service).len(), 1);
}

#[tokio::test]
async fn a_service_account_signs_for_itself() {
    let key = key();
    let (done, said) = init(&key, &[(FILE, file("service_account.json").to_str().unwrap())]).await;
    assert!(done, "{said}");
    assert!(take_calls(&key).iter().all(|call| call.token.starts_with("eyJ")), "it took another's token");
}

#[tokio::test]
async fn a_metadata_server_gives_tokens_where_there_is_no_file() {
    let key = key();
    let (done, said) = init(&key, &[("GCE_METADATA_HOST", &variable("CREDVAULT_GCP_DOUBLE"))]).await;
    assert!(done, "{said}");
    assert_eq!(actions(&key), ["encrypt", "decrypt"]);
}

#[tokio::test]
async fn missing_and_unreadable_credentials_are_said_in_words() {
    let key = key();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (done, said) = init(&key, &[("GCE_METADATA_HOST", &nobody)]).await;
    assert!(!done && said.contains("there are no Google credentials"), "{said}");

    let folder = TempDir::new().unwrap();
    let (done, said) = init(&key, &[(FILE, folder.path().join("none").to_str().unwrap())]).await;
    assert!(!done && said.contains("can't be read"), "{said}");
    let garbage = folder.path().join("garbage.json");
    for text in
        ["hunter2", r#"{"type": "hunter2"}"#, r#"{"type": "authorized_user", "client_id": "hunter2"}"#]
    {
        fs::write(&garbage, text).unwrap();
        let (done, said) = init(&key, &[(FILE, garbage.to_str().unwrap())]).await;
        assert!(!done && said.contains("makes no sense"), "{said}");
    }
    let endpoint = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";
    let (done, said) = init(&key, &[(endpoint, "http://hunter2.example")]).await;
    assert!(!done && said.contains(endpoint) && said.contains("https://HOST"), "{said}");
    assert!(take_calls(&key).is_empty());
}

#[tokio::test]
async fn a_token_that_google_takes_back_is_said() {
    let key = key();
    let record = super::record_of(&key).await;
    answer_with(&key, [fails(401, "UNAUTHENTICATED")]);
    let error = super::refusal(&key, &record, &super::context()).await;
    super::assert_says(&error, ErrorKind::Refused, &["Google doesn't accept the credentials"]);
    answer_with(&key, [Answer::Says(401, "hunter2".to_owned())]);
    let error = super::refusal(&key, &record, &super::context()).await;
    super::assert_says(&error, ErrorKind::Provider, &["HTTP status 401"]);
}
