//! What verify finds: each kind of finding is made by hand, and named; a sound vault gives none, and nothing is written.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

#[path = "../common/mod.rs"]
mod common;

mod keys;
mod reading;
mod rows;
mod sample;

use common::{Dialect, KeyFiles, TestDatabase, token};
use credvault::{DataKeyId, IntegrationId, KeyState, OrganizationId, Vault, VaultBuilder, provider};

/// A vault with a credential under the shared key and one under an organization's own; each kind of key has one before
/// it, which is deactivated.
struct Home {
    database: TestDatabase,
    vault: Vault,
    shared: Tenant,
    own: Tenant,
    keys: KeyFiles,
}

#[derive(Clone, Copy)]
struct Tenant {
    organization: OrganizationId,
    integration: IntegrationId,
}

impl Home {
    async fn begin(database: TestDatabase) -> Self {
        let keys = KeyFiles::new();
        let (first, second) = (keys.generate("first.key"), keys.generate("second.key"));
        database.create_vault(&first).await;
        let vault = builder(&database, &[&first, &second]).build().await.unwrap();
        let [shared, own] = [database.add_tenant().await, database.add_tenant().await]
            .map(|(organization, integration)| Tenant { organization, integration });
        vault.keys().create(own.organization).await.unwrap();
        for tenant in [shared, own] {
            vault.organization(tenant.organization).put(tenant.integration, &token("t")).await.unwrap();
        }
        vault.rotation().force().run().await.unwrap();
        vault.rewrap(provider::from_spec(&second).unwrap()).run().await.unwrap();
        let home = Self { database, vault, shared, own, keys };
        assert_eq!(home.findings().await, [] as [String; 0]);
        home
    }

    /// The vault as another process opens it, with both master keys.
    async fn open(&self) -> Vault {
        let specs = [self.keys.spec("first.key"), self.keys.spec("second.key")];
        builder(&self.database, &[&specs[0], &specs[1]]).build().await.unwrap()
    }

    /// What a verification of the whole vault finds, in its words.
    async fn findings(&self) -> Vec<String> {
        let verification = self.vault.verify().run().await.unwrap();
        assert_eq!(verification.findings_count, verification.findings.len() as u64);
        verification.findings.iter().map(ToString::to_string).collect()
    }

    /// A scope's data key in a state.
    async fn data_key(&self, organization: Option<OrganizationId>, state: KeyState) -> DataKeyId {
        let keys = self.vault.keys().list().await.unwrap();
        let mut found = keys
            .iter()
            .filter(|key| key.organization_id == organization && key.state == state && !key.id.is_legacy());
        let id = found.next().unwrap().id;
        assert!(found.next().is_none());
        id
    }

    /// Takes away the database's guard on the key that a row names, as on a table that stood before it.
    async fn drop_guard_of_keys(&self) {
        self.database
            .execute(match self.database.dialect() {
                Dialect::Postgres => {
                    "ALTER TABLE integration_credentials
                       DROP CONSTRAINT integration_credentials_encryption_key_id_fkey"
                }
                Dialect::Sqlite => {
                    "DROP TRIGGER vault_refuse_unknown_key_on_update;
                     DROP TRIGGER vault_refuse_delete_of_used_material"
                }
            })
            .await;
    }

    /// Takes away the database's guard on the integration that a row names, which a program on SQLite that leaves the
    /// pragma foreign_keys off has none of.
    async fn drop_guard_of_integrations(&self) {
        if self.database.dialect() == Dialect::Postgres {
            self.database
                .execute(
                    "ALTER TABLE integration_credentials
                       DROP CONSTRAINT integration_credentials_integration_id_fkey",
                )
                .await;
        }
    }
}

fn builder(database: &TestDatabase, specs: &[&str]) -> VaultBuilder {
    specs.iter().fold(Vault::builder().url(database.url()), |builder, spec| builder.master_key(spec).unwrap())
}

/// The moment so many days from now, in SQL.
fn in_days(dialect: Dialect, days: i32) -> String {
    match dialect {
        Dialect::Postgres => format!("(now() AT TIME ZONE 'utc') + interval '{days} days'"),
        Dialect::Sqlite => format!("(unixepoch() + {days} * 86400) * 1000000"),
    }
}
