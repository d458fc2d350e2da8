//! The ledger: which requests were delivered, and where. It is a function of the log alone, so it is the same
//! on every node that delivered as much.
//!
//! *A request is delivered at most once.* Choosing cannot promise that: a new leader may have to adopt the
//! same command at two indexes, and a repeated proposal may be chosen twice. Delivery can: the [`Ledger`]
//! holds the last [`WINDOW`] distinct delivered requests, and a request found there is delivered as a no-op
//! and answered with its first index.
//!
//! Left out: who waits on this node for a delivery ([`waiters`](super::waiters)).

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::consensus::types::{Command, Entry, Index, Kind, RequestId};

/// How many distinct delivered requests are remembered. It is fixed when a cluster is founded, since delivery
/// depends on it. Each takes about 50 bytes of memory.
pub const WINDOW: usize = 1_048_576;

/// The delivered window.
///
/// Invariants:
/// * `receipts` holds the last `window` distinct requests delivered at or below `applied`, each with its
///   first index within the window. `places` has exactly their ids.
/// * `repeats` ascends, and holds every index at or below `applied` whose request had been delivered before.
/// * Two ledgers with the same window that were given the same entries answer alike. No node, clock or waiter
///   plays a part.
pub struct Ledger {
    /// Places in `receipts`, by request id. The table is never iterated, so its order does not matter.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// A ring of at most `window` slots in order of delivery. The slot at place `p` is `receipts[p]`.
    receipts: Vec<Receipt>,
    /// Where the next receipt goes once the ring is full.
    oldest: usize,
    window: usize,
    /// Every index up to this one was delivered.
    applied: Index,
    /// Indexes delivered as a no-op because their request was delivered before, ascending.
    repeats: Vec<Index>,
}

impl Ledger {
    /// Remembers the last `window` delivered requests. It takes its address space now: growing a table of a
    /// million requests in one step later would hold up every answer for a tenth of a second.
    pub fn new(window: usize) -> Ledger {
        assert!(window > 0 && window <= u32::MAX as usize, "a window of 1 to 2^32-1 requests, not {window}");
        Ledger {
            places: HashTable::with_capacity(window),
            hasher: DefaultHashBuilder::default(),
            receipts: Vec::with_capacity(window),
            oldest: 0,
            window,
            applied: 0,
            repeats: Vec::new(),
        }
    }

    /// Begins after this index, with nothing delivered yet.
    pub fn start_at(&mut self, applied: Index) {
        assert_eq!(self.applied, 0, "delivery has already begun, up to {}", self.applied);
        self.applied = applied;
    }

    /// Every index up to this one was delivered.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The index where a request was delivered, if that is within the window.
    pub fn lookup(&self, request: RequestId) -> Option<Index> {
        self.find(request).map(|receipt| receipt.index)
    }

    /// Whether the entry at a delivered index was delivered as a no-op, because it is one or because its
    /// request had been delivered before.
    pub fn is_noop(&self, entry: &Entry) -> bool {
        entry.command.kind == Kind::Noop || self.repeats.binary_search(&entry.index).is_ok()
    }

    /// Whether the entry, which will be delivered next, will count: it is neither a no-op nor a repeat.
    pub fn counts(&self, entry: &Entry) -> bool {
        entry.command.kind != Kind::Noop && self.lookup(entry.command.request).is_none()
    }

    /// The receipt of a request, if it was delivered within the window.
    pub(super) fn find(&self, request: RequestId) -> Option<&Receipt> {
        self.find_hashed(self.hasher.hash_one(request), request)
    }

    /// Records the entry after the last delivered one.
    pub(super) fn deliver(&mut self, entry: &Entry) -> Recorded {
        assert_eq!(
            entry.index,
            self.applied + 1,
            "delivery must be in order: {} came after {}",
            entry.index,
            self.applied
        );
        self.applied = entry.index;
        if entry.command.kind == Kind::Noop {
            return Recorded::Noop;
        }
        let request = entry.command.request;
        let hash = self.hasher.hash_one(request);
        match self.find_hashed(hash, request).copied() {
            Some(earlier) => {
                self.repeats.push(entry.index);
                Recorded::Repeat(earlier)
            }
            None => {
                let receipt = Receipt::new(request, entry.index, Digest::of(&entry.command));
                self.remember(hash, receipt);
                Recorded::First(receipt)
            }
        }
    }

