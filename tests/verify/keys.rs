//! The records of keys.

use std::sync::atomic::{AtomicI64, Ordering};

use credvault::clock::Clock;
use credvault::{ErrorKind, Finding, KeyState, Problem};

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::{Home, builder, in_days};

on_both_stores!(
    a_data_key_that_contradicts_itself_is_named,
    a_scope_without_one_active_key_is_named,
    a_master_key_that_contradicts_itself_or_does_not_unlock_is_named,
    a_master_key_that_this_process_lacks_is_named,
    material_of_no_data_key_is_named,
    moved_clocks_and_small_steps_back_contradict_nothing,
);

const COLUMNS: [&str; 8] = [
    "organization_id",
    "state",
    "created_at",
    "activated_at",
    "deactivated_at",
    "destroyed_at",
    "unused_since",
    "key_check",
];

/// Makes changes by hand, sees what is found, and undoes them; after each, nothing is found any more.
struct Changes<'h> {
    home: &'h Home,
}

impl<'h> Changes<'h> {
    async fn begin(home: &'h Home) -> Self {
        let copy = |table: &str| format!("CREATE TABLE {table}_before AS SELECT * FROM vault_{table};");
        home.database.execute(&["data_keys", "key_material", "master_keys"].map(copy).concat()).await;
        Self { home }
    }

    async fn give(&self, change: &str, expected: &[String]) {
        self.home.database.execute(change).await;
        assert_eq!(self.home.findings().await, expected, "{change}");
        let set =
            |columns: &[&str]| columns.iter().map(|c| format!("{c} = b.{c}")).collect::<Vec<_>>().join(", ");
        let (data_keys, master_keys) = (set(&COLUMNS), set(&[&COLUMNS[1..6], &COLUMNS[7..]].concat()));
        self.home
            .database
            .execute(&format!(
                "UPDATE vault_data_keys SET {data_keys} FROM data_keys_before AS b WHERE b.id = vault_data_keys.id;
                 UPDATE vault_master_keys SET state = 'deactivated';
                 UPDATE vault_master_keys SET {master_keys} FROM master_keys_before AS b
                  WHERE b.id = vault_master_keys.id;
                 INSERT INTO vault_key_material SELECT * FROM key_material_before AS b
                  WHERE NOT EXISTS (SELECT 1 FROM vault_key_material AS m WHERE m.data_key_id = b.data_key_id);"
            ))
            .await;
        assert_eq!(self.home.findings().await, [] as [String; 0], "{change} was undone");
    }
}

async fn a_data_key_that_contradicts_itself_is_named(database: TestDatabase) {
    let dialect = database.dialect();
    let home = Home::begin(database).await;
    let changes = Changes::begin(&home).await;
    for scope in [None, Some(home.own.organization)] {
        let active = home.data_key(scope, KeyState::Active).await;
        let old = home.data_key(scope, KeyState::Deactivated).await;
        let (now, late, early) = (in_days(dialect, 0), in_days(dialect, 2), in_days(dialect, -2));
        let of_active = format!("data key {active}: it is active");
        let of_old = format!("data key {old}: it is");
        for (key, set, expected) in [
            (active, "activated_at = NULL".to_owned(), vec![format!("{of_active} without activated_at")]),
            (active, format!("deactivated_at = {now}"), vec![format!("{of_active} and has deactivated_at")]),
            (active, format!("destroyed_at = {now}"), vec![format!("{of_active} and has destroyed_at")]),
            (active, format!("unused_since = {now}"), vec![format!("{of_active} and has unused_since")]),
            (old, format!("unused_since = {now}"), vec![]),
            (
                old,
                "deactivated_at = NULL".to_owned(),
                vec![format!("{of_old} deactivated without deactivated_at")],
            ),
            (
                old,
                format!("destroyed_at = {now}"),
                vec![format!("{of_old} deactivated and has destroyed_at")],
            ),
            (
                old,
                "state = 'pre-active'".to_owned(),
                vec![
                    format!("{of_old} pre-active and has activated_at"),
                    format!("{of_old} pre-active and has deactivated_at"),
                    format!("{of_old} pre-active and has unused_since"),
                ],
            ),
            (
                old,
                "state = 'pre-active', activated_at = NULL, deactivated_at = NULL, unused_since = NULL"
                    .to_owned(),
                vec![],
            ),
            (
                old,
                format!("activated_at = {late}"),
                vec![format!("data key {old}: its deactivated_at is before its activated_at")],
            ),
            (
                active,
                format!("activated_at = {early}"),
                vec![format!("data key {active}: its activated_at is before its created_at")],
            ),
            (
                old,
                format!("state = 'destroyed', destroyed_at = {now}"),
                vec![format!("{of_old} destroyed, and its material is still there")],
            ),
        ] {
            changes.give(&format!("UPDATE vault_data_keys SET {set} WHERE id = '{key}'"), &expected).await;
        }
        let no_material = format!("DELETE FROM vault_key_material WHERE data_key_id = '{old}';");
        let destroyed = |at: &str| {
            format!(
                "{no_material}
                 UPDATE vault_data_keys SET state = 'destroyed', destroyed_at = {at} WHERE id = '{old}'"
            )
        };
        let nothing_opens = format!("data key {old}: it has no material, so nothing opens what it sealed");
        changes.give(&no_material, &[nothing_opens]).await;
        changes.give(&destroyed("NULL"), &[format!("{of_old} destroyed without destroyed_at")]).await;
        changes.give(&destroyed(&now), &[]).await;
        changes
            .give(
                &destroyed(&early),
                &[format!("data key {old}: its destroyed_at is before its deactivated_at")],
            )
            .await;
    }
    // The legacy key was deactivated from the start; destroyed, it keeps no placeholder.
    let destroyed = format!(
        "UPDATE vault_data_keys SET state = 'destroyed', destroyed_at = {} WHERE id = 'v1'",
        in_days(dialect, 0)
    );
    changes
        .give(&destroyed, &["data key v1: it is destroyed, and its material is still there".to_owned()])
        .await;
    changes.give(&format!("DELETE FROM vault_key_material WHERE data_key_id = 'v1'; {destroyed}"), &[]).await;
}

