//! A vault's life with every kind of failure, and all that was said meanwhile.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use credvault::provider::{
    Argon2Parameters, KeyBytes, KeyFile, MasterKeyProvider, MasterKeyText, Passphrase, ProviderContext,
};
use credvault::{
    Credential, CredentialType, Error, ErrorKind, ExposeSecret, IntegrationId, MasterKeyId, Vault, provider,
};
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::common::legacy::{add_legacy_rows, legacy_salt, salt};
use crate::common::{Dialect, KeyFiles, Pool, TestDatabase};
use crate::derivation;
use crate::search::Needle;

const DATABASE_PASSWORD: &str = "Pw9MarkerOfTheDatabase";
const PASSPHRASE: &str = "Ph4MarkerOfThePassphrase";
/// Many times in each token: an error that shows only a part shows one.
const TOKEN: &str = "Tk7MarkerOfToken";

pub(crate) struct Life {
    /// What must be nowhere.
    pub(crate) secrets: Vec<Needle>,
    /// What the database holds, and nobody says.
    pub(crate) stored: Vec<Needle>,
    /// All errors and all that `Debug` shows.
    pub(crate) shown: String,
    pub(crate) integration: IntegrationId,
}

/// What was shown.
#[derive(Default)]
struct Shown(String);

impl Shown {
    fn debug(&mut self, value: &impl fmt::Debug) {
        self.0.push_str(&format!("{value:?}\n{value:#?}\n"));
    }

    /// An error that must have happened, with all its sources.
    fn error<T: fmt::Debug>(&mut self, kind: ErrorKind, result: Result<T, Error>) {
        let error = result.expect_err("this was to fail");
        assert_eq!(error.kind(), kind, "{error:?}");
        self.debug(&error);
        self.0.push_str(&format!("{error}\n{error:#}\n"));
        let mut source = error.source();
        while let Some(cause) = source {
            self.0.push_str(&format!("{cause}\n{cause:?}\n{cause:#?}\n"));
            source = cause.source();
        }
    }
}

fn secret(number: usize) -> Credential {
    let value = TOKEN.repeat(20 + number);
    Credential::new(CredentialType::token()).with_field("access_token", value)
}

fn passphrase(text: &str) -> Arc<Passphrase> {
    let parameters = Argon2Parameters::new(19_456, 2, 1).unwrap();
    Arc::new(Passphrase::from_secret(text.into()).with_parameters(parameters))
}

