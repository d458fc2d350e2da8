//! What storage knows about the disk and the client port needs to know: whether proposals can be accepted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::pipeline::state_machine::DISK_FULL;

/// How often free space is checked.
const SPACE_EVERY_MS: u64 = 1000;

/// Shared by storage (writes) and the client port (reads).
#[derive(Debug, Default)]
pub(super) struct Health {
    disk_full: AtomicBool,
    low_on_space: AtomicBool,
    asked_ms: AtomicU64,
    writes: AtomicU64,
    entries: AtomicU64,
}

impl Health {
    pub(super) fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    pub(super) fn set_low_on_space(&self, low: bool) {
        if self.low_on_space.swap(low, Ordering::Relaxed) != low {
            if low {
                log::warn!("free space is below store.free_mb: proposals are refused until there is more");
            } else {
                log::info!("there is free space again: proposals are accepted");
            }
        }
    }

    /// Whether it is time to check free space: at most once a second.
    pub(super) fn due(&self, now_ms: u64) -> bool {
        let due = now_ms >= self.asked_ms.load(Ordering::Relaxed) + SPACE_EVERY_MS;
        if due {
            self.asked_ms.store(now_ms, Ordering::Relaxed);
        }
        due
    }

    pub(super) fn wrote(&self, entries: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Durable writes since the start, and the entries in them.
    pub(super) fn written(&self) -> (u64, u64) {
        (self.writes.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }

    /// Why proposals are refused, if they are.
    pub(super) fn refuses(&self) -> Option<&'static str> {
        if self.disk_full.load(Ordering::Relaxed) {
            Some(DISK_FULL)
        } else if self.low_on_space.load(Ordering::Relaxed) {
            Some("the disk of this node is almost full: make room, or propose at another node")
        } else {
            None
        }
    }
}
