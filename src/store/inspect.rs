//! A stopped node's store, read from a copy: sled writes into what it opens, so the directory itself is only
//! locked and read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use tempfile::TempDir;

use crate::consensus::types::{HardState, NodeId, Round};

use super::reader::Shared;
use super::tail::Tail;
use super::{DirectoryId, Identity, LogReader, OpenError, SledEngine, directory, open::check_mark, recover};

/// What a data directory holds.
pub struct Inspection {
    /// Whose it is.
    pub identity: Identity,
    /// How often the node was started.
    pub start: u64,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The highest round ever stored.
    pub max_round: Round,
    /// The peers' directories.
    pub bindings: BTreeMap<NodeId, DirectoryId>,
    /// Reads the entries.
    pub reader: LogReader,
    /// Removed when the inspection is dropped, after the reader.
    _copy: TempDir,
    /// No node can start on the directory meanwhile.
    _lock: directory::Lock,
}

impl Inspection {
    /// Locks the data directory, copies its database to the system's folder for temporary files (`TMPDIR`),
    /// and opens the copy.
    pub fn open(path: &Path) -> Result<Inspection, OpenError> {
        let lock = directory::Lock::take_existing(path)?;
        let copy = copy(path)?;
        let engine =
            SledEngine::open(copy.path(), 64 << 20).map_err(|error| OpenError::engine(path, error))?;
        let values = recover::values(&engine, path)?;
        let log = recover::log(&engine, values.first, path)?;
        recover::check_bindings(&values.bindings, &log, path)?;
        let identity = values.identity.ok_or_else(|| OpenError::damaged(path, "its identity is gone"))?;
        let mark = Tail::peek(path).map_err(|error| super::open::tail_error(path, &error))?;
        let mark = mark.ok_or_else(|| OpenError::damaged(path, "its file `tail` is gone"))?;
        check_mark(path, &mark, identity.directory, values.start, log.next - 1)?;
        let shared = Shared { engine: Arc::new(engine), index: RwLock::new(log.index) };
        Ok(Inspection {
            identity,
            start: values.start,
            hard_state: log.hard_state,
            max_round: log.max_round,
            bindings: values.bindings,
            reader: LogReader::new(Arc::new(shared)),
            _copy: copy,
            _lock: lock,
        })
    }
}

fn copy(path: &Path) -> Result<TempDir, OpenError> {
    let copying = "copying its database (TMPDIR says where to)";
    let io = |error: io::Error| OpenError::io(path, copying, &error);
    let copy = TempDir::new().map_err(io)?;
    copy_folder(&path.join(directory::STORE), copy.path()).map_err(io)?;
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    directory::create_folder(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        match file.file_type()?.is_dir() {
            true => copy_folder(&file.path(), &to)?,
            false => drop(fs::copy(file.path(), &to)?),
        }
    }
    Ok(())
}
