//! The connections that peers (or strangers) dialled to this node: accepted, greeted, and then only read.
//!
//! The first message of a node that is not bound yet asks for its binding (`pipeline::trust`). Until that
//! is durable, it is *held* with all that was read together with it, and nothing more is read from its
//! connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mio::Token;
use mio::net::TcpListener;

use crate::consensus::types::NodeId;
use crate::logfile::RateLimited;
use crate::pipeline::handshake::{Handshake, Reply};
use crate::pipeline::inbox::{Binding, Inbox};
use crate::pipeline::trust::Admission;
use crate::wire::frame::MAX_FRAME_BYTES;
use crate::wire::hello::{Greeting, Introduction, Refusal, RefusalCode};
use crate::wire::message::{Decoded, PeerMessage, ServiceBody, decode_message};

use super::socket::{Ended, ReadEnd, Socket, random_nonce};
use super::{PeerNetwork, TROUBLE_EVERY};

/// The highest number of connections accepted in one turn. It is less than the places that there are for
/// connections in their handshake, so that what was accepted is read before it can lose its place.
const ACCEPTS_A_TURN: usize = 64;

/// The pause after the system refused to accept (no more file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// All inbound connections, and the listening socket.
///
/// Invariant: at most `max_silent` connections are in their handshake, and at most one of each peer is
/// open, held or not; so their number is bounded, and so is what is held: a turn of reading for each
/// peer.
pub(super) struct Inbounds {
    listener: TcpListener,
    /// By token, so the oldest come first.
    connections: BTreeMap<Token, Inbound>,
    /// When one more connection comes, the oldest one in its handshake is closed, one from an address without
    /// a member first: strangers that knock in masses must not keep a member out.
    max_silent: usize,
    /// Where members are.
    members: BTreeSet<IpAddr>,
    /// When to accept even without an event.
    accept_at: Option<Instant>,
    /// Connections whose turn ended before they were drained.
    unread: BTreeSet<Token>,
    trouble: RateLimited,
}

struct Inbound {
    socket: Socket,
    address: SocketAddr,
    handshake: Handshake,
    /// The peer that it belongs to, once both ends have accepted each other: its messages are read.
    open: Option<Introduction>,
    /// Its first message, and what was read with it, while its node id is being bound.
    held: VecDeque<Bytes>,
    /// When it is closed, unless it is read as an open connection.
    deadline: Instant,
}

impl Inbound {
    fn is_read(&self) -> bool {
        self.open.is_some() && self.held.is_empty()
    }

