//! Which requests were chosen lately, so that a leader does not place one again that another node, which does
//! not know of the choice yet, sends again.
//!
//! Every node notes what it knows to be chosen, in the order of the log, so that a new leader knows what its
//! followers may not. Only a leader asks, so only a leader has a table to find requests in: it is made when
//! leadership begins. Left out: who may still be waiting for a request (`forwarding.rs`).

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::places::Key;
use super::types::{Index, RequestId};

/// The requests that were chosen last, at most [`ChosenRequests::CAPACITY`]: the oldest is forgotten first.
#[derive(Clone, Debug, Default)]
pub struct ChosenRequests {
    /// In the order of the log.
    latest: VecDeque<Chosen>,
    /// How many were forgotten: that of the oldest in `latest` counts all that came before it.
    forgotten: u64,
    /// While this node leads: the number of each, counted like `forgotten` (modulo 2^32), found by its hash.
    /// Of a request that was chosen twice, the later one.
    table: Option<HashTable<u32>>,
}

/// A request, and where it was chosen. Its session is split, or the alignment of u128 would cost 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Chosen {
    session: [u64; 2],
    number: u64,
    index: Index,
}

impl ChosenRequests {
    /// The most that are remembered. A request takes 32 bytes, and at a leader about 10 more.
    pub const CAPACITY: usize = 65_536;

    /// Notes the next request that was chosen.
    pub(super) fn push(&mut self, key: Key, request: RequestId, index: Index) {
        if self.latest.len() == Self::CAPACITY {
            self.forget_oldest(key);
        }
        self.latest.push_back(Chosen::new(request, index));
        self.note_in_table(key, self.latest.len() - 1);
    }

    /// Where a request was chosen, if that is remembered. Only a leader knows.
    pub(super) fn find(&self, key: Key, request: RequestId) -> Option<Index> {
        let table = self.table.as_ref().filter(|table| !table.is_empty())?;
        let found = table.find(key.hash(request), |number| self.at(*number).request() == request);
        found.map(|number| self.at(*number).index)
    }

    /// From now on requests can be found.
    pub(super) fn begin_to_find(&mut self, key: Key) {
        self.table = Some(HashTable::with_capacity(self.latest.len()));
        for place in 0..self.latest.len() {
            self.note_in_table(key, place);
        }
    }

    /// Requests need not be found any more.
    pub(super) fn end_to_find(&mut self) {
        self.table = None;
    }

    fn note_in_table(&mut self, key: Key, place: usize) {
        let Some(table) = &mut self.table else { return };
        let (latest, forgotten) = (&self.latest, self.forgotten);
        let request_of = |number: &u32| latest[number.wrapping_sub(forgotten as u32) as usize].request();
        let request = latest[place].request();
        let number = (forgotten + place as u64) as u32;
        let is_it = |other: &u32| request_of(other) == request;
        match table.entry(key.hash(request), is_it, |other| key.hash(request_of(other))) {
            Entry::Occupied(mut earlier) => *earlier.get_mut() = number,
            Entry::Vacant(free) => drop(free.insert(number)),
        }
    }

    fn forget_oldest(&mut self, key: Key) {
        let Some(oldest) = self.latest.pop_front() else { return };
        let number = self.forgotten as u32;
        self.forgotten += 1;
        let Some(table) = &mut self.table else { return };
        // If it was chosen again since, the table has the later one.
        if let Ok(entry) = table.find_entry(key.hash(oldest.request()), |other| *other == number) {
            entry.remove();
        }
    }

    fn at(&self, number: u32) -> &Chosen {
        &self.latest[number.wrapping_sub(self.forgotten as u32) as usize]
    }
}

/// Two of them are equal if they remember the same, whether or not it can be found.
impl PartialEq for ChosenRequests {
    fn eq(&self, other: &ChosenRequests) -> bool {
        self.latest == other.latest
    }
}

impl Eq for ChosenRequests {}

impl Hash for ChosenRequests {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.latest.hash(state);
    }
}

impl Chosen {
    fn new(request: RequestId, index: Index) -> Chosen {
        let session = [(request.session >> 64) as u64, request.session as u64];
        Chosen { session, number: request.number, index }
    }

    fn request(&self) -> RequestId {
        let session = (u128::from(self.session[0]) << 64) | u128::from(self.session[1]);
        RequestId { session, number: self.number }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// It finds what a list would find: the last place of each request among the latest, at a leader, whether
    /// it led when they were chosen or not.
    #[test]
    fn finds_what_a_list_would_find() {
        let all = ChosenRequests::CAPACITY as u64;
        let key = Key::new(1);
        let mut chosen = ChosenRequests::default();
        let mut places: BTreeMap<u64, Index> = BTreeMap::new();
        for index in 1..=2 * all + 100 {
            // Each hundredth is a repeat: of a recent one, of an old one, or of one that is just forgotten.
            let number = match index {
                _ if index % 100 != 0 => index,
                _ if index % 300 == 0 => index - 50,
                _ if index % 300 == 100 => index.saturating_sub(all / 2) + 1,
                _ => index.saturating_sub(all) + 1,
            };
            if index == all / 2 || index == 2 * all {
                chosen.begin_to_find(key);
            } else if index == all + all / 2 {
                chosen.end_to_find();
                assert_eq!(chosen.find(key, RequestId::user(number)), None, "it does not lead");
            }
            chosen.push(key, RequestId::user(number), index);
            places.insert(number, index);
        }
        assert_eq!(chosen.latest.len() as u64, all);
        for (number, index) in places {
            let remembered = Some(index).filter(|index| *index > all + 100);
            assert_eq!(chosen.find(key, RequestId::user(number)), remembered, "request {number}");
        }
    }

    /// What can be found makes no difference between two of them; what is remembered does.
    #[test]
    fn equal_is_what_remembers_the_same() {
        let key = Key::new(1);
        let mut one = ChosenRequests::default();
        one.push(key, RequestId::user(1), 1);
        let mut other = one.clone();
        other.begin_to_find(key);
        assert_eq!(one, other);
        other.push(key, RequestId { session: 1 << 64, number: 2 }, 2);
        assert_ne!(one, other);
        assert_eq!(other.find(key, RequestId { session: 1 << 64, number: 2 }), Some(2));
        assert_eq!(other.find(key, RequestId { session: 1, number: 2 }), None);
    }
}
