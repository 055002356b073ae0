//! What is refused as invalid input, before anything is sealed or written.

use credvault::{
    Credential, CredentialType, ErrorKind, MAX_FIELDS, MAX_NAME_BYTES, MAX_TYPE_CHARS, MAX_VALUE_BYTES, Vault,
};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, token};

on_both_stores!(
    a_credential_beyond_a_limit_is_refused_and_nothing_written,
    a_connector_beyond_a_limit_is_refused_and_nothing_written,
    a_moment_beyond_the_years_is_refused,
    a_builder_without_database_or_key_is_refused,
);

fn beyond_the_limits() -> Vec<(&'static str, Credential)> {
    let empty = || Credential::new(CredentialType::token());
    let mut many = empty();
    for number in 0..=MAX_FIELDS {
        many = many.with_field(format!("{number}"), "");
    }
    vec![
        ("fields", many),
        ("a name", empty().with_field("n".repeat(MAX_NAME_BYTES + 1), "")),
        ("a value", empty().with_field("v", "x".repeat(MAX_VALUE_BYTES + 1))),
        ("the room", empty().with_field("vv", "x".repeat(MAX_VALUE_BYTES))),
        (
            "the room of two",
            empty().with_field("a", "x".repeat(400_000)).with_field("b", "x".repeat(400_000)),
        ),
        ("the first year", token("t").with_expiry(datetime!(0000-12-31 23:59:59.999999999 UTC))),
        ("the first year, by its offset", token("t").with_expiry(datetime!(0001-01-01 00:30 +1:00))),
        ("the last year, by its offset", token("t").with_expiry(datetime!(9999-12-31 23:30 -1:00))),
        ("years before", token("t").with_expiry(datetime!(-4000-01-01 0:00 UTC))),
    ]
}

async fn a_credential_beyond_a_limit_is_refused_and_nothing_written(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    for (what, credential) in beyond_the_limits() {
        let error = organization.put(integration, &credential).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
        assert!(!error.is_retryable(), "{what}");
        assert!(database.raw_row(integration).await.is_none(), "{what}");
    }
    let revision = organization.put(integration, &token("stands")).await.unwrap();
    let before = database.dump().await;
    for (what, credential) in beyond_the_limits() {
        let error = organization.update(integration, &revision, &credential).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
        let mut connection = database.connect().await;
        connection.begin().await;
        let error = organization.put_in(connection.lend(), integration, &credential).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
        // The caller's transaction goes on.
        connection.execute("SELECT 1; COMMIT").await;
    }
    assert_eq!(database.dump().await, before);

    for text in ["", "line\nbreak", &"t".repeat(MAX_TYPE_CHARS + 1)] {
        assert_eq!(text.parse::<CredentialType>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text:?}");
    }
}

async fn a_connector_beyond_a_limit_is_refused_and_nothing_written(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let organization = vault.organization(database.add_organization().await);
    for connector in ["", "git\nhub", "\u{7f}", "a\0", &"é".repeat(51)] {
        let error = organization.ensure_integration(connector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{connector:?}: {error}");
    }
    let rows = database.fetch_one_text("SELECT count(*) FROM integrations").await;
    assert_eq!(rows.as_deref(), Some("0"));
    organization.ensure_integration(&"é".repeat(50)).await.unwrap();
}

async fn a_moment_beyond_the_years_is_refused(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    for moment in [datetime!(0000-12-31 23:59:59 UTC), datetime!(9999-12-31 23:59 -0:10)] {
        let error = vault.expiring(moment, 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{moment}");
    }
    assert!(vault.expiring(OffsetDateTime::now_utc(), 10).await.unwrap().is_empty());
}

async fn a_builder_without_database_or_key_is_refused(database: TestDatabase) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    let builders = [
        Vault::builder().url(database.url()),
        Vault::builder().master_key(&spec).unwrap(),
        Vault::builder().master_key(&spec).unwrap().url("mysql://user:hunter2@host/name"),
        Vault::builder().master_key(&spec).unwrap().url("postgres://user:hunter2@host:port/name"),
        Vault::builder().master_key(&spec).unwrap().url("sqlite:vault.db?mode=hunter2"),
    ];
    for builder in builders {
        let error = builder.create_if_missing().build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let error = Vault::builder().master_key("hunter2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
