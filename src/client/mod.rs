//! What clients see of a node, as functions of data: the [`front`] that every client face builds on, and the
//! RESP port: bytes in, proposals and reply bytes out. There is no socket, clock or thread here;
//! `node::clients` has those.
//!
//! | file | subject |
//! | --- | --- |
//! | [`front`] | the node as any face sees it: proposals, answers by ticket, the log |
//! | [`status`] | the state of a node, as plain data |
//! | [`splitter`] | bytes → requests: arrays of bulk strings (RESP2), or lines |
//! | [`mod@line`] | what a line is: telnet, `PROP`'s verbatim value, quotes |
//! | [`command`] | a request's arguments → [`command::Command`] |
//! | [`catalog`] | the list of commands: their usage, `HELP`, `COMMAND` |
//! | [`execute`] | the commands that only read |
//! | [`reply`] | the encoding of replies |
//! | [`pending`] | what a connection waits for, in the order in which it is owed |
//! | [`session`] | one connection: reply mode, limits, time, the order of replies |

use crate::consensus::types::MAX_PAYLOAD_BYTES;

mod buffer;
pub mod catalog;
pub mod command;
pub mod execute;
pub mod front;
pub mod line;
pub mod pending;
pub mod reply;
pub mod session;
pub mod splitter;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;

/// The limits of one connection. Those that nobody needs to change are constants in [`session`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest value; longer ones are answered `-TOOLARGE`. At most [`MAX_PAYLOAD_BYTES`].
    pub value_bytes: usize,
    /// How long a `PROP` waits for its delivery before it is answered `-TIMEOUT`, and how long an `AWAIT`
    /// waits that names no time.
    pub propose_timeout_ms: u64,
    /// How long a request may take from its first byte to its last before the connection is closed.
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
