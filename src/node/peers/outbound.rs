//! The connection that this node dials to one peer, and on which it only sends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::consensus::message::Message;
use crate::consensus::types::NodeId;
use crate::wire::frame::FrameError;
use crate::wire::hello::{Greeting, Introduction};
use crate::wire::message::{Service, ServiceBody, encode_message, encode_service};

use super::TROUBLE_EVERY;
use super::socket::{Ended, Socket, random_nonce};
use super::{PeerLimits, Tokens};
use crate::logfile::RateLimited;
use crate::pipeline::handshake::{Failure, Handshake, Reply};
use crate::pipeline::trust::{Trust, first_word};
use crate::store::DirectoryId;

/// An emptied out-buffer that is larger than this is freed.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// Invariant: there is a socket in every stage but `Waiting`, and bytes wait only while there is one.
pub(super) struct Outbound {
    pub(super) node: NodeId,
    address: SocketAddr,
    /// This node.
    own: NodeId,
    limits: PeerLimits,
    stage: Stage,
    socket: Option<Socket>,
    /// In stage `Waiting`, when to dial; in stage `Open`, when to ping unless bytes wait; in the others,
    /// when to give up.
    timer: Instant,
    /// When the latest attempt to connect began.
    dialled_at: Instant,
    /// The upper bound of the time between two attempts; every failure raises it, and a sign of life
    /// resets it.
    backoff: Duration,
    out: BytesMut,
    sent: u64,
    dropped: u64,
    /// Messages that were dropped before this connection was first open.
    unreached: u64,
    was_open: bool,
    trouble: RateLimited,
    opened: RateLimited,
    closed: RateLimited,
}

enum Stage {
    Waiting,
    Connecting,
    /// The hello is sent, and both ends have yet to accept each other.
    Greeting(Handshake),
    /// Accepted on both sides. The handshake still understands a refusal.
    Open {
        handshake: Handshake,
        directory: DirectoryId,
        start: u64,
    },
}

impl Outbound {
    pub(super) fn new(
        node: NodeId,
        address: SocketAddr,
        own: NodeId,
        limits: PeerLimits,
        now: Instant,
    ) -> Outbound {
        Outbound {
            node,
            address,
            own,
            limits,
            stage: Stage::Waiting,
            socket: None,
            timer: now,
            dialled_at: now,
            backoff: limits.backoff_min,
            out: BytesMut::new(),
            sent: 0,
            dropped: 0,
            unreached: 0,
            was_open: false,
            trouble: RateLimited::new(TROUBLE_EVERY),
            opened: RateLimited::new(TROUBLE_EVERY),
            closed: RateLimited::new(TROUBLE_EVERY),
        }
    }

