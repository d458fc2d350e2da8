//! The index up to which a node has delivered: the applier raises it, the embedder waits for it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::consensus::types::Index;

/// Raising it costs a lock only if somebody waits.
pub(super) struct Applied {
    index: AtomicU64,
    waiting: AtomicUsize,
    /// Whether the node ended.
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Applied {
    pub(super) fn new(index: Index) -> Applied {
        Applied {
            index: AtomicU64::new(index),
            waiting: AtomicUsize::new(0),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    pub(super) fn index(&self) -> Index {
        self.index.load(Ordering::SeqCst)
    }

    pub(super) fn raise(&self, index: Index) {
        // In one order with the other two: a thread that counts as waiting after this sees the index.
        self.index.store(index, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.ended.lock());
            self.changed.notify_all();
        }
    }

    /// Waits until it has reached the index, at most this long and no longer than the node runs. Returns
    /// whether it has.
    pub(super) fn wait_for(&self, index: Index, timeout: Duration) -> bool {
        if self.index() >= index {
            return true;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let deadline = Instant::now().checked_add(timeout);
        let mut ended = self.ended.lock();
        while self.index() < index && !*ended {
            match deadline {
                Some(deadline) if self.changed.wait_until(&mut ended, deadline).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut ended),
            }
        }
        drop(ended);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.index() >= index
    }

    /// Called when the node ends: nobody waits any more.
    pub(super) fn end(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }
}
