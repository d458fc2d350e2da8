//! A core of either protocol as one type, which can be cloned and compared; `dyn Protocol` cannot.

use spaxos::consensus::batch::Batch;
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::paxos::Paxos;
use spaxos::consensus::protocol::{Input, Protocol, Status};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::raft::Raft;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AnyCore {
    Paxos(Box<Paxos>),
    Raft(Box<Raft>),
}

impl AnyCore {
    pub fn new(protocol: ProtocolName, config: Config, restored: Restored) -> AnyCore {
        match protocol {
            ProtocolName::Paxos => AnyCore::Paxos(Box::new(Paxos::new(config, restored))),
            ProtocolName::Raft => AnyCore::Raft(Box::new(Raft::new(config, restored))),
        }
    }

    pub fn protocol(&self) -> ProtocolName {
        match self {
            AnyCore::Paxos(_) => ProtocolName::Paxos,
            AnyCore::Raft(_) => ProtocolName::Raft,
        }
    }
}

impl Protocol for AnyCore {
    fn step(&mut self, input: Input, out: &mut Batch) {
        match self {
            AnyCore::Paxos(core) => core.step(input, out),
            AnyCore::Raft(core) => core.step(input, out),
        }
    }

    fn status(&self) -> Status {
        match self {
            AnyCore::Paxos(core) => core.status(),
            AnyCore::Raft(core) => core.status(),
        }
    }

    fn room(&self) -> usize {
        match self {
            AnyCore::Paxos(core) => core.room(),
            AnyCore::Raft(core) => core.room(),
        }
    }
}
