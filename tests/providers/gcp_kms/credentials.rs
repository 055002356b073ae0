//! Where a token comes from, and what is said when none comes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use credvault::ErrorKind;
use tempfile::TempDir;

use super::command::init;
use super::double::{Answer, TOKENS, actions, answer_with, file, take_calls, variable};
use super::key;

const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// All in one: what stands for Google's token service has one queue of answers.
#[tokio::test]
async fn credentials_that_are_refused_are_told_from_a_token_service_that_fails() {
    let key = key();
    let user = file("user.json").display().to_string();
    let (done, said) = init(&key, &[(FILE, &user)]).await;
    assert!(done, "{said}");
    assert_eq!(actions(&key), ["encrypt", "decrypt"]);

    let folder = TempDir::new().unwrap();
    let of_another = folder.path().join("user.json");
    fs::write(&of_another, fs::read_to_string(&user).unwrap().replace("of-the-user", "of-another")).unwrap();
    take_calls(TOKENS);
    let (done, said) = init(&key, &[(FILE, of_another.to_str().unwrap())]).await;
    assert!(!done && said.contains("Google doesn't accept the credentials"), "{said}");
    let theirs = |call: &super::double::Call| call.body["refresh_token"] == "1//hunter2-of-another";
    assert_eq!(take_calls(TOKENS).iter().filter(|call| theirs(call)).count(), 1, "asked again");
    assert!(take_calls(&key).is_empty());
}

/// Credentials of a user, whose token service gives every request this answer; and how many it got.
fn credentials_whose_service_answers(folder: &TempDir, answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let path = folder.path().join(format!("{}.json", listener.local_addr().unwrap().port()));
    let user = fs::read_to_string(file("user.json")).unwrap();
    fs::write(&path, user.replace(&variable("CREDVAULT_GCP_DOUBLE"), &address)).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 16_384]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (path.display().to_string(), asked)
}

#[tokio::test]
async fn a_token_service_that_is_down_is_asked_again() {
    let folder = TempDir::new().unwrap();
    let answer = "HTTP/1.1 503 hunter2\r\ncontent-length: 7\r\nconnection: close\r\n\r\nhunter2";
    let (path, asked) = credentials_whose_service_answers(&folder, answer);
    let (done, said) = init(&key(), &[(FILE, &path)]).await;
    assert!(!done && said.contains("no token could be had"), "{said}");
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_panic_of_the_sdk_is_an_error() {
    let folder = TempDir::new().unwrap();
    // A token for longer than a clock can say.
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 81\r\nconnection: close\r\n\r\n\
                  {\"access_token\": \"t\", \"token_type\": \"Bearer\", \"expires_in\": 18446744073709551615}";
    let (path, asked) = credentials_whose_service_answers(&folder, answer);
    let (done, said) = init(&key(), &[(FILE, &path)]).await;
    assert!(!done && said.contains("the SDK for Google Cloud KMS panicked"), "{said}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
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
    answer_with(&key, [super::double::fails(401, "UNAUTHENTICATED")]);
    let error = super::refusal(&key, &record, &super::context()).await;
    super::assert_says(&error, ErrorKind::Refused, &["Google doesn't accept the credentials"]);
    answer_with(&key, [Answer::Says(401, "hunter2".to_owned())]);
    let error = super::refusal(&key, &record, &super::context()).await;
    super::assert_says(&error, ErrorKind::Provider, &["HTTP status 401"]);
}
