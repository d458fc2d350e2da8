//! Multi-Paxos with a distinguished proposer ("Paxos Made Simple" section 3, "Paxos Made Moderately
//! Complex"), as a pure core.
//!
//! One ballot covers the whole log. A node that hears no leader for T asks the others whether they would
//! follow it (pre-vote, `candidate.rs`), promises itself a new ballot, prepares it with a majority, catches
//! up to the highest watermark it was told of, adopts per index the value accepted under the highest
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
//! * A leader's ballot is `promised`: when that rises above, it has stepped down.
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
//! are sent again until chosen or out of time. Late answers carry the ballot they answer and are inert.
//!
//! Left out: time (ticks), bytes (`wire`, `store`), delivery (`pipeline`), membership changes, snapshots.

mod acceptor;
mod candidate;
mod leader;
mod learner;
mod transfer;

use self::candidate::Candidate;
use self::leader::Leader;
use self::learner::Learner;
use super::batch::{Batch, Event};
use super::log::Log;
use super::message::{Body, Message};
use super::proposals::Proposals;
use super::protocol::{Input, PeerStatus, Protocol, Role, Status};
use super::quorum::Voters;
use super::random::Random;
use super::types::{Ballot, Entry, HardState, Index, MAX_WINDOW_ENTRIES, NodeId, Round};

/// A round this far above all that a node knows is nonsense: nobody gets there by elections.
const MAX_ROUND_STEP: Round = 1 << 40;

/// No round above it is taken from anyone, so that arithmetic on rounds never overflows. A
/// member that raises rounds on purpose can get there in 2^22 steps, and then nobody is elected any more.
const MAX_ROUND: Round = 1 << 62;

/// What a node keeps of entries above its watermark at most, in windows of a leader: what comes beyond is
/// dropped, and learned once chosen (but for the entry that the watermark waits for).
const MAX_WINDOWS_AHEAD: usize = 4;

/// What a core needs to know; the same in all its incarnations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node; one of `voters`.
    pub node: NodeId,
    /// All voters.
    pub voters: Voters,
    /// T: a node that hears no leader waits between T and 2T before it campaigns.
    pub election_ms: u64,
    /// How often a leader is heard; well below T.
    pub heartbeat_ms: u64,
    /// How many indexes a leader proposes above its watermark at most (1 to [`MAX_WINDOW_ENTRIES`]).
    pub window_entries: u64,
    /// What they take at most, in [`Command::cost_bytes`](super::types::Command::cost_bytes); one entry is
    /// always allowed.
    pub window_bytes: usize,
    /// For the random part of waits. Different on each node.
    pub seed: u64,
}

/// What was durable when an earlier incarnation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last hard state.
    pub hard_state: HardState,
    /// The highest round ever stored or used, in whatever place.
    pub highest_round: Round,
    /// Up to it entries are no longer kept.
    pub compacted: Index,
    /// The entries above `hard_state.chosen`, by ascending index.
    pub entries: Vec<Entry>,
}

/// A Multi-Paxos core. See the module's documentation for its invariants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paxos {
    config: Config,
    random: Random,
    now_ms: u64,
    /// The highest promised ballot; durable with the next write at the latest.
    promised: Ballot,
    /// At least the round of every ballot seen, stored or used.
    highest_round: Round,
    log: Log,
    activity: Activity,
    /// Who leads, and when it was last heard; for a leader itself and now.
    leader: Option<NodeId>,
    heard_leader_ms: u64,
    /// When a follower campaigns, or a candidate starts again.
    election_at_ms: u64,
    learner: Learner,
    proposals: Proposals,
    /// When own proposals are forwarded again, and the wait after that.
    forward_at_ms: u64,
    forward_wait_ms: u64,
    /// By place in the voters; this node's own is unused.
    peers: Vec<Peer>,
    elections: u64,
    ignored: u64,
    dropped: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Activity {
    Following,
    Campaigning(Candidate),
    Leading(Leader),
}

/// What is known of another voter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    chosen: Index,
    heard_ms: u64,
    /// The latest time at which it seems to have followed this leader: good enough to step down by, not
    /// for a lease, since an Accepted may have been under way for long and a pause is forgiven.
    followed_ms: u64,
}

