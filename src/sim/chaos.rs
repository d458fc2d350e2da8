//! When which fault happens to whom. Each class has a generator and a schedule of its own, and draws the same
//! numbers for its n-th fault whether that happens or not: so a case stays the same case when some of its
//! faults are taken away ([`Plan::without`]).
//!
//! Faults that cost a node for good (torn writes, flipped bits, wiped disks) happen to a minority only: no
//! system survives more.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::consensus::protocol::Role;
use crate::consensus::random::Random;
use crate::consensus::types::NodeId;
use crate::store::engine::{EngineError, Journal as _};
use crate::store::memory::{Kept, Key, MemoryEngine};

use super::cluster::{Cluster, Step};
use super::counts::{Count, Counts};
use super::faults::Faults;
use super::node::{Node, Thread};
use super::plan::{Class, FaultId, Plan};
use super::trace::What;

/// A clock changes its rate so often, if clocks drift at all.
const DRIFT_EVERY_MS: u64 = 300;

pub(super) struct Chaos {
    classes: Vec<(Class, Random, u64)>,
    /// For what is drawn when a process ends.
    random: Random,
    without: BTreeSet<FaultId>,
    /// Those that began, and those of `without` that would have.
    pub happened: Vec<FaultId>,
    pub withheld: BTreeSet<FaultId>,
    /// How fast each node's clock goes.
    rates_permille: Vec<u64>,
    /// Whose disk will tear the next write that is under way at a crash.
    torn: Option<NodeId>,
    /// Of the split that is under way.
    split: u64,
    last_fault: u64,
    is_over: bool,
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Begin(Class),
    /// The split with this number heals.
    Heal(u64),
    Resume(NodeId, u64, u64),
    /// A disk works again as it did.
    Recover(NodeId, u64, u64),
    /// There is room on a disk again.
    Free(NodeId, u64),
}

/// What a fault is drawn as, the same whether it happens or not.
struct Dice {
    /// Whether the leader is struck, if there is one, rather than `node`.
    at_leader: bool,
    node: NodeId,
    /// For how long it lasts, in thousandths of what it lasts at most.
    long_permille: u64,
    variant: u64,
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

    pub fn rate_permille(&self, id: NodeId) -> u64 {
        self.rates_permille[id as usize - 1]
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

pub(super) fn every_ms(faults: &Faults, class: Class) -> u64 {
    match class {
        Class::Partition => faults.partition_every_ms,
        Class::Crash => faults.crash_every_ms,
        Class::CrashAll => faults.crash_all_every_ms,
        Class::Pause => faults.pause_every_ms,
        Class::Drift => DRIFT_EVERY_MS * u64::from(faults.drift_percent > 0),
        Class::SlowDisk => faults.slow_disk_every_ms,
        Class::HungDisk => faults.hung_disk_every_ms,
        Class::WriteFails => faults.write_fails_every_ms,
        Class::FlushFails => faults.flush_fails_every_ms,
        Class::DiskFull => faults.disk_full_every_ms,
        Class::TornWrite => faults.torn_write_every_ms,
        Class::BitFlip => faults.bit_flip_every_ms,
        Class::Wipe => faults.wipe_every_ms,
    }
}

impl Cluster {
    pub(super) fn begin_chaos(&mut self) {
        Class::ALL.into_iter().for_each(|class| self.next_fault(class));
    }

    /// No fault begins any more, and the network is whole.
    pub(super) fn stop_chaos(&mut self) {
        self.chaos.is_over = true;
        self.chaos.torn = None;
        self.network.cut.clear();
        let text = self.recorder.text(|| "all faults end".into());
        self.record(0, What::Healed { fault: 0, text });
    }

    fn next_fault(&mut self, class: Class) {
        let every_us = every_ms(&self.faults, class) * 1000;
        if every_us > 0 {
            let random = &mut self.chaos.classes[class as usize].1;
            let delay_us = random.between(every_us / 2, every_us * 3 / 2 + 1);
            self.schedule(delay_us, Step::Chaos(Act::Begin(class)));
        }
    }

    /// A fault begins or ends.
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Begin(_) if self.chaos.is_over => {}
            Act::Begin(class) => {
                let nodes = self.nodes.len() as u64;
                self.chaos.last_fault += 1;
                let (_, random, number) = &mut self.chaos.classes[class as usize];
                *number += 1;
                let fault = FaultId { class, number: *number };
                let dice = Dice {
                    at_leader: random.between(0, 2) == 0,
                    node: random.between(1, nodes + 1),
                    long_permille: random.between(100, 1001),
                    variant: random.draw(),
                };
                match self.chaos.without.contains(&fault) {
                    true => drop(self.chaos.withheld.insert(fault)),
                    false => {
                        self.chaos.happened.push(fault);
                        self.begin_fault(fault, &dice);
                    }
                }
                self.next_fault(class);
            }
            Act::Heal(split) => {
                if self.chaos.split == split {
                    self.chaos.split = 0;
                    self.network.cut.clear();
                    self.ended(split, || "the network is whole again".into());
                }
            }
            Act::Resume(id, process, fault) => {
                if self.node(id).process == process {
                    self.resume(id);
                }
                self.ended(fault, || format!("node {id} goes on"));
            }
            Act::Recover(id, process, fault) => {
                let node = self.node_mut(id);
                if let Some(running) = node.running.as_mut().filter(|_| node.process == process) {
                    running.disk_factor = 1;
                }
                self.ended(fault, || format!("the disk of node {id} is as it was"));
            }
            Act::Free(id, fault) => {
                self.node(id).disk.set_full(false);
                self.ended(fault, || format!("the disk of node {id} has room again"));
            }
        }
    }

