//! What a fault does to the world as it begins, a function for each class.
//!
//! Faults that may cost a node for good (torn writes, flipped bits, wiped disks) happen to a minority only:
//! no system survives more. Left out: when a fault comes, and how it ends (`chaos.rs`).

use std::ops::ControlFlow;

use crate::consensus::types::NodeId;
use crate::store::engine::{EngineError, Journal as _};
use crate::store::memory::{Kept, Key, MemoryEngine};

use crate::pipeline::marks::{Marks, Point};

use super::counts::Count;
use super::partition::Partition;
use super::plan::{Class, FaultId};
use super::trace::What;
use super::world::{Act, Dice, Node, Step, World};

/// How much longer a slow disk takes.
const SLOW_FACTOR: u64 = 20;

/// A fault, and the node that it strikes.
struct Strike<'a> {
    fault: FaultId,
    /// Names it in the trace.
    number: u64,
    node: NodeId,
    dice: &'a Dice,
}

impl World {
    /// A fault begins, if it can strike its node now.
    pub(super) fn begin_fault(&mut self, fault: FaultId, dice: &Dice) {
        let leader = self.leader().filter(|_| dice.at_leader);
        let id = leader.unwrap_or(dice.node);
        let strike = Strike { fault, number: self.chaos.last_fault, node: id, dice };
        let is_up = self.node(id).is_up();
        match fault.class {
            Class::Partition => self.split_network(&strike),
            Class::Crash => self.end_and_restart(id, "killed"),
            Class::CrashAll => self.crash_all(),
            Class::Pause if is_up => self.pause_process(&strike),
            Class::Drift => self.change_clock(&strike),
            Class::SlowDisk if is_up => self.slow_disk(&strike),
            Class::HungDisk if is_up => self.hang_disk(&strike),
            Class::WriteFails if is_up => self.fail_write(&strike),
            Class::FlushFails if is_up => self.fail_flush(&strike),
            Class::DiskFull => self.fill_disk(&strike),
            Class::TornWrite if is_up && self.may_harm(id) => self.chaos.torn = Some(id),
            Class::BitFlip if self.may_harm(id) => self.flip_bit(&strike),
            Class::Wipe if self.may_harm(id) && self.is_known(id) => self.wipe_disk(&strike),
            Class::MemoryFlip if is_up && self.may_harm(id) => self.flip_memory(&strike),
            _ => {}
        }
    }

    /// Counts a fault that begins, and records it in the trace.
    fn begins(&mut self, strike: &Strike, count: Count, text: impl FnOnce() -> String) {
        self.counts.add(count);
        let text = self.recorder.text(|| format!("{}: {}", strike.fault, text()));
        self.record(0, What::Fault { fault: strike.number, text });
    }

    /// The same for a fault that is over as soon as it has begun.
    fn happens(&mut self, strike: &Strike, count: Count, text: impl FnOnce() -> String) {
        self.begins(strike, count, text);
        self.fault_ends(strike.number, String::new);
    }

    /// Schedules the end of a fault, after its share of the longest time that it may last.
    fn ends_within(&mut self, strike: &Strike, most_ms: u64, act: Act) {
        self.schedule(most_ms * strike.dice.long_permille, Step::Chaos(act));
    }

    // ---- network, processes, clocks ----

    fn split_network(&mut self, strike: &Strike) {
        let ids: Vec<NodeId> = self.ids().collect();
        let Partition { cut, count, text } =
            Partition::draw(&ids, strike.node, self.leader(), strike.dice.variant);
        self.network.cut = cut;
        if self.chaos.split > 0 {
            self.fault_ends(self.chaos.split, || "another split follows".into());
        }
        self.chaos.split = strike.number;
        self.begins(strike, count, || text);
        self.ends_within(strike, self.faults.partition_ms, Act::Heal(strike.number));
    }

    fn crash_all(&mut self) {
        self.counts.add(Count::AllCrashed);
        self.ids().for_each(|id| self.end_and_restart(id, "killed with all others"));
    }

    fn pause_process(&mut self, strike: &Strike) {
        let id = strike.node;
        self.begins(strike, Count::Pauses, || format!("node {id} is stopped"));
        self.running(id).paused = true;
        self.record(id, What::Paused);
        let resume = Act::Resume(id, self.node(id).process, strike.number);
        self.ends_within(strike, self.faults.pause_ms, resume);
    }

