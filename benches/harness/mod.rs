//! Interleaved rounds and their medians: what is compared runs in turn, so that a machine that slows down slows all.
#![allow(dead_code, unreachable_pub, reason = "each bench uses its own part of the harness")]

use std::time::{Duration, Instant};

/// The median of some times.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A kind of call that is measured: how long so many of them take. A trait, so that it is found once for them all and not
/// at each call, which would count for calls of nanoseconds.
pub trait Measured {
    fn time(&mut self, calls: u32) -> Duration;
}

impl<F: FnMut()> Measured for F {
    fn time(&mut self, calls: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..calls {
            self();
        }
        start.elapsed()
    }
}

/// Makes the calls of each kind in turn, `rounds` rounds of `calls` calls each, and gives the median time of one call of
/// each kind.
pub fn interleaved<const KINDS: usize>(
    rounds: usize,
    calls: u32,
    mut kinds: [&mut dyn Measured; KINDS],
) -> [Duration; KINDS] {
    let mut times = [const { Vec::new() }; KINDS];
    // The first round warms up.
    for round in 0..=rounds {
        for (kind, times) in kinds.iter_mut().zip(&mut times) {
            let took = kind.time(calls);
            if round > 0 {
                times.push(took / calls);
            }
        }
    }
    times.map(median)
}

/// Prints what was measured against its floor, and whether the ratio stays within its limit; gives whether it does.
pub fn report(what: &str, [floor, ours]: [Duration; 2], limit: Option<f64>) -> bool {
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    let within = limit.is_none_or(|limit| ratio <= limit);
    let verdict = match limit {
        Some(limit) if within => format!("within {limit:.2}"),
        Some(limit) => format!("ABOVE {limit:.2}"),
        None => String::new(),
    };
    println!("{what:<44} {floor:>12.2?} {ours:>12.2?} {ratio:>7.2} × {verdict}");
    within
}

/// Keeps this thread, and all threads and processes that it starts from now on, on one processor, where the system knows
/// how and has as many.
pub fn stay_on_processor(number: usize) {
    #[cfg(target_os = "linux")]
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) || number == 0 {
        let mut processors = rustix::thread::CpuSet::new();
        processors.set(number);
        rustix::thread::sched_setaffinity(None, &processors).expect("the processor is not this program's");
    }
}

/// The heading of the lines that [`report`] prints.
pub fn heading(title: &str) {
    println!("\n{title:<44} {:>12} {:>12} {:>9}", "floor", "credvault", "ratio");
}

/// Ends the bench: with an error where a ratio was above its limit.
pub fn end(all_within: bool) {
    if !all_within {
        eprintln!("a ratio is above its limit");
        std::process::exit(1);
    }
}
