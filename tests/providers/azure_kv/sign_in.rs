//! Who asks: by a secret, a pod's token or a machine's identity, and what is said where there is none of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::Key;
use super::double::{
    ACCESS_TOKEN, Answer, FEDERATED_TOKEN, IDENTITY_HEADER, answer_with, managed_identity, take_calls,
    variable,
};

/// `init` by the command, in an environment of its own.
async fn init(key: &Key, variables: &[(&str, impl AsRef<OsStr>)]) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("vault.db").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_credvault"));
    command.env_clear().env("HOME", folder.path()).env("RUST_LOG", "trace");
    command.env("HTTPS_PROXY", variable("HTTPS_PROXY")).env("SSL_CERT_FILE", variable("SSL_CERT_FILE"));
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.args(["--database", &url, "--master-key", &key.spec(), "init"]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    for secret in
        [FEDERATED_TOKEN, ACCESS_TOKEN, IDENTITY_HEADER, &variable("AZURE_CLIENT_SECRET"), "hunter2"]
    {
        assert!(!said.contains(secret), "{secret} is said: {said}");
    }
    (output.status.success(), said)
}

/// A tenant of the test's own, whose calls are nobody else's.
fn tenant() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test]
async fn a_service_principal_signs_in_by_its_secret() {
    let (key, tenant) = (Key::hsm(), tenant());
    let (client, secret) = (variable("AZURE_CLIENT_ID"), variable("AZURE_CLIENT_SECRET"));
    let variables =
        [("AZURE_TENANT_ID", &*tenant), ("AZURE_CLIENT_ID", &client), ("AZURE_CLIENT_SECRET", &secret)];
    let (done, said) = init(&key, &variables).await;
    assert!(done, "{said}");
    let calls = take_calls(&tenant);
    assert_eq!(calls.len(), 1, "a token is good for more than one call");
    // An empty variable is none.
    let empty =
        [&variables[..], &[("AZURE_AUTHORITY_HOST", ""), ("AZURE_FEDERATED_TOKEN_FILE", "")]].concat();
    let (done, said) = init(&key, &empty).await;
    assert!(done, "{said}");
    take_calls(&tenant);
    assert_eq!(calls[0].fields["scope"], "https://managedhsm.azure.net/.default");
    assert!(calls[0].fields.contains_key("client_secret"));

    let refusal = |status, number: u32, error: &str| {
        let body = json!({"error": error, "error_codes": [number], "error_description": "hunter2 of the description"});
        Answer::Says(status, body.to_string())
    };
    for (status, number, error, says) in [
        (401, 7_000_215, "invalid_client", "AADSTS7000215"),
        (400, 700_016, "unauthorized_client", "AADSTS700016"),
        (400, 90_002, "invalid_request", "AADSTS90002"),
    ] {
        answer_with(&tenant, [refusal(status, number, error)]);
        let (done, said) = init(&key, &variables).await;
        assert!(!done && said.contains(says) && said.contains("AZURE_CLIENT_ID"), "{said}");
        assert_eq!(take_calls(&tenant).len(), 1);
    }
    answer_with(
        &tenant,
        [Answer::Says(503, "<html>hunter2</html>".into()), refusal(429, 90_055, "temporarily_unavailable")],
    );
    let (done, said) = init(&key, &variables).await;
    assert!(done, "{said}");
    assert_eq!(take_calls(&tenant).len(), 3);
}

#[tokio::test]
async fn a_pod_signs_in_by_the_token_in_its_file() {
    let (key, tenant) = (Key::rsa(), tenant());
    let (client, folder) = (variable("AZURE_CLIENT_ID"), TempDir::new().unwrap());
    let file = folder.path().join("token");
    let file = file.to_str().unwrap();
    let variables =
        [("AZURE_TENANT_ID", &*tenant), ("AZURE_CLIENT_ID", &client), ("AZURE_FEDERATED_TOKEN_FILE", file)];
    let (done, said) = init(&key, &variables).await;
    assert!(!done && said.contains("AZURE_FEDERATED_TOKEN_FILE can't be read"), "{said}");
    std::fs::write(file, FEDERATED_TOKEN).unwrap();
    let (done, said) = init(&key, &variables).await;
    assert!(done, "{said}");
    let calls = take_calls(&tenant);
    assert_eq!(calls.len(), 1);
    assert!(calls[0].fields.contains_key("client_assertion"));
}

