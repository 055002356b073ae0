//! Any sequence of calls, rotations and rewraps leaves a vault that agrees with a map.
//!
//! `PROPTEST_CASES=500 cargo test --features test-util --test properties` tries more of them.

mod common;

use common::service::{Service, assert_sound};
use common::{TestDatabase, on_both_stores};
use credvault::{
    Credential, CredentialType, ErrorKind, ExposeSecret, IntegrationId, OrganizationId, Outcome, Revision,
    Vault, provider,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use uuid::Uuid;

/// Cases on each store, unless `PROPTEST_CASES` says otherwise: some seconds' worth.
const CASES: u32 = 24;
const MAX_OPERATIONS: usize = 40;
const ORGANIZATIONS: usize = 3;
/// Each integration's first organization and its connector: some can move to every organization, some meet another.
const INTEGRATIONS: [(usize, &str); 5] =
    [(0, "github"), (1, "github"), (0, "slack"), (2, "gcp"), (1, "pagerduty")];

/// What is done; `by` says which of two processes does it: one is opened anew now and then, the other never.
#[derive(Clone, Debug)]
enum Operation {
    Put { by: usize, organization: usize, integration: usize, value: Value },
    Get { by: usize, organization: usize, integration: usize },
    UpdateFresh { by: usize, organization: usize, integration: usize, value: Value },
    UpdateStale { by: usize, organization: usize, integration: usize, value: Value },
    Delete { by: usize, organization: usize, integration: usize },
    Transfer { by: usize, integration: usize, from: usize, to: usize },
    Describe { by: usize, organization: usize, integration: usize },
    List { by: usize, organization: usize },
    Expiring { by: usize, before: i64 },
    RotateAll { by: usize },
    RotateDue { by: usize },
    Rewrap { by: usize },
    GiveOwnKey { by: usize, organization: usize },
    Reopen,
}

/// A credential, in short.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    text: String,
    /// Seconds since 1970.
    expires_at: Option<i64>,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let by = 0..2_usize;
    let organization = 0..ORGANIZATIONS;
    let integration = 0..INTEGRATIONS.len();
    let place = (by.clone(), organization.clone(), integration.clone());
    // Mostly the organization that has the integration at first, so that most calls do something.
    let likely = prop_oneof![
        3 => (by.clone(), integration.clone())
            .prop_map(|(by, integration)| (by, INTEGRATIONS[integration].0, integration)),
        1 => place,
    ];
    let value = ("[ -~é\u{0}\u{2028}]{0,40}", proptest::option::of(0..4_000_000_000_i64))
        .prop_map(|(text, expires_at)| Value { text, expires_at });
    let write = (likely.clone(), value);
    prop_oneof![
        8 => write.clone().prop_map(|((by, organization, integration), value)| {
            Put { by, organization, integration, value }
        }),
        4 => likely.clone().prop_map(|(by, organization, integration)| Get { by, organization, integration }),
        4 => write.clone().prop_map(|((by, organization, integration), value)| {
            UpdateFresh { by, organization, integration, value }
        }),
        3 => write.prop_map(|((by, organization, integration), value)| {
            UpdateStale { by, organization, integration, value }
        }),
        2 => likely.clone().prop_map(|(by, organization, integration)| Delete { by, organization, integration }),
        4 => (by.clone(), integration, organization.clone(), organization.clone())
            .prop_map(|(by, integration, from, to)| Transfer { by, integration, from, to }),
        1 => likely.prop_map(|(by, organization, integration)| Describe { by, organization, integration }),
        1 => (by.clone(), organization.clone()).prop_map(|(by, organization)| List { by, organization }),
        1 => (by.clone(), 0..4_000_000_000_i64).prop_map(|(by, before)| Expiring { by, before }),
        3 => by.clone().prop_map(|by| RotateAll { by }),
        2 => by.clone().prop_map(|by| RotateDue { by }),
        3 => by.clone().prop_map(|by| Rewrap { by }),
        2 => (by, organization).prop_map(|(by, organization)| GiveOwnKey { by, organization }),
        1 => Just(Reopen),
    ]
}

/// What the vault should hold of an integration.
struct Modelled {
    id: IntegrationId,
    organization: usize,
    value: Option<Value>,
    /// The revision of the last write, if nothing may have re-encrypted it since.
    revision: Option<Revision>,
    /// Revisions of before.
    stale: Vec<Revision>,
}

struct World {
    service: Service,
    vaults: [Vault; 2],
    organizations: Vec<OrganizationId>,
    model: Vec<Modelled>,
    master_key: &'static str,
}

impl Value {
    fn moment(&self) -> Option<OffsetDateTime> {
        self.expires_at.map(|at| OffsetDateTime::from_unix_timestamp(at).unwrap())
    }

