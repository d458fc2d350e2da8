//! The connections that peers (or strangers) dialled to this node: accepted, greeted, and then only read.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mio::Token;
use mio::net::TcpListener;

use crate::consensus::types::NodeId;
use crate::pipeline::inbox::Inbox;
use crate::wire::frame::MAX_FRAME_BYTES;
use crate::wire::hello::{Greeting, Hello};
use crate::wire::message::{Decoded, PeerMessage, ServiceBody, decode_message};

use super::socket::{Ended, ReadEnd, Socket};
use super::{PeerNetwork, TROUBLE_EVERY};
use crate::logfile::RateLimited;
use crate::pipeline::trust::Verdict;

/// The highest number of connections accepted in one turn.
const ACCEPTS_A_TURN: usize = 64;

/// The pause after the system refused to accept (no more file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// All inbound connections, and the listening socket.
///
/// Invariant: at most `max_silent` connections have not sent a hello, and at most one connection of each peer
/// is held, and one open; so their number is bounded.
pub(super) struct Inbounds {
    listener: TcpListener,
    /// By token, so the oldest come first.
    connections: BTreeMap<Token, Inbound>,
    /// When one more connection comes, the oldest silent one is closed: a real peer sends its hello
    /// immediately.
    max_silent: usize,
    /// When to accept even without an event.
    accept_at: Option<Instant>,
    /// Connections whose turn ended before they were drained.
    unread: Vec<Token>,
    trouble: RateLimited,
}

struct Inbound {
    socket: Socket,
    address: SocketAddr,
    stage: Stage,
    /// When it is closed, unless it is open.
    deadline: Instant,
}

enum Stage {
    Silent,
    /// From a node that is not bound yet: it is not read.
    Held(Hello),
    /// From this peer: its messages are read.
    Open(NodeId),
}

/// The most connections at a time that peers and strangers open to a node with so many peers: see
/// [`Inbounds`].
pub(super) fn most_inbound(peers: usize) -> usize {
    max_silent(peers) + 2 * peers
}

fn max_silent(peers: usize) -> usize {
    3 * peers + 64
}

