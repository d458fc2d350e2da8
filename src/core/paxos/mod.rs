//! Multi-Paxos with a distinguished proposer ("Paxos Made Simple" section 3, "Paxos Made Moderately
//! Complex"), as a pure core.
//!
//! One ballot covers the whole log. A node that hears no leader for T asks the others whether they would
//! follow it (pre-vote, `candidate.rs`), promises itself a new ballot, prepares it with a majority, catches
//! up to the highest watermark it was told of, adopts for each index the value accepted under the highest
//! ballot, fills holes with no-ops, and then leads (`leader.rs`): one Accept message carries many entries,
//! and what a majority accepted in a row is chosen. Followers (`acceptor.rs`) promise and accept; what they
//! missed they learn from any peer that has it (`learner.rs`). A leader can hand over to a node of its choice
//! (`transfer.rs`).
//!
//! # Invariants
//!
//! * `promised` never regresses; nothing is accepted below it, and it is durable before a Promise or an
//!   Accepted under it leaves.
//! * A ballot is used by one incarnation of one node: a candidate goes above every round it ever saw or
//!   stored, and its own promise of the ballot is durable before its Prepare leaves.
//! * A leader's ballot is `promised`: when `promised` rises, it has stepped down.
//! * One ballot proposes one command at an index: a leader proposes only above the watermark at its
//!   election plus what it adopted, each index once.
//! * `compacted <= chosen <= last`; what is at or below `chosen` never changes.
//! * A leader's watermark rises by counting its own ballot's acceptances only, and a follower follows it
//!   only over entries of that very ballot. (A deposed leader that learned a later leader's choice must not
//!   vouch for what *its* ballot proposed there.)
//! * A leader that hands over places nothing.
//! * No core counts its own promise or acceptance before it comes back as a message from behind the write.
//!
//! # Repetition
//!
//! Everything may be lost: a candidate repeats its question each heartbeat interval; a leader repeats what
//! makes no progress with a back-off up to T; a learner asks one peer after the other; forwarded proposals
//! are sent again until they are chosen or out of time. Late answers carry the ballot they answer and are
//! inert.
//!
//! Left out: time (ticks), bytes (`wire`, `store`), delivery (`pipeline`), membership changes, snapshots.

mod acceptor;
mod candidate;
mod leader;
mod learner;
pub(super) mod message;
mod transfer;

use self::candidate::Candidate;
use self::leader::Leader;
use self::learner::Learner;
use super::batch::{Batch, ReadIndex};
use super::config::{Config, Restored};
use super::log::Log;
use super::member::{Member, Sender};
use super::message::{Body, ClusterBody, Message, PaxosBody};
use super::protocol::{Input, Protocol, Role, Status};
use super::types::{Ballot, Entry, HardState};

/// A Multi-Paxos core. See the module's documentation for its invariants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paxos {
    member: Member,
    /// The highest promised ballot; durable with the next write at the latest.
    promised: Ballot,
    log: Log,
    activity: Activity,
    learner: Learner,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Activity {
    Following,
    Campaigning(Candidate),
    Leading(Leader),
}

impl Paxos {
    /// A core that continues where an earlier incarnation ended, as a follower. A cluster of one campaigns
    /// at the first tick.
    pub fn new(config: Config, restored: Restored) -> Paxos {
        let Restored { hard_state, highest_round, compacted, entries, .. } = restored;
        let mut log = Log::new(compacted, hard_state.chosen);
        let mut highest_round = highest_round.max(hard_state.promised.round);
        for Entry { index, ballot, command } in entries {
            highest_round = highest_round.max(ballot.round);
            log.put(index, ballot, command);
        }
        Paxos {
            member: Member::new(config, highest_round),
            promised: hard_state.promised,
            log,
            activity: Activity::Following,
            learner: Learner::new(hard_state.chosen),
        }
    }

    /// Sets all that no decision about values depends on to fixed values: how far the generator is drawn,
    /// waits that are under way, counters, what is known of peers besides their votes. Otherwise a search
    /// over all states (`tests/exhaustive.rs`) would tell states apart that behave alike.
    #[cfg(feature = "internals")]
    pub fn normalize(&mut self) {
        self.member.normalize();
    }

