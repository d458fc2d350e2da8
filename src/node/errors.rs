//! The errors that the embedder of a node meets, each with what is wrong and what to do.

use crate::consensus::types::{Index, NodeId};
use crate::store;

use super::ending::ExitCode;

/// One proposal holds at most so many commands.
pub const MAX_COMMANDS: usize = 4096;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// What kind it is; a server's exit code.
    pub code: ExitCode,
    /// What is wrong and what to do.
    pub text: String,
}

impl StartError {
    pub(crate) fn new(code: ExitCode, text: impl Into<String>) -> StartError {
        StartError { code, text: text.into() }
    }
}

/// Why a command is certainly not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Too much is under way, or the disk is full.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The payload is longer than this node takes.
    #[error("{bytes} bytes; limits.value_bytes allows {limit}")]
    TooLong {
        /// Of the payload.
        bytes: usize,
        /// `limits.value_bytes`.
        limit: usize,
    },
    /// Not between 1 and [`MAX_COMMANDS`] commands.
    #[error("{0} commands in one proposal; allowed are 1 to {MAX_COMMANDS}")]
    Count(usize),
    /// [`RequestId::NONE`](crate::RequestId::NONE) names nothing.
    #[error("the request id 0 names nothing; use another")]
    NoRequest,
    /// The node has failed: see [`Node::failure`](super::Node::failure).
    #[error("the node has ended")]
    Ended,
}

/// Why a command was not delivered, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not delivered on this node in time. It may have been chosen, or still be. Propose it again with
    /// [`Node::propose_as`](super::Node::propose_as) and the same
    /// [`Proposed::request`](super::Proposed::request): it is delivered once.
    #[error(
        "not delivered in time: whether it is chosen is unknown; propose it again with the same request id"
    )]
    TimedOut,
    /// The node was stopped or has failed. As unknown as [`WaitError::TimedOut`].
    #[error("the node ended: whether the command is chosen is unknown")]
    Ended,
    /// Another command with the same request id was delivered at this index, so this one never is.
    #[error("the request id was used for another command, delivered at index {index}")]
    OtherCommand {
        /// Where.
        index: Index,
    },
}

/// Why the log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is no longer kept.
    #[error("entries up to index {compacted} are no longer kept")]
    Compacted {
        /// The highest index that is no longer kept.
        compacted: Index,
    },
    /// The disk cannot be read, or what is on it is damaged; if that lasts the node ends, and says why.
    #[error("{0}")]
    Unreadable(String),
}

impl From<store::LogReadError> for ReadError {
    fn from(error: store::LogReadError) -> ReadError {
        match error {
            store::LogReadError::Compacted { compacted } => ReadError::Compacted { compacted },
            other => ReadError::Unreadable(other.to_string()),
        }
    }
}

/// Why leadership is not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The successor is this node, or none of the cluster.
    #[error("node {to} is not another member of this cluster; choose one of {others:?}")]
    NoOtherMember {
        /// Who was to lead.
        to: NodeId,
        /// Who can.
        others: Vec<NodeId>,
    },
    /// Only the leader can hand over.
    #[error("this node does not lead; ask the leader ({leader:?})")]
    NotLeading {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Earlier wishes wait for the state machine.
    #[error("earlier wishes have not been looked at; try again")]
    Busy,
}
