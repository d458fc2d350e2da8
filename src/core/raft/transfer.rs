//! Handing leadership over (thesis section 3.10): see [`Transfer`](super::super::transfer::Transfer) for how
//! it goes.
//!
//! A successor is up to date once it has all of the leader's log: then no log is more up to date than the
//! successor's, and all may vote for it. Invariant: a leader that hands over places nothing (asserted where
//! it places).

use super::super::batch::Batch;
use super::super::making_way::Way;
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

    /// The successor is told to take over if it is due and up to date. A leader that makes way looks for one.
    pub(super) fn hand_over(&mut self, out: &mut Batch) {
        let last = self.log.last().index;
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.leadership.seeks_successor() {
            let found = self.member.fitter_followers().into_iter().find(|to| leader.has_all(*to, last));
            if let Some(to) = found {
                leader.leadership.begin_transfer(&self.member, to, out);
            }
        }
        if leader.leadership.successor().is_some_and(|to| leader.has_all(to, last)) {
            leader.leadership.tell_successor(&self.member, out);
        }
    }

    /// This node is in trouble and others are not, or it is not any more.
    pub(super) fn handle_make_way(&mut self, to: &[NodeId], out: &mut Batch) {
        self.member.make_way_to(to);
        self.tick_transfer(out);
    }

    /// Goes on with making way.
    fn make_way(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        match leader.leadership.make_way(&self.member) {
            Way::Leads | Way::Seeks => {}
            Way::LeadsAgain => self.place_waiting(out),
            Way::StepsDown => {
                let others = self.member.fitter_followers().into_iter();
                if let Some(to) = others.rev().max_by_key(|to| leader.matched(*to)) {
                    leader.leadership.say_last_word(&self.member, to, out);
                }
                self.step_down("it is in trouble, and nobody took over", out);
            }
        }
    }

    /// Goes on with a transfer, or gives it up and places what waited.
    pub(super) fn tick_transfer(&mut self, out: &mut Batch) {
        self.make_way(out);
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.leadership.gives_up_transfer(&self.member, out) {
            self.place_waiting(out);
        } else {
            self.hand_over(out);
        }
    }

    /// The leader wants this node to take over: it campaigns immediately, though it hears a leader, unless it
    /// makes way itself. From a deposed leader this is refused like any of its messages, and so is one that
    /// comes twice.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        if self.follow(from, ballot, out) && !self.member.fitter().any() {
            self.member.forget_leader();
            self.stand(Some(from), out);
        }
    }
}