async fn a_scope_without_one_active_key_is_named(database: TestDatabase) {
    let now = in_days(database.dialect(), 0);
    let home = Home::begin(database).await;
    let changes = Changes::begin(&home).await;
    let (shared, own) = (None, Some(home.own.organization));
    let ends = |key| {
        format!(
            "UPDATE vault_data_keys SET state = 'deactivated', deactivated_at = {now} WHERE id = '{key}';"
        )
    };
    let begins = |key| {
        format!(
            "UPDATE vault_data_keys SET state = 'active', deactivated_at = NULL, unused_since = NULL
              WHERE id = '{key}';"
        )
    };
    changes
        .give(
            &ends(home.data_key(shared, KeyState::Active).await),
            &["shared data keys: none is active".to_owned()],
        )
        .await;
    // An organization need not have one of its own.
    changes.give(&ends(home.data_key(own, KeyState::Active).await), &[]).await;

    // As in a database whose indexes were lost.
    home.database
        .execute(
            "DROP INDEX vault_data_keys_one_active_shared; DROP INDEX vault_data_keys_one_active_per_organization",
        )
        .await;
    for (scope, whose) in [
        (shared, "shared data keys".to_owned()),
        (own, format!("data keys of organization {}", home.own.organization)),
    ] {
        let old = home.data_key(scope, KeyState::Deactivated).await;
        changes.give(&begins(old), &[format!("{whose}: 2 are active, where one may be")]).await;
    }
}

async fn a_master_key_that_contradicts_itself_or_does_not_unlock_is_named(database: TestDatabase) {
    let dialect = database.dialect();
    let home = Home::begin(database).await;
    let changes = Changes::begin(&home).await;
    let masters = home.vault.status().await.unwrap().master_keys;
    let in_state = |state| masters.iter().find(|key| key.state == state).unwrap().id;
    let (active, old) = (in_state(KeyState::Active), in_state(KeyState::Deactivated));
    let now = in_days(dialect, 0);
    let set = |key, set: &str| format!("UPDATE vault_master_keys SET {set} WHERE id = '{key}';");
    for (key, columns, expected) in [
        (
            active,
            "activated_at = NULL",
            vec![format!("master key {active}: it is active without activated_at")],
        ),
        (
            old,
            "deactivated_at = NULL",
            vec![format!("master key {old}: it is deactivated without deactivated_at")],
        ),
        (
            old,
            &format!("created_at = {}", in_days(dialect, 2)),
            vec![format!("master key {old}: its activated_at is before its created_at")],
        ),
        (old, &format!("state = 'destroyed', destroyed_at = {now}"), vec![]),
        (old, "state = 'pre-active', activated_at = NULL, deactivated_at = NULL", vec![]),
        (
            active,
            &format!("state = 'deactivated', deactivated_at = {now}"),
            vec!["master keys: none is active".to_owned()],
        ),
        (
            active,
            match dialect {
                Dialect::Postgres => "key_check = decode(repeat('00', 16), 'hex')",
                Dialect::Sqlite => "key_check = zeroblob(16)",
            },
            vec![format!(
                "master key {active}: key mismatch: the master key given is not master key {active} of this vault"
            )],
        ),
    ] {
        changes.give(&set(key, columns), &expected).await;
    }
    let back = set(old, "state = 'active', deactivated_at = NULL");
    let wraps =
        home.vault.status().await.unwrap().master_keys.iter().find(|key| key.id == active).unwrap().wraps;
    changes
        .give(
            &format!("{}{back}", set(active, &format!("state = 'destroyed', destroyed_at = {now}"))),
            &[format!("master key {active}: it is destroyed and still wraps data keys: {wraps}")],
        )
        .await;
    home.database.execute("DROP INDEX vault_master_keys_one_active_shared").await;
    changes.give(&back, &["master keys: 2 are active, where one may be".to_owned()]).await;
}

