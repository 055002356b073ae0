//! What holds for any input of any parser.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::Parser;
use crate::credential::CredentialLine;
use crate::provider::MAX_KEY_FILE_BYTES;

/// How long a call may take, in a build without optimization on a machine that does much else.
const LONGEST: Duration = Duration::from_secs(1);

/// How much memory a call may take beside its input, in bytes: many people's requests are served at once.
const MOST_BYTES: u64 = 64 << 20;

/// Characters that mean something to one of them, whole and halved.
const WORDS: [&str; 33] = [
    "+",
    "0",
    "\u{1}",
    "cv1.",
    "cvmk1_",
    "=",
    "==",
    "A",
    "\0",
    "\r\n",
    "#",
    "\u{feff}",
    "é",
    "\u{10ffff}",
    "$",
    ",p=",
    "m=0",
    "-1",
    "99999999999999999999",
    "%",
    "%00",
    "%zz",
    "?",
    "&options[",
    "]",
    "://",
    "@",
    "\"",
    "\\",
    "\\ud800",
    "{",
    "null",
    ":memory:",
];

/// A change of an input: bytes go, a word comes in their place.
fn change() -> impl Strategy<Value = (Index, usize, Vec<u8>)> {
    let word =
        prop_oneof![select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()), vec(any::<u8>(), 0..3),];
    (any::<Index>(), 0_usize..4, word)
}

fn changed(mut input: Vec<u8>, changes: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    for (at, gone, word) in changes {
        let at = at.index(input.len() + 1);
        let end = (at + gone).min(input.len());
        input.splice(at..end, word.iter().copied());
    }
    input
}

/// That what is written again of an input that is taken is the same thing.
fn check(parser: Parser, input: &[u8]) -> Result<bool, TestCaseError> {
    let began = Instant::now();
    let again = parser.again(input);
    prop_assert!(began.elapsed() < LONGEST, "{parser:?} took {:?}", began.elapsed());
    let Ok(again) = again else { return Ok(false) };
    if parser.has_one_form() {
        prop_assert_eq!(&again[..], input, "{:?}", parser);
    }
    prop_assert_eq!(parser.again(&again).ok(), Some(again), "{:?}", parser);
    Ok(true)
}

#[test]
fn each_parser_takes_some_of_its_seeds_and_writes_them_as_they_were() {
    for parser in Parser::ALL {
        let seeds = parser.seeds();
        let taken = seeds.iter().filter(|seed| check(parser, seed).unwrap()).count();
        assert!(taken > 0, "{parser:?} takes none of {} seeds", seeds.len());
    }
}

proptest! {
    // Ten parsers share them.
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_a_parser_takes_it_writes_again_the_same(
        parser in select(&Parser::ALL[..]),
        seed in any::<Index>(),
        changes in vec(change(), 1..4),
        noise in vec(any::<u8>(), 0..200),
        text in any::<String>(),
    ) {
        let seeds = parser.seeds();
        let seed = seeds[seed.index(seeds.len())].clone();
        for input in [changed(seed, &changes), noise, text.into_bytes()] {
            check(parser, &input)?;
        }
    }
}

