//! Handing leadership over (thesis section 3.10): see [`Transfer`](super::super::transfer::Transfer) for how
//! it goes.
//!
//! A successor is up to date once it has all of the leader's log: then no log is more up to date than the
//! successor's, and all may vote for it. Invariant: a leader that hands over places nothing (asserted where
//! it places).

use super::super::batch::Batch;
use super::super::types::{Ballot, NodeId};
use super::{Activity, Raft};

impl Raft {
    /// This node is asked to hand leadership over. Nothing happens if it does not lead, or hands over
    /// already.
    pub(super) fn handle_transfer(&mut self, to: NodeId, out: &mut Batch) {
        if !self.member.may_succeed(to) {
            return;
        }
        if let Activity::Leading(leader) = &mut self.activity
            && leader.leadership.begin_transfer(&self.member, to, out)
        {
            self.hand_over(out);
        }
    }

    /// The successor is told to take over if it is due and up to date.
    pub(super) fn hand_over(&mut self, out: &mut Batch) {
        let last = self.log.last().index;
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.leadership.successor().is_some_and(|to| leader.has_all(to, last)) {
            leader.leadership.tell_successor(&self.member, out);
        }
    }

    /// Goes on with a transfer, or gives it up and places what waited.
    pub(super) fn tick_transfer(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.leadership.gives_up_transfer(&self.member, out) {
            self.place_waiting(out);
        } else {
            self.hand_over(out);
        }
    }

    /// The leader wants this node to take over: it campaigns immediately, though it hears a leader. From a
    /// deposed leader this is refused like any of its messages, and so is one that comes twice.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        if self.follow(from, ballot, out) {
            self.member.forget_leader();
            self.stand(Some(from), out);
        }
    }
}
