//! What a core is made of: its configuration, and what was durable before.

use super::quorum::Voters;
use super::types::{Ballot, Entry, HardState, Index, NodeId, Round};

/// What a core needs to know; the same in all its incarnations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node; one of `voters`.
    pub node: NodeId,
    /// All voters.
    pub voters: Voters,
    /// T: a node that hears no leader waits between T and 2T before it campaigns.
    pub election_ms: u64,
    /// How often a leader sends heartbeats; well below T.
    pub heartbeat_ms: u64,
    /// The most indexes that a leader proposes above its watermark (1 to
    /// [`MAX_WINDOW_ENTRIES`](super::types::MAX_WINDOW_ENTRIES)).
    pub window_entries: u64,
    /// The most that they take, in [`Command::cost_bytes`](super::types::Command::cost_bytes); one entry is
    /// always allowed.
    pub window_bytes: usize,
    /// For the random part of waits. It is different on each node.
    pub seed: u64,
}

/// What was durable when an earlier incarnation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last hard state.
    pub hard_state: HardState,
    /// The ballot of the entry at `hard_state.chosen`; [`Ballot::ZERO`] if that is 0. Raft compares logs by
    /// it.
    pub chosen_ballot: Ballot,
    /// The highest round ever stored or used, wherever that was.
    pub highest_round: Round,
    /// Entries up to this index are no longer kept.
    pub compacted: Index,
    /// The entries above `hard_state.chosen`, by ascending index.
    pub entries: Vec<Entry>,
}
