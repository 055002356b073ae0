//! A master key of an organization's own: taken away, it closes that organization's credentials and nobody else's.

use std::time::Duration;

use credvault::provider::{self, CachePeriod, MasterKeyProvider};
use credvault::test_util::FaultyProvider;
use credvault::{ErrorKind, Finding, OrganizationId, Outcome, Vault};

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read, read_token, token};

on_both_stores!(
    an_organization_may_have_a_master_key_of_its_own,
    a_key_that_is_taken_away_closes_that_organization_only,
    a_row_in_quarantine_stays_there_while_its_key_is_away,
    a_rewrap_of_all_others_leaves_an_organizations_own_alone,
    a_master_key_serves_one_scope_only,
    a_rewrap_that_was_cut_short_goes_on,
);

/// A vault under a key file, and a customer's key service, which goes away after a second at most.
struct Home<'d> {
    database: &'d TestDatabase,
    keys: KeyFiles,
    customers: FaultyProvider,
    vault: Vault,
}

impl<'d> Home<'d> {
    async fn new(database: &'d TestDatabase) -> Self {
        let keys = KeyFiles::new();
        keys.generate("vaults.key");
        let customers = provider::from_spec(&keys.generate("customers.key")).unwrap();
        let second = Duration::from_secs(1);
        let customers = FaultyProvider::new(customers).cached(CachePeriod::new(second, second).unwrap());
        let vault = open(database, &keys, &[customers.provider()]).await;
        Self { database, keys, customers, vault }
    }

    /// Gives an organization the customer's key for its own, and a data key under it.
    async fn give(&self, organization: OrganizationId) {
        let rewrap = self.vault.rewrap(self.customers.provider()).organization(organization);
        assert_eq!(rewrap.run().await.unwrap().outcome, Outcome::Complete);
        self.vault.keys().create(organization).await.unwrap();
    }

    /// The vault as a process opens it that has both keys.
    async fn open(&self) -> Vault {
        open(self.database, &self.keys, &[self.customers.provider()]).await
    }

    /// The data keys that stand, by organization, and whether the organization's own master key wraps them.
    async fn wrapped_by_own(&self) -> Vec<(Option<OrganizationId>, bool)> {
        let own: Vec<_> = self.vault.status().await.unwrap().master_keys;
        let own: Vec<_> =
            own.into_iter().filter(|key| key.organization_id.is_some()).map(|key| key.id).collect();
        let keys = self.vault.keys().list().await.unwrap();
        let standing = keys.into_iter().filter_map(|key| Some((key.organization_id, key.master_key_id?)));
        standing.map(|(organization, master)| (organization, own.contains(&master))).collect()
    }
}

async fn open(
    database: &TestDatabase,
    keys: &KeyFiles,
    others: &[std::sync::Arc<dyn MasterKeyProvider>],
) -> Vault {
    let builder = Vault::builder().url(database.url()).master_key(&keys.spec("vaults.key")).unwrap();
    let builder = others.iter().fold(builder, |builder, other| builder.master_key_provider(other.clone()));
    builder.create_if_missing().build().await.unwrap()
}

async fn an_organization_may_have_a_master_key_of_its_own(database: TestDatabase) {
    let home = Home::new(&database).await;
    let (organization, integration) = database.add_tenant().await;
    let (other, others) = database.add_tenant().await;
    for (organization, integration) in [(organization, integration), (other, others)] {
        home.vault.organization(organization).put(integration, &token("there")).await.unwrap();
    }
    // A data key of its own from before follows, too.
    home.vault.keys().create(organization).await.unwrap();
    home.give(organization).await;
    let mut wrapped = home.wrapped_by_own().await;
    wrapped.sort();
    assert_eq!(wrapped, [(None, false), (Some(organization), true), (Some(organization), true)]);

    let report = home.vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 2));
    for (organization, integration) in [(organization, integration), (other, others)] {
        assert_eq!(read_token(&home.open().await.organization(organization), integration).await, "there");
    }
    assert!(home.vault.verify().run().await.unwrap().findings.is_empty());
    let next = home.vault.keys().create(organization).await.unwrap();
    let keys = home.vault.keys().list().await.unwrap();
    let next = keys.iter().find(|key| key.id == next).unwrap().master_key_id.unwrap();
    let status = home.vault.status().await.unwrap();
    let next = status.master_keys.iter().find(|key| key.id == next).unwrap();
    assert_eq!(next.organization_id, Some(organization), "what is made later is under it, too");
}

