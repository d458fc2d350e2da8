//! Two limits. [`RateLimited`] logs something once in a while, however often it happens: for warnings that a
//! peer, a client or a broken disk could otherwise repeat without end. [`Budget`] bounds all diagnostic lines
//! together, so that what was overlooked there does not fill the file of chosen lines.

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

/// How many lines may come at a time, and how long it takes until one more may.
#[cfg(any(feature = "workshop", test))]
#[derive(Debug)]
pub struct Budget {
    most: u32,
    one_every: Duration,
    /// Lines that may come now, as of `counted`.
    left: u32,
    counted: Option<Instant>,
    suppressed: u64,
}

#[cfg(any(feature = "workshop", test))]
impl Budget {
    /// Allows `most` lines at a time, and one more each `one_every`.
    pub const fn new(most: u32, one_every: Duration) -> Budget {
        Budget { most, one_every, left: most, counted: None, suppressed: 0 }
    }

    /// As [`RateLimited::allow`].
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        let counted = *self.counted.get_or_insert(now);
        let more = now.saturating_duration_since(counted).as_nanos() / self.one_every.as_nanos().max(1);
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.counted = Some(if more < self.most { counted + self.one_every * more } else { now });
        self.left = self.left.saturating_add(more).min(self.most);
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
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

    #[test]
    fn a_budget_allows_a_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut budget = Budget::new(3, Duration::from_secs(2));
        let mut at = |secs| budget.allow(start + Duration::from_secs(secs));
        assert_eq!([at(0), at(0), at(1), at(1)], [Some(0), Some(0), Some(0), None]);
        assert_eq!([at(2), at(2), at(3)], [Some(1), None, None]);
        assert_eq!([at(5), at(5)], [Some(2), None]);
        // However long nothing came, no more than the burst may come.
        assert_eq!([at(1000), at(1000), at(1000), at(1000)], [Some(1), Some(0), Some(0), None]);
        assert_eq!([at(1001), at(1002)], [None, Some(2)]);
    }
}
