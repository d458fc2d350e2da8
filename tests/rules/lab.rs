//! Lab 2's test bench in virtual time: servers that are connected or cut off, up or crashed, on its simulated
//! network. Reliable, a message takes 1 ms. Unreliable, a request takes up to 26 ms more, and 10 % of
//! requests and of answers are lost. With long reordering two thirds of the answers take 200 to 2200 ms more.
//!
//! Heartbeats come each 100 ms, as the lab wants it, and T is 300 ms. The lab's numbers of commands are those
//! of the applier, [`Lab::one`]: no-ops have none. The observer of `sim::checker` watches each step, so two
//! servers that deliver differently fail immediately.
//!
//! Unlike the lab's `Start`, a proposal here is worth its time: a server that does not lead passes it on, and
//! one that led and was cut off proposes it again elsewhere. Where the lab wants it lost, a test gives it a
//! short time.
//!
//! Left out: time that a disk takes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, RaftBody};
use spaxos::consensus::protocol::Role;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::random::Random;
use spaxos::consensus::types::{Ballot, Command, NodeId, RequestId};
use spaxos::wire::message::encode_message;

use super::common::cluster::{Cluster, Shape};
use super::common::seeds::each_seed;

pub const T: u64 = 300;
pub const HEARTBEAT_MS: u64 = 100;
const TICK_MS: u64 = 10;

/// How long a proposal is worth proposing, if the test does not say.
const TTL_MS: u64 = 2000;

/// Runs a test in a lab of `nodes` servers. The seed is that of the network, the waits and the faults:
/// `SEED=n cargo test --test rules lab` tries others.
pub fn each_lab(protocol: ProtocolName, nodes: u64, test: impl Fn(Lab)) {
    each_seed(1..2, |seed| test(Lab::new(protocol, nodes, seed)));
}

/// The test bench; see the module's first lines.
pub struct Lab {
    pub cluster: Cluster,
    pub unreliable: bool,
    pub long_reordering: bool,
    pub random: Random,
    /// What was sent between servers since the test last looked.
    pub sent: Sent,
    protocol: ProtocolName,
    now_ms: u64,
    /// By time of arrival and order of sending.
    network: BTreeMap<(u64, u64), Message>,
    sequence: u64,
    away: BTreeSet<NodeId>,
    reqid: u64,
}

/// Messages and their bytes on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub requests: u64,
    pub answers: u64,
    pub bytes: u64,
}

impl Lab {
    fn new(protocol: ProtocolName, nodes: u64, seed: u64) -> Lab {
        let shape = Shape {
            protocol,
            nodes,
            election_ms: T,
            heartbeat_ms: HEARTBEAT_MS,
            window_entries: 1024,
            window_bytes: 16 << 20,
            seed,
        };
        Lab {
            cluster: Cluster::new(shape),
            unreliable: false,
            long_reordering: false,
            random: Random::new(seed),
            sent: Sent::default(),
            protocol,
            now_ms: 0,
            network: BTreeMap::new(),
            sequence: 0,
            away: BTreeSet::new(),
            reqid: 0,
        }
    }

