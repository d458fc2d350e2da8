//! The simulated network: links that lose and delay messages, are cut one way or both, and have to be opened
//! by a hello, as in `node::peers`.
//!
//! A message goes through its wire form on the way. From there on it is a part of a stream (`streams.rs`),
//! or, in a network of datagrams, on its own here: then it may come twice or overtake others, and nobody is
//! told that it was lost.

use crate::consensus::message::{Body, ClusterBody};
use crate::consensus::types::NodeId;
use crate::pipeline::trust::first_word;
use crate::wire::frame::{FrameDecoder, MAX_FRAME_BYTES};
use crate::wire::message::{Decoded, PeerMessage, decode_message, encode_message, encode_service};

use super::counts::Count;
use super::handshakes::Met;
use super::invariant::{Invariant, broken, hold};
use super::streams::BACKOFF_MIN_US;
use super::trace::{What, digest, name};
use super::world::{Flight, Step, Thread, World};

/// The most messages on their way over one link; more are dropped, as by a full socket.
pub(super) const LINK_CAPACITY: usize = 500;

/// The most messages that wait in the sockets of a paused process; more are dropped.
pub(super) const SOCKET_CAPACITY: usize = 500;

impl World {
    /// A node sends a message to another.
    pub(super) fn transmit(&mut self, message: PeerMessage) {
        let (from, to) = (message.from(), message.to());
        let process = self.node(to).process;
        if !self.is_connected(from, to) {
            return;
        }
        let message = self.by_wire(&message);
        let directory = self.running(from).trust.own().directory;
        let id = self.network.name_message();
        let text = self.recorder.text(|| text(&message));
        let name = name(&message).into();
        let sent = What::Sent { id, to, name, early: !waits(&message), digest: digest(&message), text };
        self.record(from, sent);
        self.counts.add(Count::Messages);
        let stream = self.network.link(from, to).stream;
        if stream > 0 {
            return self.send_on(stream, id, message);
        }
        if self.network.percent(self.faults.loss_percent) {
            return self.drop_message(from, id, "lost on the way", Count::Lost);
        }
        if self.network.percent(self.faults.duplicate_percent) {
            self.counts.add(Count::Duplicated);
            self.record(from, What::Duplicated { id });
            self.launch(Flight { id, message: message.clone(), directory, process });
        }
        self.launch(Flight { id, message, directory, process });
    }

