//! Put, get, update, delete, describe.

use credvault::{
    Credential, CredentialType, ErrorKind, ExposeSecret, IntegrationId, MAX_VALUE_BYTES, Organization,
    Revision, Vault,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, read, read_token, token};

on_both_stores!(
    what_was_put_is_what_is_got,
    an_expiry_is_rounded_down_to_microseconds,
    every_put_replaces_and_is_another_revision,
    update_replaces_only_the_revision_that_it_was_given,
    of_concurrent_updates_of_one_revision_one_wins,
    update_after_a_rotation_conflicts_until_the_credential_is_read_again,
    absence_is_no_error_for_a_reader_and_not_found_for_a_writer,
    another_organization_finds_nothing_and_changes_nothing,
    delete_leaves_the_integration,
    describe_tells_what_was_put_without_opening_it,
    put_by_connector_makes_the_integration_with_its_credential_or_neither,
    puts_by_connector_at_once_make_one_integration,
);

async fn begin(database: &TestDatabase) -> (KeyFiles, Vault, Organization, IntegrationId) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    (keys, vault, organization, integration)
}

fn fields_of(credential: &Credential) -> Vec<(String, String)> {
    let text =
        |(name, value): (&str, &credvault::SecretText)| (name.to_owned(), value.expose_secret().to_owned());
    credential.fields().map(text).collect()
}

