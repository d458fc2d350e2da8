//! The world of a simulation: all state, and nothing that happens to it. Virtual time, one queue of steps
//! ordered by (time, sequence), the nodes, the network between them, their clients, and their observers.
//!
//! Each thread of `node/` works through what waits, then sleeps until its bell rings. Here, whatever puts
//! something into a queue schedules the next step of the thread behind it ([`World::wake`]), after a delay
//! drawn from the seed.
//!
//! Each file of `world/` holds a part of the state. The files next to this one say what happens to it;
//! `cluster.rs` calls them. Nothing here knows of them.

mod account;
mod chaos;
mod clients;
mod network;
mod node;
mod process;
mod schedule;
mod shape;
mod step;
mod stream;

use bytes::BytesMut;

use crate::consensus::config::Config;
use crate::consensus::protocol::Role;
use crate::consensus::quorum::Voters;
use crate::consensus::random::Random;
use crate::consensus::types::NodeId;
use crate::wire::proof::Keys;

use super::checker::Checker;
use super::counts::{Count, Counts};
use super::faults::Faults;
use super::plan::Plan;
use super::trace::{Recorder, What};
use chaos::Chaos;
use clients::Clients;
use network::Network;
use schedule::Schedule;
use shape::Shape;

pub use account::{Log, Written};
pub use chaos::Dice;
pub use clients::{Request, Waiter};
pub use node::Node;
pub use process::Running;
pub use step::{Act, Flight, Step, Thread};
pub use stream::Stream;

/// Everything that a run changes.
pub struct World {
    pub now_us: u64,
    schedule: Schedule,
    /// How many steps were taken.
    pub steps: u64,
    /// Names the last write in the trace.
    pub last_write: u64,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub clients: Clients,
    pub chaos: Chaos,
    pub faults: Faults,
    pub checker: Checker,
    pub counts: Counts,
    pub recorder: Recorder,
    /// Draws how long steps take, and whatever else is drawn for the threads.
    pub random: Random,
    /// T.
    pub election_ms: u64,
    pub tick_us: u64,
    /// Set within a read: steps go on during it, but they do not read.
    pub is_reading: bool,
    /// Reused for every message.
    pub buffer: BytesMut,
}

impl World {
    /// A world with all nodes down and nothing scheduled; the last `keep` events of its trace are kept.
    pub fn new(plan: &Plan, keep: usize) -> World {
        let mut random = Random::new(plan.seed);
        let faults = match &plan.faults {
            Some(faults) => faults.clone(),
            None => Faults::mixed(&mut Random::new(plan.seed ^ 0xFA17)),
        };
        let shape = Shape::drawn(&mut random);
        let voters = Voters::new((1..=plan.nodes).collect());
        let node = |id: NodeId| {
            let config = Config {
                node: id,
                voters: voters.clone(),
                election_ms: shape.election_ms,
                heartbeat_ms: shape.heartbeat_ms,
                window_entries: shape.window_entries,
                window_bytes: shape.window_bytes,
                seed: plan.seed.wrapping_mul(1000).wrapping_add(id << 32),
            };
            Node::new(plan.protocol, config, shape.sizes, keys(plan.seed, id), u128::from(id))
        };
        World {
            now_us: 0,
            schedule: Schedule::default(),
            steps: 0,
            last_write: 0,
            nodes: (1..=plan.nodes).map(node).collect(),
            network: Network::new(plan.seed, faults.datagrams == 1),
            clients: Clients::new(plan),
            chaos: Chaos::new(plan),
            faults,
            checker: Checker::new(plan.protocol, plan.nodes as usize, shape.sizes.window),
            counts: Counts::default(),
            recorder: Recorder::new(keep),
            random,
            election_ms: shape.election_ms,
            tick_us: (shape.heartbeat_ms / 5).clamp(1, 10) * 1000,
            is_reading: false,
            buffer: BytesMut::new(),
        }
    }

    // ---- nodes ----

    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.nodes.len() as u64
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub fn running(&mut self, id: NodeId) -> &mut Running {
        self.node_mut(id).running.as_mut().expect("a node that runs")
    }

    /// Whether this process of the node still runs.
    pub fn is_current(&self, id: NodeId, process: u64) -> bool {
        let node = self.node(id);
        node.is_up() && node.process == process
    }

    /// The node that leads, if any node thinks it does.
    pub fn leader(&self) -> Option<NodeId> {
        let told = |node: &Node| node.running.as_ref().map(|running| running.told);
        let leads = |node: &&Node| told(node).is_some_and(|(role, _)| role == Role::Leader);
        let latest = self.nodes.iter().filter(leads).max_by_key(|node| told(node).map(|(_, ballot)| ballot));
        latest.map(|node| node.id)
    }

    // ---- time ----

    /// Schedules a step this much later.
    pub fn schedule(&mut self, delay_us: u64, step: Step) {
        self.schedule.add(self.now_us + delay_us, step);
    }

    /// When the next step is due.
    pub fn next_us(&self) -> Option<u64> {
        self.schedule.next_us()
    }

    /// Moves time on to the next step, and returns it. There always is one.
    pub fn advance(&mut self) -> Step {
        let (at_us, step) = self.schedule.take().expect("clocks tick forever");
        assert!(at_us >= self.now_us, "time goes on: {at_us} after {}", self.now_us);
        self.now_us = at_us;
        self.steps += 1;
        step
    }

    pub fn record(&mut self, node: NodeId, what: What) {
        self.recorder.record(self.now_us, self.steps, node, what);
    }

    /// A thread has something to do: schedules its next step, unless one is on its way.
    pub fn wake(&mut self, id: NodeId, thread: Thread) {
        let delay_us = match thread {
            Thread::Applier => self.random.between(5, 300),
            _ => self.random.between(2, 60),
        };
        let process = self.node(id).process;
        let Some(running) = self.node_mut(id).running.as_mut() else { return };
        if running.scheduled & thread as u8 == 0 {
            running.scheduled |= thread as u8;
            let stall_us = self.stalls_for_us();
            if stall_us > 0 {
                self.running(id).stalled |= thread as u8;
            }
            self.schedule(delay_us + stall_us, Step::Thread(id, process, thread));
        }
    }

    /// How long the system does not run a thread that should wake; mostly not at all.
    fn stalls_for_us(&mut self) -> u64 {
        let Faults { stall_permille, stall_ms, .. } = self.faults;
        if stall_permille == 0 || self.random.between(0, 1000) >= stall_permille {
            return 0;
        }
        self.counts.add(Count::Stalls);
        self.random.between(1, stall_ms * 1000 + 1)
    }

    /// Wakes the threads into whose queues another thread of the node has put something.
    pub fn ring(&mut self, id: NodeId) {
        let running = self.node_mut(id).running.as_mut();
        if running.is_some_and(|running| std::mem::take(&mut running.has_handed_on)) {
            self.wake(id, Thread::Network);
            self.wake(id, Thread::Storage);
        }
    }

    pub fn wake_all(&mut self, id: NodeId) {
        for thread in [Thread::Machine, Thread::Storage, Thread::Network, Thread::Applier] {
            self.wake(id, thread);
        }
    }
}

/// The keys of a node. Every other cluster has one, and is about to replace it: some nodes have both already.
fn keys(seed: u64, id: NodeId) -> Option<Keys> {
    let [old, new] = [b"the old key of a simulation", b"the new key of a simulation"].map(|key| key.to_vec());
    match (seed % 2, id % 2) {
        (0, _) => None,
        (_, 0) => Some(Keys::new(old, Some(new))),
        _ => Some(Keys::new(old, None)),
    }
}
