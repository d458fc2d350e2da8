//! What every member of a cluster does whatever the protocol: it keeps time, hears others, knows who leads,
//! and sees its clients' proposals to the leader.
//!
//! A core holds a [`Member`] beside what its protocol adds: what it promised, its log, what it is doing.
//! Nothing here decides about values or ballots; a bug here costs time, not safety.

use super::batch::{Batch, Event};
use super::config::Config;
use super::log::Log;
use super::message::{ClusterBody, MAX_PAGE_BYTES};
use super::proposals::Proposals;
use super::protocol::{PeerStatus, Proposal, Role, Status};
use super::quorum::Set;
use super::random::Random;
use super::types::{
    Ballot, Command, Entry, Index, Kind, MAX_PAYLOAD_BYTES, MAX_WINDOW_ENTRIES, NodeId, RequestId, Round,
};

/// A round this far above all that a node knows is nonsense: nobody gets there by elections.
const MAX_ROUND_STEP: Round = 1 << 40;

/// No round above it is taken from anyone, so that arithmetic on rounds never overflows. A
/// member that raises rounds on purpose can get there in 2^22 steps, and then nobody is elected any more.
const MAX_ROUND: Round = 1 << 62;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) now_ms: u64,
    /// At least the round of every ballot seen, stored or used.
    pub(super) highest_round: Round,
    /// Who leads, and when it was last heard; for a leader itself and now.
    pub(super) leader: Option<NodeId>,
    pub(super) heard_leader_ms: u64,
    /// When a follower campaigns, or a candidate starts again.
    pub(super) election_at_ms: u64,
    pub(super) proposals: Proposals,
    /// When own proposals are forwarded again, and the wait after that.
    pub(super) forward_at_ms: u64,
    pub(super) forward_wait_ms: u64,
    /// By place in the voters; this node's own is unused.
    pub(super) peers: Vec<Peer>,
    pub(super) elections: u64,
    pub(super) ignored: u64,
    pub(super) dropped: u64,
}

/// What is known of another voter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) chosen: Index,
    pub(super) heard_ms: u64,
    /// The latest time at which it seems to have followed this leader: good enough to step down by, not
    /// for a lease, since an answer to entries may have been under way for long and a pause is forgiven.
    pub(super) followed_ms: u64,
}

impl Member {
    /// A follower of nobody. A cluster of one campaigns at the first tick.
    pub(super) fn new(config: Config, highest_round: Round) -> Member {
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
        let peers = vec![Peer::default(); voters.ids().len()];
        let mut member = Member {
            random: Random::new(seed),
            now_ms: 0,
            highest_round,
            leader: None,
            heard_leader_ms: 0,
            election_at_ms: 0,
            proposals: Proposals::new(config.seed),
            forward_at_ms: 0,
            forward_wait_ms: 2 * heartbeat_ms,
            peers,
            elections: 0,
            ignored: 0,
            dropped: 0,
            config,
        };
        if member.config.voters.ids().len() > 1 {
            member.restart_election_timer();
        }
        member
    }

    /// See [`Paxos::normalize`](super::paxos::Paxos::normalize).
    pub(super) fn normalize(&mut self) {
        let Config { election_ms, heartbeat_ms, seed, .. } = self.config;
        self.random = Random::new(seed);
        self.heard_leader_ms = self.now_ms;
        self.election_at_ms = self.now_ms + 2 * election_ms - 1;
        self.forward_wait_ms = 2 * heartbeat_ms;
        self.forward_at_ms = self.now_ms + self.forward_wait_ms;
        self.peers.fill(Peer { followed_ms: self.now_ms, ..Peer::default() });
        (self.elections, self.ignored, self.dropped) = (0, 0, 0);
    }

    /// This node's place among the voters.
    pub(super) fn own_place(&self) -> usize {
        self.config.voters.place(self.config.node).expect("asserted at the start")
    }

    /// The place of a message's sender, if it is a voter and speaks to this node; it is heard now.
    pub(super) fn hear(&mut self, from: NodeId, to: NodeId) -> Option<usize> {
        let place = self.config.voters.place(from).filter(|_| to == self.config.node);
        match place {
            Some(place) if from != self.config.node => self.peers[place].heard_ms = self.now_ms,
            Some(_) => {}
            None => self.ignored += 1,
        }
        place
    }
}