    fn begin_fault(&mut self, fault: FaultId, dice: &Dice) {
        let number = self.chaos.last_fault;
        let leader = self.leader().filter(|_| dice.at_leader);
        let id = leader.unwrap_or(dice.node);
        let lasts_us = |most_ms: u64| most_ms * dice.long_permille;
        let faults = self.faults.clone();
        let process = self.node(id).process;
        let is_up = self.node(id).is_up();
        let began = |cluster: &mut Cluster, count: Count, text: &dyn Fn() -> String| {
            cluster.counts.add(count);
            let text = cluster.recorder.text(|| format!("{fault}: {}", text()));
            cluster.record(0, What::Fault { fault: number, text });
            let lasts = [Class::Partition, Class::Pause, Class::SlowDisk, Class::HungDisk, Class::DiskFull];
            if !lasts.contains(&fault.class) {
                cluster.ended(number, String::new);
            }
        };
        match fault.class {
            Class::Partition => {
                let (count, text) = self.split(id, dice.variant);
                if self.chaos.split > 0 {
                    self.ended(self.chaos.split, || "another split follows".into());
                }
                self.chaos.split = number;
                began(self, count, &|| text.clone());
                self.schedule(lasts_us(faults.partition_ms), Step::Chaos(Act::Heal(number)));
            }
            Class::Crash => self.end_and_restart(id, "killed"),
            Class::CrashAll => {
                self.counts.add(Count::AllCrashed);
                self.ids().for_each(|id| self.end_and_restart(id, "killed with all others"));
            }
            Class::Pause if is_up => {
                began(self, Count::Pauses, &|| format!("node {id} is stopped"));
                self.running(id).paused = true;
                self.record(id, What::Paused);
                self.schedule(lasts_us(faults.pause_ms), Step::Chaos(Act::Resume(id, process, number)));
            }
            Class::Drift => {
                let (low, high) = (100_000 / (100 + faults.drift_percent), 1000 + 10 * faults.drift_percent);
                let rate = low + dice.variant % (high - low + 1);
                began(self, Count::Drifts, &|| format!("the clock of node {id} goes at {rate} thousandths"));
                self.chaos.rates_permille[id as usize - 1] = rate;
                let now_us = self.now_us;
                self.node_mut(id).clock.set_rate(now_us, rate);
            }
            Class::SlowDisk if is_up => {
                began(self, Count::SlowDisks, &|| format!("the disk of node {id} is slow"));
                self.running(id).disk_factor = 20;
                let recover = Act::Recover(id, process, number);
                self.schedule(lasts_us(faults.slow_disk_ms), Step::Chaos(recover));
            }
            Class::HungDisk if is_up => {
                began(self, Count::HungDisks, &|| format!("the disk of node {id} hangs"));
                let us = lasts_us(faults.slow_disk_ms);
                self.running(id).disk_busy_until_us = self.now_us + us;
                self.schedule(us, Step::Chaos(Act::Recover(id, process, number)));
            }
            Class::WriteFails if is_up => {
                began(self, Count::WriteFailures, &|| format!("the next write of node {id} fails"));
                self.node(id).disk.fail_next(EngineError::Failed("an I/O error".into()));
            }
            Class::FlushFails if is_up => {
                began(self, Count::FlushFailures, &|| format!("the next flush of node {id} fails"));
                let error = match dice.variant % 3 {
                    0 => EngineError::NoRoom("no room when it was flushed".into()),
                    _ => EngineError::Failed("an I/O error".into()),
                };
                let disk = &self.node(id).disk;
                disk.keep_at_reopen(if dice.variant & 8 == 0 { Kept::Whole } else { Kept::Lost });
                disk.fail_sync(error);
            }
            Class::DiskFull => {
                began(self, Count::DiskFull, &|| format!("the disk of node {id} is full"));
                self.node(id).disk.set_full(true);
                if dice.variant & 1 == 0 {
                    self.node(id).disk.fail_reopen(EngineError::NoRoom("no room to reopen".into()));
                }
                self.schedule(lasts_us(faults.disk_full_ms), Step::Chaos(Act::Free(id, number)));
            }
            Class::TornWrite if is_up && self.may_harm(id) => self.chaos.torn = Some(id),
            Class::BitFlip if self.may_harm(id) && flip(&self.node(id).disk, dice.variant) => {
                began(self, Count::BitFlips, &|| format!("a bit of node {id}'s disk flips"));
                self.node_mut(id).is_harmed = true;
            }
            Class::Wipe if self.may_harm(id) && self.is_known(id) => {
                began(self, Count::Wipes, &|| format!("node {id} loses its disk"));
                self.end_and_restart(id, "killed, and its disk gone");
                let node = self.node_mut(id);
                node.disk = Default::default();
                node.directory += 1 << 64;
                node.is_harmed = true;
                node.entries.clear();
                node.uncertain.clear();
                node.hard_state = Default::default();
                node.bound.clear();
                self.checker.wiped(id);
            }
            _ => {}
        }
    }

