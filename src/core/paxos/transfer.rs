//! Handing leadership over: see [`Transfer`](super::super::transfer::Transfer) for how it goes.
//!
//! A successor is up to date once nothing is open and it said that it knows all of the log to be chosen.
//! Invariants: a leader that hands over places nothing (asserted where it proposes); when it says TimeoutNow
//! it has no open index, so the successor has nothing to adopt from it.

use super::super::batch::Batch;
use super::super::making_way::Way;
use super::super::types::{Ballot, NodeId};
use super::leader::Leader;
use super::{Activity, Paxos};

impl Paxos {
    /// This node is asked to hand leadership over. Nothing happens if it does not lead, or hands over
    /// already.
    pub(super) fn handle_transfer(&mut self, to: NodeId, out: &mut Batch) {
        if !self.member.may_succeed(to) {
            return;
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        if !leader.leadership.begin_transfer(&self.member, to, out) {
            return;
        }
        if self.is_up_to_date(to) {
            self.hand_over(out);
        } else {
            self.tell_successor_the_watermark(out);
        }
    }

    /// Whether nothing is open, and the node knows all of it to be chosen.
    fn is_up_to_date(&self, node: NodeId) -> bool {
        self.log.open() == 0 && self.member.watermark(node) >= self.log.chosen()
    }

    /// The successor is told to take over if it is due and up to date. A leader that makes way looks for one.
    pub(super) fn hand_over(&mut self, out: &mut Batch) {
        self.appoint_successor(out);
        let Activity::Leading(leader) = &self.activity else { return };
        let up_to_date = leader.leadership.successor().is_some_and(|to| self.is_up_to_date(to));
        if let Activity::Leading(leader) = &mut self.activity
            && up_to_date
        {
            leader.leadership.tell_successor(&self.member, out);
        }
    }

    fn appoint_successor(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { leadership, .. }) = &self.activity else { return };
        if !leadership.seeks_successor() {
            return;
        }
        let found = self.member.fitter_followers().into_iter().find(|to| self.is_up_to_date(*to));
        if let (Some(to), Activity::Leading(leader)) = (found, &mut self.activity) {
            leader.leadership.begin_transfer(&self.member, to, out);
        }
    }

    /// The successor hears the watermark immediately; its answer says whether it is up to date.
    pub(super) fn tell_successor_the_watermark(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { leadership, .. }) = &self.activity else { return };
        if let Some(to) = leadership.successor() {
            leadership.send_heartbeat(&self.member, to, self.log.chosen(), out);
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
                if let Some(to) = others.rev().max_by_key(|to| self.member.watermark(*to)) {
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
            self.prepare(Some(from), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Restored};
    use crate::message::{ClusterBody, Message};
    use crate::protocol::{Input, Protocol, Role};
    use crate::quorum::Voters;

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
            let body = ClusterBody::TimeoutNow { ballot: Ballot { round, node } }.into();
            Input::Message(Message { from, to: 1, body })
        };
        let mut core = follower();
        let heartbeat = ClusterBody::Heartbeat { ballot, chosen: 0, sent_ms: 0 };
        let heard = Input::Message(Message { from: 2, to: 1, body: heartbeat.into() });
        core.step(heard, &mut Batch::default());
        let nonsense = [
            ("another node's ballot", say(3, 1, 2)),
            ("its own ballot", say(1, 1, 1)),
            ("round 0", say(2, 0, 2)),
            ("a round out of reach", say(2, u64::MAX, 2)),
            ("not a voter", say(9, 1, 9)),
            ("a successor that is the node itself", Input::Transfer { to: 1 }),
            ("a successor that is not a voter", Input::Transfer { to: 9 }),
        ];
        for (count, (what, input)) in (1..).zip(nonsense) {
            let mut batch = Batch::default();
            core.step(input, &mut batch);
            assert!(batch.is_empty(), "{what}: {batch}");
            assert_eq!((core.status().ignored, core.status().leader), (count, Some(2)), "{what}");
        }
        let mut batch = Batch::default();
        core.step(say(2, 1, 2), &mut batch);
        assert_eq!(core.status().role, Role::Candidate, "{batch}");
    }
}
