//! Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014, "the thesis"), as a pure core.
//!
//! Time is cut into rounds (terms). A node that hears no leader for T asks the others whether they would vote
//! for it (pre-vote), begins a new round, votes for itself and asks for votes (`election.rs`). The node that
//! has the votes of a majority leads (`leader.rs`): it appends to its log and sends followers what they lack
//! (`progress.rs`); what a majority has is chosen. Followers (`follower.rs`) make their logs equal to the
//! leader's. A leader can hand over to a node of its choice (`transfer.rs`).
//!
//! # The rules, and where the thesis has them
//!
//! | rule | section | here |
//! | --- | --- | --- |
//! | a higher round in a request or answer makes anyone a follower in it | 3.3 | `adopt_round` |
//! | one vote a round, durable before it is given, to oneself as well | 3.4, 3.8 | `handle_request_vote`, `stand` |
//! | waits are drawn from [T, 2T) | 3.4 | `Member` |
//! | a vote goes only to a log that is at least as up to date | 3.6.1 | `handle_request_vote` |
//! | pre-vote; none while a leader is heard | 9.6, 4.2.3 | `handle_request_pre_vote` |
//! | a leader that hears no majority for T steps down (check-quorum) | 6.2 | `tick_leader` |
//! | an append is taken only if the logs agree before it | 3.5 | `handle_append` |
//! | only what conflicts is removed, never what was just matched | 3.5 | `handle_append` |
//! | a refused append says where to go on, skipping whole rounds | 3.5 | `handle_mismatch` |
//! | a leader never removes entries of its own log | 3.5, 3.6.3 | asserted in `truncate_from` |
//! | appends are pipelined; a follower's disk works beside the leader's | 10.2.1, 10.2.2 | `send_append` |
//! | what a majority has is chosen only if it is of the leader's own round | 3.6.2 | `choose_matched` |
//! | a new leader appends a no-op, which chooses all before it | 6.4 | `lead` |
//! | followers go as far as the leader's watermark and their own match | 3.5 | `choose_followed` |
//! | what the leader no longer has at hand comes in bulk | 5 | `Progress` |
//! | leadership transfer | 3.10 | `transfer.rs` |
//!
//! # Paxos and Raft side by side
//!
//! | here | Raft (thesis) | Multi-Paxos |
//! | --- | --- | --- |
//! | round, ballot | term; term and leader | ballot |
//! | `promised` in the hard state | currentTerm, votedFor | highest promised ballot |
//! | entry | log entry | accepted value of an instance |
//! | chosen, watermark | committed, commitIndex | chosen |
//! | [`RequestVote`], [`Vote`] | RequestVote RPC | Prepare, Promise (phase 1) |
//! | [`Append`], [`Appended`] | AppendEntries RPC | Accept, Accepted (phase 2) |
//! | [`Learn`] | (a part of InstallSnapshot's work) | what a learner asks for |
//!
//! [`RequestVote`]: RaftBody::RequestVote
//! [`Vote`]: RaftBody::Vote
//! [`Append`]: RaftBody::Append
//! [`Appended`]: RaftBody::Appended
//! [`Learn`]: ClusterBody::Learn
//!
//! Three differences are real; all else is naming ("Paxos vs Raft: Have we reached consensus on distributed
//! consensus?", Howard and Mortier, 2020):
//!
//! 1. **Who can win.** A Paxos candidate may know nothing: promises bring it what a majority had accepted,
//!    before it leads. A Raft candidate must already have it: votes compare logs, and bring nothing. So Raft
//!    elects in one small exchange, but where links are cut, the one node which reaches a majority may lack
//!    the entries, and then nobody can lead; in Paxos it can. Since any candidate may win a round, nodes vote
//!    once in it; a Paxos ballot belongs to its node from the start.
//! 2. **What becomes of earlier leaders' entries.** A Paxos leader proposes them again under its own ballot,
//!    so counting acceptances is enough. In Raft they keep their round, so counting copies is not (figure 8
//!    of the Raft paper): they are chosen along with the first entry of the leader's own round.
//! 3. **Order.** A Paxos index stands alone: acceptances may have holes, and only a decision joins them.
//!    Raft's log has no holes: an append is taken only where the log before it matches, and what conflicts is
//!    removed.
//!
//! # Invariants
//!
//! * `compacted <= chosen <= last`, no holes; what is at or below `chosen` never changes (State Machine
//!   Safety).
//! * Rounds in a log never fall from one index to the next, and none is above `promised.round`.
//! * If two logs have an entry of the same index and round, they are equal up to it (Log Matching).
//! * A round has at most one leader (Election Safety); its ballot names it.
//! * A leader has every entry that was ever chosen (Leader Completeness), and never removes one.
//! * `promised` never regresses, and is durable before a vote or an answer under it leaves.
//! * A leader's `matched <= last` for every follower, and `matched < next`.
//! * No core counts its own vote or copy before it comes back as a message from behind the write.
//!
//! Left out: time (ticks), bytes (`wire`, `store`), delivery (`pipeline`), membership changes, snapshots.

