//! A stopped node's store, read from a copy: sled writes into what it opens, so the directory itself is only
//! locked and read.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::store::{Held, OpenError};

use super::STORE;
use super::lock::Lock;
use super::sled::SledEngine;
use super::tail::TailFile;

/// An open copy of a data directory.
pub struct Inspection {
    /// What the directory holds.
    pub held: Held,
    /// No node can start on the directory while this is held.
    _lock: Lock,
}

impl Inspection {
    /// Locks the data directory, copies its database into an empty folder, and opens the copy. The caller
    /// removes the folder afterwards.
    pub fn open(path: &Path, copy: &Path) -> Result<Inspection, OpenError> {
        let lock = Lock::take_existing(path)?;
        copy_folder(&path.join(STORE), copy).map_err(|error| {
            OpenError::io(path, "copying its database to the folder for temporary files (TMPDIR)", &error)
        })?;
        let engine = SledEngine::open(copy, 64 << 20).map_err(|error| OpenError::engine(path, error))?;
        let mark = TailFile::peek(path).map_err(|error| OpenError::tail(path, &error))?;
        let mark = mark.ok_or_else(|| OpenError::damaged(path, "its file `tail` is gone"))?;
        let held = Held::read(Arc::new(engine), &mark, path)?;
        Ok(Inspection { held, _lock: lock })
    }
}

/// Copies what is in a folder into another, which exists: if that is removed in the meantime, nothing is made
/// there any more.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for file in fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_folder(&file.path(), &to)?;
        } else {
            fs::copy(file.path(), &to)?;
        }
    }
    Ok(())
}
