//! What is waited for after a switch: the transactions that may still write under the key of before. The trait, and the
//! bodies that both dialects share.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::rows::KeyState;
use super::runs::RunId;
use crate::error::Result;
use crate::id::DataKeyId;

/// The transactions that were older than a switch when it was captured, as far as they may still write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// When the server was started whose virtual transactions these are.
    pub(crate) server_started: String,
    pub(crate) transactions: Vec<OlderTransaction>,
}

/// A transaction that may still write under the key of before a switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OlderTransaction {
    /// A session's.
    Running { virtual_transaction: String, pid: i32, application: String },
    /// A prepared one, which a session has left to be committed by any.
    Prepared { gid: String },
}

/// What was captured after a run's switches.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) run: RunId,
    pub(crate) captured: Captured,
}

/// A key after whose switch nothing was captured yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwitchedKey {
    pub(crate) id: DataKeyId,
    /// What the switch made of it.
    pub(crate) state: KeyState,
}

/// The captured transactions in `vault_rotation_runs`, and the keys in `vault_data_keys` that wait for them.
#[async_trait]
pub(crate) trait DrainStore {
    /// The keys whose state is from a switch after which nothing was captured yet.
    async fn switched(&self) -> Result<Vec<SwitchedKey>>;

    /// Keeps what a run captured, for keys that were switched before it did and not since; `false` if the run lost its
    /// lease.
    async fn capture(&self, run: RunId, keys: &[SwitchedKey], captured: &Captured) -> Result<bool>;

    /// What keys still wait for, the earliest first.
    async fn drains(&self) -> Result<Vec<Drain>>;

    /// Keeps what is left of a drain; with nothing left it has ended. `false` if it was narrowed meanwhile.
    async fn narrow_drain(&self, drain: &Drain, left: &Captured) -> Result<bool>;

    /// The deactivated keys under which nothing of before their switch can write any more.
    async fn drained(&self) -> Result<Vec<DataKeyId>>;

    /// The transactions of sessions that have written or hold a snapshot, at this moment.
    async fn running_transactions(&self) -> Result<Captured>;

    /// The prepared transactions, at this moment.
    async fn prepared_transactions(&self) -> Result<Vec<OlderTransaction>>;
}

/// As the column keeps it.
pub(super) fn to_json(captured: &Captured) -> Value {
    let transaction = |transaction: &OlderTransaction| match transaction {
        OlderTransaction::Running { virtual_transaction, pid, application } => {
            json!({ "virtual_transaction": virtual_transaction, "pid": pid, "application": application })
        }
        OlderTransaction::Prepared { gid } => json!({ "prepared": gid }),
    };
    json!({
        "server_started": captured.server_started,
        "transactions": captured.transactions.iter().map(transaction).collect::<Vec<_>>(),
    })
}

/// What [`to_json`] wrote; `None` for anything else.
pub(super) fn from_json(value: &Value) -> Option<Captured> {
    let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let transaction = |value: &Value| match text(value, "prepared") {
        Some(gid) => Some(OlderTransaction::Prepared { gid }),
        None => Some(OlderTransaction::Running {
            virtual_transaction: text(value, "virtual_transaction")?,
            pid: i32::try_from(value.get("pid")?.as_i64()?).ok()?,
            application: text(value, "application")?,
        }),
    };
    Some(Captured {
        server_started: text(value, "server_started")?,
        transactions: value
            .get("transactions")?
            .as_array()?
            .iter()
            .map(transaction)
            .collect::<Option<_>>()?,
    })
}

/// Implements [`DrainStore`] for a dialect's store, given its row type; `running_transactions` and
/// `prepared_transactions` are the dialect's own.
macro_rules! drain_store {
    ($store:ty, $row:ty) => {
        fn key_ids(rows: Vec<String>) -> Vec<DataKeyId> {
            // A record that names no key is found by a verification, and is waited for by nobody.
            rows.iter().filter_map(|id| id.parse().ok()).collect()
        }

        #[async_trait]
        impl DrainStore for $store {
            async fn switched(&self) -> Result<Vec<SwitchedKey>> {
                let rows = sqlx::query_as::<_, (String, String)>(sql::SWITCHED)
                    .fetch_all(&self.pool)
                    .await
                    .map_err(|error| failure("listing the keys that were switched", error))?;
                // As above.
                let key = |(id, state): (String, String)| {
                    Some(SwitchedKey { id: id.parse().ok()?, state: KeyState::parse(&state)? })
                };
                Ok(rows.into_iter().filter_map(key).collect())
            }

            async fn capture(&self, run: RunId, keys: &[SwitchedKey], captured: &Captured) -> Result<bool> {
                let (pool, keys, captured) = (self.pool.clone(), keys.to_vec(), drains::to_json(captured));
                to_the_end(async move {
                    let say = |error| failure("keeping what a switch waits for", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let kept = sqlx::query(sql::CAPTURE)
                        .bind(run.0)
                        .bind(Json(captured))
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    if kept.rows_affected() != 1 {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(false);
                    }
                    for key in keys {
                        sqlx::query(sql::ASSIGN_DRAIN)
                            .bind(key.id.to_string())
                            .bind(run.0)
                            .bind(key.state.as_str())
                            .execute(&mut *transaction)
                            .await
                            .map_err(say)?;
                    }
                    transaction.commit().await.map_err(say)?;
                    Ok(true)
                })
                .await
            }

            async fn drains(&self) -> Result<Vec<Drain>> {
                const DOING: &str = "reading what a switch waits for";
                let say = |error| failure(DOING, error);
                let rows = sqlx::query(sql::DRAINS).fetch_all(&self.pool).await.map_err(say)?;
                rows.into_iter()
                    .map(|row: $row| {
                        let run = RunId(row.try_get(0).map_err(say)?);
                        let captured = row.try_get::<Json<Value>, _>(1).map_err(say)?.0;
                        let captured = drains::from_json(&captured).ok_or_else(|| {
                            Error::new(
                                ErrorKind::Malformed,
                                format!("{DOING}: the record of run {} is of no known form", run.0),
                            )
                        })?;
                        Ok(Drain { run, captured })
                    })
                    .collect()
            }

            async fn narrow_drain(&self, drain: &Drain, left: &Captured) -> Result<bool> {
                let statement = if left.transactions.is_empty() { sql::END_DRAIN } else { sql::NARROW_DRAIN };
                sqlx::query(statement)
                    .bind(drain.run.0)
                    .bind(Json(drains::to_json(&drain.captured)))
                    .bind(Json(drains::to_json(left)))
                    .execute(&self.pool)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(|error| failure("keeping what a switch waits for", error))
            }

            async fn drained(&self) -> Result<Vec<DataKeyId>> {
                sqlx::query_scalar(sql::DRAINED)
                    .fetch_all(&self.pool)
                    .await
                    .map(key_ids)
                    .map_err(|error| failure("listing the keys that nothing writes under", error))
            }

            async fn running_transactions(&self) -> Result<Captured> {
                running_transactions(&self.pool).await
            }

            async fn prepared_transactions(&self) -> Result<Vec<OlderTransaction>> {
                prepared_transactions(&self.pool).await
            }
        }
    };
}
pub(super) use drain_store;
