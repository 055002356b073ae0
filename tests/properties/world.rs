//! A vault, and the map that it must agree with.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use credvault::{
    Blocker, Credential, CredentialType, DataKeySummary, ErrorKind, ExposeSecret, Grace, IntegrationId,
    KeyState, OrganizationId, Outcome, Phase, Revision, Rotation, RotationReport, StopReason, Vault,
    provider,
};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::common::TestDatabase;
use crate::common::legacy::{self, legacy_salt, salt};
use crate::common::service::{Service, assert_sound};
use crate::operation::{INTEGRATIONS, ORGANIZATIONS, Operation, Scope, Value};

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

pub struct World {
    service: Service,
    vaults: [Vault; 2],
    organizations: Vec<OrganizationId>,
    model: Vec<Modelled>,
    master_key: &'static str,
    phase: Phase,
    /// Whether something was cut off, or stopped, since a rotation came to its end.
    unfinished: bool,
}

fn credential(value: &Value) -> Credential {
    let credential = Credential::new(CredentialType::token()).with_expiry(value.expires_at);
    value
        .fields
        .iter()
        .fold(credential, |credential, (name, value)| credential.with_field(name.as_str(), value.as_str()))
}

impl World {
    pub async fn begin(database: TestDatabase) -> Self {
        let (service, vault) = Service::begin(database).await;
        let organizations: Vec<_> =
            (0..ORGANIZATIONS).map(|_| OrganizationId::from(Uuid::new_v4())).collect();
        let mut model = Vec::new();
        for (organization, connector) in INTEGRATIONS {
            let id = service.database.add_integration(organizations[organization], connector).await;
            model.push(Modelled { id, organization, value: None, revision: None, stale: Vec::new() });
        }
        let vaults = [vault, service.open().await];
        let (master_key, phase, unfinished) = ("first", Phase::None, false);
        Self { service, vaults, organizations, model, master_key, phase, unfinished }
    }

    fn organization(&self, by: usize, organization: usize) -> credvault::Organization {
        self.vaults[by].organization(self.organizations[organization])
    }

    async fn read(&self, by: usize, organization: usize, integration: usize) -> Option<(Value, Revision)> {
        let stored = self.organization(by, organization).get(self.model[integration].id).await.unwrap()?;
        let fields = stored.credential.fields();
        let fields =
            fields.map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect();
        Some((Value { fields, expires_at: stored.credential.expires_at() }, stored.revision))
    }

    /// What the organization should read.
    fn expected(&self, organization: usize, integration: usize) -> Option<&Value> {
        let modelled = &self.model[integration];
        modelled.value.as_ref().filter(|_| modelled.organization == organization)
    }

