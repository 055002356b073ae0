//! Every byte of every column, changed one at a time in tables that hold nothing back: the vault notices, or the column
//! stands in the one list of those that nothing authenticates.

mod bare;
mod changes;
mod unauthenticated;

use bare::{columns, others, strip, values};
use changes::{Change, Column, Look, Share};
use credvault::{Credential, Error, ErrorKind, ExposeSecret, IntegrationId, OrganizationId, Vault};
use time::macros::datetime;
use unauthenticated::{UNAUTHENTICATED, Unauthenticated, free};

use crate::REFUSALS;
use crate::common::legacy::{add_legacy_rows, legacy_salt, salt};
use crate::common::long::short_or_long;
use crate::common::{self, Dialect, KeyFiles, Pool, TestDatabase, on_both_stores, token};

on_both_stores!(
    every_change_of_a_column_is_noticed_or_the_column_is_listed,
    a_column_that_nobody_listed_is_found,
    values_that_are_bound_to_nothing_are_found,
);

/// A vault in tables without constraints: three credentials, under the shared key and an organization's own, the keys
/// before them, an adopted legacy key, runs, and an entry in quarantine.
struct Bare {
    database: TestDatabase,
    pool: Pool,
    spec: String,
    columns: Vec<Column>,
    tenants: Vec<Tenant>,
    _keys: KeyFiles,
}

struct Tenant {
    organization: OrganizationId,
    integration: IntegrationId,
    shown: String,
}

/// What a vault answers after a change.
#[derive(PartialEq)]
enum Answer {
    Noticed,
    /// As if nothing had been changed.
    Unnoticed,
}

/// Which credentials a vault begins with.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    Sealed,
    Legacy,
}

impl Bare {
    async fn begin(database: TestDatabase, values: Values, before: &str) -> Self {
        let keys = KeyFiles::new();
        let spec = keys.generate("second.key");
        let first = database.create_vault(&keys.generate("first.key")).await;
        let mut places = Vec::new();
        if values == Values::Legacy {
            places.extend(
                add_legacy_rows(&database).await.iter().map(|row| (row.organization, row.integration)),
            );
        }
        first.adoption(salt(&legacy_salt())).run().await.unwrap();
        if values == Values::Sealed {
            for (number, text) in ["ghp_one", "ghp_two", "ghp_own"].into_iter().enumerate() {
                let (organization, integration) = database.add_tenant().await;
                if text == "ghp_own" {
                    first.keys().create(organization).await.unwrap();
                }
                let moment = datetime!(2031-01-01 00:00 UTC) + time::Duration::days(number as i64);
                let credential = token(text).with_expiry(moment);
                first.organization(organization).put(integration, &credential).await.unwrap();
                places.push((organization, integration));
            }
            // What was put right by hand stays in quarantine until the next rotation.
            for (_, integration) in &places[..2] {
                database.set(*integration, "credential_type = 'oauth2'").await;
            }
            assert_eq!(first.rotation().force().run().await.unwrap().quarantined, 2);
            for (_, integration) in &places[..2] {
                database.set(*integration, "credential_type = 'token'").await;
            }
        }
        first.rewrap(credvault::provider::from_spec(&spec).unwrap()).run().await.unwrap();
        if !before.is_empty() {
            database.execute(before).await;
        }
        let columns = columns(&database).await;
        strip(&database, &columns).await;

        let pool = database.pool(2).await;
        let vault = pool.open_vault(&spec).await;
        let mut tenants = Vec::new();
        for (organization, integration) in places {
            let stored = vault.organization(organization).get(integration).await.unwrap().unwrap();
            tenants.push(Tenant { organization, integration, shown: shown(&stored.credential) });
        }
        Self { database, pool, spec, columns, tenants, _keys: keys }
    }