/// What the vault must keep, made anew each time: a credential has no copy.
fn samples() -> Vec<Credential> {
    let custom: CredentialType = "clé 🔑".parse().unwrap();
    let widest: CredentialType = "ü".repeat(50).parse().unwrap();
    let mut many = Credential::new(CredentialType::oauth2());
    for number in 0..2_000 {
        many = many.with_field(format!("field {number}"), format!("value {number}"));
    }
    vec![
        Credential::new(CredentialType::token()),
        token("ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
        token(&format!("ghs_{}", "aB3_".repeat(129))),
        token(""),
        Credential::new(CredentialType::service_account()).with_field("", "a field without a name"),
        Credential::new(custom)
            .with_field("Größe", "naïve façade, 東京, 🦀, \u{202e}right to left")
            .with_field("nul", "a\0b\r\n\t\u{7f}\u{feff}")
            .with_field("json", "{\"a\": \"\\u003c\"}\n"),
        Credential::new(widest).with_field("private_key", "x".repeat(700 * 1024)),
        Credential::new(CredentialType::token()).with_field("a", "y".repeat(MAX_VALUE_BYTES)),
        many,
        Credential::github_installation("ghs_x", u64::MAX, datetime!(2031-02-03 04:05:06.789012 UTC)),
        Credential::github_user("ghu_x", "ghr_y", datetime!(1969-12-31 23:59:59.999999 UTC)),
        token("first moment").with_expiry(datetime!(0001-01-01 00:00 UTC)),
        token("last moment").with_expiry(datetime!(9999-12-31 23:59:59.999999 UTC)),
    ]
}

async fn what_was_put_is_what_is_got(database: TestDatabase) {
    let (keys, _vault, organization, integration) = begin(&database).await;
    let elsewhere = database.open_vault(&keys.spec("master.key")).await.organization(organization.id());
    for credential in samples() {
        let revision = organization.put(integration, &credential).await.unwrap();
        for reader in [&organization, &elsewhere] {
            let stored = reader.get(integration).await.unwrap().unwrap();
            assert_eq!(stored.revision, revision);
            assert_eq!(fields_of(&stored.credential), fields_of(&credential));
            assert_eq!(stored.credential.credential_type(), credential.credential_type());
            assert_eq!(stored.credential.expires_at(), credential.expires_at());
        }
        let row = database.raw_row(integration).await.unwrap();
        assert!(row.stored.starts_with(revision.as_str()));
        assert_eq!(row.credential_type, credential.credential_type().as_str());
        assert_eq!(revision.as_str().parse::<Revision>().unwrap(), revision);
    }
}

async fn an_expiry_is_rounded_down_to_microseconds(database: TestDatabase) {
    let (_keys, _vault, organization, integration) = begin(&database).await;
    for (put, got) in [
        (datetime!(2030-01-01 12:00:00.123456999 UTC), datetime!(2030-01-01 12:00:00.123456 UTC)),
        (datetime!(1969-12-31 23:59:59.999999999 UTC), datetime!(1969-12-31 23:59:59.999999 UTC)),
        (datetime!(1901-02-03 04:05:06.000000001 UTC), datetime!(1901-02-03 04:05:06 UTC)),
        (datetime!(9999-12-31 23:59:59.999999999 UTC), datetime!(9999-12-31 23:59:59.999999 UTC)),
        (datetime!(2030-01-01 01:30 +2:00), datetime!(2029-12-31 23:30 UTC)),
    ] {
        organization.put(integration, &token("t").with_expiry(put)).await.unwrap();
        let stored = organization.get(integration).await.unwrap().unwrap();
        assert_eq!(stored.credential.expires_at(), Some(got));
        let summary = organization.describe(integration).await.unwrap().unwrap();
        assert_eq!(summary.expires_at, Some(got), "the column is the sealed expiry's index");
    }
    organization.put(integration, &token("t")).await.unwrap();
    assert_eq!(organization.describe(integration).await.unwrap().unwrap().expires_at, None);
}

async fn every_put_replaces_and_is_another_revision(database: TestDatabase) {
    let (_keys, _vault, organization, integration) = begin(&database).await;
    let first = organization.put(integration, &token("one")).await.unwrap();
    let again = organization.put(integration, &token("one")).await.unwrap();
    assert_ne!(first, again, "the same value again is another revision");
    let oauth = Credential::new(CredentialType::oauth2()).with_field("access_token", "two");
    organization.put(integration, &oauth).await.unwrap();
    let stored = organization.get(integration).await.unwrap().unwrap();
    assert_eq!(stored.credential.credential_type(), &CredentialType::oauth2());
    assert_eq!(read_token(&organization, integration).await, "two");
    let rows = database.fetch_one_text("SELECT count(*) FROM integration_credentials").await;
    assert_eq!(rows.as_deref(), Some("1"));
}

async fn update_replaces_only_the_revision_that_it_was_given(database: TestDatabase) {
    let (_keys, _vault, organization, integration) = begin(&database).await;
    let first = organization.put(integration, &token("one")).await.unwrap();
    let second = organization.update(integration, &first, &token("two")).await.unwrap();
    assert_eq!(read(&organization, integration).await.unwrap().unwrap(), ("two".to_owned(), second.clone()));

    let error = organization.update(integration, &first, &token("lost")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.is_retryable() && error.to_string().contains(&integration.to_string()), "{error}");
    assert_eq!(read_token(&organization, integration).await, "two");

    organization.delete(integration).await.unwrap();
    let error = organization.update(integration, &second, &token("lost")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "a deleted credential changed");
    assert!(database.raw_row(integration).await.is_none(), "update makes no row");

    for text in ["", "cv1.", "cv1.%", "no revision"] {
        assert_eq!(text.parse::<Revision>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
    }
}

async fn of_concurrent_updates_of_one_revision_one_wins(database: TestDatabase) {
    let (_keys, _vault, organization, integration) = begin(&database).await;
    let revision = organization.put(integration, &token("first")).await.unwrap();
    let updates: Vec<_> = (0..16)
        .map(|number| {
            let (organization, revision) = (organization.clone(), revision.clone());
            tokio::spawn(async move {
                let value = format!("update {number}");
                organization.update(integration, &revision, &token(&value)).await.map(|_| value)
            })
        })
        .collect();
    let mut won = Vec::new();
    for update in updates {
        match update.await.unwrap() {
            Ok(value) => won.push(value),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    assert_eq!(won, [read_token(&organization, integration).await]);
}

async fn update_after_a_rotation_conflicts_until_the_credential_is_read_again(database: TestDatabase) {
    let (_keys, vault, organization, integration) = begin(&database).await;
    let before = organization.put(integration, &token("one")).await.unwrap();
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!(report.re_encrypted, 1);
    let error = organization.update(integration, &before, &token("two")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let (value, revision) = read(&organization, integration).await.unwrap().unwrap();
    assert_eq!(value, "one");
    organization.update(integration, &revision, &token("two")).await.unwrap();
    assert_eq!(read_token(&organization, integration).await, "two");
    let key = organization.describe(integration).await.unwrap().unwrap().key_id;
    assert_eq!(key, report.new_keys.first().copied());
}

async fn absence_is_no_error_for_a_reader_and_not_found_for_a_writer(database: TestDatabase) {
    let (_keys, _vault, organization, integration) = begin(&database).await;
    let missing = IntegrationId::from(Uuid::new_v4());
    for nothing_there in [integration, missing] {
        assert!(organization.get(nothing_there).await.unwrap().is_none());
        assert!(organization.describe(nothing_there).await.unwrap().is_none());
        assert!(!organization.delete(nothing_there).await.unwrap());
    }
    assert!(organization.list().await.unwrap().is_empty());
    let error = organization.put(missing, &token("t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!error.is_retryable() && error.to_string().contains(&missing.to_string()), "{error}");
    let revision = organization.put(integration, &token("t")).await.unwrap();
    let error = organization.update(missing, &revision, &token("t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

async fn another_organization_finds_nothing_and_changes_nothing(database: TestDatabase) {
    let (_keys, vault, organization, integration) = begin(&database).await;
    let revision = organization.put(integration, &token("theirs")).await.unwrap();
    let before = database.dump().await;
    let (other, _) = database.add_tenant().await;
    let added = database.dump().await;
    for stranger in [vault.organization(other), vault.organization(Uuid::new_v4())] {
        assert!(stranger.get(integration).await.unwrap().is_none());
        assert!(stranger.describe(integration).await.unwrap().is_none());
        assert!(!stranger.delete(integration).await.unwrap());
        assert!(stranger.list().await.unwrap().is_empty());
        let put = stranger.put(integration, &token("mine")).await.unwrap_err();
        let update = stranger.update(integration, &revision, &token("mine")).await.unwrap_err();
        assert_eq!((put.kind(), update.kind()), (ErrorKind::NotFound, ErrorKind::NotFound));
    }
    assert_eq!(database.dump().await, added);
    assert_ne!(before, added, "a dump shows what was added");
    assert_eq!(read_token(&organization, integration).await, "theirs");
}

async fn delete_leaves_the_integration(database: TestDatabase) {
    let (_keys, _vault, organization, integration) = begin(&database).await;
    organization.put(integration, &token("t")).await.unwrap();
    assert!(organization.delete(integration).await.unwrap());
    assert!(!organization.delete(integration).await.unwrap());
    assert!(organization.get(integration).await.unwrap().is_none());
    assert_eq!(organization.integration("github").await.unwrap(), Some(integration));
    organization.put(integration, &token("again")).await.unwrap();
    assert_eq!(read_token(&organization, integration).await, "again");
}

async fn describe_tells_what_was_put_without_opening_it(database: TestDatabase) {
    let (_keys, vault, organization, integration) = begin(&database).await;
    let expiry = datetime!(2033-03-03 03:03 UTC);
    organization.put(integration, &token("t").with_expiry(expiry)).await.unwrap();
    // Nothing that can't be opened stands in its way.
    database.set(integration, "credential_data_encrypted = 'cv1.garbage'").await;
    let summary = organization.describe(integration).await.unwrap().unwrap();
    assert_eq!((summary.integration_id, summary.organization_id), (integration, organization.id()));
    assert_eq!(summary.connector_type, "github");
    assert_eq!(summary.credential_type, CredentialType::token());
    assert_eq!(summary.expires_at, Some(expiry));
    let active = vault.keys().list().await.unwrap().into_iter().find(|key| key.activated_at.is_some());
    assert_eq!(summary.key_id, active.map(|key| key.id));
    let now = OffsetDateTime::now_utc();
    for moment in [summary.created_at, summary.updated_at] {
        assert!((now - moment).abs() < Duration::minutes(5), "{moment} is not now");
    }

    organization.put(integration, &token("u")).await.unwrap();
    let later = organization.describe(integration).await.unwrap().unwrap();
    assert_eq!(later.created_at, summary.created_at);
    assert!(later.updated_at >= summary.updated_at);
    vault.rotation().force().run().await.unwrap();
    let rotated = organization.describe(integration).await.unwrap().unwrap();
    assert_eq!(rotated.updated_at, later.updated_at, "re-encryption is no write of the credential");
    assert_ne!(rotated.key_id, later.key_id);
}

async fn put_by_connector_makes_the_integration_with_its_credential_or_neither(database: TestDatabase) {
    let (_keys, vault, organization, github) = begin(&database).await;
    let (slack, revision) = organization.put_by_connector("slack", &token("xoxb-1")).await.unwrap();
    assert_ne!(slack, github);
    assert_eq!(organization.integration("slack").await.unwrap(), Some(slack));
    assert_eq!(organization.get(slack).await.unwrap().unwrap().revision, revision);
    let (again, _) = organization.put_by_connector("slack", &token("xoxb-2")).await.unwrap();
    assert_eq!((again, read_token(&organization, slack).await), (slack, "xoxb-2".to_owned()));
    let (known, _) = organization.put_by_connector("github", &token("ghp_1")).await.unwrap();
    assert_eq!(known, github);

    let stranger = vault.organization(Uuid::new_v4());
    let too_large = token(&"x".repeat(MAX_VALUE_BYTES + 1));
    let error = stranger.put_by_connector("gcp", &too_large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for name in ["", "a\nb", &"x".repeat(51)] {
        let error = stranger.put_by_connector(name, &token("t")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    // No key is active: the credential can't be written, and its integration must not be there either.
    let warm = vault.organization(Uuid::new_v4());
    database.execute("UPDATE vault_data_keys SET state = 'deactivated' WHERE state = 'active'").await;
    warm.put_by_connector("gcp", &token("t")).await.unwrap_err();
    for organization in [&stranger, &warm] {
        assert_eq!(organization.integration("gcp").await.unwrap(), None);
    }
}

async fn puts_by_connector_at_once_make_one_integration(database: TestDatabase) {
    let (_keys, vault, _, _) = begin(&database).await;
    let organization = vault.organization(Uuid::new_v4());
    let puts: Vec<_> = (0..16)
        .map(|number| {
            let organization = organization.clone();
            tokio::spawn(async move {
                organization.put_by_connector("github", &token(&number.to_string())).await.unwrap().0
            })
        })
        .collect();
    let mut integrations = std::collections::BTreeSet::new();
    for put in puts {
        integrations.insert(put.await.unwrap());
    }
    assert_eq!(integrations.len(), 1);
    assert_eq!(organization.list().await.unwrap().len(), 1);
}