    fn credential(&self) -> Credential {
        Credential::new(CredentialType::token())
            .with_field("access_token", self.text.as_str())
            .with_expiry(self.moment())
    }
}

impl World {
    async fn begin(database: TestDatabase) -> Self {
        let (service, vault) = Service::begin(database).await;
        let organizations: Vec<_> =
            (0..ORGANIZATIONS).map(|_| OrganizationId::from(Uuid::new_v4())).collect();
        let mut model = Vec::new();
        for (organization, connector) in INTEGRATIONS {
            let id = service.database.add_integration(organizations[organization], connector).await;
            model.push(Modelled { id, organization, value: None, revision: None, stale: Vec::new() });
        }
        let vaults = [vault, service.open().await];
        Self { service, vaults, organizations, model, master_key: "first" }
    }

    fn organization(&self, by: usize, organization: usize) -> credvault::Organization {
        self.vaults[by].organization(self.organizations[organization])
    }

    async fn read(&self, by: usize, organization: usize, integration: usize) -> Option<(Value, Revision)> {
        let stored = self.organization(by, organization).get(self.model[integration].id).await.unwrap()?;
        let text = stored.credential.field("access_token").unwrap().expose_secret().to_owned();
        let expires_at = stored.credential.expires_at().map(OffsetDateTime::unix_timestamp);
        Some((Value { text, expires_at }, stored.revision))
    }

    /// What the organization should read.
    fn expected(&self, organization: usize, integration: usize) -> Option<&Value> {
        let modelled = &self.model[integration];
        modelled.value.as_ref().filter(|_| modelled.organization == organization)
    }

    async fn apply(&mut self, operation: Operation) {
        use Operation::*;
        match operation {
            Put { by, organization, integration, value } => {
                let done = self
                    .organization(by, organization)
                    .put(self.model[integration].id, &value.credential())
                    .await;
                self.written(organization, integration, value, done, None);
            }
            Get { by, organization, integration } => {
                let read = self.read(by, organization, integration).await;
                assert_eq!(read.as_ref().map(|(value, _)| value), self.expected(organization, integration));
                if let (Some((_, read)), Some(written)) = (read, &self.model[integration].revision) {
                    assert_eq!(&read, written);
                }
            }
            UpdateFresh { by, organization, integration, value } => {
                let Some((_, revision)) = self.read(by, organization, integration).await else { return };
                let done = self
                    .organization(by, organization)
                    .update(self.model[integration].id, &revision, &value.credential())
                    .await;
                self.written(organization, integration, value, done, None);
            }
            UpdateStale { by, organization, integration, value } => {
                let Some(revision) = self.model[integration].stale.last().cloned() else { return };
                let done = self
                    .organization(by, organization)
                    .update(self.model[integration].id, &revision, &value.credential())
                    .await;
                self.written(organization, integration, value, done, Some(ErrorKind::Conflict));
            }
            Delete { by, organization, integration } => {
                let there = self.expected(organization, integration).is_some();
                let deleted =
                    self.organization(by, organization).delete(self.model[integration].id).await.unwrap();
                assert_eq!(deleted, there);
                if there {
                    self.model[integration].value = None;
                    self.superseded(integration);
                }
            }
            Transfer { by, integration, from, to } => self.transfer(by, integration, from, to).await,
            Describe { by, organization, integration } => {
                let summary =
                    self.organization(by, organization).describe(self.model[integration].id).await.unwrap();
                let expected = self.expected(organization, integration).map(Value::moment);
                assert_eq!(summary.map(|summary| summary.expires_at), expected);
            }
            List { by, organization } => {
                let listed = self.organization(by, organization).list().await.unwrap();
                let mut listed: Vec<_> = listed.iter().map(|summary| summary.integration_id).collect();
                listed.sort();
                assert_eq!(listed, self.those(|at| self.expected(organization, at).is_some()));
            }
            Expiring { by, before } => {
                let moment = OffsetDateTime::from_unix_timestamp(before).unwrap();
                let listed = self.vaults[by].expiring(moment, 100).await.unwrap();
                assert!(listed.is_sorted_by_key(|summary| summary.expires_at));
                let mut listed: Vec<_> = listed.iter().map(|summary| summary.integration_id).collect();
                listed.sort();
                let expires = |value: &Value| value.expires_at.is_some_and(|at| at < before);
                assert_eq!(listed, self.those(|at| self.model[at].value.as_ref().is_some_and(expires)));
            }
            RotateAll { by } => {
                let report = self.vaults[by].rotation().force().batch_size(2).unwrap().run().await.unwrap();
                assert_eq!((report.outcome, report.remaining), (Outcome::Complete, 0));
                let held = self.model.iter().filter(|modelled| modelled.value.is_some()).count();
                assert_eq!(report.re_encrypted, held as u64);
                self.may_be_reencrypted();
                assert_eq!(self.service.rows_under_other_keys().await, 0);
            }
            RotateDue { by } => {
                let report = self.vaults[by].rotation().run().await.unwrap();
                assert_eq!((report.outcome, report.new_keys.len()), (Outcome::Complete, 0));
                self.may_be_reencrypted();
                assert_eq!(self.service.rows_under_other_keys().await, 0);
            }
            Rewrap { by } => {
                self.master_key = if self.master_key == "first" { "second" } else { "first" };
                let to = provider::from_spec(&self.service.key(self.master_key)).unwrap();
                let report = self.vaults[by].rewrap(to).run().await.unwrap();
                assert_eq!((report.outcome, report.already_current), (Outcome::Complete, 0));
            }
            GiveOwnKey { by, organization } => {
                self.vaults[by].keys().create(self.organizations[organization]).await.unwrap();
            }
            Reopen => self.vaults[0] = self.service.open().await,
        }
    }

