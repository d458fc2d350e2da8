//! Leadership transfer (Raft thesis section 3.10): a leader hands over to a successor of its choice, so that nobody
//! has to wait for an election timeout.
//!
//! 1. The leader places nothing new: proposals wait in [`Proposals`](super::super::proposals::Proposals), up to its
//!    limits.
//! 2. Once nothing is open, and the successor said that it knows all of it to be chosen, the leader says
//!    [`Body::TimeoutNow`], again each heartbeat interval. Until then it leads as ever, so a successor that lags
//!    learns what it lacks.
//! 3. The successor prepares a ballot at once, without pre-vote, which the others would refuse: they hear a leader.
//! 4. Its Prepare deposes the leader, which forwards its own clients' proposals to the new one as soon as it hears
//!    it; so do those that forwarded to the old one. None is lost.
//!
//! If that does not come about within T, the leader gives it up and places what waited. A TimeoutNow that is still
//! under way then costs an election more; nothing else, as it promises nothing.
//!
//! Invariants: a leader that hands over places nothing (asserted where it proposes); when it says TimeoutNow it has
//! no open index, so the successor has nothing to adopt from it.

use super::super::batch::{Batch, Event};
use super::super::message::Body;
use super::super::types::{Ballot, NodeId};
use super::leader::Leader;
use super::{Activity, Paxos};

/// A transfer under way: at most one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    /// When it is given up.
    until_ms: u64,
    /// When the successor is told to take over, should it be up to date: at once, then each heartbeat interval.
    tell_at_ms: u64,
}

impl Paxos {
    /// This node is asked to hand leadership over. It goes by itself if it does not lead, or hands over already; a
    /// successor that is no other voter is nonsense.
    pub(super) fn handle_transfer(&mut self, to: NodeId, out: &mut Batch) {
        if to == self.config.node || self.config.voters.place(to).is_none() {
            self.ignored += 1;
            return;
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.transfer.is_some() {
            return;
        }
        let until_ms = self.now_ms + self.config.election_ms;
        leader.transfer = Some(Transfer { to, until_ms, tell_at_ms: self.now_ms });
        out.events.push(Event::HandingOver { to, ballot: leader.ballot() });
        match self.is_up_to_date(to) {
            true => self.hand_over(out),
            false => self.tell_successor(out),
        }
    }

    /// Whether nothing is open, and the node knows all of it to be chosen.
    fn is_up_to_date(&self, node: NodeId) -> bool {
        let peer = self.config.voters.place(node).map(|place| &self.peers[place]);
        self.log.open() == 0 && peer.is_some_and(|peer| peer.chosen >= self.log.chosen())
    }

    /// The successor is told to take over if it is due and up to date.
    pub(super) fn hand_over(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let Some(transfer) = &leader.transfer else { return };
        if self.now_ms < transfer.tell_at_ms || !self.is_up_to_date(transfer.to) {
            return;
        }
        out.send_early(self.config.node, transfer.to, Body::TimeoutNow { ballot: leader.ballot() });
        let tell_at_ms = self.now_ms + self.config.heartbeat_ms;
        if let Activity::Leading(Leader { transfer: Some(transfer), .. }) = &mut self.activity {
            transfer.tell_at_ms = tell_at_ms;
        }
    }

    /// The successor hears the watermark at once; its answer says whether it is up to date.
    pub(super) fn tell_successor(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let Some(transfer) = &leader.transfer else { return };
        let (ballot, chosen, sent_ms) = (leader.ballot(), self.log.chosen(), self.now_ms);
        out.send_early(self.config.node, transfer.to, Body::Heartbeat { ballot, chosen, sent_ms });
    }

    /// Goes on with a transfer, or gives it up and places what waited.
    pub(super) fn tick_transfer(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        let Some(transfer) = &leader.transfer else { return };
        if self.now_ms < transfer.until_ms {
            return self.hand_over(out);
        }
        out.events.push(Event::KeptLeading { to: transfer.to, ballot: leader.ballot() });
        leader.transfer = None;
        self.place_waiting(out);
    }

    /// The leader wants this node to take over: it campaigns at once, though it hears a leader. Of a deposed leader
    /// it is refused like any of its messages, and so is one that comes twice.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        if self.follow(from, ballot, out) {
            self.leader = None;
            self.prepare(Some(from), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Restored};
    use super::*;
    use crate::consensus::message::Message;
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
            let body = Body::TimeoutNow { ballot: Ballot { round, node } };
            Input::Message(Message { from, to: 1, body })
        };
        let mut core = follower();
        let heartbeat = Body::Heartbeat { ballot, chosen: 0, sent_ms: 0 };
        let heard = Input::Message(Message { from: 2, to: 1, body: heartbeat });
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
            assert_eq!((core.status().ignored, core.leader), (count, Some(2)), "{what}");
        }
        let mut batch = Batch::default();
        core.step(say(2, 1, 2), &mut batch);
        assert_eq!(core.status().role, Role::Candidate, "{batch}");
    }
}