#[tokio::test]
async fn a_machine_signs_in_by_its_managed_identity() {
    let key = Key::rsa();
    let (endpoint, asked) = managed_identity([200]);
    let variables =
        [("IDENTITY_ENDPOINT", &*endpoint), ("IDENTITY_HEADER", IDENTITY_HEADER), ("AZURE_CLIENT_ID", "own")];
    let (done, said) = init(&key, &variables).await;
    assert!(done, "{said}");
    let [asked] = asked.join().unwrap();
    assert_eq!(
        asked["line"],
        "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=own HTTP/1.1"
    );
    assert_eq!(asked["x-identity-header"], IDENTITY_HEADER);

    let (endpoint, _asked) = managed_identity([400]);
    let (done, said) =
        init(&key, &[("IDENTITY_ENDPOINT", &*endpoint), ("IDENTITY_HEADER", IDENTITY_HEADER)]).await;
    assert!(!done && said.contains("invalid_request") && said.contains("assigned to this machine"), "{said}");
    assert!(!said.contains("asking again"), "{said}");
}

#[tokio::test]
async fn a_managed_identity_that_is_updated_is_asked_again() {
    let key = Key::rsa();
    let (endpoint, asked) = managed_identity([404, 410, 408, 200]);
    let (done, said) =
        init(&key, &[("IDENTITY_ENDPOINT", &*endpoint), ("IDENTITY_HEADER", IDENTITY_HEADER)]).await;
    assert!(done && said.contains("HTTP status 404") && said.contains("HTTP status 410"), "{said}");
    asked.join().unwrap();
}

#[tokio::test]
async fn a_proxy_that_is_down_is_named_without_its_password_and_asked_again() {
    let proxy = [
        ("HTTPS_PROXY", "http://somebody:hunter2@127.0.0.1:1"),
        ("AZURE_CLIENT_SECRET", &*variable("AZURE_CLIENT_SECRET")),
        ("AZURE_TENANT_ID", &*variable("AZURE_TENANT_ID")),
        ("AZURE_CLIENT_ID", &*variable("AZURE_CLIENT_ID")),
    ];
    let (done, said) = init(&Key::rsa(), &proxy).await;
    assert!(!done && said.contains("asked through the proxy 127.0.0.1:1 of HTTPS_PROXY"), "{said}");
    assert_eq!(said.matches("asking again").count(), 3, "{said}");
    assert!(!said.contains("somebody"), "{said}");
}

#[tokio::test]
async fn missing_credentials_are_said_in_words_and_at_once() {
    let key = Key::rsa();
    // Nobody listens on port 1, where a managed identity is said to be.
    let nobody =
        [("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token"), ("IDENTITY_HEADER", IDENTITY_HEADER)];
    let (done, said) = init(&key, &nobody).await;
    assert!(!done && said.contains("there are no Azure credentials"), "{said}");
    assert!(!said.contains("asking again"), "{said}");

    let secret = variable("AZURE_CLIENT_SECRET");
    let (done, said) = init(&key, &[("AZURE_CLIENT_SECRET", &*secret)]).await;
    assert!(!done && said.contains("AZURE_TENANT_ID") && said.contains("both"), "{said}");
    let no_text = [
        ("AZURE_CLIENT_SECRET", OsStr::from_bytes(b"hunter2\xff")),
        ("AZURE_TENANT_ID", OsStr::new("contoso.example")),
        ("AZURE_CLIENT_ID", OsStr::new("own")),
    ];
    let (done, said) = init(&key, &no_text).await;
    assert!(!done && said.contains("AZURE_CLIENT_SECRET is set") && said.contains("UTF-8"), "{said}");
    let (done, said) = init(&key, &[("HTTPS_PROXY", "socks5://127.0.0.1:1")]).await;
    assert!(!done && said.contains("http://HOST:PORT"), "{said}");
    let (done, said) = init(&key, &[("SSL_CERT_FILE", "/dev/null")]).await;
    assert!(!done && said.contains("root certificates"), "{said}");
}
