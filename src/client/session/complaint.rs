//! What the log should say about a client.

use thiserror::Error;

use crate::client::command::Quoted;
use crate::client::splitter::ProtocolError;

/// Why a connection is ended although its client did not ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Complaint {
    /// What came is no request; its beginning.
    #[error("closed: {0} (it sent: \"{1}\")")]
    Protocol(ProtocolError, Quoted),
    /// A request did not become complete in so many seconds.
    #[error("closed: a request was not complete after {0} s")]
    Incomplete(u64),
    /// It does not take its replies, of which so many bytes wait.
    #[error("dropped: it does not read its replies ({0} bytes wait)")]
    Behind(usize),
    /// It holds so many bytes while the memory for all clients is used up.
    #[error("dropped: it holds {0} bytes while client buffers are full")]
    Memory(usize),
}

impl Complaint {
    /// Which of them it is, without details: each kind is logged once in a while.
    pub fn kind(&self) -> &'static str {
        match self {
            Complaint::Protocol(..) => "protocol",
            Complaint::Incomplete(_) => "incomplete",
            Complaint::Behind(_) => "behind",
            Complaint::Memory(_) => "memory",
        }
    }
}