mod election;
mod follower;
mod leader;
mod log;
pub(super) mod message;
mod progress;
mod transfer;

use self::election::Candidate;
use self::follower::Followed;
use self::leader::{Leader, send_page};
use self::log::RaftLog;
use super::batch::{Batch, ReadIndex};
use super::config::{Config, Restored};
use super::member::{Member, Sender};
use super::message::{Body, ClusterBody, Message, RaftBody};
use super::protocol::{Input, Protocol, Role, Status};
use super::types::{Ballot, HardState, Round};

/// A Raft core. See the module's documentation for its rules and invariants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    member: Member,
    /// The current round, and whom this node voted for in it (0: nobody yet); durable with the next write at
    /// the latest.
    promised: Ballot,
    log: RaftLog,
    activity: Activity,
    followed: Followed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Activity {
    Following,
    Campaigning(Candidate),
    Leading(Leader),
}

impl Raft {
    /// A core that continues where an earlier incarnation ended, as a follower. A cluster of one campaigns
    /// at the first tick.
    pub fn new(config: Config, restored: Restored) -> Raft {
        let promised = restored.hard_state.promised;
        let entries = restored.entries.iter().map(|entry| entry.ballot.round);
        let stored = entries.max().unwrap_or(0).max(restored.chosen_ballot.round);
        assert!(stored <= promised.round, "an entry of round {stored} is above the promised {promised}");
        let highest_round = restored.highest_round.max(promised.round);
        Raft {
            member: Member::new(config, highest_round),
            promised,
            log: RaftLog::new(restored),
            activity: Activity::Following,
            followed: Followed::default(),
        }
    }

    /// As [`Paxos::normalize`](super::paxos::Paxos::normalize); in addition, the clock goes back to zero, and
    /// what is under way to followers shows only in the next index, not in the limits.
    #[cfg(feature = "internals")]
    pub fn normalize(&mut self) {
        self.member.restart_clock();
        self.member.normalize();
        let repeat_at_ms = self.member.heartbeat_ms();
        match &mut self.activity {
            Activity::Following => {}
            Activity::Campaigning(candidate) => candidate.campaign_mut().normalize(repeat_at_ms),
            Activity::Leading(leader) => leader.normalize(repeat_at_ms, self.member.node()),
        }
        if self.followed.ballot.round < self.promised.round {
            self.followed = Followed::default();
        }
        self.followed.normalize(self.log.chosen());
    }

    /// Drops the chosen entries that are kept for followers, so that a search sees what becomes of those that
    /// lack more.
    #[cfg(feature = "internals")]
    pub fn forget_chosen(&mut self) {
        self.log.forget_chosen();
    }

    fn handle_tick(&mut self, now_ms: u64, out: &mut Batch) {
        self.member.advance(now_ms);
        match self.activity {
            Activity::Leading(_) => self.tick_leader(out),
            _ if self.member.election_is_due() => self.campaign(out),
            Activity::Campaigning(_) => self.repeat_question(out),
            Activity::Following => {}
        }
        self.member.tick_forwarding(self.log.chosen(), out);
    }

    fn handle_message(&mut self, message: Message, out: &mut Batch) {
        let Message { from, to, body } = message;
        let Some(sender) = self.member.hear(from, to) else { return };
        match body {
            Body::Cluster(body) => self.handle_cluster(sender, body, out),
            Body::Raft(body) => self.handle_raft(sender, body, out),
            Body::Paxos(_) => self.member.ignore(),
        }
    }

    fn handle_cluster(&mut self, sender: Sender, body: ClusterBody, out: &mut Batch) {
        let from = sender.node;
        match body {
            ClusterBody::PreVoteReply { ballot, granted, promised } => {
                self.handle_pre_vote_reply(sender, ballot, granted, promised, out);
            }
            ClusterBody::Heartbeat { ballot, chosen, sent_ms } => {
                self.handle_heartbeat(from, ballot, chosen, sent_ms, out);
            }
            ClusterBody::HeartbeatReply { ballot, chosen, sent_ms } => {
                self.handle_heartbeat_reply(sender, ballot, chosen, sent_ms, out);
            }
            ClusterBody::Refuse { promised, .. } => self.handle_refuse(promised, out),
            ClusterBody::Learn { entries, .. } => self.handle_learn(from, entries, out),
            ClusterBody::CatchUp { first } => send_page(&self.member, &self.log, from, first, out),
            ClusterBody::Forward { commands } => self.handle_forward(from, commands, out),
            ClusterBody::TimeoutNow { ballot } => self.handle_timeout_now(from, ballot, out),
            ClusterBody::Confirm { ballot, number } => self.handle_confirm(from, ballot, number, out),
            ClusterBody::Confirmed { ballot, number } => self.handle_confirmed(sender, ballot, number, out),
            ClusterBody::Read { id } => self.handle_read(from, id, out),
            ClusterBody::ReadReply { id, index } => out.reads.push(ReadIndex { id, index }),
        }
    }

