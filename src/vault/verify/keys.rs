//! The records of keys: that they unlock and unwrap, and that each says of itself what can be true.

use std::collections::BTreeMap;

use time::Duration;

use super::{Finding, Problem, Verification, is_of_the_process};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, OrganizationId};
use crate::keyring::Keyring;
use crate::store::{KeyState, KeyTimes, On, Phase, Store};

/// How far a time may lie before an earlier one, as a server's clock may be set back between the two, by a whole time
/// zone at worst.
const CLOCK_STEP: Duration = Duration::days(1);

/// What a state says of a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    There,
    Absent,
    Either,
}

/// Holds each master key to its state, and each that is needed to its key check.
pub(super) async fn check_master_keys(
    store: &dyn Store,
    keyring: &Keyring,
    verification: &mut Verification,
) -> Result<()> {
    for life in &store.master_key_lives().await? {
        for problem in contradictions(life.state, &life.times, None) {
            verification.add(Finding::MasterKey { key: life.id, problem });
        }
    }
    let rows = store.master_keys(On::Pool).await?;
    for problem in active_by_scope(rows.iter().map(|row| (row.organization, row.state))).into_values() {
        verification.add(Finding::MasterKeys { problem });
    }
    for row in rows.iter().filter(|row| row.is_needed()) {
        if row.state == KeyState::Destroyed {
            verification.add(Finding::MasterKey { key: row.id, problem: Problem::StillWraps(row.wraps) });
        }
        match keyring.master_keys().check(row).await {
            Ok(()) => verification.master_keys_checked += 1,
            Err(error) if is_of_the_process(&error) && row.organization.is_none() => return Err(error),
            Err(error) => verification.add(Finding::MasterKey { key: row.id, problem: error.into() }),
        }
    }
    Ok(())
}

/// Unwraps each data key that isn't destroyed, and holds each to its state and each scope to its one active key.
pub(super) async fn check_data_keys(
    store: &dyn Store,
    keyring: &Keyring,
    phase: Phase,
    verification: &mut Verification,
) -> Result<()> {
    let withheld = keyring.master_keys().withheld(store).await?;
    for key in store.data_keys().await? {
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                verification.add(Finding::KeyRecord { problem: error.into() });
                continue;
            }
        };
        let is_unregistered = key.id.is_legacy() && phase == Phase::None;
        if key.state == KeyState::Destroyed || is_unregistered {
            continue;
        }
        if key.wrapped.is_none() {
            verification.add(Finding::Key { key: key.id, problem: Problem::MaterialMissing });
            continue;
        }
        match keyring.unwrap(On::Pool, &key).await {
            Ok(_) => verification.keys_checked += 1,
            Err(error)
                if is_of_the_process(&error)
                    && !key.organization.is_some_and(|id| withheld.contains_key(&id)) =>
            {
                return Err(error);
            }
            Err(error) => verification.add(Finding::Key { key: key.id, problem: error.into() }),
        }
    }

    let lives = store.data_key_lives().await?;
    for (organization, problem) in active_by_scope(lives.iter().map(|life| (life.organization, life.state))) {
        verification.add(Finding::Scope { organization, problem });
    }
    for life in &lives {
        let mut problems = contradictions(life.state, &life.times, Some(life.id));
        if life.unused_since.is_some() && matches!(life.state, KeyState::PreActive | KeyState::Active) {
            problems.push(Problem::TimeUnexpected(life.state, "unused_since"));
        }
        if life.state == KeyState::Destroyed && life.has_material {
            problems.push(Problem::MaterialLeft);
        }
        for problem in problems {
            verification.add(Finding::Key { key: life.id, problem });
        }
    }
    for column in store.material_without_key().await? {
        verification.add(match column.parse() {
            Ok(key) => Finding::Key { key, problem: Problem::RecordMissing },
            Err(_) => {
                let message = format!("material names no key: {column:?}");
                Finding::KeyRecord { problem: Error::new(ErrorKind::Malformed, message).into() }
            }
        });
    }
    Ok(())
}

/// What is wrong with the scopes that have no active key, or several. There is always a shared scope, and one of each
/// organization that has an active key of its own.
fn active_by_scope(
    keys: impl Iterator<Item = (Option<OrganizationId>, KeyState)>,
) -> BTreeMap<Option<OrganizationId>, Problem> {
    let mut active: BTreeMap<_, u64> = BTreeMap::from([(None, 0)]);
    for (organization, _) in keys.filter(|(_, state)| *state == KeyState::Active) {
        *active.entry(organization).or_default() += 1;
    }
    let problem = |count| match count {
        0 => Some(Problem::NoActiveKey),
        1 => None,
        several => Some(Problem::SeveralActiveKeys(several)),
    };
    active.into_iter().filter_map(|(scope, count)| Some((scope, problem(count)?))).collect()
}

/// Where the times of a key say otherwise than its state, or than each other.
fn contradictions(state: KeyState, times: &KeyTimes, data_key: Option<DataKeyId>) -> Vec<Problem> {
    use Demand::{Absent, Either, There};
    // The legacy key was never active here, and nothing ended that.
    let deactivated = if data_key.is_some_and(|id| id.is_legacy()) { Either } else { There };
    let [activated, deactivated, destroyed] = match state {
        KeyState::PreActive => [Absent, Absent, Absent],
        KeyState::Active => [There, Absent, Absent],
        KeyState::Deactivated => [Either, deactivated, Absent],
        KeyState::Destroyed => [Either, Either, There],
    };
    let columns = [
        ("created_at", Either, times.created_at),
        ("activated_at", activated, times.activated_at),
        ("deactivated_at", deactivated, times.deactivated_at),
        ("destroyed_at", destroyed, times.destroyed_at),
    ];
    let mut problems = Vec::new();
    for (column, demand, time) in columns {
        match (demand, time) {
            (There, None) => problems.push(Problem::TimeMissing(state, column)),
            (Absent, Some(_)) => problems.push(Problem::TimeUnexpected(state, column)),
            _ => {}
        }
    }
    let moments: Vec<_> = columns
        .iter()
        .filter_map(|(column, _, time)| time.map(Timestamp::to_offset_date_time).map(|time| (*column, time)))
        .collect();
    for pair in moments.windows(2) {
        if let [(earlier, before), (later, after)] = pair
            && *before - *after > CLOCK_STEP
        {
            problems.push(Problem::TimesOutOfOrder { earlier, later });
        }
    }
    problems
}