    fn ended(&mut self, fault: u64, text: impl FnOnce() -> String) {
        let text = self.recorder.text(text);
        self.record(0, What::Healed { fault, text });
    }

    /// Who leads, if anyone thinks so.
    pub fn leader(&self) -> Option<NodeId> {
        let leads =
            |node: &&Node| node.running.as_ref().is_some_and(|running| running.told.0 == Role::Leader);
        self.nodes
            .iter()
            .filter(leads)
            .max_by_key(|node| node.running.as_ref().map(|it| it.told.1))
            .map(|it| it.id)
    }

    /// Whether a majority is left without this node and all that were harmed.
    fn may_harm(&self, id: NodeId) -> bool {
        let is_marked = |node: &Node| node.is_harmed || self.chaos.torn == Some(node.id);
        let harmed = self.nodes.iter().filter(|node| is_marked(node)).count();
        !is_marked(self.node(id)) && 2 * (harmed + 1) < self.nodes.len()
    }

    /// Whether every other node has bound this one to its disk: whoever has not would take another one for
    /// it.
    fn is_known(&self, id: NodeId) -> bool {
        let directory = self.node(id).directory;
        let mut others = self.nodes.iter().filter(|node| node.id != id);
        others.all(|node| node.bound.get(&id) == Some(&directory))
    }

