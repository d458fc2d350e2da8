//! Opening a store: founding it, checking that it is whole and this node's, and counting the start.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::consensus::config::ProtocolName;
use crate::consensus::types::{Ballot, HardState, Index, NodeId};

use super::engine::{Commit, Engine, Put};
use super::reader::Shared;
use super::record::{Builder, seal};
use super::tail::{Mark, Tail};
use super::{
    DirectoryId, Founding, Home, Identity, OpenError, ReadError, Recovered, SledEngine, Store, StoreOptions,
    commit_and_sync, directory, recover, seal_number,
};

impl Store {
    /// Opens a data directory, or founds it, and raises its start counter durably.
    pub fn open(options: StoreOptions) -> Result<(Store, Recovered), OpenError> {
        let path = options.directory;
        let lock = directory::Lock::take(&path)?;
        let tail = Tail::open(&path).map_err(|error| tail_error(&path, &error))?;
        let engine = SledEngine::open(&path.join(directory::STORE), options.cache_bytes)
            .map_err(|error| OpenError::engine(&path, error))?;
        let values = recover::values(&engine, &path)?;
        let tail = match (tail, &values.identity) {
            (Some(tail), _) => tail,
            (None, Some(_)) => return Err(OpenError::damaged(&path, "its file `tail` is gone")),
            (None, None) => {
                let mark = Mark { directory: random_id(&path)?, start: 0, record: 0 };
                Tail::create(&path, mark).map_err(|error| tail_error(&path, &error))?
            }
        };
        let directory = tail.mark.directory;
        let home = Home { tail, tail_written_ms: 0, _lock: lock };
        let (mut store, recovered) =
            Store::start(Arc::new(engine), path, Some(home), &options.founding, directory)?;
        store.free_low_bytes = options.free_low_bytes;
        Ok((store, recovered))
    }

    /// Opens or founds a store on an engine alone, without a data directory: no lock, no file `tail`. A new
    /// one gets the given directory id.
    pub fn open_on(
        engine: Arc<dyn Engine>,
        founding: &Founding,
        directory: DirectoryId,
    ) -> Result<(Store, Recovered), OpenError> {
        Store::start(engine, PathBuf::from("(an engine)"), None, founding, directory)
    }

    fn start(
        engine: Arc<dyn Engine>,
        path: PathBuf,
        home: Option<Home>,
        founding: &Founding,
        directory: DirectoryId,
    ) -> Result<(Store, Recovered), OpenError> {
        let values = recover::values(&*engine, &path)?;
        let is_new = values.identity.is_none();
        let identity = match values.identity {
            Some(identity) => identity,
            None => Identity::new(directory, founding.clone()),
        };
        identity.check(&path, founding)?;
        let log = recover::log(&*engine, values.first, &path)?;
        recover::check_bindings(&values.bindings, &log, &path)?;
        if is_new && (log.next > 1 || values.start > 0) {
            return Err(OpenError::damaged(&path, "it holds records, and its identity is gone"));
        }
        if let Some(home) = &home {
            check_mark(&path, &home.tail.mark, identity.directory, values.start, log.next - 1)?;
        }
        let mut store = Store {
            shared: Arc::new(Shared { engine, index: RwLock::default() }),
            path,
            home,
            identity,
            start: values.start.saturating_add(1),
            bindings: BTreeMap::new(),
            first: 1,
            next: 1,
            deletable: 1,
            hard_state: HardState::default(),
            hard_state_record: 0,
            max_round: 0,
            free_low_bytes: 0,
            builder: Builder::default(),
            failed: false,
        };
        store.take_over(values.first, values.bindings, log);
        store.record_start(is_new)?;
        let recovered = store.recovered()?;
        Ok((store, recovered))
    }

    pub(super) fn take_over(
        &mut self,
        first: u64,
        bindings: BTreeMap<NodeId, DirectoryId>,
        log: recover::Log,
    ) {
        self.first = first;
        self.deletable = first;
        self.next = log.next;
        self.bindings = bindings;
        self.hard_state = log.hard_state;
        self.hard_state_record = log.hard_state_record;
        self.max_round = log.max_round;
        *self.shared.index.write() = log.index;
    }

    /// Makes the raised start counter durable, of a new store together with its identity.
    fn record_start(&mut self, is_new: bool) -> Result<(), OpenError> {
        let start = seal_number(recover::START, self.start);
        let first = seal_number(recover::FIRST, self.first);
        let identity = seal(recover::IDENTITY, &self.identity.encode());
        let puts = [
            Put { key: recover::START, value: &start },
            Put { key: recover::FIRST, value: &first },
            Put { key: recover::IDENTITY, value: &identity },
        ];
        let meta = if is_new { &puts[..] } else { &puts[..1] };
        commit_and_sync(&*self.shared.engine, &Commit { meta, ..Commit::default() })
            .map_err(|error| OpenError::engine(&self.path, error))?;
        let mark = self.mark();
        match &mut self.home {
            Some(home) => home.tail.advance(mark).map_err(|error| tail_error(&self.path, &error)),
            None => Ok(()),
        }
    }

    pub(super) fn recovered(&self) -> Result<Recovered, OpenError> {
        let reader = self.reader();
        let damaged = |error: ReadError| OpenError::damaged(&self.path, error.to_string());
        let chosen = self.hard_state.chosen;
        let chosen_ballot = match reader.read(chosen, chosen, usize::MAX) {
            Ok(entries) => entries[0].ballot,
            // Paxos goes without.
            Err(_) if chosen == 0 || self.identity.founding.protocol != ProtocolName::Raft.name() => {
                Ballot::ZERO
            }
            Err(error) => return Err(damaged(error)),
        };
        let mut entries = vec![];
        let mut next = chosen.saturating_add(1);
        while let Some(first) = reader.next_entry(next) {
            let run = reader.read(first, Index::MAX, usize::MAX).map_err(damaged)?;
            next = first.saturating_add(run.len() as u64);
            entries.extend(run);
        }
        Ok(Recovered {
            directory: self.identity.directory,
            start: self.start,
            hard_state: self.hard_state,
            chosen_ballot,
            max_round: self.max_round,
            entries,
            last: reader.last(),
            compacted: reader.compacted(),
            bindings: self.bindings.clone(),
            founding: self.identity.founding.clone(),
        })
    }
}

/// Refuses a database that ends below what the file `tail` knows.
pub(super) fn check_mark(
    path: &Path,
    mark: &Mark,
    directory: DirectoryId,
    start: u64,
    record: u64,
) -> Result<(), OpenError> {
    if mark.directory != directory {
        let why =
            format!("its file `tail` is of directory {:x}, its database of {directory:x}", mark.directory);
        return Err(OpenError::damaged(path, why));
    }
    if record < mark.record || start < mark.start {
        let why = format!(
            "its database ends at record {record} of start {start}, and record {} of start {} was durable",
            mark.record, mark.start
        );
        return Err(OpenError::damaged(path, why));
    }
    Ok(())
}

/// An error of the file `tail`.
pub(super) fn tail_error(path: &Path, error: &std::io::Error) -> OpenError {
    match error.kind() {
        ErrorKind::InvalidData => OpenError::damaged(path, error.to_string()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            OpenError::NoRoom { directory: path.to_path_buf(), why: format!("its file `tail`: {error}") }
        }
        _ => OpenError::io(path, "its file `tail`", error),
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
