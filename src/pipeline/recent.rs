//! The latest entries, in memory, and the watermark that tells the applier how far it may go. The applier and
//! lagging peers are served from here, so that what was just written is not read back from disk.
//!
//! Invariant: `chosen` is at most the highest index with an entry here or in the store. An entry is dropped
//! only once it is chosen *and* durable in its latest version, so a chosen entry that is not found here is in
//! the store as it was chosen.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::consensus::types::{Entry, Index};

/// See the module. The state machine (which puts), storage (which tells what is durable), the applier and the
/// client port (which read) share it.
pub struct Recent {
    kept: Mutex<Kept>,
    chosen: AtomicU64,
    durable: AtomicU64,
    /// How many times the core was rebuilt.
    restarts: AtomicU64,
    capacity_bytes: usize,
}

#[derive(Default)]
struct Kept {
    /// The index of the first slot.
    first: Index,
    /// Each entry with the number of the [`Work`](super::state_machine::Work) that writes it.
    slots: VecDeque<Option<(Entry, u64)>>,
    bytes: usize,
}

impl Recent {
    /// Keeps about `capacity_bytes` of entries. It keeps more while storage lags, which the storage queue
    /// bounds.
    pub fn new(capacity_bytes: usize, chosen: Index) -> Recent {
        Recent {
            kept: Mutex::default(),
            chosen: AtomicU64::new(chosen),
            durable: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            capacity_bytes,
        }
    }

    /// Every index up to this one is chosen and may be delivered.
    pub fn chosen(&self) -> Index {
        self.chosen.load(Ordering::Acquire)
    }

    /// Raises the watermark. Chosen entries must have been put before.
    pub fn raise_chosen(&self, chosen: Index) {
        let before = self.chosen.swap(chosen, Ordering::AcqRel);
        assert!(before <= chosen, "the watermark is never lowered: {chosen} after {before}");
    }

    /// Removes entries from `truncate` on, then adds those that the work `number` writes, replacing what was
    /// at their indexes.
    pub fn put(&self, truncate: Option<Index>, entries: &[Entry], number: u64) {
        let chosen = self.chosen();
        let durable = self.durable.load(Ordering::Acquire);
        let mut kept = self.kept.lock();
        if let Some(first) = truncate {
            assert!(
                first > chosen,
                "entries up to {chosen} are chosen, so those from {first} on cannot be removed"
            );
            kept.truncate_from(first);
        }
        for entry in entries {
            kept.put(entry, number);
        }
        while kept.bytes > self.capacity_bytes && kept.drop_first(chosen, durable) {}
    }

    /// Takes note that every work up to this number is durable.
    pub fn set_durable(&self, number: u64) {
        self.durable.store(number, Ordering::Release);
    }

    /// The core starts again from what is durable, with this watermark, and so does what is kept here. A
    /// reader with an earlier watermark notices that in [`Recent::read_chosen`].
    pub fn restart(&self, chosen: Index) {
        let mut kept = self.kept.lock();
        self.restarts.fetch_add(1, Ordering::AcqRel);
        self.chosen.store(chosen, Ordering::Release);
        *kept = Kept::default();
    }

    /// Reads up to the watermark, here or in the store. Returns `None` if the core was rebuilt in the
    /// meantime: then the watermark was lowered, and what was read above it may not be what was chosen there.
    pub fn read_chosen<T>(&self, read: impl FnOnce(Index) -> T) -> Option<T> {
        let restarts = self.restarts.load(Ordering::Acquire);
        let result = read(self.chosen());
        (self.restarts.load(Ordering::Acquire) == restarts).then_some(result)
    }

