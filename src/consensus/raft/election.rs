//! Elections (thesis sections 3.4, 3.6.1, 9.6): the candidate, and those it asks.

use super::super::batch::{Batch, Event};
use super::super::message::{ClusterBody, RaftBody};
use super::super::quorum::Set;
use super::super::types::{Ballot, NodeId, Position};
use super::{Activity, Raft};

/// A campaign: first pre-vote, then the vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    ballot: Ballot,
    /// When the question is put again to those who have not answered.
    repeat_at_ms: u64,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Collects those who would vote for it, itself included (that promises nothing).
    PreVote { granted: Set },
    /// Collects votes, its own only once it is durable.
    Vote { granted: Set },
}

impl Candidate {
    /// See [`Raft::normalize`].
    pub(super) fn normalize(&mut self, repeat_at_ms: u64) {
        self.repeat_at_ms = repeat_at_ms;
    }
}

impl Raft {
    /// No leader was heard for long enough, or the last campaign came to nothing.
    pub(super) fn campaign(&mut self, out: &mut Batch) {
        self.member.leader = None;
        self.member.restart_election_timer();
        let ballot = Ballot { round: self.member.highest_round + 1, node: self.member.config.node };
        let mut granted = Set::default();
        granted.insert(self.member.own_place());
        out.events.push(Event::Campaigning { ballot });
        let repeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
        let phase = Phase::PreVote { granted };
        self.activity = Activity::Campaigning(Candidate { ballot, repeat_at_ms, phase });
        match self.member.config.voters.is_quorum(granted) {
            true => self.stand(None, out),
            false => self.ask(out),
        }
    }

    /// Asks again, once a heartbeat interval, those who have not answered.
    pub(super) fn repeat_question(&mut self, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        if self.member.now_ms < candidate.repeat_at_ms {
            return;
        }
        candidate.repeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
        self.ask(out);
    }

    fn ask(&mut self, out: &mut Batch) {
        let Activity::Campaigning(Candidate { ballot, phase, .. }) = &self.activity else { return };
        let (node, ballot, last) = (self.member.config.node, *ballot, self.log.last());
        for (place, peer) in self.member.config.voters.ids().iter().copied().enumerate() {
            match phase {
                _ if peer == node => {}
                Phase::PreVote { granted } if !granted.contains(place) => {
                    out.send_early(node, peer, RaftBody::RequestPreVote { ballot, last });
                }
                Phase::Vote { granted } if !granted.contains(place) => {
                    out.send(node, peer, RaftBody::RequestVote { ballot, last });
                }
                _ => {}
            }
        }
    }

    /// Would vote for anyone whose log is up to date, unless a leader was heard within T.
    pub(super) fn handle_request_pre_vote(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        last: Position,
        out: &mut Batch,
    ) {
        if from == self.member.config.node || !self.member.plausible(from, ballot) {
            self.member.ignored += 1;
            return;
        }
        let granted = !self.member.leader_lives() && last >= self.log.last();
        let reply = ClusterBody::PreVoteReply { ballot, granted, promised: self.promised };
        out.send_early(self.member.config.node, from, reply);
    }

    /// What others promised is only noted: the candidate's round will be above it.
    pub(super) fn handle_pre_vote_reply(
        &mut self,
        place: usize,
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
        out: &mut Batch,
    ) {
        if !self.member.note_round(promised.round) {
            return;
        }
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        let Phase::PreVote { granted: set } = &mut candidate.phase else { return };
        if candidate.ballot != ballot || !granted {
            return;
        }
        set.insert(place);
        if self.member.config.voters.is_quorum(*set) {
            self.stand(None, out);
        }
    }

    /// Stands for election in a new round, without pre-vote if a leader hands over. Its vote for itself comes
    /// back from behind the write; the request waits for that, too, so that no other incarnation can use the
    /// round.
    pub(super) fn stand(&mut self, handed_by: Option<NodeId>, out: &mut Batch) {
        let node = self.member.config.node;
        let ballot = Ballot { round: self.member.highest_round + 1, node };
        assert!(
            ballot.round > self.promised.round,
            "a new round {ballot} is above all before {}",
            self.promised
        );
        self.member.highest_round = ballot.round;
        self.promised = ballot;
        out.hard_state = Some(self.hard_state());
        out.events.push(Event::Preparing { ballot, handed_by });
        self.member.restart_election_timer();
        let repeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
        let phase = Phase::Vote { granted: Set::default() };
        self.activity = Activity::Campaigning(Candidate { ballot, repeat_at_ms, phase });
        self.ask(out);
        out.send(node, node, RaftBody::Vote { ballot });
    }

    /// One vote a round, for a log that is at least as up to date as this one's: then whoever wins has all
    /// that is chosen. A vote that was lost is given again.
    pub(super) fn handle_request_vote(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        last: Position,
        out: &mut Batch,
    ) {
        if from == self.member.config.node || !self.member.plausible(from, ballot) {
            self.member.ignored += 1;
            return;
        }
        if ballot.round < self.promised.round {
            return self.refuse(from, ballot, out);
        }
        if ballot.round > self.promised.round {
            self.adopt_round(ballot.round, out);
        }
        let is_free = self.promised.node == 0 || self.promised.node == from;
        if !is_free || last < self.log.last() {
            return;
        }
        if self.promised != ballot {
            // Whoever votes for another does not go on asking for itself.
            self.step_down("another candidate has its vote", out);
            self.promised = ballot;
            out.hard_state = Some(self.hard_state());
            self.member.restart_election_timer();
        }
        out.send(self.member.config.node, from, RaftBody::Vote { ballot });
    }

    /// A vote: of this campaign, or late.
    pub(super) fn handle_vote(&mut self, place: usize, ballot: Ballot, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        let Phase::Vote { granted } = &mut candidate.phase else { return };
        if candidate.ballot != ballot {
            return;
        }
        granted.insert(place);
        if self.member.config.voters.is_quorum(*granted) {
            self.lead(ballot, out);
        }
    }

    /// Somebody is in a higher round: so is this node.
    pub(super) fn handle_refuse(&mut self, promised: Ballot, out: &mut Batch) {
        if promised.round > self.promised.round && self.member.note_round(promised.round) {
            self.adopt_round(promised.round, out);
        }
    }

    pub(super) fn refuse(&mut self, to: NodeId, ballot: Ballot, out: &mut Batch) {
        out.send_early(self.member.config.node, to, ClusterBody::Refuse { ballot, promised: self.promised });
    }
}
