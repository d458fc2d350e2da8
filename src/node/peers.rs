//! The peer network thread: one mio poll, and one connection for each direction between two nodes.
//!
//! Each node dials every peer and only *sends* on connections that it dialled; on those that it accepted
//! it only *reads* (after the hello, which goes both ways). Two connections per pair cost one more
//! socket, and avoid what is hard about a single one: there is no tie to break when both dial at the same
//! time, no question whose half-dead connection counts, and a failure of one direction shows as just
//! that.
//!
//! `pipeline::handshake` has what both ends say before a connection is open, and what they must prove if
//! the cluster has a key. `pipeline::trust` has the rule that a node id is bound durably to a data
//! directory before its first message counts, and its argument: such a message goes no further, and its
//! connection is not read, until [`Outgoing::Bound`] comes back. It also decides whether this node
//! believes others that its own directory is the wrong one; then this node stops ([`Fatal`]). A node that
//! sees a wrong directory at the other end only refuses it.
//!
//! Nothing here waits for a peer: out-buffers and the number of connections that are not open yet are
//! bounded ([`PeerLimits`]), and messages that find no room are dropped and counted, since the protocol
//! repeats them. Messages that a connection still had queued when it ended are dropped as well, instead
//! of being sent late. `limits` explains how a connection that leads nowhere is noticed and replaced.

mod inbound;
mod limits;
mod outbound;
mod socket;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use crate::consensus::message::Message;
use crate::consensus::types::NodeId;
use crate::logfile::RateLimited;
use crate::pipeline::handshake::Failure;
use crate::pipeline::inbox::{Binding, Inbox, Outgoing, OwnMessages};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::trust::Trust;
use crate::wire::hello::{Greeting, Introduction, Refusal};
use crate::wire::message::{PeerMessage, Service};
use crate::wire::proof::Keys;

use inbound::Inbounds;
pub use limits::PeerLimits;
use outbound::Outbound;
use socket::Ended;
pub use table::{PeerState, PeerTable};

/// A line that a peer or a stranger can cause is logged at most this often.
const TROUBLE_EVERY: Duration = Duration::from_secs(5);
/// One read takes at most this much.
const SCRATCH_BYTES: usize = 256 << 10;

/// Events taken from the system at a time; more wait there.
const EVENTS: usize = 256;

/// Connections that the system keeps until they are accepted. std asks for 128; when a flood exceeds
/// that, honest peers wait for seconds.
const BACKLOG: i32 = 1024;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CONNECTION: usize = 2;

/// The parameters of the network thread.
pub struct PeerOptions {
    /// Where peers reach this node.
    pub listen: SocketAddr,
    /// The other members and where they listen. This node may be among them and is left out.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// Who this node is.
    pub own: Introduction,
    /// The bindings that are already durable.
    pub bindings: Vec<Binding>,
    /// The cluster's shared secret, if it has one.
    pub keys: Option<Keys>,
    /// Times and sizes.
    pub limits: PeerLimits,
    /// Called by the network thread when this node must stop (exit code 2).
    pub on_fatal: Box<dyn Fn(Fatal) + Send>,
}

/// Why this node must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "nodes {peers:?} know this node with a different data directory ({text}): probably this node's disk was wiped or replaced, \
     and with it what the node had promised: bring back its data directory, or run on without this node. If the disk \
     is as it always was, those nodes are bound to a wrong directory: see `spaxos unbind`"
)]
pub struct Fatal {
    /// The nodes that said so: one that proved itself, or in a cluster without a key a majority of the
    /// others.
    pub peers: Vec<NodeId>,
    /// The words of the last one.
    pub text: String,
}

/// The peer network, which runs on a thread of its own.
pub struct PeerNetwork {
    poll: Poll,
    trust: Trust,
    limits: PeerLimits,
    on_fatal: Box<dyn Fn(Fatal) + Send>,
    inbounds: Inbounds,
    outbounds: BTreeMap<NodeId, Outbound>,
    /// Bindings under way to the state machine, and when they may be sent again.
    asked: BTreeMap<NodeId, (Binding, Instant)>,
    /// Messages of this turn that are not yet in the inbox.
    arrived: VecDeque<PeerMessage>,
    counters: BTreeMap<NodeId, InCounters>,
    table: PeerTable,
    scratch: Vec<u8>,
    tokens: Tokens,
    lines: BTreeMap<NodeId, Lines>,
    refused: RateLimited,
    left: RateLimited,
    strange: RateLimited,
    disowned: RateLimited,
}

/// The lines that the connections of one peer cause, a member's or a stranger's.
struct Lines {
    opened: RateLimited,
    closed: RateLimited,
    strange: RateLimited,
}

