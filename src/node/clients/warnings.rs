//! Warnings about clients, at most one of each kind in ten seconds: a client that floods the port does not
//! flood the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::logfile::RateLimited;

const EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Warnings {
    kinds: BTreeMap<&'static str, RateLimited>,
}

impl Warnings {
    /// Logs `text`, or counts it.
    pub(super) fn warn(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let limited = self.kinds.entry(kind).or_insert_with(|| RateLimited::new(EVERY));
        limited.warn(Instant::now(), text);
    }
}
