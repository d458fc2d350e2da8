//! The data directory as a folder: who may read it, who has it, and that its files' names are durable.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::error::OpenError;

/// Where sled's folder lies in a data directory.
pub const STORE: &str = "store";
/// The file that a running node locks.
pub const LOCK: &str = "LOCK";
/// How often, 10 ms apart, a lock is tried: a process that was just killed, or one that is being started by
/// another thread and inherits the handle until it runs, still holds it for a moment.
const LOCK_TRIES: u32 = 30;

/// Held while a process has the data directory; another cannot have it then.
#[derive(Debug)]
pub struct Lock {
    /// The lock lives as long as the handle.
    _file: File,
}

impl Lock {
    /// Creates the data directory if need be, and locks it.
    pub fn take(directory: &Path) -> Result<Lock, OpenError> {
        let is_new = !directory.join(LOCK).exists();
        create_folder(directory).map_err(|error| OpenError::io(directory, "creating it", &error))?;
        if is_new {
            // It may have been there for other things (a log file), open to all.
            fs::set_permissions(directory, Permissions::from_mode(0o700))
                .map_err(|error| OpenError::io(directory, "making it private", &error))?;
        }
        let file = open_file(&directory.join(LOCK))
            .map_err(|error| OpenError::io(directory, "opening its file LOCK", &error))?;
        Lock::on(file, directory)
    }

    /// Locks a data directory without writing anything to it.
    pub fn take_existing(directory: &Path) -> Result<Lock, OpenError> {
        let file = File::open(directory.join(LOCK)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => OpenError::Absent { directory: directory.to_path_buf() },
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

/// Creates a folder, and those above it, with 0700 if it is not there.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Opens a file to read and write, and creates it with 0600 if it is not there.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes the files of a folder private, and them, their names and the folder's own name durable.
pub fn settle(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::set_permissions(file.path(), Permissions::from_mode(0o600))?;
            File::open(file.path())?.sync_all()?;
        }
    }
    sync_folder(folder)?;
    match folder.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// What an ordinary user can still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
