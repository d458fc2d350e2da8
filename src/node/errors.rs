//! The errors that the embedder of a node can get, each with what is wrong and what to do.

use crate::consensus::types::{Index, NodeId};
use crate::store;

use super::ending::ExitCode;

/// The highest number of commands in one proposal.
pub const MAX_COMMANDS: usize = 4096;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The kind of error; a server's exit code.
    pub code: ExitCode,
    /// What is wrong and what to do.
    pub text: String,
    /// Whether it may pass without a change: there is no room on the disk now. The node can be started again
    /// as soon as there is; `simplesvr` waits for that.
    pub may_pass: bool,
}

impl StartError {
    pub(crate) fn new(code: ExitCode, text: impl Into<String>) -> StartError {
        StartError { code, text: text.into(), may_pass: false }
    }

    /// There is no room on the disk.
    pub(crate) fn no_room(text: impl Into<String>) -> StartError {
        StartError { code: ExitCode::Disk, text: text.into(), may_pass: true }
    }
}

/// Why a command was certainly not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Too much is under way, or the disk is full.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The payload is longer than this node accepts.
    #[error("the payload has {bytes} bytes; limits.value_bytes allows {limit}")]
    TooLong {
        /// The length of the payload.
        bytes: usize,
        /// `limits.value_bytes`.
        limit: usize,
    },
    /// Not between 1 and [`MAX_COMMANDS`] commands.
    #[error("{0} commands in one proposal; 1 to {MAX_COMMANDS} are allowed")]
    Count(usize),
    /// [`RequestId::NONE`](crate::RequestId::NONE) names nothing.
    #[error("the request id 0 names nothing; use a different one")]
    NoRequest,
    /// The node has failed: see [`Node::failure`](super::Node::failure).
    #[error("the node has ended")]
    Ended,
}

/// Why a command was not delivered, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not delivered on this node in time. It may have been chosen, or may still be. Propose it again
    /// with [`Node::propose_as`](super::Node::propose_as) and the same
    /// [`Proposed::request`](super::Proposed::request): it is delivered only once.
    #[error(
        "not delivered in time: whether it is chosen is unknown; propose it again with the same request id"
    )]
    TimedOut,
    /// The node was stopped or has failed. Whether the command is chosen is as unknown as with
    /// [`WaitError::TimedOut`].
    #[error("the node ended: whether the command is chosen is unknown")]
    Ended,
    /// A different command with the same request id was delivered at this index, so this one never will be.
    #[error("the request id was used for a different command, delivered at index {index}")]
    OtherCommand {
        /// Where.
        index: Index,
    },
}

/// Why the log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The entries are no longer kept.
    #[error("entries up to index {compacted} are no longer kept")]
    Compacted {
        /// The highest index that is no longer kept.
        compacted: Index,
    },
    /// The disk cannot be read, or what is on it is damaged. If that lasts, the node ends and says why.
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

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The successor is this node, or not in the cluster.
    #[error("node {to} is not another member of this cluster; {}", choice(others))]
    NoOtherMember {
        /// The node that should have led.
        to: NodeId,
        /// The nodes that can lead.
        others: Vec<NodeId>,
    },
    /// Only the leader can hand over.
    #[error("this node does not lead; ask the leader ({leader:?})")]
    NotLeading {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Earlier requests still wait for the state machine.
    #[error("earlier requests to hand over leadership are still waiting; try again")]
    Busy,
}

/// What the caller can do instead.
fn choice(others: &[NodeId]) -> String {
    match others {
        [] => "this node is the only member".to_owned(),
        others => format!("choose one of {others:?}"),
    }
}
