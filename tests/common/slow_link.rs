//! A slow connection to the test server: a proxy on 127.0.0.1 that holds each chunk back for a while.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

use super::postgres::Database;
use super::service::random_below;

/// The proxy; it ends when this is dropped.
pub struct SlowLink {
    url: String,
    accepting: JoinHandle<()>,
}

impl SlowLink {
    /// A link to `database` on which each chunk takes `least` to `most` milliseconds, one way.
    pub async fn to(database: &Database, least: u64, most: u64) -> Self {
        let folder = database.url().split_once("?host=").unwrap().1;
        let socket = format!("{folder}/.s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(forward(from_client, to_server, least, most));
                tokio::spawn(forward(from_server, to_client, least, most));
            }
        });
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", database.name());
        Self { url, accepting }
    }

    pub fn url(&self) -> &str {
        &self.url
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
    least: u64,
    most: u64,
) {
    let mut chunk = vec![0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        tokio::time::sleep(Duration::from_millis(least + random_below(most - least + 1))).await;
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
    // The other side learns that this one is gone.
    drop(to.shutdown().await);
}
