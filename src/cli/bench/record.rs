//! What a load writes down: latencies, errors, the longest time without success.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Kinds of errors that are counted separately; further ones are counted together as "other".
const MAX_ERROR_KINDS: usize = 16;
/// A latency above this (10 minutes) is recorded as this.
const MAX_LATENCY_US: u64 = 600_000_000;

/// What is measured: what was handed over from `start` on and answered up to `stop`. Before it the load warms
/// up; after it the load ends.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its beginning.
    pub start: Instant,
    /// Its end.
    pub stop: Instant,
}

/// What others see of a running load.
#[derive(Debug, Default)]
pub struct Progress {
    /// Proposals answered with an index, since the beginning.
    pub answered: AtomicU64,
    /// Errors of all kinds.
    pub errors: AtomicU64,
    /// The longest time without any success that ended since somebody set this to 0.
    pub longest_gap_us: AtomicU64,
    /// Ends the load before its time.
    pub stop: AtomicBool,
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    /// Microseconds of each proposal of the window, to three digits.
    pub latencies_us: Histogram<u64>,
    /// Error answers by their first word, connections' errors by kind: how often each came, warm-up included.
    pub errors: BTreeMap<String, u64>,
    /// The first of them, in full.
    pub first_error: Option<String>,
}

impl Outcome {
    /// Errors of all kinds.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Takes the answers of a load.
pub struct Record<'a> {
    window: Window,
    progress: &'a Progress,
    outcome: Outcome,
    last_success: Instant,
}

impl Record<'_> {
    /// An empty record.
    pub fn new(window: Window, progress: &Progress) -> Record<'_> {
        let latencies_us = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("fixed, valid bounds");
        let outcome = Outcome { latencies_us, errors: BTreeMap::new(), first_error: None };
        Record { window, progress, outcome, last_success: Instant::now() }
    }

    /// Whether the load should end.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.window.stop || self.progress.stop.load(Ordering::Relaxed)
    }

    /// What was measured.
    pub fn finish(self) -> Outcome {
        self.outcome
    }

    /// A proposal was answered with its index.
    pub fn add_success(&mut self, sent: Instant, now: Instant) {
        if sent >= self.window.start && now <= self.window.stop {
            self.outcome.latencies_us.saturating_record(micros(now.saturating_duration_since(sent)).max(1));
        }
        if now > self.last_success {
            let gap = micros(now - self.last_success);
            self.progress.longest_gap_us.fetch_max(gap, Ordering::Relaxed);
            self.last_success = now;
        }
        self.progress.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A proposal was answered with an error, and is given up.
    pub fn add_answered_error(&mut self, error: &Trouble) {
        self.count(error.kind(), || error.to_string());
    }

    /// A connection to `server` is given up.
    pub fn add_error(&mut self, trouble: &Trouble, server: SocketAddr) {
        self.count(trouble.kind(), || format!("{server}: {trouble}"));
    }

    fn count(&mut self, kind: String, text: impl FnOnce() -> String) {
        let errors = &mut self.outcome.errors;
        let known = errors.len() < MAX_ERROR_KINDS || errors.contains_key(&kind);
        let kind = if known { kind } else { "other".to_string() };
        *errors.entry(kind).or_insert(0) += 1;
        self.outcome.first_error.get_or_insert_with(text);
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// End of stream.
    #[error("the server closed the connection")]
    Closed,
    /// An answer has been owed for too long.
    #[error("the server owes answers and is silent")]
    Silence,
    /// An error answer.
    #[error("{0}")]
    Answer(String),
    /// Something that is not an answer to a proposal.
    #[error("this is not an answer to a proposal: {0:?}")]
    Nonsense(String),
}

impl Trouble {
    /// The word under which it is counted.
    pub fn kind(&self) -> String {
        match self {
            Trouble::Io(error) => error.kind().to_string(),
            Trouble::Closed => "closed".to_string(),
            Trouble::Silence => "silence".to_string(),
            Trouble::Answer(text) => text.split_whitespace().next().unwrap_or("-").to_string(),
            Trouble::Nonsense(_) => "nonsense".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Only what was both handed over and answered inside the window counts as measured.
    #[test]
    fn only_the_window_is_measured() {
        let zero = Instant::now();
        let progress = Progress::default();
        let window = Window { start: at(zero, 100), stop: at(zero, 200) };
        let mut record = Record::new(window, &progress);
        record.add_success(at(zero, 90), at(zero, 110));
        record.add_success(at(zero, 150), at(zero, 160));
        record.add_success(at(zero, 190), at(zero, 201));
        assert!(!record.is_over(at(zero, 199)) && record.is_over(at(zero, 200)));
        let outcome = record.finish();
        assert_eq!(outcome.latencies_us.len(), 1);
        assert!(outcome.latencies_us.equivalent(outcome.latencies_us.max(), 10_000));
        assert_eq!(progress.answered.into_inner(), 3);
    }

    /// The longest gap is the longest distance between successes; setting it to 0 begins again.
    #[test]
    fn gaps_are_between_successes() {
        let progress = Progress::default();
        let zero = Instant::now() + Duration::from_secs(1);
        let mut record = Record::new(Window { start: zero, stop: at(zero, 100_000) }, &progress);
        record.add_success(zero, zero);
        progress.longest_gap_us.store(0, Ordering::Relaxed);
        for ms in [10, 20, 520, 530] {
            record.add_success(zero, at(zero, ms));
        }
        assert_eq!(progress.longest_gap_us.swap(0, Ordering::Relaxed), 500_000);
        record.add_success(zero, at(zero, 560));
        assert_eq!(progress.longest_gap_us.into_inner(), 30_000);
    }

    /// Errors are counted by their first word, in bounded memory; the first is kept whole.
    #[test]
    fn errors_are_counted_by_kind() {
        let progress = Progress::default();
        let now = Instant::now();
        let mut record = Record::new(Window { start: now, stop: now }, &progress);
        for text in ["BUSY queue full", "BUSY disk full", "TIMEOUT reqid=1"] {
            record.add_answered_error(&Trouble::Answer(text.into()));
        }
        for number in 0..1000 {
            record.add_answered_error(&Trouble::Answer(format!("E{number}")));
        }
        let outcome = record.finish();
        assert_eq!(outcome.errors["BUSY"], 2);
        assert_eq!(outcome.errors["TIMEOUT"], 1);
        assert_eq!(outcome.errors.len(), MAX_ERROR_KINDS + 1);
        assert_eq!(outcome.error_count(), 1003);
        assert_eq!(outcome.first_error.as_deref(), Some("BUSY queue full"));
    }
}
