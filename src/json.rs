//! A JSON object of strings (RFC 8259) into secrets, by way of wiped memory alone.
//!
//! A general parser leaves a copy of every string with an escape in freed memory, and a private key in JSON is full of
//! them; it keeps the last of two equal names, and replaces what is not Unicode.

use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::secret::SecretText;

/// The members of the object in `text`, in their order.
///
/// # Errors
///
/// A sentence that says where it is no such object, in bytes from 0, and repeats no value.
pub(crate) fn read_object(text: &str) -> Result<Vec<(String, SecretText)>, String> {
    let mut cursor = Cursor { text, at: 0 };
    let mut members: Vec<(String, SecretText)> = Vec::new();
    let mut names = HashSet::new();
    cursor.expect(b'{').map_err(|_| cursor.complaint("this is no JSON object of strings"))?;
    if !cursor.accept(b'}') {
        loop {
            let name = std::mem::take(&mut *cursor.string()?);
            cursor.expect(b':')?;
            if !cursor.is_at(b'"') {
                return Err(format!("field {name:?} is not a string: put numbers and objects into quotes"));
            }
            let value = SecretText::from(cursor.string()?);
            if !names.insert(name.clone()) {
                return Err(format!("field {name:?} is there twice"));
            }
            members.push((name, value));
            if cursor.accept(b'}') {
                break;
            }
            cursor.expect(b',')?;
        }
    }
    cursor.skip_blanks();
    if cursor.at < text.len() {
        return Err(cursor.complaint("something follows the JSON object"));
    }
    Ok(members)
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
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
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

    proptest! {
        #[test]
        fn it_reads_what_serde_json_writes(fields: BTreeMap<String, String>) {
            let text = serde_json::to_string(&fields).unwrap();
            prop_assert_eq!(read(&text), Ok(fields));
        }

        #[test]
        fn it_accepts_only_what_serde_json_accepts(text in r#"\{?("[a\\"u0-9]{0,6}"[:,]? ?){0,4}\}?"#) {
            if let Ok(fields) = read(&text) {
                prop_assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&text).unwrap(), fields);
            }
        }
    }
}
