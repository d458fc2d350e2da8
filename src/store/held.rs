//! What a stopped node's store holds, read without writing anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::consensus::types::{HardState, NodeId, Round};

use super::engine::Engine;
use super::error::OpenError;
use super::identity::Identity;
use super::reader::LogReader;
use super::reader::Shared;
use super::recover;
use super::tail::Mark;
use super::types::DirectoryId;

/// Everything that a store holds.
pub struct Held {
    /// Whose store it is.
    pub identity: Identity,
    /// How many times the node was started.
    pub start: u64,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The highest round ever stored.
    pub max_round: Round,
    /// The peers' directories.
    pub bindings: BTreeMap<NodeId, DirectoryId>,
    /// Reads the entries.
    pub reader: LogReader,
}

impl Held {
    /// Reads all of an engine. `mark` is how far it must reach, and `path` is what errors name.
    pub fn read(engine: Arc<dyn Engine>, mark: &Mark, path: &Path) -> Result<Held, OpenError> {
        let values = recover::values(&*engine, path)?;
        let found = recover::all(values, &*engine, path)?;
        let identity = found.values.identity.clone();
        let identity = identity.ok_or_else(|| OpenError::damaged(path, "its identity is gone"))?;
        mark.check(path, found.mark(identity.directory))?;
        let shared = Shared { engine, index: RwLock::new(found.log.index) };
        Ok(Held {
            identity,
            start: found.values.start,
            hard_state: found.log.hard_state,
            max_round: found.log.max_round,
            bindings: found.values.bindings,
            reader: LogReader::new(Arc::new(shared)),
        })
    }
}
