//! All nodes of a cluster in one thread: cores, lists of messages between them, memory for a disk.
//!
//! A turn of a node is that of the pipeline: the tick, all messages, then the proposals as one list go into
//! one batch. Its early messages are handed over first, then its entries are "written" (a node's memory keeps
//! them until they are chosen), then the other messages go, those to itself included. Left out is what else a
//! real node does: the pages for a node that lags (here none does), bindings, the queues.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::batch::Batch;
use crate::consensus::config::{Config, Restored};
use crate::consensus::message::Message;
use crate::consensus::protocol::{Input, Proposal, Protocol};
use crate::consensus::protocols::ProtocolName;
use crate::consensus::quorum::Voters;
use crate::consensus::types::{Command, Entry, Index, Kind, NodeId};

use super::super::super::error::Error;

/// The defaults of a node's configuration: timing, window, and how long a proposal is worth something.
const ELECTION_MS: u64 = 300;
const HEARTBEAT_MS: u64 = 50;
const TICK_MS: u64 = 10;
const WINDOW_ENTRIES: u64 = 4096;
const WINDOW_BYTES: usize = 16 << 20;
const TIMEOUT_MS: u64 = 5000;
/// An election, or the end of a run, is done within this, or something is broken.
const PATIENCE_MS: u64 = 20 * ELECTION_MS;
/// Values are slices of one buffer, which begin at this many places in it.
const VALUE_STARTS: u64 = 1024;

/// Cores, and what is under way between them.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    /// The place of the node that led after the election.
    leader: usize,
    now_ms: u64,
    /// Time that passed and is not yet a tick.
    passed: Duration,
    /// What each node sent in the latest turns, the oldest first: under way for `delay` of them.
    way: VecDeque<Vec<Message>>,
    delay: usize,
    proposed: u64,
    values: Bytes,
    value_bytes: usize,
    /// Between nodes.
    messages: u64,
}

/// A core, and what the pipeline would have for it.
struct Node {
    core: Box<dyn Protocol>,
    tick_ms: Option<u64>,
    inbox: Vec<Message>,
    proposals: Vec<Proposal>,
    /// What is written and not yet all chosen, a list for each write.
    written: VecDeque<Vec<Entry>>,
    last_written: Index,
    chosen: Index,
    /// Users' values among what was chosen.
    delivered: u64,
    /// Of all delivered requests in their order: the same on all nodes.
    digest: u64,
}

impl Cluster {
    /// A cluster with a leader that all follow. Messages are under way for `delay` turns.
    pub(super) fn elect(
        protocol: ProtocolName,
        nodes: u8,
        delay: usize,
        value_bytes: u32,
    ) -> Result<Cluster, Error> {
        let value_bytes = value_bytes as usize;
        let mut cluster = Cluster {
            nodes: (1..=NodeId::from(nodes)).map(|id| Node::new(protocol, id, nodes)).collect(),
            leader: 0,
            now_ms: 0,
            passed: Duration::ZERO,
            way: VecDeque::from(vec![Vec::new(); delay]),
            delay,
            proposed: 0,
            values: (0..value_bytes + VALUE_STARTS as usize).map(|at| at as u8).collect(),
            value_bytes,
            messages: 0,
        };
        let elected = |cluster: &Cluster| cluster.nodes.iter().all(|node| cluster.follows(node));
        cluster.wait_for("a leader that all follow", elected)?;
        let leader = cluster.nodes[0].core.status().leader;
        let place = |node: &Node| Some(node.core.status().node) == leader;
        cluster.leader = cluster.nodes.iter().position(place).expect("the leader is one of them");
        Ok(cluster)
    }

    /// Whether a node follows a leader that all follow, and knows what was chosen at the election.
    fn follows(&self, node: &Node) -> bool {
        let (status, first) = (node.core.status(), self.nodes[0].core.status());
        status.leader.is_some() && status.leader == first.leader && status.chosen == status.last
    }

