//! The simulated network: links that lose, double, delay and reorder messages, are cut one way or both, and
//! have to be opened by a hello, as in `node::peers`.
//!
//! A message goes through its wire form on the way. Left out: streams (each message is on its own, so there
//! is more disorder than a connection would allow) and time-outs of connections.

use std::collections::{BTreeMap, BTreeSet};

use crate::consensus::message::{Body, ClusterBody, Message};
use crate::consensus::random::Random;
use crate::consensus::types::NodeId;
use crate::pipeline::trust::Verdict;
use crate::wire::frame::{FrameDecoder, MAX_FRAME_BYTES};
use crate::wire::hello::{Hello, RefusalCode};
use crate::wire::message::{Decoded, decode_message, encode_message};

use super::cluster::{Cluster, Step};
use super::counts::Count;
use super::invariant::{Invariant, broken, hold};
use super::node::Thread;
use super::trace::{What, digest, name};

/// Messages on their way over one link at most; more are dropped, as by a full socket.
const LINK_CAPACITY: usize = 500;

/// What waits in the sockets of a paused process at most; more is dropped.
pub(super) const SOCKET_CAPACITY: usize = 500;

pub(super) struct Network {
    random: Random,
    /// Links that lose everything, from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    last_message: u64,
}

#[derive(Default)]
struct Link {
    /// The processes at both ends, once the hello was accepted.
    connected: Option<(u64, u64)>,
    is_dialled: bool,
    in_flight: usize,
}

/// A message on its way.
#[derive(Clone)]
pub(super) struct Flight {
    pub id: u64,
    pub message: Message,
    /// The process that it is for.
    pub process: u64,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        Network {
            random: Random::new(seed ^ 0x0E7),
            cut: BTreeSet::new(),
            links: BTreeMap::new(),
            last_message: 0,
        }
    }

    fn percent(&mut self, likelihood: u64) -> bool {
        self.random.between(0, 100) < likelihood
    }
}

impl Cluster {
    /// From now on these links lose everything, and no others do.
    pub fn cut(&mut self, links: BTreeSet<(NodeId, NodeId)>) {
        self.network.cut = links;
    }

    /// A node sends a message to another.
    pub(super) fn transmit(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        let process = self.node(to).process;
        let ends = (self.node(from).process, process);
        let link = self.network.links.entry((from, to)).or_default();
        if link.connected != Some(ends) {
            return;
        }
        let message = self.by_wire(&message);
        self.network.last_message += 1;
        let id = self.network.last_message;
        let text = self.recorder.text(|| message.body.to_string());
        // A page of chosen entries promises nothing, but storage sends it, behind a write.
        let waits =
            message.body.promises() || matches!(message.body, Body::Cluster(ClusterBody::Learn { .. }));
        let sent = What::Sent {
            id,
            to,
            name: name(&message.body).into(),
            early: !waits,
            digest: digest(&message),
            text,
        };
        self.record(from, sent);
        self.counts.add(Count::Messages);
        if self.network.percent(self.faults.loss_percent) {
            return self.drop_message(from, id, "lost on the way", Count::Lost);
        }
        if self.network.percent(self.faults.duplicate_percent) {
            self.counts.add(Count::Duplicated);
            self.record(from, What::Duplicated { id });
            self.launch(Flight { id, message: message.clone(), process });
        }
        self.launch(Flight { id, message, process });
    }

    /// The same message, by way of its bytes.
    fn by_wire(&mut self, message: &Message) -> Message {
        self.buffer.clear();
        let encoded = encode_message(message, &mut self.buffer);
        hold!(Honesty, encoded.is_ok(), "{message} cannot be encoded: {encoded:?}");
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let frame = decoder.decode(&mut &self.buffer[..]);
        let Ok(Some(frame)) = frame else { broken(Invariant::Honesty, format_args!("{message}: {frame:?}")) };
        match decode_message(frame) {
            Ok(Decoded::Message(decoded)) => {
                hold!(Honesty, decoded == *message, "{message} is decoded as {decoded}");
                decoded
            }
            other => broken(Invariant::Honesty, format_args!("{message} is decoded as {other:?}")),
        }
    }

    fn drop_message(&mut self, node: NodeId, id: u64, why: &'static str, count: Count) {
        self.counts.add(count);
        self.record(node, What::Dropped { id, why: why.into() });
    }

    fn launch(&mut self, flight: Flight) {
        let ends = (flight.message.from, flight.message.to);
        let faults = &self.faults;
        let (late_percent, late_us) = (faults.late_percent, faults.late_ms * 1000);
        let mut delay_us = self.network.random.between(faults.delay_min_us, faults.delay_max_us + 1);
        if self.network.percent(late_percent) {
            delay_us += self.network.random.between(0, late_us + 1);
            self.counts.add(Count::Late);
        }
        let link = self.network.links.entry(ends).or_default();
        if link.in_flight >= LINK_CAPACITY {
            return self.drop_message(ends.0, flight.id, "the link is full", Count::NoRoom);
        }
        link.in_flight += 1;
        self.schedule(delay_us, Step::Arrive(Box::new(flight)));
    }

