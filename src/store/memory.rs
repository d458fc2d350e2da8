//! An engine without a disk, which fails and loses writes on command, for tests and the simulator.
//!
//! It keeps the contract of [`Engine`] and takes every freedom that the contract leaves: each write that was
//! committed but not synced is there after a crash or not, as it is told. When it is told to tear a write, it
//! breaks the contract as a bad disk does, and the records above must notice that.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use super::engine::{
    Commit, Engine, EngineError, Journal, MAX_VALUE_BYTES, Meta, Put, VisitRecord, VisitValue,
};

/// Keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
}

/// What a crash leaves of a write that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// Nothing.
    Lost,
    /// Change number `i` is kept if bit `i % 64` is set, and the last kept change that puts something keeps
    /// only its first half. No disk that keeps the contract does this.
    Torn(u64),
}

/// What an engine holds a value under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The key of a small value.
    Meta(Vec<u8>),
    /// The number of a record.
    Record(u64),
}

type Map = BTreeMap<Key, Bytes>;

/// A key with its value before a write and its value after it; `None` if there was none.
type Edit = (Key, Option<Bytes>, Option<Bytes>);

#[derive(Debug, Default)]
struct State {
    /// What was committed.
    current: Map,
    /// What was committed since the last sync, one list per write.
    unsynced: Vec<Vec<Edit>>,
    /// What the next reopen keeps of each of these.
    kept_at_reopen: Option<Kept>,
    /// Whether all commits fail for want of room.
    full: bool,
    /// The next commit fails with this error, and so do all after it until a reopen.
    commit_fails: Option<EngineError>,
    /// The next sync fails with this error, and so do all after it until a reopen.
    sync_fails: Option<EngineError>,
    /// The next reopen fails with this error, and nothing can be read until one succeeds.
    reopen_fails: Option<EngineError>,
    failed: bool,
    closed: bool,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }

    /// Makes the next write fail.
    pub fn fail_next(&self, error: EngineError) {
        self.state.lock().commit_fails = Some(error);
    }

    /// Makes the next sync fail.
    pub fn fail_sync(&self, error: EngineError) {
        self.state.lock().sync_fails = Some(error);
    }

    /// Makes the next reopen fail.
    pub fn fail_reopen(&self, error: EngineError) {
        self.state.lock().reopen_fails = Some(error);
    }

    /// From now on there is no room for any write (`full`), or there is room again.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// Cancels the failures that are still to come. Those that were reported stand.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        (state.commit_fails, state.sync_fails, state.reopen_fails, state.full) = (None, None, None, false);
    }

    /// The next reopen finds this much of each write that was not synced, instead of nothing.
    pub fn keep_at_reopen(&self, kept: Kept) {
        self.state.lock().kept_at_reopen = Some(kept);
    }

    /// The process or the machine goes down. `keep` decides what is left of each write that was not synced,
    /// and errors end.
    pub fn crash(&self, mut keep: impl FnMut() -> Kept) {
        let mut state = self.state.lock();
        state.forget_unsynced(&mut keep);
        let current = std::mem::take(&mut state.current);
        *state = State { current, full: state.full, ..State::default() };
    }

    /// Whether the next write will fail.
    pub fn fails_next(&self) -> bool {
        let state = self.state.lock();
        state.full || state.commit_fails.is_some() || state.sync_fails.is_some()
    }

    /// How many writes were not synced. What they hold may still be lost, so nobody should act on it.
    pub fn unsynced(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    /// Everything the engine holds, by ascending key.
    pub fn contents(&self) -> BTreeMap<Key, Bytes> {
        self.state.lock().current.clone()
    }

    /// Changes a value behind the store's back, as a bad disk does; returns whether the key is there.
    pub fn damage(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let Some(held) = state.current.get_mut(key) else { return false };
        let mut value = held.to_vec();
        change(&mut value);
        *held = value.into();
        true
    }

    /// Loses a key behind the store's back; returns whether it was there.
    pub fn lose(&self, key: &Key) -> bool {
        self.state.lock().current.remove(key).is_some()
    }

    /// Sets a key behind the store's back, whatever its number.
    pub fn forge(&self, key: Key, value: Vec<u8>) {
        self.state.lock().current.insert(key, value.into());
    }
}

impl Journal for MemoryEngine {
    fn read(&self, number: u64) -> Result<Option<Bytes>, EngineError> {
        self.state.lock().get(&Key::Record(number))
    }

