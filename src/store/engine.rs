//! What the store asks of a disk: ordered keys in three spaces, atomic writes, and a sync that makes them
//! durable.
//!
//! `sled.rs` and `memory.rs` implement it; a simulator brings its own that fails when told to. The trait
//! knows nothing of records: `record.rs` makes them, and checks them when they come back.

use std::ops::ControlFlow;

use bytes::Bytes;
use thiserror::Error;

/// A range of keys of its own. In the order of the bytes that stand for them, so that the log, which grows at
/// its end, comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Identity, start, bindings: a few small values, each overwritten in place.
    Meta,
    /// For protocols that keep a promise an instance (classic Paxos): one value an instance.
    Register,
    /// The records of the log, by ascending number.
    Log,
}

impl Space {
    /// The byte before every key of the space, where an engine has only one range of keys.
    pub const fn prefix(self) -> u8 {
        match self {
            Space::Meta => 1,
            Space::Register => 2,
            Space::Log => 3,
        }
    }
}

/// A part of an atomic write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets a key.
    Put {
        /// Where.
        space: Space,
        /// At most 255 bytes.
        key: &'a [u8],
        /// At most [`MAX_VALUE_BYTES`].
        value: &'a [u8],
    },
    /// Removes a key, if it is there.
    Delete {
        /// Where.
        space: Space,
        /// The key.
        key: &'a [u8],
    },
}

/// No value is longer: larger ones end up in files that sled never syncs (its leaves hold up to 17 values and
/// go to such a file as a whole above 128 KiB). Asserted by the engines.
pub const MAX_VALUE_BYTES: usize = 7 * 1024;

/// Takes a key and its value, and says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A key-value store on a disk. One [`Engine::put_atomic`] followed by [`Engine::sync`] is one atomic durable
/// write; what was put and not synced may be there after a crash or not, but never in part.
///
/// One thread writes; any number read meanwhile. After a failed write or sync only reads and
/// [`Engine::reopen`] make sense.
pub trait Engine: Send + Sync {
    /// Visits keys at or after `from` and their values in ascending order, until told to break.
    fn scan(&self, space: Space, from: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError>;

    /// The value of a key.
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Does all of `ops` or nothing. Each key occurs at most once.
    fn put_atomic(&self, ops: &[Op<'_>]) -> Result<(), EngineError>;

    /// Makes all that was put before durable.
    fn sync(&self) -> Result<(), EngineError>;

    /// Throws away what a failed write left in memory and opens again what is on the disk. After an error
    /// there is nothing to read ([`EngineError::Closed`]) until a later call succeeds.
    fn reopen(&self) -> Result<(), EngineError>;

    /// What the disk has left for this process.
    fn free_bytes(&self) -> Result<u64, EngineError>;
}

/// Why an engine did not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    /// ENOSPC, EDQUOT or EFBIG, and no sync has failed: it may pass.
    #[error("no room on the disk: {0}")]
    NoRoom(String),
    /// Any other failure, and any of a sync: what is on the disk is unknown.
    #[error("the disk failed: {0}")]
    Failed(String),
    /// What is on the disk is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// An earlier [`Engine::reopen`] failed.
    #[error("closed since a failed reopen")]
    Closed,
}
