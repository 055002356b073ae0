//! Texts that break programs, in every place that takes a text: they come back as they were, or are refused unrepeated.

use std::collections::BTreeMap;

use credvault::{Credential, CredentialType, ErrorKind, ExposeSecret};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::common::hostile::TEXTS;
use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, token};

on_both_stores!(
    any_text_comes_back_as_a_name_and_a_value,
    any_text_comes_back_as_connector_and_type_or_is_refused_unrepeated,
    as_much_as_there_may_be_comes_back_and_more_is_refused_unrepeated,
);

fn fields(credential: &Credential) -> BTreeMap<String, String> {
    let text =
        |(name, value): (&str, &credvault::SecretText)| (name.to_owned(), value.expose_secret().to_owned());
    credential.fields().map(text).collect()
}

async fn any_text_comes_back_as_a_name_and_a_value(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);

    let all = TEXTS
        .iter()
        .fold(Credential::new(CredentialType::token()), |all, (_, text)| all.with_field(*text, *text));
    let expected = fields(&all);
    assert_eq!(expected.len(), TEXTS.len(), "no two names are one");
    organization.put(integration, &all).await.unwrap();
    assert_eq!(fields(&organization.get(integration).await.unwrap().unwrap().credential), expected);
    // Re-encryption reads them, too, and a line of an export holds them.
    vault.rotation().force().run().await.unwrap();
    assert_eq!(fields(&organization.get(integration).await.unwrap().unwrap().credential), expected);
}

async fn any_text_comes_back_as_connector_and_type_or_is_refused_unrepeated(database: TestDatabase) {
    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let organization = database.add_organization().await;
    let organization = vault.organization(organization);
    let long = "ü".repeat(50);
    let too_long = "ü".repeat(51);
    let bounds = [("50 characters", long.as_str()), ("51 characters", too_long.as_str())];
    let texts = TEXTS.iter().chain(&bounds);
    let mut kept = Vec::new();
    for (what, text) in texts {
        let is_refused = text.is_empty() || text.chars().any(char::is_control) || text.chars().count() > 50;
        match text.parse::<CredentialType>() {
            Ok(credential_type) => {
                assert!(!is_refused, "{what}");
                let credential = Credential::new(credential_type)
                    .with_field("a", "b")
                    .with_expiry(OffsetDateTime::now_utc());
                organization.put_by_connector(text, &credential).await.unwrap();
                kept.push(*text);
            }
            Err(error) => {
                assert!(is_refused, "{what}: {error}");
                let connector = organization.put_by_connector(text, &token("t")).await.unwrap_err();
                for error in [error, connector] {
                    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}");
                    assert!(text.is_empty() || !format!("{error}").contains(text), "{what}: {error}");
                }
                // Where it may be asked for, it is nobody's.
                assert!(organization.integration(text).await.ok().flatten().is_none(), "{what}");
            }
        }
    }
    assert!(kept.len() > 15);
    let listed = organization.list().await.unwrap();
    let soon = vault.expiring(OffsetDateTime::now_utc() + time::Duration::DAY, 1_000).await.unwrap();
    assert_eq!((listed.len(), soon.len()), (kept.len(), kept.len()));
    for text in kept {
        let integration = organization.integration(text).await.unwrap().unwrap();
        let summary = organization.describe(integration).await.unwrap().unwrap();
        assert_eq!((summary.connector_type.as_str(), summary.credential_type.as_str()), (text, text));
        let stored = organization.get(integration).await.unwrap().unwrap();
        assert_eq!(stored.credential.credential_type().as_str(), text);
        assert!(soon.contains(&summary) && listed.contains(&summary), "{text:?}");
    }
}

async fn as_much_as_there_may_be_comes_back_and_more_is_refused_unrepeated(database: TestDatabase) {
    const MIB: usize = 1 << 20;

    let keys = KeyFiles::new();
    let vault = database.create_vault(&keys.generate("master.key")).await;
    let (organization, integration) = database.add_tenant().await;
    let organization = vault.organization(organization);
    let empty = || Credential::new(CredentialType::token());
    let marker = format!("Marker{}", Uuid::new_v4().simple());

    let many = (0..10_000)
        .fold(empty(), |all, number| all.with_field(format!("\u{202e}{number}"), format!("\0{number}")));
    let long_name = empty().with_field("\u{1f600}".repeat(16_000), "\u{feff}".repeat(200_000));
    for credential in [many, long_name] {
        organization.put(integration, &credential).await.unwrap();
        let read = organization.get(integration).await.unwrap().unwrap();
        assert!(fields(&read.credential) == fields(&credential));
    }
    let before = organization.get(integration).await.unwrap().unwrap().revision;
    for credential in [
        empty().with_field("v", marker.clone() + &"x".repeat(MIB)),
        empty().with_field(marker.clone() + &"x".repeat(MIB), "v"),
    ] {
        let error = organization.put(integration, &credential).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!format!("{error} {error:?}").contains(&marker), "{error}");
    }
    let error = "x".repeat(MIB).parse::<CredentialType>().unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().len() < 200, "{error}");
    let error = organization.put_by_connector(&"x".repeat(MIB), &token("t")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().len() < 200, "{error}");
    assert_eq!(organization.get(integration).await.unwrap().unwrap().revision, before);
}
