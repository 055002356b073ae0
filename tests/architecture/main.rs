//! The floors of the house: which module may name which, and the one door of each danger.
//!
//! Rules read the code under `src/` without its comments and tests. Each has a test on the tree and one on planted
//! violations, so that a rule which finds nothing is known to look.

mod rules;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path as FilePath;

use scan::{Kind, Path, Token};

/// The modules by floor. Imports point down; on one floor only where [`SIDEWAYS`] says so.
const FLOORS: [(&str, u8); 18] = [
    ("id", 0),
    ("json", 0),
    ("secret", 0),
    ("credential", 0),
    ("clock", 0),
    ("error", 0),
    ("limit", 0),
    ("crypto", 1),
    ("envelope", 1),
    ("provider", 2),
    ("store", 2),
    ("keyring", 3),
    ("rotation", 4),
    ("vault", 5),
    ("bench", 6),
    ("fuzz", 6),
    ("test_util", 6),
    // Documentation only: nothing in the house imports it.
    ("manual", 6),
];

/// Who may import whom on the same floor, besides floor 0, whose modules only must form no circle.
const SIDEWAYS: [(&str, &str); 1] = [("envelope", "crypto")];

/// All that `store` may name: it never sees a key, a plaintext or a credential's fields. A module alone stands for
/// everything in it.
const STORE_MAY_NAME: [&[&str]; 7] = [
    &["id"],
    &["error"],
    &["limit"],
    &["clock"],
    &["credential", "CredentialType"],
    &["credential", "Revision"],
    &["credential", "Summary"],
];

/// The one place of each dangerous name, as the beginning of a path under `src/`.
const DOORS: [(&str, &[&str]); 11] = [
    ("aes_gcm", &["crypto/xaes.rs"]),
    ("anyhow", &["bin/"]),
    ("argon2", &["crypto/kdf.rs"]),
    // Their answers hold master keys in plaintext.
    ("aws_sdk_kms", &["provider/aws_kms/"]),
    ("azure_security_keyvault_keys", &["provider/azure_kv/"]),
    // It loads a foreign library into the process.
    ("cryptoki", &["provider/pkcs11/"]),
    // Its messages hold master keys in plaintext.
    ("google_cloud_kms_v1", &["provider/gcp_kms/"]),
    // What it sends and gets holds master keys and tokens in plaintext.
    ("reqwest", &["provider/vault_transit/server.rs"]),
    // Its choice of cryptography can be the whole process's.
    ("rustls", &["provider/azure_kv/", "provider/gcp_kms/", "provider/vault_transit/"]),
    // The vault's builder takes the caller's pool, and tests get one.
    ("sqlx", &["store/", "store.rs", "test_util/database.rs", "vault/", "vault.rs"]),
    ("unsafe", &["crypto/locked.rs"]),
];

/// How often `unsafe` stands behind its door: who adds one changes this, and has it looked at.
const UNSAFE_COUNT: usize = 11;

/// What a statement begins with. Its only place is `store`.
const SQL: [&str; 10] =
    ["ALTER", "BEGIN", "CREATE", "DELETE", "DROP", "INSERT", "PRAGMA", "SELECT", "UPDATE", "WITH"];

/// Names that say nothing about what stands behind them.
const EMPTY_NAMES: [&str; 8] =
    ["common", "helper", "helpers", "manager", "misc", "util", "utils", "utilities"];

/// Above it, a noun is hiding in the file.
const MAX_LINES: usize = 450;

/// Files that may be longer, with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Values that are compared in constant time, where they are compared at all; also as the end of a name
/// (`stored_commitment`).
const SECRET_CHECKS: [&str; 3] = ["tag", "commitment", "key_check"];

/// The modules that hold such values.
const CONSTANT_TIME: [&str; 4] = ["crypto", "envelope", "keyring", "vault"];

/// A file under `src/`, without its comments and tests.
struct File {
    /// Relative to `src/`, with `/`.
    path: String,
    lines: usize,
    tokens: Vec<Token>,
    imports: Vec<Path>,
}

impl File {
    fn new(path: &str, source: &str, exports: &Exports) -> Self {
        let (tokens, _) = scan::without_tests(&scan::tokens(source));
        let mut imports = scan::paths(&tokens, &module_of(path));
        for import in &mut imports {
            if let [name] = import.segments.as_slice()
                && let Some(origin) = exports.get(name)
            {
                import.segments.clone_from(origin);
            }
        }
        Self { path: path.to_string(), lines: source.lines().count(), tokens, imports }
    }

