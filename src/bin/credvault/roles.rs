//! `credvault roles`: the roles of PostgreSQL and their rights, as SQL to run. No database is asked.

use serde_json::Map;

use crate::arguments::{RoleStep, Roles};
use crate::failure::Exit;
use crate::output::Report;

const CREATE: &str = include_str!("roles/create.sql");
const GRANT: &str = include_str!("roles/grant.sql");

/// The prefix and the schema that the SQL above is written with.
const PREFIX: &str = "credvault";
const SCHEMA: &str = "public";

/// What each role's name ends in.
const ROLES: [&str; 4] = ["owner", "service", "rotator", "reader"];

/// `credvault roles`.
pub(crate) fn roles(asked: &Roles) -> Report {
    let written = match asked.step {
        None => format!("{CREATE}\n{GRANT}"),
        Some(RoleStep::Create) => CREATE.to_owned(),
        Some(RoleStep::Grant) => GRANT.to_owned(),
    };
    // All at once: a prefix may itself have a role's name in it.
    let sql = written.replace(&format!("{PREFIX}_"), &format!("{}_", asked.prefix));
    let sql = ["SCHEMA", "EXISTS", "search_path TO"].iter().fold(sql, |sql, before| {
        sql.replace(&format!("{before} {SCHEMA}"), &format!("{before} {}", asked.schema))
    });
    let name = |role: &str| (role.to_owned(), format!("{}_{role}", asked.prefix).into());
    let mut fields: Map<_, _> = ROLES.map(name).into_iter().collect();
    fields.insert("sql".to_owned(), sql.clone().into());
    Report::new("roles", Exit::Done, sql, fields.into())
}