    fn scan(&self, visit: &mut VisitRecord<'_>) -> Result<(), EngineError> {
        let state = self.state.lock();
        state.check_open()?;
        for (key, record) in state.current.range(Key::Record(0)..) {
            if let Key::Record(number) = key
                && visit(*number, record).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

impl Meta for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.state.lock().get(&Key::Meta(key.to_vec()))
    }

    fn scan_prefix(&self, prefix: &[u8], visit: &mut VisitValue<'_>) -> Result<(), EngineError> {
        let state = self.state.lock();
        state.check_open()?;
        for (key, value) in state.current.range(Key::Meta(prefix.to_vec())..) {
            match key {
                Key::Meta(key) if key.starts_with(prefix) && visit(key, value).is_continue() => {}
                _ => break,
            }
        }
        Ok(())
    }
}

impl Engine for MemoryEngine {
    fn commit(&self, commit: &Commit<'_>) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check_open()?;
        let full = state.full.then(|| EngineError::NoRoom("a full disk".into()));
        let failing = state.commit_fails.take().or(full);
        state.check(failing)?;
        let changes = state.apply(commit);
        state.unsynced.push(changes);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check_open()?;
        let failing = state.sync_fails.take();
        state.check(failing)?;
        state.unsynced.clear();
        Ok(())
    }

    fn reopen(&self) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let failing = state.reopen_fails.take();
        state.closed = failing.is_some();
        if let Some(error) = failing {
            return Err(error);
        }
        let kept = state.kept_at_reopen.take().unwrap_or(Kept::Lost);
        // What can be read now may still be lost until a sync.
        state.unsynced = state.forget_unsynced(&mut || kept);
        state.failed = false;
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, EngineError> {
        Ok(u64::MAX)
    }
}

impl State {
    fn check_open(&self) -> Result<(), EngineError> {
        if self.closed { Err(EngineError::Closed) } else { Ok(()) }
    }

    fn check(&mut self, failing: Option<EngineError>) -> Result<(), EngineError> {
        if let Some(error) = failing {
            self.failed = true;
            return Err(error);
        }
        if self.failed {
            return Err(EngineError::Failed(
                "an earlier write failed, and the engine was not reopened".into(),
            ));
        }
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, EngineError> {
        self.check_open()?;
        Ok(self.current.get(key).cloned())
    }

    /// Does all of a commit, one key after the other.
    fn apply(&mut self, commit: &Commit<'_>) -> Vec<Edit> {
        self.check_append(commit);
        let deleted = self.current.range(Key::Record(0)..Key::Record(commit.delete_below));
        let deleted: Vec<_> = deleted.map(|(key, _)| (key.clone(), None)).collect();
        let small =
            commit.meta.iter().map(|Put { key, value }| (Key::Meta(key.to_vec()), Some(to_keep(value))));
        let records = commit.numbered().map(|(number, record)| (Key::Record(number), Some(to_keep(record))));
        let changes = deleted.into_iter().chain(small).chain(records);
        changes
            .map(|(key, new)| {
                let old = self.set(key.clone(), new.clone());
                (key, old, new)
            })
            .collect()
    }

    fn check_append(&self, commit: &Commit<'_>) {
        if let (Some((Key::Record(newest), _)), false) =
            (self.current.last_key_value(), commit.records.is_empty())
        {
            let first = commit.first;
            assert_eq!(first, newest + 1, "record {first} is appended to a journal that ends at {newest}");
        }
    }

    fn set(&mut self, key: Key, value: Option<Bytes>) -> Option<Bytes> {
        match value {
            Some(value) => self.current.insert(key, value),
            None => self.current.remove(&key),
        }
    }

    /// Undoes everything that was not synced, does again what is kept of it, and returns what was kept whole.
    fn forget_unsynced(&mut self, keep: &mut dyn FnMut() -> Kept) -> Vec<Vec<Edit>> {
        let mut whole = Vec::new();
        let unsynced = std::mem::take(&mut self.unsynced);
        for (key, old, _) in unsynced.iter().rev().flat_map(|changes| changes.iter().rev()) {
            self.set(key.clone(), old.clone());
        }
        for changes in unsynced {
            match keep() {
                Kept::Lost => {}
                Kept::Whole => {
                    changes.iter().for_each(|(key, _, new)| drop(self.set(key.clone(), new.clone())));
                    whole.push(changes);
                }
                Kept::Torn(bits) => self.tear(changes, bits),
            }
        }
        whole
    }

    fn tear(&mut self, changes: Vec<Edit>, bits: u64) {
        let mut kept = changes;
        let mut place = 0;
        kept.retain(|_| {
            place += 1;
            bits >> ((place - 1) % 64) & 1 == 1
        });
        if let Some((_, _, Some(value))) = kept.iter_mut().rfind(|(_, _, new)| new.is_some()) {
            *value = value.slice(..value.len() / 2);
        }
        kept.into_iter().for_each(|(key, _, new)| drop(self.set(key, new)));
    }
}

fn to_keep(value: &[u8]) -> Bytes {
    assert!(value.len() <= MAX_VALUE_BYTES, "a value of {} bytes", value.len());
    Bytes::copy_from_slice(value)
}