    /// The entries from `first` to at most `last`, as far as they are here without a gap. They are bounded by
    /// bytes, but the first is always returned if it is here.
    pub fn read(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let kept = self.kept.lock();
        let mut bytes = 0;
        let mut entries = Vec::new();
        let Some(skip) = first.checked_sub(kept.first) else { return entries };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(kept.slots.len());
        for slot in kept.slots.range(skip..) {
            let Some((entry, _)) = slot else { break };
            bytes += entry.command.cost_bytes();
            if entry.index > last || (bytes > max_bytes && !entries.is_empty()) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// The lowest index from `from` on with an entry here, which may be newer than the store's.
    pub fn next_from(&self, from: Index) -> Option<Index> {
        let kept = self.kept.lock();
        let skip = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let slots = kept.slots.range(skip.min(kept.slots.len())..);
        slots.flatten().next().map(|(entry, _)| entry.index)
    }
}

impl Kept {
    fn put(&mut self, entry: &Entry, number: u64) {
        if self.slots.is_empty() {
            self.first = entry.index;
        }
        while entry.index < self.first {
            self.slots.push_front(None);
            self.first -= 1;
        }
        let place = (entry.index - self.first) as usize;
        if place >= self.slots.len() {
            self.slots.resize(place + 1, None);
        }
        self.bytes += entry.command.cost_bytes();
        if let Some((old, _)) = self.slots[place].replace((entry.clone(), number)) {
            self.bytes -= old.command.cost_bytes();
        }
    }

    fn truncate_from(&mut self, first: Index) {
        let kept =
            usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.slots.len());
        let gone = self.slots.drain(kept..).flatten();
        self.bytes -= gone.map(|(entry, _)| entry.command.cost_bytes()).sum::<usize>();
    }

    /// Drops the first slot if the store can serve it as well. Returns whether it was dropped.
    fn drop_first(&mut self, chosen: Index, durable: u64) -> bool {
        match self.slots.front() {
            None => return false,
            Some(Some((entry, number))) if entry.index > chosen || *number > durable => return false,
            Some(Some((entry, _))) => self.bytes -= entry.command.cost_bytes(),
            Some(None) => {}
        }
        self.slots.pop_front();
        self.first += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::{Ballot, Command};

    fn entry(index: Index, round: u64) -> Entry {
        let command = Command::value(index, 1, vec![b'x'; 36]);
        Entry { index, ballot: Ballot { round, node: 1 }, command }
    }

    fn indexes(recent: &Recent, first: Index) -> Vec<Index> {
        recent.read(first, 100, 1 << 20).iter().map(|entry| entry.index).collect()
    }

    /// An entry that is not chosen, or not durable in its latest version, stays, whatever the capacity.
    #[test]
    fn keeps_what_the_store_could_not_serve() {
        let recent = Recent::new(250, 0);
        recent.put(None, &[entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)], 1);
        assert_eq!(indexes(&recent, 1), [1, 2, 3, 4]);
        recent.raise_chosen(2);
        recent.put(None, &[entry(5, 1)], 2);
        assert_eq!(indexes(&recent, 1), [1, 2, 3, 4, 5]);
        recent.set_durable(1);
        recent.put(None, &[entry(3, 2)], 3);
        assert_eq!(indexes(&recent, 1), [] as [u64; 0]);
        assert_eq!(indexes(&recent, 3), [3, 4, 5]);
        recent.raise_chosen(5);
        recent.put(None, &[entry(6, 2)], 4);
        assert_eq!(indexes(&recent, 3), [3, 4, 5, 6]);
    }

    #[test]
    fn reads_stop_at_holes_and_limits() {
        let recent = Recent::new(1 << 20, 0);
        recent.put(None, &[entry(5, 1), entry(7, 1), entry(4, 1)], 1);
        assert_eq!(indexes(&recent, 4), [4, 5]);
        assert_eq!(indexes(&recent, 6), [] as [u64; 0]);
        assert_eq!(indexes(&recent, 9), [] as [u64; 0]);
        assert_eq!(recent.read(4, 4, 1 << 20).len(), 1);
        assert_eq!(recent.read(4, 9, 1).len(), 1);
        assert_eq!([1, 4, 6, 8].map(|from| recent.next_from(from)), [Some(4), Some(4), Some(7), None]);
        recent.restart(3);
        assert_eq!(indexes(&recent, 4), [] as [u64; 0]);
    }

    /// A watermark from before a rebuild does not allow reading what is there after it: the core may have
    /// accepted something else that is not chosen.
    #[test]
    fn what_is_read_across_a_rebuild_does_not_count() {
        let recent = Recent::new(1 << 20, 0);
        recent.put(None, &[entry(1, 2)], 1);
        recent.raise_chosen(1);
        assert_eq!(recent.read_chosen(|chosen| recent.read(1, chosen, 1).len()), Some(1));
        let across = recent.read_chosen(|chosen| {
            recent.restart(0);
            recent.put(None, &[entry(1, 1)], 2);
            recent.read(1, chosen, 1)
        });
        assert_eq!(across, None);
        assert_eq!(recent.read_chosen(|chosen| recent.read(1, chosen, 1).len()), Some(0));
    }
}
