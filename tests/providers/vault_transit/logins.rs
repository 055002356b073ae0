//! Who asks: tokens that are given, and tokens that a login gives.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::ErrorKind;
use credvault::provider::{MasterKeyProvider, VaultTransit};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::double::{Answer, actions, answer_with, take_calls, variable};
use super::tokens::{idle, renewed, seen_to};
use super::{as_root, assert_says, context, is_once_more, key, once_more, provider, record_of, refusal};
use crate::conformance::shown::Secrets;

/// A role of AppRole at a path of its own: the path, the role's id, and a secret of it.
fn app_role(settings: &Value) -> [String; 3] {
    let mount = format!("team/{}", Uuid::new_v4());
    as_root(Method::POST, &format!("sys/auth/{mount}"), &json!({"type": "approle"}));
    let role = format!("auth/{mount}/role/r");
    let mut settings = settings.clone();
    settings["token_policies"] = "credvault-tests".into();
    as_root(Method::POST, &role, &settings);
    let id = as_root(Method::GET, &format!("{role}/role-id"), &json!({}));
    let secret = as_root(Method::POST, &format!("{role}/secret-id"), &json!({}));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    [mount, text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"])]
}

fn with_app_role(test: &str, settings: &Value) {
    let [mount, id, secret] = app_role(settings);
    once_more(
        &format!("logins::{test}"),
        &[("VAULT_AUTH_MOUNT", &mount), ("VAULT_ROLE_ID", &id), ("BAO_SECRET_ID", &secret)],
    );
}

fn logins() -> usize {
    take_calls(&format!("auth/{}/login", variable("VAULT_AUTH_MOUNT"))).len()
}

#[tokio::test]
async fn an_app_role_logs_in_once_and_once_more_when_its_token_is_refused() {
    if !is_once_more() {
        let test = "an_app_role_logs_in_once_and_once_more_when_its_token_is_refused";
        return with_app_role(test, &json!({"token_ttl": "24h"}));
    }
    let secrets =
        Secrets::traced(["VAULT_ROLE_ID", "BAO_SECRET_ID"].map(|name| variable(name).into()).into());
    let key = key();
    let provider = provider(&key);
    let (_, record) = provider.create(&context()).await.unwrap();
    for _ in 0..3 {
        provider.unlock(&record, &context()).await.unwrap();
    }
    assert_eq!((logins(), actions(&key).len()), (1, 6));
    assert!(
        ["lookup-self", "renew-self"].iter().all(|call| take_calls(&format!("auth/token/{call}")).is_empty())
    );

    let revoke = format!("sys/leases/revoke-prefix/auth/{}", variable("VAULT_AUTH_MOUNT"));
    as_root(Method::POST, &revoke, &json!({}));
    provider.unlock(&record, &context()).await.unwrap();
    assert_eq!((logins(), actions(&key)), (1, ["decrypt", "decrypt"].map(String::from).to_vec()));

    // A policy that was taken away is no reason to log in for ever.
    answer_with(&key, vec![super::double::fails(403, "permission denied"); 9]);
    let error = provider.unlock(&record, &context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Refused, &["capabilities"]);
    assert_eq!((logins(), actions(&key).len()), (1, 2));
    // Two at once share a login.
    answer_with(&key, []);
    as_root(Method::POST, &revoke, &json!({}));
    let fresh = super::provider(&key);
    let context = context();
    let (one, two) = tokio::join!(fresh.unlock(&record, &context), fresh.unlock(&record, &context));
    one.and(two).unwrap();
    assert_eq!(logins(), 1);
    secrets.assert_hidden(&format!("{provider:?} {error} {error:?}"));
    // What the double handed on in clear text is known by the double alone.
    Secrets::traced(tokens_of_logins()).assert_hidden(&format!("{provider:?} {fresh:?}"));
}

/// The tokens that a login of this process gave: what the calls had.
fn tokens_of_logins() -> Vec<Vec<u8>> {
    let tokens = super::double::take_tokens();
    assert!(!tokens.is_empty());
    tokens.into_iter().map(String::into_bytes).collect()
}

#[tokio::test]
async fn a_token_that_ended_is_found_out_by_the_look_and_nothing_is_made_without_one() {
    if !is_once_more() {
        let test = "a_token_that_ended_is_found_out_by_the_look_and_nothing_is_made_without_one";
        return with_app_role(test, &json!({"token_ttl": "24h"}));
    }
    let key = key();
    let provider = provider(&key);
    provider.create(&context()).await.unwrap();
    assert_eq!((logins(), actions(&key)), (1, ["keys", "encrypt", "decrypt"].map(String::from).to_vec()));
    let revoke = format!("sys/leases/revoke-prefix/auth/{}", variable("VAULT_AUTH_MOUNT"));
    as_root(Method::POST, &revoke, &json!({}));
    provider.create(&context()).await.unwrap();
    let calls = ["keys", "keys", "encrypt", "decrypt"].map(String::from).to_vec();
    assert_eq!((logins(), actions(&key)), (1, calls), "the look had the token that ended");
    // One login at most, though each of the calls is refused.
    answer_with(&key, vec![super::double::fails(403, "permission denied"); 9]);
    as_root(Method::POST, &revoke, &json!({}));
    provider.create(&context()).await.unwrap_err();
    assert_eq!(logins(), 1);
}

#[tokio::test]
async fn a_login_that_ended_is_made_again_before_it_is_refused() {
    if !is_once_more() {
        return with_app_role(
            "a_login_that_ended_is_made_again_before_it_is_refused",
            &json!({"token_ttl": "1s"}),
        );
    }
    let key = key();
    let provider = provider(&key);
    let (_, record) = provider.create(&context()).await.unwrap();
    actions(&key);
    std::thread::sleep(Duration::from_millis(1_100));
    provider.unlock(&record, &context()).await.unwrap();
    assert_eq!((logins(), actions(&key)), (2, vec!["decrypt".to_owned()]));
}

#[tokio::test]
async fn a_login_is_renewed_once_half_of_its_time_is_over() {
    if !is_once_more() {
        return with_app_role(
            "a_login_is_renewed_once_half_of_its_time_is_over",
            &json!({"token_ttl": "20s"}),
        );
    }
    let key = key();
    let provider = provider(&key);
    let (_, record) = provider.create(&context()).await.unwrap();
    assert_eq!((logins(), seen_to()), (1, [0, 0]));
    tokio::time::sleep(Duration::from_millis(10_100)).await;
    provider.unlock(&record, &context()).await.unwrap();
    renewed([0, 1]).await;
    // From here on it is a fresh one.
    provider.unlock(&record, &context()).await.unwrap();
    idle().await;
    assert_eq!((logins(), seen_to()), (0, [0, 0]));
}

#[tokio::test]
async fn a_slow_login_takes_nothing_from_the_time_of_the_decryption() {
    if !is_once_more() {
        return with_app_role(
            "a_slow_login_takes_nothing_from_the_time_of_the_decryption",
            &json!({"token_ttl": "24h"}),
        );
    }
    let key = key();
    let (_, record) = provider(&key).create(&context()).await.unwrap();
    let login = format!("auth/{}/login", variable("VAULT_AUTH_MOUNT"));
    answer_with(&login, [Answer::Never]);
    answer_with(&key, [Answer::Never]);
    let began = Instant::now();
    provider(&key).unlock(&record, &context()).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_refused_and_not_shown() {
    let test = "logins::credentials_that_are_not_accepted_are_refused_and_not_shown";
    if !is_once_more() {
        let [mount, id, secret] = app_role(&json!({}));
        for (mount, id, secret, expected) in [
            (&mount, &id, "hunter2", "refused"),
            (&mount, &"hunter2".to_owned(), &secret, "refused"),
            (&"nowhere".to_owned(), &id, &secret, "nowhere"),
        ] {
            let variables =
                [("VAULT_AUTH_MOUNT", mount.as_str()), ("VAULT_ROLE_ID", id), ("VAULT_SECRET_ID", secret)];
            once_more(test, &[&variables[..], &[("CREDVAULT_TEST_EXPECTS", expected)]].concat());
        }
        return;
    }
    let error = provider(&key()).create(&context()).await.unwrap_err();
    match variable("CREDVAULT_TEST_EXPECTS").as_str() {
        "refused" => assert_says(&error, ErrorKind::Refused, &["AppRole", "secret"]),
        _ => assert_says(&error, ErrorKind::Refused, &["auth/nowhere/login", "VAULT_AUTH_MOUNT"]),
    }
    assert!(!error.is_retryable());
    assert_eq!(logins(), 1);
}

/// A token as Kubernetes writes them, of a service account; what signs it is the review's business.
fn service_account(name: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "kubernetes/serviceaccount", "iat": 1, "nbf": 1, "exp": 4_000_000_000_u64,
        "sub": format!("system:serviceaccount:default:{name}"),
        "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": name, "uid": "u"}},
    });
    format!("{}.{}.c2ln", part(json!({"alg": "RS256", "kid": "k"})), part(claims))
}

