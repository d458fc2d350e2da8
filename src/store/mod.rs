//! What is durable: the log, the hard state, who this node is, and which peers it knows.
//!
//! The storage thread owns the [`Store`] and makes one atomic durable write of everything that waits
//! ([`Store::write`]). In the meantime [`LogReader`]s on other threads read what is durable. Beneath is an
//! [`Engine`], a journal of records and a few small values: sled on the disk, or memory in tests and in the
//! simulator.
//!
//! - One write is one `commit` and one `sync`: after a crash either all of it is there or nothing.
//! - Records are numbered without gaps and checksummed over their number (`record`); a [`Tail`] records how
//!   far they must reach. So what sled loses silently is noticed when the store is opened, except for writes
//!   of the last second before a crash, which the file may not have recorded yet.
//! - Records are deleted in ascending order only, never the newest hard state.
//! - A write that failed for want of room is given up, and the store is read again from what is durable
//!   ([`Store::rebuild`]). Any other failure, and any failure of a sync, ends the node.
//!
//! Left out: files (`directory` has them; nothing here knows the operating system), what to do about errors
//! (the storage thread decides that), and snapshots.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod engine;
mod error;
mod held;
mod identity;
mod index;
pub mod memory;
#[cfg(test)]
pub(crate) mod model;
mod open;
mod reader;
pub(crate) mod record;
mod recover;
pub(crate) mod seal;
mod tail;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::consensus::types::{HardState, Index, NodeId, Round};

use engine::{Commit, Engine, EngineError, MAX_VALUE_BYTES, Put};
use reader::Shared;
use record::Builder;
use seal::{put_varint, seal};

pub use error::{LogReadError, OpenError, WriteError, is_no_room};
pub use held::Held;
pub use identity::Identity;
pub use open::{Home, identity};
pub use reader::LogReader;
pub use seal::{FORMAT, FORMAT_LOWEST};
pub use tail::{Mark, Tail};
pub use types::{Binding, Change, DirectoryId, Founding, Recovered, Write};

/// How many records [`Store::compact`] deletes in one write.
const COMPACT_RECORDS: u64 = 256;
/// The tail is written at most once in this time.
const TAIL_INTERVAL_MS: u64 = 1000;

/// A node's durable state. One thread owns it.
///
/// Invariants: records `first..next` are in the engine, without gaps, and durable; `first <= deletable <=
/// next`; no entry above the compacted index, nor the newest hard state, lies in a record below `deletable`.
pub struct Store {
    shared: Arc<Shared>,
    path: PathBuf,
    /// `None` without a data directory.
    tail: Option<Box<dyn Tail>>,
    tail_written_ms: u64,
    identity: Identity,
    start: u64,
    bindings: BTreeMap<NodeId, DirectoryId>,
    first: u64,
    next: u64,
    deletable: u64,
    hard_state: HardState,
    hard_state_record: u64,
    max_round: Round,
    free_low_bytes: u64,
    builder: Builder,
    /// Whether a write failed and the store was not rebuilt since.
    failed: bool,
}

impl Store {
    /// Makes one atomic durable write: when this returns, everything in `write` is durable. After an error
    /// nothing of it may be forwarded, and only [`Store::rebuild`] may be called next.
    pub fn write(&mut self, write: &Write<'_>) -> Result<(), WriteError> {
        self.check_write(write);
        let placed = self.build(write);
        if self.builder.len() == 0 {
            return Ok(());
        }
        let bindings: Vec<_> = write
            .bindings
            .iter()
            .map(|binding| {
                let key = recover::binding_key(binding.node);
                let value = seal(&key, &binding.directory.to_le_bytes());
                (key, value)
            })
            .collect();
        let meta: Vec<_> = bindings.iter().map(|(key, value)| Put { key, value }).collect();
        self.commit(0, &meta)?;
        self.adopt(write, &placed);
        Ok(())
    }

    /// Takes the binding of a peer away, durably, so that the next directory that comes under its id is
    /// bound. Returns the directory it was bound to; `None` if it was not bound, and then nothing is written.
    /// An error is like one of [`Store::write`].
    ///
    /// A running node must not call this: it would count messages of two directories as those of one member.
    pub fn unbind(&mut self, node: NodeId) -> Result<Option<DirectoryId>, WriteError> {
        assert!(!self.failed, "an unbinding after a failed write: rebuild the store first");
        if !self.bindings.contains_key(&node) {
            return Ok(None);
        }
        self.builder.begin(self.next);
        self.builder.unbinding(node);
        self.builder.finish();
        let key = recover::binding_key(node);
        let value = seal(&key, recover::UNBOUND);
        self.commit(0, &[Put { key: &key, value: &value }])?;
        Ok(self.bindings.remove(&node))
    }