/// Rounds.
impl Member {
    /// Whether a ballot may be from its sender: it names it, and its round is within reach.
    pub(super) fn plausible(&self, from: NodeId, ballot: Ballot) -> bool {
        ballot.node == from && ballot.round > 0 && self.reachable(ballot.round)
    }

    fn reachable(&self, round: Round) -> bool {
        round <= self.highest_round.saturating_add(MAX_ROUND_STEP).min(MAX_ROUND)
    }

    /// Takes note of a round, unless it is nonsense.
    pub(super) fn note_round(&mut self, round: Round) -> bool {
        let reachable = self.reachable(round);
        if reachable {
            self.highest_round = self.highest_round.max(round);
        } else {
            self.ignored += 1;
        }
        reachable
    }
}

/// Time.
impl Member {
    /// Moves the clock; whether the process stood still (or just started).
    pub(super) fn advance(&mut self, now_ms: u64) -> bool {
        assert!(now_ms >= self.now_ms, "the clock is monotonic: {now_ms} after {}", self.now_ms);
        let gap_ms = now_ms - self.now_ms;
        self.now_ms = now_ms;
        self.proposals.expire(now_ms);
        gap_ms > self.config.election_ms / 2
    }

    /// Silence while the process stood still says nothing about the others.
    pub(super) fn handle_pause(&mut self, role: Role) {
        match role {
            Role::Follower if self.config.voters.ids().len() > 1 => self.restart_election_timer(),
            Role::Leader => self.follow_now(),
            Role::Follower | Role::Candidate => {}
        }
    }

    /// All peers are taken to follow this leader as of now.
    pub(super) fn follow_now(&mut self) {
        for peer in &mut self.peers {
            peer.followed_ms = self.now_ms;
        }
    }

    pub(super) fn restart_election_timer(&mut self) {
        let t = self.config.election_ms;
        self.election_at_ms = self.now_ms + self.random.between(t, 2 * t);
    }

    /// Whether a leader was heard within T: then nobody else would be followed (pre-vote, Raft thesis section
    /// 9.6).
    pub(super) fn leader_lives(&self) -> bool {
        match self.leader {
            Some(leader) if leader == self.config.node => true,
            Some(_) => self.now_ms < self.heard_leader_ms + self.config.election_ms,
            None => false,
        }
    }

    /// Check-quorum (Raft thesis section 6.2): a leader that is cut off makes way.
    pub(super) fn hears_a_majority(&self) -> bool {
        let mut heard = Set::default();
        for (place, peer) in self.peers.iter().enumerate() {
            let own = place == self.own_place();
            if own || self.now_ms < peer.followed_ms + self.config.election_ms {
                heard.insert(place);
            }
        }
        self.config.voters.is_quorum(heard)
    }

    /// A peer answered this leader's heartbeat of that time, by its own clock.
    pub(super) fn heartbeat_answered(&mut self, place: usize, chosen: Index, sent_ms: u64) {
        let peer = &mut self.peers[place];
        peer.chosen = peer.chosen.max(chosen);
        match sent_ms <= self.now_ms {
            true => peer.followed_ms = peer.followed_ms.max(sent_ms),
            false => self.ignored += 1,
        }
    }

    /// Tells all others who leads.
    pub(super) fn send_heartbeats(&self, ballot: Ballot, chosen: Index, out: &mut Batch) {
        for peer in self.config.voters.others(self.config.node) {
            self.send_heartbeat(peer, ballot, chosen, out);
        }
    }

    pub(super) fn send_heartbeat(&self, to: NodeId, ballot: Ballot, chosen: Index, out: &mut Batch) {
        let sent_ms = self.now_ms;
        out.send_early(self.config.node, to, ClusterBody::Heartbeat { ballot, chosen, sent_ms });
    }

    /// Those whose clients wait for what was just chosen hear of it at once, unless entries in this batch
    /// tell them; the others hear with the next entries or heartbeat.
    pub(super) fn tell_forwarders(&self, forwarders: Set, ballot: Ballot, chosen: Index, out: &mut Batch) {
        for (place, peer) in self.config.voters.ids().iter().copied().enumerate() {
            if peer != self.config.node && forwarders.contains(place) {
                self.send_heartbeat(peer, ballot, chosen, out);
            }
        }
    }