pub(crate) async fn live(database: &TestDatabase) -> Life {
    let mut shown = Shown::default();
    let (mut secrets, mut stored) = (Vec::new(), Vec::new());
    // The password is not asked for here, and must be nowhere all the same.
    let url = database.url().replacen("postgres@", &format!("postgres:{DATABASE_PASSWORD}@"), 1);
    let keys = KeyFiles::new();
    let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
    for name in ["first.key", "second.key"] {
        secrets.push(Needle::new(name, &keys.key(name).key));
        secrets.push(Needle::text(format!("the line of {name}"), keys.key(name).line().trim()));
    }

    let builder = Vault::builder().url(&url).master_key(&first).unwrap().create_if_missing();
    shown.debug(&builder);
    let vault = builder.build().await.unwrap();
    let (organization, integration) = database.add_tenant().await;
    let github = vault.organization(organization);
    let revision = github.put(integration, &secret(0)).await.unwrap();
    let slack = github.ensure_integration("slack").await.unwrap();
    github.put(slack, &secret(1).with_expiry(OffsetDateTime::now_utc())).await.unwrap();
    let (other, theirs) = database.add_tenant().await;
    let own = vault.keys().create(other).await.unwrap();
    vault.organization(other).put(theirs, &secret(2)).await.unwrap();

    // What callers do wrong.
    let room = || secret(0).with_field("too large", TOKEN.repeat(60_000));
    shown.error(ErrorKind::InvalidInput, github.put(integration, &room()).await);
    let name = Credential::new(CredentialType::token()).with_field(TOKEN.repeat(5_000), TOKEN);
    shown.error(ErrorKind::InvalidInput, github.put(integration, &name).await);
    shown.error(ErrorKind::InvalidInput, format!("{TOKEN}\n").parse::<CredentialType>());
    shown.error(ErrorKind::InvalidInput, TOKEN.repeat(2).parse::<credvault::Revision>());
    shown.error(ErrorKind::InvalidInput, github.ensure_integration(&TOKEN.repeat(4)).await);
    shown.error(ErrorKind::NotFound, github.put(theirs, &secret(3)).await);
    github.put(integration, &secret(4)).await.unwrap();
    shown.error(ErrorKind::Conflict, github.update(integration, &revision, &secret(5)).await);
    shown.error(ErrorKind::Refused, vault.transfer(integration, organization, other).await);

    // Wrong keys and wrong places.
    shown.error(ErrorKind::KeyUnavailable, Vault::open(&url, &second).await);
    let line = keys.key("first.key").line();
    shown.error(ErrorKind::InvalidInput, Vault::builder().master_key(line.trim()));
    shown.error(ErrorKind::InvalidInput, Vault::builder().master_key(&format!("passphrase:{PASSPHRASE}")));
    let damaged = keys.write("damaged.key", &line.replacen("cvmk1_", "cvmk2_", 1));
    shown.error(ErrorKind::Provider, Vault::open(&url, &damaged).await);
    let scheme = format!("postgres://user:{DATABASE_PASSWORD}@localhost:no-port/x");
    shown.error(ErrorKind::InvalidInput, Vault::open(&scheme, &first).await);
    let scheme = format!("mysql://user:{DATABASE_PASSWORD}@localhost/x");
    shown.error(ErrorKind::InvalidInput, Vault::open(&scheme, &first).await);
    let nowhere =
        format!("postgres://user:{DATABASE_PASSWORD}@localhost/x?host=/nonexistent&sslmode=disable");
    let nobody = Vault::open(&nowhere, &first);
    if let Ok(result) = tokio::time::timeout(Duration::from_secs(2), nobody).await {
        shown.error(ErrorKind::Store, result);
    }

    // Rows that someone changed, and rows that the database refuses.
    let right = database.raw_row(slack).await.unwrap().stored;
    database.set(slack, "credential_type = 'oauth2'").await;
    shown.error(ErrorKind::Tampered, github.get(slack).await);
    database.set(slack, &format!("credential_data_encrypted = '{}!'", &right[..right.len() - 1])).await;
    shown.error(ErrorKind::Malformed, github.get(slack).await);
    let verification = vault.verify().run().await.unwrap();
    assert_eq!(verification.findings_count, 1);
    shown.debug(&verification);
    shown.0.push_str(&verification.findings[0].to_string());
    // Its changed text was in a statement of ours: what is looked for from here on is in none.
    github.delete(slack).await.unwrap();
    refuse_writes(database, &mut shown, &vault, &first).await;
    add_stored(database, &mut stored).await;

    // Legacy rows, keys and their jobs.
    let legacy = add_legacy_rows(database).await;
    shown.error(ErrorKind::Refused, vault.adoption(salt(&format!("{}\n", legacy_salt()))).run().await);
    let adoption = vault.adoption(salt(&legacy_salt()));
    shown.debug(&adoption);
    shown.debug(&salt(&legacy_salt()));
    shown.debug(&adoption.run().await.unwrap());
    let read = vault.organization(legacy[0].organization).get(legacy[0].integration).await.unwrap();
    shown.debug(&read);
    shown.debug(&vault.rotation());
    shown.debug(&vault.rotation().force().run().await.unwrap());
    shown.debug(&vault.status().await.unwrap());
    shown.debug(&vault.keys());
    shown.debug(&vault.keys().list().await.unwrap());
    data_keys_of(database, &vault, &keys, &mut secrets).await;
    shown.debug(&vault.rewrap(provider::from_spec(&second).unwrap()).run().await.unwrap());
    let rewrap = vault.rewrap(passphrase(PASSPHRASE));
    shown.debug(&rewrap);
    shown.debug(&rewrap.run().await.unwrap());
    let by = |text: &str| Vault::builder().url(&url).master_key_provider(passphrase(text));
    shown.error(ErrorKind::KeyMismatch, by(&format!("{PASSPHRASE} ")).build().await);
    let vault = by(PASSPHRASE).build().await.unwrap();
    let read = vault.organization(other).get(theirs).await.unwrap();
    assert_eq!(read.as_ref().unwrap().credential.field("access_token").unwrap().len(), TOKEN.len() * 22);

    // Everything else that has a Debug.
    shown.debug(&(read, secret(6), &vault, &github, vault.verify(), own, github.list().await.unwrap()));
    shown.debug(&vault.expiring(OffsetDateTime::now_utc(), 10).await.unwrap());
    shown.debug(&(passphrase(PASSPHRASE), KeyFile::new("a.key"), salt(&legacy_salt())));
    let text = MasterKeyText::generate().unwrap();
    secrets.push(Needle::text("a generated master key", text.text().expose_secret()));
    let bytes = KeyBytes::copy_of(&keys.key("first.key").key).unwrap();
    shown.debug(&(&text, text.text(), bytes, MasterKeyText::read(line.trim()).unwrap()));
    shown.error(ErrorKind::Malformed, MasterKeyText::read(&line));
    let context = ProviderContext::new(vault.id(), MasterKeyId::from(Uuid::new_v4()));
    shown.debug(&passphrase(PASSPHRASE).create(&context).await.unwrap());

    secrets.push(Needle::new("the token", TOKEN.as_bytes()));
    secrets.push(Needle::new("the passphrase", PASSPHRASE.as_bytes()));
    secrets.push(Needle::new("the database's password", DATABASE_PASSWORD.as_bytes()));
    secrets.push(Needle::new("the legacy salt", legacy_salt().as_bytes()));
    secrets.push(Needle::new("the legacy key", &Sha256::digest(legacy_salt())));
    for row in &legacy {
        for (name, value) in row.fields.as_object().unwrap() {
            let value = value.as_str().unwrap();
            if value.len() >= 16 {
                secrets.push(Needle::new(format!("the legacy {name}"), value.as_bytes()));
            }
        }
    }
    add_stored(database, &mut stored).await;
    Life { secrets, stored, shown: shown.0, integration }
}

