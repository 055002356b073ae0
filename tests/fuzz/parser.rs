//! One parser, named by `CREDVAULT_FUZZ_PARSER`, on whatever the fuzzer makes of its seeds.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use credvault::fuzz::Parser;
use libfuzzer_sys::fuzz_target;

static PARSER: LazyLock<Parser> = LazyLock::new(|| {
    let name = std::env::var("CREDVAULT_FUZZ_PARSER").unwrap_or_default();
    let named = Parser::ALL.into_iter().find(|parser| format!("{parser:?}") == name);
    named.unwrap_or_else(|| panic!("CREDVAULT_FUZZ_PARSER is one of {:?}", Parser::ALL))
});

fuzz_target!(
    // Before the fuzzer reads its folder of inputs.
    init: {
        if let Some(folder) = std::env::var_os("CREDVAULT_FUZZ_SEEDS").map(PathBuf::from) {
            for (number, seed) in PARSER.seeds().iter().enumerate() {
                std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
            }
        }
    },
    |input: &[u8]| {
        let Ok(again) = PARSER.again(input) else { return };
        if PARSER.has_one_form() {
            assert_eq!(again, input);
        }
        assert_eq!(PARSER.again(&again).ok().as_ref(), Some(&again));
    }
);