    fn handle_tick(&mut self, now_ms: u64, out: &mut Batch) {
        self.member.advance(now_ms);
        match self.activity {
            Activity::Leading(_) => self.tick_leader(out),
            _ if self.member.election_is_due() => self.campaign(out),
            Activity::Campaigning(_) => self.repeat_question(out),
            Activity::Following => {}
        }
        self.tick_learner(out);
        self.member.tick_forwarding(self.log.chosen(), out);
    }

    fn handle_message(&mut self, message: Message, out: &mut Batch) {
        let Message { from, to, body } = message;
        let Some(sender) = self.member.hear(from, to) else { return };
        match body {
            Body::Cluster(body) => self.handle_cluster(sender, body, out),
            Body::Paxos(body) => self.handle_paxos(sender, body, out),
            Body::Raft(_) => self.member.ignore(),
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
            ClusterBody::Refuse { ballot, promised } => self.handle_refuse(ballot, promised, out),
            ClusterBody::CatchUp { first } => self.handle_catch_up(from, first, out),
            ClusterBody::Learn { chosen, entries } => self.handle_learn(from, chosen, entries, out),
            ClusterBody::Forward { commands } => self.handle_forward(from, commands, out),
            ClusterBody::TimeoutNow { ballot } => self.handle_timeout_now(from, ballot, out),
            ClusterBody::Confirm { ballot, number } => self.handle_confirm(from, ballot, number, out),
            ClusterBody::Confirmed { ballot, number } => self.handle_confirmed(sender, ballot, number, out),
            ClusterBody::Read { id } => self.handle_read(from, id, out),
            ClusterBody::ReadReply { id, index } => out.reads.push(ReadIndex { id, index }),
        }
    }

    fn handle_paxos(&mut self, sender: Sender, body: PaxosBody, out: &mut Batch) {
        let from = sender.node;
        match body {
            PaxosBody::PreVote { ballot } => self.handle_pre_vote(from, ballot, out),
            PaxosBody::Prepare { ballot, first } => self.handle_prepare(from, ballot, first, out),
            PaxosBody::Promise { ballot, chosen, first, last, more, entries, .. } => {
                let page = candidate::PromisePage { ballot, chosen, first, last, more, entries };
                self.handle_promise(sender, page, out);
            }
            PaxosBody::Accept { ballot, chosen, entries } => {
                self.handle_accept(from, ballot, chosen, entries, out)
            }
            PaxosBody::Accepted { ballot, chosen, ranges } => {
                self.handle_accepted(sender, ballot, chosen, &ranges, out)
            }
        }
    }

    /// Promises a ballot that is at least the promised one, and gives up what a lower one allowed.
    fn promise(&mut self, ballot: Ballot, out: &mut Batch) {
        assert!(ballot >= self.promised, "a promise never regresses: {ballot} after {}", self.promised);
        if ballot == self.promised {
            return;
        }
        self.step_down("a higher ballot was promised", out);
        self.promised = ballot;
        self.member.raise_round(ballot.round);
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

    /// Raises the watermark over the front entry, which is known to be chosen.
    fn choose_front(&mut self, out: &mut Batch) -> Entry {
        let entry = self.log.choose_front();
        out.chosen = Some(entry.index);
        self.member.note_chosen(entry.command.request, entry.index);
        entry
    }

    fn check_invariants(&self, out: &Batch) {
        let (compacted, chosen, last) = (self.log.compacted(), self.log.chosen(), self.log.last());
        assert!(
            compacted <= chosen && chosen <= last,
            "compacted {compacted} <= chosen {chosen} <= last {last}"
        );
        assert!(
            self.promised.round <= self.member.highest_round(),
            "promised {} above the highest round {}",
            self.promised,
            self.member.highest_round()
        );
        if let Activity::Leading(leader) = &self.activity {
            let ballot = leader.ballot();
            assert_eq!(
                ballot, self.promised,
                "a leader's ballot {ballot} is what it promised {}",
                self.promised
            );
        }
        if let Some(hard_state) = out.hard_state {
            assert_eq!(hard_state.promised, self.promised, "the write carries the latest promise");
        }
    }
}

impl Protocol for Paxos {
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
        self.member.status(self.role(), self.promised, &self.log)
    }

    fn room(&self) -> usize {
        self.member.proposals().room()
    }
}
