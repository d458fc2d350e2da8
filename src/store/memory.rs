//! An engine without a disk, which loses on command what was not synced: for tests.

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

type Map = BTreeMap<(Space, Vec<u8>), Bytes>;
type Puts = Vec<((Space, Vec<u8>), Option<Bytes>)>;

#[derive(Debug, Default)]
struct State {
    /// What was put.
    current: Map,
    /// What was synced.
    durable: Map,
    /// What was put since the last sync.
    unsynced: Vec<Puts>,
    /// The next put fails with it, and all after it until a reopen.
    put_fails: Option<EngineError>,
    /// The next sync fails with it, and all after it until a reopen.
    sync_fails: Option<EngineError>,
    failed: bool,
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

    /// A power cut that leaves the first `kept` of the unsynced atomic writes on the disk.
    pub fn crash(&self, kept: usize) {
        let mut state = self.state.lock();
        let unsynced = std::mem::take(&mut state.unsynced);
        for puts in unsynced.into_iter().take(kept) {
            apply(&mut state.durable, puts);
        }
        state.current = state.durable.clone();
    }

    /// Changes a value behind the store's back, as a bad disk does; whether the key is there.
    pub fn damage(&self, space: Space, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let key = (space, key.to_vec());
        let Some(value) = state.current.get(&key) else { return false };
        let mut value = value.to_vec();
        change(&mut value);
        state.current.insert(key.clone(), value.clone().into());
        state.durable.insert(key, value.into());
        true
    }

    /// Loses a key behind the store's back; whether it was there.
    pub fn lose(&self, space: Space, key: &[u8]) -> bool {
        let mut state = self.state.lock();
        let key = (space, key.to_vec());
        state.durable.remove(&key);
        state.current.remove(&key).is_some()
    }
}

impl Engine for MemoryEngine {
    fn scan(&self, space: Space, from: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let state = self.state.lock();
        let from = Bound::Included((space, from.to_vec()));
        for ((of, key), value) in state.current.range((from, Bound::Unbounded)) {
            if *of != space || visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.state.lock().current.get(&(space, key.to_vec())).cloned())
    }

    fn put_atomic(&self, ops: &[Op<'_>]) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let failing = state.put_fails.take();
        state.check(failing)?;
        let puts: Puts = ops.iter().map(to_put).collect();
        apply(&mut state.current, puts.clone());
        state.unsynced.push(puts);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let failing = state.sync_fails.take();
        state.check(failing)?;
        for puts in std::mem::take(&mut state.unsynced) {
            apply(&mut state.durable, puts);
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), EngineError> {
        self.crash(0);
        self.state.lock().failed = false;
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, EngineError> {
        Ok(u64::MAX)
    }
}

impl State {
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

fn apply(map: &mut Map, puts: Puts) {
    for (key, value) in puts {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}
