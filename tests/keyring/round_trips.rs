//! Round trips to PostgreSQL, counted on the wire by a proxy on a socket of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use credvault::Vault;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};

use crate::common::{Dialect, KeyFiles, TestDatabase, token};

/// Calls made of each kind: so many that what happens once doesn't count.
const CALLS: usize = 50;

/// The types of the messages that clients have sent, counted (PostgreSQL's manual, 54.7: `P` parse, `B` bind,
/// `S` sync, `Q` simple query).
type Messages = Arc<Mutex<BTreeMap<char, usize>>>;

/// A server that passes everything on and counts it.
struct Proxy {
    folder: TempDir,
    messages: Messages,
}

impl Proxy {
    fn start(server: String) -> Self {
        // A socket's path is 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("credvault-wire-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let messages = Messages::default();
        let counted = Arc::clone(&messages);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                tokio::spawn(pass_on_and_count(from_client, to_server, Arc::clone(&counted)));
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        Self { folder, messages }
    }

    fn take(&self) -> BTreeMap<char, usize> {
        std::mem::take(&mut *self.messages.lock().unwrap())
    }
}

/// Passes messages on: the first has no type, each other is a type, a length that counts itself, and the rest.
async fn pass_on_and_count(
    mut client: OwnedReadHalf,
    mut server: tokio::net::unix::OwnedWriteHalf,
    messages: Messages,
) -> std::io::Result<()> {
    loop {
        let startup = client.read_u32().await?;
        let mut rest = vec![0; startup as usize - 4];
        client.read_exact(&mut rest).await?;
        server.write_all(&[&startup.to_be_bytes()[..], &rest].concat()).await?;
        // A request for TLS, which the server declines, comes before.
        if rest != 80_877_103_u32.to_be_bytes() {
            break;
        }
    }
    loop {
        let kind = client.read_u8().await?;
        let length = client.read_u32().await?;
        let mut rest = vec![0; length as usize - 4];
        client.read_exact(&mut rest).await?;
        *messages.lock().unwrap().entry(char::from(kind)).or_default() += 1;
        server.write_all(&[&[kind][..], &length.to_be_bytes(), &rest].concat()).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_warm_keyring_a_call_is_one_round_trip_to_postgres() {
    let database = TestDatabase::create(Dialect::Postgres).await;
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    database.create_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;

    let (address, folder) = database.url().split_once("?host=").unwrap();
    let proxy = Proxy::start(format!("{folder}/.s.PGSQL.5432"));
    let url = format!("{address}?host={}", proxy.folder.path().display());
    // One connection, as the vault's own pool would lend it: which of several is lent next, and has yet to prepare a
    // statement, is a matter of luck.
    let pool =
        PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect(&url).await.unwrap();
    let vault = Vault::builder().postgres(pool).master_key(&spec).unwrap().build().await.unwrap();
    let organization = vault.organization(organization);
    let later = OffsetDateTime::now_utc();
    let all = async || {
        organization.put(integration, &token("t")).await.unwrap();
        let revision = organization.get(integration).await.unwrap().unwrap().revision;
        organization.update(integration, &revision, &token("u")).await.unwrap();
        organization.describe(integration).await.unwrap().unwrap();
        organization.list().await.unwrap();
        vault.expiring(later, 10).await.unwrap();
        assert!(organization.delete(integration).await.unwrap());
    };
    // Every statement is prepared.
    all().await;
    proxy.take();
    for _ in 0..CALLS {
        all().await;
    }
    let sent = proxy.take();
    let calls = CALLS * 7;
    let count = |kind| sent.get(&kind).copied().unwrap_or_default();
    assert_eq!((count('B'), count('E')), (calls, calls), "one statement each: {sent:?}");
    assert_eq!(
        (count('P'), count('Q')),
        (0, 0),
        "nothing is prepared anew, nothing is asked besides: {sent:?}"
    );
    // Each call ends with a sync, which is its round trip. sqlx sends one more when the connection goes back to the
    // pool, which nobody waits for; a pool that tests connections before it lends them would send a third.
    // One may still have been under way when the count began.
    assert!(count('S') <= 2 * calls + 1, "{sent:?}");
}
