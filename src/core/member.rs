//! What every member of a cluster does, whatever the protocol: it keeps time, hears others and knows who
//! leads.
//!
//! A core holds a [`Member`] besides what its protocol adds: what it promised, its log, what it is doing.
//! Nothing here decides about values or ballots; a bug here costs time, not safety. How long it waits for
//! others is in `patience.rs`; how it sees its clients' proposals to the leader is in `forwarding.rs`.

use std::cmp::Reverse;

use super::batch::{Batch, Event};
use super::config::Config;
use super::log::Log;
use super::making_way::Fitter;
use super::message::{Body, ClusterBody, MAX_PAGE_BYTES};
use super::patience::Patience;
use super::proposals::Proposals;
use super::protocol::{PeerStatus, Role, Status};
use super::quorum::{Bit, Set};
use super::random::Random;
use super::roster::Roster;
use super::types::{Ballot, Command, Index, MAX_WINDOW_ENTRIES, NodeId, RequestId, Round};

/// A round this far above all that a node knows is nonsense: nobody gets there by elections.
const MAX_ROUND_STEP: Round = 1 << 40;

/// No round above this one is taken from anyone, so that arithmetic on rounds never overflows. A member that
/// raises rounds on purpose can get there in 2^22 steps, and then nobody is elected any more.
const MAX_ROUND: Round = 1 << 62;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    config: Config,
    random: Random,
    now_ms: u64,
    /// At least the round of every ballot seen, stored or used.
    highest_round: Round,
    /// The leader (a leader is its own), and when it was last heard, in the time that this node's ticks saw.
    leader: Option<NodeId>,
    heard_leader_ms: u64,
    patience: Patience,
    pub(super) proposals: Proposals,
    /// How old a proposal must be before it is forwarded again.
    pub(super) forward_wait_ms: u64,
    fitter: Fitter,
    roster: Roster,
    /// The other members, by ascending id.
    peers: Vec<Peer>,
    elections: u64,
    ignored: u64,
    dropped: u64,
}

/// What is known of another member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    node: NodeId,
    chosen: Index,
    heard_ms: u64,
    /// The latest time at which it seems to have followed this leader, in the time that this node's ticks
    /// saw: good enough to step down by, not for a lease, since an answer to entries may have been under way
    /// for a long time, and that clock stands while the process does.
    followed_ms: u64,
}

impl Peer {
    fn new(node: NodeId) -> Peer {
        Peer { node, chosen: 0, heard_ms: 0, followed_ms: 0 }
    }

    fn status(&self) -> PeerStatus {
        PeerStatus { node: self.node, chosen: self.chosen, heard_ms: self.heard_ms }
    }
}

/// The member that sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) node: NodeId,
    /// What represents it in sets.
    pub(super) bit: Bit,
}

impl Member {
    /// A follower of nobody. A cluster of one campaigns at the first tick.
    pub(super) fn new(config: Config, highest_round: Round) -> Member {
        let Config { node, ref voters, election_ms, heartbeat_ms, window_entries, seed, .. } = config;
        let roster = Roster::new(voters);
        assert!(roster.bit(node).is_some(), "node {node} is not among the voters {voters:?}");
        assert!(
            heartbeat_ms > 0 && heartbeat_ms < election_ms,
            "a heartbeat interval of {heartbeat_ms} ms is not between 0 and T, which is {election_ms} ms"
        );
        assert!(
            (1..=MAX_WINDOW_ENTRIES).contains(&window_entries),
            "a window has 1 to {MAX_WINDOW_ENTRIES} entries, not {window_entries}"
        );
        let peers = voters.others(node).map(Peer::new).collect();
        let mut member = Member {
            random: Random::new(seed),
            now_ms: 0,
            highest_round,
            leader: None,
            heard_leader_ms: 0,
            patience: Patience::new(election_ms),
            proposals: Proposals::new(config.seed),
            forward_wait_ms: 2 * heartbeat_ms,
            fitter: Fitter::default(),
            roster,
            peers,
            elections: 0,
            ignored: 0,
            dropped: 0,
            config,
        };
        if !member.is_alone() {
            member.restart_election_timer();
        }
        member
    }