    /// After [`WriteError::Passing`]: opens the engine again and reads back what is durable. If its error
    /// [may pass](OpenError::may_pass), it can be called again later; until then reads fail as well.
    pub fn rebuild(&mut self) -> Result<Recovered, OpenError> {
        self.failed = true;
        let engine = self.shared.engine.clone();
        let or = |error| OpenError::engine(&self.path, error);
        engine.reopen().map_err(or)?;
        // What is read from now on may have been written and not synced: it must be durable before anyone
        // acts on it.
        engine.sync().map_err(or)?;
        let values = recover::values(&*engine, &self.path)?;
        let found = recover::all(values, &*engine, &self.path)?;
        if found.values.identity.as_ref() != Some(&self.identity) || found.values.start != self.start {
            return Err(OpenError::damaged(
                &self.path,
                "its identity or start counter changed while it was open",
            ));
        }
        if found.log.next < self.next {
            let (next, had) = (found.log.next - 1, self.next - 1);
            let why = format!("it ends at record {next}, but record {had} was durable");
            return Err(OpenError::damaged(&self.path, why));
        }
        self.take_over(found);
        let recovered = self.recovered()?;
        self.failed = false;
        Ok(recovered)
    }

    /// Makes a small durable write, to find out whether there is room again. An error is like one of
    /// [`Store::write`].
    pub fn probe(&mut self) -> Result<(), WriteError> {
        assert!(!self.failed, "a probe after a failed write: rebuild the store first");
        if self.low_on_space() {
            return Err(WriteError::Passing("it is below the low-water mark of free space".into()));
        }
        // It is as large as a record, or it might fit where no record does.
        let value = seal(recover::PROBE, &[0; MAX_VALUE_BYTES - 16]);
        self.builder.begin(self.next);
        self.commit(0, &[Put { key: recover::PROBE, value: &value }])
    }

    /// Whether there is less free space than the options demand. This is cheap. If the system does not tell,
    /// the answer is no.
    pub fn low_on_space(&self) -> bool {
        self.shared.engine.free_bytes().is_ok_and(|free| free < self.free_low_bytes)
    }

    /// A reader of what is durable, for any thread. All readers must be dropped before the directory is
    /// opened again.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Writes the tail, at most once a second. Call it now and then, with the time of a monotonic clock.
    /// After [`WriteError::Passing`] the store is as before and the older mark stands, which is still true:
    /// the next call tries again.
    pub fn housekeep(&mut self, now_ms: u64) -> Result<(), WriteError> {
        if now_ms.saturating_sub(self.tail_written_ms) < TAIL_INTERVAL_MS {
            return Ok(());
        }
        self.tail_written_ms = now_ms;
        self.write_tail()
    }

    /// Writes the tail and releases the directory. After [`WriteError::Passing`] only the tail is older than
    /// it could be; nothing durable is lost.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.write_tail()
    }

    /// Forgets the entries up to `upto`, which must be chosen and whose running hash is `hash`, and deletes
    /// records that hold nothing else, up to 256 of them in one durable write. Returns whether there are more
    /// to delete; if so, call it again. Later writes use the records' space again, but the file does not
    /// shrink.
    pub fn compact(&mut self, upto: Index, hash: u128) -> Result<bool, WriteError> {
        assert!(!self.failed, "a compaction after a failed write: rebuild the store first");
        assert!(
            upto <= self.hard_state.chosen,
            "only chosen entries may be compacted: {upto} is above {}",
            self.hard_state.chosen
        );
        self.builder.begin(self.next);
        let compacted = self.shared.index.read().compacted();
        let checkpoint = (upto > compacted).then(|| {
            // The newest hard state moves to the end, or its record could never be deleted. So do the items
            // that record which peers are bound.
            let state = self.builder.hard_state(&self.hard_state);
            for node in self.bindings.keys() {
                self.builder.binding(*node);
            }
            self.builder.checkpoint(upto, self.max_round, hash);
            state
        });
        self.builder.finish();
        if let Some(record) = checkpoint {
            let lowest = self.shared.index.read().lowest_record_above(upto);
            self.deletable = lowest.unwrap_or(record).min(record);
        }
        let newest = checkpoint.unwrap_or(self.hard_state_record);
        assert!(
            self.deletable == self.first || self.deletable <= newest,
            "records up to {} would be deleted, and the newest hard state is in {newest}",
            self.deletable
        );
        self.delete_records()?;
        if let Some(record) = checkpoint {
            self.hard_state_record = record;
            self.shared.index.write().compact(upto, hash);
        }
        Ok(self.first < self.deletable)
    }

    /// The newest hard state.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The peers that are bound durably.
    pub fn bindings(&self) -> &BTreeMap<NodeId, DirectoryId> {
        &self.bindings
    }

    /// Whose store it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// The parts of a write.
