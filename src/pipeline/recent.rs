//! The entries of late, in memory: what the applier and lagging peers are served from, so that what was just
//! written is not read back from disk; and the watermark that tells the applier how far it may go.
//!
//! `chosen <= ` the highest entry here or in the store. An entry is dropped only once it is chosen *and*
//! durable in its latest version, so whatever is not found here is in the store as it was chosen.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::consensus::types::{Entry, Index};

/// See the module. Shared by the state machine (puts), storage (says what is durable), applier and client
/// port (read).
pub struct Recent {
    kept: Mutex<Kept>,
    chosen: AtomicU64,
    durable: AtomicU64,
    /// How often the core was rebuilt.
    restarts: AtomicU64,
    capacity_bytes: usize,
}

#[derive(Default)]
struct Kept {
    /// The index of the first slot.
    first: Index,
    /// Each with the number of the [`Work`](super::state_machine::Work) that writes it.
    slots: VecDeque<Option<(Entry, u64)>>,
    bytes: usize,
}

impl Recent {
    /// Keeps about `capacity_bytes` of entries; more while storage lags, which its queue bounds.
    pub fn new(capacity_bytes: usize, chosen: Index) -> Recent {
        Recent {
            kept: Mutex::default(),
            chosen: AtomicU64::new(chosen),
            durable: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            capacity_bytes,
        }
    }

    /// All up to it is chosen and may be delivered.
    pub fn chosen(&self) -> Index {
        self.chosen.load(Ordering::Acquire)
    }

    /// Raises the watermark. What is chosen was put before.
    pub fn raise_chosen(&self, chosen: Index) {
        let before = self.chosen.swap(chosen, Ordering::AcqRel);
        assert!(before <= chosen, "the watermark is raised, never lowered: {chosen} after {before}");
    }

    /// Removes entries from `truncate` on, then adds those that the work `number` writes, replacing what
    /// stood at their indexes.
    pub fn put(&self, truncate: Option<Index>, entries: &[Entry], number: u64) {
        let chosen = self.chosen();
        let durable = self.durable.load(Ordering::Acquire);
        let mut kept = self.kept.lock();
        if let Some(first) = truncate {
            assert!(
                first > chosen,
                "what is chosen (up to {chosen}) stays, entries from {first} on cannot go"
            );
            kept.truncate_from(first);
        }
        for entry in entries {
            kept.put(entry, number);
        }
        while kept.bytes > self.capacity_bytes && kept.drop_first(chosen, durable) {}
    }

    /// All works up to this number are durable.
    pub fn set_durable(&self, number: u64) {
        self.durable.store(number, Ordering::Release);
    }

    /// The core starts again from what is durable, with this watermark; so does what is kept here. Who reads
    /// by an earlier watermark finds that out in [`Recent::read_chosen`].
    pub fn restart(&self, chosen: Index) {
        let mut kept = self.kept.lock();
        self.restarts.fetch_add(1, Ordering::AcqRel);
        self.chosen.store(chosen, Ordering::Release);
        *kept = Kept::default();
    }

    /// Reads up to the watermark, here or in the store; `None` if the core was rebuilt meanwhile: then the
    /// watermark was lowered, and what was read above it may not be what was chosen there.
    pub fn read_chosen<T>(&self, read: impl FnOnce(Index) -> T) -> Option<T> {
        let restarts = self.restarts.load(Ordering::Acquire);
        let result = read(self.chosen());
        (self.restarts.load(Ordering::Acquire) == restarts).then_some(result)
    }

    /// The entries from `first` to at most `last` as far as they are here without a gap, bounded by bytes
    /// (but at least one if it is here).
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

    /// The lowest index from `from` on that is here. What is here may be newer than what the store holds.
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

    /// Drops the first slot if the store serves it as well; whether it did.
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

    /// What is not chosen or not durable in its latest version stays, whatever the capacity.
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

    /// A watermark of before a rebuild is no leave to take what stands there after it: the core may have
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