impl Lines {
    fn new() -> Lines {
        let limited = || RateLimited::new(TROUBLE_EVERY);
        Lines { opened: limited(), closed: limited(), strange: limited() }
    }
}

/// The most sockets that the connections of so many peers take, besides the listener: those that they open,
/// and one that this node opens to each of them, or two while one replaces the other.
pub(super) fn most_connections(peers: usize) -> usize {
    inbound::most_inbound(peers) + 2 * peers
}

/// Names connections. A name is never used again in a run, so that a late event never finds a different
/// connection.
struct Tokens {
    next: usize,
}

impl Tokens {
    fn next(&mut self) -> Token {
        self.next += 1;
        Token(self.next - 1)
    }
}

/// What came from one peer.
#[derive(Clone, Copy, Default)]
struct InCounters {
    received: u64,
    dropped: u64,
    unknown_kinds: u64,
    disowned: u64,
}

impl PeerNetwork {
    /// Starts to listen. The bell must be that of the queue which is passed to [`PeerNetwork::run`].
    /// Fails if the address cannot be listened on.
    pub fn bind(options: PeerOptions) -> io::Result<(PeerNetwork, Bell)> {
        let listener = TcpListener::bind(options.listen)?;
        PeerNetwork::with_listener(listener, options)
    }

    /// Like [`PeerNetwork::bind`], with a socket that already listens.
    pub fn with_listener(listener: TcpListener, options: PeerOptions) -> io::Result<(PeerNetwork, Bell)> {
        let PeerOptions { mut peers, own, bindings, keys, limits, on_fatal, .. } = options;
        assert!(own.node > 0, "node ids begin at 1, not {}", own.node);
        peers.remove(&own.node);
        let node = own.node;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        // A waker that fails leaves the poll to its next event; there is nobody to tell.
        let bell = Bell::calling(move || waker.wake().unwrap_or(()));
        let mut trust = Trust::new(own, keys, peers.keys().copied());
        bindings.into_iter().for_each(|binding| trust.bind(binding));
        let now = Instant::now();
        let outbound = |(&peer, &address)| (peer, Outbound::new(peer, address, node, limits, now));
        let network = PeerNetwork {
            poll,
            trust,
            limits,
            on_fatal,
            inbounds: Inbounds::new(listener, &peers.values().copied().collect::<Vec<_>>()),
            outbounds: peers.iter().map(outbound).collect(),
            asked: BTreeMap::new(),
            arrived: VecDeque::new(),
            counters: peers.keys().map(|node| (*node, InCounters::default())).collect(),
            lines: peers.keys().map(|node| (*node, Lines::new())).collect(),
            table: PeerTable::new(peers.into_iter()),
            scratch: vec![0; SCRATCH_BYTES],
            tokens: Tokens { next: FIRST_CONNECTION },
            refused: RateLimited::new(TROUBLE_EVERY),
            left: RateLimited::new(TROUBLE_EVERY),
            strange: RateLimited::new(TROUBLE_EVERY),
            disowned: RateLimited::new(TROUBLE_EVERY),
        };
        Ok((network, bell))
    }

