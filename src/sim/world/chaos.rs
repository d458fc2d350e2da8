//! When each fault comes, and what is drawn for it. Each class has a generator and a schedule of its own, and
//! draws the same numbers for its n-th fault whether that happens or not: so a case stays the same when some
//! of its faults are taken away ([`Plan::without`]).

use std::collections::BTreeSet;

use crate::consensus::random::Random;
use crate::consensus::types::NodeId;
use crate::store::memory::Kept;

use super::super::counts::{Count, Counts};
use super::super::plan::{Class, FaultId, Plan};

/// The generators, and which faults there were.
pub struct Chaos {
    classes: Vec<(Class, Random, u64)>,
    /// For what is drawn when a process ends.
    random: Random,
    without: BTreeSet<FaultId>,
    /// Those that began, and those of `without` that would have.
    pub happened: Vec<FaultId>,
    pub withheld: BTreeSet<FaultId>,
    /// How fast each node's clock goes.
    rates_permille: Vec<u64>,
    /// The node whose disk will tear the next write that is under way at a crash.
    pub torn: Option<NodeId>,
    /// The number of the split that is under way.
    pub split: u64,
    /// Names the last fault in the trace.
    pub last_fault: u64,
    pub is_over: bool,
}

/// What is drawn for a fault, the same whether it happens or not.
pub struct Dice {
    /// Whether the leader is struck, if there is one, rather than `node`.
    pub at_leader: bool,
    pub node: NodeId,
    /// How long it lasts, in thousandths of the longest time that it may last.
    pub long_permille: u64,
    pub variant: u64,
}

impl Chaos {
    pub fn new(plan: &Plan) -> Chaos {
        let class = |class: Class| {
            let salt = (class as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (class, Random::new(plan.seed ^ salt), 0)
        };
        Chaos {
            classes: Class::ALL.into_iter().map(class).collect(),
            random: Random::new(plan.seed ^ 0xC4A05),
            without: plan.without.clone(),
            happened: Vec::new(),
            withheld: BTreeSet::new(),
            rates_permille: vec![1000; plan.nodes as usize],
            torn: None,
            split: 0,
            last_fault: 0,
            is_over: false,
        }
    }

    /// The time until the next fault of a class, of which one comes this often on average.
    pub fn delay_us(&mut self, class: Class, every_us: u64) -> u64 {
        self.classes[class as usize].1.between(every_us / 2, every_us * 3 / 2 + 1)
    }

    /// Draws the next fault of a class; whether it happens is up to [`Chaos::admit`].
    pub fn draw(&mut self, class: Class, nodes: u64) -> (FaultId, Dice) {
        self.last_fault += 1;
        let (_, random, number) = &mut self.classes[class as usize];
        *number += 1;
        let dice = Dice {
            at_leader: random.between(0, 2) == 0,
            node: random.between(1, nodes + 1),
            long_permille: random.between(100, 1001),
            variant: random.draw(),
        };
        (FaultId { class, number: *number }, dice)
    }

    /// Returns whether a fault happens, or was taken away from the plan, and notes it.
    pub fn admit(&mut self, fault: FaultId) -> bool {
        let happens = !self.without.contains(&fault);
        if happens {
            self.happened.push(fault);
        } else {
            self.withheld.insert(fault);
        }
        happens
    }

    pub fn rate_permille(&self, id: NodeId) -> u64 {
        self.rates_permille[id as usize - 1]
    }

    pub fn set_rate_permille(&mut self, id: NodeId, rate_permille: u64) {
        self.rates_permille[id as usize - 1] = rate_permille;
    }

    /// How long a node that ended stays down.
    pub fn down_us(&mut self, most_ms: u64) -> u64 {
        self.random.between(1000, most_ms * 1000 + 1001)
    }

    pub fn cuts_power(&mut self, percent: u64) -> bool {
        self.random.between(0, 100) < percent
    }

    /// Whether the write that is under way at this node's crash is torn.
    pub fn tears(&mut self, id: NodeId) -> bool {
        let tears = self.torn == Some(id);
        self.torn = self.torn.filter(|torn| *torn != id);
        tears
    }

    /// What a crash leaves of a write that was not synced.
    pub fn kept(&mut self, cut: bool, torn: bool, counts: &mut Counts) -> Kept {
        let (whole, bits) = (!cut || self.random.between(0, 2) == 0, self.random.draw());
        match (torn, whole) {
            (true, _) => {
                counts.add(Count::TornRecords);
                Kept::Torn(bits)
            }
            (false, true) => {
                counts.add(Count::KeptUnsynced);
                Kept::Whole
            }
            (false, false) => {
                counts.add(Count::LostUnsynced);
                Kept::Lost
            }
        }
    }
}
