//! The progress of a rotation, for people: lines on standard error.

use std::time::{Duration, Instant};

use credvault::{Progress, RotationEvent, Waiting};

use super::progress::Told;
use crate::output;

/// How often a line says how far it is, where no bar does.
const EVERY: Duration = Duration::from_secs(10);

/// What is waited for is said after so long: most of it is over before.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// What was said, and what there is to say.
pub(super) struct Prose {
    /// `None` beside a bar, which says how far it is.
    every: Option<Duration>,
    /// When the last line said how far it was, and what it said.
    said: Option<(Instant, Progress)>,
    progress: Progress,
    waits: Option<Waits>,
}

/// What it waits for.
struct Waits {
    since: Instant,
    /// Of what kind: what differs in numbers alone is not said anew.
    kind: String,
    text: String,
    is_said: bool,
}

impl Prose {
    pub(super) fn alone(now: Instant) -> Self {
        let said = Some((now, Progress::default()));
        Self { every: Some(EVERY), said, progress: Progress::default(), waits: None }
    }

    pub(super) fn beside_a_bar() -> Self {
        Self { every: None, said: None, progress: Progress::default(), waits: None }
    }

    /// What is to be said of an event at once.
    pub(super) fn hear(&mut self, told: &Told, now: Instant) -> Option<String> {
        match told {
            Told::Event(RotationEvent::WaitingForLease { owner, since }) => {
                let text = format!(
                    "{}, which runs a job since {}",
                    output::printable(owner),
                    output::moment(*since)
                );
                self.waits_for(text.clone(), text, now);
            }
            Told::Event(RotationEvent::Began { .. }) => self.waits = None,
            Told::Event(RotationEvent::Waiting(waiting)) => {
                let (kind, text) = named(waiting);
                self.waits_for(kind, text, now);
            }
            Told::Stopping => {
                return Some(
                    "rotation: stopping: the page under way is finished first (Ctrl-C again ends at once)"
                        .to_owned(),
                );
            }
            _ => {}
        }
        None
    }

    fn waits_for(&mut self, kind: String, text: String, now: Instant) {
        match &mut self.waits {
            Some(waits) if waits.kind == kind => waits.text = text,
            Some(waits) => *waits = Waits { since: waits.since, kind, text, is_said: false },
            None => self.waits = Some(Waits { since: now, kind, text, is_said: false }),
        }
    }

    /// What is to be said now that it has come so far.
    pub(super) fn look_at(&mut self, progress: Progress, now: Instant) -> Option<String> {
        if progress.re_encrypted > self.progress.re_encrypted {
            self.waits = None;
        }
        self.progress = progress;
        if let (Some(every), Some((at, before))) = (self.every, self.said)
            && now.duration_since(at) >= every
        {
            self.said = Some((now, progress));
            return Some(self.how_far(before, now.duration_since(at)));
        }
        let waits = self.waits.as_mut().filter(|waits| !waits.is_said)?;
        if now.duration_since(waits.since) < WORTH_SAYING {
            return None;
        }
        waits.is_said = true;
        Some(format!("rotation: waiting for {}", waits.text))
    }

    /// How far it is, `took` after it was as far as `before`.
    fn how_far(&mut self, before: Progress, took: Duration) -> String {
        let Progress { re_encrypted, stale, .. } = self.progress;
        let left = stale.saturating_sub(re_encrypted);
        let mut line = format!(
            "rotation: {} of {} re-encrypted",
            output::grouped(re_encrypted),
            output::count(stale.max(re_encrypted), "row")
        );
        let rate = rate(re_encrypted.saturating_sub(before.re_encrypted), took);
        line.push_str(&format!(", {} a second", output::grouped(rate.round() as u64)));
        line.push_str(&format!(", {} left", output::grouped(left)));
        if left > 0
            && let Some(seconds) = seconds_left(left, rate)
        {
            line.push_str(&format!(", about {} to go", about(seconds)));
        }
        if let Some(waits) = &mut self.waits {
            waits.is_said = true;
            line.push_str(&format!("; waiting for {}", waits.text));
        }
        line
    }
}

