//! A search for secrets in what is shown and what is traced, in each form in which bytes get there.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::common::traces::{trace_everything, traced};

/// The bytes of a secret by which it is known; below it they may be there by chance.
const LEAST_BYTES: usize = 8;

/// Secrets to be looked for.
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// These, with everything traced from now on.
    pub(crate) fn traced(secrets: Vec<Vec<u8>>) -> Self {
        assert!(secrets.iter().all(|secret| secret.len() >= LEAST_BYTES), "too short to be told from chance");
        trace_everything();
        tracing::trace!("what is traced is searched");
        Self(secrets)
    }

    /// None of them is in `shown`, nor in what was traced in this process.
    pub(crate) fn assert_hidden(&self, shown: &str) {
        let traced = String::from_utf8_lossy(&traced()).into_owned();
        assert!(traced.contains("what is traced is searched"), "nothing is traced");
        for (place, text) in [("shown", shown), ("traced", &traced)] {
            for form in self.0.iter().flat_map(|secret| forms(secret)) {
                let around = text.find(&form).map(|at| {
                    let begin = (0..=at.saturating_sub(400)).rev().find(|&at| text.is_char_boundary(at));
                    &text[begin.unwrap_or(0)..at]
                });
                assert_eq!(around, None, "{form} is {place}");
            }
        }
    }
}

/// Texts of which one is in a text that shows the secret.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let encoded = STANDARD.encode(secret);
    let numbers =
        |bytes: &[u8]| bytes[..LEAST_BYTES].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![
        // A body's Debug writes its bytes as text, or as numbers; the bytes may be encoded.
        numbers(secret),
        numbers(encoded.as_bytes()),
        hex[..2 * LEAST_BYTES].to_owned(),
        hex[..2 * LEAST_BYTES].to_uppercase(),
        encoded[..LEAST_BYTES / 3 * 4].to_owned(),
        URL_SAFE_NO_PAD.encode(secret)[..LEAST_BYTES / 3 * 4].to_owned(),
    ];
    forms.extend(std::str::from_utf8(secret).map(|text| text.chars().take(2 * LEAST_BYTES).collect()));
    forms
}

#[test]
fn a_secret_is_found_in_each_form() {
    let secret = b"hunter2 of a test".to_vec();
    for form in [
        format!("{:?}", secret),
        format!("{:x?}", "68756e74657232206f66206120746573"),
        String::from_utf8(secret.clone()).unwrap(),
        STANDARD.encode(&secret),
        format!("{:?}", STANDARD.encode(&secret).as_bytes()),
    ] {
        let found = std::panic::catch_unwind(|| Secrets(vec![secret.clone()]).assert_hidden(&form));
        assert!(found.is_err(), "{form}");
    }
}
