//! Where a request is kept, found by its id: an open-addressed table of places, with linear probing.
//!
//! A leader looks up, adds and removes a request for each entry. A `BTreeMap` compares ten random ids for each of
//! these, which costs more than all else that a core does. The standard hash map is refused in here, since its order
//! differs from run to run; this table has no order to see, nothing iterates over it, and what a core does never
//! depends on how ids fall. Its key differs from node to node and start to start, so that clients cannot choose
//! ids which all fall together. Left out: the requests (`proposals.rs`).

use super::random::Random;
use super::types::RequestId;

/// Places by request id, each id at most once (the caller sees to it). Invariants: `slots.len()` is 0 or a power
/// of two, at least twice `used`; between a slot in use and the one that its hash names, none is empty.
#[derive(Clone, Debug)]
pub(super) struct Places {
    key: u64,
    slots: Vec<Slot>,
    used: usize,
}

/// Of 8 bytes, so that a probe seldom leaves its cache line.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    place: u32,
}

const EMPTY: Slot = Slot { hash: 0, place: u32::MAX };

impl Slot {
    fn is_empty(self) -> bool {
        self.place == u32::MAX
    }
}

impl Places {
    const FIRST_SLOTS: usize = 16;

    pub(super) fn new(seed: u64) -> Places {
        Places { key: Random::new(seed).draw(), slots: Vec::new(), used: 0 }
    }

    /// What stands for a request in the other functions: two folded products, as wyhash has them.
    pub(super) fn hash(&self, request: RequestId) -> u32 {
        let (high, low) = ((request.session >> 64) as u64, request.session as u64);
        let session = fold(high ^ 0xa076_1d64_78bd_642f, low ^ 0xe703_7ed1_a0b4_28db);
        fold(session ^ self.key, request.number ^ 0x8ebc_6af0_9c88_c6e3) as u32
    }

    /// The place of the request with this hash that `is_it` says yes to.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.seek(hash, |slot| slot.hash == hash && is_it(slot.place))?;
        Some(self.slots[at].place)
    }

    /// Adds a request that is not there.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        assert_ne!(place, u32::MAX, "the highest number stands for an empty slot");
        if 2 * (self.used + 1) > self.slots.len() {
            self.grow();
        }
        self.used += 1;
        self.settle(Slot { hash, place });
    }

    /// Removes the request that is kept at this place; it must be there.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let found = self.seek(hash, |slot| slot.place == place);
        let mut hole = found.unwrap_or_else(|| panic!("place {place} is not under its hash {hash:x}"));
        self.used -= 1;
        // What follows moves up, unless that would put it before the slot that its hash names.
        let mut at = self.after(hole);
        while !self.slots[at].is_empty() {
            if self.distance(self.slots[at].hash, at) >= self.distance(self.slots[at].hash, hole) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = EMPTY;
    }

    fn seek(&self, hash: u32, is_it: impl Fn(Slot) -> bool) -> Option<usize> {
        if self.used == 0 {
            return None;
        }
        let mut at = self.home(hash);
        while !self.slots[at].is_empty() {
            if is_it(self.slots[at]) {
                return Some(at);
            }
            at = self.after(at);
        }
        None
    }

    fn grow(&mut self) {
        let slots = (2 * self.slots.len()).max(Places::FIRST_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        for slot in old.into_iter().filter(|slot| !slot.is_empty()) {
            self.settle(slot);
        }
    }

    /// Puts a slot where the first empty one is, from the one that its hash names on.
    fn settle(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while !self.slots[at].is_empty() {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// How far a slot is behind the one that a hash names, around the end.
    fn distance(&self, hash: u32, at: usize) -> usize {
        at.wrapping_sub(self.home(hash)) & (self.slots.len() - 1)
    }
}

/// Both halves of the product of two numbers, one over the other.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The table finds what a set would, also when hashes fall together and around the end.
        #[test]
        fn behaves_as_a_set(steps in prop::collection::vec((0..60u32, any::<bool>()), 1..300), spread in 0..4u32) {
            let hash = |id: u32| (id % (8 << spread)).wrapping_sub(4);
            let mut places = Places::new(1);
            let mut model = BTreeSet::new();
            for (id, add) in steps {
                let held = model.contains(&id);
                match add {
                    true if !held => {
                        places.insert(hash(id), id);
                        model.insert(id);
                    }
                    false if held => {
                        places.remove(hash(id), id);
                        model.remove(&id);
                    }
                    _ => {}
                }
                prop_assert_eq!(places.used, model.len());
                for id in 0..60 {
                    let found = places.find(hash(id), |place| place == id);
                    prop_assert_eq!(found, model.contains(&id).then_some(id));
                }
            }
        }
    }

    /// Ids that differ little, as those of a client that counts, fall apart, and elsewhere with each key.
    #[test]
    fn ids_fall_apart() {
        let ids = (0..4096u64).flat_map(|number| {
            let session = |shift: u32| RequestId { session: u128::from(number) << shift, number: 1 };
            [RequestId::user(number + 1), RequestId::user(number << 40 | 5), session(0), session(64)]
        });
        let ids: BTreeSet<RequestId> = ids.collect();
        for seed in 0..8 {
            let places = Places::new(seed);
            let hashes: BTreeSet<u32> = ids.iter().map(|id| places.hash(*id) & 0xffff).collect();
            // Of 16,383 random ones about 14,500 would differ.
            assert!(hashes.len() > 14_000, "{} of {} differ", hashes.len(), ids.len());
        }
    }
}
