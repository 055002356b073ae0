//! Bulk: credentials in and out as lines of JSON.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{self, Dialect, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell, contents};

/// A line with one token, as a person writes it.
fn line(organization: &str, connector: &str, token: &str) -> String {
    json!({
        "organization_id": organization,
        "connector": connector,
        "credential_type": "token",
        "fields": { "access_token": token },
    })
    .to_string()
}

fn counts(report: &Value) -> [u64; 4] {
    ["added", "replaced", "unchanged", "bad_lines_count"].map(|name| report[name].as_u64().unwrap())
}

/// The lines of an export without what is the database's own, in one order.
fn lines_of(export: &str) -> Vec<Value> {
    let mut lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        assert_eq!(line["version"], 1);
        assert!(line.as_object_mut().unwrap().remove("integration_id").unwrap().is_string());
    }
    lines.sort_by_key(ToString::to_string);
    lines
}

fn export(shell: &Shell, name: &str) -> Vec<Value> {
    shell.succeeds(&["export", "--out", name, "--yes", "--in-clear"]);
    lines_of(&fs::read_to_string(shell.path(name)).unwrap())
}

async fn what_is_exported_and_imported_elsewhere_is_the_same(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let mut lines = Vec::new();
    for number in 0..120 {
        let organization = Uuid::new_v4().to_string();
        for connector in ["github", "slack"] {
            lines.push(json!({
                "version": 1,
                "organization_id": organization,
                "connector": connector,
                "credential_type": if number % 2 == 0 { "oauth2" } else { "service_account" },
                "expires_at": (number % 3 == 0).then(|| format!("2031-05-06T05:08:{:02}.123456Z", number % 60)),
                "fields": {
                    "access_token": format!("ghu_{number}"),
                    "private_key": "-----KEY-----\n\t\u{1}ü\"\\🔑\u{2028}\n",
                    "a\"\tb": "",
                },
            }));
        }
    }
    lines.push(json!({
        "version": 1,
        "organization_id": Uuid::new_v4().to_string(),
        "connector": "a \"connector\" ü",
        "credential_type": "another",
        "expires_at": null,
        "fields": {},
    }));
    let input: String = lines.iter().map(|line| format!("{line}\r\n\n")).collect();
    let imported = shell.json_with(0, &["import"], input.as_bytes());
    assert_eq!(counts(&imported), [241, 0, 0, 0]);
    lines.sort_by_key(ToString::to_string);
    assert_eq!(export(&shell, "first.jsonl"), lines);

    // Into a vault in the other kind of database.
    let other = match database.dialect() {
        Dialect::Postgres => Dialect::Sqlite,
        Dialect::Sqlite => Dialect::Postgres,
    };
    let elsewhere = TestDatabase::create(other).await;
    let elsewhere = Shell::with_vault(&elsewhere);
    let from = shell.path("first.jsonl");
    let imported = elsewhere.json(0, &["import", "--in", from.to_str().unwrap()]);
    assert_eq!(counts(&imported), [241, 0, 0, 0]);
    assert_eq!(export(&elsewhere, "second.jsonl"), lines);
}

async fn importing_again_changes_only_what_changed(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, integration) = shell.put_token();
    let (another, by_id) = shell.put_token();
    let new = Uuid::new_v4().to_string();
    let with_id = line(&another, "github", SECRET)
        .replace(r#""connector":"github""#, &format!(r#""integration_id":"{by_id}""#));
    let lines = [line(&organization, "github", SECRET), with_id, line(&new, "github", SECRET)];
    let before = contents(&database).await;

    let input = lines.join("\n");
    let dry = shell.json_with(0, &["import", "--dry-run"], input.as_bytes());
    assert_eq!((counts(&dry), &dry["dry_run"]), ([1, 0, 2, 0], &json!(true)));
    assert_eq!(contents(&database).await, before);

    assert_eq!(counts(&shell.json_with(0, &["import"], input.as_bytes())), [1, 0, 2, 0]);
    let after = contents(&database).await;
    assert_eq!(counts(&shell.json_with(0, &["import"], input.as_bytes())), [0, 0, 3, 0]);
    assert_eq!(contents(&database).await, after, "not a byte is written anew");

    // A change of value, of name, of type, of expiry, of the number of fields: each is one.
    for (from, to) in [
        (SECRET, "ghp_another"),
        ("\"access_token\"", "\"access_tokem\""),
        ("\"token\"", "\"oauth2\""),
        ("\"credential_type\"", "\"expires_at\":\"2031-01-01T00:00:00Z\",\"credential_type\""),
        ("{\"access_token\"", "{\"refresh_token\":\"\",\"access_token\""),
    ] {
        let changed = input.replacen(from, to, 1);
        assert_eq!(counts(&shell.json_with(0, &["import"], changed.as_bytes())), [0, 1, 2, 0], "{to}");
        assert_eq!(counts(&shell.json_with(0, &["import"], changed.as_bytes())), [0, 0, 3, 0], "{to}");
        assert_eq!(
            counts(&shell.json_with(0, &["import"], input.as_bytes())),
            [0, 1, 2, 0],
            "back from {to}"
        );
    }
    // Of several lines for one integration the last holds, however long the one before takes.
    let long = "x".repeat(700_000);
    let tokens = [SECRET, &long, "2", &long, "4", &long, "6", &long, "8", &long, SECRET];
    let input: String = tokens.iter().map(|token| line(&organization, "github", token) + "\n").collect();
    assert_eq!(counts(&shell.json_with(0, &["import"], input.as_bytes())), [0, 10, 1, 0]);
    assert_eq!(shell.token(&organization, &integration), SECRET);
}

