//! A master key as text, and the lines of a key file or variable.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::key::MasterKey;
use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;
use crate::secret::SecretText;

/// What every master key's text begins with: for people and for secret scanners.
const PREFIX: &str = "cvmk1_";

/// The kind that rows are of whose key stands in a file.
pub(super) const KEY_FILE: &str = "key-file";

/// The kind that rows are of whose key stands in a variable.
pub(super) const ENVIRONMENT: &str = "environment";

/// Whether keys of `kind` are held as text, and matched by the id in it: a file's may be mounted as a variable.
pub(super) fn is_text(kind: &str) -> bool {
    [KEY_FILE, ENVIRONMENT].contains(&kind)
}

const ID_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const BODY_BYTES: usize = ID_BYTES + KEY_BYTES;
const ALL_BYTES: usize = BODY_BYTES + CHECKSUM_BYTES;

/// The characters of a master key's text: the prefix and base64 of [`ALL_BYTES`] bytes without padding.
const TEXT_CHARS: usize = PREFIX.len() + (ALL_BYTES * 4).div_ceil(3);

/// What base64 wants to decode into: whole groups of 3 bytes, of which the last may be partly unused.
const DECODED_BYTES: usize = ALL_BYTES.div_ceil(3) * 3;

/// A master key as text, one line of a key file:
///
/// ```text
/// cvmk1_ + base64url( id 16 | key 32 | first 4 bytes of SHA-256 of both ), without padding
/// ```
///
/// The checksum is there against slips in copying; it keeps no one from making up another key.
#[derive(Debug)]
pub struct MasterKeyText {
    id: MasterKeyId,
    text: SecretText,
}

impl MasterKeyText {
    /// A fresh master key with a fresh id (UUIDv7), as text.
    ///
    /// # Errors
    ///
    /// `Provider` if the operating system's random generator fails.
    pub fn generate() -> Result<Self> {
        let id = MasterKeyId::from(Uuid::now_v7());
        Self::of(&MasterKey::new(id, KeyBytes::generate()?))
    }

    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    /// The text, of 76 characters.
    #[must_use]
    pub fn text(&self) -> &SecretText {
        &self.text
    }

    /// The text of `key`.
    fn of(key: &MasterKey) -> Result<Self> {
        let mut body = Zeroizing::new([0; ALL_BYTES]);
        body[..ID_BYTES].copy_from_slice(key.id().as_bytes());
        body[ID_BYTES..BODY_BYTES].copy_from_slice(key.bytes().expose());
        let checksum = checksum(&body[..BODY_BYTES]);
        body[BODY_BYTES..].copy_from_slice(&checksum);
        // Into a buffer of our own: what base64 would grow and pass through is not wiped.
        let mut text = Zeroizing::new([0; TEXT_CHARS]);
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let failed = || Error::new(ErrorKind::Provider, "a master key could not be written as text");
        URL_SAFE_NO_PAD.encode_slice(&body[..], &mut text[PREFIX.len()..]).map_err(|_| failed())?;
        let text = std::str::from_utf8(&text[..]).map_err(|_| failed())?;
        Ok(Self { id: key.id(), text: SecretText::copy_of(text) })
    }

    /// The master key that `text` says: exactly as it is written, in its one canonical form.
    ///
    /// # Errors
    ///
    /// `Malformed` for anything else, without a word of what it was.
    pub fn read(text: &str) -> Result<MasterKey> {
        let malformed = || {
            Error::new(
                ErrorKind::Malformed,
                format!("not the text of a master key: `{PREFIX}` and 70 characters, as it was generated"),
            )
        };
        if text.len() != TEXT_CHARS {
            return Err(malformed());
        }
        let encoded = text.strip_prefix(PREFIX).ok_or_else(malformed)?;
        let mut body = Zeroizing::new([0; DECODED_BYTES]);
        // The error of base64 names a byte of its input: it is dropped.
        let decoded = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *body).map_err(|_| malformed())?;
        if decoded != ALL_BYTES || body[BODY_BYTES..ALL_BYTES] != checksum(&body[..BODY_BYTES]) {
            return Err(malformed());
        }
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&body[..ID_BYTES]);
        Ok(MasterKey::new(
            MasterKeyId::from(Uuid::from_bytes(id)),
            KeyBytes::copy_of(&body[ID_BYTES..BODY_BYTES])?,
        ))
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Sha256::digest(body);
    let mut first = [0; CHECKSUM_BYTES];
    first.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    hash.zeroize();
    first
}

