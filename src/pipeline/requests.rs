//! What was delivered lately, and who waits for what: the meeting point of the applier and the client port.
//!
//! *A request is delivered at most once.* Choosing cannot promise that: a new leader may have to adopt the
//! same command at two indexes, and a repeated proposal may be chosen twice. Delivery can: [`Requests`]
//! holds the last [`WINDOW`] distinct delivered requests, a function of the log alone, and what is found
//! there is delivered as a no-op and answered with its first index.
//!
//! The applier delivers and the client port registers waiters under one lock, so a request is either found
//! delivered or its waiter is told later; nothing falls between. Left out: time (the port forgets waiters
//! that are out of it) and replies (the port makes them).

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::consensus::types::{Command, Entry, Index, Kind, RequestId};

/// How many distinct delivered requests are remembered. Fixed when a cluster is founded: delivery depends
/// on it. It takes about 50 bytes each in memory.
pub const WINDOW: usize = 1_048_576;

/// Names one waiter: of the client port, or of whoever embeds the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The connection, never used again in this run.
    pub connection: u64,
    /// The request on that connection.
    pub sequence: u64,
}

impl Ticket {
    /// No connection of the client port has this number: here waits whoever embeds the node.
    pub const EMBEDDED: u64 = u64::MAX;

    /// Whether whoever embeds the node waits.
    pub fn is_embedded(self) -> bool {
        self.connection == Ticket::EMBEDDED
    }
}

/// Tells one payload from another: CRC-32C, length and kind. A collision only means that a reused reqid is
/// answered with an index instead of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    crc: u32,
    len: u32,
    kind: u8,
}

impl Digest {
    /// The digest of a command's kind and payload.
    pub fn of(command: &Command) -> Digest {
        Digest::of_payload(command.kind, &command.payload)
    }

    /// The same, of a command that is not made yet.
    pub fn of_payload(kind: Kind, payload: &[u8]) -> Digest {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Digest { crc: crc32c::crc32c(payload), len, kind: kind.code() }
    }
}

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its request was delivered at this index.
    Delivered(Index),
    /// The reqid was delivered at this index, with another value.
    OtherValue(Index),
}

impl Answer {
    /// Where the reqid was delivered.
    pub fn index(self) -> Index {
        match self {
            Answer::Delivered(index) | Answer::OtherValue(index) => index,
        }
    }
}

/// The delivered window and the waiters.
pub struct Requests {
    /// By request id: places in `delivered`. Never iterated, so its order does not matter.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// A ring of at most `window` slots in order of delivery; the slot at place `p` is `delivered[p]`.
    delivered: Vec<Delivered>,
    /// Where the next delivery goes once the ring is full.
    oldest: usize,
    window: usize,
    /// Up to it everything was delivered.
    applied: Index,
    /// Indexes delivered as a no-op because their request was delivered before, ascending.
    repeats: Vec<Index>,
    /// By request and ticket, with the digest of what its proposal holds; `None` if it only waits. However
    /// many wait for one request, each is found and forgotten at once.
    waiters: BTreeMap<(RequestId, Ticket), Option<Digest>>,
}

#[derive(Clone, Copy)]
struct Delivered {
    /// Split, or the alignment of u128 would cost eight bytes more.
    session: [u64; 2],
    number: u64,
    index: Index,
    digest: Digest,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests::new(WINDOW)
    }
}

impl Requests {
    /// Remembers the last `window` delivered requests. Takes its address space at once: growing a table of a
    /// million requests in one step would hold up every answer for a tenth of a second.
    pub fn new(window: usize) -> Requests {
        assert!(window > 0 && window <= u32::MAX as usize, "a window of 1 to 2^32-1 requests, not {window}");
        Requests {
            places: HashTable::with_capacity(window),
            hasher: DefaultHashBuilder::default(),
            delivered: Vec::with_capacity(window),
            oldest: 0,
            window,
            applied: 0,
            repeats: Vec::new(),
            waiters: BTreeMap::new(),
        }
    }

    /// Begins after this index, with nothing delivered yet.
    pub fn start_at(&mut self, applied: Index) {
        assert_eq!(self.applied, 0, "delivery has begun already, up to {}", self.applied);
        self.applied = applied;
    }