    /// Makes every change of every column that `chosen` takes; gives what contradicts the list.
    async fn contradictions(
        &self,
        listed: &[Unauthenticated],
        chosen: impl Fn(&Column) -> bool,
    ) -> Vec<String> {
        let mut contradictions = Vec::new();
        let mut unknown: Vec<_> = listed.iter().map(|entry| entry.column.to_owned()).collect();
        let warm = self.pool.open_vault(&self.spec).await;
        for column in self.columns.iter().filter(|column| chosen(column)) {
            let is_listed = unknown.iter().position(|path| *path == column.path());
            // Of what nothing authenticates a part of the bytes says enough; every byte of all else takes a minute.
            let sparse = if is_listed.is_some() { 8 } else { short_or_long(4, 1) };
            let (mut changes, mut passed) = (0, Vec::new());
            let mut connection = self.database.connect().await;
            let (table, name) = (&column.table, &column.name);
            let rows = values(&self.database, column).await;
            for (row, (place, value)) in rows.iter().enumerate() {
                let of_another =
                    others(&self.database, column, place).await.into_iter().map(|other| Change {
                        what: format!("that of row {other}"),
                        sql: format!("(SELECT b.{name} FROM before_{table} AS b WHERE b.place = {other})"),
                    });
                let value = column.value(value.as_deref());
                let own =
                    column.changes(self.database.dialect(), &value, Share { row, rows: rows.len() * sparse });
                for change in own.into_iter().chain(of_another) {
                    let distinct = match self.database.dialect() {
                        Dialect::Postgres => "IS DISTINCT FROM",
                        Dialect::Sqlite => "IS NOT",
                    };
                    let sql = &change.sql;
                    let update = format!("UPDATE {table} SET {name} = {sql} WHERE place = {place}");
                    // What the type itself does not take is no change, nor is what is there already.
                    let sql = format!("{update} AND {name} {distinct} {sql}");
                    let changed = connection.try_execute(&sql).await.unwrap_or_else(|error| {
                        assert!(is_about_the_value(&error), "{sql}: {error}");
                        0
                    });
                    if changed == 0 {
                        continue;
                    }
                    changes += 1;
                    let look = change.look(changes);
                    let is_credential = !table.starts_with("vault_");
                    let answer = match is_credential {
                        true => self.answer(&warm, look).await,
                        false => self.answer_of_another_process(look).await,
                    };
                    match answer {
                        Ok(Answer::Noticed) => {}
                        Ok(Answer::Unnoticed) => passed.push(format!("row {place}: {}", change.what)),
                        Err(wrong) => {
                            contradictions.push(format!("{}, {}: {wrong}", column.path(), change.what));
                        }
                    }
                    connection
                        .execute(&format!(
                            "UPDATE {table}
                                SET {name} = (SELECT b.{name} FROM before_{table} AS b WHERE b.place = {place})
                              WHERE place = {place}"
                        ))
                        .await;
                }
            }
            assert!(changes > 0, "{}: nothing was changed", column.path());
            match (is_listed, passed.is_empty()) {
                (Some(at), false) => drop(unknown.remove(at)),
                (None, false) => contradictions.push(format!(
                    "{}: nothing notices {} of {changes} changes, such as {}",
                    column.path(),
                    passed.len(),
                    passed[0]
                )),
                (_, true) => {}
            }
        }
        contradictions.extend(unknown.iter().map(|path| format!("{path}: is listed, and always noticed")));
        contradictions
    }

    /// What a process answers that has not read a key yet.
    async fn answer_of_another_process(&self, look: Look) -> Result<Answer, String> {
        match self.pool.builder().master_key(&self.spec).unwrap().build().await {
            Ok(vault) => self.answer(&vault, look).await,
            Err(error) => noticed("open", &error),
        }
    }

    /// What every organization gets, and what a verification finds: of bytes that a get has noticed already not
    /// each is verified, which takes most of the time.
    async fn answer(&self, vault: &Vault, look: Look) -> Result<Answer, String> {
        let (mut answer, mut refused) = (Answer::Unnoticed, false);
        for (tenant, other) in self.tenants.iter().zip(self.tenants.iter().cycle().skip(1)) {
            match vault.organization(tenant.organization).get(tenant.integration).await {
                Ok(Some(stored)) if shown(&stored.credential) == tenant.shown => {}
                Ok(Some(stored)) => return Err(format!("get gives {}", shown(&stored.credential))),
                Ok(None) => answer = Answer::Noticed,
                Err(error) => (answer, refused) = (noticed("get", &error)?, true),
            }
            if let Ok(Some(stored)) = vault.organization(other.organization).get(tenant.integration).await {
                return Err(format!("another organization gets {}", shown(&stored.credential)));
            }
        }
        if answer == Answer::Noticed && look == Look::Get {
            return Ok(answer);
        }
        match vault.verify().run().await {
            Ok(verification) if verification.findings_count > 0 => answer = Answer::Noticed,
            // A row that is gone from its place is like one that was deleted.
            Ok(_) if refused => return Err("verify finds nothing of it".to_owned()),
            Ok(_) => {}
            Err(error) => answer = noticed("verify", &error)?,
        }
        Ok(answer)
    }
}

