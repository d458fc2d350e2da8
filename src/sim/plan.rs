//! What a run is made from: the same plan gives the same run, event for event, on every machine.

use std::collections::BTreeSet;
use std::fmt;

use crate::consensus::protocols::ProtocolName;
use crate::consensus::random::Random;

use super::faults::Faults;

/// All that a run depends on, besides the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Draws the shape of the cluster, what clients do, and when which fault happens.
    pub seed: u64,
    /// How the nodes agree.
    pub protocol: ProtocolName,
    /// How many nodes; 1 to 9.
    pub nodes: u64,
    /// After how many steps faults end and the cluster must recover.
    pub events: u64,
    /// How many clients, 1 to 20; `None`: drawn from the seed.
    pub clients: Option<u64>,
    /// What goes wrong; `None`: a mix drawn from the seed.
    pub faults: Option<Faults>,
    /// Faults that do not happen after all; the others happen as they would have.
    pub without: BTreeSet<FaultId>,
}

impl Plan {
    /// How many nodes the cluster of a seed has if nobody says: 2 to 7.
    pub fn drawn_nodes(seed: u64) -> u64 {
        Random::new(seed ^ 0x0DE5).between(2, 8)
    }

    /// The usual one: Paxos, three nodes, mixed faults.
    pub fn new(seed: u64) -> Plan {
        let (protocol, without) = (ProtocolName::Paxos, BTreeSet::new());
        Plan { seed, protocol, nodes: 3, events: 20_000, clients: None, faults: None, without }
    }
}

/// As the options of `spaxos sim` that repeat it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, protocol, nodes, events, clients, faults, without } = self;
        if *protocol != ProtocolName::default() {
            write!(f, "--protocol {protocol} ")?;
        }
        write!(f, "--seed {seed} --nodes {nodes} --events {events}")?;
        clients.map_or(Ok(()), |clients| write!(f, " --clients {clients}"))?;
        faults.as_ref().map_or(Ok(()), |faults| write!(f, " --faults {faults}"))?;
        if without.is_empty() { Ok(()) } else { write!(f, " --without {}", ranges(without)) }
    }
}

/// `crash.2,crash.4-9`
fn ranges(ids: &BTreeSet<FaultId>) -> String {
    let mut ranges: Vec<(FaultId, u64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((first, last)) if first.class == id.class && *last + 1 == id.number => *last = id.number,
            _ => ranges.push((*id, id.number)),
        }
    }
    let text = |(first, last): &(FaultId, u64)| {
        if first.number == *last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// A class of faults that happen now and then, each with a schedule of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The network splits.
    Partition,
    /// A process ends.
    Crash,
    /// All processes end.
    CrashAll,
    /// A process is stopped for a while.
    Pause,
    /// A clock changes its rate.
    Drift,
    /// A disk is slow.
    SlowDisk,
    /// A disk does nothing.
    HungDisk,
    /// A write fails.
    WriteFails,
    /// A flush fails.
    FlushFails,
    /// A disk is full.
    DiskFull,
    /// A crash leaves a part of a write.
    TornWrite,
    /// A stored bit changes.
    BitFlip,
    /// A disk is empty.
    Wipe,
    /// A bit of a process's memory changes.
    MemoryFlip,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 14] = [
        Class::Partition,
        Class::Crash,
        Class::CrashAll,
        Class::Pause,
        Class::Drift,
        Class::SlowDisk,
        Class::HungDisk,
        Class::WriteFails,
        Class::FlushFails,
        Class::DiskFull,
        Class::TornWrite,
        Class::BitFlip,
        Class::Wipe,
        Class::MemoryFlip,
    ];

    /// As it is written in a [`FaultId`].
    pub fn name(self) -> &'static str {
        match self {
            Class::Partition => "partition",
            Class::Crash => "crash",
            Class::CrashAll => "crash_all",
            Class::Pause => "pause",
            Class::Drift => "drift",
            Class::SlowDisk => "slow_disk",
            Class::HungDisk => "hung_disk",
            Class::WriteFails => "write_fails",
            Class::FlushFails => "flush_fails",
            Class::DiskFull => "disk_full",
            Class::TornWrite => "torn_write",
            Class::BitFlip => "bit_flip",
            Class::Wipe => "wipe",
            Class::MemoryFlip => "memory_flip",
        }
    }
}

/// Names a fault in a run: the third crash is `crash.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId {
    /// Its class.
    pub class: Class,
    /// From 1.
    pub number: u64,
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class.name(), self.number)
    }
}
