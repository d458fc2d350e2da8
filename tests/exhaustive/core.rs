//! The production core of a searched node: one of the protocols, chosen when the search begins.

use spaxos::consensus::batch::Batch;
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::paxos::Paxos;
use spaxos::consensus::protocol::{Input, Protocol, Status};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::raft::Raft;

use crate::bounds::Bounds;

/// A core that can be compared, which `dyn Protocol` cannot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Core {
    Paxos(Box<Paxos>),
    Raft(Box<Raft>),
}

impl Core {
    pub fn new(protocol: ProtocolName, config: Config, restored: Restored) -> Core {
        match protocol {
            ProtocolName::Paxos => Core::Paxos(Box::new(Paxos::new(config, restored))),
            ProtocolName::Raft => Core::Raft(Box::new(Raft::new(config, restored))),
        }
    }

    pub fn protocol(&self) -> ProtocolName {
        match self {
            Core::Paxos(_) => ProtocolName::Paxos,
            Core::Raft(_) => ProtocolName::Raft,
        }
    }

    pub fn step(&mut self, input: Input, out: &mut Batch) {
        match self {
            Core::Paxos(core) => core.step(input, out),
            Core::Raft(core) => core.step(input, out),
        }
    }

    pub fn status(&self) -> Status {
        match self {
            Core::Paxos(core) => core.status(),
            Core::Raft(core) => core.status(),
        }
    }

    /// Makes equal what behaves alike. Gives the time on its clock, if that begins anew.
    pub fn normalize(&mut self, bounds: &Bounds) -> Option<u64> {
        match self {
            Core::Paxos(core) => {
                core.normalize();
                None
            }
            Core::Raft(core) => {
                core.normalize();
                if !bounds.tail {
                    core.forget_chosen();
                }
                Some(0)
            }
        }
    }
}
