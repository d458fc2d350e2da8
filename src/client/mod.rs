//! The client port as functions of data: bytes in, proposals and reply bytes out. No socket, clock or thread;
//! `node::clients` has those.
//!
//! | file | subject |
//! | --- | --- |
//! | [`splitter`] | bytes → requests: arrays of bulk strings (RESP2), or lines |
//! | [`mod@line`] | what a line is: telnet, `PROP`'s verbatim value, quotes |
//! | [`command`] | a request's arguments → [`command::Command`] |
//! | [`catalog`] | the list of commands: their usage, `HELP`, `COMMAND` |
//! | [`execute`] | the commands that only read |
//! | [`reply`] | the encoding of replies |
//! | [`pending`] | what a connection waits for, in the order in which it is owed |
//! | [`session`] | one connection: reply mode, limits, time, the order of replies |
//!
//! The rest of the node is behind [`Service`].

use bytes::Bytes;

use crate::consensus::types::{Index, MAX_PAYLOAD_BYTES, NodeId};
use crate::pipeline::requests::{Answer, Ticket};

mod buffer;
pub mod catalog;
pub mod command;
pub mod execute;
pub mod line;
pub mod pending;
pub mod reply;
pub mod session;
pub mod splitter;
#[cfg(test)]
pub(crate) mod testing;

/// The node, as its client port sees it. No call may wait for consensus, a disk write or a peer.
pub trait Service: Send + Sync {
    /// Proposes all that came in one turn of the port. A waiter is registered for each, under its ticket,
    /// unless its outcome is known at once: then it is added to `outcomes` and nothing is registered. Later
    /// outcomes come through the queue of answers.
    fn propose(&self, proposals: Vec<Submission>, outcomes: &mut Vec<(Ticket, Outcome)>);

    /// Where a reqid was delivered, or else registers a waiter for its delivery, with whatever value.
    fn wait(&self, reqid: u64, ticket: Ticket) -> Option<Index>;

    /// Where a reqid was delivered.
    fn lookup(&self, reqid: u64) -> Option<Index>;

    /// Removes a waiter: its time is up or its connection ended. It may have been answered meanwhile.
    fn forget(&self, reqid: u64, ticket: Ticket);

    /// Delivered items from `first` on, without gaps: at most `count`, and at most `max_bytes` of values
    /// unless the first alone is longer. An error says why there are none (no longer kept, the disk).
    fn read_log(&self, first: Index, count: usize, max_bytes: usize) -> Result<Vec<LogItem>, String>;

    /// This node.
    fn node(&self) -> NodeId;

    /// Who leads and its client address (`ip:port`), as far as this node knows.
    fn leader(&self) -> Option<(NodeId, String)>;

    /// Sections of keys and values, for `STATUS` and `INFO`.
    fn status(&self) -> Vec<Section>;
}

/// A heading and its keys and values.
pub type Section = (String, Vec<(String, String)>);

/// A client's proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// 1 … 2^64-1.
    pub reqid: u64,
    /// 1 byte to [`Limits::value_bytes`].
    pub value: Bytes,
    /// Under which the outcome is reported.
    pub ticket: Ticket,
    /// How long the client waits for it.
    pub timeout_ms: u64,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered at this index.
    Delivered(Index),
    /// The reqid was delivered at this index, with another value.
    OtherValue(Index),
    /// Certainly not proposed, for this reason (`the queue is full`, `the disk is full`).
    Busy(&'static str),
    /// Certainly not proposed: this node takes no proposals. Who leads, if known.
    TryAgain(Option<(NodeId, String)>),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        match answer {
            Answer::Delivered(index) => Outcome::Delivered(index),
            Answer::OtherValue(index) => Outcome::OtherValue(index),
        }
    }
}

/// An item of the log, for `LOG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogItem {
    /// Where it was delivered.
    pub index: Index,
    /// 0 for a no-op.
    pub reqid: u64,
    /// `None` for a no-op.
    pub value: Option<Bytes>,
}

/// The limits of one connection. The constants of [`session`] are those that nobody needs to change.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest value; longer ones are answered `-TOOLARGE`. At most [`MAX_PAYLOAD_BYTES`].
    pub value_bytes: usize,
    /// How long a `PROP` waits for its delivery before it is answered `-TIMEOUT`; and an `AWAIT` that names
    /// no time.
    pub propose_timeout_ms: u64,
    /// How long a request may take from its first byte to its last; then the connection is closed.
    pub request_timeout_ms: u64,
    /// A client that takes neither all of its replies nor 16 KiB of them in this time is dropped.
    pub behind_timeout_ms: u64,
    /// A connection without a request or an answer for this long is closed; 0: never.
    pub idle_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            value_bytes: MAX_PAYLOAD_BYTES,
            propose_timeout_ms: 5_000,
            request_timeout_ms: 30_000,
            behind_timeout_ms: 30_000,
            idle_timeout_ms: 3_600_000,
        }
    }
}
