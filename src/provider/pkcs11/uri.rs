//! PKCS#11 URIs (RFC 7512), as far as they say one key of one token.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use cryptoki::slot::{Slot, TokenInfo};

use super::pin::PinSource;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes of a URI: every attribute of a token and a key at its longest, all percent-encoded, and two paths.
const MAX_URI_BYTES: usize = 4_096;

const PATH_ATTRIBUTES: [&str; 8] =
    ["token", "manufacturer", "serial", "model", "slot-id", "object", "id", "type"];
const QUERY_ATTRIBUTES: [&str; 2] = ["module-path", "pin-source"];

/// Which key, of which token, by which module, and where the PIN is.
#[derive(Clone, Debug)]
pub(super) struct Uri {
    pub(super) module: PathBuf,
    pub(super) token: TokenAttributes,
    pub(super) key: KeyAttributes,
    pub(super) pin: Option<PinSource>,
}

/// What a token has to be like; what is `None` may be anything.
#[derive(Clone, Debug)]
pub(super) struct TokenAttributes {
    label: Option<String>,
    manufacturer: Option<String>,
    serial: Option<String>,
    model: Option<String>,
    slot_id: Option<u64>,
}

/// What a key has to be like: its label, its id, or both.
#[derive(Clone, Debug)]
pub(super) struct KeyAttributes {
    pub(super) label: Option<String>,
    pub(super) id: Option<Vec<u8>>,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with a sentence that repeats no value: someone may have given a PIN.
    pub(super) fn read(uri: &str) -> Result<Self> {
        if uri.len() > MAX_URI_BYTES {
            return Err(invalid(&format!("it has more than {MAX_URI_BYTES} bytes")));
        }
        let attributes = uri.strip_prefix("pkcs11:").ok_or_else(|| invalid("it begins with `pkcs11:`"))?;
        let (path, query) = attributes.split_once('?').unwrap_or((attributes, ""));
        let mut path = Attributes::read(path, ';', &PATH_ATTRIBUTES, "&")?;
        let mut query = Attributes::read(query, '&', &QUERY_ATTRIBUTES, "/?|")?;

        if path.text("type")?.is_some_and(|class| class != "secret-key") {
            return Err(invalid("`type` is `secret-key`, if it is given"));
        }
        let key = KeyAttributes { label: path.text("object")?, id: path.bytes("id") };
        if key.label.is_none() && key.id.is_none() {
            return Err(invalid("it names the key by `object`, its label, or by `id`"));
        }
        let slot_id = path.text("slot-id")?.map(|digits| {
            let number = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok());
            number.flatten().ok_or_else(|| invalid("`slot-id` is a decimal number"))
        });
        let module = query.text("module-path")?.filter(|path| Path::new(path).is_absolute());
        Ok(Self {
            module: module
                .ok_or_else(|| invalid("it names the module's library by `module-path`, an absolute path"))?
                .into(),
            token: TokenAttributes {
                label: path.text("token")?,
                manufacturer: path.text("manufacturer")?,
                serial: path.text("serial")?,
                model: path.text("model")?,
                slot_id: slot_id.transpose()?,
            },
            key,
            pin: query.text("pin-source")?.as_deref().map(PinSource::read).transpose()?,
        })
    }
}

impl TokenAttributes {
    /// Whether a slot may hold the token, as far as its number says.
    pub(super) fn may_be_in(&self, slot: Slot) -> bool {
        self.slot_id.is_none_or(|id| id == slot.id())
    }

    pub(super) fn match_token(&self, token: &TokenInfo) -> bool {
        let pairs = [
            (&self.label, token.label()),
            (&self.manufacturer, token.manufacturer_id()),
            (&self.serial, token.serial_number()),
            (&self.model, token.model()),
        ];
        pairs.iter().all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == is))
    }
}

impl fmt::Display for TokenAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PKCS#11 token")?;
        let pairs = [
            ("", &self.label),
            (" manufacturer", &self.manufacturer),
            (" serial", &self.serial),
            (" model", &self.model),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                write!(f, "{name} {value:?}")?;
            }
        }
        self.slot_id.map_or(Ok(()), |id| write!(f, " in slot {id}"))
    }
}

