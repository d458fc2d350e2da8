//! Handing leadership over (thesis section 3.10): see [`Transfer`] for how it goes.
//!
//! A successor is up to date once it has all of the leader's log: then nobody's log is more up to date than
//! its, and all may vote for it. Invariant: a leader that hands over places nothing (asserted where it
//! places).

use super::super::batch::{Batch, Event};
use super::super::transfer::Transfer;
use super::super::types::{Ballot, NodeId};
use super::{Activity, Raft};

impl Raft {
    /// This node is asked to hand leadership over. It goes by itself if it does not lead, or hands over
    /// already.
    pub(super) fn handle_transfer(&mut self, to: NodeId, out: &mut Batch) {
        if !self.member.may_succeed(to) {
            return;
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.transfer.is_some() {
            return;
        }
        leader.transfer = Some(Transfer::begin(&self.member, to, leader.ballot(), out));
        self.hand_over(out);
    }

    /// The successor is told to take over if it is due and up to date.
    pub(super) fn hand_over(&mut self, out: &mut Batch) {
        let last = self.log.last().index;
        let Activity::Leading(leader) = &mut self.activity else { return };
        let Some(to) = leader.transfer.as_ref().map(|transfer| transfer.to) else { return };
        let place = self.member.config.voters.place(to);
        let up_to_date = place.is_some_and(|place| leader.has_all(place, last));
        let ballot = leader.ballot();
        if let Some(transfer) = leader.transfer.as_mut().filter(|_| up_to_date) {
            transfer.tell(&self.member, ballot, out);
        }
    }

    /// Goes on with a transfer, or gives it up and places what waited.
    pub(super) fn tick_transfer(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        let Some(transfer) = &leader.transfer else { return };
        if self.member.now_ms < transfer.until_ms {
            return self.hand_over(out);
        }
        out.events.push(Event::KeptLeading { to: transfer.to, ballot: leader.ballot() });
        leader.transfer = None;
        self.place_waiting(out);
    }

    /// The leader wants this node to take over: it campaigns at once, though it hears a leader. Of a deposed
    /// leader it is refused like any of its messages, and so is one that comes twice.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        if self.follow(from, ballot, out) {
            self.member.leader = None;
            self.stand(Some(from), out);
        }
    }
}
