//! The protocols by name, and the core of each. The roof over `paxos/` and `raft/`: nothing in `consensus`
//! imports it.

use super::config::{Config, Restored};
use super::paxos::Paxos;
use super::protocol::Protocol;
use super::raft::Raft;

/// How the nodes of a cluster agree: the same on all of them, permanently.
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

    /// The name in the configuration, the data directory and the hello of peers.
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

/// A name that is not a protocol's.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in configurations, data directories and hellos keep their meaning.
    #[test]
    fn protocols_have_their_names() {
        assert_eq!(ProtocolName::ALL.map(ProtocolName::name), ["paxos", "raft"]);
        for protocol in ProtocolName::ALL {
            assert_eq!(protocol.name().parse(), Ok(protocol));
        }
        assert!("Raft".parse::<ProtocolName>().is_err());
    }
}