    /// See [`Paxos::normalize`](super::paxos::Paxos::normalize).
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self) {
        let Config { election_ms, heartbeat_ms, seed, .. } = self.config;
        self.random = Random::new(seed);
        self.patience.normalize(self.now_ms, election_ms, self.leader.is_some());
        self.heard_leader_ms = self.patience.seen_ms();
        self.forward_wait_ms = 2 * heartbeat_ms;
        self.proposals.normalize(self.now_ms);
        for peer in &mut self.peers {
            *peer = Peer { followed_ms: self.patience.seen_ms(), ..Peer::new(peer.node) };
        }
        (self.elections, self.ignored, self.dropped) = (0, 0, 0);
    }

    /// Sets the clock back to zero, for a search that does not tell times apart.
    #[cfg(feature = "internals")]
    pub(super) fn restart_clock(&mut self) {
        self.now_ms = 0;
    }
}

/// The configuration.
impl Member {
    pub(super) fn node(&self) -> NodeId {
        self.config.node
    }

    pub(super) fn election_ms(&self) -> u64 {
        self.config.election_ms
    }

    pub(super) fn heartbeat_ms(&self) -> u64 {
        self.config.heartbeat_ms
    }

    pub(super) fn window_entries(&self) -> u64 {
        self.config.window_entries
    }

    pub(super) fn window_bytes(&self) -> usize {
        self.config.window_bytes
    }
}

/// Members.
impl Member {
    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether the voters in a set are a quorum.
    pub(super) fn is_quorum(&self, set: Set) -> bool {
        self.roster.electorate().is_quorum(set)
    }

    /// The other members with their bits, by ascending id.
    pub(super) fn others(&self) -> impl Iterator<Item = Sender> + '_ {
        let others = self.roster.members().filter(|(node, _)| *node != self.config.node);
        others.map(|(node, bit)| Sender { node, bit })
    }

    fn is_alone(&self) -> bool {
        self.roster.len() == 1
    }

    pub(super) fn own_bit(&self) -> Bit {
        self.roster.bit(self.config.node).expect("`new` asserts that this node is a member")
    }

    /// Whether leadership may go to a node: to another voter. Any other node is nonsense.
    pub(super) fn may_succeed(&mut self, to: NodeId) -> bool {
        let is_voter = self.roster.bit(to).is_some_and(|bit| self.roster.electorate().contains(bit));
        let may_succeed = is_voter && to != self.config.node;
        if !may_succeed {
            self.ignore();
        }
        may_succeed
    }
}

/// Messages.
impl Member {
    /// Returns the sender of a message, if it is a member and the message is for this node, and notes that it
    /// was heard now.
    pub(super) fn hear(&mut self, from: NodeId, to: NodeId) -> Option<Sender> {
        let Some(bit) = self.roster.bit(from).filter(|_| to == self.config.node) else {
            self.ignore();
            return None;
        };
        let now_ms = self.now_ms;
        if let Some(peer) = self.peer_mut(from) {
            peer.heard_ms = now_ms;
        }
        Some(Sender { node: from, bit })
    }

    /// Whether a ballot may be from its sender: that is another node, the ballot names it, and the round is
    /// within reach.
    pub(super) fn believes(&mut self, from: NodeId, ballot: Ballot) -> bool {
        let plausible = from != self.config.node
            && ballot.node == from
            && ballot.round > 0
            && self.is_reachable(ballot.round);
        if !plausible {
            self.ignore();
        }
        plausible
    }

    /// Counts a message, or a part of one, that no honest node sends.
    pub(super) fn ignore(&mut self) {
        self.ignored += 1;
    }

    /// Counts what was dropped because a limit was reached.
    pub(super) fn count_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// Sends what promises nothing, now.
    pub(super) fn send_early(&self, to: NodeId, body: impl Into<Body>, out: &mut Batch) {
        out.send_early(self.config.node, to, body);
    }

    /// Sends once the write of this batch is durable.
    pub(super) fn send(&self, to: NodeId, body: impl Into<Body>, out: &mut Batch) {
        out.send(self.config.node, to, body);
    }

    /// Sends to this node itself once the write of this batch is durable.
    pub(super) fn send_to_itself(&self, body: impl Into<Body>, out: &mut Batch) {
        out.send(self.config.node, self.config.node, body);
    }

    /// Tells a node that its ballot is below what was promised.
    pub(super) fn refuse(&self, to: NodeId, ballot: Ballot, promised: Ballot, out: &mut Batch) {
        self.send_early(to, ClusterBody::Refuse { ballot, promised }, out);
    }
}

/// Rounds.
impl Member {
    pub(super) fn highest_round(&self) -> Round {
        self.highest_round
    }

    fn is_reachable(&self, round: Round) -> bool {
        round <= self.highest_round.saturating_add(MAX_ROUND_STEP).min(MAX_ROUND)
    }