/// What Kubernetes answers to TokenReview: that a token is of the account that it says.
async fn review(body: Bytes) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let claims = asked["spec"]["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let answer = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "status": {"authenticated": true, "user": {"username": claims["sub"], "uid": "u", "groups": []}},
    });
    (StatusCode::CREATED, [("content-type", "application/json")], answer.to_string())
}

#[tokio::test]
async fn a_pod_logs_in_by_the_token_of_its_service_account() {
    let test = "logins::a_pod_logs_in_by_the_token_of_its_service_account";
    let folder = TempDir::new().unwrap();
    if !is_once_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubernetes = format!("http://{}", listener.local_addr().unwrap());
        crate::double::serve(listener, Router::new().fallback(review));
        let authority = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap().cert.pem();
        let config = json!({"kubernetes_host": kubernetes, "kubernetes_ca_cert": authority, "disable_local_ca_jwt": true});
        as_root(Method::POST, "auth/kubernetes/config", &config);
        let role = json!({
            "bound_service_account_names": "credvault", "bound_service_account_namespaces": "default",
            "token_policies": "credvault-tests", "token_ttl": "24h",
        });
        as_root(Method::POST, "auth/kubernetes/role/credvault", &role);
        for account in ["credvault", "hunter2"] {
            // As Kubernetes has it: everybody in the pod may read it.
            let path = folder.path().join(account);
            fs::write(&path, service_account(account)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            let variables = [
                ("VAULT_ROLE", "credvault"),
                ("VAULT_AUTH_MOUNT", "kubernetes"),
                ("VAULT_JWT_FILE", path.to_str().unwrap()),
                ("CREDVAULT_TEST_EXPECTS", account),
            ];
            once_more(test, &variables);
        }
        return;
    }
    let jwt = fs::read(variable("VAULT_JWT_FILE")).unwrap();
    let signed = jwt.split(|byte| *byte == b'.').nth(1).unwrap().to_vec();
    let secrets = Secrets::traced(vec![jwt, signed]);
    let key = key();
    let provider = provider(&key);
    let created = provider.create(&context()).await;
    secrets.assert_hidden(&format!("{provider:?} {created:?}"));
    if variable("CREDVAULT_TEST_EXPECTS") == "credvault" {
        provider.unlock(&created.unwrap().1, &context()).await.unwrap();
    } else {
        assert_says(
            &created.unwrap_err(),
            ErrorKind::Refused,
            &["Kubernetes", "\"credvault\"", "service account"],
        );
    }
    assert_eq!(logins(), 1);
}