    /// The address that it listens on (with the real port, if the options said 0).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inbounds.local_addr()
    }

    /// How the peers are connected; any thread may read it.
    pub fn table(&self) -> PeerTable {
        self.table.clone()
    }

    /// Sends what comes out of `outgoing` and puts what peers send into `inbox`, until `outgoing` is
    /// closed and empty; then flushes for at most [`PeerLimits::flush_timeout`]. Fails only if the
    /// system's poll fails.
    pub fn run(mut self, outgoing: &Queue<Outgoing>, inbox: &Inbox) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut items = Vec::new();
        loop {
            let timeout = self.timeout(Instant::now());
            poll(&mut self.poll, &mut events, timeout)?;
            let now = Instant::now();
            // Asked before the drain: what a closed queue holds is drained by it.
            let closed = outgoing.is_closed();
            outgoing.bell().clear();
            outgoing.drain(&mut items);
            self.route(&mut items, inbox, now);
            if closed {
                return self.flush_and_stop(&mut events, now);
            }
            for event in &events {
                self.handle_event(event, inbox, now);
            }
            self.handle_time(inbox, now);
            self.deliver(inbox);
            self.publish();
        }
    }

    fn handle_event(&mut self, event: &mio::event::Event, inbox: &Inbox, now: Instant) {
        match event.token() {
            WAKER => (),
            LISTENER => self.accept(now),
            token => match self.outbounds.values_mut().find(|outbound| outbound.has(token)) {
                Some(outbound) => {
                    let node = outbound.node;
                    let (greeting, ended) = outbound.handle_event(event, &self.trust, &mut self.scratch, now);
                    let answered = greeting.map_or(Ok(()), |it| self.handle_answer(node, it, now));
                    if let Err(why) = answered.and(ended) {
                        self.close_outbound(node, &why, now);
                    }
                }
                None => self.serve(token, event.is_read_closed() || event.is_error(), inbox, now),
            },
        }
    }

    /// Takes what waits to be sent, and immediately writes as much as the sockets take.
    fn route(&mut self, items: &mut Vec<Outgoing>, inbox: &Inbox, now: Instant) {
        if items.is_empty() {
            return;
        }
        for item in items.drain(..) {
            match item {
                Outgoing::Messages { generation, messages } => {
                    self.route_messages(generation, messages, inbox, now);
                }
                Outgoing::Services(services) => self.route_services(&services, now),
                Outgoing::Bound(binding) => self.handle_bound(binding, inbox, now),
            }
        }
        for outbound in self.outbounds.values_mut() {
            outbound.flush(now);
        }
    }

    fn route_messages(&mut self, generation: u64, messages: Vec<Message>, inbox: &Inbox, now: Instant) {
        let this = self.trust.own().node;
        let mut own = vec![];
        for message in messages {
            if message.to == this {
                own.push(message);
            } else if let Some(outbound) = self.outbounds.get_mut(&message.to) {
                outbound.send(&message, now);
            } else {
                self.strange.warn(now, || {
                    format!("a message is for node {}, which is not a member: it was dropped", message.to)
                });
            }
        }
        if !own.is_empty() {
            let pushed = inbox.own.try_push(OwnMessages { generation, messages: own });
            assert!(
                pushed.is_ok() || inbox.own.is_closed(),
                "room for own messages is reserved, but {} of {} places are taken",
                inbox.own.len(),
                Inbox::OWN_CAPACITY
            );
        }
    }

    fn route_services(&mut self, services: &[Service], now: Instant) {
        for service in services {
            match self.outbounds.get_mut(&service.to) {
                Some(outbound) => outbound.send_service(service),
                None => self
                    .strange
                    .warn(now, || format!("{service} was dropped: node {} is not a peer", service.to)),
            }
        }
    }

    /// The listener at the other end of a dialled connection says something.
    fn handle_answer(&mut self, node: NodeId, answer: Greeting, now: Instant) -> Result<(), Ended> {
        let Some(outbound) = self.outbounds.get_mut(&node) else { return Ok(()) };
        match outbound.take(answer, &mut self.trust, now) {
            Ok(Some(introduction)) => self.note_client_address(&introduction),
            Ok(None) => (),
            Err(failure) => {
                let why = outbound.part(&failure);
                if let Failure::RefusedByPeer { refusal, is_disowned: true, end_on_word_of } = failure {
                    self.handle_disowned(node, &refusal, end_on_word_of, now);
                }
                return Err(why);
            }
        }
        Ok(())
    }

    /// The process at this peer's address says that this node's data directory is the wrong one.
    fn handle_disowned(&mut self, by: NodeId, refusal: &Refusal, end_on_word_of: Vec<NodeId>, now: Instant) {
        if !end_on_word_of.is_empty() {
            let text = refusal.to_string();
            return (self.on_fatal)(Fatal { peers: end_on_word_of, text });
        }
        let address = self.outbounds.get(&by).map(Outbound::address);
        self.counters.entry(by).or_default().disowned += 1;
        self.disowned.warn(now, || {
            let address = address.map_or(String::new(), |address| format!(" at {address}"));
            format!(
                "the process that listens as node {by}{address} says that it knows this node by a different data \
                 directory, but does not prove that it is node {by}: this node goes on. If its data directory was \
                 wiped or replaced, stop it"
            )
        });
    }

    /// Sends a binding to the state machine, unless it is already under way. It may be lost there (a
    /// failed write), so it is sent again after a while.
    fn ask_binding(&mut self, binding: Binding, inbox: &Inbox, now: Instant) -> Result<(), Ended> {
        self.check_asked(binding)?;
        if self.asked.get(&binding.node).is_some_and(|(_, until)| now < *until) {
            return Ok(());
        }
        match inbox.bindings.try_push(binding) {
            Ok(()) => {
                self.asked.insert(binding.node, (binding, now + self.limits.hello_timeout));
                Ok(())
            }
            Err(_) => Err(Ended::Broken("too many bindings are under way".to_owned())),
        }
    }

    /// A binding that was sent to the state machine may also only take long, so a different one of the
    /// same node is never sent in this run.
    fn check_asked(&self, binding: Binding) -> Result<(), Ended> {
        match self.asked.get(&binding.node) {
            Some((asked, _)) if *asked != binding => Err(Ended::Broken(format!(
                "node {} is being bound to data directory …{:08x}, not …{:08x}",
                binding.node, asked.directory as u32, binding.directory as u32
            ))),
            _ => Ok(()),
        }
    }

    /// A binding is durable: what was held for it counts, and connections to or from another directory
    /// end.
    fn handle_bound(&mut self, binding: Binding, inbox: &Inbox, now: Instant) {
        self.trust.bind(binding);
        self.asked.remove(&binding.node);
        if let Some(outbound) = self.outbounds.get_mut(&binding.node) {
            outbound.handle_bound(binding.directory, now);
        }
        self.release_held(binding.node, inbox, now);
    }

    fn close_outbound(&mut self, node: NodeId, why: &Ended, now: Instant) {
        if let Some(outbound) = self.outbounds.get_mut(&node) {
            outbound.close(why, now);
        }
    }

    fn note_client_address(&self, theirs: &Introduction) {
        let address = Some(&theirs.client_address).filter(|address| !address.is_empty());
        self.table.update(|node, state| {
            if node == theirs.node {
                state.client_address = address.cloned();
            }
        });
    }

    fn handle_time(&mut self, inbox: &Inbox, now: Instant) {
        for outbound in self.outbounds.values_mut() {
            outbound.handle_time(self.poll.registry(), &mut self.tokens, now);
        }
        self.handle_inbound_time(inbox, now);
    }

    /// How long there is nothing to do unless an event comes.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let outbounds = self.outbounds.values().filter_map(Outbound::timer);
        let next = outbounds.chain(self.inbounds.timer(now)).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Hands everything that arrived in this turn to the state machine together.
    fn deliver(&mut self, inbox: &Inbox) {
        if self.arrived.is_empty() {
            return;
        }
        inbox.peers.try_push_all(&mut self.arrived);
        for message in self.arrived.drain(..) {
            if let Some(counters) = self.counters.get_mut(&message.from()) {
                counters.dropped += 1;
            }
        }
    }

    fn publish(&self) {
        self.table.update(|node, state| {
            if let Some(outbound) = self.outbounds.get(&node) {
                state.connected_out = outbound.is_open();
                state.queued_bytes = outbound.queued_bytes();
                (state.sent, state.dropped_out, state.unreached) = outbound.counters();
            }
            if let Some(counters) = self.counters.get(&node) {
                state.connected_in = self.inbounds.is_open(node);
                state.received = counters.received;
                state.dropped_in = counters.dropped;
                state.unknown_kinds = counters.unknown_kinds;
                state.disowned = counters.disowned;
            }
        });
    }

    /// Writes what waits, for a bounded time.
    fn flush_and_stop(mut self, events: &mut Events, now: Instant) -> io::Result<()> {
        let end = now + self.limits.flush_timeout;
        loop {
            let now = Instant::now();
            for event in events.iter().filter(|event| event.is_writable()) {
                if let Some(outbound) = self.outbounds.values_mut().find(|it| it.has(event.token())) {
                    outbound.handle_writable_at_stop(now);
                }
            }
            let waiting = self.outbounds.values().any(|it| it.is_open() && it.queued_bytes() > 0);
            if !waiting || now >= end {
                return Ok(());
            }
            poll(&mut self.poll, events, Some(end - now))?;
        }
    }
}

