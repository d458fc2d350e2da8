//! How often each thing happened in runs: the table at the end shows it, and it tells whether runs reach
//! everything.

use std::fmt;

use serde::Serialize;

use crate::consensus::protocols::ProtocolName;

macro_rules! counts {
    ($($name:ident: $prose:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Count {
            $(#[doc = $prose] $name,)*
        }

        impl Count {
            /// All of them, in the order of a table.
            pub const ALL: [Count; [$(Count::$name),*].len()] = [$(Count::$name),*];

            /// In a few words.
            pub fn prose(self) -> &'static str {
                match self {
                    $(Count::$name => $prose,)*
                }
            }
        }
    };
}

counts! {
    Chosen: "indexes chosen",
    Proposals: "proposals by clients",
    Answers: "answers to clients",
    OtherValues: "reqids used again with a different value",
    Repeats: "requests chosen twice, delivered once",
    DeliveredAgain: "requests delivered again, after they left the window",
    Busy: "proposals refused as BUSY",
    TimedOut: "requests out of time, sent again",
    Reads: "entries read by clients",
    Overtaken: "reads that a rebuild overtook",
    Elections: "elections",
    Adoptions: "entries adopted by a new leader",
    Holes: "holes filled with no-ops",
    Truncations: "ends of logs replaced by a leader's",
    StepDowns: "leaders that stepped down",
    HandedOver: "leaders that handed over",
    KeptLeading: "successors that did not take over",
    Pages: "pages of entries for nodes that lagged",
    Messages: "messages between nodes",
    Lost: "messages lost",
    Duplicated: "messages duplicated",
    Late: "messages far out of order",
    CutOff: "messages lost in a split network",
    NoRoom: "messages dropped by a full queue",
    Hellos: "connections opened",
    Pings: "pings",
    Resent: "messages sent again by TCP",
    Cut: "messages lost with a connection",
    GivenUp: "connections given up",
    Resets: "connections reset",
    Strangers: "calls and answers of strangers",
    Halves: "splits in halves",
    OneWays: "one-way links",
    Bridges: "bridges",
    Chains: "chains",
    Isolated: "isolated leaders",
    Crashes: "crashes",
    PowerCuts: "power cuts",
    AllCrashed: "crashes of all nodes together",
    KeptUnsynced: "unsynced writes found after a crash",
    LostUnsynced: "unsynced writes lost in a crash",
    Pauses: "pauses of a process",
    Stalls: "stalls of a single thread",
    Drifts: "changes of a clock's rate",
    SlowDisks: "slow disks",
    HungDisks: "hung disks",
    Troubles: "nodes that found themselves in trouble",
    WriteFailures: "writes that failed",
    FlushFailures: "flushes that failed",
    DiskFull: "full disks",
    Rebuilds: "rebuilds from what is durable",
    Stuck: "threads that waited for room",
    TornRecords: "torn writes on a disk",
    BitFlips: "flipped bits",
    Wipes: "wiped disks",
    MemoryFlips: "flipped bits in memory",
    Outvoted: "nodes that a majority told that their log differs",
    Refused: "nodes that refused their disk, or were refused",
}

/// A number for each [`Count`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; Count::ALL.len()]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; Count::ALL.len()])
    }
}

impl Counts {
    /// Adds one.
    pub fn add(&mut self, count: Count) {
        self.add_many(count, 1);
    }

    /// Adds this many.
    pub fn add_many(&mut self, count: Count, times: u64) {
        self.0[count as usize] += times;
    }

    /// How many.
    pub fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// Each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::ALL.into_iter().map(|count| (count, self.of(count)))
    }

    /// What can happen under a protocol, and never did.
    pub fn missing(&self, protocol: ProtocolName) -> Vec<Count> {
        let never = match protocol {
            ProtocolName::Paxos => Count::Truncations,
            ProtocolName::Raft => Count::Holes,
        };
        let missing = self.iter().filter(|(count, times)| *times == 0 && *count != never);
        missing.map(|(count, _)| count).collect()
    }
}

impl fmt::Display for Counts {
    /// Two columns, one line for each count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, times) in self.iter() {
            writeln!(f, "{times:>12}  {}", count.prose())?;
        }
        Ok(())
    }
}