    /// The library's top-level module that the file belongs to; `None` for `lib.rs` and the command.
    fn top(&self) -> Option<String> {
        if self.path.starts_with("bin/") { None } else { module_of(&self.path).into_iter().next() }
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    fn finding(&self, line: usize, what: &str) -> String {
        format!("src/{}:{line}: {what}", self.path)
    }
}

/// Where the names come from that `lib.rs` exports.
type Exports = BTreeMap<String, Vec<String>>;

fn exports(lib: &str) -> Exports {
    let (tokens, _) = scan::without_tests(&scan::tokens(lib));
    let mut exports = Exports::new();
    for at in (0..tokens.len()).filter(|&at| tokens[at].ident() == Some("use")) {
        for origin in scan::use_tree(&tokens, at + 1) {
            if let Some(name) = origin.last() {
                exports.insert(name.clone(), origin.clone());
            }
        }
    }
    exports
}

/// `store/rows.rs` is the module `["store", "rows"]`.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// Every file under `src/` that users get; modules in files of their own that are compiled for tests only are left out.
fn tree() -> Vec<File> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    read(&root, "", &mut sources);
    let exports = exports(sources.get("lib.rs").expect("src/lib.rs is there"));
    let mut tests = BTreeSet::new();
    for (path, source) in &sources {
        let (_, modules) = scan::without_tests(&scan::tokens(source));
        for name in modules {
            let mut module = module_of(path);
            module.push(name);
            tests.insert(module);
        }
    }
    sources
        .iter()
        .filter(|(path, _)| !tests.iter().any(|test| module_of(path).starts_with(test)))
        .map(|(path, source)| File::new(path, source, &exports))
        .collect()
}

fn read(folder: &FilePath, prefix: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of src/ can be read") {
        let entry = entry.expect("an entry of src/ can be read");
        let name = entry.file_name().into_string().expect("a name in src/ is UTF-8");
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{path}/"), sources);
        } else if FilePath::new(&name).extension().is_some_and(|extension| extension == "rs") {
            sources.insert(path, fs::read_to_string(entry.path()).expect("a source file can be read"));
        }
    }
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Imports point down.
fn imports(file: &File) -> Vec<String> {
    let Some(from) = file.top() else { return Vec::new() };
    let Some(from_floor) = floor(&from) else {
        return vec![file.finding(1, &format!("module {from} has no floor in the table of this test"))];
    };
    let mut findings = Vec::new();
    for import in &file.imports {
        let path = import.segments.join("::");
        let Some(to) = import.segments.first() else {
            findings.push(file.finding(import.line, "names the crate's root"));
            continue;
        };
        if *to == from {
            continue;
        }
        let Some(to_floor) = floor(to) else {
            findings.push(
                file.finding(import.line, &format!("{path} has no floor: name the module it stands in")),
            );
            continue;
        };
        let sideways = from_floor == 0 || SIDEWAYS.contains(&(from.as_str(), to.as_str()));
        if to_floor > from_floor || (to_floor == from_floor && !sideways) {
            let what = format!("{from} (floor {from_floor}) must not import {path} (floor {to_floor})");
            findings.push(file.finding(import.line, &what));
        } else if from == "store"
            && !STORE_MAY_NAME.iter().any(|allowed| starts_with(&import.segments, allowed))
        {
            findings.push(file.finding(import.line, &format!("store must not see {path}")));
        }
    }
    findings
}

fn starts_with(path: &[String], beginning: &[&str]) -> bool {
    path.len() >= beginning.len() && path.iter().zip(beginning).all(|(name, expected)| name == expected)
}

/// The top-level modules that import each other in a circle.
fn circles(files: &[File]) -> BTreeSet<String> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let Some(from) = file.top() else { continue };
        let to = file.imports.iter().filter_map(|import| import.segments.first());
        edges.entry(from.clone()).or_default().extend(to.filter(|to| **to != from).cloned());
    }
    // Modules that import nothing of what is left are in no circle; take them away until none is found.
    loop {
        let left: BTreeSet<String> = edges.keys().cloned().collect();
        edges.retain(|_, to| to.iter().any(|to| left.contains(to)));
        if edges.len() == left.len() {
            return left;
        }
    }
}

/// Each dangerous name has one door.
fn doors(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, token) in file.tokens.iter().enumerate() {
        for (name, places) in DOORS {
            // `argon2` is a fine name for a variable or a field; only the crate has a door.
            let is_path = file.tokens.get(at + 1).is_some_and(|next| next.is("::"))
                || (at > 0 && file.tokens[at - 1].ident() == Some("use"));
            if token.ident() == Some(name) && (name != "argon2" || is_path) && !file.is_under(places) {
                findings
                    .push(file.finding(token.line, &format!("{name} belongs into {}", places.join(", "))));
            }
        }
        if token.text().is_some_and(is_sql) && file.top().as_deref() != Some("store") {
            findings.push(file.finding(token.line, "SQL belongs into store"));
        }
    }
    findings
}

/// As much `unsafe` as was looked at, and not one more.
fn audited(file: &File) -> Vec<String> {
    let count = file.tokens.iter().filter(|token| token.ident() == Some("unsafe")).count();
    let audited = if file.path == "crypto/locked.rs" { UNSAFE_COUNT } else { 0 };
    match count == audited {
        true => Vec::new(),
        false => vec![file.finding(1, &format!("{count} times unsafe, where {audited} were looked at"))],
    }
}