    pub async fn apply(&mut self, operation: Operation) {
        use Operation::*;
        match operation {
            Put { by, organization, integration, value } => {
                let done = self
                    .organization(by, organization)
                    .put(self.model[integration].id, &credential(&value))
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
                    .update(self.model[integration].id, &revision, &credential(&value))
                    .await;
                self.written(organization, integration, value, done, None);
            }
            UpdateStale { by, organization, integration, value } => {
                let Some(revision) = self.model[integration].stale.last().cloned() else { return };
                let done = self
                    .organization(by, organization)
                    .update(self.model[integration].id, &revision, &credential(&value))
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
                let expected = self.expected(organization, integration).map(|value| value.expires_at);
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
                let expires = |value: &Value| value.expires_at.is_some_and(|at| at < moment);
                assert_eq!(listed, self.those(|at| self.model[at].value.as_ref().is_some_and(expires)));
            }
            RotateAll { by } => self.rotate_all(by).await,
            RotateDue { by } => {
                let report = self.rotation(by, Scope::Due).await.run().await.unwrap();
                assert!(self.unfinished || report.new_keys.is_empty(), "{report:?}");
                self.assert_complete(&report).await;
            }
            RotateSome { by, scope, rows } => {
                let report = self.rotation(by, scope).await.max_rows(rows).run().await.unwrap();
                assert!(report.re_encrypted <= rows, "{report:?}");
                match report.stopped {
                    None => self.assert_complete(&report).await,
                    stopped => {
                        assert_eq!(
                            (stopped, report.outcome),
                            (Some(StopReason::MaxRows), Outcome::WorkRemains)
                        );
                        self.may_be_reencrypted();
                        self.unfinished = true;
                    }
                }
            }
            CrashRotation { by, scope, polls } => {
                let rotation = self.rotation(by, scope).await;
                self.crash(rotation.run(), polls).await;
            }
            Rewrap { by } => {
                self.service.expire_lease().await;
                self.master_key = if self.master_key == "first" { "second" } else { "first" };
                let to = provider::from_spec(&self.service.key(self.master_key)).unwrap();
                let report = self.vaults[by].rewrap(to).run().await.unwrap();
                assert_eq!((report.outcome, report.already_current), (Outcome::Complete, 0));
            }
            GiveOwnKey { by, organization } => {
                self.vaults[by].keys().create(self.organizations[organization]).await.unwrap();
            }
            CrashGivingOwnKey { by, organization, polls } => {
                let keys = self.vaults[by].keys();
                self.crash(keys.create(self.organizations[organization]), polls).await;
            }
            Compromise { by, key } => {
                let Some(key) = self.key(by, key).await else { return };
                let done = self.vaults[by].keys().compromise(key.id).await;
                if key.state == KeyState::Destroyed {
                    assert_eq!(done.unwrap_err().kind(), ErrorKind::Refused);
                    return;
                }
                let done = done.unwrap();
                assert_eq!(done.already_marked, key.compromised_at.is_some());
                assert_eq!(done.new_key.is_some(), key.state == KeyState::Active);
            }
            CrashCompromise { by, key, polls } => {
                let Some(key) = self.key(by, key).await else { return };
                if key.state != KeyState::Destroyed {
                    let keys = self.vaults[by].keys();
                    self.crash(keys.compromise(key.id), polls).await;
                }
            }
            Destroy { by, key } => {
                let Some(key) = self.key(by, key).await else { return };
                let done = self.vaults[by].keys().destroy(key.id, Grace::Waived).await;
                let expected = match key.blocked {
                    None | Some(Blocker::Grace(_)) => Ok(()),
                    Some(_) => Err(ErrorKind::Refused),
                };
                assert_eq!(done.map_err(|error| error.kind()), expected);
            }
            Adopt { by } => {
                let adoption = self.vaults[by].adoption(salt(&legacy_salt())).run().await;
                if self.phase == Phase::None {
                    adoption.unwrap();
                    self.phase = Phase::Observe;
                }
            }
            WriteLegacy { integration, row } => self.write_legacy(integration, row).await,
            ReEncryptLegacy { by } => {
                let moved = self.vaults[by].re_encrypt_legacy_rows().await;
                self.moved_on(moved, Phase::Observe, Phase::ReEncrypt);
            }
            CutOverLegacy { by } => {
                let moved = self.vaults[by].cut_over_legacy_rows().await;
                self.moved_on(moved, Phase::ReEncrypt, Phase::CutOver);
            }
            Reopen => self.vaults[0] = self.service.open().await,
        }
    }

    /// A rotation in small pages; the lease of one that was cut off is over.
    async fn rotation(&self, by: usize, scope: Scope) -> Rotation {
        self.service.expire_lease().await;
        let rotation = self.vaults[by].rotation().batch_size(2).unwrap();
        match scope {
            Scope::All => rotation.force(),
            Scope::Due => rotation,
        }
    }

    async fn rotate_all(&mut self, by: usize) {
        let left_alone = self.legacy_rows_left_alone().await;
        let report = self.rotation(by, Scope::All).await.run().await.unwrap();
        let held = self.model.iter().filter(|modelled| modelled.value.is_some()).count() as u64;
        if self.unfinished {
            // One that it goes on with has done its part.
            assert!(report.re_encrypted + left_alone <= held, "{report:?}");
        } else {
            assert_eq!(report.re_encrypted + left_alone, held);
            assert!(!report.new_keys.is_empty());
        }
        self.assert_complete(&report).await;
    }

