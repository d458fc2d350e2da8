//! Connections as TCP makes them, with the rules by which the product keeps them.
//!
//! *What the system does* (Linux; times are as measured there, and virtual time is real time): bytes arrive
//! in order, each once. What is lost is sent again: first after two round trips (a probe, or as the answers
//! to what follows tell of the loss), then after 0.2, 0.4, 0.8 s and so on, one segment at a time until
//! something is acknowledged. An acknowledgement takes the way back, so a link that is cut one way carries
//! nothing for long in either direction. What comes for a process that is gone is answered with a reset; so
//! is what comes for a connection that a machine lost with its power. Until then its sender does not know
//! (half-open). What a killed process had handed over is still sent. A process that stands still has its
//! bytes acknowledged until its socket is full.
//!
//! *What the product does* (`node/peers/limits.rs`): a ping after T/2 without anything else; a connection
//! whose bytes stay unacknowledged for 2 T (0.5 to 10 s) is given up with what waits in it, and dialled
//! again; an attempt to connect that is not answered within T (at least 0.1 s) is replaced by a fresh one;
//! back-off is never longer than that; who hears a node dial in dials it immediately; a newer connection
//! replaces an older one of the same node.
//!
//! So messages of one connection come in order and once, perhaps seconds late and in one burst; those around
//! a new connection are lost. The protocols promise to survive more than that. For it there is the other
//! network ([`Faults::datagrams`](super::faults::Faults::datagrams)), in which each message is on its own.
//!
//! Left out: bandwidth, segments that hold several messages or parts of one, the end of the listener, the
//! SYN that a system sends again after 1 s (it is replaced before), the way of an acknowledgement (it
//! arrives immediately).

use crate::consensus::types::NodeId;
use crate::wire::message::{PeerMessage, Service, ServiceBody};

use super::counts::Count;
use super::invariant::hold;
use super::network::{LINK_CAPACITY, SOCKET_CAPACITY};
use super::world::{Flight, Step, Stream, World};

/// Linux waits at least this long until it sends again what was not acknowledged; then twice as long each
/// time.
const RETRANSMIT_US: u64 = 200_000;

/// The product waits at least this long before it dials again; then twice as long each time.
pub(super) const BACKOFF_MIN_US: u64 = 50_000;

impl World {
    /// A hello was accepted at both ends: from now on there is a connection, in place of any older one.
    pub(super) fn open_stream(&mut self, from: NodeId, to: NodeId) {
        for older in self.network.streams_of(from, to) {
            self.drop_stream(older, "a newer connection replaced its own");
        }
        let stream = Stream::new(from, to, self.node(from).directory, self.node(to).process, self.now_us);
        let id = self.network.add_stream(stream);
        let link = self.network.link(from, to);
        (link.stream, link.backoff_us) = (id, BACKOFF_MIN_US);
        self.schedule(self.ping_every_us(), Step::Ping(id));
    }

    /// The sender's system takes a message, if it has room.
    pub(super) fn send_on(&mut self, id: u64, message_id: u64, message: PeerMessage) {
        let now_us = self.now_us;
        let stream = self.network.stream(id).expect("a link names a connection that there is");
        if stream.unacknowledged.len() >= LINK_CAPACITY {
            let from = stream.from;
            return self.drop_message(from, message_id, "its out-buffer is full", Count::NoRoom);
        }
        let number = stream.push(message_id, message, now_us);
        self.launch_segment(id, number);
    }

    /// A segment leaves, for the first time or again.
    fn launch_segment(&mut self, id: u64, number: u64) {
        let delay_us = self.draw_delay_us();
        let is_lost = self.network.percent(self.faults.loss_percent);
        let Some(segment) = self.network.stream(id).and_then(|stream| stream.segment(number)) else { return };
        segment.is_lost = is_lost;
        if is_lost {
            self.counts.add(Count::Lost);
            self.time_stream(id);
        } else {
            self.schedule(delay_us, Step::Segment(id, number));
        }
    }