    /// A leader was heard. A new one is sent what waits for it.
    pub(super) fn heard_leader(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        self.heard_leader_ms = self.now_ms;
        self.restart_election_timer();
        if self.leader != Some(from) {
            self.leader = Some(from);
            out.events.push(Event::Following { leader: from, ballot });
            self.forward_wait_ms = 2 * self.config.heartbeat_ms;
            self.forward_again(out);
        }
    }
}

/// Reads.
impl Member {
    /// Asks the leader for a read of this node's; without one it is not answered.
    pub(super) fn pass_on_read(&self, id: u64, out: &mut Batch) {
        if let Some(leader) = self.leader.filter(|leader| *leader != self.config.node) {
            out.send_early(self.config.node, leader, ClusterBody::Read { id });
        }
    }
}

/// Proposals.
impl Member {
    /// Takes proposals of this node's clients. If another node leads they are passed on; if this one does, it
    /// is to place them.
    pub(super) fn take_proposals(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        let leader = self.leader.filter(|leader| *leader != self.config.node);
        let mut added = Vec::new();
        for proposal in proposals {
            let command = leader.map(|_| proposal.command.clone());
            if self.proposals.add_own(proposal) {
                added.extend(command);
            }
        }
        if let Some(leader) = leader {
            self.forward(leader, added, out);
        }
    }

    /// Takes proposals that a follower passed on to this leader. What this version could not deliver is not
    /// proposed: once chosen, it would stop every node that does not know it.
    pub(super) fn take_forwarded(&mut self, from: NodeId, commands: Vec<Command>) {
        for command in commands {
            let sound = command.request != RequestId::NONE
                && command.from == from
                && !matches!(command.kind, Kind::Noop | Kind::Unknown(_))
                && command.payload.len() <= MAX_PAYLOAD_BYTES;
            if !sound {
                self.ignored += 1;
            } else if !self.proposals.add_forwarded(command) {
                self.dropped += 1;
            }
        }
    }

    /// Sends what waits to the leader again if it is time.
    pub(super) fn tick_forwarding(&mut self, out: &mut Batch) {
        if self.now_ms >= self.forward_at_ms && !self.proposals.is_empty() {
            self.forward_again(out);
        }
    }

    /// Sends all own proposals to whoever leads now.
    fn forward_again(&mut self, out: &mut Batch) {
        self.forward_at_ms = self.now_ms + self.forward_wait_ms;
        self.forward_wait_ms = (2 * self.forward_wait_ms).min(self.config.election_ms);
        let Some(leader) = self.leader.filter(|leader| *leader != self.config.node) else { return };
        let commands: Vec<Command> = self.proposals.own().cloned().collect();
        self.forward(leader, commands, out);
    }

    fn forward(&mut self, leader: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if commands.is_empty() {
            return;
        }
        if self.forward_at_ms <= self.now_ms {
            self.forward_wait_ms = 2 * self.config.heartbeat_ms;
            self.forward_at_ms = self.now_ms + self.forward_wait_ms;
        }
        for commands in pages(commands, |command| command) {
            out.send_early(self.config.node, leader, ClusterBody::Forward { commands });
        }
    }

    /// Places waiting proposals at the end of a leader's log, in order, with at most `window_entries` open
    /// ones. They are then to be put there.
    pub(super) fn place(&mut self, log: &Log, window_entries: u64, ballot: Ballot) -> Vec<Entry> {
        let window_bytes = self.config.window_bytes;
        let (mut open, mut bytes) = (log.open(), log.bytes());
        let room = window_entries.saturating_sub(open).max(1) as usize;
        let mut entries = Vec::with_capacity(self.proposals.waiting().min(room));
        for index in log.last() + 1.. {
            let fits = |command: &Command| {
                let room = bytes + command.cost_bytes() <= window_bytes;
                open == 0 || (open < window_entries && room)
            };
            let Some(command) = self.proposals.place_next(index, fits) else { break };
            open += 1;
            bytes += command.cost_bytes();
            entries.push(Entry { index, ballot, command });
        }
        entries
    }

    /// How the core stands that holds this member.
    pub(super) fn status(&self, role: Role, promised: Ballot, log: &Log) -> Status {
        let peers = self.config.voters.ids().iter().zip(&self.peers);
        let others = peers.filter(|(node, _)| **node != self.config.node);
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
            peers: others
                .map(|(node, peer)| PeerStatus { node: *node, chosen: peer.chosen, heard_ms: peer.heard_ms })
                .collect(),
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