    /// Up to it everything was delivered.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Where a request was delivered, if within the window.
    pub fn lookup(&self, request: RequestId) -> Option<Index> {
        self.find(self.hasher.hash_one(request), request).map(|delivered| delivered.index)
    }

    /// Whether what stands at a delivered index was delivered as a no-op, because its request had been
    /// delivered before (or it is a no-op).
    pub fn is_noop(&self, entry: &Entry) -> bool {
        entry.command.kind == Kind::Noop || self.repeats.binary_search(&entry.index).is_ok()
    }

    /// Whether the entry, to be delivered next, will count: it is no no-op, and no repeat.
    pub fn counts(&self, entry: &Entry) -> bool {
        entry.command.kind != Kind::Noop && self.lookup(entry.command.request).is_none()
    }

    /// Answers at once if the request was delivered, and otherwise registers the waiter. `digest` is that
    /// of the proposal, or `None` if the waiter takes whatever is delivered.
    pub fn register(&mut self, request: RequestId, digest: Option<Digest>, ticket: Ticket) -> Option<Answer> {
        if let Some(delivered) = self.find(self.hasher.hash_one(request), request) {
            return Some(delivered.answer(digest));
        }
        self.waiters.insert((request, ticket), digest);
        None
    }

    /// Removes a waiter that ran out of time or whose connection ended; whether it was there.
    pub fn forget(&mut self, request: RequestId, ticket: Ticket) -> bool {
        self.waiters.remove(&(request, ticket)).is_some()
    }

    /// Delivers the entry after the last delivered one, adds the answers of its waiters, and says whether
    /// it counts (`false`: a no-op, or a repeat that is delivered as one).
    pub fn deliver(&mut self, entry: &Entry, answers: &mut Vec<(Ticket, Answer)>) -> bool {
        assert_eq!(
            entry.index,
            self.applied + 1,
            "delivery is in order: {} after {}",
            entry.index,
            self.applied
        );
        self.applied = entry.index;
        if entry.command.kind == Kind::Noop {
            return false;
        }
        let request = entry.command.request;
        let hash = self.hasher.hash_one(request);
        let earlier = self.find(hash, request).copied();
        let delivered =
            earlier.unwrap_or_else(|| Delivered::new(request, entry.index, Digest::of(&entry.command)));
        match earlier {
            Some(_) => self.repeats.push(entry.index),
            None => self.remember(hash, delivered),
        }
        while let Some((ticket, digest)) = self.take_waiter(request) {
            answers.push((ticket, delivered.answer(digest)));
        }
        earlier.is_none()
    }

    /// Who waits for a request and has the lowest ticket of those.
    fn take_waiter(&mut self, request: RequestId) -> Option<(Ticket, Option<Digest>)> {
        let first = (request, Ticket { connection: 0, sequence: 0 });
        let key = *self.waiters.range(first..).next()?.0;
        if key.0 != request {
            return None;
        }
        Some((key.1, self.waiters.remove(&key)?))
    }

    fn find(&self, hash: u64, request: RequestId) -> Option<&Delivered> {
        let place = self.places.find(hash, |place| self.delivered[*place as usize].request() == request)?;
        Some(&self.delivered[*place as usize])
    }

    fn remember(&mut self, hash: u64, new: Delivered) {
        let place = match self.delivered.len() < self.window {
            true => {
                self.delivered.push(new);
                self.delivered.len() - 1
            }
            false => {
                let place = self.oldest;
                self.oldest = (place + 1) % self.window;
                let old = self.hasher.hash_one(self.delivered[place].request());
                let entry = self.places.find_entry(old, |other| *other as usize == place);
                entry.expect("every slot of the ring has its place in the table").remove();
                self.delivered[place] = new;
                place
            }
        };
        let (hasher, delivered) = (&self.hasher, &self.delivered);
        let rehash = |place: &u32| hasher.hash_one(delivered[*place as usize].request());
        self.places.insert_unique(hash, place as u32, rehash);
        assert_eq!(self.places.len(), self.delivered.len(), "the table and the ring hold the same requests");
    }
}