    fn find_hashed(&self, hash: u64, request: RequestId) -> Option<&Receipt> {
        let place = self.places.find(hash, |place| self.receipts[*place as usize].request() == request)?;
        Some(&self.receipts[*place as usize])
    }

    fn remember(&mut self, hash: u64, new: Receipt) {
        let place = if self.receipts.len() < self.window {
            self.receipts.push(new);
            self.receipts.len() - 1
        } else {
            let place = self.oldest;
            self.oldest = (place + 1) % self.window;
            let old = self.hasher.hash_one(self.receipts[place].request());
            let entry = self.places.find_entry(old, |other| *other as usize == place);
            entry.expect("every slot of the ring has its place in the table").remove();
            self.receipts[place] = new;
            place
        };
        let (hasher, receipts) = (&self.hasher, &self.receipts);
        let rehash = |place: &u32| hasher.hash_one(receipts[*place as usize].request());
        self.places.insert_unique(hash, place as u32, rehash);
        assert_eq!(self.places.len(), self.receipts.len(), "the table and the ring hold the same requests");
    }
}

/// What the ledger recorded for an entry.
#[derive(Clone, Copy)]
pub(super) enum Recorded {
    /// The entry asks for nothing.
    Noop,
    /// Its request was delivered for the first time within the window.
    First(Receipt),
    /// Its request had been delivered before; the receipt says where.
    Repeat(Receipt),
}

/// A delivered request: where it was delivered, and what it held.
#[derive(Clone, Copy)]
pub(super) struct Receipt {
    /// Split, or the alignment of u128 would cost eight bytes more.
    session: [u64; 2],
    number: u64,
    index: Index,
    digest: Digest,
}

impl Receipt {
    fn new(request: RequestId, index: Index, digest: Digest) -> Receipt {
        let session = [(request.session >> 64) as u64, request.session as u64];
        Receipt { session, number: request.number, index, digest }
    }

    fn request(&self) -> RequestId {
        let session = (u128::from(self.session[0]) << 64) | u128::from(self.session[1]);
        RequestId { session, number: self.number }
    }

    /// The answer to a waiter whose proposal has this digest. With `None` the waiter takes whatever was
    /// delivered.
    pub(super) fn answer(&self, digest: Option<Digest>) -> Answer {
        match digest {
            Some(digest) if digest != self.digest => Answer::OtherValue(self.index),
            _ => Answer::Delivered(self.index),
        }
    }
}

/// The ledger's answer for a delivered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request was delivered at this index.
    Delivered(Index),
    /// The request id was delivered at this index, with a different value.
    OtherValue(Index),
}

impl Answer {
    /// Where the request id was delivered.
    pub fn index(self) -> Index {
        match self {
            Answer::Delivered(index) | Answer::OtherValue(index) => index,
        }
    }
}

/// Tells payloads apart by CRC-32C, length and kind. A collision only means that a reused request id is
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
        let len = u32::try_from(command.payload.len()).unwrap_or(u32::MAX);
        Digest { crc: crc32c::crc32c(&command.payload), len, kind: command.kind.code() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::Ballot;

    fn entry(index: Index, reqid: u64, value: &'static str) -> Entry {
        Entry { index, ballot: Ballot { round: 1, node: 1 }, command: Command::value(reqid, 1, value) }
    }

    fn counts(recorded: Recorded) -> bool {
        matches!(recorded, Recorded::First(_))
    }

    #[test]
    fn the_window_is_the_last_distinct_requests_by_index() {
        let mut ledger = Ledger::new(3);
        for reqid in 1..=3 {
            assert!(counts(ledger.deliver(&entry(reqid, reqid, "v"))));
        }
        assert!(!counts(ledger.deliver(&entry(4, 1, "v"))));
        assert!(counts(ledger.deliver(&entry(5, 4, "v"))));
        assert_eq!(ledger.lookup(RequestId::user(1)), None);
        assert!(counts(ledger.deliver(&entry(6, 1, "v"))));
        assert_eq!(ledger.lookup(RequestId::user(1)), Some(6));
        assert_eq!(ledger.lookup(RequestId::user(2)), None);
    }
}