#[tokio::test]
async fn a_key_that_is_missing_is_never_made_by_a_token_that_could() {
    let test = "logins::a_key_that_is_missing_is_never_made_by_a_token_that_could";
    if !is_once_more() {
        let namespace = format!("n{}", Uuid::new_v4());
        as_root(Method::POST, &format!("sys/namespaces/{namespace}"), &json!({}));
        as_root(Method::POST, &format!("{namespace}/sys/mounts/team/transit"), &json!({"type": "transit"}));
        as_root(Method::POST, &format!("{namespace}/team/transit/keys/there"), &json!({}));
        let root = variable("CREDVAULT_BAO_ROOT");
        return once_more(test, &[("VAULT_TOKEN", &root), ("VAULT_NAMESPACE", &namespace)]);
    }
    let error = provider("missing").create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["no such key", "VAULT_NAMESPACE"]);
    assert_eq!(actions("missing"), ["keys"]);
    let record = record_of("there").await;
    provider("there").unlock(&record, &context()).await.unwrap();
    let calls = take_calls("there");
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|call| call.namespace == variable("VAULT_NAMESPACE")));
    let other = context().for_organization(Some(Uuid::nil().into()));
    let error = refusal("there", &record, &other).await;
    assert_says(&error, ErrorKind::Tampered, &["namespace", &variable("VAULT_NAMESPACE"), "VAULT_NAMESPACE"]);
    // Every one of them was for the namespace's key alone.
    let elsewhere =
        VaultTransit::new(&format!("http://{}/transit/there", variable("CREDVAULT_BAO"))).unwrap();
    let error = elsewhere.unlock(&record, &context()).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["transit"]);
}

#[tokio::test]
async fn nothing_is_read_until_a_key_is_asked_for_and_what_is_missing_is_said() {
    if !is_once_more() {
        let test = "logins::nothing_is_read_until_a_key_is_asked_for_and_what_is_missing_is_said";
        once_more(test, &[("HOME", "/nowhere")]);
        return once_more(test, &[("VAULT_TOKEN", "hunter2"), ("BAO_ROLE", "hunter2")]);
    }
    let key = key();
    let provider = provider(&key);
    let error = provider.create(&context()).await.unwrap_err();
    if std::env::var_os("VAULT_TOKEN").is_some() {
        assert_says(&error, ErrorKind::InvalidInput, &["VAULT_TOKEN", "BAO_ROLE", "contradict"]);
    } else {
        assert_says(
            &error,
            ErrorKind::Provider,
            &["no way to log in", "VAULT_TOKEN_FILE", "AppRole", "Kubernetes"],
        );
    }
    assert!(take_calls(&key).is_empty());
}