    fn is_of(&self, peer: NodeId) -> bool {
        self.open.as_ref().is_some_and(|introduction| introduction.node == peer)
    }
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
    /// Accepts connections; `peers` are the addresses of the other members.
    pub(super) fn new(listener: TcpListener, peers: &[SocketAddr]) -> Inbounds {
        Inbounds {
            listener,
            connections: BTreeMap::new(),
            max_silent: max_silent(peers.len()),
            members: peers.iter().map(|address| address.ip().to_canonical()).collect(),
            accept_at: None,
            unread: BTreeSet::new(),
            trouble: RateLimited::new(TROUBLE_EVERY),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether messages of this peer are being read.
    pub(super) fn is_open(&self, node: NodeId) -> bool {
        self.connections.values().any(|inbound| inbound.is_of(node) && inbound.is_read())
    }

    /// When there is something to do.
    pub(super) fn timer(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let closing = self.connections.values().filter(|inbound| !inbound.is_read());
        let unread = (!self.unread.is_empty()).then_some(now);
        closing.map(|inbound| inbound.deadline).chain(self.accept_at).chain(unread)
    }

    fn make_room_for_silent(&mut self) {
        let silent = || self.connections.iter().filter(|(_, inbound)| inbound.open.is_none());
        if silent().count() < self.max_silent {
            return;
        }
        let is_stranger = |inbound: &Inbound| !self.members.contains(&inbound.address.ip().to_canonical());
        let stranger = silent().find(|(_, inbound)| is_stranger(inbound));
        let oldest = stranger.or_else(|| silent().next()).map(|(token, _)| *token);
        oldest.map(|token| self.connections.remove(&token));
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
                    // An error of the socket means that the connection is already gone.
                    let patience = self.limits.unacknowledged_timeout;
                    if let Ok(socket) = Socket::new(stream, token, self.poll.registry(), patience) {
                        self.greet(token, socket, address, now);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => (),
                Err(error) => {
                    // Waiting connections stay in the kernel's queue, and no further event will report
                    // them.
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

    fn greet(&mut self, token: Token, socket: Socket, address: SocketAddr, now: Instant) {
        let deadline = now + self.limits.hello_timeout;
        match random_nonce() {
            Ok(nonce) => {
                let (handshake, held) = (Handshake::listen(nonce), VecDeque::new());
                let inbound = Inbound { socket, address, handshake, open: None, held, deadline };
                self.inbounds.connections.insert(token, inbound);
            }
            Err(why) => self.refused.warn(now, || format!("closed {address}: {why}")),
        }
    }

    /// Reads a connection and acts on what it says; closes it when it has ended or sent something wrong.
    pub(super) fn serve(&mut self, token: Token, to_end: bool, inbox: &Inbox, now: Instant) {
        let Some(mut inbound) = self.inbounds.connections.remove(&token) else { return };
        if !inbound.held.is_empty() {
            self.inbounds.connections.insert(token, inbound);
            return;
        }
        let mut payloads = vec![];
        let read = inbound.socket.read(&mut self.scratch, to_end, &mut payloads);
        let handled = match inbound.open {
            Some(_) => self.take_messages(&mut inbound, payloads.into(), inbox, now),
            None => self.take_greeting(&mut inbound, payloads, now),
        };
        match handled.and(read) {
            Ok(end) => {
                if end == ReadEnd::More {
                    self.inbounds.unread.insert(token);
                }
                self.inbounds.connections.insert(token, inbound);
            }
            Err(why) => self.report_inbound_end(&inbound, &why, now),
        }
    }

    /// The dialler says one greeting at a time: it waits for the answer.
    fn take_greeting(
        &mut self,
        inbound: &mut Inbound,
        payloads: Vec<Bytes>,
        now: Instant,
    ) -> Result<(), Ended> {
        let mut payloads = payloads.into_iter();
        let Some(payload) = payloads.next() else { return Ok(()) };
        if payloads.next().is_some() {
            return Err(Ended::Broken("it sent more before it was answered".to_owned()));
        }
        match inbound.handshake.take(Greeting::decode(payload)?, &mut self.trust) {
            Ok(Reply::Say(greeting)) => answer(inbound, &greeting),
            Ok(Reply::Open { theirs, say }) => {
                self.check_asked(Binding { node: theirs.node, directory: theirs.directory })?;
                say.map_or(Ok(()), |greeting| answer(inbound, &greeting))?;
                self.open_inbound(inbound, theirs, now);
                Ok(())
            }
            Err(failure) => {
                let (why, say) = Ended::of_handshake(failure);
                say.map_or(Ok(()), |greeting| answer(inbound, &greeting))?;
                Err(why)
            }
        }
    }

    /// Both ends have accepted each other. A newer connection of a peer replaces its older one.
    fn open_inbound(&mut self, inbound: &mut Inbound, theirs: Introduction, now: Instant) {
        let (node, start, address) = (theirs.node, theirs.start, inbound.address);
        self.inbounds.connections.retain(|_, older| !older.is_of(node));
        inbound.socket.set_limit(MAX_FRAME_BYTES);
        if let Some(lines) = self.lines.get_mut(&node) {
            lines.opened.info(now, || format!("node {node} sends from {address} (its start {start})"));
        }
        self.note_client_address(&theirs);
        if let Some(outbound) = self.outbounds.get_mut(&node) {
            outbound.handle_alive(start, now);
        }
        inbound.open = Some(theirs);
    }

    /// Takes the messages of an open connection, up to one that must wait for a binding: that one is
    /// held, with all that follow.
    fn take_messages(
        &mut self,
        inbound: &mut Inbound,
        mut payloads: VecDeque<Bytes>,
        inbox: &Inbox,
        now: Instant,
    ) -> Result<(), Ended> {
        let Some((node, directory)) = inbound.open.as_ref().map(|it| (it.node, it.directory)) else {
            return Ok(());
        };
        while let Some(payload) = payloads.pop_front() {
            let Some(message) = self.read_message(node, payload.clone())? else { continue };
            if let PeerMessage::Core(_) = message {
                match self.trust.admit(node, directory) {
                    Admission::Counts => (),
                    Admission::BindsFirst(binding) => {
                        self.ask_binding(binding, inbox, now)?;
                        payloads.push_front(payload);
                        inbound.held = payloads;
                        inbound.deadline = now + self.limits.hello_timeout;
                        return Ok(());
                    }
                    Admission::Refused => return Err(self.refuse_inbound(inbound)),
                }
            }
            self.counters.entry(node).or_default().received += 1;
            let is_ping = matches!(&message, PeerMessage::Service(it) if it.body == ServiceBody::Ping);
            // An unbound node is not known: what its services say does not count.
            if !is_ping && self.trust.admit(node, directory) == Admission::Counts {
                self.arrived.push_back(message);
            }
        }
        Ok(())
    }

    /// Returns what a peer says, unless only a newer version knows what it means.
    fn read_message(&mut self, node: NodeId, payload: Bytes) -> Result<Option<PeerMessage>, Ended> {
        let message = match decode_message(payload)? {
            Decoded::Message(message) => message,
            Decoded::UnknownKind(_) => {
                self.counters.entry(node).or_default().unknown_kinds += 1;
                return Ok(None);
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
        Ok(Some(message))
    }

    /// The node id of an open connection is bound to a different directory by now.
    fn refuse_inbound(&mut self, inbound: &mut Inbound) -> Ended {
        let judged = inbound.open.as_ref().map_or(Ok(()), |theirs| self.trust.judge(theirs));
        let refusal = judged.err().unwrap_or_else(|| Refusal::new(RefusalCode::WrongDirectory, ""));
        if let Some(greeting) = inbound.handshake.refuse_open(&refusal) {
            // It is closed in any case; a socket that takes nothing is only not told.
            let _ = answer(inbound, &greeting);
        }
        Ended::Refused(refusal)
    }

    /// A node is bound now: what its connection said counts, if it is from the directory that was bound.
    pub(super) fn release_held(&mut self, node: NodeId, inbox: &Inbox, now: Instant) {
        let mut connections = self.inbounds.connections.iter();
        let found = connections.find(|(_, inbound)| inbound.is_of(node) && !inbound.held.is_empty());
        let Some(token) = found.map(|(token, _)| *token) else { return };
        let Some(mut inbound) = self.inbounds.connections.remove(&token) else { return };
        let held = std::mem::take(&mut inbound.held);
        // From here on its start is remembered.
        let judged = inbound.open.as_ref().map_or(Ok(()), |theirs| self.trust.judge(theirs));
        let taken = match judged {
            Ok(()) => self.take_messages(&mut inbound, held, inbox, now),
            Err(_) => Err(self.refuse_inbound(&mut inbound)),
        };
        match taken {
            Ok(()) => {
                // Events that came while it was held were not acted on.
                self.inbounds.unread.insert(token);
                self.inbounds.connections.insert(token, inbound);
            }
            Err(why) => self.report_inbound_end(&inbound, &why, now),
        }
    }

    /// Reads on where there was more than one turn's share, accepts again, and closes connections that
    /// are out of time.
    pub(super) fn handle_inbound_time(&mut self, inbox: &Inbox, now: Instant) {
        for token in std::mem::take(&mut self.inbounds.unread) {
            // Read to the end: the event that told of it may already have passed.
            self.serve(token, true, inbox, now);
        }
        // Never twice in a turn: what was accepted must be read first.
        if self.inbounds.accept_at.is_some_and(|at| at < now) {
            self.accept(now);
        }
        let trouble = &mut self.inbounds.trouble;
        self.inbounds.connections.retain(|_, inbound| {
            let late = !inbound.is_read() && inbound.deadline <= now;
            if late {
                let what = if inbound.open.is_some() {
                    "its binding takes too long"
                } else {
                    "it said no hello in time"
                };
                trouble.warn(now, || format!("closed {}: {what}", inbound.address));
            }
            !late
        });
    }

    fn report_inbound_end(&mut self, inbound: &Inbound, why: &Ended, now: Instant) {
        let address = inbound.address;
        let Some(node) = inbound.open.as_ref().map(|theirs| theirs.node) else {
            return match why {
                Ended::Closed => self.left.debug(now, || format!("{address} left without a hello")),
                _ => self.refused.warn(now, || format!("closed {address}: {why}")),
            };
        };
        let Some(lines) = self.lines.get_mut(&node) else { return };
        match why {
            Ended::Closed => lines.closed.info(now, || format!("node {node} no longer sends: {why}")),
            _ => lines.strange.warn(now, || format!("closed the connection of node {node}: {why}")),
        }
    }
}

/// A greeting fits into the buffer of any fresh socket; if it does not, the connection is as good as
/// dead.
fn answer(inbound: &mut Inbound, greeting: &Greeting) -> Result<(), Ended> {
    let mut out = BytesMut::new();
    greeting.encode(&mut out)?;
    inbound.socket.write(&mut out)?;
    if !out.is_empty() {
        return Err(Ended::Broken("its socket did not take the greeting".to_owned()));
    }
    Ok(())
}