impl Delivered {
    fn new(request: RequestId, index: Index, digest: Digest) -> Delivered {
        let session = [(request.session >> 64) as u64, request.session as u64];
        Delivered { session, number: request.number, index, digest }
    }

    fn request(&self) -> RequestId {
        let session = (u128::from(self.session[0]) << 64) | u128::from(self.session[1]);
        RequestId { session, number: self.number }
    }

    fn answer(&self, digest: Option<Digest>) -> Answer {
        match digest {
            Some(digest) if digest != self.digest => Answer::OtherValue(self.index),
            _ => Answer::Delivered(self.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::Ballot;

    fn entry(index: Index, reqid: u64, value: &'static str) -> Entry {
        Entry { index, ballot: Ballot { round: 1, node: 1 }, command: Command::value(reqid, 1, value) }
    }

    fn ticket(sequence: u64) -> Ticket {
        Ticket { connection: 1, sequence }
    }

    #[test]
    fn a_repeat_is_a_noop_and_is_answered_with_the_first_index() {
        let mut requests = Requests::new(8);
        let digest = Digest::of(&entry(0, 7, "a").command);
        assert_eq!(requests.register(RequestId::user(7), Some(digest), ticket(1)), None);
        let mut answers = vec![];
        assert!(requests.deliver(&entry(1, 7, "a"), &mut answers));
        assert_eq!(answers, [(ticket(1), Answer::Delivered(1))]);
        assert!(!requests.deliver(&entry(2, 7, "a"), &mut answers));
        assert!(requests.is_noop(&entry(2, 7, "a")));
        assert!(!requests.is_noop(&entry(1, 7, "a")));
        assert_eq!(
            requests.register(RequestId::user(7), Some(digest), ticket(2)),
            Some(Answer::Delivered(1))
        );
        let other = Digest::of(&entry(0, 7, "b").command);
        assert_eq!(
            requests.register(RequestId::user(7), Some(other), ticket(3)),
            Some(Answer::OtherValue(1))
        );
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn the_window_is_the_last_distinct_requests_by_index() {
        let mut requests = Requests::new(3);
        let mut answers = vec![];
        for reqid in 1..=3 {
            assert!(requests.deliver(&entry(reqid, reqid, "v"), &mut answers));
        }
        assert!(!requests.deliver(&entry(4, 1, "v"), &mut answers));
        assert!(requests.deliver(&entry(5, 4, "v"), &mut answers));
        assert_eq!(requests.lookup(RequestId::user(1)), None);
        assert!(requests.deliver(&entry(6, 1, "v"), &mut answers));
        assert_eq!(requests.lookup(RequestId::user(1)), Some(6));
        assert_eq!(requests.lookup(RequestId::user(2)), None);
    }

    #[test]
    fn a_forgotten_waiter_is_not_answered() {
        let mut requests = Requests::new(3);
        requests.register(RequestId::user(1), None, ticket(1));
        requests.register(RequestId::user(1), None, ticket(2));
        assert!(requests.forget(RequestId::user(1), ticket(1)));
        assert!(!requests.forget(RequestId::user(1), ticket(1)));
        let mut answers = vec![];
        requests.deliver(&entry(1, 1, "v"), &mut answers);
        assert_eq!(answers, [(ticket(2), Answer::Delivered(1))]);
        assert_eq!(requests.waiting(), 0);
    }

    /// A great many wait for one request and go one by one: each of them is found at once, or
    /// this test takes minutes, and a node would serve nobody meanwhile.
    #[test]
    fn any_number_may_wait_for_one_request() {
        let mut requests = Requests::new(3);
        let all = 100_000;
        for request in [1, 2] {
            (0..all).for_each(|sequence| {
                requests.register(RequestId::user(request), None, ticket(sequence));
            });
        }
        (0..all).for_each(|sequence| {
            assert!(requests.forget(RequestId::user(1), ticket(sequence)));
        });
        let mut answers = vec![];
        requests.deliver(&entry(1, 2, "v"), &mut answers);
        assert_eq!((answers.len() as u64, requests.waiting()), (all, 0));
    }
}
