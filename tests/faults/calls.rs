//! Every kind of call on a tenant, at once, and how each ends.

use std::time::{Duration, Instant};

use credvault::{Error, ErrorKind, Vault};

use crate::common::service::{Service, Tenant, token};

/// More than any call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a call ended.
pub struct Ended {
    pub call: &'static str,
    pub result: Result<(), Error>,
    pub took: Duration,
}

/// Makes every kind of call of a service at once, and gives how each ended.
pub async fn make_all(vault: &Vault, tenant: Tenant) -> Vec<Ended> {
    async fn timed<T>(call: &'static str, made: impl Future<Output = credvault::Result<T>>) -> Ended {
        let began = Instant::now();
        let ended =
            tokio::time::timeout(PATIENCE, made).await.unwrap_or_else(|_| panic!("{call} never ends"));
        let result = ended.map(drop);
        Ended { call, result, took: began.elapsed() }
    }
    let organization = vault.organization(tenant.organization);
    let other = uuid::Uuid::new_v4();
    let new = token("never acknowledged");
    let keys = vault.keys();
    let ended = tokio::join!(
        timed("get", organization.get(tenant.integration)),
        timed("put", organization.put(tenant.integration, &new)),
        timed("delete", organization.delete(uuid::Uuid::new_v4())),
        timed("describe", organization.describe(tenant.integration)),
        timed("list", organization.list()),
        timed("put_by_connector", organization.put_by_connector("slack", &new)),
        timed("ensure_integration", organization.ensure_integration("gcp")),
        timed("transfer", vault.transfer(tenant.integration, tenant.organization, other)),
        timed("create a key", keys.create(other)),
        timed("expiring", vault.expiring(time::OffsetDateTime::UNIX_EPOCH, 1)),
        timed("runs", vault.runs(1)),
    );
    let (a, b, c, d, e, f, g, h, i, j, k) = ended;
    vec![a, b, c, d, e, f, g, h, i, j, k]
}

/// Each has failed in a way that may be over, within `limit`.
pub fn assert_all_failed_within(limit: Duration, ended: &[Ended]) {
    for Ended { call, result, took } in ended {
        let error = result.as_ref().expect_err(call);
        assert!(error.kind() == ErrorKind::Store && error.is_retryable(), "{call}: {error:?}");
        assert!(*took < limit, "{call} took {took:?}");
    }
}

/// No session of a vault stays in a transaction, nor waits with one open.
pub async fn assert_no_session_is_in_a_transaction(service: &Service) {
    let left = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND (state <> 'idle' OR xact_start IS NOT NULL) AND backend_type = 'client backend'";
    let deadline = Instant::now() + Duration::from_secs(6);
    while service.count(left).await > 0 {
        assert!(Instant::now() < deadline, "a session was left in a transaction");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
