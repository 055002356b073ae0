//! JSON with secrets (RFC 8259), read and written by way of wiped memory alone: objects of strings, and records, whose
//! members may be such objects.
//!
//! A general parser leaves a copy of every string with an escape in freed memory, and a private key in JSON is full of
//! them; it keeps the last of two equal names, and replaces what is not Unicode.

#[cfg(any(test, feature = "vault-transit"))]
mod members;
mod write;

use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::secret::SecretText;

#[cfg(feature = "vault-transit")]
pub(crate) use members::{read_members, read_string};
#[cfg(any(all(unix, feature = "exec"), feature = "vault-transit"))]
pub(crate) use write::string_bytes;
pub(crate) use write::{member_bytes, push_members, push_string};

/// The characters of a name that an error repeats: more than any field's name has that a person gave it.
const SHOWN_CHARS: usize = 64;

/// The most members that an object may have: as many fields as a credential, so that a hostile line of many empty ones
/// takes little more memory than it is long.
const MAX_MEMBERS: usize = 65_535;

/// The members of an object of strings, in their order.
pub(crate) type Strings = Vec<(String, SecretText)>;

/// A member of a record.
pub(crate) enum Value {
    Null,
    /// A whole number from 0 on.
    Number(u64),
    String(SecretText),
    Object(Strings),
}

/// The members of the object of strings in `text`.
///
/// # Errors
///
/// A sentence that says where it is no such object, in bytes from 0, and repeats no value.
pub(crate) fn read_object(text: &str) -> Result<Strings, String> {
    let mut cursor = Cursor { text, at: 0 };
    if !cursor.is_at(b'{') {
        return Err(cursor.complaint("this is no JSON object of strings"));
    }
    let members = cursor.object(Cursor::field)?;
    cursor.end()?;
    Ok(members)
}

/// The members of the record in `text`, in their order.
///
/// # Errors
///
/// As [`read_object`].
pub(crate) fn read_record(text: &str) -> Result<Vec<(String, Value)>, String> {
    let mut cursor = Cursor { text, at: 0 };
    if !cursor.is_at(b'{') {
        return Err(cursor.complaint("this is no JSON object"));
    }
    let members = cursor.object(Cursor::value)?;
    cursor.end()?;
    Ok(members)
}