    /// Users' values that the leader delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.nodes[self.leader].delivered
    }

    /// Proposed, and not yet delivered by the leader.
    pub(super) fn outstanding(&self) -> u64 {
        self.proposed - self.delivered()
    }

    /// Messages between nodes so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Time passes; whole ticks of it reach the cores, as one if there are several.
    pub(super) fn pass(&mut self, time: Duration) {
        self.passed += time;
        let ticks = self.passed.as_millis() as u64 / TICK_MS;
        if ticks > 0 {
            self.now_ms += ticks * TICK_MS;
            self.passed -= Duration::from_millis(ticks * TICK_MS);
            for node in &mut self.nodes {
                node.tick_ms = Some(self.now_ms);
            }
        }
    }

    /// Adds this many new values for the next turn of the leader. Their reqids are in no order, like those of
    /// many clients.
    pub(super) fn propose(&mut self, count: u64) {
        let leader = &mut self.nodes[self.leader];
        let from = self.leader as NodeId + 1;
        leader.proposals.reserve(count as usize);
        for number in self.proposed + 1..=self.proposed + count {
            let start = (number % VALUE_STARTS) as usize;
            let value = self.values.slice(start..start + self.value_bytes);
            let reqid = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let command = Command::value(reqid, from, value);
            leader.proposals.push(Proposal { command, deadline_ms: self.now_ms + TIMEOUT_MS });
        }
        self.proposed += count;
    }

    /// A turn of each node that has something to do. What they say arrives `delay` turns later; without delay
    /// it arrives in this turn at the nodes whose turn is still to come, and in the next one at the others.
    pub(super) fn turn(&mut self) {
        let mut sent = Vec::new();
        for place in 0..self.nodes.len() {
            if !self.nodes[place].has_input() {
                continue;
            }
            self.nodes[place].turn(&mut sent);
            if self.delay == 0 {
                self.hand_over(&mut sent);
            }
        }
        if self.delay > 0 {
            self.way.push_back(sent);
            let mut arrived = self.way.pop_front().unwrap_or_default();
            self.hand_over(&mut arrived);
        }
    }

    fn hand_over(&mut self, messages: &mut Vec<Message>) {
        for message in messages.drain(..) {
            self.messages += u64::from(message.from != message.to);
            self.nodes[message.to as usize - 1].inbox.push(message);
        }
    }

    /// No more proposals: all nodes must deliver all that was proposed, in the same order.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let proposed = self.proposed;
        let all = |cluster: &Cluster| cluster.nodes.iter().all(|node| node.delivered == proposed);
        self.wait_for("all proposals to be delivered on all nodes", all)?;
        let digests: Vec<u64> = self.nodes.iter().map(|node| node.digest).collect();
        if digests.iter().any(|digest| *digest != digests[0]) {
            return Err(Error::Message(format!(
                "the nodes delivered different things (digests {digests:x?}): please report this"
            )));
        }
        Ok(())
    }

    fn wait_for(&mut self, what: &str, done: impl Fn(&Cluster) -> bool) -> Result<(), Error> {
        let until_ms = self.now_ms + PATIENCE_MS;
        while !done(self) {
            if self.now_ms >= until_ms {
                let all: Vec<_> = self.nodes.iter().map(|node| node.core.status()).collect();
                return Err(Error::Message(format!(
                    "waited {PATIENCE_MS} ms of the cores' time for {what}, in vain; please report this: {all:?}"
                )));
            }
            self.pass(Duration::from_millis(TICK_MS));
            self.turn();
        }
        Ok(())
    }
}

impl Node {
    fn new(protocol: ProtocolName, node: NodeId, nodes: u8) -> Node {
        let config = Config {
            node,
            voters: Voters::new((1..=NodeId::from(nodes)).collect()),
            election_ms: ELECTION_MS,
            heartbeat_ms: HEARTBEAT_MS,
            window_entries: WINDOW_ENTRIES,
            window_bytes: WINDOW_BYTES,
            seed: node,
        };
        Node {
            core: protocol.core(config, Restored::default()),
            tick_ms: None,
            inbox: Vec::new(),
            proposals: Vec::new(),
            written: VecDeque::new(),
            last_written: 0,
            chosen: 0,
            delivered: 0,
            digest: 0,
        }
    }

    fn has_input(&self) -> bool {
        self.tick_ms.is_some() || !self.inbox.is_empty() || !self.proposals.is_empty()
    }

    fn turn(&mut self, sent: &mut Vec<Message>) {
        let mut batch = Batch::default();
        if let Some(now_ms) = self.tick_ms.take() {
            self.core.step(Input::Tick { now_ms }, &mut batch);
        }
        for message in self.inbox.drain(..) {
            self.core.step(Input::Message(message), &mut batch);
        }
        if !self.proposals.is_empty() {
            self.core.step(Input::Propose(std::mem::take(&mut self.proposals)), &mut batch);
        }
        let Batch { early, entries, messages, chosen, .. } = batch;
        sent.extend(early);
        self.write(entries);
        if let Some(chosen) = chosen {
            self.deliver(chosen);
        }
        sent.extend(messages);
    }

    /// Memory in place of a disk. There is one leader, which replaces nothing, and nobody lacks what is
    /// chosen, so entries come in order.
    fn write(&mut self, entries: Vec<Entry>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        assert_eq!(first.index, self.last_written + 1, "entries are written in the order of the log");
        self.last_written = last.index;
        self.written.push_back(entries);
    }

    fn deliver(&mut self, chosen: Index) {
        while self.chosen < chosen {
            let list = self.written.front().expect("what is chosen here is written here");
            let done = (self.chosen + 1 - list[0].index) as usize;
            for entry in list[done..].iter().take_while(|entry| entry.index <= chosen) {
                self.chosen += 1;
                assert_eq!(entry.index, self.chosen, "entries are chosen in the order of the log");
                if entry.command.kind == Kind::Value {
                    self.delivered += 1;
                    self.digest = self.digest.rotate_left(7) ^ entry.command.request.number;
                }
            }
            if list[list.len() - 1].index == self.chosen {
                self.written.pop_front();
            }
        }
    }
}
