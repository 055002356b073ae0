//! What holds for any object, of any size.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::MAX_MEMBERS;
use super::tests::{read, record};

#[test]
fn an_object_has_as_many_members_as_a_credential_has_fields() {
    assert_eq!(MAX_MEMBERS, crate::credential::MAX_FIELDS);
    let object = |members: usize| {
        let members: Vec<_> = (0..members).map(|number| format!("\"{number}\":\"hunter2\"")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(read(&object(MAX_MEMBERS)).unwrap().len(), MAX_MEMBERS);
    let error = read(&object(MAX_MEMBERS + 1)).unwrap_err();
    assert!(error.contains("more than 65535 members") && !error.contains("hunter2"), "{error}");
}

/// A value that a member may have.
fn member() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<u64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        any::<BTreeMap<String, String>>().prop_map(|fields| serde_json::to_value(fields).unwrap()),
    ]
}

proptest! {
    #[test]
    fn a_record_is_what_serde_json_writes(
        members in proptest::collection::btree_map(any::<String>(), member(), 0..5)
    ) {
        let text = serde_json::to_string(&members).unwrap();
        prop_assert_eq!(record(&text), Ok(members.into_iter().collect()));
    }

    #[test]
    fn a_record_is_only_what_serde_json_reads(
        text in r#"\{?("[ab]": ?(null|0|1?[0-9]{0,3}|"[a\\"n]{0,3}"|\{("[ab]":"[xü]{0,2}",?){0,2}\}?),?){0,3}\}?"#
    ) {
        if let Ok(members) = record(&text) {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), members);
        }
    }

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