fn is_sql(text: &str) -> bool {
    let text = text.replace("\\n", " ");
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\\');
    SQL.iter().any(|word| {
        text.strip_prefix(word)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || "_-:".contains(c)))
    })
}

/// Files have the names of nouns and a size to read at once.
fn files(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if let Some(name) = file.path.trim_end_matches(".rs").split('/').find(|name| EMPTY_NAMES.contains(name)) {
        findings.push(file.finding(1, &format!("{name} says nothing: name it after the noun in it")));
    }
    if file.lines > MAX_LINES && !LONG_FILES.iter().any(|(path, _)| *path == file.path) {
        findings.push(file.finding(MAX_LINES, &format!("{} lines, more than {MAX_LINES}", file.lines)));
    }
    findings
}

/// Tags, commitments and key checks are compared in constant time, never by `==`, `!=`, `eq` or `ne`.
fn comparisons(file: &File) -> Vec<String> {
    if !file.top().is_some_and(|top| CONSTANT_TIME.contains(&top.as_str())) {
        return Vec::new();
    }
    let tokens = &file.tokens;
    let mut findings = Vec::new();
    for at in 1..tokens.len() {
        let called = matches!(
            tokens[at].ident(),
            Some("eq" | "ne" | "cmp" | "starts_with" | "ends_with" | "contains")
        ) && tokens[at - 1].is(".")
            && tokens.get(at + 1).is_some_and(|next| next.is("("));
        let (left, right) = if tokens[at].is("==") || tokens[at].is("!=") {
            (before(tokens, at), after(tokens, at + 1))
        } else if called {
            (before(tokens, at - 1), after(tokens, at + 2))
        } else if compares_in_a_macro(tokens, at) {
            (after(tokens, at + 3), Vec::new())
        } else {
            continue;
        };
        if [left, right].iter().any(|operand| is_secret_check(operand)) {
            findings
                .push(file.finding(tokens[at].line, "compares a tag, commitment or key check: use ct_eq"));
        }
    }
    findings
}

/// Whether a macro that compares its first argument begins at `at`.
fn compares_in_a_macro(tokens: &[Token], at: usize) -> bool {
    let compares = ["matches", "assert_eq", "assert_ne", "debug_assert_eq", "debug_assert_ne"];
    tokens[at].ident().is_some_and(|name| compares.contains(&name))
        && tokens.get(at + 1).is_some_and(|next| next.is("!"))
        && tokens.get(at + 2).is_some_and(|next| next.is("("))
}

/// Whether an operand's names end in the value of a check; its length, and whether it is there, are no secret.
fn is_secret_check(operand: &[&str]) -> bool {
    let public = matches!(operand.last(), Some(&("len" | "is_empty" | "is_some" | "is_none")));
    !public
        && operand.iter().any(|name| {
            SECRET_CHECKS.iter().any(|check| {
                name.strip_suffix(check).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
            })
        })
}

/// The names of the operand that ends before `end`, in their order.
fn before(tokens: &[Token], end: usize) -> Vec<&str> {
    let mut names = Vec::new();
    let mut at = end;
    while at > 0 {
        at -= 1;
        let token = &tokens[at];
        if let Some(name) = token.ident() {
            names.push(name);
            if at == 0 || !(tokens[at - 1].is(".") || tokens[at - 1].is("::")) {
                break;
            }
        } else if token.is(")") || token.is("]") {
            let Some(open) = scan::opening(tokens, at) else {
                break;
            };
            let is_call = open > 0 && (tokens[open - 1].ident().is_some() || tokens[open - 1].is("]"));
            if !is_call {
                names.extend(tokens[open..at].iter().filter_map(Token::ident));
                break;
            }
            at = open;
        } else if !(token.is(".") || token.is("::") || token.is("?")) {
            break;
        }
    }
    names.reverse();
    names
}

/// The names of the operand that begins at `start`, in their order.
fn after(tokens: &[Token], start: usize) -> Vec<&str> {
    let mut names = Vec::new();
    let mut at = start;
    while tokens.get(at).is_some_and(|token| token.is("&") || token.is("*") || token.ident() == Some("mut")) {
        at += 1;
    }
    let mut expects_name = true;
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Ident(name) if expects_name => {
                names.push(name.as_str());
                expects_name = false;
            }
            Kind::Sign(sign) if matches!(sign.as_str(), "." | "::") => expects_name = true,
            Kind::Sign(sign) if sign == "?" => {}
            Kind::Sign(sign) if matches!(sign.as_str(), "(" | "[") => {
                let close = scan::closing(tokens, at);
                if names.is_empty() {
                    names.extend(tokens[at..close].iter().filter_map(Token::ident));
                }
                at = close;
                expects_name = false;
            }
            _ => break,
        }
        at += 1;
    }
    names
}
