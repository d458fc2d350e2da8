//! The end of faults: from then on what is left of the cluster must recover.

use crate::consensus::types::{Index, NodeId};

use super::cluster::Cluster;
use super::faults::Faults;
use super::invariant::hold;
use super::world::{Node, Step, World};

/// How long a fork may go unnoticed: each node tells once a second, and answers a second later.
const FORK_US: u64 = 5_000_000;

impl Cluster {
    /// Faults end: the network heals, disks work, all that can run runs.
    pub fn heal(&mut self) {
        let world = &mut self.world;
        world.stop_chaos();
        world.faults = Faults::none();
        for id in world.ids() {
            world.node(id).disk.heal();
            let now_us = world.now_us;
            let node = world.node_mut(id);
            node.clock.set_rate(now_us, 1000);
            if let Some(running) = &mut node.running {
                running.disk_factor = 1;
                running.disk_busy_until_us = 0;
            }
            world.resume(id);
            world.schedule(0, Step::Start(id));
        }
    }

    /// After [`Cluster::heal`]: every node that is left serves within 10 T, and all end with the same log.
    pub fn find_together(&mut self) {
        let began_us = self.now_us();
        let within_us = 10 * self.election_ms() * 1000;
        let probes = self.world.propose_everywhere();
        while self.world.waiting(&probes) {
            let world = &self.world;
            hold!(
                Liveness,
                world.now_us < began_us + within_us,
                "nodes {:?} do not serve {} ms after the faults ended, T is {} ms\n{}",
                world.nodes_of_waiting(&probes),
                (world.now_us - began_us) / 1000,
                world.election_ms,
                standing(world)
            );
            self.step();
        }
        self.world.stop_clients();
        let last = self.world.last();
        while !all_have(&self.world, last) {
            let world = &self.world;
            hold!(
                Liveness,
                world.now_us < began_us + 2 * within_us,
                "not all have delivered {last} {} ms after the faults ended, T is {} ms\n{}",
                (world.now_us - began_us) / 1000,
                world.election_ms,
                standing(world)
            );
            self.step();
        }
        let last_us = self.now_us() + FORK_US;
        while let Some(id) = self.world.flipped() {
            let world = &self.world;
            hold!(
                Fork,
                world.now_us < last_us,
                "node {id} is not told that its log differs\n{}",
                standing(world)
            );
            self.step();
        }
        self.ids().for_each(|id| self.world.compare(id));
        self.world.compare_ends(last);
    }
}

impl World {
    /// A node that runs with a flipped bit in its memory.
    fn flipped(&self) -> Option<NodeId> {
        let is_flipped = |node: &&Node| node.running.as_ref().is_some_and(|running| running.is_flipped);
        self.nodes.iter().find(is_flipped).map(|node| node.id)
    }
}

/// Whether every node that is left has applied everything up to this index.
fn all_have(world: &World, last: Index) -> bool {
    let has = |node: &Node| node.running.as_ref().is_some_and(|running| running.applier.applied() >= last);
    world.nodes.iter().all(|node| node.lost.is_some() || has(node))
}

/// The state of every node, one line each.
fn standing(world: &World) -> String {
    let line = |node: &Node| match (&node.running, node.lost) {
        (Some(running), _) => {
            let status = running.status();
            format!(
                "node {}: {} of {}, chosen {}, applied {}, last {}, pending {}{}\n",
                node.id,
                status.role,
                status.promised,
                status.chosen,
                running.applier.applied(),
                status.last,
                status.pending,
                if running.is_suspended { ", waits for room on its disk" } else { "" }
            )
        }
        (None, Some(why)) => format!("node {}: lost, {why}\n", node.id),
        (None, None) => format!("node {}: down\n", node.id),
    };
    world.nodes.iter().map(line).collect()
}
