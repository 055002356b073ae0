//! Verification: the whole vault or a sample, and every kind of finding by the name that the manual has for it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell};

const PAGE: &str = include_str!("../../src/manual/operations.md");

/// The kinds that the manual lists, but those of errors.
fn documented_kinds() -> BTreeSet<String> {
    let (_, chapter) = PAGE.split_once("\n# What verify finds\n").unwrap();
    let chapter = chapter.split("\n# ").next().unwrap();
    let kinds = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let kinds = kinds.flat_map(|cell| cell.split("`, `")).map(|kind| kind.trim_end_matches('`').to_owned());
    kinds.filter(|kind| !["key unavailable", "tampered", "malformed`, …"].contains(&kind.as_str())).collect()
}

async fn a_sample_opens_some_of_the_rows_and_all_is_the_default(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    for _ in 0..5 {
        shell.put_token();
    }
    for (arguments, sample, opened) in [
        (&["verify"][..], json!(null), 5),
        (&["verify", "--all"], json!(null), 5),
        (&["verify", "--sample", "3"], json!(3), 3),
        (&["verify", "--sample", "1000000"], json!(1_000_000), 5),
    ] {
        let document = shell.json(0, arguments);
        assert_eq!(
            (&document["sample"], &document["rows_opened"]),
            (&sample, &json!(opened)),
            "{arguments:?}"
        );
        assert_eq!((&document["master_keys_checked"], &document["keys_checked"]), (&json!(1), &json!(1)));
    }
    assert!(shell.succeeds(&["verify", "--sample", "3"]).contains("each row of the sample is as it was"));
}

