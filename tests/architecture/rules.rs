//! The rules on the tree, and on planted violations.

use super::{
    File, LONG_FILES, MAX_LINES, UNSAFE_COUNT, audited, circles, comparisons, doors, exports, files, imports,
    scan, tree,
};

type Rule = fn(&File) -> Vec<String>;

const LIB: &str =
    "pub use error::{Error, Result}; pub use vault::Vault; pub use credential::{Credential, Revision};";

fn holds(rule: Rule) {
    let findings: Vec<String> = tree().iter().flat_map(rule).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

fn findings(rule: Rule, path: &str, source: &str) -> Vec<String> {
    rule(&File::new(path, source, &exports(LIB)))
}

#[track_caller]
fn refused(rule: Rule, path: &str, source: &str) {
    assert_eq!(findings(rule, path, source).len(), 1, "{path}: {source}");
}

#[track_caller]
fn allowed(rule: Rule, path: &str, source: &str) {
    assert_eq!(findings(rule, path, source), Vec::<String>::new(), "{path}: {source}");
}

#[test]
fn imports_point_down() {
    holds(imports);
}

#[test]
fn a_planted_upward_import_is_found() {
    for (path, source) in [
        ("crypto/key.rs", "use crate::store::Row;"),
        ("crypto/key.rs", "use crate::envelope::seal;"),
        ("crypto/mod.rs", "fn f() { let _ = crate::vault::open(); }"),
        ("provider/key_file.rs", "use crate::store::Store;"),
        ("store/sqlite.rs", "use super::super::provider::ProviderRecord;"),
        ("store/mod.rs", "use super::keyring::Keyring;"),
        ("keyring.rs", "use {std::fmt, crate::rotation::Run};"),
        ("rotation/page.rs", "use crate::{error::Error, vault::Vault};"),
        ("rotation/mod.rs", "use crate::Vault;"),
        ("rotation/mod.rs", "use crate::*;"),
        ("id.rs", "use super::crypto;"),
        ("id.rs", "mod inner { fn f(_: super::super::vault::Vault) {} }"),
        ("vault.rs", "use crate::manual::format;"),
        ("attic.rs", ""),
    ] {
        refused(imports, path, source);
    }
}

#[test]
fn downward_imports_are_allowed() {
    for (path, source) in [
        ("envelope/mod.rs", "use crate::crypto::key::DataKey; use crate::Error;"),
        ("store/rows.rs", "use super::sql::PUT; use crate::store::Row; pub(crate) struct Row;"),
        ("vault/builder.rs", "use crate::{clock::Clock, keyring::{self, Keyring}, provider, store::*};"),
        ("id.rs", "mod inner { use super::*; } pub(in crate::id) fn f() {}"),
        (
            "crypto/key.rs",
            "/// See [`Vault`](crate::vault::Vault).\nconst A: &str = \"crate::vault::Vault\"; // crate::vault::X",
        ),
        ("crypto/key.rs", "#[cfg(test)]\nmod tests { use crate::vault::Vault; }"),
        ("lib.rs", "pub use crate::vault::Vault;"),
        ("bin/credvault/main.rs", "use crate::report; use super::terminal;"),
    ] {
        allowed(imports, path, source);
    }
}

#[test]
fn a_planted_look_of_the_store_at_secrets_is_found() {
    for source in [
        "use crate::crypto::key::DataKey;",
        "use crate::envelope::Header;",
        "use crate::secret::SecretText;",
        "use crate::credential::Credential;",
        "use crate::credential;",
        "use crate::credential::{self, Revision};",
        "use crate::credential::*;",
        "use crate::Credential;",
    ] {
        refused(imports, "store/postgres.rs", source);
    }
    allowed(
        imports,
        "store/rows.rs",
        "use crate::credential::{CredentialType, Revision, Summary}; use crate::Revision;",
    );
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    assert_eq!(circles(&tree()).into_iter().collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_planted_circle_is_found() {
    let planted = [
        ("clock.rs", "use crate::credential::Revision;"),
        ("credential.rs", "use crate::{clock::Timestamp, id::VaultId};"),
        ("id.rs", "use crate::error::Error;"),
        ("error.rs", ""),
    ];
    let files: Vec<File> =
        planted.iter().map(|(path, source)| File::new(path, source, &exports(LIB))).collect();
    assert_eq!(circles(&files).into_iter().collect::<Vec<_>>(), ["clock", "credential"]);
}

#[test]
fn each_danger_has_one_door() {
    holds(doors);
}

#[test]
fn a_planted_second_door_is_found() {
    for (path, source) in [
        ("envelope/legacy.rs", "use aes_gcm::Aes256Gcm;"),
        ("provider/passphrase.rs", "fn f() { argon2::Argon2::default(); }"),
        ("provider/passphrase.rs", "use argon2;"),
        ("secret.rs", "fn f() { unsafe { g() } }"),
        ("crypto/locked_map.rs", "unsafe impl Send for X {}"),
        ("crypto/memory.rs", "fn f() { unsafe { g() } }"),
        ("error.rs", "impl From<sqlx::Error> for Error {}"),
        ("bin/credvault/main.rs", "type Pool = sqlx::PgPool;"),
        ("vault.rs", "const A: &str = \"SELECT id\";"),
        ("bin/credvault/demo.rs", "const A: &[u8] = br#\"\n    UPDATE x\"#;"),
        ("rotation/mod.rs", r#"fn f() { query("\n  WITH a AS"); }"#),
        ("rotation/mod.rs", "const A: &str = \"BEGIN\";"),
        ("keyring.rs", "use anyhow::Context;"),
    ] {
        refused(doors, path, source);
    }
}

#[test]
fn the_doors_themselves_are_open() {
    for (path, source) in [
        ("crypto/xaes.rs", "use aes_gcm::Aes256Gcm;"),
        ("crypto/kdf.rs", "use argon2::Argon2;"),
        ("crypto/locked.rs", "fn f() { unsafe { g() } }"),
        ("store/sqlite.rs", "use sqlx::SqlitePool; const A: &str = \"SELECT id\";"),
        ("vault.rs", "fn f(pool: sqlx::PgPool) {}"),
        ("bin/credvault/main.rs", "use anyhow::Context;"),
        ("provider/passphrase.rs", "fn f(argon2: Parameters) {}"),
        (
            "lib.rs",
            "#![deny(unsafe_code)] // unsafe, aes_gcm\nconst A: &str = \"-----BEGIN\"; const B: &str = \"SELECTED\";",
        ),
        ("keyring.rs", "#[cfg(test)]\nfn f() -> anyhow::Result<()> { sqlx::query(\"SELECT 1\") }"),
    ] {
        allowed(doors, path, source);
    }
}

#[test]
fn unsafe_is_as_much_as_was_looked_at() {
    holds(audited);
}

#[test]
fn a_planted_unsafe_is_counted() {
    let counted = "unsafe { g() }; ".repeat(UNSAFE_COUNT);
    allowed(audited, "crypto/locked.rs", &format!("fn f() {{ {counted} }}"));
    refused(audited, "crypto/locked.rs", &format!("fn f() {{ {counted} unsafe {{ g() }} }}"));
    refused(audited, "crypto/locked.rs", "");
    refused(audited, "crypto/memory.rs", "unsafe impl Send for X {}");
    allowed(audited, "crypto/memory.rs", "// unsafe\n#[cfg(test)] mod tests { unsafe fn f() {} }");
}

#[test]
fn files_are_nouns_of_a_size_to_read() {
    holds(files);
    for (path, reason) in LONG_FILES {
        let is_long = tree().iter().any(|file| file.path == path && file.lines > MAX_LINES);
        assert!(is_long && !reason.is_empty(), "{path} needs no exception, or has no reason");
    }
}

#[test]
fn a_planted_empty_name_and_a_long_file_are_found() {
    refused(files, "store/helpers.rs", "");
    refused(files, "utils/text.rs", "");
    refused(files, "id.rs", &"\n".repeat(MAX_LINES + 1));
    allowed(files, "id.rs", &"\n".repeat(MAX_LINES));
}

#[test]
fn checks_are_compared_in_constant_time() {
    holds(comparisons);
}

#[test]
fn a_planted_comparison_by_value_is_found() {
    for source in [
        "fn f() { self.tag == other }",
        "fn f() { if computed != header.commitment() {} }",
        "fn f() { stored.key_check.as_bytes() == &expected[..] }",
        "fn f() { a && *key_check == b }",
        "fn f() { x == (stored_commitment) }",
        "fn f() { key.key_check(vault, id)? != &record.check }",
        "fn f() { x.eq(&self.tag) }",
        "fn f() { expected_tag.ne(x) }",
        "fn f() { computed.starts_with(&self.commitment) }",
        "fn f() { stored.key_check.ends_with(x) }",
        "fn f() { tag.cmp(x).is_eq() }",
        "fn f() { matches!(header.tag(), [0, ..]) }",
        "fn f() { assert_eq!(stored_commitment, x) }",
    ] {
        for path in ["crypto/mac.rs", "envelope/open.rs", "keyring.rs", "vault.rs"] {
            refused(comparisons, path, source);
        }
    }
}

#[test]
fn other_comparisons_are_allowed() {
    for source in [
        "fn f() { commitment.len() == 32 }",
        "fn f() { matches!(error.kind(), Kind::A) && stored.starts_with(text::PREFIX) }",
        "fn f() { self.tag.ct_eq(&other.tag).into() }",
        "fn f() { stage == other.percentage }",
        "fn f() { check(commitment) && id == key.id() }",
        "#[cfg(test)] mod tests { fn f() { assert!(self.tag == other) } }",
    ] {
        allowed(comparisons, "envelope/open.rs", source);
    }
    allowed(comparisons, "bin/credvault/main.rs", "fn f() { tag == \"x\" }");
}

#[test]
fn the_scanner_is_not_misled() {
    let source = "/* /* unsafe */ unsafe */ fn f<'a>(x: &'a str) -> char { '\"' } // \"\nlet r#type = '\\'';\nlet s = r##\"a\"# unsafe\"##;";
    let names: Vec<String> =
        scan::tokens(source).iter().filter_map(|token| token.ident().map(String::from)).collect();
    assert_eq!(names, ["fn", "f", "x", "str", "char", "let", "type", "let", "s"]);
    assert_eq!(scan::tokens(source).last().map(|token| token.line), Some(3));
}

#[test]
fn only_test_code_is_left_out() {
    for kept in [
        "#[cfg(feature = \"test-util\")] unsafe fn f() {}",
        "#[cfg(any(test, feature = \"test-util\"))] unsafe fn f() {}",
        "#[cfg(not(test))] unsafe fn f() {}",
        "#[cfg(test)] mod tests { fn f() {} } unsafe fn f() {}",
        "#[cfg(test)] use a::{b, c}; unsafe fn f() {}",
        "struct S { #[cfg(test)] a: Map<u8, u8>, b: u8 } unsafe fn f() {}",
    ] {
        refused(doors, "id.rs", kept);
    }
    for left_out in [
        "#![cfg(test)] unsafe fn f() {}",
        "#[cfg(test)] #[allow(unsafe_code)] unsafe fn f<A, B>() {}",
        "#[cfg(all(test, unix))] mod tests { unsafe fn f() {} }",
    ] {
        allowed(doors, "id.rs", left_out);
    }
    let (_, modules) = scan::without_tests(&scan::tokens("#[cfg(test)] pub(crate) mod tests; mod open;"));
    assert_eq!(modules, ["tests"]);
}
