//! When each fault comes, and how it ends. What it does to the world is in `strikes.rs`.

use super::faults::Faults;
use super::plan::Class;
use super::trace::What;
use super::world::{Act, Step, World};

/// How often a clock changes its rate, if clocks drift at all.
const DRIFT_EVERY_MS: u64 = 300;

impl World {
    pub(super) fn begin_chaos(&mut self) {
        Class::ALL.into_iter().for_each(|class| self.next_fault(class));
    }

    /// From now on no fault begins, and the network is whole.
    pub(super) fn stop_chaos(&mut self) {
        self.chaos.is_over = true;
        self.chaos.torn = None;
        self.network.cut.clear();
        self.fault_ends(0, || "all faults end".into());
    }

    fn next_fault(&mut self, class: Class) {
        let every_us = every_ms(&self.faults, class) * 1000;
        if every_us > 0 {
            let delay_us = self.chaos.delay_us(class, every_us);
            self.schedule(delay_us, Step::Chaos(Act::Begin(class)));
        }
    }

    /// A fault begins or ends.
    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Begin(_) if self.chaos.is_over => {}
            Act::Begin(class) => {
                let (fault, dice) = self.chaos.draw(class, self.nodes.len() as u64);
                if self.chaos.admit(fault) {
                    self.begin_fault(fault, &dice);
                }
                self.next_fault(class);
            }
            Act::Heal(split) => {
                if self.chaos.split == split {
                    self.chaos.split = 0;
                    self.network.cut.clear();
                    self.fault_ends(split, || "the network is whole again".into());
                }
            }
            Act::Resume(id, process, fault) => {
                if self.node(id).process == process {
                    self.resume(id);
                }
                self.fault_ends(fault, || format!("node {id} goes on"));
            }
            Act::Recover(id, process, fault) => {
                let node = self.node_mut(id);
                if let Some(running) = node.running.as_mut().filter(|_| node.process == process) {
                    running.disk_factor = 1;
                }
                self.fault_ends(fault, || format!("the disk of node {id} is as it was"));
            }
            Act::Free(id, fault) => {
                self.node(id).disk.set_full(false);
                self.fault_ends(fault, || format!("the disk of node {id} has room again"));
            }
        }
    }

    /// Records the end of a fault in the trace; 0 ends all of them.
    pub(super) fn fault_ends(&mut self, fault: u64, text: impl FnOnce() -> String) {
        let text = self.recorder.text(text);
        self.record(0, What::Healed { fault, text });
    }
}

/// The mean time from one fault of a class to the next; 0 means never.
fn every_ms(faults: &Faults, class: Class) -> u64 {
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
        Class::MemoryFlip => faults.memory_flip_every_ms,
    }
}
