//! What can go wrong with a store, in texts that say what to do.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::consensus::types::Index;

use super::engine::EngineError;

/// Why a data directory cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {} is in use by another process: stop that one, or give this node another directory",
        directory.display()
    )]
    Locked {
        /// The data directory.
        directory: PathBuf,
    },
    /// There is no data directory where one should be read.
    #[error("{} is not a data directory: it has no file LOCK", directory.display())]
    Absent {
        /// The path that was given.
        directory: PathBuf,
    },
    /// It was founded with voters other than those in the configuration.
    #[error(
        "the data directory {} was founded with the voters {{{recorded}}}, but the configuration names \
         {{{configured}}}: correct the configuration (it cannot change the members)",
        directory.display()
    )]
    Voters {
        /// The data directory.
        directory: PathBuf,
        /// The founding voters.
        recorded: String,
        /// The voters in the configuration.
        configured: String,
    },
    /// It belongs to another node or cluster.
    #[error(
        "the data directory {} belongs to {what} {recorded}, but this node is configured as {what} \
         {configured}: give this node a directory of its own",
        directory.display()
    )]
    Foreign {
        /// The data directory.
        directory: PathBuf,
        /// What differs.
        what: &'static str,
        /// The value in the directory.
        recorded: String,
        /// The value in the configuration.
        configured: String,
    },
    /// A newer version wrote it.
    #[error(
        "the data directory {} has format {format}, which needs a version that reads format {lowest} or \
         later; this version reads formats up to {ours}: use a newer version",
        directory.display()
    )]
    Newer {
        /// The data directory.
        directory: PathBuf,
        /// Its format.
        format: u64,
        /// The lowest format whose versions can read it.
        lowest: u64,
        /// The format of this version.
        ours: u64,
    },
    /// Something in it is not what was written, or is gone.
    #[error(
        "the data directory {} is damaged: {why}. This node must not run with it, since it may have forgotten what \
         it promised: bring back an undamaged disk, or run on without this node (never with a backup)",
        directory.display()
    )]
    Damaged {
        /// The data directory.
        directory: PathBuf,
        /// What was found, with the key of a bad record.
        why: String,
    },
    /// The disk is full. It can be tried again later.
    #[error("there is no room on the disk to open the data directory {}: {why}; make room", directory.display())]
    NoRoom {
        /// The data directory.
        directory: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The system refused a call.
    #[error("the data directory {} cannot be used: {what}: {why}", directory.display())]
    Io {
        /// The data directory.
        directory: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        why: String,
    },
}

impl OpenError {
    /// The exit code of a node that cannot start because of this error: 1 for the configuration, 2 for the
    /// directory, 3 for a disk that is full.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpenError::Voters { .. } => 1,
            OpenError::NoRoom { .. } => 3,
            _ => 2,
        }
    }

    /// Whether opening or rebuilding may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self, OpenError::NoRoom { .. })
    }

    pub(crate) fn io(directory: &Path, what: &'static str, error: &io::Error) -> OpenError {
        let directory = directory.to_path_buf();
        match is_no_room(error) {
            true => OpenError::NoRoom { directory, why: format!("{what}: {error}") },
            false => OpenError::Io { directory, what, why: error.to_string() },
        }
    }

    pub(crate) fn damaged(directory: &Path, why: impl Into<String>) -> OpenError {
        OpenError::Damaged { directory: directory.to_path_buf(), why: why.into() }
    }

    /// An error of the file `tail`.
    pub(crate) fn tail(directory: &Path, error: &io::Error) -> OpenError {
        match error.kind() {
            ErrorKind::InvalidData => OpenError::damaged(directory, error.to_string()),
            _ => OpenError::io(directory, "its file `tail`", error),
        }
    }

    pub(crate) fn engine(directory: &Path, error: EngineError) -> OpenError {
        let directory = directory.to_path_buf();
        match error {
            EngineError::NoRoom(why) => OpenError::NoRoom { directory, why },
            EngineError::Damaged(why) => OpenError::Damaged { directory, why },
            EngineError::Failed(why) => OpenError::Io { directory, what: "opening its database", why },
            error => OpenError::Io { directory, what: "opening its database", why: error.to_string() },
        }
    }
}

/// Whether an error of the system is a lack of room: ENOSPC, EDQUOT or EFBIG. It passes, while the node runs
/// and when it starts.
pub fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Why a write did not become durable. Nothing that waits for the write may be forwarded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The disk is full, and everything that was durable before still is. The store takes no write until
    /// `Store::rebuild`.
    #[error("no room on the disk for a write, which was given up: {0}")]
    Passing(String),
    /// What is on the disk is unknown: the node stops (exit code 3), and nothing is tried again.
    #[error("the disk failed while the node ran, so the node stops: {0}")]
    Fatal(String),
}

impl From<EngineError> for WriteError {
    fn from(error: EngineError) -> WriteError {
        match error {
            EngineError::NoRoom(why) => WriteError::Passing(why),
            error => WriteError::Fatal(error.to_string()),
        }
    }
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogReadError {
    /// The entry is no longer kept.
    #[error("entries up to index {compacted} are no longer kept")]
    Compacted {
        /// The highest index that is no longer kept.
        compacted: Index,
    },
    /// There is no such entry.
    #[error("there is no entry at index {0}")]
    Missing(Index),
    /// The entry's record is not what was written: the node stops (exit code 2 or 3).
    #[error(
        "record {record} of the log is damaged: {why}. Bring back an undamaged disk, or run on without this node"
    )]
    Damaged {
        /// The number of the record.
        record: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The disk cannot be read, or a rebuild is under way.
    #[error("record {record} of the log cannot be read: {why}")]
    Unreadable {
        /// The number of the record.
        record: u64,
        /// What the engine said.
        why: EngineError,
    },
}
