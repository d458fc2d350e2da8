//! A non-blocking TCP connection of the peer network: frames in, bytes out.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::net::sockopt;

use crate::pipeline::handshake::Failure;
use crate::wire::frame::{FrameDecoder, FrameError};
use crate::wire::hello::{Greeting, GreetingError, MAX_GREETING_BYTES, Nonce, Refusal};
use crate::wire::message::MessageError;

/// The most that is read from one connection in one turn (in whole reads), so that none starves the others.
const READ_TURN_BYTES: usize = 1 << 20;

/// A silent connection ends after so many unanswered probes, if no time limit ends it earlier.
const KEEP_ALIVE_PROBES: u32 = 3;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("closed by the other end")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Greeting(#[from] GreetingError),
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("refused ({0})")]
    Refused(Refusal),
    #[error("refused by the other end ({0})")]
    RefusedByPeer(Refusal),
    #[error("{0}")]
    Broken(String),
}

impl Ended {
    /// Why a handshake ends a connection, and what the other end is told.
    pub(super) fn of_handshake(failure: Failure) -> (Ended, Option<Greeting>) {
        match failure {
            Failure::Refused { refusal, say } => (Ended::Refused(refusal), say.map(|it| *it)),
            Failure::RefusedByPeer { refusal, .. } => (Ended::RefusedByPeer(refusal), None),
            Failure::Broken(why) => (Ended::Broken(why), None),
        }
    }
}

/// A fresh number for a handshake.
pub(super) fn random_nonce() -> Result<Nonce, Ended> {
    let mut nonce = Nonce::default();
    match getrandom::fill(&mut nonce) {
        Ok(()) => Ok(nonce),
        Err(error) => Err(Ended::Broken(format!("the system has no random numbers: {error}"))),
    }
}

/// How a read ended, if it did not end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    Drained,
    /// The turn's share is used up; there may be more, which no event will report.
    More,
}

pub(super) struct Socket {
    stream: TcpStream,
    pub(super) token: Token,
    decoder: FrameDecoder,
    /// Set when a write took less than everything, until the next writable event.
    blocked: bool,
}

impl Socket {
    /// Registers a connected or connecting stream. Until [`Socket::set_limit`] it accepts only frames of
    /// greetings.
    pub(super) fn new(
        mut stream: TcpStream,
        token: Token,
        registry: &Registry,
        unacknowledged_timeout: Duration,
    ) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        detect_dead_peers(&stream, unacknowledged_timeout)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket { stream, token, decoder: FrameDecoder::new(MAX_GREETING_BYTES), blocked: false })
    }

    /// Allows payloads of up to `bytes`.
    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.decoder.set_limit(bytes);
    }

    /// Returns whether a connecting stream is connected.
    pub(super) fn is_connected(&self) -> Result<bool, Ended> {
        if let Some(error) = self.stream.take_error()? {
            return Err(Ended::Io(error));
        }
        match self.stream.peer_addr() {
            Ok(peer) if peer == self.stream.local_addr()? => {
                // Nobody listens, and the system gave this socket the dialled port as its own.
                Err(Ended::Broken("connected to itself".to_owned()))
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(Ended::Io(error)),
        }
    }

    /// Appends the payloads that have arrived, including those before the end that an error reports.
    ///
    /// A read that fills less than `scratch` has emptied the socket: whatever comes later, the end included,
    /// is a new event (epoll(7)), unless the current event has already reported the end: then `to_end` is
    /// set.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        to_end: bool,
        payloads: &mut Vec<Bytes>,
    ) -> Result<ReadEnd, Ended> {
        let mut total = 0;
        while total < READ_TURN_BYTES {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(ReadEnd::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ended::Io(error)),
            };
            total += count;
            let mut input = &scratch[..count];
            while !input.is_empty() {
                payloads.extend(self.decoder.decode(&mut input)?);
            }
            if count < scratch.len() && !to_end {
                return Ok(ReadEnd::Drained);
            }
        }
        Ok(ReadEnd::More)
    }

    /// Writes as much of `out` as the system takes, if it takes any.
    pub(super) fn write(&mut self, out: &mut BytesMut) -> io::Result<()> {
        while !out.is_empty() && !self.blocked {
            match self.stream.write(out) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => out.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The system takes bytes again.
    pub(super) fn handle_writable(&mut self) {
        self.blocked = false;
    }
}

/// Has the system give up a connection whose other end acknowledges nothing for this long, be it bytes or, on
/// a silent connection, probes; see [`limits`](super::limits).
fn detect_dead_peers(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let whole_seconds = Duration::from_secs(timeout.as_millis().div_ceil(1000) as u64);
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, whole_seconds)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_PROBES)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, timeout.as_millis() as u32)?;
    Ok(())
}
