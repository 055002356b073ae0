//! Text as JSON strings, into memory of a size that is known before.

use secrecy::ExposeSecret;

use crate::secret::SecretText;

/// Appends `text` as a JSON string of [`string_bytes`] bytes.
pub(crate) fn push_string(json: &mut String, text: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    json.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '"' | '\\' | '\0'..' ')) {
        let (plain, escaped) = rest.split_at(at);
        json.push_str(plain);
        let byte = escaped.as_bytes().first().copied().unwrap_or_default();
        match byte {
            b'"' | b'\\' => json.extend(['\\', char::from(byte)]),
            8 => json.push_str("\\b"),
            b'\t' => json.push_str("\\t"),
            b'\n' => json.push_str("\\n"),
            12 => json.push_str("\\f"),
            b'\r' => json.push_str("\\r"),
            _ => {
                json.push_str("\\u00");
                json.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        // What is escaped is one byte.
        rest = escaped.get(1..).unwrap_or_default();
    }
    json.push_str(rest);
    json.push('"');
}

/// The bytes of `text` as a JSON string.
pub(crate) fn string_bytes(text: &str) -> usize {
    let bytes = |byte| match byte {
        b'"' | b'\\' | 8 | b'\t' | b'\n' | 12 | b'\r' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(bytes).sum::<usize>()
}

/// Appends `members` as those of an object, without its braces: [`member_bytes`] each, and a comma between two.
pub(crate) fn push_members<'a>(json: &mut String, members: impl Iterator<Item = (&'a str, &'a SecretText)>) {
    for (at, (name, value)) in members.enumerate() {
        if at > 0 {
            json.push(',');
        }
        push_string(json, name);
        json.push(':');
        push_string(json, value.expose_secret());
    }
}

/// The bytes of a member, without a comma.
pub(crate) fn member_bytes((name, value): (&str, &SecretText)) -> usize {
    string_bytes(name) + 1 + string_bytes(value.expose_secret())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_character_is_written_as_serde_json_does() {
        let text: String = ('\0'..='\u{2100}').collect();
        let mut json = String::new();
        push_string(&mut json, &text);
        assert_eq!(json, serde_json::to_string(&text).unwrap());
        assert_eq!(json.len(), string_bytes(&text));
    }

    proptest! {
        #[test]
        fn serde_json_reads_what_it_writes(text: String) {
            let mut json = String::new();
            push_string(&mut json, &text);
            prop_assert_eq!(json.len(), string_bytes(&text));
            prop_assert_eq!(&json, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
