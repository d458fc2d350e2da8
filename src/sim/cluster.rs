//! The cluster in one thread and virtual time: takes one step of the world after another, and calls what
//! happens in it. The same plan gives the same steps on every machine.
//!
//! The state machine takes its inputs in one step and has its turn in a later one, a write begins in one step
//! and is durable in a later one: whatever can happen in between on a real machine can happen here.

use std::collections::BTreeSet;

use crate::consensus::types::NodeId;

use super::counts::{Count, Counts};
use super::faults::Faults;
use super::plan::Plan;
use super::trace::Recorder;
use super::world::{Step, World};

/// One node is compared in full every this many steps.
const COMPARE_EVERY: u64 = 1000;

/// All nodes, what is between them, their clients, and their observers.
pub struct Cluster {
    pub(super) world: World,
}

impl Cluster {
    /// A cluster whose nodes all start now; the last `keep` events of its trace are kept.
    pub fn new(plan: &Plan, keep: usize) -> Cluster {
        let mut world = World::new(plan, keep);
        world.ids().for_each(|id| world.schedule(0, Step::Start(id)));
        world.begin_clients();
        world.begin_chaos();
        world.schedule(world.election_ms * 1000, Step::Read);
        Cluster { world }
    }

    /// Takes the next step. There always is one.
    pub fn step(&mut self) {
        step(&mut self.world);
    }

    /// Takes all steps within this time.
    pub fn run_for(&mut self, us: u64) {
        let until_us = self.now_us() + us;
        while self.world.next_us().is_some_and(|next_us| next_us <= until_us) {
            self.step();
        }
        self.world.now_us = until_us;
    }

    // ---- what there is to see ----

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.world.steps
    }

    /// Virtual time since the start.
    pub fn now_us(&self) -> u64 {
        self.world.now_us
    }

    /// T.
    pub fn election_ms(&self) -> u64 {
        self.world.election_ms
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// How often each thing happened.
    pub fn counts(&self) -> Counts {
        let mut counts = self.world.counts.clone();
        counts.add_many(Count::Chosen, self.world.checker.chosen().len() as u64);
        counts.add_many(Count::Repeats, self.world.checker.repeats);
        counts.add_many(Count::DeliveredAgain, self.world.checker.again);
        counts
    }

    /// The trace so far.
    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.world.recorder
    }

    /// All nodes.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.world.ids()
    }

    /// The node that leads, if any node thinks it does.
    pub fn leader(&self) -> Option<NodeId> {
        self.world.leader()
    }

    /// Whether a node thinks that it leads.
    pub fn leads(&self, id: NodeId) -> bool {
        let running = self.world.node(id).running.as_ref();
        running.is_some_and(|running| running.status().is_leader())
    }

    /// Whether a node has delivered a request.
    pub fn has_delivered(&self, id: NodeId, reqid: u64) -> bool {
        self.world.has_delivered(id, reqid)
    }

    // ---- what can be done to it ----

    /// From now on these links lose everything, and no others do.
    pub fn cut(&mut self, links: BTreeSet<(NodeId, NodeId)>) {
        self.world.network.cut = links;
    }

    /// Proposes something new at a node. Returns its reqid.
    pub fn probe_at(&mut self, id: NodeId) -> u64 {
        self.world.probe_at(id)
    }
}

fn step(world: &mut World) {
    let step = world.advance();
    let node = step.node();
    match step {
        Step::Tick(id, process) if world.is_current(id, process) => world.tick(id),
        Step::Thread(id, process, thread) if world.is_current(id, process) => world.run_thread(id, thread),
        Step::Turn(id, process) if world.is_current(id, process) => world.turn(id),
        Step::WriteEnds(id, process) if world.is_current(id, process) => world.end_write(id),
        Step::Retry(id, process) if world.is_current(id, process) => retry(world, id),
        Step::Tick(..) | Step::Thread(..) | Step::Turn(..) | Step::WriteEnds(..) | Step::Retry(..) => {}
        Step::Dial(from, to) => dial(world, from, to),
        Step::Arrive(flight) => world.arrive(*flight),
        Step::Segment(stream, number) => world.segment_arrives(stream, number),
        Step::Resend(stream) => world.resend(stream),
        Step::Ping(stream) => world.ping(stream),
        Step::Reset(stream) => world.reset_arrives(stream),
        Step::Client(client, operation) => world.client_acts(client, operation),
        Step::Forget(ticket) => world.forget(ticket),
        Step::Transfer => world.transfer(),
        Step::Read => world.read(self::step),
        Step::Chaos(act) => world.act(act),
        Step::Start(id) => world.start(id),
    }
    if let Some(id) = node {
        world.ring(id);
    }
    if world.steps.is_multiple_of(COMPARE_EVERY) {
        let place = (world.steps / COMPARE_EVERY) % world.nodes.len() as u64;
        world.compare(place + 1);
        world.check_streams();
    }
}

/// A rebuild is the time at which a reader is most easily led astray: this one begins before it, and ends
/// after.
fn retry(world: &mut World, id: NodeId) {
    if world.retry(id) {
        world.read_of(id, step);
    }
}

fn dial(world: &mut World, from: NodeId, to: NodeId) {
    if let Some(why) = world.dial(from, to) {
        world.lose(from, "another disk was known", &why);
    }
}
