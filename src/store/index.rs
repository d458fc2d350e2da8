//! Where each entry of the log is: its index → the number of the record in which its latest version begins.
//!
//! Values stay on the disk; the index takes about 8.5 bytes per entry. A log whose entries lie far apart
//! costs at most 600 bytes per entry, whatever the indexes.

use std::collections::BTreeMap;

use crate::consensus::types::Index;

const CHUNK: u64 = 64;

/// Invariant: every kept record number is above 0, and every kept index above `compacted`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogIndex {
    /// The chunks by index / [`CHUNK`]. No chunk holds zeros only.
    chunks: BTreeMap<u64, Box<[u64; CHUNK as usize]>>,
    compacted: Index,
    /// The running hash of the log up to `compacted`.
    compacted_hash: u128,
    last: Index,
}

impl LogIndex {
    /// The record of an index.
    pub fn at(&self, index: Index) -> Option<u64> {
        let record = self.chunks.get(&(index / CHUNK))?[(index % CHUNK) as usize];
        (record > 0).then_some(record)
    }

    /// The highest index with an entry, or [`LogIndex::compacted`] if that is higher.
    pub fn last(&self) -> Index {
        self.last
    }

    /// Entries up to this index are no longer kept.
    pub fn compacted(&self) -> Index {
        self.compacted
    }

    /// The running hash of the log up to [`LogIndex::compacted`].
    pub fn compacted_hash(&self) -> u128 {
        self.compacted_hash
    }

    /// The lowest index with an entry, from `from` on.
    pub fn next_from(&self, from: Index) -> Option<Index> {
        let chunks = self.chunks.range(from / CHUNK..);
        let mut indexes = chunks.flat_map(|(number, chunk)| (number * CHUNK..).zip(chunk.iter()));
        indexes.find(|(index, record)| *index >= from && **record > 0).map(|(index, _)| index)
    }

    /// The entry of an index now begins in this record.
    pub fn set(&mut self, index: Index, record: u64) {
        assert!(record > 0, "records are numbered from 1, but index {index} was put in {record}");
        assert!(
            index > self.compacted,
            "index {index} is not above {}, up to which entries were compacted",
            self.compacted
        );
        let chunk = self.chunks.entry(index / CHUNK).or_insert_with(|| Box::new([0; CHUNK as usize]));
        chunk[(index % CHUNK) as usize] = record;
        self.last = self.last.max(index);
    }

    /// Forgets the entries from an index on.
    pub fn truncate_from(&mut self, from: Index) {
        let from = from.max(self.compacted + 1);
        drop(self.chunks.split_off(&from.div_ceil(CHUNK)));
        if let Some(chunk) = self.chunks.get_mut(&(from / CHUNK)) {
            chunk[(from % CHUNK) as usize..].fill(0);
        }
        self.drop_if_empty(from / CHUNK);
        self.last = self.highest().unwrap_or(self.compacted).max(self.compacted);
    }

    /// Forgets the entries up to an index, but not their hash.
    pub fn compact(&mut self, upto: Index, hash: u128) {
        if upto <= self.compacted {
            return;
        }
        let first = upto + 1;
        self.chunks = self.chunks.split_off(&(first / CHUNK));
        if let Some(chunk) = self.chunks.get_mut(&(first / CHUNK)) {
            chunk[..(first % CHUNK) as usize].fill(0);
        }
        self.drop_if_empty(first / CHUNK);
        (self.compacted, self.compacted_hash) = (upto, hash);
        self.last = self.last.max(upto);
    }

    /// The lowest record with an entry above `upto`. This looks at every entry.
    pub fn lowest_record_above(&self, upto: Index) -> Option<u64> {
        let chunks = self.chunks.range((upto + 1) / CHUNK..);
        chunks
            .flat_map(|(number, chunk)| {
                (number * CHUNK..).zip(chunk.iter()).filter(|(index, record)| *index > upto && **record > 0)
            })
            .map(|(_, record)| *record)
            .min()
    }

    fn drop_if_empty(&mut self, number: u64) {
        if self.chunks.get(&number).is_some_and(|chunk| chunk.iter().all(|record| *record == 0)) {
            self.chunks.remove(&number);
        }
    }

    fn highest(&self) -> Option<Index> {
        let (number, chunk) = self.chunks.last_key_value()?;
        let at = chunk.iter().rposition(|record| *record > 0)?;
        Some(number * CHUNK + at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The index behaves like a map from index to record, however sparse.
        #[test]
        fn behaves_as_a_map(ops in prop::collection::vec((0u8..10, 1u64..300, 1u64..1000), 1..200)) {
            let mut index = LogIndex::default();
            let mut model = BTreeMap::new();
            let mut compacted = 0;
            for (op, at, record) in ops {
                match op {
                    0 => {
                        index.truncate_from(at);
                        model.retain(|index, _| *index < at);
                    }
                    1 => {
                        index.compact(at, 0);
                        compacted = compacted.max(at);
                        model.retain(|index, _| *index > at);
                    }
                    _ => {
                        let at = if op == 2 { at << 50 } else { at };
                        if at > compacted {
                            index.set(at, record);
                            model.insert(at, record);
                        }
                    }
                }
                let last = model.last_key_value().map_or(0, |(index, _)| *index);
                prop_assert_eq!(index.last(), last.max(compacted));
                prop_assert_eq!(index.compacted(), compacted);
                let upto = compacted + 20;
                let lowest = model.iter().filter(|(index, _)| **index > upto).map(|(_, record)| *record).min();
                prop_assert_eq!(index.lowest_record_above(upto), lowest);
                let next = model.range(upto..).next().map(|(index, _)| *index);
                prop_assert_eq!(index.next_from(upto), next);
                for at in 1..310 {
                    prop_assert_eq!(index.at(at), model.get(&at).copied());
                }
            }
        }
    }
}
