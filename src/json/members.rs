//! The members of a service's answer, of which few are read: each by its text, whatever it is.

use super::Cursor;
use crate::secret::SecretText;

/// The deepest that a value is nested: three times as deep as any service's answer, and no danger to the stack.
const MAX_DEPTH: usize = 16;

/// The members of the object in `text`, each with the text of its value.
///
/// # Errors
///
/// As [`read_object`](super::read_object).
pub(crate) fn read_members(text: &str) -> Result<Vec<(String, &str)>, String> {
    let mut cursor = Cursor { text, at: 0 };
    if !cursor.is_at(b'{') {
        return Err(cursor.complaint("this is no JSON object"));
    }
    let members = cursor.object(|cursor, _| {
        cursor.skip_blanks();
        let from = cursor.at;
        cursor.skip_value(1)?;
        Ok(from..cursor.at)
    })?;
    cursor.end()?;
    Ok(members.into_iter().map(|(name, place)| (name, &text[place])).collect())
}

/// The string in `text`, a member's.
///
/// # Errors
///
/// As [`read_object`](super::read_object).
pub(crate) fn read_string(text: &str) -> Result<SecretText, String> {
    let mut cursor = Cursor { text, at: 0 };
    let string = cursor.string()?;
    cursor.end()?;
    Ok(string.into())
}

impl Cursor<'_> {
    /// Over a value of any type. What nobody reads is only held to be of a form whose end is known.
    fn skip_value(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(self.complaint(&format!("a value is nested more than {MAX_DEPTH} deep")));
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(|cursor, _| cursor.skip_value(depth + 1)).map(drop),
            Some(b'[') => self.skip_elements(depth),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                let is_of_a_word =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                while self.peek().is_some_and(is_of_a_word) {
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(self.malformed()),
        }
    }

    fn skip_elements(&mut self, depth: usize) -> Result<(), String> {
        self.expect(b'[')?;
        if self.accept(b']') {
            return Ok(());
        }
        loop {
            self.skip_value(depth + 1)?;
            if self.accept(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn each_member_is_given_by_its_text() {
        let text = r#" { "a" : [1, "}", {"b": [true]}, []] ,"data":{"plaintext":"x\"}y"}, "n": -1.5e+3,
            "null": null, "no": false, "errors": [] } "#;
        let members = read_members(text).unwrap();
        let shown: Vec<(&str, &str)> = members.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        assert_eq!(
            shown,
            [
                ("a", r#"[1, "}", {"b": [true]}, []]"#),
                ("data", r#"{"plaintext":"x\"}y"}"#),
                ("n", "-1.5e+3"),
                ("null", "null"),
                ("no", "false"),
                ("errors", "[]"),
            ]
        );
        let data = read_members(members[1].1).unwrap();
        assert_eq!(read_string(data[0].1).unwrap().expose_secret(), "x\"}y");
        assert!(read_string("1").is_err() && read_string("\"a\" 1").is_err());
    }

    #[test]
    fn what_is_no_object_is_refused_and_no_depth_overflows_the_stack() {
        for text in
            ["", "[]", "1", "{", "{\"a\"}", "{\"a\":}", "{\"a\":[1}", "{\"a\":1} x", "{\"a\":1,\"a\":2}"]
        {
            assert!(read_members(text).is_err(), "{text}");
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
            assert!(read_members(&nested(MAX_DEPTH - 1)).is_ok());
            assert!(read_members(&nested(MAX_DEPTH)).is_err());
            assert!(read_members(&format!("{{\"a\":{}", open.repeat(100_000))).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_serde_reads_is_read(text in "\\PC*", value in "[1-9][0-9]{0,3}|true|\\[\\]|\"[a-z]*\"") {
            let _ = read_members(&text);
            let object = format!("{{\"a\":{value},\"b\":[{value},{value}]}}");
            let members = read_members(&object).unwrap();
            prop_assert_eq!(members[0].1, value);
            serde_json::from_str::<serde_json::Value>(members[1].1).unwrap();
        }
    }
}
