//! Logs something once in a while, however often it happens: for warnings that a peer, a client or a broken
//! disk could otherwise repeat without end.

use std::time::{Duration, Instant};

/// Lets one occurrence pass per interval and counts the others.
#[derive(Debug)]
pub struct RateLimited {
    every: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimited {
    /// Lets one occurrence pass in each `every`.
    pub const fn new(every: Duration) -> RateLimited {
        RateLimited { every, last: None, suppressed: 0 }
    }

    /// Logs a warning if the last line was long enough ago, and says how many were suppressed since.
    pub fn warn(&mut self, now: Instant, line: impl FnOnce() -> String) {
        self.log(log::Level::Warn, now, line);
    }

    /// Like [`RateLimited::warn`], at level info.
    pub fn info(&mut self, now: Instant, line: impl FnOnce() -> String) {
        self.log(log::Level::Info, now, line);
    }

    /// Like [`RateLimited::warn`], at level debug.
    pub fn debug(&mut self, now: Instant, line: impl FnOnce() -> String) {
        self.log(log::Level::Debug, now, line);
    }

    /// Like [`RateLimited::warn`], at level error.
    pub fn error(&mut self, now: Instant, line: impl FnOnce() -> String) {
        self.log(log::Level::Error, now, line);
    }

    fn log(&mut self, level: log::Level, now: Instant, line: impl FnOnce() -> String) {
        match self.allow(now) {
            None => {}
            Some(0) => log::log!(level, "{}", line()),
            Some(count) => log::log!(level, "{} (and {count} like it suppressed)", line()),
        }
    }

    /// Returns `None` if this occurrence must be suppressed; otherwise how many were suppressed since the
    /// last one that passed.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_an_interval_passes_and_the_others_are_counted() {
        let start = Instant::now();
        let mut limited = RateLimited::new(Duration::from_secs(10));
        let mut at = |secs| limited.allow(start + Duration::from_secs(secs));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), None);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(2));
        assert_eq!(at(19), None);
        assert_eq!(at(30), Some(1));
    }
}
