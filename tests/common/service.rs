//! A service with a vault: its database, its key files, its tenants, and tokens whose text says which they are.

use std::time::Duration;

use credvault::provider::KeyFile;
use credvault::{
    Credential, CredentialType, DataKeyId, DataKeySummary, ExposeSecret, IntegrationId, KeyState,
    OrganizationId, Rotation, RotationEvent, RotationReport, Vault, VaultBuilder,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Dialect, TestDatabase};

/// A database with a vault, whose master key is in the file `first`; the file `second` is one to rewrap to.
pub struct Service {
    pub database: TestDatabase,
    folder: TempDir,
}

/// An organization and its integration with GitHub.
#[derive(Clone, Copy, Debug)]
pub struct Tenant {
    pub organization: OrganizationId,
    pub integration: IntegrationId,
}

impl Service {
    /// Makes the vault, and opens it with both key files.
    pub async fn begin(database: TestDatabase) -> (Self, Vault) {
        let service = Self { database, folder: tempfile::tempdir().unwrap() };
        for name in ["first", "second"] {
            KeyFile::generate(service.folder.path().join(name)).unwrap();
        }
        let vault = service.builder(&["first", "second"]).create_if_missing().build().await.unwrap();
        (service, vault)
    }

    /// The key file `name`, as the library is told of it.
    pub fn key(&self, name: &str) -> String {
        format!("file:{}", self.folder.path().join(name).display())
    }

    pub fn builder(&self, keys: &[&str]) -> VaultBuilder {
        self.with_keys(Vault::builder().url(self.database.url()), keys)
    }

    fn with_keys(&self, builder: VaultBuilder, keys: &[&str]) -> VaultBuilder {
        keys.iter().fold(builder, |builder, name| builder.master_key(&self.key(name)).unwrap())
    }

    /// The vault as another process would open it, with both key files.
    pub async fn open(&self) -> Vault {
        self.builder(&["first", "second"]).build().await.unwrap()
    }

    /// The same in the place that a builder names, such as the database as another role.
    pub async fn open_by(&self, builder: VaultBuilder) -> Vault {
        self.with_keys(builder, &["first", "second"]).build().await.unwrap()
    }

    /// New organizations, each with an integration with GitHub.
    pub async fn add_tenants(&self, count: usize) -> Vec<Tenant> {
        let tenants: Vec<Tenant> = (0..count)
            .map(|_| Tenant { organization: Uuid::new_v4().into(), integration: Uuid::new_v4().into() })
            .collect();
        let values: Vec<String> = tenants
            .iter()
            .map(|Tenant { organization, integration }| {
                format!("('{integration}', '{organization}', '{integration}', 'github', 'active')")
            })
            .collect();
        self.database
            .execute(&format!(
                "INSERT INTO integrations (id, organization_id, user_id, connector_type, status) VALUES {}",
                values.join(", ")
            ))
            .await;
        tenants
    }

    /// New tenants, each with the token `token of INTEGRATION`.
    pub async fn add_tenants_with_tokens(&self, vault: &Vault, count: usize) -> Vec<Tenant> {
        let tenants = self.add_tenants(count).await;
        for tenant in &tenants {
            put(vault, *tenant, &first_token(*tenant)).await;
        }
        tenants
    }

    /// The same for many, in one transaction.
    pub async fn add_many_tenants_with_tokens(&self, vault: &Vault, count: usize) -> Vec<Tenant> {
        let tenants = self.add_tenants(count).await;
        let mut connection = self.database.connect().await;
        connection.begin().await;
        for tenant in &tenants {
            let organization = vault.organization(tenant.organization);
            let token = token(&first_token(*tenant));
            organization.put_in(connection.lend(), tenant.integration, &token).await.unwrap();
        }
        connection.execute("COMMIT").await;
        tenants
    }

    /// The key that a tenant's row is under, by its column.
    pub async fn key_of(&self, tenant: Tenant) -> DataKeyId {
        self.database.raw_row(tenant.integration).await.unwrap().key_column.parse().unwrap()
    }

    /// The stored text of a tenant's credential.
    pub async fn stored(&self, tenant: Tenant) -> String {
        let sql = format!(
            "SELECT credential_data_encrypted FROM integration_credentials WHERE integration_id = '{}'",
            tenant.integration
        );
        self.database.fetch_one_text(&sql).await.unwrap()
    }

