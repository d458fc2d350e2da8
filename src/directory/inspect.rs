//! A stopped node's store, read from a copy: sled writes into what it opens, so the directory itself is only
//! locked and read.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::store::{Held, OpenError};

use super::lock::Lock;
use super::sled::SledEngine;
use super::tail::TailFile;
use super::{STORE, folder};

/// An open copy of a data directory.
pub struct Inspection {
    /// What the directory holds.
    pub held: Held,
    /// Removed when the inspection is dropped, after the reader.
    _copy: TempDir,
    /// No node can start on the directory while this is held.
    _lock: Lock,
}

impl Inspection {
    /// Locks the data directory, copies its database to the system's folder for temporary files (`TMPDIR`),
    /// and opens the copy.
    pub fn open(path: &Path) -> Result<Inspection, OpenError> {
        let lock = Lock::take_existing(path)?;
        let copy = copy(path)?;
        let engine =
            SledEngine::open(copy.path(), 64 << 20).map_err(|error| OpenError::engine(path, error))?;
        let mark = TailFile::peek(path).map_err(|error| OpenError::tail(path, &error))?;
        let mark = mark.ok_or_else(|| OpenError::damaged(path, "its file `tail` is gone"))?;
        let held = Held::read(Arc::new(engine), &mark, path)?;
        Ok(Inspection { held, _copy: copy, _lock: lock })
    }
}

fn copy(path: &Path) -> Result<TempDir, OpenError> {
    let copying = "copying its database to the folder for temporary files (TMPDIR)";
    let io = |error: io::Error| OpenError::io(path, copying, &error);
    let copy = TempDir::new().map_err(io)?;
    copy_folder(&path.join(STORE), copy.path()).map_err(io)?;
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    folder::create_folder(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy_folder(&file.path(), &to)?;
        } else {
            fs::copy(file.path(), &to)?;
        }
    }
    Ok(())
}
