//! What a core is made from: which protocol, its configuration, and what was durable before.

use super::paxos::Paxos;
use super::protocol::Protocol;
use super::quorum::Voters;
use super::raft::Raft;
use super::types::{Ballot, Entry, HardState, Index, NodeId, Round};

/// How the nodes of a cluster agree: the same on all of them, and for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolName {
    /// Multi-Paxos.
    #[default]
    Paxos,
    /// Raft.
    Raft,
}

impl ProtocolName {
    /// All of them.
    pub const ALL: [ProtocolName; 2] = [ProtocolName::Paxos, ProtocolName::Raft];

    /// As the configuration, the data directory and the hello of peers have it.
    pub const fn name(self) -> &'static str {
        match self {
            ProtocolName::Paxos => "paxos",
            ProtocolName::Raft => "raft",
        }
    }

    /// A core that continues where an earlier incarnation ended, as a follower.
    pub fn core(self, config: Config, restored: Restored) -> Box<dyn Protocol> {
        match self {
            ProtocolName::Paxos => Box::new(Paxos::new(config, restored)),
            ProtocolName::Raft => Box::new(Raft::new(config, restored)),
        }
    }
}

/// A name that is no protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol {0:?} is not in this version; allowed: \"paxos\", \"raft\"")]
pub struct UnknownProtocol(String);

impl std::str::FromStr for ProtocolName {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<ProtocolName, UnknownProtocol> {
        let found = ProtocolName::ALL.into_iter().find(|protocol| protocol.name() == name);
        found.ok_or_else(|| UnknownProtocol(name.to_owned()))
    }
}

impl std::fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a core needs to know; the same in all its incarnations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node; one of `voters`.
    pub node: NodeId,
    /// All voters.
    pub voters: Voters,
    /// T: a node that hears no leader waits between T and 2T before it campaigns.
    pub election_ms: u64,
    /// How often a leader is heard; well below T.
    pub heartbeat_ms: u64,
    /// How many indexes a leader proposes above its watermark at most (1 to
    /// [`MAX_WINDOW_ENTRIES`](super::types::MAX_WINDOW_ENTRIES)).
    pub window_entries: u64,
    /// What they take at most, in [`Command::cost_bytes`](super::types::Command::cost_bytes); one entry is
    /// always allowed.
    pub window_bytes: usize,
    /// For the random part of waits. Different on each node.
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
    /// The highest round ever stored or used, in whatever place.
    pub highest_round: Round,
    /// Up to it entries are no longer kept.
    pub compacted: Index,
    /// The entries above `hard_state.chosen`, by ascending index.
    pub entries: Vec<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What configurations, data directories and hellos say keeps its meaning.
    #[test]
    fn protocols_have_their_names() {
        assert_eq!(ProtocolName::ALL.map(ProtocolName::name), ["paxos", "raft"]);
        for protocol in ProtocolName::ALL {
            assert_eq!(protocol.name().parse(), Ok(protocol));
        }
        assert!("Raft".parse::<ProtocolName>().is_err());
    }
}