async fn a_master_key_that_this_process_lacks_is_named(database: TestDatabase) {
    let home = Home::begin(database).await;
    let second_alone = builder(&home.database, &[&home.keys.spec("second.key")]).build().await.unwrap();
    assert_eq!(second_alone.verify().run().await.unwrap().master_keys_checked, 1);
    let third = home.keys.generate("third.key");
    home.vault.rewrap(credvault::provider::from_spec(&third).unwrap()).run().await.unwrap();
    let active = home.vault.status().await.unwrap().master_keys.last().unwrap().id;

    let verification = second_alone.verify().run().await.unwrap();
    assert_eq!((verification.master_keys_checked, verification.keys_checked), (0, 0));
    assert!(
        matches!(verification.findings[0], Finding::MasterKey {
            key,
            problem: Problem::DoesNotOpen(ErrorKind::KeyUnavailable, _)
        } if key == active),
        "{:?}",
        verification.findings
    );
}

async fn material_of_no_data_key_is_named(database: TestDatabase) {
    let home = Home::begin(database).await;
    let old = home.data_key(None, KeyState::Deactivated).await;
    let drop_guards = match home.database.dialect() {
        Dialect::Postgres => {
            "ALTER TABLE vault_key_material DROP CONSTRAINT vault_key_material_data_key_id_fkey"
        }
        Dialect::Sqlite => {
            "DROP TRIGGER vault_refuse_delete_of_used_data_key; DROP TRIGGER vault_refuse_rename_of_material"
        }
    };
    home.database.execute(drop_guards).await;
    home.database.execute(&format!("DELETE FROM vault_data_keys WHERE id = '{old}'")).await;
    assert_eq!(home.findings().await, [format!("data key {old}: it has material and no record")]);
    home.database
        .execute(&format!("UPDATE vault_key_material SET data_key_id = 'no key' WHERE data_key_id = '{old}'"))
        .await;
    assert_eq!(home.findings().await, ["malformed: material names no key: \"no key\""]);
}

/// A clock that a test moves: a day further with each look at it.
#[derive(Debug, Default)]
struct MovedClock(AtomicI64);

impl Clock for MovedClock {
    fn offset(&self) -> time::Duration {
        time::Duration::days(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

async fn moved_clocks_and_small_steps_back_contradict_nothing(database: TestDatabase) {
    let home = Home::begin(database).await;
    // As where a server's clock was set back between the two.
    let later = match home.database.dialect() {
        Dialect::Postgres => "created_at + interval '23 hours'",
        Dialect::Sqlite => "created_at + 23 * 3600000000",
    };
    let set_back = format!("UPDATE vault_data_keys SET created_at = {later} WHERE state = 'active'");
    home.database.execute(&set_back).await;
    assert_eq!(home.findings().await, [] as [String; 0]);

    let specs = [home.keys.spec("first.key"), home.keys.spec("second.key")];
    let builder = builder(&home.database, &[&specs[0], &specs[1]]);
    let moved = builder.clock(MovedClock::default()).build().await.unwrap();
    for _ in 0..3 {
        moved.rotation().force().run().await.unwrap();
        moved.keys().create(home.own.organization).await.unwrap();
    }
    assert_eq!(home.findings().await, [] as [String; 0]);
}
