//! The lock of a data directory, which only one process can hold.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::store::OpenError;

use super::folder;

/// The file that a running node locks.
pub const LOCK: &str = "LOCK";
/// How many times a lock is tried, 10 ms apart. A process that was just killed, or one that another thread is
/// starting and that inherits the handle until it runs, still holds it for a moment.
const LOCK_TRIES: u32 = 30;

/// Held while a process has the data directory, so that no other process can have it.
#[derive(Debug)]
pub struct Lock {
    /// The lock lives as long as the handle.
    _file: File,
}

impl Lock {
    /// Creates the data directory if necessary, and locks it.
    pub fn take(directory: &Path) -> Result<Lock, OpenError> {
        folder::create_folder(directory).map_err(|error| {
            OpenError::io(directory, "creating it (it must be a folder that this user can write)", &error)
        })?;
        let locked_before = directory.join(LOCK).try_exists().map_err(|error| {
            OpenError::io(directory, "reading it (this user must be able to read and write it)", &error)
        })?;
        if !locked_before {
            // It may have existed for other things (a log file), open to all.
            fs::set_permissions(directory, Permissions::from_mode(0o700))
                .map_err(|error| OpenError::io(directory, "making it private", &error))?;
        }
        let file = folder::open_file(&directory.join(LOCK))
            .map_err(|error| OpenError::io(directory, "opening its file LOCK", &error))?;
        Lock::on(file, directory)
    }

    /// Locks a data directory without writing anything to it.
    pub fn take_existing(directory: &Path) -> Result<Lock, OpenError> {
        let file = File::open(directory.join(LOCK)).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                OpenError::Absent { directory: directory.to_path_buf() }
            }
            _ => OpenError::io(directory, "opening its file LOCK", &error),
        })?;
        Lock::on(file, directory)
    }

    fn on(file: File, directory: &Path) -> Result<Lock, OpenError> {
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => {
                    return Err(OpenError::io(directory, "locking its file LOCK", &error));
                }
            }
        }
        Err(OpenError::Locked { directory: directory.to_path_buf() })
    }
}
