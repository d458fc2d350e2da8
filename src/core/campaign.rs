//! Campaigning, as both protocols do it: a question to all other voters, repeated until a quorum says yes.
//!
//! A node that hears no leader first asks whether the others would follow it (pre-vote, Raft thesis section
//! 9.6). This changes nobody's state, so a node that returns from a partition does not depose a good leader.
//! If a quorum would follow, or a leader hands over, the node takes a new ballot and asks in earnest: Paxos
//! for promises (`paxos/candidate.rs`), Raft for votes (`raft/election.rs`). What it asks then, what an
//! answer is worth, and whether a node would follow another is up to the protocol.
//!
//! Invariants: a campaign counts only answers that name its ballot, and each voter once. A new ballot is
//! above every round that this node promised, used or heard of.

use super::batch::{Batch, Event};
use super::member::{Member, Sender};
use super::message::ClusterBody;
use super::quorum::Set;
use super::types::{Ballot, NodeId};

/// A question under a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Campaign {
    ballot: Ballot,
    /// The voters that said yes.
    granted: Set,
    /// When the question is repeated to those that have not.
    repeat_at_ms: u64,
}

impl Campaign {
    /// Pre-vote, under the ballot that would be taken. The node itself would follow, which promises nothing.
    pub(super) fn pre_vote(member: &mut Member, out: &mut Batch) -> Campaign {
        member.forget_leader();
        member.restart_election_timer();
        let ballot = member.next_ballot();
        out.events.push(Event::Campaigning { ballot });
        let mut granted = Set::default();
        granted.insert(member.own_bit());
        Campaign { granted, ..Campaign::new(member, ballot) }
    }

    /// The question in earnest, under a new ballot, which the caller promises now. Nobody has said yes yet:
    /// this node's own answer counts once it is durable.
    pub(super) fn in_earnest(
        member: &mut Member,
        promised: Ballot,
        handed_by: Option<NodeId>,
        out: &mut Batch,
    ) -> Campaign {
        let ballot = member.next_ballot();
        assert!(
            ballot.round > promised.round,
            "the round of a new ballot {ballot} is above all promised {promised}"
        );
        member.raise_round(ballot.round);
        out.events.push(Event::Preparing { ballot, handed_by });
        member.restart_election_timer();
        Campaign::new(member, ballot)
    }

    fn new(member: &Member, ballot: Ballot) -> Campaign {
        let repeat_at_ms = member.now_ms() + member.heartbeat_ms();
        Campaign { ballot, granted: Set::default(), repeat_at_ms }
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn has(&self, voter: Sender) -> bool {
        self.granted.contains(voter.bit)
    }

    /// A voter said yes under a ballot. Returns whether a quorum has; `false` if the ballot is not this
    /// campaign's.
    pub(super) fn grant(&mut self, member: &Member, from: Sender, ballot: Ballot) -> bool {
        if ballot != self.ballot {
            return false;
        }
        self.granted.insert(from.bit);
        self.is_granted(member)
    }

    /// Whether a quorum said yes.
    pub(super) fn is_granted(&self, member: &Member) -> bool {
        member.is_quorum(self.granted)
    }

    /// Returns whether the question is due again, once a heartbeat interval.
    pub(super) fn repeats(&mut self, member: &Member) -> bool {
        let due = member.now_ms() >= self.repeat_at_ms;
        if due {
            self.repeat_at_ms = member.now_ms() + member.heartbeat_ms();
        }
        due
    }

    /// The other voters that have not said yes, by ascending id.
    pub(super) fn unanswered<'a>(&self, member: &'a Member) -> impl Iterator<Item = NodeId> + 'a {
        let granted = self.granted;
        member.others().filter(move |peer| !granted.contains(peer.bit)).map(|peer| peer.node)
    }

    /// See [`Raft::normalize`](super::raft::Raft::normalize).
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self, repeat_at_ms: u64) {
        self.repeat_at_ms = repeat_at_ms;
    }
}

/// Answers pre-vote. `would_follow` is the protocol's condition; this function adds that no leader was heard
/// within T.
pub(super) fn answer_pre_vote(
    member: &Member,
    to: NodeId,
    ballot: Ballot,
    would_follow: bool,
    promised: Ballot,
    out: &mut Batch,
) {
    let granted = would_follow && !member.leader_lives();
    member.send_early(to, ClusterBody::PreVoteReply { ballot, granted, promised }, out);
}
