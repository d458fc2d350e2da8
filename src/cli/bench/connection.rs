//! One connection of the load, with what is outstanding on it.
//!
//! A server answers in the order of the requests, so a queue of what is outstanding is all it takes to match
//! them. Latency counts from just before the first `write` that should carry the request to just after the
//! `read` that brought the answer's end: a request that did not fit into the socket's buffer waits on the
//! clock, and so does one that had to be sent again.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::record::{Record, Trouble};
use super::requests::{Request, Requests};

/// Between a failure and the next try.
const REDIAL_DELAY: Duration = Duration::from_millis(5);
/// A longer line is not an answer to a proposal.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// Written bytes are cut off the output once there are this many.
const CUT_BYTES: usize = 64 * 1024;

/// A connection, or the wish for one.
///
/// Invariants: the last `unsent` of `outstanding` have never been handed to the system; `output` holds what
/// is not yet written, from `written` on. Its size is bounded by the number outstanding, which never changes.
pub struct Connection {
    token: Token,
    server: usize,
    state: State,
    outstanding: VecDeque<Request>,
    unsent: usize,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// The last sign of life, or the time of dialling.
    heard: Instant,
}

enum State {
    Down { due: Instant },
    Up(TcpStream),
}

impl Connection {
    /// A connection to dial immediately, with its first requests.
    pub fn new(token: Token, server: usize, outstanding: VecDeque<Request>) -> Connection {
        let now = Instant::now();
        let (state, unsent) = (State::Down { due: now }, outstanding.len());
        let (output, input) = (Vec::new(), Vec::new());
        Connection { token, server, state, outstanding, unsent, output, written: 0, input, heard: now }
    }

    /// Which server it is for.
    pub fn server(&self) -> usize {
        self.server
    }

    /// Whether it is time to dial.
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Down { due } if due <= now)
    }

    /// Whether it has waited for its server for longer than `limit`.
    pub fn is_silent(&self, now: Instant, limit: Duration) -> bool {
        matches!(self.state, State::Up(_)) && now.saturating_duration_since(self.heard) > limit
    }

    /// Dials; all that is outstanding goes out when the connection is up.
    pub fn dial(
        &mut self,
        server: SocketAddr,
        registry: &Registry,
        requests: &Requests,
        now: Instant,
    ) -> Result<(), Trouble> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
        self.state = State::Up(stream);
        self.heard = now;
        self.input.clear();
        self.output.clear();
        self.written = 0;
        self.outstanding.iter().for_each(|request| requests.encode(request, &mut self.output));
        Ok(())
    }

    /// Closes; the next of `servers` is dialled after a moment.
    pub fn move_on(&mut self, servers: usize, now: Instant) {
        self.server = (self.server + 1) % servers;
        self.state = State::Down { due: now + REDIAL_DELAY };
    }

    /// Reads answers, puts new requests into the places of the answered ones, writes. With `fail_over` an
    /// error answer leaves its request outstanding and gives the connection up.
    pub fn handle_event(
        &mut self,
        event: &Event,
        buffer: &mut [u8],
        fail_over: bool,
        requests: &mut Requests,
        record: &mut Record<'_>,
    ) -> Result<(), Trouble> {
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            loop {
                let read = self.read(buffer)?;
                self.handle_answers(Instant::now(), fail_over, requests, record)?;
                // A short read emptied the socket, unless the end of the stream is behind it.
                if read == 0 || (read < buffer.len() && !event.is_read_closed()) {
                    break;
                }
            }
        }
        self.write()
    }

    /// Appends to `input`; 0 if there is nothing to read now.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        let State::Up(stream) = &mut self.state else { return Ok(0) };
        loop {
            match stream.read(buffer) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn handle_answers(
        &mut self,
        now: Instant,
        fail_over: bool,
        requests: &mut Requests,
        record: &mut Record<'_>,
    ) -> Result<(), Trouble> {
        let whole = self.input.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut input = std::mem::take(&mut self.input);
        for line in input[..whole].split_inclusive(|byte| *byte == b'\n') {
            self.handle_answer(line, now, fail_over, record)?;
            let request = requests.make();
            requests.encode(&request, &mut self.output);
            self.outstanding.push_back(request);
            self.unsent += 1;
        }
        input.drain(..whole);
        self.input = input;
        if whole > 0 {
            self.heard = now;
        }
        if self.input.len() > MAX_ANSWER_BYTES { Err(nonsense(&self.input)) } else { Ok(()) }
    }

    /// Takes the oldest outstanding request off, if the answer ends it.
    fn handle_answer(
        &mut self,
        line: &[u8],
        now: Instant,
        fail_over: bool,
        record: &mut Record<'_>,
    ) -> Result<(), Trouble> {
        // An answer to nothing: none outstanding, or none handed over yet.
        let Some(sent) = self.outstanding.front().and_then(|request| request.sent) else {
            return Err(nonsense(line));
        };
        match (line.first(), line.strip_suffix(b"\r\n")) {
            (Some(b':'), Some(_)) => record.add_success(sent, now),
            (Some(b'-'), Some(text)) => {
                let trouble = Trouble::Answer(String::from_utf8_lossy(&text[1..]).into_owned());
                if fail_over {
                    return Err(trouble);
                }
                record.add_answered_error(&trouble);
            }
            _ => return Err(nonsense(line)),
        }
        self.outstanding.pop_front();
        Ok(())
    }

    fn write(&mut self) -> Result<(), Trouble> {
        let State::Up(stream) = &mut self.state else { return Ok(()) };
        if self.unsent > 0 {
            let now = Instant::now();
            let handed_over = self.outstanding.iter_mut().rev().take(self.unsent);
            handed_over.for_each(|request| request.sent = Some(now));
            self.unsent = 0;
        }
        while self.written < self.output.len() {
            match stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.written == self.output.len() || self.written > CUT_BYTES {
            self.output.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}

fn nonsense(line: &[u8]) -> Trouble {
    Trouble::Nonsense(String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned())
}
