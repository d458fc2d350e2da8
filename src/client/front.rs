//! The node as any client face sees it: [`Front`].
//!
//! A face (today the RESP port) brings its own protocol: how requests are framed, which ids its users know,
//! how answers and errors are worded. Here commands have request ids, kinds and payloads, and answers come by
//! ticket, so that a face knows neither the node's threads nor any other face.

use bytes::Bytes;

use crate::consensus::types::{Command, Index, Kind, NodeId, RequestId};
use crate::pipeline::ledger::Answer;
use crate::pipeline::waiters::Ticket;
use crate::store::LogReadError;

use super::status::NodeStatus;

/// What a client face asks of its node. No call may wait for consensus, a disk write or a peer.
pub trait Front: Send + Sync {
    /// Proposes everything that came in one turn of the face. A waiter is registered for each, under its
    /// ticket, unless its outcome is known immediately: then it is added to `outcomes` and nothing is
    /// registered. Later outcomes come as answers, by ticket.
    fn propose(&self, proposals: Vec<ClientProposal>, outcomes: &mut Vec<(Ticket, Outcome)>);

    /// Returns where a request was delivered; if it was not, registers a waiter for its delivery, whatever
    /// value it will have.
    fn wait(&self, request: RequestId, ticket: Ticket) -> Option<Index>;

    /// Where a request was delivered.
    fn lookup(&self, request: RequestId) -> Option<Index>;

    /// Removes a waiter, because its time is up or its connection has ended. It may have been answered in the
    /// meantime.
    fn forget(&self, request: RequestId, ticket: Ticket);

    /// Returns delivered items from `first` on, without gaps: at most `count`, and at most `max_bytes` of
    /// them unless the first alone is larger.
    fn read_log(&self, first: Index, count: usize, max_bytes: usize) -> Result<Vec<LogItem>, LogReadError>;

    /// The id of this node.
    fn node(&self) -> NodeId;

    /// The leader and its client address (`ip:port`), as far as this node knows.
    fn leader(&self) -> Option<(NodeId, String)>;

    /// The state of the node.
    fn status(&self) -> NodeStatus;
}

/// A command that a client wants to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProposal {
    /// Not [`RequestId::NONE`].
    pub request: RequestId,
    /// What the payload is.
    pub kind: Kind,
    /// At most `limits.value_bytes`.
    pub payload: Bytes,
    /// The outcome is reported under this ticket.
    pub ticket: Ticket,
    /// How long the client waits for the outcome; after that the command is not proposed any more.
    pub timeout_ms: u64,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered at this index.
    Delivered(Index),
    /// The request id was delivered at this index, with a different value.
    OtherValue(Index),
    /// Certainly not proposed, for this reason (`the queue is full`, `the disk is full`).
    Busy(&'static str),
    /// Certainly not proposed: this node takes no proposals. Holds the leader, if known.
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

/// An item of the log. It has been delivered, so it is the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogItem {
    /// Its index.
    pub index: Index,
    /// What was delivered there; `None` if nothing was (a no-op, or a repeat of a request that was delivered
    /// before).
    pub command: Option<Command>,
}
