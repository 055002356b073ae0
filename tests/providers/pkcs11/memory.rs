//! What another process finds in the memory of one that had a token decrypt a key: the key while it is held, where locked
//! memory is, and else neither key nor PIN.

#[path = "../../leaks/memory/search.rs"]
#[expect(dead_code, reason = "the search of another test, which asks more of it")]
mod search;

use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, Command, Stdio};

use credvault::provider::{KeyBytes, MasterKeyProvider, Pkcs11, ProviderRecord};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::context;
use super::softhsm::{PIN, Token};
use search::{Secret, places};

const URI: &str = "CREDVAULT_TEST_URI";
const RECORD: &str = "CREDVAULT_TEST_RECORD";
const STEPS: [&str; 3] = ["unlocked", "dropped", "refused"];

#[tokio::test]
async fn a_key_is_in_memory_while_it_is_held_and_a_pin_is_not() {
    if let Ok(uri) = env::var(URI) {
        return be_looked_into(&uri).await;
    }
    let token = Token::new();
    let secret: [u8; 32] = Sha256::digest(Uuid::new_v4()).into();
    let record = token.provider().wrap(&KeyBytes::copy_of(&secret).unwrap(), &context()).await.unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "pkcs11::memory::a_key_is_in_memory_while_it_is_held_and_a_pin_is_not",
            "--nocapture",
        ])
        .env(URI, token.uri())
        .env(RECORD, record.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let key = Secret::halves("key", &secret);
    let pin = [Secret::new("PIN", PIN.as_bytes())];
    for step in STEPS {
        assert!(lines.by_ref().any(|line| line.unwrap() == step), "{step} was not reached");
        let found = places(child.id(), &key);
        if step == "unlocked" {
            assert!(found.len() >= 2, "{step}: {found:?}");
            assert!(found.iter().all(|place| place.is_not_dumped()), "{step}: {found:?}");
        } else {
            assert!(found.is_empty(), "{step}: {found:?}");
        }
        let found = places(child.id(), &pin);
        assert!(found.is_empty(), "{step}: {found:?}");
        let_go_on(&mut child);
    }
    assert!(child.wait().unwrap().success());
}

async fn be_looked_into(uri: &str) {
    let provider = Pkcs11::from_uri(uri).unwrap();
    let record = ProviderRecord::new(env::var(RECORD).unwrap()).unwrap();
    let key = provider.unlock(&record, &context()).await.unwrap();
    wait_at(STEPS[0]);
    drop(key);
    wait_at(STEPS[1]);
    provider.unlock(&record, &context().for_organization(Some(Uuid::nil().into()))).await.unwrap_err();
    wait_at(STEPS[2]);
}

fn wait_at(step: &str) {
    println!("\n{step}");
    stdin().read_line(&mut String::new()).unwrap();
}

fn let_go_on(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}