impl Inbounds {
    pub(super) fn new(listener: TcpListener, peers: usize) -> Inbounds {
        Inbounds {
            listener,
            connections: BTreeMap::new(),
            max_silent: max_silent(peers),
            accept_at: None,
            unread: Vec::new(),
            trouble: RateLimited::new(TROUBLE_EVERY),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn is_open(&self, node: NodeId) -> bool {
        self.connections.values().any(|inbound| matches!(inbound.stage, Stage::Open(it) if it == node))
    }

    /// When there is something to do.
    pub(super) fn timer(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let closing = self.connections.values().filter(|inbound| !matches!(inbound.stage, Stage::Open(_)));
        let unread = (!self.unread.is_empty()).then_some(now);
        closing.map(|inbound| inbound.deadline).chain(self.accept_at).chain(unread)
    }

    fn make_room_for_silent(&mut self) {
        let mut silent = self.connections.iter().filter(|(_, it)| matches!(it.stage, Stage::Silent));
        let oldest = silent.next().map(|(token, _)| *token);
        if let Some(oldest) = oldest
            && 1 + silent.count() >= self.max_silent
        {
            self.connections.remove(&oldest);
        }
    }

    /// Closes older connections of a peer when a newer one replaces them.
    fn remove(&mut self, older: impl Fn(&Stage) -> bool) {
        self.connections.retain(|_, inbound| !older(&inbound.stage));
    }
}

impl PeerNetwork {
    /// Accepts what waits.
    pub(super) fn accept(&mut self, now: Instant) {
        self.inbounds.accept_at = None;
        for _ in 0..ACCEPTS_A_TURN {
            match self.inbounds.listener.accept() {
                Ok((stream, address)) => {
                    let token = self.tokens.next();
                    self.inbounds.make_room_for_silent();
                    // An error here means that the connection is already gone.
                    let patience = self.limits.unacknowledged_timeout;
                    if let Ok(socket) = Socket::new(stream, token, self.poll.registry(), patience) {
                        let deadline = now + self.limits.hello_timeout;
                        let inbound = Inbound { socket, address, stage: Stage::Silent, deadline };
                        self.inbounds.connections.insert(token, inbound);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => (),
                Err(error) => {
                    // Waiting connections stay in the kernel's queue, and no further event will report them.
                    self.inbounds.accept_at = Some(now + ACCEPT_PAUSE);
                    self.inbounds.trouble.warn(now, || {
                        format!(
                            "cannot accept peers: {error}; raise the limit of open files if this persists"
                        )
                    });
                    return;
                }
            }
        }
        self.inbounds.accept_at = Some(now);
    }

    /// Reads a connection and acts on what it says; closes it when it has ended or sent something wrong.
    pub(super) fn serve(&mut self, token: Token, to_end: bool, inbox: &Inbox, now: Instant) {
        let Some(mut inbound) = self.inbounds.connections.remove(&token) else { return };
        if matches!(inbound.stage, Stage::Held(_)) {
            self.inbounds.connections.insert(token, inbound);
            return;
        }
        let mut payloads = vec![];
        let read = inbound.socket.read(&mut self.scratch, to_end, &mut payloads);
        let handled = self.handle_payloads(&mut inbound, payloads, inbox, now);
        match handled.and(read) {
            Ok(end) => {
                if end == ReadEnd::More {
                    self.inbounds.unread.push(token);
                }
                self.inbounds.connections.insert(token, inbound);
            }
            Err(why) => self.report_inbound_end(&inbound, &why, now),
        }
    }

    fn handle_payloads(
        &mut self,
        inbound: &mut Inbound,
        payloads: Vec<Bytes>,
        inbox: &Inbox,
        now: Instant,
    ) -> Result<(), Ended> {
        let mut payloads = payloads.into_iter();
        if let Stage::Silent = inbound.stage {
            let Some(payload) = payloads.next() else { return Ok(()) };
            if payloads.next().is_some() {
                return Err(Ended::Broken("sent more before its hello was answered".to_owned()));
            }
            return match Greeting::decode(payload)? {
                Greeting::Hello(hello) => self.welcome(inbound, hello, inbox, now),
                Greeting::Refusal(refusal) => Err(Ended::RefusedByPeer(refusal)),
            };
        }
        let Stage::Open(node) = inbound.stage else { return Ok(()) };
        payloads.try_for_each(|payload| self.take_message(node, payload))
    }

    fn take_message(&mut self, node: NodeId, payload: Bytes) -> Result<(), Ended> {
        let counters = self.counters.entry(node).or_default();
        let message = match decode_message(payload)? {
            Decoded::Message(message) => message,
            Decoded::UnknownKind(_) => {
                counters.unknown_kinds += 1;
                return Ok(());
            }
        };
        let this = self.trust.own().node;
        if message.from() != node || message.to() != this {
            return Err(Ended::Broken(format!(
                "a message from node {} to node {} on the connection of node {node} to node {this}",
                message.from(),
                message.to()
            )));
        }
        counters.received += 1;
        let is_ping = matches!(&message, PeerMessage::Service(it) if it.body == ServiceBody::Ping);
        if !is_ping {
            self.arrived.push_back(message);
        }
        Ok(())
    }

    /// Judges a hello and answers it.
    fn welcome(
        &mut self,
        inbound: &mut Inbound,
        hello: Hello,
        inbox: &Inbox,
        now: Instant,
    ) -> Result<(), Ended> {
        let node = hello.node;
        match self.trust.judge(&hello) {
            Verdict::Accept => {
                answer(inbound, &Greeting::Hello(self.trust.own().clone()))?;
                self.inbounds.remove(|stage| match stage {
                    Stage::Silent => false,
                    Stage::Held(held) => held.node == node,
                    Stage::Open(open) => *open == node,
                });
                inbound.socket.set_limit(MAX_FRAME_BYTES);
                inbound.stage = Stage::Open(node);
                log::info!("node {node} sends from {} (its start {})", inbound.address, hello.start);
                self.note_client_address(&hello);
                if let Some(outbound) = self.outbounds.get_mut(&node) {
                    outbound.handle_alive(hello.start, now);
                }
            }
            Verdict::Bind(binding) => {
                self.ask_binding(binding, inbox, now)?;
                self.inbounds.remove(|stage| matches!(stage, Stage::Held(held) if held.node == node));
                inbound.stage = Stage::Held(hello);
                inbound.deadline = now + self.limits.hello_timeout;
            }
            Verdict::Refuse(refusal) => {
                answer(inbound, &Greeting::Refusal(refusal.clone()))?;
                return Err(Ended::Refused(refusal));
            }
        }
        Ok(())
    }

    /// A node is bound now: answers its connection, if one is held.
    pub(super) fn welcome_held(&mut self, node: NodeId, inbox: &Inbox, now: Instant) {
        let held = |it: &Inbound| matches!(&it.stage, Stage::Held(hello) if hello.node == node);
        let found = self.inbounds.connections.iter().find(|(_, inbound)| held(inbound));
        let Some(token) = found.map(|(token, _)| *token) else { return };
        let Some(mut inbound) = self.inbounds.connections.remove(&token) else { return };
        let Stage::Held(hello) = std::mem::replace(&mut inbound.stage, Stage::Silent) else { return };
        match self.welcome(&mut inbound, hello, inbox, now) {
            Ok(()) => {
                // Events that came while it was held were not acted on.
                self.inbounds.unread.push(token);
                self.inbounds.connections.insert(token, inbound);
            }
            Err(why) => self.report_inbound_end(&inbound, &why, now),
        }
    }

    /// Reads on where there was more than one turn's share, accepts again, and closes connections that are
    /// out of time.
    pub(super) fn handle_inbound_time(&mut self, inbox: &Inbox, now: Instant) {
        for token in std::mem::take(&mut self.inbounds.unread) {
            // Read to the end: the event that told of it may already have passed.
            self.serve(token, true, inbox, now);
        }
        if self.inbounds.accept_at.is_some_and(|at| at <= now) {
            self.accept(now);
        }
        let trouble = &mut self.inbounds.trouble;
        self.inbounds.connections.retain(|_, inbound| {
            let late = !matches!(inbound.stage, Stage::Open(_)) && inbound.deadline <= now;
            if late {
                trouble.warn(now, || format!("closed {}: it sent no hello in time", inbound.address));
            }
            !late
        });
    }

    fn report_inbound_end(&mut self, inbound: &Inbound, why: &Ended, now: Instant) {
        match (&inbound.stage, why) {
            (Stage::Open(node), Ended::Closed) => log::info!("node {node} no longer sends: {why}"),
            (Stage::Open(node), _) => {
                self.strange.warn(now, || format!("closed the connection of node {node}: {why}"));
            }
            (_, Ended::Closed) => log::debug!("{} left without a hello", inbound.address),
            _ => self.refused.warn(now, || format!("closed {}: {why}", inbound.address)),
        }
    }
}

/// A greeting fits into the buffer of any fresh socket; if it does not, the connection is as good as dead.
fn answer(inbound: &mut Inbound, greeting: &Greeting) -> Result<(), Ended> {
    let mut out = BytesMut::new();
    greeting.encode(&mut out)?;
    inbound.socket.write(&mut out)?;
    if !out.is_empty() {
        return Err(Ended::Broken("its socket did not take the greeting".to_owned()));
    }
    Ok(())
}