    /// All stored texts and their columns.
    pub async fn rows(&self) -> Vec<Vec<Option<String>>> {
        let sql = "SELECT integration_id, credential_data_encrypted, encryption_key_id, expires_at
                     FROM integration_credentials ORDER BY integration_id";
        self.database.fetch_text(sql).await
    }

    /// Changes the last character of a tenant's stored text: it no longer opens.
    pub async fn tamper_with(&self, tenant: Tenant) -> String {
        let mut text = self.stored(tenant).await;
        let last = text.pop().unwrap();
        // The top bit of the character, which every length of text uses.
        text.push(if last.is_ascii_uppercase() { 'w' } else { 'A' });
        self.set_stored(tenant, &text).await;
        text
    }

    pub async fn set_stored(&self, tenant: Tenant, text: &str) {
        let sql = format!(
            "UPDATE integration_credentials SET credential_data_encrypted = '{text}' WHERE integration_id = '{}'",
            tenant.integration
        );
        self.database.execute(&sql).await;
    }

    /// Makes the database change the tenant's row by `set` at the moment at which another row is put in quarantine,
    /// which is after a page was read and before it is written.
    pub async fn change_at_quarantine(&self, tenant: Tenant, set: &str) {
        let integration = tenant.integration;
        let update =
            format!("UPDATE integration_credentials SET {set} WHERE integration_id = '{integration}';");
        self.add_trigger("meanwhile", "AFTER INSERT ON vault_quarantine", &update).await;
    }

    /// Adds a trigger on each row that does `then`, whose statements end with a semicolon.
    pub async fn add_trigger(&self, name: &str, when: &str, then: &str) {
        self.database
            .execute(&match self.database.dialect() {
                Dialect::Postgres => format!(
                    "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql
                         AS $$ BEGIN {then} RETURN NULL; END $$;
                     CREATE TRIGGER {name} {when} FOR EACH ROW EXECUTE FUNCTION {name}()"
                ),
                Dialect::Sqlite => format!("CREATE TRIGGER {name} {when} BEGIN {then} END"),
            })
            .await;
    }

    /// Lets the lease of a run that was cut off end now, in the place of a minute later.
    pub async fn expire_lease(&self) {
        self.database
            .execute("UPDATE vault_rotation_runs SET lease_expires_at = started_at WHERE finished_at IS NULL")
            .await;
    }

    /// The same as soon as the database is there.
    pub async fn expire_lease_when_possible(&self) {
        let sql = "UPDATE vault_rotation_runs SET lease_expires_at = started_at WHERE finished_at IS NULL";
        while self.database.try_execute(sql).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends every session of a vault with the database, whatever it is at, as an administrator may.
    pub async fn terminate_sessions(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'credvault'";
        self.database.execute(sql).await;
    }

    /// A count that a statement gives.
    pub async fn count(&self, sql: &str) -> u64 {
        self.database.fetch_one_text(sql).await.unwrap().parse().unwrap()
    }

    /// The rows that are not under the active key of their scope, by a definition of this test's own.
    pub async fn rows_under_other_keys(&self) -> u64 {
        let sql = "SELECT count(*)
                     FROM integration_credentials AS c
                     JOIN integrations AS i ON i.id = c.integration_id
                     LEFT JOIN vault_data_keys AS own
                            ON own.organization_id = i.organization_id AND own.state = 'active'
                     LEFT JOIN vault_data_keys AS shared
                            ON shared.organization_id IS NULL AND shared.state = 'active'
                    WHERE c.encryption_key_id <> CASE WHEN own.id IS NULL THEN shared.id ELSE own.id END";
        self.count(sql).await
    }

    /// Every row opens and is under the active key of its scope, and no key is half made.
    pub async fn assert_all_current(&self, vault: &Vault) {
        assert_sound(vault).await;
        assert_eq!(self.rows_under_other_keys().await, 0);
        assert_eq!(vault.exact_status().await.unwrap().stale_rows, 0);
        assert_eq!(self.count("SELECT count(*) FROM vault_data_keys WHERE state = 'pre-active'").await, 0);
    }

    /// What holds of the keys at every moment, whatever was cut off: a scope has one active key, every row's key is there,
    /// and none that is called unused has a row.
    pub async fn assert_keys_hold(&self, vault: &Vault) {
        let counts = "SELECT (SELECT count(*) FROM (SELECT 1 FROM vault_data_keys WHERE state = 'active'
                                               GROUP BY organization_id HAVING count(*) > 1) AS scopes),
                             (SELECT count(*) FROM vault_data_keys
                               WHERE state = 'active' AND organization_id IS NULL),
                             (SELECT count(*) FROM integration_credentials AS c
                               WHERE NOT EXISTS (SELECT 1 FROM vault_key_material AS m
                                                  WHERE m.data_key_id = c.encryption_key_id))";
        let counts: Vec<_> = self.database.fetch_text(counts).await.remove(0).into_iter().flatten().collect();
        assert_eq!(counts[0], "0", "a scope has several active keys");
        assert_eq!(counts[1], "1", "active shared keys");
        assert_eq!(counts[2], "0", "a row names a key whose material is gone");
        let keys = vault.keys().list().await.unwrap();
        let unused = |key: &&DataKeySummary| key.unused_since.is_some() && key.rows + key.other_rows > 0;
        assert_eq!(keys.iter().find(unused).map(|key| key.id), None, "a key that is called unused has rows");
    }
}