    async fn assert_complete(&mut self, report: &RotationReport) {
        assert_eq!((&report.outcome, report.remaining), (&Outcome::Complete, 0));
        self.may_be_reencrypted();
        self.unfinished = false;
        assert_eq!(self.service.rows_under_other_keys().await, self.legacy_rows_left_alone().await);
    }

    /// Polls a call so often, drops it, and waits until what it began in the background has ended.
    async fn crash<T>(&mut self, call: impl Future<Output = credvault::Result<T>>, polls: u64) {
        let metrics = Handle::current().metrics();
        let before = metrics.num_alive_tasks();
        let mut polled = 0;
        {
            let mut call = pin!(call);
            poll_fn(|context| {
                if polled == polls {
                    return Poll::Ready(());
                }
                polled += 1;
                call.as_mut().poll(context).map(|ended| drop(ended.unwrap()))
            })
            .await;
        }
        let settled = async {
            while metrics.num_alive_tasks() > before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), settled).await.expect("it goes on and on");
        self.may_be_reencrypted();
        self.unfinished = true;
    }

    /// The key that stands at a place of the list.
    async fn key(&self, by: usize, at: usize) -> Option<DataKeySummary> {
        self.vaults[by].keys().list().await.unwrap().into_iter().nth(at)
    }

    async fn write_legacy(&mut self, integration: usize, row: usize) {
        if self.phase == Phase::None {
            return; // it would not open
        }
        let row = &legacy::legacy_values()[row];
        let written = legacy::write(&self.service.database, self.model[integration].id, row).await;
        assert_eq!(written.is_err(), self.phase == Phase::CutOver, "{written:?}");
        if written.is_err() {
            return;
        }
        let expires_at = row.expires_at.as_deref().map(|text| {
            let format = time::macros::format_description!(
                "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]"
            );
            time::PrimitiveDateTime::parse(text, format).unwrap().assume_utc()
        });
        let fields = serde_json::from_value(row.fields.clone()).unwrap();
        self.superseded(integration);
        self.model[integration].value = Some(Value { fields, expires_at });
    }

    /// Holds a step of the adoption to what it should have given.
    fn moved_on(&mut self, moved: credvault::Result<bool>, from: Phase, to: Phase) {
        let expected = if self.phase == from {
            self.phase = to;
            Ok(true)
        } else if self.phase == to {
            Ok(false)
        } else {
            Err(ErrorKind::Refused)
        };
        assert_eq!(moved.map_err(|error| error.kind()), expected);
    }

    /// The legacy rows that a rotation leaves as they are in this phase.
    async fn legacy_rows_left_alone(&self) -> u64 {
        match self.phase {
            Phase::None | Phase::Observe => {
                let legacy = "SELECT count(*) FROM integration_credentials WHERE encryption_key_id = 'v1'";
                self.service.count(legacy).await
            }
            _ => 0,
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

    /// The process that is opened anew reads what the model holds, as every organization; the other stays stale. And the
    /// keys are in order.
    pub async fn assert_agrees(&self) {
        self.service.assert_keys_hold(&self.vaults[0]).await;
        for integration in 0..self.model.len() {
            for organization in 0..ORGANIZATIONS {
                let read = self.read(0, organization, integration).await;
                assert_eq!(read.as_ref().map(|(value, _)| value), self.expected(organization, integration));
            }
        }
    }

    /// A rotation finishes whatever was begun.
    pub async fn end(mut self) {
        assert_sound(&self.vaults[1]).await;
        if self.phase == Phase::Observe {
            self.apply(Operation::ReEncryptLegacy { by: 0 }).await;
        }
        self.apply(Operation::RotateAll { by: 1 }).await;
        self.service.assert_all_current(&self.vaults[0]).await;
        self.assert_agrees().await;
        let alone = self.service.builder(&[self.master_key]).build().await.unwrap();
        assert_sound(&alone).await;
    }
}