    async fn transfer(&mut self, by: usize, integration: usize, from: usize, to: usize) {
        let modelled = &self.model[integration];
        let (holder, connector) = (modelled.organization, INTEGRATIONS[integration].1);
        let taken = (0..INTEGRATIONS.len())
            .any(|other| INTEGRATIONS[other].1 == connector && self.model[other].organization == to);
        let (from_id, to_id) = (self.organizations[from], self.organizations[to]);
        let done = self.vaults[by].transfer(modelled.id, from_id, to_id).await;
        let expected = if ![from, to].contains(&holder) || modelled.value.is_none() {
            Err(ErrorKind::NotFound)
        } else if holder == to {
            Ok(())
        } else if taken {
            Err(ErrorKind::Refused)
        } else {
            self.model[integration].organization = to;
            self.superseded(integration);
            Ok(())
        };
        assert_eq!(done.map_err(|error| error.kind()), expected);
    }

    /// Holds a write to what it should have given, and takes it over.
    fn written(
        &mut self,
        organization: usize,
        integration: usize,
        value: Value,
        done: credvault::Result<Revision>,
        refusal: Option<ErrorKind>,
    ) {
        let foreign = self.model[integration].organization != organization;
        let expected = if foreign { Some(ErrorKind::NotFound) } else { refusal };
        assert_eq!(done.as_ref().err().map(credvault::Error::kind), expected);
        if let Ok(revision) = done {
            self.superseded(integration);
            self.model[integration].value = Some(value);
            self.model[integration].revision = Some(revision);
        }
    }

    fn superseded(&mut self, integration: usize) {
        let modelled = &mut self.model[integration];
        modelled.stale.extend(modelled.revision.take());
    }

    fn may_be_reencrypted(&mut self) {
        for modelled in &mut self.model {
            modelled.revision = None;
        }
    }

    fn those(&self, are: impl Fn(usize) -> bool) -> Vec<IntegrationId> {
        let mut ids: Vec<_> =
            (0..self.model.len()).filter(|at| are(*at)).map(|at| self.model[at].id).collect();
        ids.sort();
        ids
    }

    /// The process that is opened anew reads what the model holds, as every organization; the other stays stale.
    async fn assert_agrees(&self) {
        for integration in 0..self.model.len() {
            for organization in 0..ORGANIZATIONS {
                let read = self.read(0, organization, integration).await;
                assert_eq!(read.as_ref().map(|(value, _)| value), self.expected(organization, integration));
            }
        }
    }
}

async fn run(database: TestDatabase, operations: Vec<Operation>) {
    let mut world = World::begin(database).await;
    for operation in operations {
        world.apply(operation).await;
        world.assert_agrees().await;
    }
    assert_sound(&world.vaults[1]).await;
    world.apply(Operation::RotateAll { by: 1 }).await;
    world.service.assert_all_current(&world.vaults[0]).await;
    world.assert_agrees().await;
    let alone = world.service.builder(&[world.master_key]).build().await.unwrap();
    assert_sound(&alone).await;
}

async fn any_sequence_of_calls_agrees_with_a_map(database: TestDatabase) {
    let dialect = database.dialect();
    let mut config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 300, ..Default::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let operations = proptest::collection::vec(operation(), 1..MAX_OPERATIONS);
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&operations, |operations| {
            Handle::current().block_on(async {
                run(TestDatabase::create(dialect).await, operations).await;
            });
            Ok(())
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

on_both_stores!(any_sequence_of_calls_agrees_with_a_map);
