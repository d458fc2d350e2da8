//! Whether the log file fails, for a watcher that must never wait for it.
//!
//! The thread that writes holds the file's lock, maybe forever: a partition can hang in the middle of a
//! write. So what it does is told in two numbers, which only the holder of the lock changes. A failure that
//! goes on keeps its name from one attempt to the next, and a write has a name of its own.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module. 0 stands for nothing.
#[derive(Default)]
pub(super) struct Failure {
    /// Names the latest write, and the failure that began with it.
    last: AtomicU64,
    /// The write under way.
    writing: AtomicU64,
    /// The failure that is not over.
    failing: AtomicU64,
}

impl Failure {
    /// A write begins, under the lock.
    pub(super) fn begin_write(&self) {
        let write = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.writing.store(write, Ordering::Relaxed);
    }

    /// It ended, under the same lock.
    pub(super) fn end_write(&self, failed: bool) {
        let write = self.writing.swap(0, Ordering::Relaxed);
        let failing = self.failing.load(Ordering::Relaxed);
        match (failed, failing) {
            (true, 0) => self.failing.store(write, Ordering::Relaxed),
            (true, _) => {}
            (false, _) => self.failing.store(0, Ordering::Relaxed),
        }
    }

    /// The failure, or otherwise the write that is under way.
    pub(super) fn name(&self) -> Option<u64> {
        let names = [&self.failing, &self.writing];
        names.into_iter().map(|name| name.load(Ordering::Relaxed)).find(|name| *name != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure has one name until the file takes lines again; each write has its own.
    #[test]
    fn a_failure_keeps_its_name() {
        let failure = Failure::default();
        assert_eq!(failure.name(), None);
        failure.begin_write();
        let first = failure.name();
        assert!(first.is_some());
        failure.end_write(true);
        for failed in [true, true, false] {
            assert_eq!(failure.name(), first);
            failure.begin_write();
            assert_eq!(failure.name(), first);
            failure.end_write(failed);
        }
        assert_eq!(failure.name(), None);
        failure.begin_write();
        assert!(failure.name() > first);
        failure.end_write(false);
        assert_eq!(failure.name(), None);
    }
}