    fn lose_segment(&mut self, id: u64, number: u64, count: Count) {
        self.counts.add(count);
        let Some(stream) = self.network.stream(id) else { return };
        if let Some(segment) = stream.segment(number) {
            segment.is_lost = !segment.has_arrived;
        }
        self.time_stream(id);
    }

    /// A segment comes to the machine that it is for.
    pub(super) fn segment_arrives(&mut self, id: u64, number: u64) {
        let Some(stream) = self.network.stream(id) else { return };
        let (from, to, reader) = (stream.from, stream.to, stream.reader);
        let directory = stream.directory;
        if self.network.cut.contains(&(from, to)) {
            return self.lose_segment(id, number, Count::CutOff);
        }
        let node = self.node(to);
        let reads = node.running.as_ref().filter(|_| node.process == reader);
        let Some(running) = reads else {
            if !node.is_dark {
                self.reset(id);
            }
            return self.lose_segment(id, number, Count::CutOff);
        };
        if running.paused && running.socket.len() >= SOCKET_CAPACITY {
            return self.lose_segment(id, number, Count::NoRoom);
        }
        if let Some(segment) = self.network.stream(id).and_then(|stream| stream.segment(number)) {
            (segment.has_arrived, segment.is_lost) = (true, false);
        }
        while let Some((message_id, message)) = self.network.stream(id).and_then(Stream::arrived) {
            self.network.stream(id).expect("it was there").next += 1;
            self.take_in(Flight { id: message_id, message, directory, process: reader });
        }
        self.acknowledge(id);
    }

    /// The sender learns what arrived, unless the acknowledgement is lost, and sends what was not.
    fn acknowledge(&mut self, id: u64) {
        let now_us = self.now_us;
        let is_lost = self.network.percent(self.faults.loss_percent);
        let Some(stream) = self.network.stream(id) else { return };
        let back = (stream.to, stream.from);
        if is_lost || self.network.cut.contains(&back) {
            return self.time_stream(id);
        }
        let stream = self.network.stream(id).expect("it was there");
        if stream.acknowledge(now_us) {
            for number in stream.lost() {
                self.counts.add(Count::Resent);
                self.launch_segment(id, number);
            }
        }
    }

    /// Schedules that something is sent again, or that the connection is given up, unless that is scheduled.
    fn time_stream(&mut self, id: u64) {
        let (now_us, given_up_us) = (self.now_us, self.given_up_us());
        let probe_us = self.probe_us();
        let Some(stream) = self.network.stream(id).filter(|stream| !stream.is_timed) else { return };
        let wait_us = match stream.tries {
            0 => probe_us,
            tries => RETRANSMIT_US << (tries - 1).min(16),
        };
        let left_us = (stream.waits_since_us + given_up_us).saturating_sub(now_us);
        stream.is_timed = true;
        self.schedule(wait_us.min(left_us), Step::Resend(id));
    }

    /// Nothing was acknowledged for a while.
    pub(super) fn resend(&mut self, id: u64) {
        let (now_us, given_up_us, probe_us) = (self.now_us, self.given_up_us(), self.probe_us());
        let Some(stream) = self.network.stream(id) else { return };
        stream.is_timed = false;
        if stream.unacknowledged.is_empty() {
            return;
        }
        if now_us >= stream.waits_since_us + given_up_us {
            self.counts.add(Count::GivenUp);
            return self.close_stream(id, "its connection was given up");
        }
        if now_us < stream.waits_since_us + probe_us {
            return self.time_stream(id);
        }
        stream.tries += 1;
        // If none was lost, the acknowledgement of the first may have been.
        let number = stream.lost().first().copied().unwrap_or(stream.first);
        self.counts.add(Count::Resent);
        self.launch_segment(id, number);
        self.time_stream(id);
    }

    /// A connection is kept in use, so that its end is noticed.
    pub(super) fn ping(&mut self, id: u64) {
        let (now_us, ping_every_us) = (self.now_us, self.ping_every_us());
        let Some(stream) = self.network.stream(id) else { return };
        let (from, to, last_sent_us) = (stream.from, stream.to, stream.last_sent_us);
        let mut next_us = last_sent_us + ping_every_us;
        if self.network.link(from, to).stream != id {
            return;
        }
        if next_us <= now_us {
            next_us = now_us + ping_every_us;
            if self.node(from).running.as_ref().is_some_and(|running| !running.paused) {
                self.counts.add(Count::Pings);
                self.transmit(PeerMessage::Service(Service { from, to, body: ServiceBody::Ping }));
            }
        }
        self.schedule(next_us - now_us, Step::Ping(id));
    }