    fn is_connected(&mut self, from: NodeId, to: NodeId) -> bool {
        let ends = (self.node(from).process, self.node(to).process);
        let link = self.network.link(from, to);
        link.stream > 0 || link.connected == Some(ends)
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

    pub(super) fn drop_message(&mut self, node: NodeId, id: u64, why: &'static str, count: Count) {
        self.counts.add(count);
        self.record(node, What::Dropped { id, why: why.into() });
    }

    /// How long a message takes.
    pub(super) fn draw_delay_us(&mut self) -> u64 {
        let faults = &self.faults;
        let (late_percent, late_us) = (faults.late_percent, faults.late_ms * 1000);
        let mut delay_us = self.network.random.between(faults.delay_min_us, faults.delay_max_us + 1);
        if self.network.percent(late_percent) {
            delay_us += self.network.random.between(0, late_us + 1);
            self.counts.add(Count::Late);
        }
        delay_us
    }

    fn launch(&mut self, flight: Flight) {
        let (from, to) = (flight.message.from(), flight.message.to());
        let delay_us = self.draw_delay_us();
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
        let (from, to) = (flight.message.from(), flight.message.to());
        let node = self.node_mut(to);
        let is_there = node.process == flight.process;
        let Some(running) = node.running.as_mut().filter(|_| is_there) else {
            self.record(to, What::Dropped { id: flight.id, why: "the node is down".into() });
            return;
        };
        if running.paused {
            if running.socket.len() < SOCKET_CAPACITY {
                running.socket.push(flight);
                return;
            }
            return self.drop_message(to, flight.id, "its socket is full", Count::NoRoom);
        }
        let admitted = match flight.message {
            PeerMessage::Core(_) => self.admit(flight),
            PeerMessage::Service(_) => Some(flight),
        };
        let Some(Flight { id, message, .. }) = admitted else { return };
        let name = name(&message);
        if name == "Ping" {
            // Its arrival is all that it is for: the network thread drops it.
            return self.record(to, What::Received { id, from, name: name.into() });
        }
        match self.running(to).inbox.peers.try_push(message) {
            Ok(()) => {
                self.record(to, What::Received { id, from, name: name.into() });
                self.wake(to, Thread::Machine);
            }
            Err(_) => self.drop_message(to, id, "its queue is full", Count::NoRoom),
        }
    }

    // ---- connections ----

    /// A node dials another in a moment, unless it will sooner.
    pub(super) fn dial_soon(&mut self, from: NodeId, to: NodeId) {
        let delay_us = self.network.random.between(200, 5000);
        self.dial_after(from, to, delay_us);
    }

    fn dial_after(&mut self, from: NodeId, to: NodeId, delay_us: u64) {
        let at_us = self.now_us + delay_us;
        let link = self.network.link(from, to);
        if link.dials_at_us.is_none_or(|earlier_us| at_us < earlier_us) {
            link.dials_at_us = Some(at_us);
            self.schedule(delay_us, Step::Dial(from, to));
        }
    }

    /// Why an attempt to connect comes to nothing, as the time until the next one; `None` if the other end
    /// answers.
    fn unanswered_us(&mut self, from: NodeId, to: NodeId) -> Option<u64> {
        const POLL_US: u64 = 20_000;
        let cut = &self.network.cut;
        let is_cut = cut.contains(&(from, to)) || cut.contains(&(to, from));
        let is_silent = !self.network.is_of_datagrams
            && (self.node(to).is_dark || (0..2).any(|_| self.network.percent(self.faults.loss_percent)));
        let answers = |id| self.node(id).running.as_ref().is_some_and(|running| !running.paused);
        let (is_paused, is_up) = (!answers(from) || !answers(to), self.node(to).is_up());
        match self.network.is_of_datagrams {
            true => (is_cut || is_paused).then_some(POLL_US),
            false if is_cut || is_silent => Some(self.redial_us()),
            false if !is_up => Some(self.back_off(from, to)),
            // The system answers for a process that stands still; its hello comes later.
            false => is_paused.then_some(POLL_US),
        }
    }

    /// The attempt was refused. Returns how long until the next one.
    fn back_off(&mut self, from: NodeId, to: NodeId) -> u64 {
        let most_us = self.redial_us();
        let link = self.network.link(from, to);
        let wait_us = link.backoff_us.clamp(BACKOFF_MIN_US, most_us);
        link.backoff_us = (2 * wait_us).min(most_us);
        self.network.random.between(wait_us / 2, wait_us + 1)
    }

    /// A node dials another, which may not answer. Returns why the dialler ends for good, if it believes
    /// that it lost its disk.
    #[must_use]
    pub(super) fn dial(&mut self, from: NodeId, to: NodeId) -> Option<String> {
        let now_us = self.now_us;
        let link = self.network.link(from, to);
        if link.dials_at_us != Some(now_us) {
            return None;
        }
        link.dials_at_us = None;
        if self.is_connected(from, to) || !self.node(from).is_up() || self.node(to).lost.is_some() {
            return None;
        }
        if let Some(wait_us) = self.unanswered_us(from, to) {
            if !self.running(from).paused {
                self.stranger_listens(from, to);
            }
            self.dial_after(from, to, wait_us);
            return None;
        }
        self.stranger_dials(from, to);
        match self.shake_hands(from, to) {
            Met::Open => {
                self.counts.add(Count::Hellos);
                self.connect(from, to);
                self.transmit(first_word(from, to).into());
            }
            Met::Refused => self.dial_after(from, to, 20_000),
            Met::Ends(why) => return Some(why),
        }
        None
    }

    /// Both ends have accepted each other.
    fn connect(&mut self, from: NodeId, to: NodeId) {
        if self.network.is_of_datagrams {
            let ends = (self.node(from).process, self.node(to).process);
            self.network.link(from, to).connected = Some(ends);
        } else {
            self.hears_dialler(to, from);
            self.open_stream(from, to);
        }
    }

    /// The process is gone, and its connections with it; the others dial again once they notice, which is
    /// immediately if each message is on its own.
    pub(super) fn disconnect(&mut self, id: NodeId) {
        if !self.network.is_of_datagrams {
            return self.end_streams(id, self.node(id).is_dark);
        }
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
