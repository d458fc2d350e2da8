//! The client port's thread: one mio poll over the listener, all clients and the answers of the applier.
//!
//! In one turn answers go to their sessions, each client that has something to say is read once, all
//! proposals of the turn are handed over in one call, and each client is written to once. What the bytes mean
//! is in [`crate::client`]; this module has the sockets, the clock and what all clients share: their number,
//! their memory, file handles. The thread waits for nothing but its poll.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::client::Limits;
use crate::client::front::{Front, Outcome};
use crate::client::session::Turn;
use crate::pipeline::ledger::Answer;
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::waiters::Ticket;

mod connection;
mod warnings;

use connection::Connection;
use warnings::Warnings;

/// Answers of the applier on their way to the clients.
pub type Answers = Queue<Vec<(Ticket, Answer)>>;

/// How many clients are accepted in one turn, so that a flood of them does not keep others waiting.
const ACCEPTS_A_TURN: usize = 64;

/// How long no client is accepted after the system refused one (no file handles, no memory), unless a
/// connection ends before that. New clients wait in the listener's backlog.
const ACCEPT_PAUSE_MS: u64 = 100;

/// When memory is short (see [`ClientOptions::memory_bytes`]), connections that hold more are closed, or that
/// hold more than an equal share of it if this is less.
const FAIR_SHARE_BYTES: usize = 64 * 1024;

/// How many bytes are read from a client in one turn, at most.
const READ_BYTES: usize = 256 * 1024;

/// How many bytes are read from all clients in one turn, give or take one read, so that what a turn holds is
/// bounded as well: proposals that are not in their queue yet, buffers that are not accounted for yet. The
/// other clients come first in the next turn.
const TURN_BYTES: usize = 8 << 20;

/// Connections that the system keeps until they are accepted; it may keep fewer (`net.core.somaxconn`). mio
/// asks for 128: of a thousand clients that connect at the same time, most would wait for a second or more.
const BACKLOG: i32 = 4096;

/// How long clients have to take their last replies when the node ends.
const FLUSH_MS: u64 = 1_000;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;

/// The settings of the port.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// The highest number of clients at a time, at most 1,048,576; a further one is answered `-ERR max number
    /// of clients reached` and closed.
    pub connections: usize,
    /// What all sessions together may hold in memory, besides what one turn reads (8 MiB). Beyond that,
    /// sessions that hold more than 64 KiB, or more than an equal share of it if that is less, are closed as
    /// soon as something happens to them.
    pub memory_bytes: usize,
    /// How much time requests that are under way get when the node ends; then they are answered `-TIMEOUT`.
    pub end_grace_ms: u64,
    /// The limits of each connection.
    pub limits: Limits,
}

impl ClientOptions {
    /// Returns the defaults: 10,000 clients, 512 MiB, 2 s to end, and [`Limits::default`].
    pub fn new(address: SocketAddr) -> ClientOptions {
        ClientOptions {
            address,
            connections: 10_000,
            memory_bytes: 512 << 20,
            end_grace_ms: 2_000,
            limits: Limits::default(),
        }
    }
}

/// A port that listens, and does nothing else until [`ClientPort::run`].
pub struct ClientPort {
    options: ClientOptions,
    poll: Poll,
    listener: TcpListener,
    bell: Bell,
    stop: Stop,
}