    // ---- how a connection ends ----

    /// The system of the other end knows nothing of the connection, and says so.
    fn reset(&mut self, id: u64) {
        let Some(stream) = self.network.stream(id) else { return };
        let back = (stream.to, stream.from);
        if !self.network.cut.contains(&back) {
            let delay_us = self.draw_delay_us();
            self.schedule(delay_us, Step::Reset(id));
        }
    }

    pub(super) fn reset_arrives(&mut self, id: u64) {
        if self.network.stream(id).is_some() {
            self.counts.add(Count::Resets);
            self.close_stream(id, "its connection was reset");
        }
    }

    /// The sender's end is closed: what waits in it is lost, and its node dials again.
    fn close_stream(&mut self, id: u64, why: &'static str) {
        let Some((from, to)) = self.drop_stream(id, why) else { return };
        if self.network.link(from, to).stream == id {
            self.network.link(from, to).stream = 0;
            self.dial_soon(from, to);
        }
    }

    /// Forgets a connection. Returns its ends.
    fn drop_stream(&mut self, id: u64, why: &'static str) -> Option<(NodeId, NodeId)> {
        let stream = self.network.remove_stream(id)?;
        let taken = (stream.next - stream.first) as usize;
        for segment in stream.unacknowledged.iter().skip(taken) {
            self.drop_message(stream.from, segment.id, why, Count::Cut);
        }
        Some((stream.from, stream.to))
    }

    /// A process ended. If it was killed, its system resets the connections that it read, and goes on to
    /// send what was handed over; if its machine lost power, nobody is told.
    pub(super) fn end_streams(&mut self, node: NodeId, is_dark: bool) {
        for (id, from, to) in self.network.ends_of_streams() {
            if from == node {
                self.network.link(from, to).stream = 0;
                if is_dark {
                    self.drop_stream(id, "its machine lost power");
                }
            } else if to == node && !is_dark {
                self.reset(id);
            }
        }
        for peer in self.ids().filter(|peer| *peer != node) {
            self.network.link(node, peer).dials_at_us = None;
        }
    }

    /// A node is heard to dial in: it is there, and its earlier processes are not.
    pub(super) fn hears_dialler(&mut self, listener: NodeId, dialler: NodeId) {
        let process = self.node(dialler).process;
        let link = self.network.link(listener, dialler);
        link.backoff_us = BACKOFF_MIN_US;
        let id = link.stream;
        match self.network.stream(id).map(|stream| stream.reader) {
            Some(reader) if reader != process => self.close_stream(id, "its process had ended"),
            Some(_) => {}
            None => self.dial_soon(listener, dialler),
        }
    }

    // ---- how patient systems and nodes are ----

    /// How long a system waits before it first sends something again: two round trips.
    fn probe_us(&self) -> u64 {
        4 * self.faults.delay_max_us
    }

    fn ping_every_us(&self) -> u64 {
        self.election_ms * 1000 / 2
    }

    fn given_up_us(&self) -> u64 {
        (2 * self.election_ms * 1000).clamp(500_000, 10_000_000)
    }

    /// How long an attempt to connect may take, and the longest back-off.
    pub(super) fn redial_us(&self) -> u64 {
        (self.election_ms * 1000).clamp(100_000, self.given_up_us())
    }

    /// Every connection that a link names is there, and what waits in it is bounded.
    pub(super) fn check_streams(&mut self) {
        for (id, from, to) in self.network.ends_of_streams() {
            let waits = self.network.stream(id).map_or(0, |stream| stream.unacknowledged.len());
            hold!(
                Bounds,
                waits <= LINK_CAPACITY,
                "{waits} messages wait in a connection from {from} to {to}"
            );
        }
    }
}

#[cfg(test)]
mod tests;
