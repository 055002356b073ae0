//! Credentials: stored, shown, listed, deleted.

use serde_json::json;
use uuid::Uuid;

use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell};

async fn a_token_comes_back_only_when_asked_for(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organization = Uuid::new_v4().to_string();
    let by_connector = ["--organization", &organization, "--connector", "github"];
    let with = |command: &[&'static str]| {
        let mut arguments: Vec<String> = command.iter().map(|text| (*text).to_owned()).collect();
        arguments.splice(1..1, by_connector.iter().map(|text| (*text).to_owned()));
        arguments
    };
    let run = |command: &[&'static str], input: &str| {
        let arguments = with(command);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        shell.run_with(&arguments, input.as_bytes())
    };

    // Without --create there has to be an integration.
    let done = run(&["put", "--field", "access_token"], SECRET);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("--create") && !done.stderr.contains(SECRET), "{done:?}");

    // The name of a variable that is not set.
    let done = run(&["put", "--create", "--field", ""], SECRET);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("--field"), "{done:?}");

    // One newline at the end is dropped.
    let done = run(&["put", "--create", "--field", "access_token"], &format!("{SECRET}\n"));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!done.stdout.contains(SECRET));

    let masked = run(&["get"], "");
    assert!(
        masked.stdout.contains("access_token: ********") && !masked.stdout.contains(SECRET),
        "{masked:?}"
    );
    assert!(!run(&["get", "--output", "json"], "").stdout.contains(SECRET));
    assert!(run(&["get", "--reveal"], "").stdout.contains(SECRET));
    assert_eq!(run(&["get", "--field", "access_token"], "").stdout, SECRET);
    let done = run(&["get", "--field", "refresh_token"], "");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("\"refresh_token\""), "{done:?}");

    // What is put replaces all that was there.
    assert_eq!(run(&["put"], r#"{"refresh_token": "r"}"#).code, 0);
    assert_eq!(run(&["get", "--field", "access_token"], "").code, 1);

    assert_eq!(run(&["delete"], "").code, 0);
    for command in [&["delete"][..], &["get"]] {
        let done = run(command, "");
        assert_eq!(done.code, 1);
        assert!(done.stderr.contains(&organization) && done.stderr.contains("no credential"), "{done:?}");
    }
}

async fn json_goes_in_and_comes_out(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, _) = shell.put_token();
    let here = ["--organization", &organization, "--connector", "gcp"];
    let put = [
        &["put"][..],
        &here,
        &["--create", "--type", "service_account", "--expires-at", "2031-05-06T07:08:09.123456+02:00"],
    ]
    .concat();
    let fields = json!({ "private_key": "-----KEY-----\n\tü\"\\🔑\n", "empty": "", "a\tb": "c" });
    let stored = shell.json_with(0, &put, fields.to_string().as_bytes());
    assert_eq!(stored["credential_type"], "service_account");
    assert_eq!(stored["fields"], json!(["a\tb", "empty", "private_key"]));

    let get = [&["get"][..], &here].concat();
    let read = shell.json(0, &[&get[..], &["--reveal"]].concat());
    assert_eq!(read["fields"], fields);
    assert_eq!(read["expires_at"], "2031-05-06T05:08:09.123456Z");
    for same in ["organization_id", "integration_id", "credential_type", "revision", "expires_at"] {
        assert_eq!(read[same], stored[same], "{same}");
    }
    let masked = json!({ "private_key": null, "empty": null, "a\tb": null });
    assert_eq!(shell.json(0, &get)["fields"], masked);
    let one = shell.json(0, &[&get[..], &["--field", "private_key"]].concat());
    assert_eq!(one["fields"]["private_key"], fields["private_key"]);
    assert_eq!(one["fields"]["empty"], json!(null));
    let value = shell.succeeds(&[&get[..], &["--field", "private_key"]].concat());
    assert_eq!(value, fields["private_key"].as_str().unwrap(), "to the byte");
    // A name or value can't steer the terminal that it is shown on.
    assert!(shell.succeeds(&get).contains("a\\tb: "));
}

