//! KMS behind TLS, with a certificate that is trusted, or isn't.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rcgen::CertificateParams;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use tempfile::TempDir;

use super::command::init;
use super::double::{actions, file, take_calls, variable};
use super::key;

const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const ENDPOINT: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";
const ROOTS: &str = "SSL_CERT_FILE";

/// TLS in front of the double: its address, and how many connections it took. The certificate is left in `path`.
fn serve_tls(path: &Path) -> (String, Arc<AtomicUsize>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, path.display().to_string());
    let certificate = params.self_signed(&key).unwrap();
    fs::write(path, certificate.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            count.fetch_add(1, Ordering::Relaxed);
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut connection = ServerConnection::new(config).unwrap();
                hand_on(&mut Stream::new(&mut connection, &mut stream));
            });
        }
    });
    (address, taken)
}

/// One request and its answer.
fn hand_on(client: &mut (impl Read + Write)) {
    let (mut request, mut part) = (Vec::new(), [0; 4_096]);
    let is_whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_lowercase();
        text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        })
    };
    while !is_whole(&request) {
        match client.read(&mut part) {
            Ok(length) if length > 0 => request.extend_from_slice(&part[..length]),
            _ => return,
        }
    }
    let end = request.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
    request.splice(end..end, *b"connection: close\r\n");
    let mut double = TcpStream::connect(variable("CREDVAULT_GCP_DOUBLE")).unwrap();
    double.write_all(&request).unwrap();
    let mut answer = Vec::new();
    double.read_to_end(&mut answer).unwrap();
    let _ = client.write_all(&answer).and_then(|()| client.flush());
}

#[tokio::test]
async fn kms_is_reached_by_tls_where_its_certificate_is_trusted_and_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let (ours, others) = (folder.path().join("ours.pem"), folder.path().join("others.pem"));
    let (endpoint, taken) = serve_tls(&ours);
    serve_tls(&others);
    let user = file("user.json").display().to_string();
    let key = key();

    let trusted = [(FILE, user.as_str()), (ENDPOINT, endpoint.as_str()), (ROOTS, ours.to_str().unwrap())];
    let (done, said) = init(&key, &trusted).await;
    assert!(done, "{said}");
    assert_eq!(actions(&key), ["encrypt", "decrypt"]);

    taken.store(0, Ordering::Relaxed);
    let (done, said) = init(&key, &[trusted[0], trusted[1], (ROOTS, others.to_str().unwrap())]).await;
    assert!(!done && said.contains("of nobody that this machine trusts"), "{said}");
    assert_eq!(taken.load(Ordering::Relaxed), 1, "asked again");
    assert!(take_calls(&key).is_empty());

    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let (done, said) = init(&key, &[trusted[0], trusted[1], (ROOTS, empty.to_str().unwrap())]).await;
    assert!(!done && said.contains("are there root certificates"), "{said}");
}