impl Store {
    fn check_write(&self, write: &Write<'_>) {
        assert!(!self.failed, "a write after a failed one: rebuild the store first");
        if let Some(new) = write.hard_state {
            let old = self.hard_state;
            assert!(
                new.promised >= old.promised && new.chosen >= old.chosen,
                "a hard state must not regress: {new} after {old}"
            );
        }
        let compacted = self.shared.index.read().compacted();
        for change in write.changes {
            if let Change::Entries(entries) = change {
                let lowest = entries.iter().map(|entry| entry.index).min().unwrap_or(Index::MAX);
                assert!(
                    lowest > compacted,
                    "an entry at index {lowest}, but entries up to {compacted} were compacted"
                );
            }
        }
    }

    /// Builds the records of a write, and returns in which record each change begins.
    fn build(&mut self, write: &Write<'_>) -> Placed {
        self.builder.begin(self.next);
        let mut placed = Placed::default();
        for change in write.changes {
            match change {
                Change::Entries(entries) => {
                    placed.entries.extend(entries.iter().map(|entry| self.builder.entry(entry)));
                }
                Change::TruncateFrom(from) => {
                    self.builder.truncate(*from);
                }
            }
        }
        placed.hard_state = write.hard_state.map(|state| self.builder.hard_state(&state));
        for binding in write.bindings {
            self.builder.binding(binding.node);
        }
        self.builder.finish();
        placed
    }

    /// Appends the built records, sets small values and deletes records, all atomically and durably.
    fn commit(&mut self, delete_below: u64, meta: &[Put<'_>]) -> Result<(), WriteError> {
        let records: Vec<_> = self.builder.records().collect();
        let commit = Commit { delete_below, meta, first: self.next, records: &records };
        let result = commit_and_sync(&*self.shared.engine, &commit);
        self.failed = result.is_err();
        self.next += if result.is_ok() { self.builder.len() } else { 0 };
        Ok(result?)
    }

    /// Makes a durable write the store's state.
    fn adopt(&mut self, write: &Write<'_>, placed: &Placed) {
        let mut records = placed.entries.iter();
        let mut index = self.shared.index.write();
        for change in write.changes {
            match change {
                Change::Entries(entries) => {
                    for (entry, record) in entries.iter().zip(&mut records) {
                        index.set(entry.index, *record);
                        self.max_round = self.max_round.max(entry.ballot.round);
                    }
                }
                Change::TruncateFrom(from) => index.truncate_from(*from),
            }
        }
        drop(index);
        if let (Some(state), Some(record)) = (write.hard_state, placed.hard_state) {
            self.hard_state = state;
            self.hard_state_record = record;
            self.max_round = self.max_round.max(state.promised.round);
        }
        self.bindings.extend(write.bindings.iter().map(|binding| (binding.node, binding.directory)));
    }

    /// Writes what is built, and in the same write deletes the first records, as far as they may be deleted.
    fn delete_records(&mut self) -> Result<(), WriteError> {
        let end = self.deletable.min(self.first + COMPACT_RECORDS);
        if end == self.first && self.builder.len() == 0 {
            return Ok(());
        }
        let first = seal_number(recover::FIRST, end);
        self.commit(end, &[Put { key: recover::FIRST, value: &first }])?;
        self.first = end;
        Ok(())
    }

    fn write_tail(&mut self) -> Result<(), WriteError> {
        let mark = self.mark();
        match &mut self.tail {
            Some(tail) => tail.advance(mark).map_err(|error| {
                let why = format!("writing {}/tail: {error}", self.path.display());
                if is_no_room(&error) { WriteError::Passing(why) } else { WriteError::Fatal(why) }
            }),
            None => Ok(()),
        }
    }

    /// The mark of what is durable now.
    fn mark(&self) -> Mark {
        Mark { directory: self.identity.directory, start: self.start, record: self.next - 1 }
    }
}

/// In which records a write's changes begin.
#[derive(Default)]
struct Placed {
    entries: Vec<u64>,
    hard_state: Option<u64>,
}

fn commit_and_sync(engine: &dyn Engine, commit: &Commit<'_>) -> Result<(), EngineError> {
    engine.commit(commit)?;
    engine.sync()
}

fn seal_number(key: &[u8], number: u64) -> Vec<u8> {
    let mut content = vec![];
    put_varint(&mut content, number);
    seal(key, &content)
}