async fn a_list_shows_what_an_organization_has_and_no_value(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, github) = shell.put_token();
    let slack = shell.put_token_of(&organization, "slack");
    shell.put_token();

    let text = shell.succeeds(&["list", "--organization", &organization]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains(&github) && text.contains(&slack) && !text.contains(SECRET), "{text}");
    let document = shell.json(0, &["list", "--organization", &organization]);
    let listed = document["credentials"].as_array().unwrap();
    assert_eq!(
        listed.iter().map(|credential| &credential["connector"]).collect::<Vec<_>>(),
        ["github", "slack"]
    );
    assert_eq!(listed[1]["integration_id"], slack.as_str());
    assert_eq!(listed[1]["expires_at"], json!(null));

    let nobody = Uuid::new_v4().to_string();
    assert!(shell.succeeds(&["list", "--organization", &nobody]).contains("no credentials"));
    assert_eq!(shell.json(0, &["list", "--organization", &nobody])["credentials"], json!([]));
    // Nor can anybody else get at it.
    let line = shell.fails(1, &["get", "--organization", &nobody, "--integration", &github, "--reveal"]);
    assert!(line.contains("has no credential"), "{line}");
}

async fn bad_input_stores_nothing_and_is_not_repeated(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organization = Uuid::new_v4().to_string();
    let put = ["put", "--organization", &organization, "--connector", "github", "--create"];
    let too_large = format!(r#"{{"access_token": "{}"}}"#, "x".repeat(1024 * 1024));
    let too_large_for_the_vault = format!(r#"{{"access_token": "{}"}}"#, "x".repeat(900_000));
    let inputs: [(&[u8], &str); 10] = [
        (b"", "no JSON object"),
        (SECRET.as_bytes(), "no JSON object"),
        (b"{}", "no fields"),
        (br#"{"access_token": "ghp_Marker", "port": 8080}"#, "\"port\" is not a string"),
        (br#"{"access_token": {"ghp_Marker": "ghp_Marker"}}"#, "\"access_token\" is not a string"),
        (br#"{"access_token": "ghp_Marker", "access_token": "x"}"#, "\"access_token\" is there twice"),
        (br#"{"access_token": "ghp_Marker"} x"#, "follows"),
        (b"{\"access_token\": \"ghp_Marker\xff\"}", "not UTF-8"),
        (too_large.as_bytes(), "more than 1048576 bytes"),
        (too_large_for_the_vault.as_bytes(), "bytes"),
    ];
    for (input, why) in inputs {
        let line = shell.fails_with(2, &put, input);
        assert!(line.contains(why), "{why}: {line}");
        assert!(!line.contains("ghp_Marker") && line.len() < 400, "{line}");
    }
    let field = [&put[..], &["--field", "access_token"]].concat();
    for (input, why) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"ghp_Marker\xff", "not UTF-8"),
        (too_large.as_bytes(), "more than 1048576 bytes"),
    ] {
        let line = shell.fails_with(2, &field, input);
        assert!(line.contains(why) && !line.contains("ghp_Marker"), "{line}");
    }
    assert_eq!(shell.json(0, &["list", "--organization", &organization])["credentials"], json!([]));
}

async fn an_organization_with_a_key_of_its_own_has_all_under_it_after_a_rotation(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let (organization, integration) = shell.put_token();
    let key = shell.json(0, &["keys", "create", "--organization", &organization]);
    assert_eq!(key["organization_id"], organization.as_str());
    let status = shell.json(3, &["status", "--count"]);
    assert_eq!((&status["stale_rows"], &status["counting"]), (&json!(1), &json!("exact")));
    assert!(shell.run(&["status", "--count"]).stdout.contains("credvault rotate"));
    // By its key alone the row looks current.
    assert_eq!(shell.json(0, &["status"])["counting"], "estimate");

    assert_eq!(shell.json(0, &["rotate"])["re_encrypted"], 1);
    let listed = shell.json(0, &["list", "--organization", &organization]);
    assert_eq!(listed["credentials"][0]["data_key_id"], key["data_key_id"]);
    assert_eq!(shell.token(&organization, &integration), SECRET);
    let keys = shell.json(0, &["keys", "list"]);
    let keys = keys["data_keys"].as_array().unwrap();
    let own = keys.iter().find(|own| own["data_key_id"] == key["data_key_id"]).unwrap();
    assert_eq!((&own["state"], &own["rows"]), (&json!("active"), &json!(1)));
    let text = shell.succeeds(&["keys", "list"]);
    assert!(text.contains(&organization) && !text.contains("v1"), "no legacy key was adopted: {text}");
    shell.json(0, &["status"]);
}

on_both_stores!(
    a_token_comes_back_only_when_asked_for,
    json_goes_in_and_comes_out,
    a_list_shows_what_an_organization_has_and_no_value,
    bad_input_stores_nothing_and_is_not_repeated,
    an_organization_with_a_key_of_its_own_has_all_under_it_after_a_rotation,
);