/// Everything that can be wrong is wrong at once.
async fn every_kind_of_finding_has_the_name_that_the_manual_gives_it(database: TestDatabase) {
    let dialect = database.dialect();
    let shell = Shell::with_vault(&database);
    let rows: [_; 5] = std::array::from_fn(|_| shell.put_token());
    let [tampered, expiring, under_no_key, of_no_integration, deleted] =
        rows.each_ref().map(|row| row.1.as_str());
    shell.succeeds(&["keys", "create", "--organization", &rows[0].0]);
    shell.succeeds(&["keys", "create", "--organization", &rows[0].0]);
    for _ in 0..7 {
        shell.succeeds(&["rotate", "--force"]);
    }
    let set = async |integration: &str, set: &str| {
        let sql = format!("UPDATE integration_credentials SET {set} WHERE integration_id = '{integration}'");
        database.execute(&sql).await;
    };
    set(deleted, "credential_type = 'oauth2'").await;
    shell.json(4, &["rotate", "--force"]);
    shell.succeeds(&["delete", "--organization", &rows[4].0, "--integration", deleted]);
    shell.succeeds(&["master-key", "generate", "--out", "new.key"]);
    shell.succeeds(&["rewrap", "--to", "file:new.key", "--yes"]);
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:master.key file:new.key");
    let status = shell.json(0, &["status"]);
    let ids = |list: &str, id: &str, organization: bool, state: &str| -> Vec<String> {
        let keys = status[list].as_array().unwrap().iter();
        keys.filter(|key| key["state"] == state && key[id] != "v1")
            .filter(|key| list == "master_keys" || key["organization_id"].is_null() != organization)
            .map(|key| key[id].as_str().unwrap().to_owned())
            .collect()
    };
    let old = ids("data_keys", "data_key_id", false, "deactivated");
    let active = &ids("data_keys", "data_key_id", false, "active")[0];
    let own = &ids("data_keys", "data_key_id", true, "deactivated")[0];
    let old_master = &ids("master_keys", "master_key_id", false, "deactivated")[0];

    database
        .execute(match dialect {
            Dialect::Postgres => {
                "ALTER TABLE integration_credentials
                    DROP CONSTRAINT integration_credentials_encryption_key_id_fkey,
                    DROP CONSTRAINT integration_credentials_integration_id_fkey;
                 ALTER TABLE vault_key_material DROP CONSTRAINT vault_key_material_data_key_id_fkey;
                 DROP INDEX vault_data_keys_one_active_per_organization"
            }
            Dialect::Sqlite => {
                "DROP TRIGGER vault_refuse_unknown_key_on_update;
                 DROP TRIGGER vault_refuse_material_of_unknown_key;
                 DROP INDEX vault_data_keys_one_active_per_organization"
            }
        })
        .await;
    let (now, late) = match dialect {
        Dialect::Postgres => ("now() AT TIME ZONE 'utc'", "now() AT TIME ZONE 'utc' + interval '9 days'"),
        Dialect::Sqlite => ("unixepoch() * 1000000", "(unixepoch() + 9 * 86400) * 1000000"),
    };
    set(tampered, "credential_type = 'oauth2'").await;
    set(expiring, &format!("expires_at = {now}")).await;
    let unknown = uuid::Uuid::now_v7();
    set(under_no_key, &format!("encryption_key_id = '{unknown}'")).await;
    database.execute(&format!("DELETE FROM integrations WHERE id = '{of_no_integration}'")).await;
    for (key, set) in [
        (&old[0], format!("state = 'destroyed', destroyed_at = {now}")),
        (&old[1], "deactivated_at = NULL".to_owned()),
        (&old[2], format!("destroyed_at = {now}")),
        (&old[3], format!("activated_at = {late}")),
        (active, format!("state = 'deactivated', deactivated_at = {now}")),
        (own, "state = 'active', deactivated_at = NULL".to_owned()),
    ] {
        database.execute(&format!("UPDATE vault_data_keys SET {set} WHERE id = '{key}'")).await;
    }
    database
        .execute(&format!(
            "UPDATE vault_master_keys SET state = 'destroyed', destroyed_at = {now} WHERE id = '{old_master}';
             UPDATE vault_key_material SET master_key_id = '{old_master}' WHERE data_key_id = '{}';
             INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
             SELECT '{unknown}x', master_key_id, wrapped_key FROM vault_key_material WHERE data_key_id = '{active}';
             INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key)
             SELECT '{}', master_key_id, wrapped_key FROM vault_key_material WHERE data_key_id = '{active}';
             DELETE FROM vault_key_material WHERE data_key_id = '{}'",
            old[4],
            uuid::Uuid::now_v7(),
            old[5],
        ))
        .await;

    let document = shell.json(4, &["verify"]);
    let findings = document["findings"].as_array().unwrap();
    let of_errors = ["tampered", "malformed"].map(str::to_owned);
    let kinds: BTreeSet<_> = findings.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect();
    let expected: BTreeSet<_> = documented_kinds().into_iter().chain(of_errors).collect();
    assert_eq!(kinds, expected, "{findings:#?}");

    // Each says what it is about, and which.
    let named = |about: &str, id: &str, of: &str, kind: &str| {
        let is_it = |it: &&serde_json::Value| it["about"] == about && it[id] == of && it["kind"] == kind;
        assert_eq!(findings.iter().filter(is_it).count(), 1, "{about} {of} {kind}: {findings:#?}");
    };
    named("row", "integration_id", tampered, "tampered");
    named("row", "integration_id", expiring, "expiry differs");
    named("row", "integration_id", under_no_key, "key gone");
    named("row", "integration_id", of_no_integration, "integration gone");
    named("quarantine", "integration_id", deleted, "credential gone");
    named("data key", "data_key_id", &old[0], "material left");
    named("data key", "data_key_id", &old[1], "time missing");
    named("data key", "data_key_id", &old[2], "time unexpected");
    named("data key", "data_key_id", &old[3], "times out of order");
    named("data key", "data_key_id", &old[5], "material missing");
    named("data keys", "organization_id", &rows[0].0, "several active keys");
    named("master key", "master_key_id", old_master, "still wraps");
    let shared = |it: &&serde_json::Value| it["about"] == "data keys" && it["organization_id"].is_null();
    assert_eq!(findings.iter().find(shared).unwrap()["kind"], "no active key");

    let text = shell.run(&["verify"]);
    assert_eq!(text.code, 4);
    for (_, integration) in &rows {
        assert!(text.stdout.contains(integration.as_str()), "{text:?}");
    }
    assert!(text.stdout.contains("shared data keys: none is active"), "{text:?}");
    assert!(!text.stdout.contains(SECRET) && !document.to_string().contains(SECRET));
}

on_both_stores!(
    a_sample_opens_some_of_the_rows_and_all_is_the_default,
    every_kind_of_finding_has_the_name_that_the_manual_gives_it,
);
