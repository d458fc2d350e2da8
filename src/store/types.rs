//! The plain data that a store takes and hands out.

use std::collections::BTreeMap;

use crate::consensus::types::{Ballot, Entry, HardState, Index, NodeId, Round};

/// 128 random bits made with a data directory.
pub type DirectoryId = u128;

/// Whose data directory a peer's node id stands for, from its first hello on and for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The peer.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
}

/// What a data directory is founded with: recorded once, and compared at every start. All of it together is
/// at most 4 KiB (the configuration sees to that).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The cluster's name. Another one is refused.
    pub cluster: String,
    /// The node. Another one is refused.
    pub node: NodeId,
    /// The protocol's name. Another one is refused.
    pub protocol: String,
    /// The voters with their addresses. Other voters are refused, other addresses are not.
    pub members: BTreeMap<NodeId, String>,
    /// How many delivered requests are remembered. Another one is refused: delivery depends on it.
    pub delivery_window: u64,
}

/// What a store held when it was opened or rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The data directory's id.
    pub directory: DirectoryId,
    /// Which start of the node this is, from 1; durable.
    pub start: u64,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The ballot of the entry at `hard_state.chosen`; [`Ballot::ZERO`] if that is 0, or not there (an error
    /// for Raft, which compares logs by it).
    pub chosen_ballot: Ballot,
    /// The highest round in any entry or hard state ever stored.
    pub max_round: Round,
    /// The entries above `hard_state.chosen`, by ascending index, the latest version of each.
    pub entries: Vec<Entry>,
    /// The highest index with an entry, or `compacted` if that is higher.
    pub last: Index,
    /// Up to it entries are no longer kept.
    pub compacted: Index,
    /// The peers' directories.
    pub bindings: BTreeMap<NodeId, DirectoryId>,
    /// As recorded when the directory was founded: addresses may have changed since.
    pub founding: Founding,
}

/// A change of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Entries in any order, holes allowed; each replaces what stood at its index. All are above the
    /// compacted index.
    Entries(&'a [Entry]),
    /// Removes the entries from an index on.
    TruncateFrom(Index),
}

/// What becomes durable at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write<'a> {
    /// In the order in which they happen.
    pub changes: &'a [Change<'a>],
    /// Replaces the hard state; neither its promise nor its watermark is lower than before.
    pub hard_state: Option<HardState>,
    /// Peers to bind.
    pub bindings: &'a [Binding],
}
