//! What a run is made from: the same plan gives the same run, event for event, on every machine.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::faults::Faults;

/// All that a run depends on, beside the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Draws the shape of the cluster, what clients do, and when which fault happens.
    pub seed: u64,
    /// How many nodes; 1 to 9.
    pub nodes: u64,
    /// After how many steps faults end, and the cluster must find together.
    pub events: u64,
    /// What goes wrong; `None`: a mix drawn from the seed.
    pub faults: Option<Faults>,
    /// Faults that do not happen after all; the others happen as they would have.
    pub without: BTreeSet<FaultId>,
}

impl Plan {
    /// The usual one: three nodes, mixed faults.
    pub fn new(seed: u64) -> Plan {
        Plan { seed, nodes: 3, events: 20_000, faults: None, without: BTreeSet::new() }
    }
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
    /// A clock goes at another rate.
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
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 13] = [
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

impl FromStr for FaultId {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultId, String> {
        let parsed = text.split_once('.').and_then(|(class, number)| {
            let class = Class::ALL.into_iter().find(|it| it.name() == class)?;
            Some(FaultId { class, number: number.parse().ok().filter(|number| *number > 0)? })
        });
        parsed.ok_or_else(|| format!("{text:?} names no fault, such as crash.3"))
    }
}
