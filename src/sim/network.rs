//! The simulated network: links that lose, double, delay and reorder messages, are cut one way or both, and
//! have to be opened by a hello, as in `node::peers`.
//!
//! A message goes through its wire form on the way. Left out: streams (each message is on its own, so there
//! is more disorder than a connection would allow) and time-outs of connections.

use crate::consensus::message::{Body, ClusterBody};
use crate::consensus::types::NodeId;
use crate::pipeline::trust::Verdict;
use crate::wire::frame::{FrameDecoder, MAX_FRAME_BYTES};
use crate::wire::hello::{Hello, Refusal, RefusalCode};
use crate::wire::message::{Decoded, PeerMessage, decode_message, encode_message, encode_service};

use super::counts::Count;
use super::invariant::{Invariant, broken, hold};
use super::trace::{What, digest, name};
use super::world::{Flight, Step, Thread, World};

/// The most messages on their way over one link; more are dropped, as by a full socket.
const LINK_CAPACITY: usize = 500;

/// The most messages that wait in the sockets of a paused process; more are dropped.
const SOCKET_CAPACITY: usize = 500;

impl World {
    /// A node sends a message to another.
    pub(super) fn transmit(&mut self, message: PeerMessage) {
        let (from, to) = (message.from(), message.to());
        let process = self.node(to).process;
        let ends = (self.node(from).process, process);
        if self.network.link(from, to).connected != Some(ends) {
            return;
        }
        let message = self.by_wire(&message);
        let id = self.network.name_message();
        let text = self.recorder.text(|| text(&message));
        let name = name(&message).into();
        let sent = What::Sent { id, to, name, early: !waits(&message), digest: digest(&message), text };
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

    /// The same message, encoded and decoded again.
    fn by_wire(&mut self, message: &PeerMessage) -> PeerMessage {
        self.buffer.clear();
        let encoded = match message {
            PeerMessage::Core(message) => encode_message(message, &mut self.buffer),
            PeerMessage::Service(service) => encode_service(service, &mut self.buffer),
        };
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
        let (from, to) = (flight.message.from(), flight.message.to());
        let faults = &self.faults;
        let (late_percent, late_us) = (faults.late_percent, faults.late_ms * 1000);
        let mut delay_us = self.network.random.between(faults.delay_min_us, faults.delay_max_us + 1);
        if self.network.percent(late_percent) {
            delay_us += self.network.random.between(0, late_us + 1);
            self.counts.add(Count::Late);
        }
        let link = self.network.link(from, to);
        if link.in_flight >= LINK_CAPACITY {
            return self.drop_message(from, flight.id, "the link is full", Count::NoRoom);
        }
        link.in_flight += 1;
        self.schedule(delay_us, Step::Arrive(Box::new(flight)));
    }

    /// A message arrives, if its link is up and so is the process that it is for.
    pub(super) fn arrive(&mut self, flight: Flight) {
        let (from, to) = (flight.message.from(), flight.message.to());
        self.network.link(from, to).in_flight -= 1;
        if self.network.cut.contains(&(from, to)) {
            return self.drop_message(to, flight.id, "the network is split", Count::CutOff);
        }
        self.take_in(flight);
    }

    /// The network thread of the receiver reads it, or finds it in its socket once it goes on.
    pub(super) fn take_in(&mut self, flight: Flight) {
        let Flight { id, message, process } = flight;
        let (from, to) = (message.from(), message.to());
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
        let name = name(&message);
        match running.inbox.peers.try_push(message) {
            Ok(()) => {
                self.record(to, What::Received { id, from, name: name.into() });
                self.wake(to, Thread::Machine);
            }
            Err(_) => self.drop_message(to, id, "its queue is full", Count::NoRoom),
        }
    }

    // ---- connections ----

    /// A node dials another in a moment, unless it is already about to.
    pub(super) fn dial_soon(&mut self, from: NodeId, to: NodeId) {
        let link = self.network.link(from, to);
        if !link.is_dialled {
            link.is_dialled = true;
            let delay_us = self.network.random.between(200, 5000);
            self.schedule(delay_us, Step::Dial(from, to));
        }
    }

    fn dial_again(&mut self, from: NodeId, to: NodeId, delay_us: u64) {
        self.network.link(from, to).is_dialled = true;
        self.schedule(delay_us, Step::Dial(from, to));
    }

    /// The hello: `to` judges the node that dials it, and `from` the node that it reached. Returns why `to`
    /// refuses `from` for good, if it knew `from` by a different disk.
    #[must_use]
    pub(super) fn dial(&mut self, from: NodeId, to: NodeId) -> Option<Refusal> {
        let ends = (self.node(from).process, self.node(to).process);
        let link = self.network.link(from, to);
        link.is_dialled = false;
        if link.connected == Some(ends) || !self.node(from).is_up() || self.node(to).lost.is_some() {
            return None;
        }
        let cut = &self.network.cut;
        let is_cut = cut.contains(&(from, to)) || cut.contains(&(to, from));
        let answers = |id| self.node(id).running.as_ref().is_some_and(|running| !running.paused);
        if is_cut || !answers(from) || !answers(to) {
            self.dial_again(from, to, 20_000);
            return None;
        }
        let (hello, answer) = (self.running(from).trust.own().clone(), self.running(to).trust.own().clone());
        match self.judge(to, &hello) {
            Judged::Trusted => {}
            Judged::BindsFirst => {
                self.dial_again(from, to, 5_000);
                return None;
            }
            Judged::OtherDisk(refusal) => return Some(refusal),
        }
        match self.judge(from, &answer) {
            Judged::Trusted => {
                self.network.link(from, to).connected = Some(ends);
                self.counts.add(Count::Hellos);
            }
            Judged::BindsFirst => self.dial_again(from, to, 5_000),
            Judged::OtherDisk(_) => self.dial_again(from, to, 20_000),
        }
        None
    }

    /// How a node judges another's hello. A binding that it needs is on its way to its state machine.
    fn judge(&mut self, id: NodeId, hello: &Hello) -> Judged {
        match self.running(id).trust.judge(hello) {
            Verdict::Accept => {
                self.check_bound(id, hello);
                Judged::Trusted
            }
            Verdict::Bind(binding) => {
                // If it is full, the connection is closed, and dialled again.
                let _ = self.running(id).inbox.bindings.try_push(binding);
                self.wake(id, Thread::Machine);
                Judged::BindsFirst
            }
            Verdict::Refuse(refusal) => {
                hold!(
                    Honesty,
                    refusal.code == RefusalCode::WrongDirectory,
                    "node {id} refuses node {}: {}",
                    hello.node,
                    refusal.text
                );
                Judged::OtherDisk(refusal)
            }
        }
    }

    /// A node whose messages count is bound durably to the disk that it has.
    fn check_bound(&self, id: NodeId, hello: &Hello) {
        let bound = self.node(id).account.bound.get(&hello.node).copied();
        hold!(
            Refusal,
            bound == Some(hello.directory),
            "node {id} lets node {} take part with directory {:x}, but has bound it durably to {bound:x?}",
            hello.node,
            hello.directory
        );
    }

    /// The process is gone, and its connections with it; the others dial again.
    pub(super) fn disconnect(&mut self, id: NodeId) {
        self.network.disconnect(id);
        for peer in self.ids().filter(|peer| *peer != id) {
            self.dial_soon(peer, id);
        }
    }
}

/// Whether the message leaves behind a write. A page of chosen entries promises nothing, but storage sends
/// it.
fn waits(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Core(message) => {
            message.body.promises() || matches!(message.body, Body::Cluster(ClusterBody::Learn { .. }))
        }
        PeerMessage::Service(_) => false,
    }
}

/// What a message says, without its ends.
fn text(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Core(message) => message.body.to_string(),
        PeerMessage::Service(service) => service.body.to_string(),
    }
}

/// What a hello led to.
enum Judged {
    Trusted,
    /// The connection is closed until the binding is durable.
    BindsFirst,
    /// The node is bound to a different directory.
    OtherDisk(Refusal),
}
