//! Hostile input to the command: it comes back to the byte, or is refused on one line that does not repeat it, and no name
//! that a tenant chose steers a terminal.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::common::hostile::{TEXTS, steers};
use crate::common::{self, TestDatabase, on_both_stores};
use crate::shell::{SECRET, Shell};

on_both_stores!(
    no_name_steers_the_terminal_that_it_is_shown_on,
    any_text_in_json_comes_back_to_the_byte,
    json_that_is_none_is_refused_and_not_repeated,
);

/// That a terminal shows what is printed, and nothing else.
fn assert_plain(what: &str, printed: &str) {
    let found: Vec<char> = printed.chars().filter(|&c| steers(c)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {printed:?}");
}

async fn no_name_steers_the_terminal_that_it_is_shown_on(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organization = Uuid::new_v4().to_string();
    let other = Uuid::new_v4().to_string();
    let mut kept = Vec::new();
    // No argument holds a NUL.
    for (what, text) in TEXTS.iter().filter(|(_, text)| !text.contains('\0')) {
        let connector = format!("--connector={text}");
        let at = ["--organization", &organization, &connector];
        let (kind, field) = (format!("--type={text}"), format!("--field={text}"));
        let expiry = ["--expires-at", "2031-05-06T07:08:09Z", "--create"];
        let put = shell.run_with(&[&["put"], &at[..], &expiry, &[&kind, &field]].concat(), SECRET.as_bytes());
        assert_plain(what, &(put.stdout + &put.stderr));
        assert!(!put.stderr.contains(SECRET), "{what}");
        if put.code != 0 {
            assert!(text.is_empty() || text.chars().any(char::is_control), "{what}: {}", put.stderr);
            assert!(text.is_empty() || !put.stderr.contains(text), "{what}: {}", put.stderr);
            assert_eq!(put.code, 2, "{what}");
            continue;
        }
        kept.push(*text);
        let read = shell.json(0, &[&["get"], &at[..], &["--reveal"]].concat());
        assert_eq!(
            (&read["credential_type"], &read["fields"]),
            (&json!(text), &json!({ *text: SECRET })),
            "{what}"
        );
        for command in ["get", "describe"] {
            assert_plain(what, &shell.succeeds(&[&[command], &at[..]].concat()));
        }
        // Errors name it.
        let nobody = ["--organization", &other, &connector];
        assert_plain(what, &shell.fails(1, &[&["get"], &nobody[..]].concat()));
        let field = format!("--field=no{text}");
        assert_plain(what, &shell.fails(1, &[&["get"], &at[..], &[&field]].concat()));
    }
    assert!(kept.len() > 15);
    let listed = shell.json(0, &["list", "--organization", &organization]);
    let mut connectors: Vec<&str> = listed["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["connector"].as_str().unwrap())
        .collect();
    connectors.sort_unstable();
    kept.sort_unstable();
    assert_eq!(connectors, kept);
    for command in [
        &["list", "--organization", &organization][..],
        &["expiring", "--before", "2032-01-01T00:00:00Z"],
        &["verify"],
        &["status"],
        &["keys", "list"],
    ] {
        assert_plain(command[0], &shell.succeeds(command));
    }
    let key = listed["credentials"][0]["data_key_id"].as_str().unwrap();
    let done = shell.run(&["keys", "compromise", key]);
    assert!(done.stdout.contains("github") || done.stdout.contains("\\u{202e}"), "{done:?}");
    assert_plain("keys compromise", &done.stdout);
}

async fn any_text_in_json_comes_back_to_the_byte(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organization = Uuid::new_v4().to_string();
    let at = ["--organization", &organization, "--connector", "github"];
    let put = [&["put"], &at[..], &["--create"]].concat();
    let get = [&["get"], &at[..], &["--reveal"]].concat();

    let texts: Map<String, Value> = TEXTS.iter().map(|(_, text)| ((*text).to_owned(), json!(text))).collect();
    let many: Map<String, Value> =
        (0..10_000).map(|number| (format!("field {number}"), json!(number.to_string()))).collect();
    for fields in [texts, many].map(Value::Object) {
        // Escaped and not, lines ended as on Windows.
        let spaced = serde_json::to_string_pretty(&fields).unwrap().replace('\n', "\r\n");
        for input in [fields.to_string(), spaced] {
            shell.json_with(0, &put, input.as_bytes());
            assert_eq!(shell.json(0, &get)["fields"], fields);
        }
        assert_plain("get", &shell.succeeds(&[&["get"], &at[..]].concat()));
        // Lines and tabs of a value are its own.
        assert_plain("get --reveal", &shell.succeeds(&get).replace('\t', ""));
        // A field by itself is given as it is, for pipes.
        for (name, value) in fields
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !name.is_empty() && !name.contains('\0'))
            .take(10)
        {
            let field = format!("--field={name}");
            assert_eq!(
                shell.succeeds(&[&["get"], &at[..], &[&field]].concat()),
                value.as_str().unwrap(),
                "{name:?}"
            );
        }
    }
    // Only the end of a value that is typed is not its own.
    let field = [&put[..], &["--field", "token"]].concat();
    for (typed, kept) in [
        ("a\r\nb\r\n", "a\r\nb"),
        ("\u{feff}a\n", "\u{feff}a"),
        ("a\0b", "a\0b"),
        (" \n\n", " \n"),
        ("a\r", "a\r"),
    ] {
        assert_eq!(shell.run_with(&field, typed.as_bytes()).code, 0);
        assert_eq!(shell.json(0, &get)["fields"]["token"], kept);
    }
}

async fn json_that_is_none_is_refused_and_not_repeated(database: TestDatabase) {
    let shell = Shell::with_vault(&database);
    let organization = Uuid::new_v4().to_string();
    let put = ["put", "--organization", &organization, "--connector", "github", "--create"];
    let deep = "{\"ghp_Marker\":".repeat(100_000);
    let deep_list = format!("{{\"a\":{}", "[\"ghp_Marker\",".repeat(50_000));
    let many = (0..70_000).map(|number| format!("\"{number}\":\"\"")).collect::<Vec<_>>().join(",");
    let many = format!("{{\"a\":\"ghp_Marker\",{many}}}");
    let inputs: [&[u8]; 20] = [
        br#"{"a":"ghp_Marker\udc00"}"#,
        br#"{"a":"ghp_Marker\ud800"}"#,
        br#"{"a":"ghp_Marker\udc00\ud800"}"#,
        br#"{"a\ud800":"ghp_Marker"}"#,
        b"{\"a\":\"ghp_Marker\xed\xa0\x80\"}",
        br#"{"a":"ghp_Marker","\u0061":"x"}"#,
        br#"{"a":"ghp_Marker","b":123456789012345678901234567890e99999}"#,
        br#"{"a":"ghp_Marker","b":-0}"#,
        br#"{"a":"ghp_Marker","b":NaN}"#,
        br#"["ghp_Marker"]"#,
        b"\"ghp_Marker\"",
        b"\xef\xbb\xbf{\"a\":\"ghp_Marker\"}",
        b"\xff\xfe{\0\"\0a\0\"\0:\0\"\0g\0h\0p\0\"\0}\0",
        b"{\"a\":\"ghp_Marker\n\"}",
        b"{\"a\":\"ghp_Marker\"}\0",
        b"{\"a\":\"ghp_Marker\x1b[2J\"}",
        b"\r\n",
        deep.as_bytes(),
        deep_list.as_bytes(),
        many.as_bytes(),
    ];
    for input in inputs {
        let shown = String::from_utf8_lossy(&input[..input.len().min(60)]);
        let line = shell.fails_with(2, &put, input);
        assert!(!line.contains("ghp_Marker\\") && line.len() < 400, "{shown}: {line}");
        // The name of a field that holds no string is no secret.
        assert!(!line.contains("ghp_Marker") || input.starts_with(b"{\"ghp_Marker\""), "{shown}: {line}");
        assert_plain(&shown, &line);
    }
    assert_eq!(shell.json(0, &["list", "--organization", &organization])["credentials"], json!([]));
}

/// What the command says when standard input never ends, with a GiB to live in.
fn endless(shell: &Shell, arguments: &str) -> Output {
    let script = format!("ulimit -v 1048576; exec {} {arguments}", env!("CARGO_BIN_EXE_credvault"));
    let mut command = shell.command("/bin/sh", &["-c", &script]);
    command.stdin(File::open("/dev/zero").unwrap()).output().unwrap()
}

#[test]
fn input_without_an_end_is_refused_before_it_takes_memory() {
    let shell = Shell::new().with("CREDVAULT_MASTER_KEY", "file:master.key");
    shell.succeeds(&["master-key", "generate", "--out", "master.key"]);
    shell.succeeds(&["init"]);
    let put = format!("put --create --organization {} --connector github", Uuid::new_v4());
    for arguments in [put.clone(), format!("{put} --field token")] {
        let output = endless(&shell, &arguments);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains("more than 1048576 bytes") && line.lines().count() == 1, "{line}");
    }
    // Nor a file.
    for spec in ["file:/dev/zero", "passphrase:file:/dev/zero"] {
        let line = Shell::new().fails(1, &["init", "--master-key", spec]);
        assert!(line.contains("/dev/zero"), "{line}");
    }
}

#[test]
fn what_is_not_utf_8_is_refused_on_one_line_and_not_repeated() {
    let shell = Shell::new();
    let bad = OsStr::from_bytes(b"ghp_Marker\xff\x1b[2J");
    let mut runs = Vec::new();
    for arguments in
        [&[][..], &["get"], &["put", "--field"], &["list", "--organization"], &["status", "--database"]]
    {
        let mut command = shell.command(env!("CARGO_BIN_EXE_credvault"), arguments);
        command.arg(bad);
        runs.push(command);
    }
    for name in ["CREDVAULT_DATABASE", "DATABASE_URL", "CREDVAULT_MASTER_KEY", "CREDVAULT_LOG"] {
        let mut command = shell.command(env!("CARGO_BIN_EXE_credvault"), &["status"]);
        command.env(name, bad);
        runs.push(command);
    }
    for mut command in runs {
        let output = command.output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {line}");
        assert!(line.starts_with("credvault: ") && line.lines().count() == 1, "{line}");
        assert!(!line.contains("ghp_Marker") && output.stdout.is_empty(), "{line}");
        assert_plain("an argument", &line);
    }
}
