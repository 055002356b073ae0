//! No secret is in a trace, an error, a `Debug` or a row: looked for after a life with every kind of failure, in all
//! forms, by a search that finds what is planted. And none is left in memory, as another process reads it.
#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[cfg(all(feature = "cli", target_os = "linux"))]
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod derivation;
mod life;
#[cfg(target_os = "linux")]
mod memory;
mod prompts;
mod search;

use std::path::Path;

use common::traces::{trace_everything, traced};
use common::{Dialect, TestDatabase, on_both_stores};
use search::{Needle, found};

on_both_stores!(no_secret_is_seen, what_is_planted_is_found);

/// The places where a secret could be seen: what each is, and all that is there.
async fn places(database: &TestDatabase, shown: &str) -> Vec<(&'static str, Vec<u8>)> {
    // In a statement of its own: the dump below is traced, too.
    let traced = traced();
    let mut places = vec![
        ("what the process traced", traced),
        ("errors and Debug", shown.as_bytes().to_vec()),
        ("a row", database.dump().await.into_bytes()),
    ];
    match database.dialect() {
        Dialect::Postgres => {
            let folder = database.url().split_once("?host=").unwrap().1;
            let log = std::fs::read(Path::new(folder).join("server.log")).unwrap();
            places.push(("the server's log", log));
        }
        Dialect::Sqlite => {
            let file = Path::new(database.url().strip_prefix("sqlite:").unwrap());
            // As long as someone reads it, the write-ahead log stays when others close.
            let mut reader = database.connect().await;
            reader.execute("SELECT count(*) FROM organizations").await;
            let mut bytes = Vec::new();
            for entry in std::fs::read_dir(file.parent().unwrap()).unwrap() {
                bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
            }
            places.push(("the database's files", bytes));
        }
    }
    places
}

async fn no_secret_is_seen(database: TestDatabase) {
    trace_everything();
    let life = life::live(&database).await;
    assert!(life.secrets.len() >= 12, "{}", life.secrets.len());
    for (place, bytes) in places(&database, &life.shown).await {
        assert!(!bytes.is_empty(), "{place}: nothing is there, so nothing was looked for");
        let leaked = found(&life.secrets, &bytes);
        assert!(leaked.is_empty(), "{place}: {leaked:#?}");
        // What is stored is for the database alone.
        if ["what the process traced", "errors and Debug", "the server's log"].contains(&place) {
            let leaked = found(&life.stored, &bytes);
            assert!(leaked.is_empty(), "{place}: {leaked:#?}");
        }
    }
    let traced = String::from_utf8_lossy(&traced()).into_owned();
    for said in ["sqlx::query", "credvault", &life.integration.to_string()] {
        assert!(traced.contains(said), "{said} was not traced: the search proves nothing");
    }
}

async fn what_is_planted_is_found(database: TestDatabase) {
    trace_everything();
    credvault::migrate(database.url()).await.unwrap();
    let planted = format!("planted {}", uuid::Uuid::new_v4());
    let needle = [Needle::new("planted", planted.as_bytes())];
    for (place, bytes) in places(&database, "").await {
        assert!(found(&needle, &bytes).is_empty(), "{place}");
    }
    let forms: Vec<_> =
        needle[0].forms.iter().map(|(_, text)| format!("text before {text} and after")).collect();
    let mut shown = String::new();
    for form in &forms {
        tracing::trace!(field = %form, "a trace");
        shown.push_str(form);
        database
            .execute(&format!(
                "INSERT INTO organizations (id, clerk_org_id, name, slug) VALUES ('{}', '{}', '{form}', 'slug')",
                uuid::Uuid::new_v4(),
                uuid::Uuid::new_v4()
            ))
            .await;
        // The server logs a statement that fails.
        database.try_execute(&format!("SELECT '{form}' FROM nowhere")).await.unwrap_err();
    }
    for (place, bytes) in places(&database, &shown).await {
        assert_eq!(found(&needle, &bytes).len(), forms.len(), "{place}");
    }
}
