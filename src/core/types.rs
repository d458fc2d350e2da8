//! The words that all protocols share: node, index, ballot, command, entry, hard state.
//!
//! What a protocol calls differently (Raft's term and vote, the seeds' instance and sequence) is written
//! with these words; the table in ARCHITECTURE.md maps them. Encodings are not here: `wire` and `store`
//! have one each, so that the words stay free of both.

use std::fmt;

use bytes::Bytes;

/// A server of the cluster. Greater than 0; 0 means "none" inside a [`Ballot`].
pub type NodeId = u64;

/// A position in the log, from 1; 0 means "before the first".
pub type Index = u64;

/// The larger part of a [`Ballot`]; Raft's term.
pub type Round = u64;

/// The longest payload that any node accepts from anyone. A node's own limit for its clients
/// (`limits.value_bytes`) may be lower, never higher.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// No message may name an index further than this above the watermark it carries, nor may a node keep more
/// unchosen indexes than this: the highest `limits.window_entries`.
pub const MAX_WINDOW_ENTRIES: u64 = 65_536;

/// The highest `limits.window_bytes`: what a leader may have proposed and not yet chosen.
pub const MAX_WINDOW_BYTES: usize = 1 << 30;

/// A ballot number. "Paxos Made Simple" section 2.2 has each belong to one proposer; the node's id ensures
/// that. Ordered by round, then node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Raised by a candidate above every round that it has seen or stored.
    pub round: Round,
    /// The proposer whose ballot it is; 0 with round 0 is "no ballot".
    pub node: NodeId,
}

impl Ballot {
    /// Below every ballot that anyone uses.
    pub const ZERO: Ballot = Ballot { round: 0, node: 0 };
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.node)
    }
}

/// Names a request permanently: commands with the same id are the same request, delivered at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// 0 holds the users' reqids; a server's own writes use a new session for each run.
    pub session: u128,
    /// Unique within the session; a user's reqid is 1 … 2^64-1. Session 0 number 0 names nothing (a no-op).
    pub number: u64,
}

impl RequestId {
    /// The id of a command that is not a request: a no-op.
    pub const NONE: RequestId = RequestId { session: 0, number: 0 };

    /// A user's reqid, as in `PROP`.
    pub const fn user(number: u64) -> RequestId {
        RequestId { session: 0, number }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.session {
            0 => write!(f, "{}", self.number),
            session => write!(f, "{session:x}:{}", self.number),
        }
    }
}

/// What a command is. Its byte in `wire` and `store` is [`Kind::code`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Fills an index and means nothing.
    #[default]
    Noop,
    /// A user's value, of any bytes.
    Value,
    /// An operation that the application encodes.
    Operation,
    /// A change of the cluster's members.
    Membership,
    /// A kind of a newer version: a node stops before it would deliver one.
    Unknown(u8),
}

impl Kind {
    /// The byte that stands for this kind wherever it is encoded.
    pub const fn code(self) -> u8 {
        match self {
            Kind::Noop => 0,
            Kind::Value => 1,
            Kind::Operation => 2,
            Kind::Membership => 3,
            Kind::Unknown(code) => code,
        }
    }

    /// The kind that a byte stands for.
    pub const fn from_code(code: u8) -> Kind {
        match code {
            0 => Kind::Noop,
            1 => Kind::Value,
            2 => Kind::Operation,
            3 => Kind::Membership,
            code => Kind::Unknown(code),
        }
    }
}

/// What is proposed and chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Command {
    /// [`RequestId::NONE`] for a no-op.
    pub request: RequestId,
    /// The node that took the proposal from a client (or made it), not the one that led.
    pub from: NodeId,
    /// What the payload is.
    pub kind: Kind,
    /// At most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

impl Command {
    /// Fills an index that nobody proposed anything for.
    pub fn noop(from: NodeId) -> Command {
        Command { from, ..Command::default() }
    }

    /// A user's value.
    pub fn value(reqid: u64, from: NodeId, payload: impl Into<Bytes>) -> Command {
        Command { request: RequestId::user(reqid), from, kind: Kind::Value, payload: payload.into() }
    }

    /// What it takes in memory and, roughly, on the wire and on disk: the unit of every byte limit.
    pub fn cost_bytes(&self) -> usize {
        64 + self.payload.len()
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Noop => write!(f, "noop"),
            Kind::Value if self.payload.len() <= 32 => {
                write!(f, "{}=\"{}\"", self.request, self.payload.escape_ascii())
            }
            Kind::Value => write!(f, "{}={}B", self.request, self.payload.len()),
            kind => write!(f, "{}={kind:?}/{}B", self.request, self.payload.len()),
        }
    }
}

/// A command as an acceptor or follower holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place in the log.
    pub index: Index,
    /// The ballot under which it was accepted (for a learned one: under which it was known).
    pub ballot: Ballot,
    /// The command there.
    pub command: Command,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.index, self.ballot, self.command)
    }
}

/// A place in the log and the round of the entry there. Ordered as Raft compares logs: of two logs that end
/// differently, the one whose last entry has the higher round is more up to date, and with equal rounds the
/// longer one (Raft thesis section 3.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The round of the entry; 0 with index 0 is "before the first".
    pub round: Round,
    /// The index of the entry.
    pub index: Index,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.round)
    }
}

/// What must be durable besides entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// Nothing below it is accepted or promised any more. It never regresses, not even over restarts. In
    /// Raft: the current term, and the node that this one voted for in it (0: none yet).
    pub promised: Ballot,
    /// Every index up to this one is chosen. It is a lower bound, written along with other things.
    pub chosen: Index,
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promised={} chosen={}", self.promised, self.chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on disks and wires keeps its meaning: these numbers never change.
    #[test]
    fn kinds_have_their_codes() {
        let known = [(Kind::Noop, 0), (Kind::Value, 1), (Kind::Operation, 2), (Kind::Membership, 3)];
        for (kind, code) in known.into_iter().chain((4..=255).map(|code| (Kind::Unknown(code), code))) {
            assert_eq!((kind.code(), Kind::from_code(code)), (code, kind));
        }
    }

    /// A no-op names the node that fills the index, and no request.
    #[test]
    fn a_noop_has_a_maker_and_no_request() {
        let Command { request, from, kind, payload } = Command::noop(3);
        assert_eq!((request, from, kind, payload.len()), (RequestId::NONE, 3, Kind::Noop, 0));
    }

    /// A long payload is printed as its length, so that a line stays a line; bytes that are not text are
    /// escaped.
    #[test]
    fn commands_print_on_one_short_line() {
        let command = |kind, payload: &[u8]| {
            let payload = Bytes::copy_from_slice(payload);
            Command { kind, payload, ..Command::value(7, 1, "") }.to_string()
        };
        assert_eq!(command(Kind::Value, b"a\n\xff"), r#"7="a\n\xff""#);
        assert_eq!(command(Kind::Value, &[b'x'; 32]), format!("7=\"{}\"", "x".repeat(32)));
        assert_eq!(command(Kind::Value, &[b'x'; 33]), "7=33B");
        assert_eq!(command(Kind::Operation, b"ab"), "7=Operation/2B");
        assert_eq!(command(Kind::Unknown(9), b""), "7=Unknown(9)/0B");
        assert_eq!(Command::noop(1).to_string(), "noop");
        assert_eq!(RequestId { session: 0xab, number: 7 }.to_string(), "ab:7");
    }
}
