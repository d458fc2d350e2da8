//! The data directory: a store on the disk of this machine.
//!
//! [`open`] puts a [`Store`] together from what only a directory has: the lock that keeps other processes out
//! (`lock`), sled's database ([`SledEngine`]), and the file that records how far the database must reach
//! (`tail`). Only this user can access the files (`folder`). [`Inspection`] reads the directory of a stopped
//! node.
//!
//! | in the data directory | |
//! | --- | --- |
//! | `LOCK` | locked while a process has the directory |
//! | `store/` | sled's files |
//! | `tail` | how far the store is known to be durable |
//!
//! Left out: what the bytes mean (`store` knows that, and knows nothing of files).

pub(crate) mod folder;
#[cfg(feature = "workshop")]
mod inspect;
mod lock;
mod sled;
mod tail;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{DirectoryId, Founding, Home, Mark, OpenError, Recovered, Store, Tail, identity};

use lock::Lock;
use tail::TailFile;

#[cfg(feature = "workshop")]
pub use inspect::Inspection;
pub use sled::{SledEngine, exit_code_of_panic};

/// The name of sled's folder in a data directory.
const STORE: &str = "store";

/// How to open a data directory.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data directory, which is created if it does not exist.
    pub directory: PathBuf,
    /// What the directory is, or must have been, founded with.
    pub founding: Founding,
    /// How much memory sled may use to hold the log.
    pub cache_bytes: u64,
    /// [`Store::low_on_space`] warns below this much free space.
    pub free_low_bytes: u64,
}

impl StoreOptions {
    /// Options with a cache of 64 MiB and a low-water mark of 64 MiB.
    pub fn new(directory: impl Into<PathBuf>, founding: Founding) -> StoreOptions {
        let directory = directory.into();
        StoreOptions { directory, founding, cache_bytes: 64 << 20, free_low_bytes: 64 << 20 }
    }
}

/// Opens a data directory, or founds it, and raises its start counter durably.
pub fn open(options: StoreOptions) -> Result<(Store, Recovered), OpenError> {
    let path = options.directory;
    let lock = Lock::take(&path)?;
    let file = TailFile::open(&path).map_err(|error| OpenError::tail(&path, &error))?;
    let engine = SledEngine::open(&path.join(STORE), options.cache_bytes)
        .map_err(|error| OpenError::engine(&path, error))?;
    let file = match (file, identity(&engine, &path)?) {
        (Some(file), _) => file,
        (None, Some(_)) => return Err(OpenError::damaged(&path, "its file `tail` is gone")),
        (None, None) => {
            let mark = Mark { directory: random_id(&path)?, start: 0, record: 0 };
            TailFile::create(&path, mark).map_err(|error| OpenError::tail(&path, &error))?
        }
    };
    let tail = Box::new(LockedTail { file, _lock: lock });
    let home = Home { path, tail, free_low_bytes: options.free_low_bytes };
    Store::open_at(home, Arc::new(engine), &options.founding)
}

/// What in a data directory belongs to the store, each with what it is: nobody else may write there. (Hard
/// links to files in its folder count as well, so they are listed too.)
pub fn files(directory: &Path) -> Result<Vec<(String, PathBuf)>, OpenError> {
    let tail = directory.join(tail::TAIL);
    let mut files = vec![
        ("the lock of the data directory".to_owned(), directory.join(lock::LOCK)),
        ("a file of the store".to_owned(), folder::new_name(&tail)),
        ("a file of the store".to_owned(), tail),
        ("the folder of the store".to_owned(), directory.join(STORE)),
    ];
    let mut folders = vec![directory.join(STORE)];
    while let Some(folder) = folders.pop() {
        let read = |error| OpenError::io(directory, "reading its folder `store`", &error);
        // Without a disk (a node in memory) there is none.
        if !folder.try_exists().map_err(read)? {
            continue;
        }
        for file in fs::read_dir(folder).map_err(read)? {
            let file = file.map_err(read)?;
            if file.file_type().map_err(read)?.is_dir() {
                folders.push(file.path());
            }
            files.push(("a file of the store".to_owned(), file.path()));
        }
    }
    Ok(files)
}

/// Opens the data directory of a stopped node as what it was founded as, and raises its start counter
/// durably.
#[cfg(feature = "workshop")]
pub fn open_founded(path: &Path) -> Result<(Store, Recovered), OpenError> {
    let lock = Lock::take_existing(path)?;
    let file = TailFile::open(path).map_err(|error| OpenError::tail(path, &error))?;
    let file = file.ok_or_else(|| OpenError::damaged(path, "its file `tail` is gone"))?;
    let engine =
        SledEngine::open(&path.join(STORE), 64 << 20).map_err(|error| OpenError::engine(path, error))?;
    let identity = identity(&engine, path)?;
    let identity = identity.ok_or_else(|| OpenError::damaged(path, "its identity is gone"))?;
    let tail = Box::new(LockedTail { file, _lock: lock });
    let home = Home { path: path.to_path_buf(), tail, free_low_bytes: 0 };
    Store::open_at(home, Arc::new(engine), &identity.founding)
}

/// The file `tail` of a directory that this process has.
struct LockedTail {
    file: TailFile,
    /// Held until the store is dropped.
    _lock: Lock,
}

impl Tail for LockedTail {
    fn mark(&self) -> Mark {
        self.file.mark
    }

    fn advance(&mut self, mark: Mark) -> io::Result<()> {
        self.file.advance(mark)
    }
}

fn random_id(path: &Path) -> Result<DirectoryId, OpenError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| OpenError::Io {
        directory: path.to_path_buf(),
        what: "asking the system for random bits",
        why: error.to_string(),
    })?;
    Ok(DirectoryId::from_le_bytes(bytes))
}
