//! The waiters: who waits on this node for the delivery of which request. They are local, and gone with the
//! process.
//!
//! Left out: what was delivered ([`ledger`](super::ledger)), timeouts (the client port and the embedder's
//! handles forget waiters whose time is over) and replies (the same two make them).

use std::collections::BTreeMap;

use crate::consensus::types::RequestId;

use super::ledger::Digest;

/// Names one waiter, of a client face or of the embedder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The connection. Its number is never used again in this run.
    pub connection: u64,
    /// The request on that connection.
    pub sequence: u64,
}

impl Ticket {
    /// In place of a connection, which never has this number: the embedder waits.
    pub const EMBEDDED: u64 = u64::MAX;

    /// Whether the embedder waits.
    pub fn is_embedded(self) -> bool {
        self.connection == Ticket::EMBEDDED
    }
}

/// All waiters.
///
/// Invariants:
/// * A ticket waits for one request at a time, and for none that is in the ledger
///   ([`Requests`](super::requests::Requests) keeps the two in step).
/// * A waiter leaves exactly once: answered, or forgotten.
#[derive(Default)]
pub struct Waiters {
    /// The waiters by request and ticket, each with the digest of what its proposal holds, or `None` if it
    /// only waits. However many wait for one request, each is found and forgotten immediately.
    waiting: BTreeMap<(RequestId, Ticket), Option<Digest>>,
}

impl Waiters {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Removes a waiter that ran out of time or whose connection ended. Returns whether it was there.
    pub fn forget(&mut self, request: RequestId, ticket: Ticket) -> bool {
        self.waiting.remove(&(request, ticket)).is_some()
    }

    /// Adds a waiter for a request that is not in the ledger.
    pub(super) fn add(&mut self, request: RequestId, ticket: Ticket, digest: Option<Digest>) {
        self.waiting.insert((request, ticket), digest);
    }

    /// Removes the waiter with the lowest ticket for a request.
    pub(super) fn take(&mut self, request: RequestId) -> Option<(Ticket, Option<Digest>)> {
        let first = (request, Ticket { connection: 0, sequence: 0 });
        let key = *self.waiting.range(first..).next()?.0;
        if key.0 != request {
            return None;
        }
        Some((key.1, self.waiting.remove(&key)?))
    }
}
