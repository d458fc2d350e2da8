//! The simulator's own account of what is durable on a node's disk, as plain data. `durable.rs` keeps it, and
//! compares it with what leaves the node and what its store finds.

use std::collections::BTreeMap;

use crate::consensus::message::Message;
use crate::consensus::types::{Ballot, Command, Entry, HardState, Index, NodeId};
use crate::pipeline::state_machine::Work;

/// The latest version of each entry.
pub type Log = BTreeMap<Index, (Ballot, Command)>;

/// What is durable on one disk.
#[derive(Default)]
pub struct Account {
    pub hard_state: HardState,
    pub entries: Log,
    /// The works of a write that was not synced when the process ended or the write failed.
    pub uncertain: Vec<Written>,
    /// The directories that other nodes are bound to.
    pub bound: BTreeMap<NodeId, u128>,
}

/// The part of a work that is written, and the messages that wait for that.
#[derive(Clone, Debug)]
pub struct Written {
    pub hard_state: Option<HardState>,
    pub truncate: Option<Index>,
    pub entries: Vec<Entry>,
    pub messages: Vec<Message>,
}

impl Written {
    /// Takes, of works that are written together, those of the store's generation.
    pub fn of(works: &[Work], generation: u64) -> Vec<Written> {
        let current = works.iter().filter(|work| work.generation == generation);
        let written = current.map(|work| Written {
            hard_state: work.hard_state,
            truncate: work.truncate,
            entries: work.entries.clone(),
            messages: work.messages.clone(),
        });
        written.collect()
    }
}
