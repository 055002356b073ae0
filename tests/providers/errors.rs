//! What the tests of services expect of an error.

use credvault::{Error, ErrorKind};

/// An error is of this kind, says all of this, and repeats nothing of what a double says besides.
#[track_caller]
pub(crate) fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!format!("{error:?}").contains("hunter2"), "what the service said is repeated: {error:?}");
}