/// Ends a port in order.
#[derive(Clone)]
pub struct Stop {
    wanted: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stop {
    /// From now on no client is accepted and proposals are answered `-TRYAGAIN`. Requests under way have
    /// [`ClientOptions::end_grace_ms`] to be answered, and their replies one second more to be read; then
    /// [`ClientPort::run`] returns.
    pub fn stop(&self) {
        self.wanted.store(true, Ordering::Release);
        // If the poll cannot be woken, it still ends at its next turn.
        let _ = self.waker.wake();
    }
}

impl ClientPort {
    /// Starts to listen. The bell is for the queue of answers that [`ClientPort::run`] gets.
    pub fn bind(options: ClientOptions) -> io::Result<(ClientPort, Bell)> {
        if options.connections > connection::MAX_CONNECTIONS {
            let text = format!("at most {} clients are possible", connection::MAX_CONNECTIONS);
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(options.address)?;
        rustix::net::listen(&listener, BACKLOG)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let bell = Bell::calling({
            let waker = waker.clone();
            move || {
                // It fails only if the poll is gone, and then there is nobody left to wake.
                let _ = waker.wake();
            }
        });
        let stop = Stop { wanted: Arc::default(), waker };
        Ok((ClientPort { options, poll, listener, bell: bell.clone(), stop }, bell))
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The same, or the requested address if the system cannot tell.
    pub fn address(&self) -> SocketAddr {
        self.local_address().unwrap_or(self.options.address)
    }

    /// A handle that ends the port.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves clients until [`Stop::stop`]. Fails only if the poll itself fails; nothing that a client does
    /// is an error.
    pub fn run(self, front: Arc<dyn Front>, answers: Arc<Answers>) -> io::Result<()> {
        let ClientPort { options, poll, listener, bell, stop } = self;
        let turn = Turn {
            now_ms: 0,
            clock: Duration::ZERO,
            front: &*front,
            proposals: Vec::new(),
            outstanding: 0,
            ending: false,
        };
        let mut port = Running {
            options,
            poll,
            listener: Some(listener),
            accept: Accept::Ready,
            answers: &answers,
            turn,
            clients: Vec::new(),
            vacant: BTreeSet::new(),
            connections_made: 0,
            ready: Vec::new(),
            touched: Vec::new(),
            timers: BTreeSet::new(),
            memory_bytes: 0,
            scratch: vec![0; READ_BYTES],
            warnings: Warnings::default(),
            end: None,
        };
        let started = Instant::now();
        let mut events = Events::with_capacity(1024);
        loop {
            match port.poll.poll(&mut events, port.poll_timeout()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                polled => polled?,
            }
            port.turn.now_ms = started.elapsed().as_millis() as u64;
            port.turn.clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            bell.clear();
            port.handle_answers();
            events.iter().for_each(|event| port.handle_event(event));
            port.accept();
            port.handle_timers();
            port.read();
            port.propose();
            port.settle();
            if stop.wanted.load(Ordering::Acquire) && port.has_ended() {
                return Ok(());
            }
        }
    }
}

/// The port at work.
struct Running<'a> {
    options: ClientOptions,
    poll: Poll,
    /// `None` once the node ends.
    listener: Option<TcpListener>,
    accept: Accept,
    answers: &'a Answers,
    turn: Turn<'a>,
    /// A client's place in this table is also in its token and in its tickets.
    clients: Vec<Option<Connection>>,
    /// The places without a client.
    vacant: BTreeSet<usize>,
    connections_made: u64,
    /// Places of clients to be read in the next turn, each once ([`Connection::is_ready`]).
    ready: Vec<usize>,
    /// Places of clients that something happened to in this turn, each once ([`Connection::is_touched`]).
    touched: Vec<usize>,
    /// (time, place): at most one per client, at or before its deadline. A timer that is early is set again.
    timers: BTreeSet<(u64, usize)>,
    /// What all sessions hold.
    memory_bytes: usize,
    scratch: Vec<u8>,
    warnings: Warnings,
    end: Option<End>,
}

/// Whether clients wait to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    Idle,
    Ready,
    /// The system refused; try again at this time.
    PausedUntil(u64),
}

/// The time limit of an orderly end.
struct End {
    give_up_ms: u64,
    given_up: bool,
}

impl Running<'_> {
    /// Returns zero if work is left, otherwise the time until the next timer.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.accept == Accept::Ready {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.first().map(|(time_ms, _)| *time_ms);
        let accept = match self.accept {
            Accept::PausedUntil(time_ms) => Some(time_ms),
            _ => None,
        };
        let end = self.end.as_ref().map(|end| end.give_up_ms + if end.given_up { FLUSH_MS } else { 0 });
        let next_ms = [timer, accept, end].into_iter().flatten().min()?;
        Some(Duration::from_millis(next_ms.saturating_sub(self.turn.now_ms)))
    }

    fn handle_answers(&mut self) {
        let mut batches = Vec::new();
        self.answers.drain(&mut batches);
        for (ticket, answer) in batches.into_iter().flatten() {
            self.handle_outcome(ticket, &Outcome::from(answer));
        }
    }

    fn handle_outcome(&mut self, ticket: Ticket, outcome: &Outcome) {
        let place = (ticket.connection & connection::PLACE_MASK) as usize;
        let Some(Some(client)) = self.clients.get_mut(place) else { return };
        // The ticket may belong to a former client at this place.
        if client.id == ticket.connection {
            client.session.handle_outcome(ticket.sequence, outcome, &mut self.turn);
            self.touch(place);
        }
    }

    fn handle_event(&mut self, event: &Event) {
        match event.token() {
            LISTENER if self.accept == Accept::Idle => self.accept = Accept::Ready,
            LISTENER | WAKER => {}
            Token(token) => {
                let place = token - FIRST_CLIENT;
                let Some(Some(client)) = self.clients.get_mut(place) else { return };
                client.note_event(event);
                self.touch(place);
                self.make_ready(place);
            }
        }
    }

    fn accept(&mut self) {
        if matches!(self.accept, Accept::PausedUntil(time_ms) if time_ms <= self.turn.now_ms) {
            self.accept = Accept::Ready;
        }
        for _ in 0..ACCEPTS_A_TURN {
            let (Some(listener), Accept::Ready) = (&self.listener, self.accept) else { return };
            match listener.accept() {
                Ok((stream, address)) => self.handle_client(stream, address),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.accept = Accept::Idle,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                    _ => {
                        self.accept = Accept::PausedUntil(self.turn.now_ms + ACCEPT_PAUSE_MS);
                        self.warnings.warn("accept", || {
                            format!("cannot accept clients now: {error}; raise the limit of open files")
                        });
                    }
                },
            }
        }
    }

    fn handle_client(&mut self, mut stream: TcpStream, address: SocketAddr) {
        let now_ms = self.turn.now_ms;
        if self.clients.len() - self.vacant.len() >= self.options.connections {
            let limit = self.options.connections;
            self.warnings.warn("full", || format!("client {address} refused: {limit} clients are connected"));
            // A new socket has room for this; if not, it is closed all the same.
            let _ = stream.write(b"-ERR max number of clients reached\r\n");
            return;
        }
        let place = self.vacant.pop_first().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let token = Token(FIRST_CLIENT + place);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            self.warnings.warn("accept", || format!("client {address} refused: {error}"));
            self.vacant.insert(place);
            return;
        }
        // Without it replies may be late, but not wrong.
        let _ = stream.set_nodelay(true);
        self.connections_made += 1;
        let id = connection::id(self.connections_made, place);
        self.clients[place] = Some(Connection::new(id, stream, address, self.options.limits, now_ms));
        self.touch(place);
        self.make_ready(place);
    }

    fn handle_timers(&mut self) {
        while let Some((time_ms, place)) = self.timers.first().copied() {
            if time_ms > self.turn.now_ms {
                return;
            }
            self.timers.pop_first();
            let Some(Some(client)) = self.clients.get_mut(place) else { continue };
            client.timer_ms = None;
            client.session.handle_time(&mut self.turn);
            self.touch(place);
        }
    }

    /// Reads once from each client that is ready, as far as the turn goes.
    fn read(&mut self) {
        let mut ready = std::mem::take(&mut self.ready).into_iter();
        let mut left_bytes = TURN_BYTES;
        while left_bytes > 0
            && let Some(place) = ready.next()
        {
            let Some(Some(client)) = self.clients.get_mut(place) else { continue };
            client.is_ready = false;
            let read = client.read(&mut self.scratch, &mut self.turn);
            left_bytes = left_bytes.saturating_sub(read);
            self.touch(place);
        }
        self.ready.extend(ready);
    }

    fn propose(&mut self) {
        if self.turn.proposals.is_empty() {
            return;
        }
        let mut outcomes = Vec::new();
        let room = self.turn.proposals.len();
        let proposals = std::mem::replace(&mut self.turn.proposals, Vec::with_capacity(room));
        self.turn.front.propose(proposals, &mut outcomes);
        for (ticket, outcome) in outcomes {
            self.handle_outcome(ticket, &outcome);
        }
    }

    /// Writes to the clients that something happened to, closes those that are finished, and notes what the
    /// others want next. The waiters of closed clients have all been registered at this point, so all of them
    /// are removed.
    fn settle(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let share_bytes = FAIR_SHARE_BYTES.min(self.options.memory_bytes / self.options.connections.max(1));
        for place in touched {
            let Some(Some(client)) = self.clients.get_mut(place) else { continue };
            client.is_touched = false;
            client.write(self.turn.now_ms);
            self.memory_bytes += client.session.held_bytes();
            self.memory_bytes -= std::mem::replace(&mut client.held_bytes, client.session.held_bytes());
            if self.memory_bytes > self.options.memory_bytes && client.held_bytes > share_bytes {
                client.session.handle_memory_short(share_bytes);
                self.memory_bytes -= client.held_bytes;
                client.held_bytes = client.session.held_bytes();
                self.memory_bytes += client.held_bytes;
            }
            if let Some(complaint) = client.session.take_complaint() {
                let address = client.address;
                let kind = complaint.kind();
                self.warnings.warn(kind, || format!("client {address} {complaint}"));
            }
            if client.is_over(self.turn.now_ms) {
                self.remove(place);
            } else {
                self.expect(place);
            }
        }
    }

    /// Notes whether and when a client must be looked at without an event.
    fn expect(&mut self, place: usize) {
        let Some(Some(client)) = self.clients.get_mut(place) else { return };
        let deadline_ms = client.deadline_ms();
        // A timer that is early costs one look; moving it at every request would cost more.
        if deadline_ms.is_some_and(|deadline_ms| client.timer_ms.is_none_or(|time_ms| deadline_ms < time_ms))
        {
            if let Some(time_ms) = client.timer_ms {
                self.timers.remove(&(time_ms, place));
            }
            self.timers.extend(deadline_ms.map(|deadline_ms| (deadline_ms, place)));
            client.timer_ms = deadline_ms;
        }
        if client.wants_reading() {
            self.make_ready(place);
        }
    }

    fn remove(&mut self, place: usize) {
        let Some(mut client) = self.clients.get_mut(place).and_then(Option::take) else { return };
        client.session.handle_gone(&mut self.turn);
        self.memory_bytes -= client.held_bytes;
        if let Some(time_ms) = client.timer_ms {
            self.timers.remove(&(time_ms, place));
        }
        // If it cannot be deregistered, the close below does it.
        let _ = self.poll.registry().deregister(&mut client.stream);
        self.vacant.insert(place);
        if let Accept::PausedUntil(_) = self.accept {
            self.accept = Accept::Ready;
        }
    }

    /// Takes the port towards its end. Returns whether all clients have what they are owed, or their time is
    /// up.
    fn has_ended(&mut self) -> bool {
        let now_ms = self.turn.now_ms;
        self.turn.ending = true;
        self.listener = None;
        self.accept = Accept::Idle;
        let give_up_ms = now_ms.saturating_add(self.options.end_grace_ms);
        let end = self.end.get_or_insert(End { give_up_ms, given_up: false });
        let is_quiet = self.clients.iter().flatten().all(|client| client.session.is_quiet());
        let is_over = end.given_up && now_ms >= end.give_up_ms + FLUSH_MS;
        if is_quiet || is_over {
            self.clients.iter_mut().flatten().for_each(|client| client.end(&mut self.scratch));
            (0..self.clients.len()).for_each(|place| self.remove(place));
            return true;
        }
        if !end.given_up && now_ms >= end.give_up_ms {
            end.given_up = true;
            for client in self.clients.iter_mut().flatten() {
                client.session.handle_shutdown(&mut self.turn);
            }
            (0..self.clients.len()).for_each(|place| self.touch(place));
            self.settle();
        }
        false
    }

    fn touch(&mut self, place: usize) {
        if let Some(Some(client)) = self.clients.get_mut(place)
            && !std::mem::replace(&mut client.is_touched, true)
        {
            self.touched.push(place);
        }
    }

    fn make_ready(&mut self, place: usize) {
        if let Some(Some(client)) = self.clients.get_mut(place)
            && !std::mem::replace(&mut client.is_ready, true)
        {
            self.ready.push(place);
        }
    }
}
