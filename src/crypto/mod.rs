//! Keys and the primitives under them; nothing here knows a row or a database.

pub(crate) mod key;
