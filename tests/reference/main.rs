//! The second implementation of the stored format, in Python, opens what the library stores and seals what it opens.

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use common::service::{Service, Tenant, assert_sound};
use common::{Dialect, TestDatabase};
use credvault::{Credential, ExposeSecret, LegacySalt, Outcome, Vault};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use zeroize::Zeroizing;

/// Says what to install where Python or its package is missing.
fn assert_python_is_there() {
    let there = Command::new("python3").args(["-c", "import cryptography"]).output();
    let there = there.unwrap_or_else(|error| panic!("install python3: the reference doesn't run ({error})"));
    assert!(
        there.status.success(),
        "install python3-cryptography: the reference needs Python's cryptography"
    );
}

/// Runs `tests/reference/check.py` on the service's SQLite file; gives what it prints.
fn reference(what: &str, service: &Service, key: &str, input: &Value) -> String {
    let file = service.database.url().strip_prefix("sqlite:").unwrap().to_owned();
    let key = service.key(key).strip_prefix("file:").unwrap().to_owned();
    let mut child = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/check.py"))
        .args([what, &file, &key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("install python3");
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a test stores.
struct Sample {
    credential_type: &'static str,
    fields: BTreeMap<String, String>,
    expires_at: Option<OffsetDateTime>,
}

impl Sample {
    fn new(
        credential_type: &'static str,
        fields: &[(&str, &str)],
        expires_at: Option<OffsetDateTime>,
    ) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { credential_type, fields, expires_at }
    }

    fn credential(&self) -> Credential {
        let credential = Credential::new(self.credential_type.parse().unwrap()).with_expiry(self.expires_at);
        self.fields.iter().fold(credential, |credential, (name, value)| {
            credential.with_field(name.as_str(), value.as_str())
        })
    }

    fn expires_us(&self) -> Option<i64> {
        self.expires_at.map(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap())
    }
}

fn samples() -> Vec<Sample> {
    let long = "ghs_".to_owned() + &"e".repeat(516);
    let pem = "-----BEGIN PRIVATE KEY-----\n".to_owned() + &"MIIEvQIBADANBgkq\n".repeat(100);
    vec![
        Sample::new("token", &[("access_token", &long)], Some(datetime!(2030-01-02 03:04:05.678901 UTC))),
        Sample::new("oauth2", &[("access_token", "ghu_1"), ("refresh_token", "ghr_2")], None),
        Sample::new("service_account", &[("private_key", &pem), ("client_email", "a@b.example")], None),
        Sample::new("token", &[("", ""), ("ключ", "значение \u{2028}<&>\"\\"), ("nul", "a\0b")], None),
        Sample::new("token", &[], Some(datetime!(1969-12-31 23:59:59.999999 UTC))),
        Sample::new("token", &[("k", "v")], Some(datetime!(9999-12-31 23:59:59.999999 UTC))),
        Sample::new("der Schlüssel", &[("k", "v")], None),
    ]
}

async fn assert_holds(vault: &Vault, tenant: Tenant, sample: &Sample) {
    let stored = vault.organization(tenant.organization).get(tenant.integration).await.unwrap().unwrap();
    let fields: BTreeMap<String, String> = stored
        .credential
        .fields()
        .map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned()))
        .collect();
    assert_eq!(fields, sample.fields);
    assert_eq!(stored.credential.credential_type().as_str(), sample.credential_type);
    assert_eq!(stored.credential.expires_at(), sample.expires_at);
}

/// Both read the same, each by its own code.
fn assert_reference_reads(service: &Service, key: &str, tenants: &[Tenant], samples: &[Sample], keys: usize) {
    let opened: Value = serde_json::from_str(&reference("open", service, key, &json!(null))).unwrap();
    assert_eq!(opened["keys"].as_array().unwrap().len(), keys);
    assert_eq!(opened["rows"].as_object().unwrap().len(), samples.len());
    for (tenant, sample) in tenants.iter().zip(samples) {
        let row = &opened["rows"][tenant.integration.to_string()];
        assert_eq!(row["fields"], json!(sample.fields));
        assert_eq!(row["expires_us"], json!(sample.expires_us()));
        assert_eq!(row["credential_type"], sample.credential_type);
    }
}

#[tokio::test]
async fn the_reference_opens_what_the_library_stores_and_the_other_way_round() {
    assert_python_is_there();
    let (service, vault) = Service::begin(TestDatabase::create(Dialect::Sqlite).await).await;
    let mut samples = samples();
    let tenants = service.add_tenants(samples.len()).await;
    for (tenant, sample) in tenants.iter().zip(&samples) {
        let organization = vault.organization(tenant.organization);
        organization.put(tenant.integration, &sample.credential()).await.unwrap();
    }
    assert_reference_reads(&service, "first", &tenants, &samples, 1);

    // An organization's own key, re-encrypted rows, the legacy key, another master key.
    vault.keys().create(tenants[0].organization).await.unwrap();
    vault.adoption(LegacySalt::new(Zeroizing::new(b"a salt".to_vec()))).run().await.unwrap();
    assert_eq!(vault.rotation().force().run().await.unwrap().outcome, Outcome::Complete);
    assert_reference_reads(&service, "first", &tenants, &samples, 5);
    let second = credvault::provider::from_spec(&service.key("second")).unwrap();
    assert_eq!(vault.rewrap(second).run().await.unwrap().rewrapped, 5);
    assert_reference_reads(&service, "second", &tenants, &samples, 5);

    // The other way round, each integration with the next one's credential.
    samples.rotate_left(1);
    let given = tenants.iter().zip(&samples).map(|(tenant, sample)| {
        json!({
            "integration_id": tenant.integration.to_string(),
            "credential_type": sample.credential_type,
            "fields": sample.fields,
            "expires_us": sample.expires_us(),
        })
    });
    reference("seal", &service, "second", &given.collect());
    for vault in [&vault, &service.builder(&["second"]).build().await.unwrap()] {
        for (tenant, sample) in tenants.iter().zip(&samples) {
            assert_holds(vault, *tenant, sample).await;
        }
        assert_sound(vault).await;
    }
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, samples.len() as u64));
    assert_reference_reads(&service, "second", &tenants, &samples, 7);
}
