//! Vaults: made, found, opened with the right key alone.

use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell, contents};

async fn init_makes_a_vault_once_and_asks_for_a_backup(database: TestDatabase) {
    let shell = Shell::on(&database);
    let line = shell.fails(1, &["status"]);
    assert!(line.contains("credvault init"), "{line}");

    let document = shell.json(0, &["init"]);
    assert_eq!(document["created"], true);
    let text = shell.succeeds(&["init"]);
    assert!(text.contains("is there already"), "{text}");
    assert!(text.contains("Back this master key up") && text.contains("everything in the vault is lost"));
    let again = shell.json(0, &["init"]);
    assert_eq!((&again["vault_id"], &again["created"]), (&document["vault_id"], &false.into()));

    let status = shell.json(0, &["status"]);
    assert_eq!(status["vault_id"], document["vault_id"]);
    assert_eq!(status["phase"], "none");
    assert_eq!(status["master_keys"][0]["master_key_id"], document["master_key_ids"][0]);
    assert_eq!((&status["stale_rows"], &status["quarantined_rows"]), (&0.into(), &0.into()));
    assert!(shell.succeeds(&["status"]).contains(document["vault_id"].as_str().unwrap()));
}

async fn migrate_says_what_it_would_do_and_does_it(database: TestDatabase) {
    let shell = Shell::new().with("DATABASE_URL", database.url());
    let pending = shell.json(0, &["migrate", "--dry-run"]);
    assert_eq!(pending["migrations"][0]["number"], 1);
    assert!(shell.succeeds(&["migrate", "--dry-run"]).contains("002 integration tables"));
    let applied = shell.json(0, &["migrate"]);
    assert_eq!((&applied["migrations"], &applied["dry_run"]), (&pending["migrations"], &false.into()));
    assert_eq!(shell.json(0, &["migrate"])["migrations"], serde_json::json!([]));
    assert!(shell.succeeds(&["migrate"]).contains("has the schema of this version"));
}

async fn a_flag_goes_before_the_environment_and_credvaults_variable_before_the_other(database: TestDatabase) {
    let nowhere = "sqlite:nowhere.db";
    let shell = Shell::with_vault(&database).with("DATABASE_URL", nowhere);
    shell.succeeds(&["status"]);
    let shell = shell.with("CREDVAULT_DATABASE", nowhere).with("CREDVAULT_MASTER_KEY", "file:nowhere.key");
    shell.fails(1, &["status"]);
    shell.succeeds(&["status", "--database", database.url(), "--master-key", "file:master.key"]);
    // An empty variable is none.
    let shell = shell.with("CREDVAULT_DATABASE", "").with("DATABASE_URL", database.url());
    shell.succeeds(&["--master-key", "file:master.key", "status"]);
    assert!(!shell.path("nowhere.db").exists());
}

async fn a_key_file_that_is_missing_is_named_with_the_command_that_makes_one(database: TestDatabase) {
    let shell = Shell::new().with("CREDVAULT_DATABASE", database.url());
    for command in ["init", "status"] {
        let line = shell.fails(1, &[command, "--master-key", "file:no.key"]);
        assert!(line.contains("\"no.key\"") && line.contains("master-key generate --out"), "{line}");
        let line = shell.fails(2, &[command]);
        assert!(line.contains("--master-key") && line.contains("master-key generate --out"), "{line}");
    }
    assert!(credvault::is_empty_database(database.url()).await.unwrap());
}

async fn a_wrong_master_key_opens_nothing_and_touches_nothing(database: TestDatabase) {
    let shell = Shell::new()
        .with("CREDVAULT_DATABASE", database.url())
        .with("RIGHT", "correct horse battery staple")
        .with("WRONG", "hunter2hunter2")
        .with("CREDVAULT_MASTER_KEY", "passphrase:env:RIGHT");
    shell.succeeds(&["init"]);
    let (organization, integration) = shell.put_token();
    let before = contents(&database).await;
    let get = ["get", "--organization", &organization, "--integration", &integration, "--reveal"];

    let shell = shell.with("CREDVAULT_MASTER_KEY", "passphrase:env:WRONG");
    for command in [&get[..], &["init"], &["rotate", "--force"], &["verify"], &["status"]] {
        let line = shell.fails(1, command);
        assert!(line.contains("the master key given is not master key"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    // A key of another kind, and another key file, are none of this vault.
    shell.succeeds(&["master-key", "generate", "--out", "other.key"]);
    let line = shell.fails(1, &["verify", "--master-key", "file:other.key"]);
    assert!(line.contains("is needed"), "{line}");
    assert_eq!(contents(&database).await, before);

    // The right one beside them opens it all.
    let shell = shell.with("CREDVAULT_MASTER_KEY", "file:other.key passphrase:env:RIGHT");
    assert_eq!(shell.token(&organization, &integration), SECRET);
}

async fn a_printed_master_key_works_from_a_variable(database: TestDatabase) {
    let shell = Shell::new().with("CREDVAULT_DATABASE", database.url());
    let document = shell.json(0, &["master-key", "generate"]);
    let key = document["master_key"].as_str().unwrap().to_owned();
    let shell = shell.with("KEY", &key).with("CREDVAULT_MASTER_KEY", "env:KEY");
    let made = shell.json(0, &["init"]);
    assert_eq!(made["master_key_ids"][0], document["master_key_id"]);
    assert!(!shell.succeeds(&["status"]).contains(&key));

    let printed = shell.succeeds(&["master-key", "generate"]);
    assert!(printed.starts_with("cvmk1_") && printed.ends_with('\n') && printed.lines().count() == 1);
    assert_ne!(printed.trim_end(), key);
}

on_both_stores!(
    init_makes_a_vault_once_and_asks_for_a_backup,
    migrate_says_what_it_would_do_and_does_it,
    a_flag_goes_before_the_environment_and_credvaults_variable_before_the_other,
    a_key_file_that_is_missing_is_named_with_the_command_that_makes_one,
    a_wrong_master_key_opens_nothing_and_touches_nothing,
    a_printed_master_key_works_from_a_variable,
);

#[test]
fn without_any_setting_the_database_is_a_file_in_the_current_folder() {
    let shell = Shell::new();
    shell.succeeds(&["master-key", "generate", "--out", "master.key"]);
    let line = shell.fails(1, &["status", "--master-key", "file:master.key"]);
    assert!(line.contains("credvault.db"), "{line}");
    assert!(!shell.path("credvault.db").exists());
    shell.succeeds(&["init", "--master-key", "file:master.key"]);
    assert!(shell.path("credvault.db").exists());
}