fn poll(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long a binding takes to become durable, no other data directory takes its place in the
    /// meantime: both would be written, and the node bound twice.
    #[test]
    fn a_binding_under_way_is_not_replaced() {
        let own = Introduction {
            node: 1,
            cluster: "test".into(),
            protocol: "paxos".into(),
            founding: 1,
            directory: 11,
            start: 1,
            client_address: String::new(),
        };
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = PeerOptions {
            listen: any,
            peers: BTreeMap::from([(1, any), (2, any)]),
            own,
            bindings: vec![],
            keys: None,
            limits: PeerLimits::default(),
            on_fatal: Box::new(|_| ()),
        };
        let (mut network, _) = PeerNetwork::bind(options).unwrap();
        let inbox = Inbox::new();
        let mut ask = |directory, now| {
            let asked = network.ask_binding(Binding { node: 2, directory }, &inbox, now);
            let mut bindings = vec![];
            inbox.bindings.drain(&mut bindings);
            (asked.is_ok(), bindings.len())
        };
        let now = Instant::now();
        let later = now + 2 * PeerLimits::default().hello_timeout;
        assert_eq!(ask(22, now), (true, 1));
        assert_eq!(ask(22, now), (true, 0));
        assert_eq!(ask(23, now), (false, 0));
        assert_eq!(ask(23, later), (false, 0));
        assert_eq!(ask(22, later), (true, 1));
    }
}
