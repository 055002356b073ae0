//! How a passphrase becomes a key: the salt and parameters that its provider record holds.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Argon2Parameters, ProviderRecord};
use crate::error::{Error, ErrorKind, Result};

/// The salt, in bytes: what RFC 9106, section 3.1, recommends.
const SALT_BYTES: usize = 16;

/// How a key is derived: what the record says.
pub(super) struct Recipe {
    pub(super) parameters: Argon2Parameters,
    pub(super) salt: [u8; SALT_BYTES],
}

impl Recipe {
    pub(super) fn draw(parameters: Argon2Parameters) -> Result<Self> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| {
            Error::new(ErrorKind::Provider, "the operating system's random generator failed")
                .with_source(error)
        })?;
        Ok(Self { parameters, salt })
    }

    pub(super) fn to_record(&self) -> Result<ProviderRecord> {
        ProviderRecord::new(format!(
            "argon2id$v=19$m={},t={},p={}${}",
            self.parameters.memory_kib(),
            self.parameters.passes(),
            self.parameters.lanes(),
            URL_SAFE_NO_PAD.encode(self.salt)
        ))
    }

    /// Reads a record, in the one form that [`to_record`](Self::to_record) writes.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another algorithm or version. `Refused` for parameters that [`Argon2Parameters`]
    /// refuses: whoever lowered or raised them in the database wants a weak key, or this process's memory.
    /// `Malformed` for anything else.
    pub(super) fn of_record(record: &ProviderRecord) -> Result<Self> {
        let malformed = || {
            Error::new(
                ErrorKind::Malformed,
                "not `argon2id$v=19$m=…,t=…,p=…$salt` as a passphrase's record is written",
            )
        };
        let mut parts = record.as_str().split('$');
        let mut next = || parts.next().ok_or_else(malformed);
        let (algorithm, version, costs, salt_text) = (next()?, next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(malformed());
        }
        if algorithm != "argon2id" || version != "v=19" {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "only argon2id, version 19, derives keys from passphrases",
            ));
        }
        let [memory_kib, passes, lanes] = costs_of(costs).ok_or_else(malformed)?;
        let mut salt = [0; SALT_BYTES];
        // Base64 wants room for whole groups of 3 bytes.
        let mut decoded = [0; SALT_BYTES.div_ceil(3) * 3];
        if URL_SAFE_NO_PAD.decode_slice(salt_text, &mut decoded) != Ok(SALT_BYTES) {
            return Err(malformed());
        }
        salt.copy_from_slice(&decoded[..SALT_BYTES]);
        let parameters = Argon2Parameters::new(memory_kib, passes, lanes)
            .map_err(|error| Error::new(ErrorKind::Refused, error.to_string()))?;
        let recipe = Self { parameters, salt };
        // Signs, zeros in front, further costs: anything that the record would not be written with.
        if recipe.to_record()? != *record {
            return Err(malformed());
        }
        Ok(recipe)
    }
}

/// Memory, passes and lanes of `m=…,t=…,p=…`.
fn costs_of(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split(',');
    let mut cost = |name: &str| parts.next()?.strip_prefix(name)?.parse().ok();
    let costs = [cost("m=")?, cost("t=")?, cost("p=")?];
    parts.next().is_none().then_some(costs)
}

