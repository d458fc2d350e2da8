//! What the log should say about a client.

use thiserror::Error;

use crate::client::command::Quoted;
use crate::client::splitter::ProtocolError;

/// Why a connection was ended although its client did not ask for that.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Complaint {
    /// What came is not a request; holds its beginning.
    #[error("closed: {0} (it sent: \"{1}\")")]
    Protocol(ProtocolError, Quoted),
    /// A request was not complete after this many seconds.
    #[error("closed: a request was not complete after {0} s")]
    Incomplete(u64),
    /// It does not take its replies, of which this many bytes wait.
    #[error("dropped: it does not read its replies ({0} bytes wait)")]
    Behind(usize),
    /// It holds this many bytes while the memory for all clients is used up.
    #[error("dropped: it holds {0} bytes while client buffers are full")]
    Memory(usize),
}

impl Complaint {
    /// The kind of complaint, without details: each kind is logged only once in a while.
    pub fn kind(&self) -> &'static str {
        match self {
            Complaint::Protocol(..) => "protocol",
            Complaint::Incomplete(_) => "incomplete",
            Complaint::Behind(_) => "behind",
            Complaint::Memory(_) => "memory",
        }
    }
}
