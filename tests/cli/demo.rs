//! `credvault demo`, with few tokens.

use std::path::PathBuf;

use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::Shell;

async fn demo_fills_an_empty_database_and_keeps_its_keys(database: TestDatabase) {
    let shell = Shell::new();
    let demo = ["demo", "--tokens", "23", "--organizations", "5", "--database", database.url()];
    let document = shell.json(0, &demo);
    assert_eq!((&document["tokens"], &document["organizations"]), (&23.into(), &5.into()));
    let steps = document["steps"].as_array().unwrap();
    let counts: Vec<u64> = steps.iter().map(|step| step["count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 23, 23, 23, 2, 23, 23]);
    let rows = "SELECT count(*) FROM integration_credentials";
    assert_eq!(database.fetch_one_text(rows).await.as_deref(), Some("23"));

    // The vault in somebody's database opens with the key that was kept.
    let folder = PathBuf::from(document["folder"].as_str().unwrap());
    let key = format!("file:{}", folder.join("second.key").display());
    let verified = shell.json(0, &["verify", "--database", database.url(), "--master-key", &key]);
    assert_eq!(verified["rows_opened"], 23);

    // It isn't empty any more.
    let line = shell.fails(5, &demo);
    assert!(line.contains("empty database"), "{line}");
    assert_eq!(database.fetch_one_text(rows).await.as_deref(), Some("23"));
}

async fn demo_leaves_a_database_with_tables_alone(database: TestDatabase) {
    database.execute("CREATE TABLE invoices (id integer)").await;
    let shell = Shell::new();
    shell.fails(5, &["demo", "--tokens", "1", "--database", database.url()]);
    assert!(!credvault::pending_migrations(database.url()).await.unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(shell.path(".")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

async fn demo_does_not_use_the_database_of_the_environment(database: TestDatabase) {
    let shell = Shell::new().with("DATABASE_URL", database.url()).with("CREDVAULT_DATABASE", database.url());
    shell.succeeds(&["demo", "--tokens", "3"]);
    assert!(credvault::is_empty_database(database.url()).await.unwrap());
}

on_both_stores!(
    demo_fills_an_empty_database_and_keeps_its_keys,
    demo_leaves_a_database_with_tables_alone,
    demo_does_not_use_the_database_of_the_environment,
);

#[test]
fn demo_leaves_nothing_and_says_how_to_go_on() {
    let shell = Shell::new();
    let text = shell.succeeds(&["demo", "--tokens", "40", "--organizations", "7"]);
    assert!(text.contains("40 tokens in GitHub's shapes over 7 organizations"), "{text}");
    for command in
        ["master-key generate --out master.key", " init\n", " put --organization ", " get --organization "]
    {
        assert!(text.contains(command), "{text}");
    }
    let left: Vec<_> = std::fs::read_dir(shell.path(".")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn demo_says_commands_that_work_as_they_stand() {
    let shell = Shell::new();
    let text = shell.succeeds(&["demo", "--tokens", "1"]);
    let (_, commands) = text.split_once("Go on with a vault of your own:\n").unwrap();
    let output = std::process::Command::new("sh")
        .args(["-eu", "-c", commands])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .current_dir(shell.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("ghp_example"));
}

#[test]
fn demo_keeps_its_folder_when_asked_to() {
    let shell = Shell::new();
    let text = shell.succeeds(&["demo", "--tokens", "2", "--keep"]);
    let command = text.lines().find(|line| line.contains(" status --database ")).unwrap();
    let output = std::process::Command::new("sh").args(["-c", command]).env_clear().output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