async fn a_bad_line_is_reported_by_number_and_stops_no_other(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organizations: Vec<String> = (0..3).map(|_| Uuid::new_v4().to_string()).collect();
    let (foreign, elsewhere) = shell.put_token();
    let good = |at: usize| line(&organizations[at], "github", SECRET).into_bytes();
    let whole = line(&organizations[0], "slack", SECRET);
    let with_id = whole.replace(r#""connector":"slack""#, &format!(r#""integration_id":"{elsewhere}""#));
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (SECRET.into(), "no JSON object"),
        (whole[..whole.len() - 1].into(), "not valid JSON"),
        (
            whole.replace("{\"access", &format!("{{\"access_token\":\"{SECRET}\",\"access")).into(),
            "there twice",
        ),
        (whole.replace(&format!("\"{SECRET}\""), "8080").into(), "\"access_token\" is not a string"),
        (whole.replace("\"fields\"", &format!("\"x\":\"{SECRET}\",\"fields\"")).into(), "no member \"x\""),
        (whole.replace("organization_id", "organization").into(), "no member \"organization\""),
        (whole.replace("\"slack\"", "null").into(), "neither integration_id nor connector"),
        (line(&organizations[0], "slack", &"x".repeat(6 << 20)).into(), "more than 5242880 bytes"),
        (line(&organizations[0], "slack", &"x".repeat(900_000)).into(), "bytes"),
        ([whole.as_bytes(), b"\xff"].concat(), "not UTF-8"),
        (with_id.into(), "is not one of organization"),
        (whole.replace("\"fields\"", "\"version\":2,\"fields\"").into(), "version 2"),
    ];
    let (mut input, mut numbers) = (vec![good(0)], Vec::new());
    for (line, _) in &bad {
        input.push(line.clone());
        numbers.push(input.len() as u64);
        input.push(Vec::new());
    }
    input.extend([good(1), good(2)]);
    let input = input.join(&b'\n');

    let report = shell.json_with(4, &["import"], &input);
    assert_eq!(counts(&report), [3, 0, 0, bad.len() as u64]);
    let reported = report["bad_lines"].as_array().unwrap();
    assert_eq!(reported.iter().map(|bad| bad["line"].as_u64().unwrap()).collect::<Vec<_>>(), numbers);
    for (reported, (_, why)) in reported.iter().zip(&bad) {
        assert!(reported["message"].as_str().unwrap().contains(why), "{why}: {reported}");
    }
    assert!(!report.to_string().contains("Marker"), "{report}");
    let text = shell.run_with(&["import"], &input);
    assert_eq!(text.code, 4);
    for (number, (_, why)) in numbers.iter().zip(&bad) {
        let begin = format!("  line {number}: ");
        let line = text.stdout.lines().find(|line| line.starts_with(&begin)).expect(why);
        assert!(line.contains(why) && !line.contains("Marker") && line.len() < 300, "{line}");
    }
    // What is another organization's was not touched, nor found out.
    assert_eq!(shell.token(&foreign, &elsewhere), SECRET);
    let slack = shell.json(0, &["list", "--organization", &organizations[0]]);
    assert_eq!(slack["credentials"].as_array().unwrap().len(), 1, "a bad line makes no integration");
}

async fn an_export_names_what_does_not_open_and_an_import_repairs_it(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let stored: Vec<_> = (0..3).map(|_| shell.put_token()).collect();
    let whole = export(&shell, "whole.jsonl");
    let (organization, damaged) = &stored[1];
    let flip = "credential_data_encrypted =
        substr(credential_data_encrypted, 1, 100)
        || CASE substr(credential_data_encrypted, 101, 1) WHEN 'A' THEN 'B' ELSE 'A' END
        || substr(credential_data_encrypted, 102)";
    database.set(damaged.parse().unwrap(), flip).await;

    let report = shell.json(4, &["export", "--out", "rest.jsonl", "--yes", "--in-clear"]);
    assert_eq!((&report["written"], &report["unopened_count"]), (&json!(2), &json!(1)));
    let unopened = &report["unopened"][0];
    assert_eq!((&unopened["integration_id"], &unopened["kind"]), (&json!(damaged), &json!("tampered")));
    let left = lines_of(&fs::read_to_string(shell.path("rest.jsonl")).unwrap());
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|line| line["organization_id"] != organization.as_str()));

    // Beside a pipe the report is on standard error.
    let export_all = ["export", "--yes", "--in-clear"];
    let piped = shell.command(env!("CARGO_BIN_EXE_credvault"), &export_all).output().unwrap();
    assert_eq!(piped.status.code(), Some(4));
    assert_eq!(lines_of(&String::from_utf8(piped.stdout).unwrap()), left);
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(said.contains(damaged.as_str()) && !said.contains(SECRET), "{said}");

    let report = shell.json(0, &["import", "--in", "whole.jsonl"]);
    assert_eq!(counts(&report), [0, 1, 2, 0]);
    assert_eq!(export(&shell, "again.jsonl"), whole);
}

