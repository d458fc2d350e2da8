//! Log lines that others can provoke: one of a sort in a while, the rest counted.

use std::time::{Duration, Instant};

/// What is between two lines of a sort at least.
const PAUSE: Duration = Duration::from_secs(5);

/// One sort of line.
#[derive(Default)]
pub(super) struct Quiet {
    last: Option<Instant>,
    kept_back: u64,
}

impl Quiet {
    /// Warns, if the last line was a while ago.
    pub(super) fn warn(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if self.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            self.kept_back += 1;
            return;
        }
        self.last = Some(now);
        let line = line();
        match std::mem::take(&mut self.kept_back) {
            0 => log::warn!("{line}"),
            count => log::warn!("{line} (and {count} lines like it kept back)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of the same makes one line, and the next one says how many there were.
    #[test]
    fn a_flood_makes_one_line_in_a_while() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let mut lines = 0;
        for _ in 0..1000 {
            quiet.warn(start, || {
                lines += 1;
                String::new()
            });
        }
        assert_eq!((lines, quiet.kept_back), (1, 999));
        quiet.warn(start + PAUSE, || {
            lines += 1;
            String::new()
        });
        assert_eq!((lines, quiet.kept_back), (2, 0));
    }
}
