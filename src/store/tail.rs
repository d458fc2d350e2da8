//! How far a store is known to be durable. This is kept outside its engine, which may lose the end of the log
//! silently (sled opens a damaged file without an error, and drops what came after the damage).
//!
//! A mark is written after the writes that it covers, so it may lag behind the store but never runs ahead of
//! it: a store that ends below its mark has lost something.

use std::io;
use std::path::Path;

use super::error::OpenError;
use super::types::DirectoryId;

/// What is known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The data directory that the mark belongs to.
    pub directory: DirectoryId,
    /// The start counter; 0 while the directory is being founded.
    pub start: u64,
    /// The highest record number.
    pub record: u64,
}

/// Keeps the newest mark.
pub trait Tail: Send {
    /// The mark that is kept.
    fn mark(&self) -> Mark;

    /// Replaces the mark durably. If the error is a [lack of room](super::is_no_room), the older mark stands
    /// and it can be tried again; an error of a flush is never of that kind.
    fn advance(&mut self, mark: Mark) -> io::Result<()>;
}

impl Mark {
    /// Refuses a database that ends below this mark.
    pub(super) fn check(&self, path: &Path, found: Mark) -> Result<(), OpenError> {
        if self.directory != found.directory {
            let (marked, directory) = (self.directory, found.directory);
            let why =
                format!("its file `tail` belongs to directory {marked:x}, its database to {directory:x}");
            return Err(OpenError::damaged(path, why));
        }
        if found.record < self.record || found.start < self.start {
            let why = format!(
                "its database ends at record {} of start {}, but record {} of start {} was durable",
                found.record, found.start, self.record, self.start
            );
            return Err(OpenError::damaged(path, why));
        }
        Ok(())
    }
}
