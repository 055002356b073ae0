//! What grows with the number of rows and what must not: the rate, the client's memory, the table, a rewrap.

use std::time::{Duration, Instant};

use credvault::Outcome;

use super::common::Dialect;
use super::table::Table;
use super::{SMALL, per_second, rotate, with_workers};

/// The rate at all rows, as a part of that at [`SMALL`].
const RATE: f64 = 0.85;
/// What a rotation may take of memory above what the process had before, in bytes.
const MEMORY: u64 = 16 << 20;
/// By how much three rotations may let the table grow.
const GROWTH: f64 = 1.05;
/// How many data keys are rewrapped, and within which time.
const DATA_KEYS: u64 = 10;
const REWRAP: Duration = Duration::from_secs(1);

pub(super) async fn run(rows: u32) -> bool {
    let rate_of_small = {
        let table = Table::fill(Dialect::Postgres, SMALL).await;
        table.vacuum().await;
        rotate(with_workers(&table.vault, 2), SMALL).await;
        table.vacuum().await;
        per_second(SMALL, rotate(with_workers(&table.vault, 2), SMALL).await)
    };
    let table = Table::fill(Dialect::Postgres, rows).await;
    table.vacuum().await;
    rotate(with_workers(&table.vault, 2), rows).await;
    let mut sizes = vec![table.bytes().await];
    let mut times = Vec::new();
    let mut memory = 0;
    for _ in 0..3 {
        table.vacuum().await;
        let idle = forget_peak();
        times.push(rotate(with_workers(&table.vault, 2), rows).await);
        memory = memory.max(peak().saturating_sub(idle));
        sizes.push(table.bytes().await);
    }
    println!("\nPostgreSQL, {rows} rows");
    let rate = per_second(rows, super::harness::median(times)) / rate_of_small;
    let growth = sizes[3] as f64 / sizes[0] as f64;
    let rewrap = rewrap(&table).await;
    let check = |what: &str, figure: String, holds: bool| {
        println!("{what:<44} {figure:>25} {}", if holds { "within" } else { "ABOVE" });
        holds
    };
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
    let mut within =
        check(&format!("rate, against that of {SMALL} rows"), format!("{rate:.2} ×"), rate >= RATE);
    within &= check("memory of the client above idle", mib(memory), memory <= MEMORY);
    within &= check("size after three more rotations", format!("{growth:.3} ×"), growth <= GROWTH);
    within &= check("rewrap of 10 data keys", format!("{rewrap:.1?}"), rewrap <= REWRAP);
    within
}

async fn rewrap(table: &Table) -> Duration {
    let keys = table.vault.keys().list().await.expect("they are listed").len() as u64;
    for (organization, _) in table.tokens.iter().take((DATA_KEYS + 1).saturating_sub(keys) as usize) {
        table.vault.keys().create(*organization).await.expect("a key");
    }
    let to = credvault::provider::from_spec(&table.keys.generate("next.key")).expect("a key file");
    let start = Instant::now();
    let report = table.vault.rewrap(to).run().await.expect("it rewraps");
    let took = start.elapsed();
    assert!(report.outcome == Outcome::Complete && report.rewrapped >= DATA_KEYS, "{report:?}");
    took
}

/// A line of what Linux says of this process's memory, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this bench measures memory on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it says so");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number") << 10
}

/// Lets the peak begin anew; gives what is taken now.
fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be forgotten");
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}
