//! A slow connection to the test server: a proxy on 127.0.0.1 that holds each chunk back for a while, or for good.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::postgres::Database;
use super::service::random_below;

/// The milliseconds that a chunk takes, one way; without them it stands still.
type Delay = Option<RangeInclusive<u64>>;

/// The proxy; it ends when this is dropped.
pub struct SlowLink {
    url: String,
    delay: watch::Sender<Delay>,
    accepting: JoinHandle<()>,
}

impl SlowLink {
    /// A link to `database` on which each chunk takes so many milliseconds, one way.
    pub async fn to(database: &Database, milliseconds: RangeInclusive<u64>) -> Self {
        let folder = database.url().split_once("?host=").unwrap().1;
        let socket = format!("{folder}/.s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (delay, delays) = watch::channel(Some(milliseconds));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(forward(from_client, to_server, delays.clone()));
                tokio::spawn(forward(from_server, to_client, delays.clone()));
            }
        });
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", database.name());
        Self { url, delay, accepting }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets nothing through any more, and ends no connection.
    pub fn stand_still(&self) {
        self.delay.send_replace(None);
    }

    /// Lets everything through at once, what it held back, too.
    pub fn hurry(&self) {
        self.delay.send_replace(Some(0..=0));
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut delays: watch::Receiver<Delay>,
) {
    let mut chunk = vec![0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let Ok(delay) = delays.wait_for(Option::is_some).await.map(|delay| delay.clone()) else { return };
        let (least, most) = delay.unwrap_or(0..=0).into_inner();
        tokio::time::sleep(Duration::from_millis(least + random_below(most - least + 1))).await;
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    // The other side learns that this one is gone.
    drop(to.shutdown().await);
}