    /// Takes note of a round, unless it is nonsense. Returns whether it did.
    pub(super) fn note_round(&mut self, round: Round) -> bool {
        let reachable = self.is_reachable(round);
        if reachable {
            self.highest_round = self.highest_round.max(round);
        } else {
            self.ignore();
        }
        reachable
    }

    /// Takes note of a round that this node promised or used.
    pub(super) fn raise_round(&mut self, round: Round) {
        self.highest_round = self.highest_round.max(round);
    }

    /// A ballot of this node, above every round it knows of.
    pub(super) fn next_ballot(&self) -> Ballot {
        Ballot { round: self.highest_round + 1, node: self.config.node }
    }
}

/// Time.
impl Member {
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The time that this node's ticks saw, by which it judges how long others were silent: see
    /// [`Patience`].
    pub(super) fn seen_ms(&self) -> u64 {
        self.patience.seen_ms()
    }

    /// Moves the clock.
    pub(super) fn advance(&mut self, now_ms: u64) {
        assert!(now_ms >= self.now_ms, "the clock is monotonic: {now_ms} after {}", self.now_ms);
        self.patience.see(now_ms - self.now_ms, self.config.heartbeat_ms);
        self.now_ms = now_ms;
        self.proposals.expire(now_ms);
    }

    pub(super) fn restart_election_timer(&mut self) {
        self.patience.restart(&mut self.random);
    }

    /// Whether a follower has heard no leader, or a candidate has had no success, for long enough.
    pub(super) fn election_is_due(&self) -> bool {
        self.patience.is_over()
    }

    /// The front entry is known to be chosen.
    pub(super) fn note_chosen(&mut self, request: RequestId, index: Index) {
        if self.patience.note_chosen(self.config.election_ms) {
            self.restart_election_timer();
        }
        self.proposals.chosen(request, index);
    }
}

/// Who leads.
impl Member {
    /// The leader, if it is another node.
    pub(super) fn other_leader(&self) -> Option<NodeId> {
        self.leader.filter(|leader| *leader != self.config.node)
    }

    pub(super) fn is_led_by(&self, node: NodeId) -> bool {
        self.leader == Some(node)
    }

    /// Whether a leader was heard within T: then this node would follow no other (pre-vote, Raft thesis
    /// section 9.6).
    pub(super) fn leader_lives(&self) -> bool {
        match self.leader {
            Some(leader) if leader == self.config.node => true,
            Some(_) => self.seen_ms() < self.heard_leader_ms + self.config.election_ms,
            None => false,
        }
    }

    /// A leader was heard. A new leader is sent all that waits to be chosen; one that was lost sight of, what
    /// came in the meantime: it has the rest.
    pub(super) fn heard_leader(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        self.heard_leader_ms = self.seen_ms();
        if self.leader != Some(from) {
            self.leader = Some(from);
            out.events.push(Event::Following { leader: from, ballot });
            if self.patience.note_won(ballot, self.config.election_ms) {
                self.proposals.restart();
            }
            self.forward_new(out);
        }
        self.restart_election_timer();
        self.fitter.leader_heard();
    }

    /// The leader leads no more, as far as this node knows.
    pub(super) fn forget_leader(&mut self) {
        self.leader = None;
    }

    /// This node leads from now on.
    pub(super) fn begin_to_lead(&mut self, ballot: Ballot) {
        self.elections += 1;
        self.fitter.leader_heard();
        self.leader = Some(self.config.node);
        self.patience.note_won(ballot, self.config.election_ms);
        self.follow_now();
        self.proposals.begin_to_place();
    }

    /// This node leads no more.
    pub(super) fn end_to_lead(&mut self) {
        self.leader = None;
        self.proposals.end_to_place();
    }
}

/// Making way: see [`Fitter`].
impl Member {
    pub(super) fn fitter(&self) -> &Fitter {
        &self.fitter
    }

    /// This node is in trouble and these are not; any that is not another voter is nonsense.
    pub(super) fn make_way_to(&mut self, nodes: &[NodeId]) {
        let mut voters = Set::default();
        for node in nodes {
            if self.may_succeed(*node) {
                self.roster.bit(*node).iter().for_each(|bit| voters.insert(*bit));
            }
        }
        self.fitter.replace(voters);
    }

    /// An election is due. Returns whether this node leaves it to fitter ones: then it waits once more.
    pub(super) fn waives_election(&mut self) -> bool {
        let waives = self.fitter.waives_election();
        if waives {
            self.leader = None;
            self.restart_election_timer();
        }
        waives
    }

