//! An organization that gets a key of its own.

use credvault::Outcome;

use crate::common::service::{Service, active_key, first_token, key, put, read};
use crate::common::{self, TestDatabase, on_both_stores};

async fn its_rows_follow_and_no_others_are_touched(database: TestDatabase) {
    let (service, vault) = Service::begin(database).await;
    let tenants = service.add_tenants_with_tokens(&vault, 6).await;
    let shared = active_key(&vault, None).await;
    // Of the rest of its connectors, too.
    let organization = vault.organization(tenants[0].organization);
    let slack = organization.ensure_integration("slack").await.unwrap();
    organization.put(slack, &crate::common::service::token("of slack")).await.unwrap();
    let before = service.rows().await;

    let own = vault.keys().create(tenants[0].organization).await.unwrap();
    let status = vault.exact_status().await.unwrap();
    assert_eq!(status.stale_rows, 2);
    let rows_of = |id| status.data_keys.iter().find(|key| key.id == id).unwrap().rows;
    assert_eq!((rows_of(shared), rows_of(own)), (7, 0));
    assert_eq!(vault.rotation().plan().await.unwrap().rows, 2);

    let report = vault.rotation().run().await.unwrap();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, 2));
    assert_eq!((report.already_current, report.new_keys.len()), (5, 0));
    let after = service.rows().await;
    let of_organization = [tenants[0].integration.to_string(), slack.to_string()];
    for (before, after) in before.iter().zip(&after) {
        let moved = of_organization.iter().any(|id| before[0].as_ref() == Some(id));
        assert_eq!(before == after, !moved, "{before:?} {after:?}");
        let expected = if moved { own } else { shared };
        assert_eq!(after[2].as_ref(), Some(&expected.to_string()));
    }
    assert_eq!(vault.exact_status().await.unwrap().stale_rows, 0);
    assert_eq!((key(&vault, shared).await.rows, key(&vault, own).await.rows), (5, 2));
    assert_eq!(read(&vault, tenants[0]).await.unwrap(), first_token(tenants[0]));

    // And each stays in its scope: the organization's under its own, the others' under the shared one.
    for tenant in &tenants[..2] {
        put(&vault, *tenant, "newer").await;
    }
    assert_eq!(service.key_of(tenants[0]).await, own);
    assert_eq!(service.key_of(tenants[1]).await, shared);
    let report = vault.rotation().force().run().await.unwrap();
    assert_eq!((report.re_encrypted, report.new_keys.len()), (7, 2));
    service.assert_all_current(&vault).await;
}

on_both_stores!(its_rows_follow_and_no_others_are_touched);