/// Makes the database refuse writes, in ways whose own messages hold the whole row.
async fn refuse_writes(database: &TestDatabase, shown: &mut Shown, vault: &Vault, spec: &str) {
    let (organization, _) = database.add_tenant().await;
    let organization = vault.organization(organization);
    let target = organization.ensure_integration("refused").await.unwrap();
    let (refuse, allow) = match database.dialect() {
        Dialect::Postgres => (
            "ALTER TABLE integration_credentials ADD CONSTRAINT refuses CHECK (credential_type <> 'refused')",
            "ALTER TABLE integration_credentials DROP CONSTRAINT refuses",
        ),
        Dialect::Sqlite => (
            "CREATE TRIGGER refuses BEFORE INSERT ON integration_credentials
               WHEN NEW.credential_type = 'refused' BEGIN SELECT RAISE(ABORT, 'refused'); END",
            "DROP TRIGGER refuses",
        ),
    };
    database.execute(refuse).await;
    let put = Credential::new("refused".parse().unwrap()).with_field("access_token", TOKEN.repeat(20));
    let result = organization.put(target, &put).await;
    let kind = result.as_ref().unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Store | ErrorKind::Refused), "{kind}");
    shown.error(kind, result);
    database.execute(allow).await;

    // A lock that isn't given back in time.
    let (pool, lock) = match database.dialect() {
        Dialect::Postgres => {
            let name = database.fetch_one_text("SELECT current_database()").await.unwrap();
            database.execute(&format!("ALTER DATABASE {name} SET statement_timeout = '200ms'")).await;
            let pool = database.pool(1).await;
            database.execute(&format!("ALTER DATABASE {name} RESET statement_timeout")).await;
            (pool, "BEGIN; LOCK TABLE integration_credentials")
        }
        Dialect::Sqlite => {
            let options: SqliteConnectOptions = database.url().parse().unwrap();
            let options = options.busy_timeout(Duration::from_millis(100));
            let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
            (Pool::Sqlite(pool), "BEGIN IMMEDIATE")
        }
    };
    let organization = pool.open_vault(spec).await.organization(organization.id());
    let mut connection = database.connect().await;
    connection.execute(lock).await;
    let result = organization.put(target, &secret(7)).await;
    assert!(result.as_ref().unwrap_err().is_retryable());
    shown.error(ErrorKind::Store, result);
    connection.execute("ROLLBACK").await;
}

/// Adds what is stored now.
async fn add_stored(database: &TestDatabase, stored: &mut Vec<Needle>) {
    for column in
        ["credential_data_encrypted FROM integration_credentials", "wrapped_key FROM vault_key_material"]
    {
        for row in database.fetch_text(&format!("SELECT {column}")).await {
            if let Some(text) = row[0].as_deref().filter(|text| text.starts_with("cv1.")) {
                // After the revision, which may be shown.
                stored.push(Needle::text(column, &text[70..100]));
            }
        }
    }
}

/// Adds the data keys, unwrapped by other code than the library's.
async fn data_keys_of(database: &TestDatabase, vault: &Vault, keys: &KeyFiles, secrets: &mut Vec<Needle>) {
    let master = keys.key("first.key");
    let before = secrets.len();
    for key in vault.keys().list().await.unwrap() {
        let wrapped = format!("SELECT wrapped_key FROM vault_key_material WHERE data_key_id = '{}'", key.id);
        let wrapped = database.fetch_one_text(&wrapped).await.unwrap();
        let organization = key.organization_id.as_ref().map_or(&[][..], |id| id.as_bytes());
        let bytes =
            derivation::unwrap(&master, vault.id().as_bytes(), key.id.as_bytes(), organization, &wrapped);
        secrets.push(Needle::new(format!("data key {}", key.id), &bytes));
    }
    assert_eq!(secrets.len() - before, 5, "two shared, two of an organization, the legacy one");
}