/// As a provider record spells them: `m=65536,t=3,p=4`, the memory in KiB.
impl FromStr for Argon2Parameters {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let [memory_kib, passes, lanes] = costs_of(text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "argon2id's parameters are given as m=65536,t=3,p=4: memory in KiB, passes, lanes",
            )
        })?;
        Self::new(memory_kib, passes, lanes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHEAP: &str = "argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw";

    fn record(text: &str) -> ProviderRecord {
        ProviderRecord::new(text.to_owned()).unwrap()
    }

    #[test]
    fn the_default_costs_64_mib_3_passes_and_4_lanes() {
        let recipe = Recipe::draw(Argon2Parameters::default()).unwrap();
        let text = recipe.to_record().unwrap();
        assert!(text.as_str().starts_with("argon2id$v=19$m=65536,t=3,p=4$"));
        let back = Recipe::of_record(&text).unwrap();
        assert_eq!((back.parameters, back.salt), (recipe.parameters, recipe.salt));
    }

    #[test]
    fn parameters_are_given_as_a_record_spells_them() {
        assert_eq!("m=65536,t=3,p=4".parse::<Argon2Parameters>().unwrap(), Argon2Parameters::default());
        for text in
            ["", "m=65536", "t=3,m=65536,p=4", "m=65536,t=3,p=4,x=1", "m=64MiB,t=3,p=4", "m=8,t=1,p=1"]
        {
            let error = text.parse::<Argon2Parameters>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn a_weakened_or_hostile_record_is_refused() {
        let salt = "AAECAwQFBgcICQoLDA0ODw";
        let costs = |costs: &str| format!("argon2id$v=19${costs}${salt}");
        for (text, kind) in [
            (costs("m=19455,t=2,p=1"), ErrorKind::Refused),
            (costs("m=8,t=1,p=1"), ErrorKind::Refused),
            (costs("m=65536,t=0,p=4"), ErrorKind::Refused),
            (costs("m=65536,t=3,p=0"), ErrorKind::Refused),
            (costs("m=1048577,t=3,p=4"), ErrorKind::Refused),
            (costs("m=4294967295,t=3,p=4"), ErrorKind::Refused),
            (costs("m=65536,t=65,p=4"), ErrorKind::Refused),
            (costs("m=65536,t=3,p=65"), ErrorKind::Refused),
            (costs("m=65536,t=3,p=16777215"), ErrorKind::Refused),
            (costs("m=4294967296,t=3,p=4"), ErrorKind::Malformed),
            (costs("m=-1,t=3,p=4"), ErrorKind::Malformed),
            (costs("m=+65536,t=3,p=4"), ErrorKind::Malformed),
            (costs("m=065536,t=3,p=4"), ErrorKind::Malformed),
            (costs("m=65536,t=3,p=4,x=1"), ErrorKind::Malformed),
            (costs("m=65536,t=3"), ErrorKind::Malformed),
            (costs("t=3,m=65536,p=4"), ErrorKind::Malformed),
            (costs(""), ErrorKind::Malformed),
            (String::new(), ErrorKind::Malformed),
            ("argon2id".to_owned(), ErrorKind::Malformed),
            (format!("${CHEAP}"), ErrorKind::Malformed),
            (format!("{CHEAP}$"), ErrorKind::Malformed),
            (format!("{CHEAP}\n"), ErrorKind::Malformed),
            (format!("{CHEAP}=="), ErrorKind::Malformed),
            (format!("{CHEAP}AAAA"), ErrorKind::Malformed),
            (format!("{CHEAP}{}", "A".repeat(60_000)), ErrorKind::Malformed),
            (CHEAP.replace("DA0ODw", "DA0ODx"), ErrorKind::Malformed),
            (CHEAP.replace("DA0ODw", "DA0O"), ErrorKind::Malformed),
            (CHEAP.replace(salt, ""), ErrorKind::Malformed),
            (CHEAP.replace("argon2id", "argon2i"), ErrorKind::Unsupported),
            (CHEAP.replace("argon2id", "argon2d"), ErrorKind::Unsupported),
            (CHEAP.replace("argon2id", "scrypt"), ErrorKind::Unsupported),
            (CHEAP.replace("v=19", "v=16"), ErrorKind::Unsupported),
        ] {
            let error = Recipe::of_record(&record(&text)).err().unwrap();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(!error.to_string().contains("AAEC"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_has_one_text(text in "argon2id.v=19.m=[0-9]{0,6},t=[0-9]{0,2},p=[0-9]{0,2}.[A-Za-z0-9_-]{20,24}|\\PC*") {
            let text = record(&text.replace('\0', ""));
            if let Ok(recipe) = Recipe::of_record(&text) {
                prop_assert_eq!(recipe.to_record().unwrap(), text);
            }
        }
    }
}
