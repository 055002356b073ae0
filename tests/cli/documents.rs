//! The manual's page on JSON output, read as the tables that it has, and documents held to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const PAGE: &str = include_str!("../../src/manual/output.md");

/// The fields of a command or a part, with their types.
type Table = BTreeMap<String, String>;

/// What is wrong with a document, if the page tells of another.
pub fn differences(document: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    match document.as_object() {
        Some(fields) => {
            let mut fields = fields.clone();
            fields.remove("version");
            let command = fields.remove("command");
            let mut table = command.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            // The last one has the fields of the command.
            if let Some(event) =
                fields.get("event").and_then(Value::as_str).filter(|event| *event != "report")
            {
                table = format!("event {event}");
                fields.remove("event");
            }
            match tables().get(&table) {
                Some(expected) => compare(&table, &fields, expected, &mut differences),
                None => differences.push(format!("{table} is not on the page")),
            }
        }
        None => differences.push("it is no object".to_owned()),
    }
    differences
}

/// The commands that have a heading on the page.
pub fn commands() -> BTreeSet<String> {
    let commands = PAGE.split("\n# ").find(|chapter| chapter.starts_with("Commands")).unwrap();
    commands.split("\n## ").skip(1).map(|section| section.lines().next().unwrap().to_owned()).collect()
}

fn tables() -> BTreeMap<String, Table> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for section in PAGE.split("\n## ").skip(1) {
        let section = section.split("\n# ").next().unwrap();
        let mut lines = section.lines();
        let name = lines.next().unwrap();
        let rows = lines.filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let field = cells.next()?.trim_end_matches('`').to_owned();
            Some((field, cells.next()?.to_owned()))
        });
        tables.insert(name.to_owned(), rows.collect());
    }
    // These say that they have a part's fields, too.
    for (command, part) in [("describe", "credential"), ("keys show", "data key"), ("rotate", "rotation")] {
        assert!(PAGE.contains(&format!("\n## {command}\n\nThe fields of a *{part}*")), "{command}");
        let part = tables[part].clone();
        tables.get_mut(command).unwrap().extend(part);
    }
    tables
}

fn compare(place: &str, fields: &Map<String, Value>, table: &Table, differences: &mut Vec<String>) {
    for (name, kind) in table {
        let place = format!("{place}: {name}");
        match fields.get(name) {
            Some(value) => check(&place, value, kind, differences),
            // The page says of these when they are there.
            None if ["path", "master_key"].contains(&name.as_str()) => {}
            None => differences.push(format!("{place} is missing")),
        }
    }
    for name in fields.keys().filter(|name| !table.contains_key(*name)) {
        differences.push(format!("{place}: {name} is not on the page"));
    }
}

fn check(place: &str, value: &Value, kind: &str, differences: &mut Vec<String>) {
    if let Some(values) = kind.strip_prefix("map of ") {
        match value.as_object() {
            Some(map) => map.values().for_each(|value| check(place, value, values, differences)),
            None => differences.push(format!("{place} is no map")),
        }
        return;
    }
    if let Some(items) = kind.strip_prefix("list of ") {
        match value.as_array() {
            Some(list) => list.iter().for_each(|value| check(place, value, items, differences)),
            None => differences.push(format!("{place} is no list")),
        }
        return;
    }
    if let Some(kind) = kind.strip_suffix(" or null") {
        if !value.is_null() {
            check(place, value, kind, differences);
        }
        return;
    }
    if let Some(part) = kind.strip_prefix('*') {
        let part = part.trim_end_matches('*');
        match (value.as_object(), tables().get(part)) {
            (Some(fields), Some(table)) => compare(&format!("{place}: {part}"), fields, table, differences),
            _ => differences.push(format!("{place} is no {part}")),
        }
        return;
    }
    let holds = match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.as_f64().is_some_and(|number| number >= 0.0),
        "id" => value.as_str().is_some_and(|id| {
            id == "v1" || uuid::Uuid::try_parse(id).is_ok_and(|parsed| parsed.to_string() == id)
        }),
        "time" => value.as_str().is_some_and(|text| {
            use time::format_description::well_known::Rfc3339;
            text.ends_with('Z') && time::OffsetDateTime::parse(text, &Rfc3339).is_ok()
        }),
        _ => false,
    };
    if !holds {
        differences.push(format!("{place} is {value}, not of type {kind:?}"));
    }
}

#[test]
fn a_document_that_the_page_does_not_tell_of_is_noticed() {
    let document = |json: &str| differences(&serde_json::from_str(json).unwrap());
    let ids = r#""organization_id":"6f1d2f0e-9a3b-4b7e-8f52-1f6d0c1f7a10","integration_id":"v1""#;
    assert_eq!(document(&format!(r#"{{"version":1,"command":"delete",{ids}}}"#)), [] as [String; 0]);
    for (json, what) in [
        (format!(r#"{{"version":1,"command":"delete",{ids},"more":1}}"#), "more is not on the page"),
        (
            r#"{"version":1,"command":"delete","integration_id":"v1"}"#.to_owned(),
            "organization_id is missing",
        ),
        (
            r#"{"version":1,"command":"delete","organization_id":"x","integration_id":"v1"}"#.to_owned(),
            "of type",
        ),
        (r#"{"version":1,"command":"undo"}"#.to_owned(), "undo is not on the page"),
        (
            r#"{"version":1,"command":"keys compromise","event":"undone"}"#.to_owned(),
            "event undone is not on the page",
        ),
        (
            r#"{"version":1,"command":"keys compromise","event":"credential"}"#.to_owned(),
            "event credential: connector is missing",
        ),
        (
            r#"{"version":1,"command":"keys list","data_keys":[{"state":"active"}]}"#.to_owned(),
            "data key: rows is missing",
        ),
    ] {
        let found = document(&json);
        assert!(found.iter().any(|found| found.contains(what)), "{json}: {found:?}");
    }
}