/// The active key of an organization's own, or the shared one.
pub async fn active_key(vault: &Vault, organization: Option<OrganizationId>) -> DataKeyId {
    let keys = vault.keys().list().await.unwrap();
    let is_active =
        |key: &&DataKeySummary| key.state == KeyState::Active && key.organization_id == organization;
    keys.iter().find(is_active).expect("there is no such key").id
}

/// What is said of a key.
pub async fn key(vault: &Vault, id: DataKeyId) -> DataKeySummary {
    vault.keys().list().await.unwrap().into_iter().find(|key| key.id == id).expect("there is no such key")
}

/// Every key unwraps and every row opens.
pub async fn assert_sound(vault: &Vault) {
    let verification = vault.verify().run().await.unwrap();
    assert!(verification.findings.is_empty(), "{:?}", verification.findings);
}

pub fn token(text: &str) -> Credential {
    Credential::new(CredentialType::token()).with_field("access_token", text)
}

pub fn first_token(tenant: Tenant) -> String {
    format!("token of {}", tenant.integration)
}

pub async fn put(vault: &Vault, tenant: Tenant, text: &str) {
    vault.organization(tenant.organization).put(tenant.integration, &token(text)).await.unwrap();
}

/// The tenant's token.
pub async fn read(vault: &Vault, tenant: Tenant) -> Option<String> {
    let stored = vault.organization(tenant.organization).get(tenant.integration).await.unwrap()?;
    Some(stored.credential.field("access_token").unwrap().expose_secret().to_owned())
}

/// A rotation that stands still after its first page until it is told to go on.
pub struct Halted {
    go_on: std::sync::mpsc::Sender<()>,
    task: JoinHandle<credvault::Result<RotationReport>>,
}

impl Halted {
    /// Runs `rotation` up to the end of its first page.
    pub async fn after_first_page(rotation: Rotation) -> Self {
        let (reached, at_first_page) = oneshot::channel();
        let (go_on, wait) = std::sync::mpsc::channel();
        let once = std::sync::Mutex::new(Some((reached, wait)));
        let rotation = rotation.on_event(move |event| {
            if let RotationEvent::Progress(_) = event
                && let Some((reached, wait)) = once.lock().unwrap().take()
            {
                reached.send(()).unwrap();
                // Without its message the test is over.
                tokio::task::block_in_place(|| wait.recv().ok());
            }
        });
        let task = tokio::spawn(rotation.run());
        at_first_page.await.expect("the rotation ended before its first page");
        Self { go_on, task }
    }

    /// Kills it, as it stands.
    pub async fn kill(self) {
        self.task.abort();
        // It looks up from its page, and is gone.
        drop(self.go_on);
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Lets it go on, to its end.
    pub async fn finish(self) -> credvault::Result<RotationReport> {
        self.go_on.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(40), self.task).await.expect("it never ends").unwrap()
    }
}

/// A number below `limit`, by the operating system's generator.
pub fn random_below(limit: u64) -> u64 {
    let (random, _) = Uuid::new_v4().as_u64_pair();
    random % limit
}
