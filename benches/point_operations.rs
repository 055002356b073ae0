//! Get and put on PostgreSQL, against the raw statements on the same pool: get against a select by integration id, put
//! against the upsert with the same checks. The server is a throw-away one without fsync, which flatters nobody: the
//! less a commit costs, the more all else shows. On Linux it has one processor and the client another, since the
//! scheduler's choice of where each wakes up would else move a median by more than what is measured.

mod harness;

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Dialect, KeyFiles, TestDatabase};
use credvault::{Credential, CredentialType, IntegrationId, OrganizationId, Vault};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgPoolOptions, PgTypeInfo};
use sqlx::{Encode, PgPool, Postgres, Row, Type};
use uuid::Uuid;

const ROWS: u32 = 2_000;
/// Rounds so short that what else the machine does meets all four kinds of call alike.
const ROUNDS: u32 = 160;
/// Calls of each kind in a round.
const CALLS: u32 = 400;

const SELECT: &str = "SELECT credential_type, credential_data_encrypted, encryption_key_id, expires_at
                        FROM integration_credentials
                       WHERE integration_id = $1";

/// NULL, as a `timestamp` (its object id is fixed in PostgreSQL's catalogue).
struct NoExpiry;

impl Type<Postgres> for NoExpiry {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1114))
    }
}

impl Encode<'_, Postgres> for NoExpiry {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// A service's vault and pool, and what is in it.
struct Service {
    vault: Vault,
    pool: PgPool,
    tenants: Vec<(OrganizationId, IntegrationId)>,
    stored: Vec<String>,
    key: String,
}

fn token(number: u32) -> Credential {
    Credential::new(CredentialType::token()).with_field("access_token", format!("ghs_{number:036}"))
}

async fn begin(database: &TestDatabase, keys: &KeyFiles) -> Service {
    let spec = keys.generate("master.key");
    database.create_vault(&spec).await;
    let pool =
        PgPoolOptions::new().max_connections(10).test_before_acquire(false).connect(database.url()).await;
    let pool = pool.expect("no connection");
    let vault = Vault::builder().postgres(pool.clone()).master_key(&spec).expect("no key").build().await;
    let vault = vault.expect("no vault");
    let (mut tenants, mut stored) = (Vec::new(), Vec::new());
    let mut key = String::new();
    for number in 0..ROWS {
        let organization = OrganizationId::from(Uuid::new_v4());
        let put = vault.organization(organization).put_by_connector("github", &token(number)).await;
        let (integration, _) = put.expect("it is stored");
        let row =
            sqlx::query(SELECT).bind(integration.as_uuid()).fetch_one(&pool).await.expect("it is there");
        stored.push(row.get(1));
        key = row.get(2);
        tenants.push((organization, integration));
    }
    sqlx::raw_sql("VACUUM ANALYZE").execute(&pool).await.expect("it vacuums");
    Service { vault, pool, tenants, stored, key }
}

impl Service {
    async fn raw_get(&self, number: u32) {
        let (_, integration) = self.tenants[number as usize];
        let row = sqlx::query(SELECT).bind(integration.as_uuid()).fetch_optional(&self.pool).await;
        let text: String = row.expect("it is read").expect("it is there").get(1);
        std::hint::black_box(text);
    }

    async fn get(&self, number: u32) {
        let (organization, integration) = self.tenants[number as usize];
        let stored = self.vault.organization(organization).get(integration).await;
        std::hint::black_box(stored.expect("it is read").expect("it is there"));
    }

    async fn raw_put(&self, number: u32) {
        let (organization, integration) = self.tenants[number as usize];
        let done = sqlx::query(credvault::bench::POSTGRES_PUT)
            .bind(Uuid::new_v4())
            .bind(integration.as_uuid())
            .bind("token")
            .bind(self.stored[number as usize].as_str())
            .bind(NoExpiry)
            .bind(self.key.as_str())
            .bind(organization.as_uuid())
            .execute(&self.pool)
            .await;
        assert_eq!(done.expect("it is written").rows_affected(), 1);
    }

    async fn put(&self, number: u32) {
        let (organization, integration) = self.tenants[number as usize];
        self.vault.organization(organization).put(integration, &token(number)).await.expect("it is written");
    }
}

/// How long a task does something else between two calls.
const THINKING: Duration = Duration::from_micros(20);

/// What a service does between two calls, which is not measured. Without it the next call meets the server still awake
/// after a raw one and asleep after the vault's, and waking it up costs many times what the vault's work does.
async fn think() {
    // The connection goes back to its pool.
    tokio::task::yield_now().await;
    let start = Instant::now();
    while start.elapsed() < THINKING {
        std::hint::spin_loop();
    }
}

/// The times of one round's calls, made by `tasks` tasks.
async fn round<F>(
    service: &Arc<Service>,
    tasks: u32,
    call: impl Fn(Arc<Service>, u32) -> F + Copy + Send + 'static,
) -> Vec<Duration>
where
    F: Future<Output = ()> + Send,
{
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let service = Arc::clone(service);
        running.spawn(async move {
            let mut times = Vec::new();
            for at in 0..CALLS / tasks {
                let start = Instant::now();
                // Each task has rows of its own, in an order that is not the table's.
                call(Arc::clone(&service), (at * 7 * tasks + task) % ROWS).await;
                times.push(start.elapsed());
                think().await;
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(task) = running.join_next().await {
        times.extend(task.expect("a task ended early"));
    }
    times
}

fn main() {
    harness::stay_on_processor(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let database = runtime.expect("no runtime").block_on(TestDatabase::create(Dialect::Postgres));
    harness::stay_on_processor(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("no runtime").block_on(run(&database));
}

async fn run(database: &TestDatabase) {
    let keys = KeyFiles::new();
    let service = Arc::new(begin(database, &keys).await);
    harness::heading("PostgreSQL, a call (median)");
    let mut within = true;
    for tasks in [1, 8] {
        let mut times = [const { Vec::new() }; 4];
        for number in 0..=ROUNDS {
            // What comes first in a round meets what the round before left behind: each takes its turn at that.
            let order = if number % 2 == 0 { [0, 1, 2, 3] } else { [1, 0, 3, 2] };
            let mut measured = [const { Vec::new() }; 4];
            for what in order {
                measured[what] = match what {
                    0 => round(&service, tasks, |service, at| async move { service.raw_get(at).await }).await,
                    1 => round(&service, tasks, |service, at| async move { service.get(at).await }).await,
                    2 => round(&service, tasks, |service, at| async move { service.raw_put(at).await }).await,
                    _ => round(&service, tasks, |service, at| async move { service.put(at).await }).await,
                };
            }
            // The first round warms up.
            if number > 0 {
                for (times, measured) in times.iter_mut().zip(measured) {
                    times.push(harness::median(measured));
                }
            }
        }
        let [raw_get, get, raw_put, put] = times.map(harness::median);
        within &= harness::report(&format!("get, {tasks} at once"), [raw_get, get], Some(1.05));
        within &= harness::report(&format!("put, {tasks} at once"), [raw_put, put], Some(1.10));
    }
    harness::end(within);
}