async fn an_export_of_one_organization_has_no_other(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, _) = shell.put_token();
    shell.put_token_of(&organization, "slack");
    shell.put_token();
    let arguments = ["export", "--organization", &organization, "--yes", "--in-clear"];
    let lines = lines_of(&shell.succeeds(&arguments));
    let connectors: Vec<_> = lines.iter().map(|line| line["connector"].as_str().unwrap()).collect();
    assert_eq!(connectors, ["github", "slack"]);
    assert!(lines.iter().all(|line| line["organization_id"] == organization.as_str()));
    let nobody = Uuid::new_v4().to_string();
    assert_eq!(shell.succeeds(&["export", "--organization", &nobody, "--yes", "--in-clear"]), "");
}

on_both_stores!(
    what_is_exported_and_imported_elsewhere_is_the_same,
    importing_again_changes_only_what_changed,
    a_bad_line_is_reported_by_number_and_stops_no_other,
    an_export_names_what_does_not_open_and_an_import_repairs_it,
    an_export_of_one_organization_has_no_other,
);

/// A vault with one token in a file of its own.
fn embedded() -> Shell {
    let shell = Shell::new().with("CREDVAULT_MASTER_KEY", "file:master.key");
    shell.succeeds(&["master-key", "generate", "--out", "master.key"]);
    shell.succeeds(&["init"]);
    shell.put_token();
    shell
}

#[test]
fn an_export_is_its_owners_alone_and_never_overwrites() {
    let shell = embedded();
    for flags in [&[][..], &["--yes"], &["--in-clear"]] {
        let line = shell.fails(2, &[&["export", "--out", "out.jsonl"], flags].concat());
        assert!(line.contains("--yes") && line.contains("--in-clear"), "{line}");
    }
    assert!(!shell.path("out.jsonl").exists());

    let export = ["export", "--out", "out.jsonl", "--yes", "--in-clear"];
    let text = shell.succeeds(&export);
    assert!(text.contains("1 credential in clear") && !text.contains(SECRET), "{text}");
    let metadata = fs::metadata(shell.path("out.jsonl")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let first = fs::read(shell.path("out.jsonl")).unwrap();
    let line = shell.fails(5, &export);
    assert!(line.contains("never overwritten"), "{line}");
    assert_eq!(fs::read(shell.path("out.jsonl")).unwrap(), first);

    // Half an export, or none, leaves no file.
    let none = ["export", "--out", "none.jsonl", "--yes", "--in-clear", "--database", "sqlite:none.db"];
    shell.fails(1, &none);
    assert!(!shell.path("none.jsonl").exists());
}

#[test]
fn an_export_goes_to_no_file_that_others_can_read() {
    let shell = embedded();
    for (mode, code) in [(0o644, 2), (0o640, 2), (0o600, 0)] {
        let path = shell.path(&format!("{mode:o}"));
        let file = File::create(&path).unwrap();
        file.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
        let arguments = ["export", "--yes", "--in-clear"];
        let mut command = shell.command(env!("CARGO_BIN_EXE_credvault"), &arguments);
        let output = command.stdout(file).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{mode:o}");
        assert_eq!(fs::read(&path).unwrap().is_empty(), code == 2, "{mode:o}");
    }
}

#[test]
fn an_export_asks_twice_and_shows_nothing_on_a_terminal() {
    let shell = embedded();
    let (code, shown) = shell.at_a_terminal("export --yes --in-clear", "");
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("--out") && !shown.contains(SECRET), "{shown}");

    for (typed, code) in [("n\n", 5), ("\n", 5), ("y\ny\n", 5), ("y\nin clear\n", 0)] {
        let (ended, shown) = shell.at_a_terminal("export --out typed.jsonl", typed);
        assert_eq!(ended, Some(code), "{typed:?}: {shown}");
        assert_eq!(shell.path("typed.jsonl").exists(), code == 0, "{typed:?}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert_eq!(lines_of(&fs::read_to_string(shell.path("typed.jsonl")).unwrap()).len(), 1);
}

#[test]
fn an_import_of_nothing_stores_nothing_and_of_no_file_fails() {
    let shell = embedded();
    assert_eq!(counts(&shell.json_with(0, &["import"], b"\n \n")), [0, 0, 0, 0]);
    let line = shell.fails(1, &["import", "--in", "nowhere.jsonl"]);
    assert!(line.contains("nowhere.jsonl"), "{line}");
}