/// Whether someone gave a master key where its place belongs.
pub(super) fn looks_like_a_key(text: &str) -> bool {
    text.trim_start().starts_with(PREFIX)
}

/// The master keys of a file or a variable, one a line.
pub(super) struct MasterKeyLines {
    /// Where they come from, for errors: `key file "/etc/master.key"`.
    place: String,
    keys: Vec<MasterKey>,
}

impl MasterKeyLines {
    /// Reads `text`: one key a line with spaces around it allowed, blank lines, `#` to the end of a line a
    /// comment, lines ended by `\n` or `\r\n`.
    ///
    /// # Errors
    ///
    /// `Provider`, naming `place` and the line, for a line that is none of these, or a second key with the
    /// id of an earlier one.
    pub(super) fn read(place: String, text: &[u8]) -> Result<Self> {
        let failed = |what: String| Error::new(ErrorKind::Provider, format!("{place}{what}"));
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(failed(" is not UTF-8 text".to_owned()));
        };
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let number = index + 1;
            let line = line.split_once('#').map_or(line, |(before, _)| before);
            let line = line.trim_matches([' ', '\t', '\r']);
            if line.is_empty() {
                continue;
            }
            let key =
                MasterKeyText::read(line).map_err(|error| failed(format!(", line {number}, is {error}")))?;
            match keys.iter().find(|known| known.id() == key.id()) {
                None => keys.push(key),
                Some(known) if known.bytes().expose() == key.bytes().expose() => {}
                Some(_) => {
                    return Err(failed(format!(
                        ", line {number}, holds another master key with the id {} of an earlier line",
                        key.id()
                    )));
                }
            }
        }
        Ok(Self { place, keys })
    }

    /// The keys, one a line, as they are generated.
    ///
    /// # Errors
    ///
    /// `Provider`, as making their texts.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn again(&self) -> Result<String> {
        use secrecy::ExposeSecret;
        let line = |key| MasterKeyText::of(key).map(|key| format!("{}\n", key.text().expose_secret()));
        self.keys.iter().map(line).collect()
    }

    /// The one key, to begin with.
    ///
    /// # Errors
    ///
    /// `Provider` if there is none, or more than one.
    pub(super) fn into_only(mut self) -> Result<MasterKey> {
        match (self.keys.pop(), self.keys.len()) {
            (Some(key), 0) => Ok(key),
            (None, _) => Err(Error::new(ErrorKind::Provider, format!("{} holds no master key", self.place))),
            (Some(_), others) => Err(Error::new(
                ErrorKind::Provider,
                format!(
                    "{} holds {} master keys: give the new one in a place of its own",
                    self.place,
                    others + 1
                ),
            )),
        }
    }

    /// The ids of the keys, in the order of their lines.
    ///
    /// # Errors
    ///
    /// `Provider` if there is none.
    pub(super) fn into_ids(self) -> Result<Vec<MasterKeyId>> {
        if self.keys.is_empty() {
            return Err(Error::new(ErrorKind::Provider, format!("{} holds no master key", self.place)));
        }
        Ok(self.keys.iter().map(MasterKey::id).collect())
    }

    /// The key `id`.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if it is not there.
    pub(super) fn into_key(self, id: MasterKeyId) -> Result<MasterKey> {
        let Self { place, keys } = self;
        keys.into_iter().find(|key| key.id() == id).ok_or_else(|| {
            Error::new(ErrorKind::KeyUnavailable, format!("master key {id} is not in {place}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/vectors/vectors.json")).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn lines(text: &str) -> Result<MasterKeyLines> {
        MasterKeyLines::read("place".to_owned(), text.as_bytes())
    }

    fn generated() -> (MasterKeyId, String) {
        let key = MasterKeyText::generate().unwrap();
        (key.id(), key.text().expose_secret().to_owned())
    }

    #[test]
    fn the_vector_is_read_and_written() {
        let vectors = vectors();
        let text = vectors["master_key_text"].as_str().unwrap();
        let key = MasterKeyText::read(text).unwrap();
        assert_eq!(key.id(), vectors["master_key_id"].as_str().unwrap().parse().unwrap());
        assert_eq!(hex(key.bytes().expose()), vectors["master_key"].as_str().unwrap());
        assert_eq!(MasterKeyText::of(&key).unwrap().text().expose_secret(), text);
    }

    #[test]
    fn no_bad_vector_is_read() {
        let vectors = vectors();
        let bad = vectors["bad_master_key_texts"].as_array().unwrap();
        assert!(bad.len() >= 6);
        for text in bad {
            let error = MasterKeyText::read(text.as_str().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
        }
    }

    #[test]
    fn every_change_of_one_character_is_noticed_and_not_repeated() {
        let (_, text) = generated();
        for place in 0..text.len() {
            for other in ["A", "b", "9", "_", "-", "=", " ", "\n", "+", "/"] {
                if text[place..].starts_with(other) {
                    continue;
                }
                let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
                let error = MasterKeyText::read(&changed).unwrap_err();
                assert!(!format!("{error:?}").contains(&text[10..20]));
            }
        }
        for around in [" ", "\n", "=", "A"] {
            assert!(MasterKeyText::read(&format!("{text}{around}")).is_err());
            assert!(MasterKeyText::read(&format!("{around}{text}")).is_err());
        }
    }

    #[test]
    fn a_generated_key_reads_back_and_is_not_shown() {
        let key = MasterKeyText::generate().unwrap();
        let text = key.text().expose_secret();
        assert_eq!(text.len(), 76);
        assert_eq!(MasterKeyText::read(text).unwrap().id(), key.id());
        assert_ne!(MasterKeyText::generate().unwrap().text().expose_secret(), text);
        assert!(!format!("{key:?}").contains("cvmk1_"));
    }

    #[test]
    fn comments_blank_lines_and_spaces_are_left_out() {
        let (first, one) = generated();
        let (second, two) = generated();
        let text = format!("# the key\r\n\r\n \t{one} # since May\r\n\n#{two}\n{two}\n{one}");
        assert_eq!(lines(&text).unwrap().into_key(first).unwrap().id(), first);
        assert_eq!(lines(&text).unwrap().into_key(second).unwrap().id(), second);
        assert_eq!(lines(&text).unwrap().keys.len(), 2);
        assert_eq!(lines(&one).unwrap().into_only().unwrap().id(), first);
    }

    #[test]
    fn a_missing_key_and_none_and_several_are_told_apart() {
        let (_, one) = generated();
        let (second, two) = generated();
        let missing = lines(&one).unwrap().into_key(second).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::KeyUnavailable);
        assert!(missing.to_string().contains(&second.to_string()));
        for (text, says) in [
            (String::new(), "no master key"),
            ("# nothing\n\n".to_owned(), "no master key"),
            (format!("{one}\n{two}"), "2 master keys"),
        ] {
            let error = lines(&text).unwrap().into_only().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_no_key_is_named_by_number_only() {
        let (_, one) = generated();
        for bad in [
            format!("{one}\n\n{}", &one[..70]),
            format!("#\n#\n{one} {one}"),
            format!("\n\n\u{feff}{one}"),
            format!("\n{one}\n{}", one.to_lowercase()),
        ] {
            let error = lines(&bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert!(error.to_string().contains("place, line 3,"), "{error}");
            assert!(!error.to_string().contains(&one[10..20]), "{error}");
        }
        assert!(MasterKeyLines::read("place".to_owned(), &[0xff, 0xfe]).is_err());
    }

    #[test]
    fn two_keys_with_one_id_are_refused() {
        let id = MasterKeyId::from(Uuid::now_v7());
        let text = |byte| {
            let key = MasterKey::new(id, KeyBytes::copy_of(&[byte; KEY_BYTES]).unwrap());
            MasterKeyText::of(&key).unwrap().text().expose_secret().to_owned()
        };
        let error = lines(&format!("{}\n{}", text(1), text(2))).err().unwrap();
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        assert!(lines(&format!("{}\n{}", text(1), text(1))).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            prop_assert!(MasterKeyText::read(&text).is_err());
            let prefixed = format!("{PREFIX}{text}");
            prop_assert!(MasterKeyText::read(&prefixed).is_err());
            let _ = lines(&text);
            let _ = MasterKeyLines::read(String::new(), &bytes);
        }

        #[test]
        fn no_other_70_characters_are_a_key(text in "[A-Za-z0-9_-]{70}") {
            let prefixed = format!("{PREFIX}{text}");
            prop_assert!(MasterKeyText::read(&prefixed).is_err());
        }

        #[test]
        fn every_key_reads_back(id in any::<[u8; 16]>(), bytes in any::<[u8; KEY_BYTES]>()) {
            let key = MasterKey::new(Uuid::from_bytes(id).into(), KeyBytes::copy_of(&bytes).unwrap());
            let read = MasterKeyText::read(MasterKeyText::of(&key).unwrap().text().expose_secret()).unwrap();
            prop_assert_eq!(read.id(), key.id());
            prop_assert_eq!(read.bytes().expose(), &bytes);
        }
    }
}