/// An error that says what is wrong, and not that the call should be made again.
fn noticed(call: &str, error: &Error) -> Result<Answer, String> {
    let says_so = REFUSALS.contains(&error.kind())
        || matches!(error.kind(), ErrorKind::KeyMismatch | ErrorKind::NotInitialized | ErrorKind::Refused);
    match says_so && !error.is_retryable() {
        true => Ok(Answer::Noticed),
        false => Err(format!("{call} answers {:?}: {error}", error.kind())),
    }
}

/// Whether a database refused a value as its column's type does not take it, and not a statement that is wrong: class 22 of
/// the SQLSTATEs; of SQLite a constraint, which the types of a strict table are.
fn is_about_the_value(error: &sqlx::Error) -> bool {
    const SQLITE_CONSTRAINT: u32 = 19;
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    match code.len() {
        5 => code.starts_with("22"),
        _ => code.parse::<u32>().is_ok_and(|code| code & 0xff == SQLITE_CONSTRAINT),
    }
}

/// All of a credential.
fn shown(credential: &Credential) -> String {
    let fields: Vec<_> = credential.fields().map(|(name, value)| (name, value.expose_secret())).collect();
    format!("{} {fields:?} {:?}", credential.credential_type().as_str(), credential.expires_at())
}

async fn every_change_of_a_column_is_noticed_or_the_column_is_listed(database: TestDatabase) {
    let bare = Bare::begin(database, Values::Sealed, "").await;
    let contradictions = bare.contradictions(&UNAUTHENTICATED, |_| true).await;
    assert!(contradictions.is_empty(), "{}", contradictions.join("\n"));
}

/// The list says all that it should, in the manual, too.
#[test]
fn each_listed_column_has_its_reason_and_is_named_in_the_threat_model() {
    let threat_model = include_str!("../../../src/manual/threat_model.md");
    for entry in UNAUTHENTICATED {
        assert!(!entry.reason.is_empty(), "{}", entry.column);
        assert!(threat_model.contains(entry.named), "{}: {}", entry.column, entry.named);
    }
}

/// A column that came with a migration, and one that was taken off the list.
async fn a_column_that_nobody_listed_is_found(database: TestDatabase) {
    let plant = "ALTER TABLE integration_credentials ADD COLUMN planted TEXT";
    let bare = Bare::begin(database, Values::Sealed, plant).await;
    let chosen = ["planted", "updated_at", "credential_type"];
    let contradictions = bare
        .contradictions(&[], |column| {
            column.table == "integration_credentials" && chosen.contains(&column.name.as_str())
        })
        .await;
    let of = |name: &str| format!("integration_credentials.{name}: nothing notices");
    assert_eq!(contradictions.len(), 2, "{contradictions:?}");
    assert!(contradictions[0].starts_with(&of("updated_at")), "{contradictions:?}");
    assert!(contradictions[1].starts_with(&of("planted")), "{contradictions:?}");
    let bound = [free("integration_credentials.credential_type", "", "")];
    assert_eq!(
        bare.contradictions(&bound, |column| column.path() == bound[0].column).await,
        ["integration_credentials.credential_type: is listed, and always noticed"]
    );
}

/// Legacy values are what a format is like that authenticates neither type nor place.
async fn values_that_are_bound_to_nothing_are_found(database: TestDatabase) {
    let bare = Bare::begin(database, Values::Legacy, "").await;
    let of_type = |column: &Column| column.path() == "integration_credentials.credential_type";
    let contradictions = bare.contradictions(&[], of_type).await;
    let wrong = "integration_credentials.credential_type, the word oauth2: get gives oauth2";
    assert!(contradictions.iter().any(|found| found.starts_with(wrong)), "{contradictions:?}");
    let exchanged = |column: &Column| column.path() == "integration_credentials.credential_data_encrypted";
    let contradictions = bare.contradictions(&[], exchanged).await;
    let wrong = "integration_credentials.credential_data_encrypted, that of row 2: get gives";
    assert!(contradictions.iter().any(|found| found.starts_with(wrong)), "{contradictions:?}");
}
