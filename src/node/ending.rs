//! How a node ends: asked to, or because it must, with an exit code and plain words.

use std::sync::mpsc::Sender;

use log::error;

use crate::store::ReadError;
use crate::store::engine::EngineError;

/// A process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Ended in order.
    Ok = 0,
    /// Arguments or configuration.
    Config = 1,
    /// The data directory is foreign, locked, corrupt, wiped or of a newer format.
    Data = 2,
    /// The disk failed while running.
    Disk = 3,
    /// An assertion of ours failed.
    Assertion = 4,
}

impl ExitCode {
    /// Of a log that cannot be read while the node runs: is it the disk, or what is on it?
    pub fn of_read(error: &ReadError) -> ExitCode {
        match error {
            ReadError::Unreadable { why: EngineError::Failed(_), .. } => ExitCode::Disk,
            _ => ExitCode::Data,
        }
    }
}

/// Why a node ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody asked it to: it ends in order.
    Asked,
    /// It cannot go on: nothing more is acknowledged.
    Failed {
        /// The process's exit code.
        code: ExitCode,
        /// What is wrong and what to do.
        text: String,
    },
}

/// Ends the node; any thread may hold one.
#[derive(Clone, Debug)]
pub struct Ender(Sender<End>);

impl Ender {
    /// Ends whoever receives from the other end of `sender`.
    pub fn new(sender: Sender<End>) -> Ender {
        Ender(sender)
    }

    /// Asks for an orderly end.
    pub fn ask(&self) {
        let _ = self.0.send(End::Asked);
    }

    /// Ends the node at once; returns `false`, for "does not go on".
    pub fn fail(&self, code: ExitCode, text: String) -> bool {
        error!("{text}");
        let _ = self.0.send(End::Failed { code, text });
        false
    }
}
