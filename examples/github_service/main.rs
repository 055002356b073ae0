//! A service that keeps the GitHub tokens of its customers: credvault in axum, on PostgreSQL or SQLite.
//!
//! Make a vault, then run it:
//!
//! ```sh
//! export DATABASE_URL=sqlite:github.db CREDVAULT_MASTER_KEY=file:master.key
//! export SERVICE_SECRET=$(openssl rand -hex 32) LISTEN=127.0.0.1:8080
//!
//! cargo run -- master-key generate --out master.key && cargo run -- init
//! cargo run --example github_service
//! ```
//!
//! | Request, each with `authorization: Bearer $SERVICE_SECRET` | |
//! |---|---|
//! | `POST /organizations/{id}/github` | connects an organization: its integration and its token, or neither |
//! | `DELETE /organizations/{id}/github` | disconnects it |
//! | `GET /internal/organizations/{id}/github/token` | the token for a worker, its revision as `ETag` |
//! | `PUT /internal/organizations/{id}/github/token` | replaces it, if it is still the one of `If-Match` |
//! | `GET /internal/expiring?within=SECONDS` | what expires by then, without secrets |
//!
//! A token is sent as `{"access_token": "ghs_…", "installation_id": "51234567", "expires_at": "2030-01-01T00:00:00Z"}`.
//!
//! The secret stands for a service's real authentication: take the organization from the session of the user who asks,
//! never from a path alone, and let no user reach `/internal`.
//!
//! This file starts and stops it, `requests.rs` answers, and `database.rs` holds the service's own statements.

mod database;
mod requests;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use credvault::{SecretText, Vault};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use database::Database;

/// What the secret of the service has at least: nobody guesses 128 bits in hexadecimal digits.
const MIN_SECRET_BYTES: usize = 32;
/// How long requests under way may take after the process was told to stop.
const GRACE: Duration = Duration::from_secs(10);

type AnyError = Box<dyn std::error::Error>;

/// What every request shares: each part is cheap to clone.
#[derive(Clone)]
struct Service {
    vault: Vault,
    database: Database,
    secret: Arc<SecretText>,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let secret = SecretText::from(variable("SERVICE_SECRET")?);
    if secret.len() < MIN_SECRET_BYTES {
        return Err(format!("SERVICE_SECRET has less than {MIN_SECRET_BYTES} characters").into());
    }
    let database = Database::connect(&variable("DATABASE_URL")?).await?;
    let mut builder = match &database {
        Database::Postgres(pool) => Vault::builder().postgres(pool.clone()),
        Database::Sqlite(pool) => Vault::builder().sqlite(pool.clone()),
    };
    // Two, with a blank between them, while the master key is changed.
    for spec in variable("CREDVAULT_MASTER_KEY")?.split_whitespace() {
        builder = builder.master_key(spec)?;
    }
    let vault = builder.build().await?;
    let service = Service { vault, database: database.clone(), secret: Arc::new(secret) };

    let listener = TcpListener::bind(variable("LISTEN")?).await?;
    info!("listening on {}", listener.local_addr()?);
    let serving = async {
        axum::serve(listener, requests::routes(service)).with_graceful_shutdown(told_to_stop()).await?;
        // The pool is the service's, so the service closes it. A vault that was opened by a URL has one of its own, which
        // `Vault::close` closes.
        database.close().await;
        Ok(())
    };
    let deadline = async {
        told_to_stop().await;
        tokio::time::sleep(GRACE).await;
        Err("it was told to stop, and not all requests had an answer in time".into())
    };
    tokio::select! {
        ended = serving => ended,
        late = deadline => late,
    }
}

fn variable(name: &str) -> Result<String, AnyError> {
    env::var(name).map_err(|_| format!("the variable {name} is not set, or not UTF-8").into())
}

/// Ends when the process gets SIGTERM, or Ctrl-C.
async fn told_to_stop() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(why) => {
            error!("there is no way to hear of SIGTERM: {why}");
            std::future::pending().await
        }
    }
}