/// Rows a second.
pub(super) fn rate(rows: u64, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// How long so many rows take; `None` at a rate of none.
pub(super) fn seconds_left(rows: u64, rate: f64) -> Option<u64> {
    (rate > 0.0).then(|| (rows as f64 / rate).ceil() as u64)
}

fn about(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// What is waited for: its kind, and in full.
fn named(waiting: &Waiting) -> (String, String) {
    let transactions: Vec<String> =
        waiting.transactions.iter().map(|transaction| output::printable(&transaction).into_owned()).collect();
    let mut parts = Vec::new();
    if waiting.rows > 0 {
        parts.push(format!("{} that others hold or changed", output::count(waiting.rows, "row")));
    }
    if !transactions.is_empty() {
        parts.push(format!("the end of older transactions: {}", transactions.join(", ")));
    }
    (format!("{} {transactions:?}", waiting.rows > 0), parts.join(", and for "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(re_encrypted: u64, stale: u64) -> Progress {
        let mut progress = Progress::default();
        (progress.re_encrypted, progress.stale) = (re_encrypted, stale);
        progress
    }

    fn waiting(rows: u64) -> Told {
        let mut waiting = Waiting::default();
        waiting.rows = rows;
        Told::Event(RotationEvent::Waiting(waiting))
    }

    #[test]
    fn without_a_bar_a_line_every_ten_seconds_says_how_far_it_is() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut prose = Prose::alone(begin);
        assert_eq!(prose.look_at(progress(900, 12_000), at(9)), None);
        let line = prose.look_at(progress(1_000, 12_000), at(10));
        assert_eq!(
            line.as_deref(),
            Some("rotation: 1,000 of 12,000 rows re-encrypted, 100 a second, 11,000 left, about 110 s to go")
        );
        assert_eq!(prose.look_at(progress(1_500, 12_000), at(19)), None);
        // By the last ten seconds, not by all.
        let line = prose.look_at(progress(3_000, 12_000), at(20)).unwrap();
        assert!(line.contains("200 a second") && line.ends_with("about 45 s to go"), "{line}");
        let line = prose.look_at(progress(3_000, 12_000), at(30)).unwrap();
        assert!(line.ends_with("0 a second, 9,000 left"), "{line}");
    }

    #[test]
    fn what_is_waited_for_is_said_once_after_a_second_and_with_each_line() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut prose = Prose::alone(begin);
        assert_eq!(prose.hear(&waiting(3), at(1)), None);
        assert_eq!(prose.look_at(progress(5, 8), at(1)), None);
        // It went on: that was not worth saying.
        assert_eq!(prose.look_at(progress(6, 8), at(3)), None);
        assert_eq!(prose.hear(&waiting(2), at(4)), None);
        let line = prose.look_at(progress(6, 8), at(5));
        assert_eq!(line.as_deref(), Some("rotation: waiting for 2 rows that others hold or changed"));
        // One row less is nothing new.
        assert_eq!(prose.hear(&waiting(1), at(6)), None);
        assert_eq!(prose.look_at(progress(6, 8), at(7)), None);
        let line = prose.look_at(progress(6, 8), at(10)).unwrap();
        assert!(
            line.ends_with("2 left, about 4 s to go; waiting for 1 row that others hold or changed"),
            "{line}"
        );
    }

    #[test]
    fn beside_a_bar_only_what_the_bar_does_not_show_is_said() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut prose = Prose::beside_a_bar();
        assert_eq!(prose.look_at(progress(5, 8), at(60)), None);
        prose.hear(&waiting(3), at(61));
        assert!(prose.look_at(progress(5, 8), at(63)).unwrap().contains("waiting for 3 rows"));
        assert!(prose.hear(&Told::Stopping, at(64)).unwrap().contains("stopping"));
    }
}