    pub(super) fn has(&self, token: Token) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.token == token)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// When [`Outbound::handle_time`] has something to do.
    pub(super) fn timer(&self) -> Option<Instant> {
        let waits_for_socket = self.is_open() && !self.out.is_empty();
        (!waits_for_socket).then_some(self.timer)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.out.len()
    }

    /// Messages that were sent, that were dropped, and that were dropped before the peer was first reached.
    pub(super) fn counters(&self) -> (u64, u64, u64) {
        (self.sent, self.dropped, self.unreached)
    }

    /// Queues a message, or drops and counts it: what cannot leave now would be stale later, and the
    /// protocol repeats it.
    pub(super) fn send(&mut self, message: &Message, now: Instant) {
        if !self.has_room() {
            return self.count_dropped();
        }
        match encode_message(message, &mut self.out) {
            Ok(()) => self.sent += 1,
            Err(error) => self.drop_too_long(message, error, now),
        }
    }

    /// The same for a message of a service, which is small.
    pub(super) fn send_service(&mut self, service: &Service) {
        if self.has_room() && encode_service(service, &mut self.out).is_ok() {
            self.sent += 1;
        } else {
            self.count_dropped();
        }
    }

    fn has_room(&self) -> bool {
        self.is_open() && self.out.len() < self.limits.out_buffer_bytes
    }

    fn count_dropped(&mut self) {
        if self.was_open {
            self.dropped += 1;
        } else {
            self.unreached += 1;
        }
    }

    /// Writes as much of what waits as the system takes.
    pub(super) fn flush(&mut self, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        if self.out.is_empty() || matches!(self.stage, Stage::Connecting) {
            return;
        }
        if let Err(error) = socket.write(&mut self.out) {
            self.close(&Ended::Io(error), now);
            return;
        }
        if self.is_open() {
            self.timer = now + self.limits.ping_every;
        }
        if self.out.is_empty() && self.out.capacity() > KEPT_BUFFER_BYTES {
            self.out = BytesMut::new();
        }
    }

    /// The system takes bytes again, and nothing is read any more.
    pub(super) fn handle_writable_at_stop(&mut self, now: Instant) {
        if let Some(socket) = &mut self.socket {
            socket.handle_writable();
        }
        self.flush(now);
    }

    /// Handles an event of its socket. Returns what the other end said, and why the connection has to end
    /// if it does.
    pub(super) fn handle_event(
        &mut self,
        event: &Event,
        trust: &Trust,
        scratch: &mut [u8],
        now: Instant,
    ) -> (Option<Greeting>, Result<(), Ended>) {
        if event.is_writable()
            && let Err(error) = self.handle_writable(trust, now)
        {
            return (None, Err(error));
        }
        let ended = event.is_read_closed() || event.is_error();
        if (event.is_readable() || ended) && !matches!(self.stage, Stage::Connecting) {
            return self.read(ended, scratch);
        }
        (None, Ok(()))
    }

    fn handle_writable(&mut self, trust: &Trust, now: Instant) -> Result<(), Ended> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        socket.handle_writable();
        if matches!(self.stage, Stage::Connecting) {
            if !socket.is_connected()? {
                return Ok(());
            }
            let (handshake, hello) = Handshake::dial(trust, self.node, random_nonce()?);
            self.stage = Stage::Greeting(handshake);
            self.timer = now + self.limits.answer_timeout;
            hello.encode(&mut self.out)?;
        }
        socket.write(&mut self.out)?;
        Ok(())
    }

    /// The listener says one greeting at a time: it waits for the answer, and none follows the last.
    fn read(&mut self, to_end: bool, scratch: &mut [u8]) -> (Option<Greeting>, Result<(), Ended>) {
        let mut payloads: Vec<Bytes> = vec![];
        let Some(socket) = &mut self.socket else { return (None, Ok(())) };
        let ended = socket.read(scratch, to_end, &mut payloads).map(|_| ());
        match payloads.into_iter().next().map(Greeting::decode).transpose() {
            Ok(greeting) => (greeting, ended),
            Err(error) => (None, Err(error.into())),
        }
    }

    /// The other end's greeting. Returns who it is once both have accepted each other: then messages may
    /// leave. A failure is for [`Outbound::part`].
    pub(super) fn take(
        &mut self,
        greeting: Greeting,
        trust: &mut Trust,
        now: Instant,
    ) -> Result<Option<Introduction>, Failure> {
        let (Stage::Greeting(handshake) | Stage::Open { handshake, .. }) = &mut self.stage else {
            return Err(Failure::Broken("it said a greeting before the hello".to_owned()));
        };
        match handshake.take(greeting, trust)? {
            Reply::Say(greeting) => {
                self.timer = now + self.limits.answer_timeout;
                self.say(&greeting)?;
                Ok(None)
            }
            Reply::Open { theirs, .. } => {
                self.open(&theirs, now);
                Ok(Some(theirs))
            }
        }
    }

    fn say(&mut self, greeting: &Greeting) -> Result<(), Failure> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        greeting.encode(&mut self.out).map_err(|error| Failure::Broken(error.to_string()))?;
        socket.write(&mut self.out).map_err(|error| Failure::Broken(error.to_string()))
    }

    /// The connection is about to be closed for this reason. Tells the other end, as far as its socket
    /// takes it.
    pub(super) fn part(&mut self, failure: &Failure) -> Ended {
        let (why, say) = Ended::of_handshake(failure.clone());
        // It is closed in any case; a socket that takes nothing is only not told.
        let _ = say.map(|greeting| self.say(&greeting));
        why
    }

    /// Both sides have accepted: messages may leave. The first one binds this node's id there.
    fn open(&mut self, theirs: &Introduction, now: Instant) {
        assert!(self.socket.is_some(), "node {} cannot be open without a socket", self.node);
        let Stage::Greeting(handshake) = std::mem::replace(&mut self.stage, Stage::Waiting) else { return };
        let (directory, start) = (theirs.directory, theirs.start);
        self.stage = Stage::Open { handshake, directory, start };
        self.was_open = true;
        self.timer = now + self.limits.ping_every;
        self.backoff = self.limits.backoff_min;
        let (node, address) = (self.node, self.address);
        self.opened.info(now, || format!("sending to node {node} at {address} (its start {start})"));
        self.send(&first_word(self.own, node), now);
        self.flush(now);
    }

    /// The node at the other end is bound to this directory now. On a connection that opened before, it
    /// may be another one.
    pub(super) fn handle_bound(&mut self, bound: DirectoryId, now: Instant) {
        if matches!(self.stage, Stage::Open { directory, .. } if directory != bound) {
            self.close(
                &Ended::Broken("its data directory is not the one that its node id is bound to".to_owned()),
                now,
            );
        }
    }

    /// The peer dialled us in this run of its own: it is alive, and its earlier runs are not. An attempt
    /// to connect to it will succeed now, unless it began when the peer could not be reached.
    pub(super) fn handle_alive(&mut self, peer_start: u64, now: Instant) {
        match self.stage {
            Stage::Waiting | Stage::Connecting => {
                self.backoff = self.limits.backoff_min;
                self.timer = self.timer.min(self.dialled_at + self.limits.backoff_min);
            }
            Stage::Open { start, .. } if start < peer_start => {
                self.close(
                    &Ended::Broken(format!(
                        "the peer was started again: its start is {peer_start}, not {start}"
                    )),
                    now,
                );
            }
            _ => (),
        }
    }

    /// Ends the connection, drops what waits, and dials again: immediately, unless the attempt was short.
    pub(super) fn close(&mut self, why: &Ended, now: Instant) {
        match self.stage {
            Stage::Open { .. } => self
                .closed
                .info(now, || format!("no longer sending to node {} at {}: {why}", self.node, self.address)),
            _ => self.trouble.warn(now, || {
                format!("cannot connect to node {} at {}: {why}; trying again", self.node, self.address)
            }),
        }
        self.stage = Stage::Waiting;
        self.socket = None;
        self.out = BytesMut::new();
        self.timer = self.dialled_at + jittered(self.backoff);
        self.backoff = (2 * self.backoff).min(self.limits.backoff_max);
    }

    /// Dials, pings or gives up, when it is time.
    pub(super) fn handle_time(&mut self, registry: &Registry, tokens: &mut Tokens, now: Instant) {
        if self.timer().is_none_or(|timer| now < timer) {
            return;
        }
        match self.stage {
            Stage::Waiting => self.dial(registry, tokens, now),
            Stage::Connecting => self.close(&Ended::Broken("nobody answered in time".to_owned()), now),
            Stage::Greeting(_) => {
                self.close(&Ended::Broken("the hello was not answered in time".to_owned()), now)
            }
            Stage::Open { .. } => self.ping(now),
        }
    }

    fn dial(&mut self, registry: &Registry, tokens: &mut Tokens, now: Instant) {
        self.dialled_at = now;
        let patience = self.limits.unacknowledged_timeout;
        let socket = TcpStream::connect(self.address)
            .and_then(|stream| Socket::new(stream, tokens.next(), registry, patience));
        match socket {
            Ok(socket) => {
                self.socket = Some(socket);
                self.stage = Stage::Connecting;
                self.timer = now + self.limits.connect_timeout;
            }
            Err(error) => self.close(&Ended::Io(error), now),
        }
    }

    fn ping(&mut self, now: Instant) {
        self.send_service(&Service { from: self.own, to: self.node, body: ServiceBody::Ping });
        self.flush(now);
    }

    #[cold]
    fn drop_too_long(&mut self, message: &Message, error: FrameError, now: Instant) {
        self.dropped += 1;
        let kind = message.body.to_string().split(' ').next().unwrap_or_default().to_owned();
        let node = self.node;
        self.trouble.warn(now, || format!("a {kind} to node {node} cannot be sent: {error}"));
    }
}

/// Returns a time between half of `wait` and all of it, so that nodes that failed together do not come
/// back together.
fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u64().unwrap_or(0) % 1024;
    wait / 2 + wait * random as u32 / 2048
}
