//! Servers of their own: one that is sealed and unsealed, and one with a certificate of its own authority.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use axum::http::Method;
use credvault::ErrorKind;
use credvault::provider::{MasterKeyProvider, VaultTransit};
use rcgen::CertificateParams;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use serde_json::json;
use tempfile::TempDir;

use super::double::variable;
use super::{administer, assert_says, context, is_once_more, once_more};

/// OpenBao in development mode, to the end of the test.
pub(super) struct Bao {
    process: Child,
    pub(super) address: String,
    unseal_key: String,
}

const ROOT: &str = "root-of-a-server";

impl Bao {
    pub(super) fn start(arguments: &[&str]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = Command::new(variable("CREDVAULT_BAO_PROGRAM"))
            .args(["server", "-dev", "-dev-no-store-token", &format!("-dev-root-token-id={ROOT}")])
            .arg(format!("-dev-listen-address={address}"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut bao = Self { process, address, unseal_key: String::new() };
        let mut lines = BufReader::new(bao.process.stdout.take().unwrap()).lines();
        for line in &mut lines {
            let line = line.unwrap();
            if let Some(key) = line.strip_prefix("Unseal Key: ") {
                bao.unseal_key = key.to_owned();
            }
            if line.contains("Development mode should NOT be used") {
                // It is read to the end, so that the server never waits for that.
                thread::spawn(move || lines.for_each(drop));
                return bao;
            }
        }
        panic!("OpenBao has not started");
    }

    /// An administrator's call, without TLS.
    fn administer(&self, path: &str, body: &serde_json::Value) {
        administer(&self.address, ROOT, Method::POST, path, body);
    }

    pub(super) fn root() -> &'static str {
        ROOT
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_sealed_server_says_so_and_opens_again_when_it_is_unsealed() {
    if !is_once_more() {
        let test = "servers::a_sealed_server_says_so_and_opens_again_when_it_is_unsealed";
        return once_more(test, &[("BAO_TOKEN", ROOT)]);
    }
    let bao = Bao::start(&[]);
    bao.administer("sys/mounts/transit", &json!({"type": "transit"}));
    bao.administer("transit/keys/k", &json!({}));
    let provider = VaultTransit::new(&format!("http://{}/transit/k", bao.address)).unwrap();
    let (_, record) = provider.create(&context()).await.unwrap();
    bao.administer("sys/seal", &json!({}));
    let error = provider.unlock(&record, &context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["sealed", "unsealed"]);
    assert!(error.is_retryable());
    bao.administer("sys/unseal", &json!({"key": bao.unseal_key}));
    provider.unlock(&record, &context()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_trusted_of_the_authority_that_is_said_and_of_no_other() {
    let test = "servers::a_certificate_is_trusted_of_the_authority_that_is_said_and_of_no_other";
    if !is_once_more() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let bao = Bao::start(&["-dev-tls", "-dev-tls-cert-dir", folder.path().to_str().unwrap()]);
        let (own, address) = (path("vault-ca.pem"), format!("https://{}", bao.address));
        for arguments in [&["secrets", "enable", "transit"][..], &["write", "-f", "transit/keys/k"]] {
            let administer = Command::new(variable("CREDVAULT_BAO_PROGRAM"))
                .args(arguments)
                .envs([("BAO_ADDR", address.as_str()), ("BAO_TOKEN", ROOT), ("BAO_CACERT", &own)])
                .output()
                .unwrap();
            assert!(administer.status.success(), "{administer:?}");
        }
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem();
        fs::write(path("other.pem"), other).unwrap();
        fs::write(path("none.pem"), "hunter2").unwrap();
        fs::write(path("broken.pem"), "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n")
            .unwrap();
        let plain = address.replace("https", "http");
        let without = format!("https://{}", variable("CREDVAULT_BAO"));
        for (certificates, address, expected) in [
            (path("vault-ca.pem"), &address, ""),
            (path("other.pem"), &address, "no authority that is trusted"),
            // The operating system's.
            (String::new(), &address, "no authority that is trusted"),
            (path("none.pem"), &address, "has no certificate"),
            (path("broken.pem"), &address, "certificate file"),
            (path("missing.pem"), &address, "can't be found"),
            (own.clone(), &address.replace("127.0.0.1", "localhost"), ""),
            (own.clone(), &plain, "HTTP status 400"),
            (own.clone(), &without, "doesn't speak TLS"),
        ] {
            let variables = [("VAULT_TOKEN", ROOT), ("VAULT_CACERT", certificates.as_str())];
            let case = [("CREDVAULT_TEST_ADDRESS", address.as_str()), ("CREDVAULT_TEST_EXPECTS", expected)];
            once_more(test, &[variables, case].concat());
        }
        return;
    }
    let provider = VaultTransit::new(&format!("{}/transit/k", variable("CREDVAULT_TEST_ADDRESS"))).unwrap();
    let expected = variable("CREDVAULT_TEST_EXPECTS");
    match provider.create(&context()).await {
        Ok((_, record)) if expected.is_empty() => {
            provider.unlock(&record, &context()).await.unwrap();
        }
        Ok(_) => panic!("it was trusted"),
        Err(error) => {
            assert!(!expected.is_empty(), "{error}");
            assert_says(&error, ErrorKind::Provider, &[&expected]);
            assert!(!error.is_retryable(), "{error}");
        }
    }
}

/// A server that shows this certificate, and says no more.
fn shows(params: CertificateParams, path: &Path) -> u16 {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(path, certificate.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        }
    });
    port
}

#[tokio::test]
async fn a_certificate_for_another_name_or_another_time_is_not_trusted_whoever_gave_it() {
    let test = "servers::a_certificate_for_another_name_or_another_time_is_not_trusted_whoever_gave_it";
    if !is_once_more() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("own.pem");
        let of = |name: &str| CertificateParams::new([name.to_owned()]).unwrap();
        let (mut expired, mut early) = (of("localhost"), of("localhost"));
        expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
        early.not_before = rcgen::date_time_ymd(3001, 1, 1);
        early.not_after = rcgen::date_time_ymd(3002, 1, 1);
        for (params, expected) in [
            (of("bao.example"), "for another name"),
            (expired, "has expired"),
            (early, "not valid yet"),
            // Else it is trusted, and no HTTP is spoken.
            (of("localhost"), "can't be reached"),
        ] {
            let address = format!("https://localhost:{}", shows(params, &path));
            let variables = [
                ("VAULT_TOKEN", ROOT),
                ("VAULT_CACERT", path.to_str().unwrap()),
                ("CREDVAULT_TEST_ADDRESS", &address),
                ("CREDVAULT_TEST_EXPECTS", expected),
            ];
            once_more(test, &variables);
        }
        return;
    }
    let provider = VaultTransit::new(&format!("{}/transit/k", variable("CREDVAULT_TEST_ADDRESS"))).unwrap();
    let expected = variable("CREDVAULT_TEST_EXPECTS");
    let error = provider.create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &[&expected]);
    assert_eq!(error.is_retryable(), expected == "can't be reached", "{error}");
}
