//! Rotation on PostgreSQL, against one plain UPDATE of the same columns (text and key id) of the same rows, with all the
//! table's constraints; in turn, with a vacuum before each.

mod harness;

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Dialect, KeyFiles, TestDatabase};
use credvault::{Credential, CredentialType, Outcome, Vault};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

const ROWS: u64 = 50_000;
const ROUNDS: usize = 5;

async fn fill(vault: &Vault) {
    const TASKS: u64 = 16;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let vault = vault.clone();
        tasks.spawn(async move {
            for number in (task..ROWS).step_by(TASKS as usize) {
                let token = Credential::new(CredentialType::token())
                    .with_field("access_token", format!("ghs_{number:036}"));
                let organization = vault.organization(Uuid::new_v4());
                organization.put_by_connector("github", &token).await.expect("it is stored");
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("a task ended early");
    }
}

/// One statement that writes another key id and the text anew, and is rolled back.
async fn plain_update(pool: &PgPool) -> Duration {
    let mut transaction = pool.begin().await.expect("no transaction");
    let start = Instant::now();
    let done = sqlx::query(
        "UPDATE integration_credentials
            SET credential_data_encrypted = credential_data_encrypted || '', encryption_key_id = 'v1'",
    )
    .execute(&mut *transaction)
    .await;
    let took = start.elapsed();
    assert_eq!(done.expect("it is updated").rows_affected(), ROWS);
    transaction.rollback().await.expect("it rolls back");
    took
}

async fn rotation(vault: &Vault) -> Duration {
    let start = Instant::now();
    let report = vault.rotation().force().run().await.expect("it rotates");
    let took = start.elapsed();
    assert_eq!((report.outcome, report.re_encrypted), (Outcome::Complete, ROWS));
    took
}

async fn vacuum(pool: &PgPool) {
    sqlx::raw_sql("VACUUM ANALYZE integration_credentials").execute(pool).await.expect("it vacuums");
}

async fn run() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    let vault = database.create_vault(&spec).await;
    let pool = PgPoolOptions::new().connect(database.url()).await.expect("no connection");
    fill(&vault).await;
    let mut times = [Vec::new(), Vec::new()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        vacuum(&pool).await;
        let floor = plain_update(&pool).await;
        vacuum(&pool).await;
        let ours = rotation(&vault).await;
        if round > 0 {
            times[0].push(floor);
            times[1].push(ours);
        }
    }
    harness::heading(&format!("PostgreSQL, {ROWS} rows"));
    harness::report("rotate", times.map(harness::median), None);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("no runtime").block_on(run());
}
