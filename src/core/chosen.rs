//! Which requests were chosen lately, so that a leader does not place one again that another node, which does
//! not know of the choice yet, sends again.
//!
//! Every node notes what it knows to be chosen, in the order of the log, so that a new leader knows what its
//! followers may not. Only a leader asks, so only a leader has what it takes to find requests: it is made
//! when leadership begins. Left out: who may still be waiting for a request (`forwarding.rs`).

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use super::places::Key;
use super::types::{Index, RequestId};

/// The requests that were chosen last, at most [`ChosenRequests::CAPACITY`]: the oldest is forgotten first.
#[derive(Clone, Debug, Default)]
pub struct ChosenRequests {
    /// In the order of the log.
    latest: VecDeque<Chosen>,
    /// How many were forgotten: requests are numbered from 0, and this is the number of the oldest.
    forgotten: u64,
    /// While this node leads.
    chains: Option<Chains>,
}

/// A request, and where it was chosen. Its session is split, or the alignment of u128 would cost 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Chosen {
    session: [u64; 2],
    number: u64,
    index: Index,
}

/// The numbers of requests with the same hash, in chains from the newest to the oldest. A chain ends with a
/// number that was forgotten, so nothing needs to be done when one is. A hash map that removes them costs
/// more. Both lists are of one length, a power of two that is not below the number of requests.
#[derive(Clone, Debug)]
struct Chains {
    /// By hash: one above the number of the newest; 0 if there was none.
    newest: Vec<u64>,
    /// By number: the next older one of its chain, as in `newest`.
    older: Vec<u64>,
}

impl ChosenRequests {
    /// The most that are remembered. A request takes 32 bytes, and at a leader 16 more.
    pub const CAPACITY: usize = 65_536;

    /// Notes the next request that was chosen.
    pub(super) fn push(&mut self, key: Key, request: RequestId, index: Index) {
        if self.latest.len() == Self::CAPACITY {
            self.latest.pop_front();
            self.forgotten += 1;
        }
        self.latest.push_back(Chosen::new(request, index));
        match &mut self.chains {
            Some(chains) if self.latest.len() <= chains.newest.len() => {
                chains.push(key.hash(request), self.forgotten + self.latest.len() as u64 - 1);
            }
            Some(_) => self.begin_to_find(key),
            None => {}
        }
    }

    /// Where a request was chosen, if that is remembered: the last place, if there are several. Only a leader
    /// knows.
    pub(super) fn find(&self, key: Key, request: RequestId) -> Option<Index> {
        let chains = self.chains.as_ref()?;
        let mut above = chains.newest[chains.slot(key.hash(request))];
        while above > self.forgotten {
            let chosen = &self.latest[(above - 1 - self.forgotten) as usize];
            if chosen.request() == request {
                return Some(chosen.index);
            }
            above = chains.older[chains.slot(above - 1)];
        }
        None
    }

    /// From now on requests can be found.
    pub(super) fn begin_to_find(&mut self, key: Key) {
        let slots = self.latest.len().next_power_of_two();
        let mut chains = Chains { newest: vec![0; slots], older: vec![0; slots] };
        for (chosen, number) in self.latest.iter().zip(self.forgotten..) {
            chains.push(key.hash(chosen.request()), number);
        }
        self.chains = Some(chains);
    }

    /// Requests need not be found any more.
    pub(super) fn end_to_find(&mut self) {
        self.chains = None;
    }
}

impl Chains {
    /// The next request has this hash.
    fn push(&mut self, hash: u64, number: u64) {
        let (chain, place) = (self.slot(hash), self.slot(number));
        self.older[place] = self.newest[chain];
        self.newest[chain] = number + 1;
    }

    /// The place of a hash or a number in a list.
    fn slot(&self, number: u64) -> usize {
        number as usize & (self.newest.len() - 1)
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
