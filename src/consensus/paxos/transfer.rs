//! Handing leadership over: see [`Transfer`] for how it goes.
//!
//! A successor is up to date once nothing is open and it said that it knows all of the log to be chosen.
//! Invariants: a leader that hands over places nothing (asserted where it proposes); when it says TimeoutNow
//! it has no open index, so the successor has nothing to adopt from it.

use super::super::batch::{Batch, Event};
use super::super::transfer::Transfer;
use super::super::types::{Ballot, NodeId};
use super::{Activity, Paxos};

impl Paxos {
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
        match self.is_up_to_date(to) {
            true => self.hand_over(out),
            false => self.tell_successor(out),
        }
    }

    /// Whether nothing is open, and the node knows all of it to be chosen.
    fn is_up_to_date(&self, node: NodeId) -> bool {
        let peer = self.member.config.voters.place(node).map(|place| &self.member.peers[place]);
        self.log.open() == 0 && peer.is_some_and(|peer| peer.chosen >= self.log.chosen())
    }

    /// The successor is told to take over if it is due and up to date.
    pub(super) fn hand_over(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let up_to_date = leader.transfer.as_ref().is_some_and(|transfer| self.is_up_to_date(transfer.to));
        let Activity::Leading(leader) = &mut self.activity else { return };
        let ballot = leader.ballot();
        if let Some(transfer) = leader.transfer.as_mut().filter(|_| up_to_date) {
            transfer.tell(&self.member, ballot, out);
        }
    }

    /// The successor hears the watermark at once; its answer says whether it is up to date.
    pub(super) fn tell_successor(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let Some(transfer) = &leader.transfer else { return };
        self.member.send_heartbeat(transfer.to, leader.ballot(), self.log.chosen(), out);
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
            self.prepare(Some(from), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::config::{Config, Restored};
    use crate::consensus::message::{ClusterBody, Message};
    use crate::consensus::protocol::{Input, Protocol, Role};
    use crate::consensus::quorum::Voters;

    fn follower() -> Paxos {
        let voters = Voters::new(vec![1, 2, 3]);
        let (election_ms, heartbeat_ms, window_entries) = (100, 10, 16);
        let window_bytes = 1 << 20;
        let config =
            Config { node: 1, voters, election_ms, heartbeat_ms, window_entries, window_bytes, seed: 1 };
        Paxos::new(config, Restored::default())
    }

    /// What no honest node says is counted, and changes nothing else.
    #[test]
    fn nonsense_is_inert_and_counted() {
        let ballot = Ballot { round: 1, node: 2 };
        let say = |from, round, node| {
            let body = ClusterBody::TimeoutNow { ballot: Ballot { round, node } };
            Input::Message(Message { from, to: 1, body: body.into() })
        };
        let mut core = follower();
        let heartbeat = ClusterBody::Heartbeat { ballot, chosen: 0, sent_ms: 0 };
        let heard = Input::Message(Message { from: 2, to: 1, body: heartbeat.into() });
        core.step(heard, &mut Batch::default());
        let nonsense = [
            ("another's ballot", say(3, 1, 2)),
            ("its own ballot", say(1, 1, 1)),
            ("round 0", say(2, 0, 2)),
            ("a round out of reach", say(2, u64::MAX, 2)),
            ("no voter", say(9, 1, 9)),
            ("a successor that is the node itself", Input::Transfer { to: 1 }),
            ("a successor that is no voter", Input::Transfer { to: 9 }),
        ];
        for (count, (what, input)) in (1..).zip(nonsense) {
            let mut batch = Batch::default();
            core.step(input, &mut batch);
            assert!(batch.is_empty(), "{what}: {batch}");
            assert_eq!((core.status().ignored, core.member.leader), (count, Some(2)), "{what}");
        }
        let mut batch = Batch::default();
        core.step(say(2, 1, 2), &mut batch);
        assert_eq!(core.status().role, Role::Candidate, "{batch}");
    }
}