    // ---- time and the network ----

    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            while let Some(first) = self.network.first_entry().filter(|first| first.key().0 <= self.now_ms) {
                let message = first.remove();
                let to = message.to;
                let _ = self.cluster.arrive(vec![message]);
                self.carry_out(to);
            }
            if self.now_ms.is_multiple_of(TICK_MS) {
                for id in self.up() {
                    let _ = self.cluster.tick(id, TICK_MS);
                    self.carry_out(id);
                }
            }
        }
    }

    /// Writes are durable immediately, and what a server says to itself arrives immediately.
    fn carry_out(&mut self, id: NodeId) {
        loop {
            self.cluster.flush(id, usize::MAX);
            let flight = std::mem::take(&mut self.cluster.flight);
            let (own, others): (Vec<_>, Vec<_>) = flight.into_iter().partition(|message| message.to == id);
            others.into_iter().for_each(|message| self.send(message));
            if own.is_empty() {
                return;
            }
            let _ = self.cluster.arrive(own);
        }
    }

    fn send(&mut self, message: Message) {
        let mut frame = BytesMut::new();
        encode_message(&message, &mut frame).expect("a core makes pages");
        let is_answer = is_answer(&message.body);
        self.sent.bytes += frame.len() as u64;
        if is_answer {
            self.sent.answers += 1
        } else {
            self.sent.requests += 1
        }
        let mut delay_ms = 1;
        if self.unreliable {
            if self.one_in(10) {
                return;
            }
            delay_ms += if is_answer { 0 } else { self.random.between(0, 27) };
        }
        if self.long_reordering && is_answer && !self.one_in(3) {
            let longest = self.random.between(1, 2001);
            delay_ms += 200 + self.random.between(0, longest);
        }
        self.sequence += 1;
        self.network.insert((self.now_ms + delay_ms, self.sequence), message);
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.random.between(0, count) == 0
    }

    // ---- servers ----

    pub fn up(&self) -> Vec<NodeId> {
        self.cluster.ids().filter(|id| self.cluster.is_up(*id)).collect()
    }

    pub fn connected(&self) -> Vec<NodeId> {
        self.up().into_iter().filter(|id| !self.away.contains(id)).collect()
    }

    pub fn disconnect(&mut self, id: NodeId) {
        self.away.insert(id);
        self.cut();
    }

    pub fn connect(&mut self, id: NodeId) {
        self.away.remove(&id);
        self.cut();
    }

    fn cut(&mut self) {
        let links = self.cluster.ids().flat_map(|from| self.cluster.ids().map(move |to| (from, to)));
        let is_cut = |(from, to): &(NodeId, NodeId)| {
            from != to && (self.away.contains(from) || self.away.contains(to))
        };
        self.cluster.cut = links.filter(is_cut).collect();
    }

    pub fn crash(&mut self, id: NodeId) {
        self.cluster.crash(id);
    }

    /// Up again from its disk, and connected.
    pub fn start(&mut self, id: NodeId) {
        self.cluster.restart(id);
        self.connect(id);
    }

    /// The server `steps` places further on, in a ring.
    pub fn next(&self, id: NodeId, steps: u64) -> NodeId {
        (id - 1 + steps) % self.cluster.shape().nodes + 1
    }

    // ---- what the lab checks ----

    /// Returns who leads among the connected servers. Within five seconds somebody does, and in a Raft term
    /// never more than one.
    pub fn leader(&mut self) -> NodeId {
        for _ in 0..10 {
            self.run(500);
            let mut leaders: BTreeMap<Ballot, NodeId> = BTreeMap::new();
            let mut rounds = BTreeSet::new();
            for id in self.connected() {
                let status = self.cluster.status(id);
                if status.role == Role::Leader {
                    leaders.insert(status.promised, id);
                    let first = rounds.insert(status.promised.round);
                    assert!(first || self.protocol == ProtocolName::Paxos, "two leaders: {leaders:?}");
                }
            }
            if let Some((_, leader)) = leaders.pop_last() {
                return leader;
            }
        }
        panic!("{}: no leader within five seconds among {:?}", self.protocol, self.connected());
    }

    /// Nobody leads among the connected servers.
    pub fn no_leader(&self) {
        let leaders: Vec<_> = self.connected().into_iter().filter(|id| self.leads(*id)).collect();
        assert!(leaders.is_empty(), "{}: {leaders:?} lead", self.protocol);
    }

    pub fn leads(&self, id: NodeId) -> bool {
        self.cluster.is_up(id) && self.cluster.status(id).role == Role::Leader
    }

    /// The term, which all connected servers agree on.
    pub fn term(&self) -> u64 {
        let rounds = self.connected().into_iter().map(|id| self.cluster.status(id).promised.round);
        let rounds: BTreeSet<_> = rounds.collect();
        assert_eq!(rounds.len(), 1, "{}: terms {rounds:?}", self.protocol);
        rounds.into_iter().next().expect("somebody is connected")
    }

    /// A server's client proposes a command, which is worth proposing for `ttl_ms`. Returns its request.
    pub fn propose(&mut self, id: NodeId, payload: &[u8], ttl_ms: u64) -> u64 {
        self.reqid += 1;
        self.propose_again(id, self.reqid, payload, ttl_ms);
        self.reqid
    }

    fn propose_again(&mut self, id: NodeId, reqid: u64, payload: &[u8], ttl_ms: u64) {
        let command = Command::value(reqid, id, payload.to_vec());
        let _ = self.cluster.propose(id, vec![command], ttl_ms);
        self.carry_out(id);
    }

    /// How many servers delivered a request.
    pub fn delivered(&self, reqid: u64) -> usize {
        let Some(index) = self.cluster.checker.delivery(RequestId::user(reqid)) else { return 0 };
        self.up().into_iter().filter(|id| self.cluster.applied(*id) >= index).count()
    }

    /// The number of a delivered command, as the lab counts: from 1, without no-ops.
    pub fn number(&self, reqid: u64) -> usize {
        let index = self.cluster.checker.delivery(RequestId::user(reqid)).expect("it was delivered");
        self.cluster.checker.log()[..index as usize].iter().flatten().count()
    }

    /// Gets a command delivered by at least `expected` servers within ten seconds, whichever of them leads in
    /// the meantime. Returns its number.
    pub fn one(&mut self, expected: usize) -> usize {
        self.one_of(b"command", expected)
    }

    pub fn one_of(&mut self, payload: &[u8], expected: usize) -> usize {
        self.reqid += 1;
        let reqid = self.reqid;
        let until_ms = self.now_ms + 10_000;
        while self.now_ms < until_ms {
            let leader = self.connected().into_iter().find(|id| self.leads(*id));
            if let Some(leader) = leader {
                self.propose_again(leader, reqid, payload, TTL_MS);
            }
            for _ in 0..TTL_MS / 10 {
                self.run(10);
                if self.delivered(reqid) >= expected {
                    return self.number(reqid);
                }
                if leader.is_none_or(|leader| !self.leads(leader)) {
                    break;
                }
            }
        }
        panic!("{}: no agreement of {expected} within ten seconds", self.protocol);
    }
}

/// A message that answers another one; all others ask.
fn is_answer(body: &Body) -> bool {
    matches!(
        body,
        Body::Cluster(
            ClusterBody::PreVoteReply { .. }
                | ClusterBody::HeartbeatReply { .. }
                | ClusterBody::Refuse { .. }
                | ClusterBody::Learn { .. }
                | ClusterBody::Confirmed { .. }
                | ClusterBody::ReadReply { .. }
        ) | Body::Paxos(PaxosBody::Promise { .. } | PaxosBody::Accepted { .. })
            | Body::Raft(RaftBody::Vote { .. } | RaftBody::Appended { .. } | RaftBody::Mismatch { .. })
    )
}
