//! Opening a store: founding it, checking that it is whole and belongs to this node, and counting the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::consensus::protocols::ProtocolName;
use crate::consensus::types::{Ballot, HardState, Index};

use super::engine::{Commit, Engine, Meta, Put};
use super::error::{LogReadError, OpenError};
use super::identity::Identity;
use super::reader::Shared;
use super::record::Builder;
use super::recover::{self, Found};
use super::seal::seal;
use super::tail::Tail;
use super::types::{DirectoryId, Founding, Recovered};
use super::{Store, commit_and_sync, seal_number};

/// What a store in a data directory has besides its engine.
pub struct Home {
    /// The data directory, which errors name.
    pub path: PathBuf,
    /// Knows how far the engine must reach. A new store takes its directory id from it.
    pub tail: Box<dyn Tail>,
    /// [`Store::low_on_space`] warns below this much free space.
    pub free_low_bytes: u64,
}

/// Whose store it is, according to its small values; `None` if it was never founded. `path` is what errors
/// name.
pub fn identity(meta: &dyn Meta, path: &Path) -> Result<Option<Identity>, OpenError> {
    Ok(recover::values(meta, path)?.identity)
}

impl Store {
    /// Opens the store of a data directory, or founds it, and raises its start counter durably.
    pub fn open_at(
        home: Home,
        engine: Arc<dyn Engine>,
        founding: &Founding,
    ) -> Result<(Store, Recovered), OpenError> {
        let Home { path, tail, free_low_bytes } = home;
        let directory = tail.mark().directory;
        let (mut store, recovered) = Store::start(engine, path, Some(tail), founding, directory)?;
        store.free_low_bytes = free_low_bytes;
        Ok((store, recovered))
    }

    /// Opens or founds a store on an engine alone, without a data directory: no lock, no tail. A new one gets
    /// the given directory id.
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
        tail: Option<Box<dyn Tail>>,
        founding: &Founding,
        directory: DirectoryId,
    ) -> Result<(Store, Recovered), OpenError> {
        let values = recover::values(&*engine, &path)?;
        let is_new = values.identity.is_none();
        let identity = match &values.identity {
            Some(identity) => identity.clone(),
            None => Identity::new(directory, founding.clone()),
        };
        identity.check(&path, founding)?;
        let found = recover::all(values, &*engine, &path)?;
        if is_new && (found.log.next > 1 || found.values.start > 0) {
            return Err(OpenError::damaged(&path, "it holds records, but its identity is gone"));
        }
        if let Some(tail) = &tail {
            tail.mark().check(&path, found.mark(identity.directory))?;
        }
        let mut store = Store {
            shared: Arc::new(Shared { engine, index: RwLock::default() }),
            path,
            tail,
            tail_written_ms: 0,
            identity,
            start: found.values.start.saturating_add(1),
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
        store.take_over(found);
        store.record_start(is_new)?;
        let recovered = store.recovered()?;
        Ok((store, recovered))
    }

    pub(super) fn take_over(&mut self, found: Found) {
        let Found { values, log } = found;
        self.first = values.first;
        self.deletable = values.first;
        self.next = log.next;
        self.bindings = values.bindings;
        self.hard_state = log.hard_state;
        self.hard_state_record = log.hard_state_record;
        self.max_round = log.max_round;
        *self.shared.index.write() = log.index;
    }

    /// Makes the raised start counter durable, and for a new store also its identity.
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
        match &mut self.tail {
            Some(tail) => tail.advance(mark).map_err(|error| OpenError::tail(&self.path, &error)),
            None => Ok(()),
        }
    }

    pub(super) fn recovered(&self) -> Result<Recovered, OpenError> {
        let reader = self.reader();
        let damaged = |error: LogReadError| OpenError::damaged(&self.path, error.to_string());
        let chosen = self.hard_state.chosen;
        let chosen_ballot = match reader.read(chosen, chosen, usize::MAX) {
            Ok(entries) => entries[0].ballot,
            // Paxos does without it.
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
