//! Where a request is kept, found by its id.
//!
//! A leader looks up, adds and removes a request for each entry. A `BTreeMap` compares ten random ids for
//! each of these, which costs more than all else that a core does. The standard hash map is refused here,
//! since its order differs from run to run; nothing ever iterates over this table, and what a core does never
//! depends on how its ids are hashed. The key differs from node to node and from run to run, so that clients
//! cannot choose ids which all collide. Left out: the requests (`proposals.rs`).

use hashbrown::HashTable;

use super::random::Random;
use super::types::RequestId;

/// Places by request id, each id at most once (the caller makes sure of it).
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Each place with its hash.
    table: HashTable<(u64, u32)>,
}

/// How requests are hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(seed: u64) -> Key {
        Key(Random::new(seed).draw())
    }

    /// The number by which tables find a request: two folded products, as in wyhash.
    pub(super) fn hash(self, request: RequestId) -> u64 {
        let (high, low) = ((request.session >> 64) as u64, request.session as u64);
        let session = fold(high ^ 0xa076_1d64_78bd_642f, low ^ 0xe703_7ed1_a0b4_28db);
        fold(session ^ self.0, request.number ^ 0x8ebc_6af0_9c88_c6e3)
    }
}

impl Places {
    /// The place of the request with this hash that `is_it` accepts.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let found = self.table.find(hash, |(other, place)| *other == hash && is_it(*place));
        found.map(|(_, place)| *place)
    }

    /// Adds a request that is not there.
    pub(super) fn insert(&mut self, hash: u64, place: u32) {
        self.table.insert_unique(hash, (hash, place), |(hash, _)| *hash);
    }

    /// Removes the request that is kept at this place; it must be there.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        match self.table.find_entry(hash, |(_, other)| *other == place) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => panic!("place {place} is not under its hash {hash:x}"),
        }
    }
}

/// Folds the product of two numbers: its upper half xor its lower half.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Ids that differ little, such as those of a client that counts, have hashes that differ, under each
    /// key.
    #[test]
    fn ids_fall_apart() {
        let ids = (0..4096u64).flat_map(|number| {
            let session = |shift: u32| RequestId { session: u128::from(number) << shift, number: 1 };
            [RequestId::user(number + 1), RequestId::user(number << 40 | 5), session(0), session(64)]
        });
        let ids: BTreeSet<RequestId> = ids.collect();
        for seed in 0..8 {
            let key = Key::new(seed);
            let hashes: BTreeSet<u64> = ids.iter().map(|id| key.hash(*id) & 0xffff).collect();
            // Of 16,383 random ones about 14,500 would differ.
            assert!(hashes.len() > 14_000, "{} of {} differ", hashes.len(), ids.len());
        }
    }
}
