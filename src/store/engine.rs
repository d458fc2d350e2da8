//! What the store asks of a disk: a [`Journal`] of numbered records, a [`Meta`] of a few small values, one
//! atomic write for both, and a sync that makes it durable.
//!
//! The traits know nothing of what is in a record: `record.rs` makes records, and checks them when they come
//! back. `memory.rs` and `directory/sled.rs` implement them.
//!
//! The contract asks for no more than append-only segment files can do. There, a [`Commit`] is one
//! checksummed frame at the end of the newest segment, and a sync is one fdatasync of that file. A table in
//! memory, filled when the segments are read at opening, leads from a record's number to its place; since
//! numbers only grow and no record is written twice, the table is an array. Deleting raises the lower end of
//! the table and removes the segments that lie wholly below it; the frame carries the number, so that records
//! below it stay hidden after a restart. The small values are kept in memory, and each new segment begins
//! with a copy of them, so none is lost with an old segment.

use std::ops::ControlFlow;

use bytes::Bytes;
use thiserror::Error;

/// The longest value, which the engines assert. Larger ones end up in files that sled never syncs (its leaves
/// hold up to 17 values, and a leaf above 128 KiB goes to such a file as a whole).
pub const MAX_VALUE_BYTES: usize = 7 * 1024;

/// Takes a record's number and the record, and returns whether to go on.
pub type VisitRecord<'a> = dyn FnMut(u64, &[u8]) -> ControlFlow<()> + 'a;

/// Takes a small value's key and the value, and returns whether to go on.
pub type VisitValue<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The records of the log. They are appended under ascending numbers, without a gap, and deleted in the same
/// order; none is ever overwritten.
pub trait Journal: Send + Sync {
    /// The record of this number; `None` if it was deleted or never written.
    fn read(&self, number: u64) -> Result<Option<Bytes>, EngineError>;

    /// Visits all records that are kept, by ascending number, until told to break.
    fn scan(&self, visit: &mut VisitRecord<'_>) -> Result<(), EngineError>;
}

/// A few small values, each overwritten in place, such as identity, start counter and bindings.
pub trait Meta: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Visits the values whose keys begin with `prefix`, by ascending key, until told to break.
    fn scan_prefix(&self, prefix: &[u8], visit: &mut VisitValue<'_>) -> Result<(), EngineError>;
}

/// Journal and meta on one disk. One [`Engine::commit`] followed by [`Engine::sync`] is one atomic durable
/// write to both; what was committed but not synced may or may not be there after a crash, but never in part.
///
/// One thread writes; any number of threads read in the meantime. After a failed commit or sync only reads
/// and [`Engine::reopen`] make sense.
pub trait Engine: Journal + Meta {
    /// Does all of the commit or nothing.
    fn commit(&self, commit: &Commit<'_>) -> Result<(), EngineError>;

    /// Makes everything that was committed before durable.
    fn sync(&self) -> Result<(), EngineError>;

    /// Throws away what a failed write left in memory, and opens what is on the disk again. After an error
    /// nothing can be read ([`EngineError::Closed`]) until a later call succeeds.
    fn reopen(&self) -> Result<(), EngineError>;

    /// How much room the disk has left for this process.
    fn free_bytes(&self) -> Result<u64, EngineError>;
}

/// One atomic write, done in the order of its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit<'a> {
    /// Records below this number are deleted; 0 deletes none. The newest record is never among them.
    pub delete_below: u64,
    /// Values to set, each key at most once.
    pub meta: &'a [Put<'a>],
    /// The number of the first of `records`: one above the newest record in the journal.
    pub first: u64,
    /// Records to append, each of at most [`MAX_VALUE_BYTES`].
    pub records: &'a [&'a [u8]],
}

impl<'a> Commit<'a> {
    /// The records to append, with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        (self.first..).zip(self.records.iter().copied())
    }
}

/// A small value to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put<'a> {
    /// The key, of at most 255 bytes.
    pub key: &'a [u8],
    /// The value, of at most [`MAX_VALUE_BYTES`].
    pub value: &'a [u8],
}

/// Why an engine did not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    /// ENOSPC, EDQUOT or EFBIG, and no sync has failed. It may pass.
    #[error("no room on the disk: {0}")]
    NoRoom(String),
    /// Any other failure, and any failure of a sync: what is on the disk is unknown.
    #[error("the disk failed: {0}")]
    Failed(String),
    /// What is on the disk is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// An earlier [`Engine::reopen`] failed.
    #[error("closed since a failed reopen")]
    Closed,
}
