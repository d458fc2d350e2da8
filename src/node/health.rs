//! What storage knows about the disk and others need to know: whether proposals can be accepted, and whether
//! it is at work.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::pipeline::state_machine::DISK_FULL;
use crate::wire::message::Trouble;

/// How often free space is checked.
const SPACE_EVERY_MS: u64 = 1000;

/// Shared by storage, which writes, and by the client port and the state machine, which read.
#[derive(Debug, Default)]
pub(super) struct Health {
    disk_full: AtomicBool,
    low_on_space: AtomicBool,
    asked_ms: AtomicU64,
    writes: AtomicU64,
    entries: AtomicU64,
    /// Odd while storage is at work: raised when it begins and when it ends.
    turns: AtomicU64,
    /// A [`Trouble`], written by the state machine.
    trouble: AtomicU8,
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

    /// Storage begins or ends something that may hang.
    pub(super) fn begin_or_end_work(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// What storage is at, if it is at work.
    pub(super) fn work_under_way(&self) -> Option<u64> {
        Some(self.turns.load(Ordering::Relaxed)).filter(|turns| turns % 2 == 1)
    }

    pub(super) fn set_trouble(&self, trouble: Trouble) {
        self.trouble.store(trouble as u8, Ordering::Relaxed);
    }

    /// What is wrong with this node.
    pub(super) fn trouble(&self) -> Trouble {
        let told = self.trouble.load(Ordering::Relaxed);
        let all = [Trouble::None, Trouble::LogFile, Trouble::Storage];
        all.into_iter().find(|trouble| *trouble as u8 == told).unwrap_or_default()
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
