//! The rotation protocol, tried in every interleaving. Pure: no database, no time, no crate.
//!
//! The tree is the protocol. Who acts: [`rotator`] with its [`lease`] and [`swap`], [`writers`], [`reader`], [`operator`].
//! On what: [`state`], of [`rows`], [`keys`] and [`transactions`]. Each does one step at a time, any of them next; a process
//! may be killed between any two of its steps. [`variants`] are protocols that lack one part, [`properties`] what must
//! hold, [`bounds`] how much happens, [`cases`] and [`counterexamples`] the tests, [`checker`] the search.
//!
//! `src/manual/protocol.md` tells what it says; its tables are held to what the tests find. `cargo test --test model --
//! --nocapture` prints the numbers of states and the counterexamples. Wider bounds take minutes and some GiB, optimized:
//!
//! ```sh
//! rustc --edition 2024 -O --test tests/model/main.rs -o target/model
//! CREDVAULT_MODEL=wide target/model --nocapture --test-threads 1
//! ```
//!
//! The search is our own, as it is short. The crate `stateright` would bring twenty others, an HTTP server among them, and
//! its `eventually` works on acyclic graphs alone; "from every state a rotation can still be brought to its end", which is
//! asked here, it can't express.

mod actions;
mod bounds;
mod cases;
mod checker;
mod counterexamples;
mod keys;
mod lease;
mod model;
mod operator;
mod properties;
mod reader;
mod rotator;
mod rows;
mod state;
mod swap;
mod transactions;
mod variants;
mod writers;

/// What the manual says of the model.
const PAGE: &str = include_str!("../../src/manual/protocol.md");

/// Holds the row of a table in the manual to what was found.
fn assert_page_says(first_cell: &str, number: usize) {
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| {first_cell} |")));
    let row = row.unwrap_or_else(|| panic!("src/manual/protocol.md has no row {first_cell}"));
    let number = with_commas(number);
    assert!(
        row.split('|').any(|cell| cell.trim() == number),
        "src/manual/protocol.md is out of date: it is {number}, and the row says {row}"
    );
}

/// 1234567 as `1,234,567`.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