async fn a_key_that_is_taken_away_closes_that_organization_only(database: TestDatabase) {
    let home = Home::new(&database).await;
    let (organization, integration) = database.add_tenant().await;
    let (other, others) = database.add_tenant().await;
    home.give(organization).await;
    for (organization, integration) in [(organization, integration), (other, others)] {
        home.vault.organization(organization).put(integration, &token("there")).await.unwrap();
    }

    // Its row is stale.
    home.vault.keys().create(organization).await.unwrap();

    home.customers.begin_outage();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // In a process that had the key, and in one that begins now.
    for vault in [home.vault.clone(), home.open().await] {
        let refused = read(&vault.organization(organization), integration).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Provider, "{refused}");
        let refused = vault.organization(organization).put(integration, &token("new")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Provider, "{refused}");
        assert_eq!(read_token(&vault.organization(other), others).await, "there");
        vault.organization(other).put(others, &token("there")).await.unwrap();
    }

    // Who asks at every call waits for an answer at the first of them only.
    let vault = home.open().await;
    let before = home.customers.calls().unlock;
    for _ in 0..20 {
        read(&vault.organization(organization), integration).await.unwrap_err();
    }
    assert_eq!(home.customers.calls().unlock, before + 1);

    // A rotation leaves it as it is, names it, and does the others.
    let began = std::time::Instant::now();
    let report = vault.rotation().force().run().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "it waits for nobody: {:?}", began.elapsed());
    assert_eq!(report.outcome, Outcome::WorkRemains);
    assert_eq!((report.re_encrypted, report.remaining, report.quarantined), (1, 1, 0));
    assert_eq!(report.withheld.len(), 1);
    assert_eq!(report.withheld[0].organization_id, organization);
    assert!(report.withheld[0].reason.contains("told to fail"), "{report:?}");
    assert!(!report.unused_keys.is_empty(), "the shared key of before ends: {report:?}");
    let refused = vault.rotation().organization(organization).force().run().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Provider, "{refused}");

    // So does a verification.
    let verification = vault.verify().run().await.unwrap();
    assert_eq!(verification.rows_opened, 1);
    let of_row =
        |finding: &&Finding| matches!(finding, Finding::Row { integration: at, .. } if *at == integration);
    assert_eq!(verification.findings.iter().filter(of_row).count(), 1, "{:?}", verification.findings);

    // Nothing was lost.
    home.customers.end_outage();
    let vault = home.open().await;
    assert_eq!(read_token(&vault.organization(organization), integration).await, "there");
    // What was forced goes on, with what is left of it.
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 1));
}

async fn a_row_in_quarantine_stays_there_while_its_key_is_away(database: TestDatabase) {
    let home = Home::new(&database).await;
    let (organization, integration) = database.add_tenant().await;
    home.give(organization).await;
    home.vault.organization(organization).put(integration, &token("there")).await.unwrap();
    home.vault.keys().create(organization).await.unwrap();
    let tampered = "UPDATE integration_credentials SET credential_type = 'another'";
    database.execute(tampered).await;
    assert_eq!(home.open().await.rotation().run().await.unwrap().quarantined, 1);

    home.customers.begin_outage();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(home.open().await.rotation().run().await.unwrap().quarantined, 1);

    home.customers.end_outage();
    database.execute(&tampered.replace("another", "token")).await;
    let report = home.open().await.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.quarantined), (Outcome::Complete, 0));
}

async fn a_rewrap_of_all_others_leaves_an_organizations_own_alone(database: TestDatabase) {
    let home = Home::new(&database).await;
    let (organization, integration) = database.add_tenant().await;
    home.give(organization).await;
    home.vault.organization(organization).put(integration, &token("there")).await.unwrap();
    home.customers.begin_outage();
    let next = provider::from_spec(&home.keys.generate("next.key")).unwrap();
    let report = home.vault.rewrap(next).run().await.unwrap();
    assert_eq!((report.outcome, report.rewrapped), (Outcome::Complete, 1));
    home.customers.end_outage();
    let mut wrapped = home.wrapped_by_own().await;
    wrapped.sort();
    assert_eq!(wrapped, [(None, false), (Some(organization), true)]);
}

async fn a_master_key_serves_one_scope_only(database: TestDatabase) {
    let home = Home::new(&database).await;
    let (organization, _) = database.add_tenant().await;
    let (other, _) = database.add_tenant().await;
    home.give(organization).await;
    let vaults = provider::from_spec(&home.keys.spec("vaults.key")).unwrap();
    let keys = "SELECT id, organization_id, state FROM vault_master_keys ORDER BY id";
    let before = database.fetch_text(keys).await;
    for (to, scope) in [
        (home.customers.provider(), Some(other)),
        (home.customers.provider(), None),
        (vaults, Some(organization)),
    ] {
        let rewrap = home.vault.rewrap(to);
        let rewrap = match scope {
            Some(organization) => rewrap.organization(organization),
            None => rewrap,
        };
        assert_eq!(rewrap.run().await.unwrap_err().kind(), ErrorKind::Refused, "{scope:?}");
    }
    assert_eq!(database.fetch_text(keys).await, before);
}

async fn a_rewrap_that_was_cut_short_goes_on(database: TestDatabase) {
    let home = Home::new(&database).await;
    let (organization, integration) = database.add_tenant().await;
    let first = home.vault.keys().create(organization).await.unwrap();
    home.vault.organization(organization).put(integration, &token("there")).await.unwrap();
    let material =
        format!("SELECT master_key_id, wrapped_key FROM vault_key_material WHERE data_key_id = '{first}'");
    let before = database.fetch_text(&material).await.remove(0);
    home.give(organization).await;

    // As if it had ended after the switch: that data key is still under the vault's.
    let [master, wrapped] = [0, 1].map(|column| before[column].clone().unwrap());
    database
        .execute(&format!(
            "UPDATE vault_key_material SET master_key_id = '{master}', wrapped_key = '{wrapped}'
              WHERE data_key_id = '{first}'"
        ))
        .await;
    let again = home.vault.rewrap(home.customers.provider()).organization(organization);
    let report = again.run().await.unwrap();
    assert_eq!((report.outcome, report.rewrapped, report.already_current), (Outcome::Complete, 1, 1));
    assert_ne!(database.fetch_text(&material).await.remove(0), before);
    assert_eq!(read_token(&home.open().await.organization(organization), integration).await, "there");
}
