//! Many credentials at once, as lines of JSON: `import`, `export`.

pub(crate) mod export;
pub(crate) mod import;
mod lines;

use indicatif::ProgressStyle;

/// The form of a line, and examples.
pub(crate) const IMPORT_HELP: &str = "\
A line, version 1 (order is free; of connector and integration_id one is enough, and connector goes first):
  {\"version\": 1, \"organization_id\": \"ID\", \"connector\": \"github\", \"integration_id\": \"ID\",
   \"credential_type\": \"token\", \"expires_at\": \"2027-01-31T12:00:00Z\" or null,
   \"fields\": {\"access_token\": \"…\"}}

Examples:
  credvault import --in credentials.jsonl
  credvault import --in credentials.jsonl --dry-run
  ssh other-host credvault export --yes --in-clear | credvault import";

/// Examples.
pub(crate) const EXPORT_HELP: &str = "\
The form of a line is in `credvault import --help`.

Examples:
  credvault export --out credentials.jsonl
  credvault export --organization ID --out credentials.jsonl
  credvault export --yes --in-clear | age -r RECIPIENT > credentials.jsonl.age";

/// The most lines or rows that a report lists; it counts them all.
const MAX_LISTED: usize = 1_000;

/// The bar of an import, which counts bytes; without a length, as from a pipe, it only says how many.
fn bytes_style(length: Option<u64>) -> Option<ProgressStyle> {
    ProgressStyle::with_template(match length {
        Some(_) => "{msg:22} {bar:30} {bytes}/{total_bytes}, {eta} left",
        None => "{msg:22} {bytes}, {elapsed}",
    })
    .ok()
}
