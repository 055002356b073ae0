//! What can be written in place of a value: each change is an expression in SQL, as one who may drop every constraint can
//! write it.

use crate::common::Dialect;

/// A column, as the database's own catalogue has it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) table: String,
    pub(super) name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Bytes,
    Id,
    Time,
    Integer,
    Flag,
    Json,
}

/// A value in a row.
pub(super) enum Value {
    Null,
    /// Of text, bytes and ids.
    Bytes(Vec<u8>),
    Other,
}

/// Words that some column of the vault's knows, for every column of text.
const WORDS: [&str; 13] = [
    "none",
    "observe",
    "re-encrypt",
    "cut-over",
    "pre-active",
    "active",
    "deactivated",
    "destroyed",
    "token",
    "oauth2",
    "file",
    "env",
    "v1",
];

/// Which of the bytes of a column's values are changed in this row: with several rows each takes a part of them.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) row: usize,
    pub(super) rows: usize,
}

impl Share {
    fn has(self, at: usize) -> bool {
        at % self.rows == self.row
    }
}

/// What is written instead, in words and in SQL.
pub(super) struct Change {
    pub(super) what: String,
    pub(super) sql: String,
}

/// Whether a change that a get has noticed is verified, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Get,
    GetAndVerify,
}

impl Change {
    /// Of bytes and lengths, of which there are hundreds, every eighth is verified; all else is.
    pub(super) fn look(&self, number: usize) -> Look {
        let is_one_of_many = self.what.starts_with("bit") || self.what.starts_with("the first");
        if is_one_of_many && !number.is_multiple_of(8) { Look::Get } else { Look::GetAndVerify }
    }
}

impl Column {
    /// A column by the words of the catalogue: `data_type` on PostgreSQL, the declared type on SQLite.
    pub(super) fn new(table: &str, name: &str, data_type: &str) -> Self {
        let kind = match data_type {
            "text" | "character varying" | "TEXT" => Kind::Text,
            "bytea" | "BLOB" => Kind::Bytes,
            "uuid" => Kind::Id,
            "timestamp without time zone" => Kind::Time,
            "bigint" | "INTEGER" => Kind::Integer,
            "boolean" => Kind::Flag,
            "jsonb" => Kind::Json,
            other => panic!("{table}.{name} is of the type {other}, which no change is known for"),
        };
        Self { table: table.to_owned(), name: name.to_owned(), kind }
    }

    /// The name that the list of what nothing authenticates has it by.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// What reads its value as text: hexadecimal, or nothing that matters.
    pub(super) fn read(&self, dialect: Dialect) -> String {
        let name = &self.name;
        match (dialect, self.kind) {
            (Dialect::Sqlite, Kind::Text | Kind::Bytes) => format!("hex(CAST({name} AS BLOB))"),
            (Dialect::Postgres, Kind::Text) => format!("encode(convert_to({name}, 'UTF8'), 'hex')"),
            (Dialect::Postgres, Kind::Bytes) => format!("encode({name}, 'hex')"),
            (Dialect::Postgres, Kind::Id) => format!("replace({name}::text, '-', '')"),
            _ => format!("CASE WHEN {name} IS NOT NULL THEN '' END"),
        }
    }

    /// The value that [`read`](Self::read) gave.
    pub(super) fn value(&self, read: Option<&str>) -> Value {
        match (read, self.kind) {
            (None, _) => Value::Null,
            (Some(hex), Kind::Text | Kind::Bytes | Kind::Id) => Value::Bytes(
                (0..hex.len() / 2)
                    .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                    .collect(),
            ),
            _ => Value::Other,
        }
    }

    /// The changes of a value by itself: each byte of its share, shorter and longer values, known words,
    /// other types where the database has such, and none at all.
    pub(super) fn changes(&self, dialect: Dialect, value: &Value, share: Share) -> Vec<Change> {
        let mut changes = match value {
            Value::Null => self.in_place_of_null(dialect),
            Value::Bytes(bytes) => self.of_bytes(dialect, bytes, share),
            Value::Other => self.of_others(dialect),
        };
        changes.push(change("none", "NULL"));
        if dialect == Dialect::Sqlite {
            changes.extend(["x'00ff'", "'text'", "7", "0.5"].map(|sql| change("another type", sql)));
        }
        changes
    }