impl fmt::Display for KeyAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key")?;
        if let Some(label) = &self.label {
            write!(f, " {label:?}")?;
        }
        self.id.as_ref().map_or(Ok(()), |id| write!(f, " id {}", Hex(id)))
    }
}

/// Bytes as two digits each.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The attributes of one half of a URI, percent-decoded, by name.
struct Attributes(BTreeMap<&'static str, Vec<u8>>);

impl Attributes {
    /// Reads `name=value` pairs between `separator`s, each of `names` once at most, whose values may hold the characters
    /// `also` besides what both halves may.
    fn read(text: &str, separator: char, names: &[&'static str], also: &str) -> Result<Self> {
        let mut attributes = BTreeMap::new();
        if text.is_empty() {
            return Ok(Self(attributes));
        }
        for (index, attribute) in text.split(separator).enumerate() {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let Some(&name) = names.iter().find(|known| **known == name) else {
                return Err(unknown(name, index + 1, separator, names));
            };
            let value = percent_decoded(value, also).filter(|value| !value.is_empty()).ok_or_else(|| {
                invalid(&format!("`{name}` is not percent-encoded text as RFC 7512 has it"))
            })?;
            if attributes.insert(name, value).is_some() {
                return Err(invalid(&format!("`{name}` is given twice")));
            }
        }
        Ok(Self(attributes))
    }

    fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        self.0.remove(name)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        let text = self.bytes(name).map(String::from_utf8).transpose();
        text.ok()
            .filter(|text| !text.as_ref().is_some_and(|text| text.contains('\0')))
            .ok_or_else(|| invalid(&format!("`{name}` is not UTF-8 text without NUL")))
    }
}

/// The bytes of an attribute's value: characters that may stand for themselves, and `%` with two hexadecimal digits.
fn percent_decoded(value: &str, also: &str) -> Option<Vec<u8>> {
    const FOR_THEMSELVES: &str = "-._~:[]@!$'()*+,=";

    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        if character == '%' {
            let digits = [rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?];
            bytes.push(u8::try_from(digits[0] * 16 + digits[1]).ok()?);
        } else if character.is_ascii_alphanumeric()
            || FOR_THEMSELVES.contains(character)
            || also.contains(character)
        {
            bytes.push(u8::try_from(character).ok()?);
        } else {
            return None;
        }
    }
    Some(bytes)
}

/// Repeats no name that it doesn't know: a secret may stand there.
fn unknown(name: &str, number: usize, separator: char, names: &[&str]) -> Error {
    match name {
        "pin-value" => invalid("`pin-value` would put the PIN into the configuration: use `pin-source`"),
        "module-name" => {
            invalid("`module-name` leaves it to a search which library is loaded: use `module-path`")
        }
        _ => invalid(&format!(
            "what stands at place {number} between `{separator}` is none of {}",
            names.join(", ")
        )),
    }
}

fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            "not the PKCS#11 URI of a key, as \
             `pkcs11:token=LABEL;object=LABEL?module-path=/PATH&pin-source=file:/PATH`: {what}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHORTEST: &str = "pkcs11:object=k?module-path=/m.so";

    #[test]
    fn every_attribute_is_read_and_decoded() {
        let uri = Uri::read(
            "pkcs11:token=My%20t%c3%b6ken;manufacturer=A&B;serial=1:2;model=m;slot-id=7;object=a%3Bb;id=%00%fF1;\
             type=secret-key?pin-source=file:/etc/p%26in&module-path=/usr/lib/a%20b.so",
        )
        .unwrap();
        assert_eq!(uri.module, Path::new("/usr/lib/a b.so"));
        assert_eq!(uri.key.label.as_deref(), Some("a;b"));
        assert_eq!(uri.key.id.as_deref(), Some(&[0, 0xff, b'1'][..]));
        assert_eq!(
            uri.token.to_string(),
            "PKCS#11 token \"My töken\" manufacturer \"A&B\" serial \"1:2\" model \"m\" in slot 7"
        );
        assert_eq!(uri.key.to_string(), "key \"a;b\" id 00ff31");
        assert_eq!(uri.pin.unwrap().to_string(), "PIN file \"/etc/p&in\"");

        let shortest = Uri::read(SHORTEST).unwrap();
        assert!(shortest.pin.is_none() && shortest.key.id.is_none());
        assert_eq!(shortest.token.to_string(), "PKCS#11 token");
    }

    #[test]
    fn every_other_uri_is_refused_with_its_reason_and_not_repeated() {
        for (uri, says) in [
            ("pkcs11:object=k?module-path=/m&pin-value=hunter2", "use `pin-source`"),
            ("pkcs11:object=k?module-name=hunter2", "use `module-path`"),
            ("pkcs11:object=k?module-path=hunter2.so", "an absolute path"),
            ("pkcs11:object=k", "an absolute path"),
            ("pkcs11:object=k;?module-path=/m", "at place 2 between `;`"),
            ("pkcs11:hunter2?module-path=/m", "at place 1 between `;` is none of token, manufacturer"),
            ("pkcs11:object=k?module-path=/m&hunter2=1", "at place 2 between `&`"),
            ("pkcs11:object=k?module-path=/m&", "at place 2 between `&`"),
            ("pkcs11:module-path=/m;object=k", "at place 1"),
            ("pkcs11:object=k?token=hunter2&module-path=/m", "at place 1"),
            ("pkcs11:Object=k?module-path=/m", "at place 1"),
            ("pkcs11:object=hunter2;object=k?module-path=/m", "`object` is given twice"),
            ("pkcs11:?module-path=/m", "names the key"),
            ("pkcs11:token=hunter2?module-path=/m", "names the key"),
            ("pkcs11:object=?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2%?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2%2?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2%2g?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2%+2?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2 x?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2/x?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2ö?module-path=/m", "`object` is not percent-encoded"),
            ("pkcs11:object=hunter2%00?module-path=/m", "without NUL"),
            ("pkcs11:object=hunter2%ff?module-path=/m", "`object` is not UTF-8"),
            ("pkcs11:object=k?module-path=/m#hunter2", "`module-path` is not percent-encoded"),
            ("pkcs11:object=k;slot-id=hunter2?module-path=/m", "decimal number"),
            ("pkcs11:object=k;slot-id=+1?module-path=/m", "decimal number"),
            ("pkcs11:object=k;slot-id=99999999999999999999?module-path=/m", "decimal number"),
            ("pkcs11:object=k;type=private?module-path=/m", "`type` is `secret-key`"),
            ("pkcs11:object=k?module-path=/m&pin-source=hunter2", "never the PIN"),
            ("pkcs11:object=k?module-path=/m&pin-source=|hunter2", "no program"),
            ("PKCS11:object=hunter2", "begins with"),
        ] {
            let error = Uri::read(uri).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{uri}");
            assert!(error.to_string().contains(says), "{uri}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let longest = format!("{SHORTEST}{}", "x".repeat(MAX_URI_BYTES - SHORTEST.len()));
        assert!(Uri::read(&longest).is_ok());
        assert!(Uri::read(&format!("{longest}x")).unwrap_err().to_string().contains("4096 bytes"));
    }

    proptest! {
        #[test]
        fn no_uri_panics(text in "\\PC*", attributes in "(pkcs11:)?([a-z-]{1,8}=[%0-9a-z]{0,4}[;?&]?){0,6}") {
            let _ = (Uri::read(&text), Uri::read(&format!("pkcs11:{text}")), Uri::read(&attributes));
        }

        #[test]
        fn any_label_is_read_from_its_encoding(label in "[^\0]{1,20}") {
            let encoded: String = label.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let uri = Uri::read(&format!("pkcs11:object={encoded}?module-path=/m")).unwrap();
            prop_assert_eq!(uri.key.label, Some(label));
        }
    }
}
