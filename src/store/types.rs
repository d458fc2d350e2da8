//! The plain data that a store takes and hands out.

use std::collections::BTreeMap;

use crate::consensus::types::{Ballot, Entry, HardState, Index, NodeId, Round};

/// 128 random bits made with a data directory.
pub type DirectoryId = u128;

/// The data directory to which a peer's node id belongs, permanently once it is durable. Only a person can
/// take it away ([`Store::unbind`](super::Store::unbind)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The peer.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
}

/// What a data directory is founded with. It is recorded once, and compared at every start. All of it
/// together takes at most 4 KiB (the configuration ensures that).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The cluster's name. A different one is refused.
    pub cluster: String,
    /// The node. A different one is refused.
    pub node: NodeId,
    /// The protocol's name. A different one is refused.
    pub protocol: String,
    /// The voters with their addresses. Different voters are refused, different addresses are not.
    pub members: BTreeMap<NodeId, String>,
    /// How many delivered requests are remembered. A different number is refused, since delivery depends on
    /// it.
    pub delivery_window: u64,
}

/// What a store held when it was opened or rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The data directory's id.
    pub directory: DirectoryId,
    /// Which start of the node this is, counted durably from 1.
    pub start: u64,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The ballot of the entry at `hard_state.chosen`; [`Ballot::ZERO`] if that index is 0 or its entry is
    /// missing (an error for Raft, which compares logs by it).
    pub chosen_ballot: Ballot,
    /// The highest round in any entry or hard state ever stored.
    pub max_round: Round,
    /// The entries above `hard_state.chosen`, by ascending index, the latest version of each.
    pub entries: Vec<Entry>,
    /// The highest index with an entry, or `compacted` if that is higher.
    pub last: Index,
    /// Entries up to this index are no longer kept.
    pub compacted: Index,
    /// The peers' directories.
    pub bindings: BTreeMap<NodeId, DirectoryId>,
    /// What was recorded when the directory was founded. Addresses may have changed since.
    pub founding: Founding,
}

/// A change of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Entries in any order; holes are allowed. Each replaces what was at its index. All are above the
    /// compacted index.
    Entries(&'a [Entry]),
    /// Removes the entries from an index on.
    TruncateFrom(Index),
}

/// What becomes durable together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write<'a> {
    /// The changes, in the order in which they happen.
    pub changes: &'a [Change<'a>],
    /// The new hard state. Neither its promise nor its watermark is lower than before.
    pub hard_state: Option<HardState>,
    /// Peers to bind.
    pub bindings: &'a [Binding],
}
