//! An engine without a disk, which fails and loses on command: for tests, and for the simulator.
//!
//! It keeps the contract of [`Engine`] and has every freedom that the contract leaves: what was put and not
//! synced is there after a crash or not, whichever it is told, for each write by itself. Told to tear a write
//! it breaks the contract as a bad disk does: then the records above have to notice.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;

use super::engine::{Engine, EngineError, MAX_VALUE_BYTES, Op, Space, Visit};

/// Keeps all in memory.
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
    /// Of its operation number `i` whatever bit `i % 64` says, and of the last one that is kept and puts
    /// something the first half: no disk that keeps the contract does this.
    Torn(u64),
}

type Map = BTreeMap<(Space, Vec<u8>), Bytes>;

/// A key with what it had before a write and what the write gave it; `None`: nothing.
type Change = ((Space, Vec<u8>), Option<Bytes>, Option<Bytes>);

#[derive(Debug, Default)]
struct State {
    /// What was put.
    current: Map,
    /// What was put since the last sync, a list a write.
    unsynced: Vec<Vec<Change>>,
    /// What becomes of these at the next reopen.
    kept_at_reopen: Option<Kept>,
    /// All puts fail for want of room.
    full: bool,
    /// The next put fails with it, and all after it until a reopen.
    put_fails: Option<EngineError>,
    /// The next sync fails with it, and all after it until a reopen.
    sync_fails: Option<EngineError>,
    /// The next reopen fails with it, and there is nothing to read until one succeeds.
    reopen_fails: Option<EngineError>,
    failed: bool,
    closed: bool,
}

impl MemoryEngine {
    /// An empty one.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }

    /// Lets the next write fail.
    pub fn fail_next(&self, error: EngineError) {
        self.state.lock().put_fails = Some(error);
    }

    /// Lets the next sync fail.
    pub fn fail_sync(&self, error: EngineError) {
        self.state.lock().sync_fails = Some(error);
    }

    /// Lets the next reopen fail.
    pub fn fail_reopen(&self, error: EngineError) {
        self.state.lock().reopen_fails = Some(error);
    }

    /// From now on there is no room for any write, or there is again.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// No failure is to come any more; those that were reported stand.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        (state.put_fails, state.sync_fails, state.reopen_fails, state.full) = (None, None, None, false);
    }

    /// What the next reopen finds of writes that were not synced; otherwise nothing.
    pub fn keep_at_reopen(&self, kept: Kept) {
        self.state.lock().kept_at_reopen = Some(kept);
    }

    /// The process or the machine goes down: each write that was not synced is left as `keep` says, and
    /// errors end.
    pub fn crash(&self, mut keep: impl FnMut() -> Kept) {
        let mut state = self.state.lock();
        state.forget_unsynced(&mut keep);
        let current = std::mem::take(&mut state.current);
        *state = State { current, full: state.full, ..State::default() };
    }

    /// Whether the next write is going to fail.
    pub fn fails_next(&self) -> bool {
        let state = self.state.lock();
        state.full || state.put_fails.is_some() || state.sync_fails.is_some()
    }

    /// How many writes were not synced: who acts on what they hold may lose it.
    pub fn unsynced(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    /// How many keys a space has.
    pub fn len(&self, space: Space) -> usize {
        self.state.lock().current.keys().filter(|(of, _)| *of == space).count()
    }

    /// Changes a value behind the store's back, as a bad disk does; whether the key is there.
    pub fn damage(&self, space: Space, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let key = (space, key.to_vec());
        let Some(value) = state.current.get(&key) else { return false };
        let mut value = value.to_vec();
        change(&mut value);
        state.current.insert(key, value.into());
        true
    }

    /// Loses a key behind the store's back; whether it was there.
    pub fn lose(&self, space: Space, key: &[u8]) -> bool {
        let mut state = self.state.lock();
        let key = (space, key.to_vec());
        state.current.remove(&key).is_some()
    }
}

impl Engine for MemoryEngine {
    fn scan(&self, space: Space, from: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let state = self.state.lock();
        state.check_open()?;
        let from = Bound::Included((space, from.to_vec()));
        for ((of, key), value) in state.current.range((from, Bound::Unbounded)) {
            if *of != space || visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.state.lock();
        state.check_open()?;
        Ok(state.current.get(&(space, key.to_vec())).cloned())
    }

    fn put_atomic(&self, ops: &[Op<'_>]) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.check_open()?;
        let full = state.full.then(|| EngineError::NoRoom("a full disk".into()));
        let failing = state.put_fails.take().or(full);
        state.check(failing)?;
        let changes = ops.iter().map(|op| state.change(op)).collect();
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
        // What is there to be read now may still be lost until a sync.
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
        match self.failed {
            true => Err(EngineError::Failed("an earlier write failed, and it was not reopened".into())),
            false => Ok(()),
        }
    }

    fn change(&mut self, op: &Op<'_>) -> Change {
        let (key, new) = to_put(op);
        let old = self.set(key.clone(), new.clone());
        (key, old, new)
    }

    fn set(&mut self, key: (Space, Vec<u8>), value: Option<Bytes>) -> Option<Bytes> {
        match value {
            Some(value) => self.current.insert(key, value),
            None => self.current.remove(&key),
        }
    }

    /// Takes back all that was not synced, does again what is kept of it, and says what was kept whole.
    fn forget_unsynced(&mut self, keep: &mut dyn FnMut() -> Kept) -> Vec<Vec<Change>> {
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

    fn tear(&mut self, changes: Vec<Change>, bits: u64) {
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

fn to_put(op: &Op<'_>) -> ((Space, Vec<u8>), Option<Bytes>) {
    match *op {
        Op::Put { space, key, value } => {
            assert!(value.len() <= MAX_VALUE_BYTES, "a value of {} bytes", value.len());
            ((space, key.to_vec()), Some(Bytes::copy_from_slice(value)))
        }
        Op::Delete { space, key } => ((space, key.to_vec()), None),
    }
}
