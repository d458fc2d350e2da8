//! Readers of the nodes' logs, while the cluster goes on: each must see a prefix of what was delivered.

use crate::consensus::types::NodeId;
use crate::pipeline::storage::read_chosen;

use super::counts::Count;
use super::invariant::{Shown, hold};
use super::world::{Step, World};

/// Takes the next step of the cluster.
pub(super) type NextStep = fn(&mut World);

/// How a log is read.
struct Read {
    /// How many steps of the cluster happen within the read.
    nested: u64,
    /// How far before the end it begins.
    back: u64,
    /// Whether a client reads: it sees what was applied, any other reader what is chosen.
    of_client: bool,
}

impl World {
    /// Now and then somebody reads a node's log.
    pub(super) fn read(&mut self, next_step: NextStep) {
        let pause_us = self.random.between(500, 50_000);
        let id = self.random.between(1, self.nodes.len() as u64 + 1);
        self.read_of(id, next_step);
        self.schedule(pause_us, Step::Read);
    }

    pub(super) fn read_of(&mut self, id: NodeId, next_step: NextStep) {
        let (nested, back) = (self.random.between(0, 30), self.random.between(0, 6));
        let of_client = self.random.between(0, 3) > 0;
        if !self.is_reading && self.node(id).is_up() {
            self.is_reading = true;
            self.read_log(id, &Read { nested, back, of_client }, next_step);
            self.is_reading = false;
        }
    }

    fn read_log(&mut self, id: NodeId, read: &Read, next_step: NextStep) {
        let running = self.running(id);
        let (recent, reader) = (running.recent.clone(), running.reader.clone());
        let (requests, applied) = (running.requests.clone(), running.applier.applied());
        let found = recent.read_chosen(|chosen| {
            (0..read.nested).for_each(|_| next_step(self));
            let last = if read.of_client { applied.min(chosen) } else { chosen };
            let first = last.saturating_sub(read.back).max(1);
            read_chosen(first, last, 2000, &recent, &reader)
        });
        let Some(found) = found else { return self.counts.add(Count::Overtaken) };
        let entries = self.check_read(id, found);
        if !read.of_client {
            return;
        }
        for entry in entries {
            let shown = (!requests.lock().ledger.is_noop(&entry)).then_some(&entry.command);
            let delivered = self.checker.log().get(entry.index as usize - 1);
            hold!(
                Linearizable,
                delivered.map(Option::as_ref) == Some(shown),
                "node {id} shows {entry} as {}, but {} was delivered",
                Shown(shown),
                Shown(delivered.and_then(Option::as_ref))
            );
            self.counts.add(Count::Reads);
        }
    }
}