    fn change_clock(&mut self, strike: &Strike) {
        let (id, drift_percent) = (strike.node, self.faults.drift_percent);
        let (low, high) = (100_000 / (100 + drift_percent), 1000 + 10 * drift_percent);
        let rate = low + strike.dice.variant % (high - low + 1);
        self.happens(strike, Count::Drifts, || format!("the clock of node {id} runs at {rate} thousandths"));
        self.chaos.set_rate_permille(id, rate);
        let now_us = self.now_us;
        self.node_mut(id).clock.set_rate(now_us, rate);
    }

    // ---- disks that fail for a while ----

    fn slow_disk(&mut self, strike: &Strike) {
        let id = strike.node;
        self.begins(strike, Count::SlowDisks, || format!("the disk of node {id} is slow"));
        self.running(id).disk_factor = SLOW_FACTOR;
        let recover = Act::Recover(id, self.node(id).process, strike.number);
        self.ends_within(strike, self.faults.slow_disk_ms, recover);
    }

    fn hang_disk(&mut self, strike: &Strike) {
        let id = strike.node;
        self.begins(strike, Count::HungDisks, || format!("the disk of node {id} hangs"));
        let most_ms = self.faults.slow_disk_ms;
        self.running(id).disk_busy_until_us = self.now_us + most_ms * strike.dice.long_permille;
        let recover = Act::Recover(id, self.node(id).process, strike.number);
        self.ends_within(strike, most_ms, recover);
    }

    fn fail_write(&mut self, strike: &Strike) {
        let id = strike.node;
        self.happens(strike, Count::WriteFailures, || format!("the next write of node {id} fails"));
        self.node(id).disk.fail_next(EngineError::Failed("an I/O error".into()));
    }

    fn fail_flush(&mut self, strike: &Strike) {
        let id = strike.node;
        self.happens(strike, Count::FlushFailures, || format!("the next flush of node {id} fails"));
        let error = match strike.dice.variant % 3 {
            0 => EngineError::NoRoom("no room when it was flushed".into()),
            _ => EngineError::Failed("an I/O error".into()),
        };
        let disk = &self.node(id).disk;
        disk.keep_at_reopen(if strike.dice.variant & 8 == 0 { Kept::Whole } else { Kept::Lost });
        disk.fail_sync(error);
    }

    fn fill_disk(&mut self, strike: &Strike) {
        let id = strike.node;
        self.begins(strike, Count::DiskFull, || format!("the disk of node {id} is full"));
        self.node(id).disk.set_full(true);
        if strike.dice.variant & 1 == 0 {
            self.node(id).disk.fail_reopen(EngineError::NoRoom("no room to reopen".into()));
        }
        self.ends_within(strike, self.faults.disk_full_ms, Act::Free(id, strike.number));
    }

    // ---- disks that are harmed for good ----

    fn flip_bit(&mut self, strike: &Strike) {
        let id = strike.node;
        if flip(&self.node(id).disk, strike.dice.variant) {
            self.happens(strike, Count::BitFlips, || format!("a bit of node {id}'s disk flips"));
            self.node_mut(id).is_harmed = true;
        }
    }

    fn wipe_disk(&mut self, strike: &Strike) {
        let id = strike.node;
        self.happens(strike, Count::Wipes, || format!("node {id} loses its disk"));
        self.end_and_restart(id, "killed, and its disk gone");
        self.node_mut(id).wipe();
        self.checker.wiped(id);
    }

    /// The process remembers another log than the one it delivered, which is the same to the other nodes.
    fn flip_memory(&mut self, strike: &Strike) {
        let id = strike.node;
        self.happens(strike, Count::MemoryFlips, || format!("a bit flips in the memory of node {id}"));
        let running = self.running(id);
        let mut marks = running.marks.lock();
        let Point { index, hash } = marks.newest();
        *marks = Marks::new(Point { index, hash: hash ^ (1 << (strike.dice.variant % 128)) });
        drop(marks);
        running.is_flipped = true;
        let node = self.node_mut(id);
        (node.is_harmed, node.was_flipped) = (true, true);
    }

    /// Whether a majority is left without this node and all that were harmed.
    fn may_harm(&self, id: NodeId) -> bool {
        let is_marked = |node: &Node| node.is_harmed || self.chaos.torn == Some(node.id);
        let harmed = self.nodes.iter().filter(|node| is_marked(node)).count();
        !is_marked(self.node(id)) && 2 * (harmed + 1) < self.nodes.len()
    }

    /// Whether every other node has bound this one to its disk: a node that has not would take a different
    /// disk for this node's.
    fn is_known(&self, id: NodeId) -> bool {
        let directory = self.node(id).directory;
        let mut others = self.nodes.iter().filter(|node| node.id != id);
        others.all(|node| node.account.bound.get(&id) == Some(&directory))
    }
}

/// Changes a bit of a record. Returns whether there was one.
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
