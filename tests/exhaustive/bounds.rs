//! How far a search goes: what makes the space of states finite.

use std::fmt;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{NodeId, Round};

use crate::node::NODES;

/// The bounds of a search.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub protocol: ProtocolName,
    /// Campaigns of all nodes together.
    pub campaigns: u8,
    /// Campaigns of one node.
    pub campaigns_each: u8,
    /// The nodes from 1 to this one campaign, the others only follow.
    pub campaigners: NodeId,
    /// The highest round of a ballot; a node that has seen it campaigns no more.
    pub rounds: Round,
    /// Whether a candidate may have heard, in pre-vote, of higher rounds than it has seen itself; otherwise
    /// it takes the next one.
    pub jumps: bool,
    /// Proposals of clients, each of a value of its own.
    pub proposals: u8,
    /// When and where clients propose.
    pub clients: Clients,
    /// Crashes of all nodes together, each followed by a restart.
    pub crashes: u8,
    /// What becomes of a batch's write.
    pub writes: Writes,
    /// Whether nodes repeat on their own what may have been lost: heartbeats, Accepts, CatchUps.
    pub repeats: bool,
    /// Raft: whether Refuse and HeartbeatReply arrive.
    pub answers: bool,
    /// Raft: whether a leader holds chosen entries, so that it appends them to the logs of others; otherwise
    /// they come as pages of the store.
    pub tail: bool,
    /// How long proposed values are; those that fill a page travel in a message of their own.
    pub value_bytes: usize,
}

/// When and where clients propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Before all else, the first value at node 1, the second at node 2.
    First,
    /// At any time, at a node that leads.
    AtLeaders,
    /// At any time, at any node: one that follows passes it on.
    Anywhere,
}

/// What becomes of a batch's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It is durable before anything else happens to the node, or never: then the node will crash.
    AtOnceOrNever,
    /// It is an action of its own, later.
    Separate,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { protocol, campaigns, campaigns_each, campaigners, rounds, proposals, crashes, .. } =
            self;
        let jumps = if self.jumps { ", with gaps" } else { "" };
        let clients = match self.clients {
            Clients::First => "before all else",
            Clients::AtLeaders => "at leaders, at any time",
            Clients::Anywhere => "anywhere, at any time",
        };
        let writes = match self.writes {
            Writes::AtOnceOrNever => "writes immediately or never",
            Writes::Separate => "writes at any time",
        };
        let repeats = if self.repeats { ", repetitions" } else { "" };
        let answers = if self.answers { ", refusals and answers to heartbeats" } else { "" };
        let tail =
            if *protocol == ProtocolName::Raft && !self.tail { ", chosen entries as pages" } else { "" };
        let large = if self.value_bytes > 1 { ", one entry a message" } else { "" };
        write!(
            f,
            "{protocol}, {NODES} nodes; campaigns: {campaigns} ({campaigns_each} each of nodes 1 to {campaigners}), rounds to \
             {rounds}{jumps}; proposals: {proposals} ({clients}); crashes: {crashes}; {writes}{repeats}{answers}{tail}{large}"
        )
    }
}