/// A name, quoted for an error, its beginning if it is long.
pub(crate) fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// A place in a text.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    fn complaint(&self, what: &str) -> String {
        format!("{what} (at byte {})", self.at)
    }

    fn malformed(&self) -> String {
        self.complaint("this is not valid JSON")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Whether the next byte that is no blank is `byte`.
    fn is_at(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        self.peek() == Some(byte)
    }

    fn accept(&mut self, byte: u8) -> bool {
        let is_there = self.is_at(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.accept(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    /// The end of the text.
    fn end(&mut self) -> Result<(), String> {
        self.skip_blanks();
        if self.at < self.text.len() {
            return Err(self.complaint("something follows the JSON object"));
        }
        Ok(())
    }

    /// The members of an object, each read by `member`, which is given the name.
    fn object<V>(
        &mut self,
        member: impl Fn(&mut Self, &str) -> Result<V, String>,
    ) -> Result<Vec<(String, V)>, String> {
        let mut members = Vec::new();
        let mut names = HashSet::new();
        self.expect(b'{')?;
        if self.accept(b'}') {
            return Ok(members);
        }
        loop {
            if members.len() == MAX_MEMBERS {
                return Err(self.complaint(&format!("an object has more than {MAX_MEMBERS} members")));
            }
            let name = std::mem::take(&mut *self.string()?);
            self.expect(b':')?;
            let value = member(self, &name)?;
            if !names.insert(name.clone()) {
                return Err(format!("field {} is there twice", shown(&name)));
            }
            members.push((name, value));
            if self.accept(b'}') {
                return Ok(members);
            }
            self.expect(b',')?;
        }
    }

    /// The value of a member of an object of strings.
    fn field(&mut self, name: &str) -> Result<SecretText, String> {
        if !self.is_at(b'"') {
            return Err(format!(
                "field {} is not a string: put numbers and objects into quotes",
                shown(name)
            ));
        }
        Ok(self.string()?.into())
    }

    /// The value of a member of a record.
    fn value(&mut self, name: &str) -> Result<Value, String> {
        self.skip_blanks();
        match self.peek() {
            Some(b'"') => Ok(Value::String(self.string()?.into())),
            Some(b'{') => self.object(Self::field).map(Value::Object),
            Some(b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'n') if self.text[self.at..].starts_with("null") => {
                self.at += 4;
                Ok(Value::Null)
            }
            _ => Err(format!(
                "member {} is neither a string, a whole number, null, nor an object of strings",
                shown(name)
            )),
        }
    }

    fn number(&mut self) -> Result<u64, String> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.text[from..self.at];
        match digits.parse() {
            Ok(number) if digits.len() == 1 || !digits.starts_with('0') => Ok(number),
            _ => Err(self.malformed()),
        }
    }

    fn string(&mut self) -> Result<Zeroizing<String>, String> {
        self.expect(b'"')?;
        // A string is never longer than what spells it: the memory that it is read into is never moved.
        let mut string = Zeroizing::new(String::with_capacity(self.length_of_string()));
        loop {
            let from = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..0x20)) {
                self.at += 1;
            }
            // Both ends are at ASCII characters, or at the end.
            string.push_str(&self.text[from..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => {
                    self.at += 1;
                    string.push(self.escape()?);
                }
                _ => return Err(self.malformed()),
            }
        }
    }

    /// How many bytes it is to the quotation mark that ends a string.
    fn length_of_string(&self) -> usize {
        let bytes = &self.text.as_bytes()[self.at..];
        let mut length = 0;
        while let Some(&byte) = bytes.get(length) {
            match byte {
                b'"' => break,
                b'\\' => length += 2,
                _ => length += 1,
            }
        }
        length
    }

    /// The character that an escape after its backslash stands for.
    fn escape(&mut self) -> Result<char, String> {
        let escaped = self.peek().ok_or_else(|| self.malformed())?;
        let character = match escaped {
            b'"' | b'\\' | b'/' => char::from(escaped),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.malformed()),
        };
        self.at += 1;
        Ok(character)
    }

    /// The character of one `\uXXXX` after its `u`, or of two that are a surrogate pair.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.four_hex_digits()?;
        let code = match first {
            0xd800..0xdc00 => {
                if !self.text[self.at..].starts_with("\\u") {
                    return Err(self.malformed());
                }
                self.at += 2;
                let second = self.four_hex_digits()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(self.malformed());
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.malformed())
    }

    fn four_hex_digits(&mut self) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.malformed())?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret;

    use super::*;

    pub(super) fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
        let members = read_object(text)?;
        Ok(members.into_iter().map(|(name, value)| (name, value.expose_secret().to_owned())).collect())
    }

    fn fields<const N: usize>(fields: [(&str, &str); N]) -> BTreeMap<String, String> {
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn an_object_of_strings_is_read() {
        assert_eq!(read(" {\r\n} "), Ok(fields([])));
        assert_eq!(read(r#"{"a":"b"}"#), Ok(fields([("a", "b")])));
        assert_eq!(read(" {\n\t\"a\" : \"\" ,\r\n \"b\" : \"c\" } \n"), Ok(fields([("a", ""), ("b", "c")])));
        let escaped =
            r#"{"\u0061":"\"\\\/\b\f\n\r\t\u0000\u003c\u00fC\u2028\ud83d\udd11\uDBFF\uDFFF\uffffZü"}"#;
        let text = "\"\\/\u{8}\u{c}\n\r\t\0<ü\u{2028}🔑\u{10ffff}\u{ffff}Zü";
        assert_eq!(read(escaped), Ok(fields([("a", text)])));
    }

    #[test]
    fn anything_else_is_refused_and_no_value_repeated() {
        for text in [
            "",
            "hunter2",
            "\"hunter2\"",
            "[\"hunter2\"]",
            "null",
            "}",
            "{}{}",
            "{} x",
            "{,}",
            "\u{a0}{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":\"hunter2\" \"b\":\"c\"}",
            "{\"a\":\"hunter2\\\"}",
            "{\"a\":\"hunter2\\é\"}",
            "{\"a\":\"hunter2\\u12é\"}",
            "{\"a\":\"hunter2\\ud83d\\n\"}",
            "{\"a\":\"hunter2\\ud83d\\ud83d\"}",
            "{\"a\":\"hunter2\\U0041\"}",
            "{\"a\":\"hunter2\0\"}",
            "{\"a\u{1f}\":\"\"}",
            "{\"a\":\"hunter2\"",
            "{\"a\":\"hunter2",
            "{\"a\":\"hunter2\",}",
            "{\"a\":\"hunter2\"}{",
            "{\"a\":\"hunter2\"} x",
            "{\"a\" \"hunter2\"}",
            "{'a':'hunter2'}",
            "{a:\"hunter2\"}",
            "{\"a\":\"hunter2\\x\"}",
            "{\"a\":\"hunter2\\",
            "{\"a\":\"hunter2\\u12\"}",
            "{\"a\":\"hunter2\\u+123\"}",
            "{\"a\":\"hunter2\\ud800\"}",
            "{\"a\":\"hunter2\\ud800\\u0041\"}",
            "{\"a\":\"hunter2\\udc00\"}",
            "{\"a\":\"hunter2\n\"}",
            "\u{feff}{\"a\":\"hunter2\"}",
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_field_that_is_no_string_or_is_there_twice_is_named() {
        for value in ["1", "null", "true", "{\"x\":\"hunter2\"}", "[\"hunter2\"]"] {
            let error = read(&format!("{{\"port\":{value}}}")).unwrap_err();
            assert!(error.contains("\"port\" is not a string") && !error.contains("hunter2"), "{error}");
        }
        assert!(read(r#"{"a":"x","\u0061":"y"}"#).unwrap_err().contains("\"a\" is there twice"));
    }

    /// A record as `serde_json` has it.
    pub(super) fn record(text: &str) -> Result<serde_json::Value, String> {
        let members = read_record(text)?;
        let value = |value| match value {
            Value::Null => serde_json::Value::Null,
            Value::Number(number) => number.into(),
            Value::String(text) => text.expose_secret().into(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| (name, value.expose_secret().to_owned()))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
        };
        Ok(members.into_iter().map(|(name, it)| (name, value(it))).collect())
    }

    #[test]
    fn a_record_is_read_one_object_deep() {
        let text = r#" {"a":null,"b" : 0 ,"c":18446744073709551615,"d":"","e":{} , "f":{"g":"h"}} "#;
        assert_eq!(record(text), Ok(serde_json::from_str(text).unwrap()));
        for text in [
            "",
            r#"{"a":01}"#,
            r#"{"a":-1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"a":nullx}"#,
            r#"{"a":true}"#,
            r#"{"a":["hunter2"]}"#,
            r#"{"a":{"b":{"c":"hunter2"}}}"#,
            r#"{"a":{"b":null}}"#,
            r#"{"a":{"b":"hunter2","b":"x"}}"#,
            r#"{"a":"hunter2","a":null}"#,
        ] {
            let error = record(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_long_name_is_shown_by_its_beginning() {
        let error = read(&format!("{{\"{}\":1}}", "ü".repeat(100_000))).unwrap_err();
        assert!(error.contains("üüü\"…") && error.len() < 300, "{error}");
    }
}