impl Paxos {
    /// A core that continues where an earlier incarnation ended, as a follower. A cluster of one campaigns
    /// at the first tick.
    pub fn new(config: Config, restored: Restored) -> Paxos {
        let Config { node, ref voters, election_ms, heartbeat_ms, window_entries, seed, .. } = config;
        assert!(voters.place(node).is_some(), "node {node} is not among the voters {voters:?}");
        assert!(
            heartbeat_ms > 0 && heartbeat_ms < election_ms,
            "heartbeat {heartbeat_ms} below T {election_ms}"
        );
        assert!(
            (1..=MAX_WINDOW_ENTRIES).contains(&window_entries),
            "window of {window_entries}, at most {MAX_WINDOW_ENTRIES}"
        );
        let Restored { hard_state, highest_round, compacted, entries } = restored;
        let mut log = Log::new(compacted, hard_state.chosen);
        let mut highest_round = highest_round.max(hard_state.promised.round);
        for Entry { index, ballot, command } in entries {
            highest_round = highest_round.max(ballot.round);
            log.put(index, ballot, command);
        }
        let peers = vec![Peer::default(); voters.ids().len()];
        let mut paxos = Paxos {
            random: Random::new(seed),
            now_ms: 0,
            promised: hard_state.promised,
            highest_round,
            log,
            activity: Activity::Following,
            leader: None,
            heard_leader_ms: 0,
            election_at_ms: 0,
            learner: Learner::new(hard_state.chosen),
            proposals: Proposals::default(),
            forward_at_ms: 0,
            forward_wait_ms: 2 * heartbeat_ms,
            peers,
            elections: 0,
            ignored: 0,
            dropped: 0,
            config,
        };
        if paxos.config.voters.ids().len() > 1 {
            paxos.restart_election_timer();
        }
        paxos
    }

    /// Puts what no decision about values rests on to fixed values: how far the generator is drawn, waits that are
    /// under way, counters, what is known of peers beside their votes. A search over all states
    /// (`tests/exhaustive.rs`) would else tell states apart that behave alike.
    #[doc(hidden)]
    pub fn normalize(&mut self) {
        let Config { election_ms, heartbeat_ms, seed, .. } = self.config;
        self.random = Random::new(seed);
        self.heard_leader_ms = self.now_ms;
        self.election_at_ms = self.now_ms + 2 * election_ms - 1;
        self.forward_wait_ms = 2 * heartbeat_ms;
        self.forward_at_ms = self.now_ms + self.forward_wait_ms;
        self.peers.fill(Peer { followed_ms: self.now_ms, ..Peer::default() });
        (self.elections, self.ignored, self.dropped) = (0, 0, 0);
    }

    fn handle_tick(&mut self, now_ms: u64, out: &mut Batch) {
        assert!(now_ms >= self.now_ms, "the clock is monotonic: {now_ms} after {}", self.now_ms);
        let gap_ms = now_ms - self.now_ms;
        self.now_ms = now_ms;
        if gap_ms > self.config.election_ms / 2 {
            self.handle_pause();
        }
        self.proposals.expire(now_ms);
        match self.activity {
            Activity::Leading(_) => self.tick_leader(out),
            Activity::Campaigning(_) if now_ms < self.election_at_ms => self.repeat_question(out),
            _ if now_ms >= self.election_at_ms => self.campaign(out),
            _ => {}
        }
        self.tick_learner(out);
        if now_ms >= self.forward_at_ms && !self.proposals.is_empty() {
            self.forward_again(out);
        }
    }

    /// The process stood still (or just started): silence while it did says nothing about the others.
    fn handle_pause(&mut self) {
        match &self.activity {
            Activity::Following if self.config.voters.ids().len() > 1 => self.restart_election_timer(),
            Activity::Leading(_) => {
                for peer in &mut self.peers {
                    peer.followed_ms = self.now_ms;
                }
            }
            _ => {}
        }
    }

    fn handle_message(&mut self, message: Message, out: &mut Batch) {
        let Message { from, to, body } = message;
        let Some(place) = self.config.voters.place(from).filter(|_| to == self.config.node) else {
            self.ignored += 1;
            return;
        };
        if from != self.config.node {
            self.peers[place].heard_ms = self.now_ms;
        }
        match body {
            Body::PreVote { ballot } => self.handle_pre_vote(from, ballot, out),
            Body::PreVoteReply { ballot, granted, promised } => {
                self.handle_pre_vote_reply(place, ballot, granted, promised, out);
            }
            Body::Prepare { ballot, first } => self.handle_prepare(from, ballot, first, out),
            Body::Promise { ballot, chosen, first, last, more, entries, .. } => {
                let page = candidate::PromisePage { ballot, chosen, first, last, more, entries };
                self.handle_promise(from, page, out);
            }
            Body::Accept { ballot, chosen, entries } => {
                self.handle_accept(from, ballot, chosen, entries, out)
            }
            Body::Accepted { ballot, chosen, ranges } => {
                self.handle_accepted(place, ballot, chosen, &ranges, out)
            }
            Body::Heartbeat { ballot, chosen, sent_ms } => {
                self.handle_heartbeat(from, ballot, chosen, sent_ms, out);
            }
            Body::HeartbeatReply { ballot, chosen, sent_ms } => {
                self.handle_heartbeat_reply(place, ballot, chosen, sent_ms, out);
            }
            Body::Refuse { ballot, promised } => self.handle_refuse(ballot, promised, out),
            Body::CatchUp { first } => self.handle_catch_up(from, first, out),
            Body::Learn { chosen, entries } => self.handle_learn(from, chosen, entries, out),
            Body::Forward { commands } => self.handle_forward(from, commands, out),
            Body::TimeoutNow { ballot } => self.handle_timeout_now(from, ballot, out),
        }
    }