    /// A message is there, if its link is up and the process that it is for.
    pub(super) fn arrive(&mut self, flight: Flight) {
        let ends = (flight.message.from, flight.message.to);
        self.network.links.entry(ends).or_default().in_flight -= 1;
        if self.network.cut.contains(&ends) {
            return self.drop_message(ends.1, flight.id, "the network is split", Count::CutOff);
        }
        self.take_in(flight);
    }

    /// The network thread of the receiver reads it, or finds it in its socket once it goes on.
    pub(super) fn take_in(&mut self, flight: Flight) {
        let Flight { id, message, process } = flight;
        let (from, to) = (message.from, message.to);
        let node = self.node_mut(to);
        let is_there = node.process == process;
        let Some(running) = node.running.as_mut().filter(|_| is_there) else {
            self.record(to, What::Dropped { id, why: "the node is down".into() });
            return;
        };
        if running.paused {
            if running.socket.len() < SOCKET_CAPACITY {
                running.socket.push(Flight { id, message, process });
                return;
            }
            return self.drop_message(to, id, "its socket is full", Count::NoRoom);
        }
        let name = name(&message.body);
        match running.inbox.peers.try_push(message) {
            Ok(()) => {
                self.record(to, What::Received { id, from, name: name.into() });
                self.wake(to, Thread::Machine);
            }
            Err(_) => self.drop_message(to, id, "its queue is full", Count::NoRoom),
        }
    }

    // ---- connections ----

    /// A node dials another in a moment, unless it does already.
    pub(super) fn dial_soon(&mut self, from: NodeId, to: NodeId) {
        let link = self.network.links.entry((from, to)).or_default();
        if !link.is_dialled {
            link.is_dialled = true;
            let delay_us = self.network.random.between(200, 5000);
            self.schedule(delay_us, Step::Dial(from, to));
        }
    }

    fn dial_again(&mut self, from: NodeId, to: NodeId, delay_us: u64) {
        self.network.links.entry((from, to)).or_default().is_dialled = true;
        self.schedule(delay_us, Step::Dial(from, to));
    }

    /// The hello: `to` judges who dials it, and `from` whom it reached.
    pub(super) fn dial(&mut self, from: NodeId, to: NodeId) {
        let ends = (self.node(from).process, self.node(to).process);
        let link = self.network.links.entry((from, to)).or_default();
        link.is_dialled = false;
        if link.connected == Some(ends) || !self.node(from).is_up() || self.node(to).lost.is_some() {
            return;
        }
        let cut = &self.network.cut;
        let is_cut = cut.contains(&(from, to)) || cut.contains(&(to, from));
        let answers = |id| self.node(id).running.as_ref().is_some_and(|running| !running.paused);
        if is_cut || !answers(from) || !answers(to) {
            return self.dial_again(from, to, 20_000);
        }
        let (hello, answer) = (self.running(from).trust.own().clone(), self.running(to).trust.own().clone());
        match self.running(to).trust.judge(&hello) {
            Verdict::Accept => self.check_bound(to, &hello),
            Verdict::Bind(binding) => {
                // Full: the connection is closed, and dialled again.
                let _ = self.running(to).inbox.bindings.try_push(binding);
                self.wake(to, Thread::Machine);
                return self.dial_again(from, to, 5_000);
            }
            Verdict::Refuse(refusal) if refusal.code == RefusalCode::WrongDirectory => {
                return self.lose(from, "another disk was known", &refusal.text);
            }
            Verdict::Refuse(refusal) => {
                broken(Invariant::Honesty, format_args!("node {to} refuses node {from}: {}", refusal.text))
            }
        }
        match self.running(from).trust.judge(&answer) {
            Verdict::Accept => self.check_bound(from, &answer),
            Verdict::Bind(binding) => {
                let _ = self.running(from).inbox.bindings.try_push(binding);
                self.wake(from, Thread::Machine);
                return self.dial_again(from, to, 5_000);
            }
            Verdict::Refuse(refusal) => {
                hold!(
                    Honesty,
                    refusal.code == RefusalCode::WrongDirectory,
                    "node {from} refuses node {to}, which it dialled: {}",
                    refusal.text
                );
                return self.dial_again(from, to, 20_000);
            }
        }
        self.network.links.entry((from, to)).or_default().connected = Some(ends);
        self.counts.add(Count::Hellos);
    }

    /// Whose messages count is bound durably to the disk that it has.
    fn check_bound(&self, id: NodeId, hello: &Hello) {
        let bound = self.node(id).bound.get(&hello.node).copied();
        hold!(
            Refusal,
            bound == Some(hello.directory),
            "node {id} lets node {} take part with directory {:x}, and is bound durably to {bound:x?}",
            hello.node,
            hello.directory
        );
    }

    /// The process is gone, and its connections with it; the others dial again.
    pub(super) fn disconnect(&mut self, id: NodeId) {
        for ((from, to), link) in &mut self.network.links {
            if *from == id || *to == id {
                link.connected = None;
            }
        }
        for peer in self.ids().filter(|peer| *peer != id) {
            self.dial_soon(peer, id);
        }
    }
}