    /// A process that was stopped goes on, and finds what came meanwhile.
    pub(super) fn resume(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let process = node.process;
        let Some(running) = node.running.as_mut().filter(|running| running.paused) else { return };
        running.paused = false;
        let (taken, writing) = (running.taken, running.writing.is_some());
        let is_suspended = running.is_suspended;
        let socket = std::mem::take(&mut running.socket);
        self.record(id, What::Resumed);
        if taken {
            self.schedule(1, Step::Turn(id, process));
        }
        if writing {
            self.schedule(1, Step::WriteEnds(id, process));
        }
        if is_suspended {
            self.schedule(1, Step::Retry(id, process));
        }
        socket.into_iter().for_each(|flight| self.take_in(flight));
        for thread in [Thread::Machine, Thread::Storage, Thread::Network, Thread::Applier] {
            self.wake(id, thread);
        }
    }

    /// Cuts links, in one of the ways in which networks split.
    fn split(&mut self, id: NodeId, variant: u64) -> (Count, String) {
        let ids: Vec<NodeId> = self.ids().collect();
        let mut dice = Random::new(variant);
        self.network.cut.clear();
        let all = || ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
        let mut shuffled = ids.clone();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, dice.between(0, place as u64 + 1) as usize);
        }
        let place = |id: &NodeId| shuffled.iter().position(|other| other == id).unwrap_or(0);
        match dice.between(0, 5) {
            0 => {
                let bits = dice.draw();
                let side = |id: &NodeId| bits >> id & 1;
                self.network.cut.extend(all().filter(|(a, b)| side(a) != side(b)));
                let left: Vec<_> = ids.iter().filter(|id| side(id) == 0).collect();
                (Count::Halves, format!("{left:?} see nothing of the others"))
            }
            1 => {
                let (mut from, to) = (id, *ids.iter().find(|other| **other != id).unwrap_or(&id));
                let everyone = dice.between(0, 2) == 0;
                let inward = dice.between(0, 2) == 0;
                let hit = |a: &NodeId, b: &NodeId| match (everyone, inward) {
                    (true, true) => *b == id,
                    (true, false) => *a == id,
                    (false, true) => (*b, *a) == (id, to),
                    (false, false) => (*a, *b) == (id, to),
                };
                self.network.cut.extend(all().filter(|(a, b)| hit(a, b)));
                if inward {
                    from = to;
                }
                let whom = if everyone { "anyone".to_owned() } else { format!("node {}", from.max(to)) };
                (Count::OneWays, format!("one way between node {id} and {whom}, inward: {inward}"))
            }
            2 => {
                let bridge = shuffled[0];
                let half = |id: &NodeId| place(id) % 2;
                let cut = all().filter(|(a, b)| *a != bridge && *b != bridge && half(a) != half(b));
                self.network.cut.extend(cut);
                (Count::Bridges, format!("two halves, and node {bridge} sees both"))
            }
            3 => {
                self.network.cut.extend(all().filter(|(a, b)| place(a).abs_diff(place(b)) > 1));
                (Count::Chains, format!("a chain: {shuffled:?}"))
            }
            _ => {
                let isolated = self.leader().unwrap_or(id);
                self.network.cut.extend(all().filter(|(a, b)| *a == isolated || *b == isolated));
                (Count::Isolated, format!("node {isolated} sees nobody"))
            }
        }
    }
}

/// Changes a bit of a record; returns whether there was one.
fn flip(disk: &MemoryEngine, variant: u64) -> bool {
    let mut records = Vec::new();
    let _ = disk.scan(&mut |number, _| {
        records.push(number);
        ControlFlow::Continue(())
    });
    if records.is_empty() {
        return false;
    }
    let record = records[(variant % records.len() as u64) as usize];
    disk.damage(&Key::Record(record), |value| {
        let bit = ((variant >> 20) % (8 * value.len() as u64)) as usize;
        value[bit / 8] ^= 1 << (bit % 8);
    })
}