    fn in_place_of_null(&self, dialect: Dialect) -> Vec<Change> {
        let sql = match self.kind {
            Kind::Text => "'x'",
            Kind::Bytes if dialect == Dialect::Postgres => "decode(repeat('00', 16), 'hex')",
            Kind::Bytes => "zeroblob(16)",
            Kind::Id => "gen_random_uuid()",
            Kind::Time => "now() AT TIME ZONE 'utc'",
            Kind::Integer => "7",
            Kind::Flag => "true",
            Kind::Json => "'{}'",
        };
        vec![change("a value where there is none", sql)]
    }

    fn of_bytes(&self, dialect: Dialect, bytes: &[u8], share: Share) -> Vec<Change> {
        let mut changes = Vec::new();
        let right = bytes;
        let mut add = |what: String, bytes: &[u8]| {
            // A UUID in other letters is the same one, and the constraint takes small letters only.
            let same_id = bytes.len() == 36 && bytes.eq_ignore_ascii_case(right);
            if same_id && self.name != "encryption_key_id" {
                return;
            }
            // PostgreSQL takes neither for text.
            let refused = dialect == Dialect::Postgres
                && self.kind == Kind::Text
                && (bytes.contains(&0) || std::str::from_utf8(bytes).is_err());
            if !refused {
                changes.push(Change { what, sql: self.literal(dialect, bytes) });
            }
        };
        for at in (0..bytes.len()).filter(|at| share.has(*at)) {
            // In turn, and never the one that PostgreSQL has no text with.
            let bit = at % 7;
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << bit;
            add(format!("bit {bit} of byte {at}"), &bytes);
            if dialect == Dialect::Sqlite && at % 16 == 0 {
                bytes[at] ^= 0x80;
                add(format!("bits {bit} and 7 of byte {at}"), &bytes);
            }
        }
        if self.kind == Kind::Id {
            add("no bit set".to_owned(), &[0; 16]);
            return changes;
        }
        for count in (0..bytes.len()).filter(|count| share.has(*count) && count % 8 < 2) {
            add(format!("the first {count} bytes"), &bytes[..count]);
        }
        for more in [" ", "\n", "A", "=", "\u{0}", "é"] {
            add(format!("{more:?} after it"), &[bytes, more.as_bytes()].concat());
            add(format!("{more:?} before it"), &[more.as_bytes(), bytes].concat());
        }
        // No stored value is a word.
        if self.kind == Kind::Text && bytes.len() <= 36 {
            WORDS.iter().for_each(|word| add(format!("the word {word}"), word.as_bytes()));
        }
        changes
    }

    fn of_others(&self, dialect: Dialect) -> Vec<Change> {
        let name = &self.name;
        let other = |sql: String| Change { what: sql.clone(), sql };
        let bytes = (0..7).map(|byte| 1_i64 << (8 * byte));
        match (dialect, self.kind) {
            (Dialect::Postgres, Kind::Time) => bytes
                .map(|more| other(format!("{name} + interval '{more} microseconds'")))
                .chain(["'infinity'", "'-infinity'", "'0001-01-01'"].map(|sql| other(sql.to_owned())))
                .collect(),
            (Dialect::Postgres, Kind::Integer) => {
                bytes.map(|bit| other(format!("{name} # {bit}::bigint"))).collect()
            }
            (Dialect::Sqlite, _) => bytes
                .map(|bit| other(format!("({name} | {bit}) - ({name} & {bit})")))
                .chain(["-1", "9223372036854775807", "-9223372036854775808"].map(|sql| other(sql.to_owned())))
                .collect(),
            (_, Kind::Flag) => vec![other(format!("NOT {name}"))],
            _ => ["{}", "[]", "null", "7", r#"{"x": "y"}"#].map(|json| other(format!("'{json}'"))).into(),
        }
    }

    fn literal(&self, dialect: Dialect, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match (dialect, self.kind) {
            (Dialect::Sqlite, Kind::Text) => format!("CAST(x'{hex}' AS TEXT)"),
            (Dialect::Sqlite, _) => format!("x'{hex}'"),
            (_, Kind::Text) => format!("convert_from(decode('{hex}', 'hex'), 'UTF8')"),
            (_, Kind::Id) => format!("'{hex}'::uuid"),
            _ => format!("decode('{hex}', 'hex')"),
        }
    }
}

fn change(what: &str, sql: &str) -> Change {
    Change { what: format!("{what}: {sql}"), sql: sql.to_owned() }
}