    /// Whether a ballot may be from its sender: it names it, and its round is within reach.
    fn plausible(&self, from: NodeId, ballot: Ballot) -> bool {
        ballot.node == from && ballot.round > 0 && self.reachable(ballot.round)
    }

    fn reachable(&self, round: Round) -> bool {
        round <= self.highest_round.saturating_add(MAX_ROUND_STEP).min(MAX_ROUND)
    }

    /// Takes note of a round, unless it is nonsense.
    fn note_round(&mut self, round: Round) -> bool {
        let reachable = self.reachable(round);
        if reachable {
            self.highest_round = self.highest_round.max(round);
        } else {
            self.ignored += 1;
        }
        reachable
    }

    /// Promises a ballot that is at least the promised one, and gives up what a lower one allowed.
    fn promise(&mut self, ballot: Ballot, out: &mut Batch) {
        assert!(ballot >= self.promised, "a promise never regresses: {ballot} after {}", self.promised);
        if ballot == self.promised {
            return;
        }
        self.step_down("a higher ballot was promised", out);
        self.promised = ballot;
        self.highest_round = self.highest_round.max(ballot.round);
        self.leader = None;
        out.hard_state = Some(self.hard_state());
    }

    /// Back to following nobody, if it led or campaigned.
    fn step_down(&mut self, why: &'static str, out: &mut Batch) {
        match std::mem::replace(&mut self.activity, Activity::Following) {
            Activity::Following => return,
            Activity::Campaigning(_) => {}
            Activity::Leading(leader) => {
                out.events.push(Event::SteppedDown { ballot: leader.ballot(), why });
                self.proposals.restart();
                self.leader = None;
            }
        }
        self.restart_election_timer();
    }

    fn restart_election_timer(&mut self) {
        let t = self.config.election_ms;
        self.election_at_ms = self.now_ms + self.random.between(t, 2 * t);
    }

    fn hard_state(&self) -> HardState {
        HardState { promised: self.promised, chosen: self.log.chosen() }
    }

    /// Raises the watermark over the front entry, which is known to be chosen.
    fn choose_front(&mut self, out: &mut Batch) -> Entry {
        let entry = self.log.choose_front();
        out.chosen = Some(entry.index);
        self.proposals.chosen(entry.command.request);
        entry
    }

    fn check_invariants(&self, out: &Batch) {
        let (compacted, chosen, last) = (self.log.compacted(), self.log.chosen(), self.log.last());
        assert!(
            compacted <= chosen && chosen <= last,
            "compacted {compacted} <= chosen {chosen} <= last {last}"
        );
        assert!(
            self.promised.round <= self.highest_round,
            "promised {} above the highest round {}",
            self.promised,
            self.highest_round
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
            Input::Transfer { to } => self.handle_transfer(to, out),
        }
        if out.must_write() {
            out.hard_state = Some(self.hard_state());
        }
        self.check_invariants(out);
    }

    fn status(&self) -> Status {
        let role = match self.activity {
            Activity::Following => Role::Follower,
            Activity::Campaigning(_) => Role::Candidate,
            Activity::Leading(_) => Role::Leader,
        };
        let peers = self.config.voters.ids().iter().zip(&self.peers);
        let others = peers.filter(|(node, _)| **node != self.config.node);
        Status {
            node: self.config.node,
            role,
            promised: self.promised,
            highest_round: self.highest_round,
            leader: self.leader,
            chosen: self.log.chosen(),
            last: self.log.last(),
            compacted: self.log.compacted(),
            in_flight: if role == Role::Leader { self.log.open() } else { 0 },
            pending: self.proposals.len() as u64,
            elections: self.elections,
            ignored: self.ignored,
            dropped: self.dropped,
            peers: others
                .map(|(node, peer)| PeerStatus { node: *node, chosen: peer.chosen, heard_ms: peer.heard_ms })
                .collect(),
        }
    }

    fn room(&self) -> usize {
        self.proposals.room()
    }
}
