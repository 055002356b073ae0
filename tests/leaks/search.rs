//! Looks for secrets in whatever form: raw, hex, base64 at any alignment, or as `Debug` prints bytes.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// A secret, by all the forms that it could leak in.
pub(crate) struct Needle {
    pub(crate) name: String,
    pub(crate) forms: Vec<(String, String)>,
}

/// Bytes as characters of the same numbers, so that the search of texts finds them.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl Needle {
    pub(crate) fn new(name: impl Into<String>, secret: &[u8]) -> Self {
        assert!(secret.len() >= 12, "so short a secret is found by chance");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{secret:?}");
        let mut forms = vec![
            ("raw".to_owned(), latin1(secret)),
            ("upper hex".to_owned(), hex.to_uppercase()),
            ("hex".to_owned(), hex),
            ("a list of bytes".to_owned(), list.trim_matches(['[', ']']).to_owned()),
        ];
        for (alphabet, spelling) in [(&STANDARD, "base64"), (&URL_SAFE, "base64url")] {
            let engine = GeneralPurpose::new(alphabet, NO_PAD);
            for before in 0..3 {
                // The characters that only this secret has a part in, wherever in a longer text it begins.
                let text = engine.encode([&vec![0; before], secret].concat());
                let (first, end) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
                forms.push((format!("{spelling} after {before} bytes"), text[first..end].to_owned()));
            }
        }
        Self { name: name.into(), forms }
    }

    /// A text that is looked for as it is.
    pub(crate) fn text(name: impl Into<String>, text: &str) -> Self {
        Self { name: name.into(), forms: vec![("text".to_owned(), latin1(text.as_bytes()))] }
    }
}

/// Which secrets are in which form in `haystack`.
pub(crate) fn found(needles: &[Needle], haystack: &[u8]) -> Vec<String> {
    let haystack = latin1(haystack);
    let mut found = Vec::new();
    for needle in needles {
        for (form, text) in &needle.forms {
            if haystack.contains(text.as_str()) {
                found.push(format!("{} as {form}", needle.name));
            }
        }
    }
    found
}