    /// The fitter nodes that were heard to follow this leader within T, the one that was heard last first.
    pub(super) fn fitter_followers(&self) -> Vec<NodeId> {
        let others = self.others().zip(&self.peers).filter(|(other, _)| self.fitter.contains(other.bit));
        let mut heard: Vec<_> = others.map(|(_, peer)| (Reverse(peer.followed_ms), peer.node)).collect();
        heard.retain(|(followed_ms, _)| self.now_ms < followed_ms.0 + self.config.election_ms);
        heard.sort_unstable();
        heard.into_iter().map(|(_, node)| node).collect()
    }
}

/// What a leader knows of its peers.
impl Member {
    fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// A peer's watermark, as last heard (0: never).
    pub(super) fn watermark(&self, peer: NodeId) -> Index {
        self.peers.iter().find(|other| other.node == peer).map_or(0, |peer| peer.chosen)
    }

    /// A peer told its watermark.
    pub(super) fn note_watermark(&mut self, peer: NodeId, chosen: Index) {
        if let Some(peer) = self.peer_mut(peer) {
            peer.chosen = peer.chosen.max(chosen);
        }
    }

    /// A peer's answer shows that it follows this leader.
    pub(super) fn note_following(&mut self, peer: NodeId) {
        let seen_ms = self.seen_ms();
        if let Some(peer) = self.peer_mut(peer) {
            peer.followed_ms = seen_ms;
        }
    }

    /// A peer answered the heartbeat that this leader sent at that time, in the time that its ticks saw.
    pub(super) fn heartbeat_answered(&mut self, peer: NodeId, chosen: Index, sent_ms: u64) {
        self.note_watermark(peer, chosen);
        if sent_ms > self.seen_ms() {
            return self.ignore();
        }
        if let Some(peer) = self.peer_mut(peer) {
            peer.followed_ms = peer.followed_ms.max(sent_ms);
        }
    }

    /// All peers are assumed to follow this leader as of now.
    fn follow_now(&mut self) {
        for peer in &mut self.peers {
            peer.followed_ms = self.patience.seen_ms();
        }
    }

    /// Check-quorum (Raft thesis section 6.2): a leader that is cut off makes way, after T of silence that
    /// its own ticks saw.
    pub(super) fn hears_a_majority(&self) -> bool {
        let mut followers = Set::default();
        followers.insert(self.own_bit());
        for (other, peer) in self.others().zip(&self.peers) {
            if self.seen_ms() < peer.followed_ms + self.config.election_ms {
                followers.insert(other.bit);
            }
        }
        self.is_quorum(followers)
    }
}

/// Reads.
impl Member {
    /// Asks the leader for a read of this node; without a leader it is not answered. A read of another node
    /// has come to the wrong place.
    pub(super) fn pass_on_read(&self, from: NodeId, id: u64, out: &mut Batch) {
        if let Some(leader) = self.other_leader().filter(|_| from == self.config.node) {
            self.send_early(leader, ClusterBody::Read { id }, out);
        }
    }
}

/// What people and metrics see.
impl Member {
    /// The state of the core that holds this member.
    pub(super) fn status(&self, role: Role, promised: Ballot, log: &Log) -> Status {
        Status {
            node: self.config.node,
            role,
            promised,
            highest_round: self.highest_round,
            leader: self.leader,
            chosen: log.chosen(),
            last: log.last(),
            compacted: log.compacted(),
            in_flight: if role == Role::Leader { log.open() } else { 0 },
            pending: self.proposals.len() as u64,
            elections: self.elections,
            ignored: self.ignored,
            dropped: self.dropped,
            peers: self.peers.iter().map(Peer::status).collect(),
        }
    }
}

/// Cuts a list into pieces of at most [`MAX_PAGE_BYTES`], each of at least one item.
pub(super) fn pages<T>(items: Vec<T>, command: impl Fn(&T) -> &Command) -> Vec<Vec<T>> {
    let all_bytes: usize = items.iter().map(|item| command(item).cost_bytes()).sum();
    if all_bytes <= MAX_PAGE_BYTES {
        return vec![items];
    }
    let mut pages: Vec<Vec<T>> = Vec::new();
    let mut bytes = usize::MAX;
    for item in items {
        let cost_bytes = command(&item).cost_bytes();
        bytes = bytes.saturating_add(cost_bytes);
        match pages.last_mut() {
            Some(page) if bytes <= MAX_PAGE_BYTES => page.push(item),
            _ => {
                bytes = cost_bytes;
                pages.push(vec![item]);
            }
        }
    }
    pages
}
