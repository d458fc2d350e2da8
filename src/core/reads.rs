//! Reads without a log entry (Raft thesis section 6.4; the same for Paxos): a leader says from which index on
//! a state answers a read that is asked for now.
//!
//! 1. The leader waits until all that it found at its election, and an entry of its own after it, is chosen:
//!    until then its watermark may be behind what earlier leaders told their clients.
//! 2. It notes its watermark: nothing that anyone was told of before the question is above it, unless another
//!    node leads already.
//! 3. It asks the others whether they still follow it ([`ClusterBody::Confirm`]). If a majority does, when
//!    asked after the read, nobody led with a higher ballot at the time of the read.
//! 4. The node that asked is told the noted index; once it has delivered every index up to this one, it may
//!    answer the read.
//!
//! All reads that come while the others are asked share the next question. A question whose answer does not
//! come is repeated. A read whose leader steps down, or that finds no leader, is never answered: the reader
//! asks again.
//!
//! Invariant: a round of questions counts only answers that name its number, so each was given after all
//! reads of the round had come.

use super::batch::{Batch, ReadIndex};
use super::member::{Member, Sender};
use super::message::ClusterBody;
use super::quorum::Set;
use super::types::{Ballot, Index, NodeId};

/// The reads of a leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    /// Those that wait for the next round of questions.
    waiting: Vec<Read>,
    /// Those of the round under way; empty if there is none.
    asked: Vec<Read>,
    /// The watermark when the round began.
    index: Index,
    /// The number of the round; ascending under one ballot.
    number: u64,
    confirmed: Set,
    repeat_at_ms: u64,
}

/// The node that asks, and its name for the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Read {
    pub(super) from: NodeId,
    pub(super) id: u64,
}

impl Reads {
    /// The most that may wait; more are dropped, and asked for again.
    pub(super) const CAPACITY: usize = 4096;

    /// Takes a read. Returns `false` if there is no room.
    pub(super) fn add(&mut self, read: Read) -> bool {
        let added = self.waiting.len() < Reads::CAPACITY;
        if added && !self.waiting.contains(&read) {
            self.waiting.push(read);
        }
        added
    }

    /// Begins a round, unless one is under way or nobody waits.
    pub(super) fn begin(&mut self, member: &Member, ballot: Ballot, chosen: Index, out: &mut Batch) {
        if !self.asked.is_empty() || self.waiting.is_empty() {
            return;
        }
        self.asked = std::mem::take(&mut self.waiting);
        self.index = chosen;
        self.number += 1;
        self.confirmed = Set::default();
        // It leads now: that is its own answer, which promises nothing.
        self.confirmed.insert(member.own_bit());
        self.ask(member, ballot, out);
        self.end_if_confirmed(member, out);
    }

    fn ask(&mut self, member: &Member, ballot: Ballot, out: &mut Batch) {
        self.repeat_at_ms = member.now_ms() + member.heartbeat_ms();
        for peer in member.others() {
            if !self.confirmed.contains(peer.bit) {
                member.send_early(peer.node, ClusterBody::Confirm { ballot, number: self.number }, out);
            }
        }
    }

    /// Repeats the question to those that did not answer.
    pub(super) fn tick(&mut self, member: &Member, ballot: Ballot, out: &mut Batch) {
        if !self.asked.is_empty() && member.now_ms() >= self.repeat_at_ms {
            self.ask(member, ballot, out);
        }
    }

    /// A follower said that it follows; late answers are inert.
    pub(super) fn handle_confirmed(&mut self, member: &Member, from: Sender, number: u64, out: &mut Batch) {
        if number == self.number {
            self.confirmed.insert(from.bit);
            self.end_if_confirmed(member, out);
        }
    }

    fn end_if_confirmed(&mut self, member: &Member, out: &mut Batch) {
        if !member.is_quorum(self.confirmed) {
            return;
        }
        let index = self.index;
        for Read { from, id } in self.asked.drain(..) {
            if from == member.node() {
                out.reads.push(ReadIndex { id, index });
            } else {
                member.send_early(from, ClusterBody::ReadReply { id, index }, out);
            }
        }
    }
}