    fn handle_raft(&mut self, sender: Sender, body: RaftBody, out: &mut Batch) {
        let from = sender.node;
        match body {
            RaftBody::RequestPreVote { ballot, last } => {
                self.handle_request_pre_vote(from, ballot, last, out)
            }
            RaftBody::RequestVote { ballot, last } => self.handle_request_vote(from, ballot, last, out),
            RaftBody::Vote { ballot } => self.handle_vote(sender, ballot, out),
            RaftBody::Append { ballot, chosen, previous, entries } => {
                self.handle_append(from, ballot, chosen, previous, entries, out);
            }
            RaftBody::Appended { ballot, chosen, matched } => {
                self.handle_appended(sender, ballot, chosen, matched, out)
            }
            RaftBody::Mismatch { ballot, chosen, previous, hint } => {
                self.handle_mismatch(sender, ballot, chosen, previous, hint, out);
            }
        }
    }

    /// A higher round was heard: this node is a follower in it, and has not voted in it (thesis section 3.3).
    fn adopt_round(&mut self, round: Round, out: &mut Batch) {
        assert!(round > self.promised.round, "rounds never regress: {round} after {}", self.promised);
        self.step_down("a higher round was heard", out);
        self.promised = Ballot { round, node: 0 };
        self.member.raise_round(round);
        self.member.forget_leader();
        out.hard_state = Some(self.hard_state());
    }

    /// Back to following nobody, if it led or campaigned.
    fn step_down(&mut self, why: &'static str, out: &mut Batch) {
        match std::mem::replace(&mut self.activity, Activity::Following) {
            Activity::Following => return,
            Activity::Campaigning(_) => {}
            Activity::Leading(leader) => leader.leadership.end(&mut self.member, why, out),
        }
        self.member.restart_election_timer();
    }

    fn role(&self) -> Role {
        match self.activity {
            Activity::Following => Role::Follower,
            Activity::Campaigning(_) => Role::Candidate,
            Activity::Leading(_) => Role::Leader,
        }
    }

    fn hard_state(&self) -> HardState {
        HardState { promised: self.promised, chosen: self.log.chosen() }
    }

    fn check_invariants(&self, out: &Batch) {
        let (compacted, chosen, last) = (self.log.window().compacted(), self.log.chosen(), self.log.last());
        assert!(
            compacted <= chosen && chosen <= last.index,
            "compacted {compacted} <= chosen {chosen} <= last {last}"
        );
        let (promised, highest_round) = (self.promised, self.member.highest_round());
        assert!(
            last.round <= promised.round && promised.round <= highest_round,
            "last {last} <= promised {promised} <= highest round {highest_round}"
        );
        if let Activity::Leading(leader) = &self.activity {
            let own = Ballot { round: promised.round, node: self.member.node() };
            assert_eq!(leader.ballot(), own, "a leader's ballot is of its round, which is {promised}");
            leader.check_invariants(last.index);
        }
        if let Some(hard_state) = out.hard_state {
            assert_eq!(hard_state.promised, promised, "the write carries the latest round and vote");
        }
    }
}

impl Protocol for Raft {
    fn step(&mut self, input: Input, out: &mut Batch) {
        match input {
            Input::Tick { now_ms } => self.handle_tick(now_ms, out),
            Input::Message(message) => self.handle_message(message, out),
            Input::Propose(proposals) => self.handle_propose(proposals, out),
            Input::Read { id } => self.handle_read(self.member.node(), id, out),
            Input::Transfer { to } => self.handle_transfer(to, out),
            Input::MakeWay { to } => self.handle_make_way(&to, out),
        }
        if out.must_write() {
            out.hard_state = Some(self.hard_state());
        }
        self.check_invariants(out);
    }

    fn status(&self) -> Status {
        self.member.status(self.role(), self.promised, self.log.window())
    }

    fn room(&self) -> usize {
        self.member.proposals().room()
    }
}