/// The largest inputs, and those with the most parts: what a line of an import may have, or a MiB where nothing but the
/// parser itself bounds it.
fn largest(parser: Parser) -> Vec<Vec<u8>> {
    const MIB: usize = 1 << 20;
    let filled = |begin: &str, part: &str, bytes: usize| {
        let parts = (bytes - begin.len()) / part.len();
        format!("{begin}{}", part.repeat(parts)).into_bytes()
    };
    let members = |begin: &str, bytes: usize, end: &str| {
        let mut text = begin.to_owned();
        for number in 0.. {
            let member = format!("{}\"{number:x}\":\"\"", if number > 0 { "," } else { "" });
            if text.len() + member.len() + end.len() > bytes {
                break;
            }
            text += &member;
        }
        (text + end).into_bytes()
    };
    let line =
        r#"{"organization_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","connector":"a","credential_type":"a","#;
    match parser {
        Parser::Row | Parser::WrappedKey => {
            let begin = if parser == Parser::Row { "cv1.AQEBA" } else { "cv1.AQICA" };
            vec![filled(begin, "A", MIB), filled(begin, "A", MIB - 1), filled(begin, "A", 16 * MIB)]
        }
        Parser::LegacyRow => vec![filled("", "AAAA", MIB), filled("", "AAAA", 16 * MIB)],
        // A head, then as many fields of no name and no value as fit; only the first can be taken.
        Parser::Payload => {
            let mut many = vec![0; 770_048];
            many[..12].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            let mut fields = many[..12].to_vec();
            for number in 0..65_535_u32 {
                fields.extend_from_slice(&[0, 4]);
                fields.extend_from_slice(format!("{number:04x}").as_bytes());
                fields.extend_from_slice(&[0, 0, 0, 0]);
            }
            fields.resize(crate::envelope::canonical::padded_bytes(fields.len()), 0);
            vec![many, fields, vec![1; 16 * MIB]]
        }
        Parser::KeyFile => {
            let line = String::from_utf8(parser.seeds()[1].clone()).unwrap() + "\n";
            vec![filled("", &line, MAX_KEY_FILE_BYTES), filled("", "\n", MAX_KEY_FILE_BYTES)]
        }
        Parser::PassphraseRecord => vec![filled("argon2id$v=19$", "$", MIB), filled("", "A", 65_536)],
        Parser::MasterKeySpec => vec![filled("file:", "a", MIB), filled("env:", "a", MIB)],
        Parser::DatabaseUrl => vec![
            filled("postgres://a/b?", "options[a]=b&", MIB),
            filled("postgres://", "%41", MIB),
            filled("sqlite:a?", "mode=rwc&", MIB),
            filled("sqlite:", "a/", MIB),
        ],
        Parser::JsonObject => {
            vec![members("{", MIB, "}"), filled("{\"a\":\"", "\\u0000", MIB), filled("", "{\"a\":", MIB)]
        }
        Parser::CredentialLine => vec![
            members(&format!("{line}\"fields\":{{"), CredentialLine::MAX_BYTES, "}}"),
            members("{", CredentialLine::MAX_BYTES, "}"),
            filled(&format!("{line}\"fields\":{{\"a\":\""), "\\u0000", CredentialLine::MAX_BYTES),
            filled("", "{\"fields\":", CredentialLine::MAX_BYTES),
        ],
    }
}

/// A number of kB that Linux tells of this process.
#[cfg(target_os = "linux")]
fn kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
}

/// Each call has a process of its own, since a process's peak never falls.
#[cfg(target_os = "linux")]
#[test]
fn no_input_takes_a_parser_a_second_or_64_mib() {
    const CASE: &str = "CREDVAULT_TEST_LARGEST_INPUT";
    const NAME: &str = "fuzz::properties::no_input_takes_a_parser_a_second_or_64_mib";
    let cases =
        Parser::ALL.into_iter().flat_map(|parser| largest(parser).into_iter().map(move |it| (parser, it)));
    if let Ok(case) = std::env::var(CASE) {
        let (parser, input) = cases.into_iter().nth(case.parse().unwrap()).unwrap();
        let _ = parser.again(&parser.seeds()[0]);
        // Forgets the peak of making the inputs.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (before, began) = (kib("VmRSS"), Instant::now());
        let taken = parser.again(&input).map(|again| again.len());
        let (took, bytes) = (began.elapsed(), (kib("VmHWM").saturating_sub(before)) << 10);
        println!("{parser:?} case {case}, {} bytes: {took:?}, {bytes} bytes, {taken:?}", input.len());
        assert!(took < LONGEST, "{parser:?}: {} bytes took {took:?}", input.len());
        assert!(bytes < MOST_BYTES, "{parser:?}: {} bytes took {bytes} bytes", input.len());
        return;
    }
    for case in 0..cases.count() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(CASE, case.to_string())
            // What was freed before the call must not serve it unseen.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .env("MALLOC_TRIM_THRESHOLD_", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{}", said.lines().find(|line| line.contains(" case ")).unwrap_or_default());
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}
