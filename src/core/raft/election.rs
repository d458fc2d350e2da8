//! Elections (thesis sections 3.4, 3.6.1, 9.6): the candidate, and those it asks.

use super::super::batch::Batch;
use super::super::campaign::{Campaign, answer_pre_vote};
use super::super::member::Sender;
use super::super::message::RaftBody;
use super::super::types::{Ballot, NodeId, Position};
use super::{Activity, Raft};

/// A node that campaigns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Candidate {
    /// Asks which nodes would vote for it.
    PreVote(Campaign),
    /// Collects votes, its own only once it is durable.
    Vote(Campaign),
}

impl Candidate {
    pub(super) fn campaign_mut(&mut self) -> &mut Campaign {
        let (Candidate::PreVote(campaign) | Candidate::Vote(campaign)) = self;
        campaign
    }
}

impl Raft {
    /// No leader was heard for long enough, or the last campaign failed. A node that makes way leaves the
    /// election to others.
    pub(super) fn campaign(&mut self, out: &mut Batch) {
        if self.member.waives_election() {
            return self.step_down("others are better off", out);
        }
        let campaign = Campaign::pre_vote(&mut self.member, out);
        let granted = campaign.is_granted(&self.member);
        self.activity = Activity::Campaigning(Candidate::PreVote(campaign));
        if granted {
            self.stand(None, out);
        } else {
            self.ask(out);
        }
    }

    /// Repeats the question, once a heartbeat interval, to those that have not answered.
    pub(super) fn repeat_question(&mut self, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        if candidate.campaign_mut().repeats(&self.member) {
            self.ask(out);
        }
    }

    fn ask(&self, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &self.activity else { return };
        let last = self.log.last();
        match candidate {
            Candidate::PreVote(campaign) => {
                let ballot = campaign.ballot();
                for peer in campaign.unanswered(&self.member) {
                    self.member.send_early(peer, RaftBody::RequestPreVote { ballot, last }, out);
                }
            }
            Candidate::Vote(campaign) => {
                let ballot = campaign.ballot();
                for peer in campaign.unanswered(&self.member) {
                    self.member.send(peer, RaftBody::RequestVote { ballot, last }, out);
                }
            }
        }
    }

    /// Answers pre-vote: this node would vote for anyone whose log is up to date, unless a leader was heard
    /// within T.
    pub(super) fn handle_request_pre_vote(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        last: Position,
        out: &mut Batch,
    ) {
        if self.member.believes(from, ballot) {
            let up_to_date = last >= self.log.last();
            answer_pre_vote(&self.member, from, ballot, up_to_date, self.promised, out);
        }
    }

    /// What others promised is only noted: the candidate's round will be above it.
    pub(super) fn handle_pre_vote_reply(
        &mut self,
        from: Sender,
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
        out: &mut Batch,
    ) {
        if !self.member.note_round(promised.round) {
            return;
        }
        let Activity::Campaigning(Candidate::PreVote(campaign)) = &mut self.activity else { return };
        if granted && campaign.grant(&self.member, from, ballot) {
            self.stand(None, out);
        }
    }

    /// Stands for election in a new round, without pre-vote if a leader hands over. Its vote for itself comes
    /// back from behind the write; the request waits for that as well, so that no other incarnation can use
    /// the round.
    pub(super) fn stand(&mut self, handed_by: Option<NodeId>, out: &mut Batch) {
        let campaign = Campaign::in_earnest(&mut self.member, self.promised, handed_by, out);
        let ballot = campaign.ballot();
        self.promised = ballot;
        out.hard_state = Some(self.hard_state());
        self.activity = Activity::Campaigning(Candidate::Vote(campaign));
        self.ask(out);
        self.member.send_to_itself(RaftBody::Vote { ballot }, out);
    }

    /// Grants one vote a round, to a log that is at least as up to date as this node's: then the winner has
    /// all that is chosen. A vote that was lost is granted again.
    pub(super) fn handle_request_vote(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        last: Position,
        out: &mut Batch,
    ) {
        if !self.member.believes(from, ballot) {
            return;
        }
        if ballot.round < self.promised.round {
            return self.member.refuse(from, ballot, self.promised, out);
        }
        if ballot.round > self.promised.round {
            self.adopt_round(ballot.round, out);
        }
        let is_free = self.promised.node == 0 || self.promised.node == from;
        if !is_free || last < self.log.last() {
            return;
        }
        if self.promised != ballot {
            // A node that votes for another does not go on asking for itself.
            self.step_down("another candidate has its vote", out);
            self.promised = ballot;
            out.hard_state = Some(self.hard_state());
            self.member.restart_election_timer();
        }
        self.member.send(from, RaftBody::Vote { ballot }, out);
    }

    /// A vote arrives. It is for this campaign, or late.
    pub(super) fn handle_vote(&mut self, from: Sender, ballot: Ballot, out: &mut Batch) {
        let Activity::Campaigning(Candidate::Vote(campaign)) = &mut self.activity else { return };
        if campaign.grant(&self.member, from, ballot) {
            self.lead(ballot, out);
        }
    }

    /// Somebody is in a higher round: this node enters it as well.
    pub(super) fn handle_refuse(&mut self, promised: Ballot, out: &mut Batch) {
        if promised.round > self.promised.round && self.member.note_round(promised.round) {
            self.adopt_round(promised.round, out);
        }
    }
}
