//! The part of the log that is not yet chosen without a gap: all that a core keeps in memory.
//!
//! ```text
//!   1 …… compacted …… chosen │ chosen+1 …………… last │
//!   gone      in the store   │ slots: entry or hole │ nothing
//! ```
//!
//! What is chosen leaves this window; the store and a bounded cache outside hold it.

use std::collections::VecDeque;

use super::quorum::Set;
use super::types::{Ballot, Command, Entry, Index};

/// The window above the watermark. Invariant: `compacted <= chosen <= last`, and the slot of `last` holds an
/// entry unless `last == chosen`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    compacted: Index,
    chosen: Index,
    /// The slot of index `chosen + 1 + i` is `slots[i]`; `None` is a hole.
    slots: VecDeque<Option<Slot>>,
    /// The sum of the slots' [`Command::cost_bytes`].
    bytes: usize,
}

/// An entry above the watermark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Under which it was accepted.
    pub ballot: Ballot,
    /// What was accepted.
    pub command: Command,
    /// Who is known to have accepted it under `ballot`; counted by the leader of that ballot only.
    pub accepted_by: Set,
}

impl Log {
    /// A log whose indexes up to `chosen` are chosen, and gone up to `compacted`.
    pub fn new(compacted: Index, chosen: Index) -> Log {
        assert!(compacted <= chosen, "compacted {compacted} beyond chosen {chosen}");
        Log { compacted, chosen, slots: VecDeque::new(), bytes: 0 }
    }

    /// Up to it entries are no longer kept.
    pub fn compacted(&self) -> Index {
        self.compacted
    }

    /// Up to it all is chosen.
    pub fn chosen(&self) -> Index {
        self.chosen
    }

    /// The highest index with an entry.
    pub fn last(&self) -> Index {
        self.chosen + self.slots.len() as u64
    }

    /// How many indexes are above the watermark, holes included.
    pub fn open(&self) -> u64 {
        self.slots.len() as u64
    }

    /// What the open entries take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry at an index above the watermark; `None` for a hole or beyond the last.
    pub fn slot(&self, index: Index) -> Option<&Slot> {
        self.slots.get(self.place(index)?)?.as_ref()
    }

    /// The same, to count an acceptance.
    pub fn slot_mut(&mut self, index: Index) -> Option<&mut Slot> {
        let place = self.place(index)?;
        self.slots.get_mut(place)?.as_mut()
    }

    /// The entry at `chosen + 1`, if there is one.
    pub fn front(&self) -> Option<&Slot> {
        self.slots.front()?.as_ref()
    }

    /// Entries above the watermark from `first` on, in ascending order, holes left out.
    pub fn entries_from(&self, first: Index) -> impl Iterator<Item = (Index, &Slot)> {
        let skip = first.saturating_sub(self.chosen + 1);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.slots.len());
        let start = self.chosen + 1 + skip as u64;
        self.slots.range(skip..).zip(start..).filter_map(|(slot, index)| Some((index, slot.as_ref()?)))
    }

    /// Puts an entry above the watermark, in place of what stood there.
    pub fn put(&mut self, index: Index, ballot: Ballot, command: Command) {
        assert!(index > self.chosen, "index {index} is chosen (up to {}), it never changes", self.chosen);
        let place = (index - self.chosen - 1) as usize;
        self.bytes += command.cost_bytes();
        let slot = Some(Slot { ballot, command, accepted_by: Set::default() });
        match self.slots.get_mut(place) {
            Some(old) => {
                let old = std::mem::replace(old, slot);
                self.bytes -= old.map_or(0, |old| old.command.cost_bytes());
            }
            None => {
                self.slots.resize(place, None);
                self.slots.push_back(slot);
            }
        }
    }

    /// Raises the watermark over the entry at `chosen + 1` and gives it back.
    pub fn choose_front(&mut self) -> Entry {
        let slot = self.slots.pop_front().flatten();
        let Slot { ballot, command, .. } = slot.expect("only an entry is chosen, never a hole");
        self.chosen += 1;
        self.bytes -= command.cost_bytes();
        Entry { index: self.chosen, ballot, command }
    }

    /// Removes all entries from an index on.
    pub fn truncate_from(&mut self, first: Index) {
        assert!(first > self.chosen, "index {first} is chosen (up to {}), it never goes", self.chosen);
        let kept = usize::try_from(first - self.chosen - 1).unwrap_or(usize::MAX).min(self.slots.len());
        let gone = self.slots.drain(kept..).flatten();
        self.bytes -= gone.map(|slot| slot.command.cost_bytes()).sum::<usize>();
        while self.slots.back().is_some_and(Option::is_none) {
            self.slots.pop_back();
        }
    }

    fn place(&self, index: Index) -> Option<usize> {
        usize::try_from(index.checked_sub(self.chosen + 1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u64, u8),
        Choose,
        Truncate(u64),
    }

    proptest! {
        /// The window behaves as a map of index to entry with a watermark below it.
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec(
            prop_oneof![
                (1..20u64, 1..5u64, 0..9u8).prop_map(|(ahead, round, len)| Step::Put(ahead, round, len)),
                Just(Step::Choose),
                (1..20u64).prop_map(Step::Truncate),
            ], 1..200)) {
            let mut log = Log::new(0, 0);
            let mut model: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
            let mut chosen = 0;
            for step in steps {
                match step {
                    Step::Put(ahead, round, len) => {
                        let command = Command::value(1, 1, vec![b'x'; usize::from(len)]);
                        log.put(chosen + ahead, Ballot { round, node: 1 }, command);
                        model.insert(chosen + ahead, (round, usize::from(len)));
                    }
                    Step::Truncate(ahead) => {
                        log.truncate_from(chosen + ahead);
                        model.retain(|index, _| *index < chosen + ahead);
                    }
                    Step::Choose => {
                        let expected = model.remove(&(chosen + 1));
                        prop_assert_eq!(log.front().is_some(), expected.is_some());
                        if let Some((round, len)) = expected {
                            let entry = log.choose_front();
                            chosen += 1;
                            prop_assert_eq!(entry.index, chosen);
                            prop_assert_eq!((entry.ballot.round, entry.command.payload.len()), (round, len));
                        }
                    }
                }
                let all: Vec<_> = log.entries_from(0).map(|(index, slot)| {
                    (index, (slot.ballot.round, slot.command.payload.len()))
                }).collect();
                prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
                let from = chosen + 3;
                prop_assert_eq!(log.entries_from(from).count(), model.range(from..).count());
                prop_assert_eq!(log.last(), model.keys().last().copied().unwrap_or(chosen).max(chosen));
                prop_assert_eq!(log.bytes(), model.values().map(|(_, len)| 64 + len).sum::<usize>());
                prop_assert_eq!(log.chosen(), chosen);
            }
        }
    }
}
