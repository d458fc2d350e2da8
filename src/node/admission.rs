//! Which commands a node accepts: one rule for its clients and its embedder.
//!
//! A command is admitted when the disk has room and not too many requests wait for their answers. It becomes
//! a proposal, and its waiter is registered, unless the ledger already has its request. Left out: what
//! clients and embedder check beforehand (a command's form and size) and the queues that proposals go into.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::consensus::protocol::Proposal;
use crate::consensus::types::{Command, Kind, NodeId, RequestId};
use crate::pipeline::ledger::{Answer, Digest};
use crate::pipeline::requests::Requests;
use crate::pipeline::waiters::Ticket;

use super::clock::Clock;
use super::health::Health;

/// The rule, and what it depends on.
pub(super) struct Admission {
    pub(super) node: NodeId,
    /// How many requests may wait for their answers: `limits.pending`.
    pub(super) pending_limit: usize,
    pub(super) clock: Clock,
    pub(super) health: Arc<Health>,
    pub(super) requests: Arc<Mutex<Requests>>,
}

impl Admission {
    /// Begins to admit commands, or returns why none is accepted now. Deliveries wait until the result is
    /// dropped.
    pub(super) fn open(&self) -> Result<Admitting<'_>, &'static str> {
        if let Some(why) = self.health.refuses() {
            return Err(why);
        }
        let now_ms = self.clock.now_ms();
        Ok(Admitting { rule: self, now_ms, requests: self.requests.lock() })
    }
}

/// Commands that are admitted together.
pub(super) struct Admitting<'a> {
    rule: &'a Admission,
    now_ms: u64,
    requests: MutexGuard<'a, Requests>,
}

impl Admitting<'_> {
    /// Checks that this many more requests may wait, or returns why not.
    pub(super) fn check_room(&self, count: usize) -> Result<(), &'static str> {
        if self.requests.waiters.count() + count > self.rule.pending_limit {
            return Err("too many requests wait for their answers (limits.pending)");
        }
        Ok(())
    }

    /// Registers the waiter of a command and returns the proposal; or returns the answer, if its request was
    /// delivered before.
    pub(super) fn admit(
        &mut self,
        (request, kind, payload): (RequestId, Kind, Bytes),
        timeout_ms: u64,
        ticket: Ticket,
    ) -> Result<Proposal, Answer> {
        let command = Command { request, from: self.rule.node, kind, payload };
        match self.requests.register(request, Some(Digest::of(&command)), ticket) {
            Some(answer) => Err(answer),
            None => Ok(Proposal { command, deadline_ms: self.now_ms.saturating_add(timeout_ms) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::{Ballot, Entry};

    fn admission() -> Admission {
        Admission {
            node: 3,
            pending_limit: 2,
            clock: Clock::start(),
            health: Arc::default(),
            requests: Arc::new(Mutex::new(Requests::new(8))),
        }
    }

    fn admit(admitting: &mut Admitting, reqid: u64, payload: &'static str) -> Result<Proposal, Answer> {
        let ticket = Ticket { connection: 1, sequence: reqid };
        admitting.admit((RequestId::user(reqid), Kind::Value, payload.into()), 50, ticket)
    }

    /// An admitted command is proposed as this node's own, with a deadline, and waits for its answer.
    #[test]
    fn a_command_becomes_a_proposal_and_waits() {
        let admission = admission();
        let mut admitting = admission.open().unwrap();
        let proposal = admit(&mut admitting, 1, "a").unwrap();
        assert_eq!(proposal.command, Command::value(1, 3, "a"));
        assert_eq!(proposal.deadline_ms, admitting.now_ms + 50);
        assert_eq!(admitting.check_room(1), Ok(()));
        assert!(admitting.check_room(2).unwrap_err().contains("limits.pending"));
        admit(&mut admitting, 2, "b").unwrap();
        assert!(admitting.check_room(1).is_err());
        drop(admitting);
        assert_eq!(admission.requests.lock().waiters.count(), 2);
    }

    /// A request that was delivered is answered immediately, and nobody waits for it.
    #[test]
    fn what_was_delivered_is_not_proposed_again() {
        let admission = admission();
        let ballot = Ballot { round: 1, node: 1 };
        let entry = Entry { index: 1, ballot, command: Command::value(1, 1, "a") };
        admission.requests.lock().deliver(&entry, &mut Vec::new());
        let mut admitting = admission.open().unwrap();
        assert_eq!(admit(&mut admitting, 1, "a").unwrap_err(), Answer::Delivered(1));
        assert_eq!(admit(&mut admitting, 1, "b").unwrap_err(), Answer::OtherValue(1));
        assert_eq!(admitting.requests.waiters.count(), 0);
    }

    /// While the disk is full nothing is accepted, from clients and embedder alike.
    #[test]
    fn nothing_is_admitted_while_the_disk_is_full() {
        let admission = admission();
        admission.health.set_disk_full(true);
        assert!(admission.open().is_err());
        admission.health.set_disk_full(false);
        assert!(admission.open().is_ok());
    }
}
