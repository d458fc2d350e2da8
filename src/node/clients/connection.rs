//! One client's socket and session: reading, writing, and an end that lets the client read the last reply.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;

use crate::client::Limits;
use crate::client::session::{Session, Turn};

/// The lowest bits of a connection's id are its place in the table of clients.
const PLACE_BITS: u32 = 20;

/// The number of places.
pub(super) const MAX_CONNECTIONS: usize = 1 << PLACE_BITS;

/// Picks a connection's place from its id.
pub(super) const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// After the last reply the port reads on for this long, or this many bytes, and ignores what it reads: a
/// socket that is closed over unread bytes takes the reply that is under way with it.
const LINGER_MS: u64 = 1_000;
const LINGER_BYTES: usize = 16 << 20;

/// A connection's id: its number, which is never used again in this run, and its place.
pub(super) fn id(number: u64, place: usize) -> u64 {
    assert!(place as u64 <= PLACE_MASK, "place {place} is above the highest, {PLACE_MASK}");
    number << PLACE_BITS | place as u64
}

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) session: Session,
    /// Whether it is in the list of connections to read.
    pub(super) is_ready: bool,
    /// Whether it is in the list of connections that something happened to.
    pub(super) is_touched: bool,
    /// Its timer, if it has one.
    pub(super) timer_ms: Option<u64>,
    /// What its session held at the end of the last turn.
    pub(super) held_bytes: usize,
    /// The socket may have bytes for us: true until a read found none.
    is_readable: bool,
    /// The client has ended its side, so reads go on until they find that end.
    is_half_closed: bool,
    /// The socket may take bytes: true until it refused some.
    is_writable: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Everything is written and our side has ended.
    Lingering {
        until_ms: u64,
        left_bytes: usize,
    },
    /// Both sides have ended, or the connection failed.
    Gone,
}

impl Connection {
    pub(super) fn new(id: u64, stream: TcpStream, address: SocketAddr, limits: Limits, now_ms: u64) -> Self {
        Connection {
            id,
            stream,
            address,
            session: Session::new(id, limits, now_ms),
            is_ready: false,
            is_touched: false,
            timer_ms: None,
            held_bytes: 0,
            is_readable: true,
            is_half_closed: false,
            is_writable: true,
            phase: Phase::Open,
        }
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        if event.is_write_closed() {
            self.phase = Phase::Gone; // reset, or ended by both sides
        }
        self.is_half_closed |= event.is_read_closed();
        self.is_readable |= event.is_readable() || self.is_half_closed;
        self.is_writable |= event.is_writable();
    }

    /// Serves requests that were left for lack of room, then reads once. Returns how many bytes it read.
    pub(super) fn read(&mut self, scratch: &mut [u8], turn: &mut Turn) -> usize {
        self.session.resume(turn);
        if !self.wants_reading() || !self.is_readable {
            return 0;
        }
        match self.stream.read(scratch) {
            Ok(0) => self.handle_end_of_input(turn.now_ms),
            Ok(count) => {
                // Fewer bytes than asked for means that there are no more; the poll reports further ones.
                self.is_readable = count == scratch.len() || self.is_half_closed;
                self.handle_bytes(scratch.get(..count).unwrap_or_default(), turn);
                return count;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => self.is_readable = false,
                ErrorKind::Interrupted => {}
                _ => self.phase = Phase::Gone,
            },
        }
        0
    }

    fn handle_bytes(&mut self, bytes: &[u8], turn: &mut Turn) {
        match &mut self.phase {
            Phase::Open => self.session.handle_bytes(bytes, turn),
            Phase::Lingering { left_bytes, .. } if *left_bytes > bytes.len() => *left_bytes -= bytes.len(),
            Phase::Lingering { .. } | Phase::Gone => self.phase = Phase::Gone,
        }
    }

    fn handle_end_of_input(&mut self, now_ms: u64) {
        self.is_readable = false;
        self.session.handle_end_of_input(now_ms);
        if self.phase != Phase::Open {
            self.phase = Phase::Gone;
        }
    }

    /// Writes as much of the output as the socket takes.
    pub(super) fn write(&mut self, now_ms: u64) {
        while self.phase == Phase::Open && self.is_writable && !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(0) => self.phase = Phase::Gone,
                Ok(count) => self.session.handle_written(count, now_ms),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.is_writable = false;
                        self.session.handle_written(0, now_ms);
                    }
                    ErrorKind::Interrupted => {}
                    _ => self.phase = Phase::Gone,
                },
            }
        }
    }

    /// Called when the node ends: ends our side immediately, and reads what has arrived so that the close
    /// does not take the last reply with it.
    pub(super) fn end(&mut self, scratch: &mut [u8]) {
        // A failure means that the client ended the connection first.
        let _ = self.stream.shutdown(Shutdown::Write);
        for _ in 0..LINGER_BYTES / scratch.len().max(1) {
            if !matches!(self.stream.read(scratch), Ok(count) if count == scratch.len()) {
                return;
            }
        }
    }

    /// Returns whether the connection can be removed. A connection that is finished lingers first.
    pub(super) fn is_over(&mut self, now_ms: u64) -> bool {
        if self.phase == Phase::Open && self.session.is_finished() {
            // A failure means that the client ended the connection first.
            let ended = self.session.is_dropped() || self.stream.shutdown(Shutdown::Write).is_err();
            self.phase = if ended {
                Phase::Gone
            } else {
                Phase::Lingering { until_ms: now_ms + LINGER_MS, left_bytes: LINGER_BYTES }
            };
        }
        match self.phase {
            Phase::Open => self.session.is_dropped(),
            Phase::Lingering { until_ms, .. } => until_ms <= now_ms,
            Phase::Gone => true,
        }
    }

    /// Whether there is something to read, and room for it.
    pub(super) fn wants_reading(&self) -> bool {
        match self.phase {
            Phase::Open => {
                self.session.wants_input() && (self.is_readable || self.session.has_unread_requests())
            }
            Phase::Lingering { .. } => self.is_readable,
            Phase::Gone => false,
        }
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Open => self.session.deadline_ms(),
            Phase::Lingering { until_ms, .. } => Some(until_ms),
            Phase::Gone => None,
        }
    }
}
