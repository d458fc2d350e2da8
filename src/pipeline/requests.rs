//! Where the [`Ledger`] and the [`Waiters`] meet: the applier delivers, and client faces and the embedder
//! ask.
//!
//! The ledger is a function of the log; the waiters are this node's own. They have one lock, which guards
//! [`Requests`], because one question spans both: a request is either found delivered, or its waiter is
//! registered before the delivery. With two locks a delivery could fall between the look into the ledger and
//! the registration, and that waiter would never be told.

use crate::consensus::types::{Entry, RequestId};

use super::ledger::{Answer, Digest, Ledger, Recorded, WINDOW};
use super::waiters::{Ticket, Waiters};

/// What was delivered, and who waits for what was not.
///
/// Invariant: nobody waits for a request that is in the ledger. [`Requests::register`] and
/// [`Requests::deliver`] are the only ways to add a waiter and to deliver.
pub struct Requests {
    /// What was delivered.
    pub ledger: Ledger,
    /// Who waits for what was not.
    pub waiters: Waiters,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests::new(WINDOW)
    }
}

impl Requests {
    /// Remembers the last `window` delivered requests; nobody waits.
    pub fn new(window: usize) -> Requests {
        Requests { ledger: Ledger::new(window), waiters: Waiters::default() }
    }

    /// Returns the answer if the request was delivered, and otherwise registers the waiter. `digest` is that
    /// of the proposal, or `None` if the waiter takes whatever is delivered.
    pub fn register(&mut self, request: RequestId, digest: Option<Digest>, ticket: Ticket) -> Option<Answer> {
        if let Some(receipt) = self.ledger.find(request) {
            return Some(receipt.answer(digest));
        }
        self.waiters.add(request, ticket, digest);
        None
    }

    /// Delivers the entry after the last delivered one and adds the answers to its waiters. Returns whether
    /// it counts (`false` for a no-op, or a repeat that is delivered as one).
    pub fn deliver(&mut self, entry: &Entry, answers: &mut Vec<(Ticket, Answer)>) -> bool {
        let (receipt, counts) = match self.ledger.deliver(entry) {
            Recorded::Noop => return false,
            Recorded::First(receipt) => (receipt, true),
            Recorded::Repeat(receipt) => (receipt, false),
        };
        while let Some((ticket, digest)) = self.waiters.take(entry.command.request) {
            answers.push((ticket, receipt.answer(digest)));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::{Ballot, Command, Index};

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
        assert!(requests.ledger.is_noop(&entry(2, 7, "a")));
        assert!(!requests.ledger.is_noop(&entry(1, 7, "a")));
        assert_eq!(
            requests.register(RequestId::user(7), Some(digest), ticket(2)),
            Some(Answer::Delivered(1))
        );
        let other = Digest::of(&entry(0, 7, "b").command);
        assert_eq!(
            requests.register(RequestId::user(7), Some(other), ticket(3)),
            Some(Answer::OtherValue(1))
        );
        assert_eq!(requests.waiters.count(), 0);
    }

    #[test]
    fn a_forgotten_waiter_is_not_answered() {
        let mut requests = Requests::new(3);
        requests.register(RequestId::user(1), None, ticket(1));
        requests.register(RequestId::user(1), None, ticket(2));
        assert!(requests.waiters.forget(RequestId::user(1), ticket(1)));
        assert!(!requests.waiters.forget(RequestId::user(1), ticket(1)));
        let mut answers = vec![];
        requests.deliver(&entry(1, 1, "v"), &mut answers);
        assert_eq!(answers, [(ticket(2), Answer::Delivered(1))]);
        assert_eq!(requests.waiters.count(), 0);
    }

    /// A great many wait for one request and leave one by one. Each must be found immediately, or this test
    /// takes minutes, in which a node would serve nobody.
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
            assert!(requests.waiters.forget(RequestId::user(1), ticket(sequence)));
        });
        let mut answers = vec![];
        requests.deliver(&entry(1, 2, "v"), &mut answers);
        assert_eq!((answers.len() as u64, requests.waiters.count()), (all, 0));
    }
}
