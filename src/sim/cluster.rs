//! The cluster in one thread: virtual time, one queue of steps ordered by (time, sequence), and the threads
//! of all nodes as steps of it. The same plan gives the same steps on every machine.
//!
//! Each thread of `node/` works off what waits, then sleeps until its bell rings; here whoever puts something
//! into a queue schedules the next step of the thread behind it ([`Cluster::wake`]), after a delay drawn from
//! the seed. The state machine takes its inputs in one step and has its turn in a later one, a write begins
//! in one step and is durable in a later one: whatever can happen in between on a real machine can happen
//! here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::BytesMut;

use crate::consensus::config::Config;
use crate::consensus::quorum::Voters;
use crate::consensus::random::Random;
use crate::consensus::types::NodeId;
use crate::pipeline::waiters::Ticket;

use super::chaos::{Act, Chaos};
use super::checker::Checker;
use super::clients::Clients;
use super::counts::{Count, Counts};
use super::faults::Faults;
use super::network::{Flight, Network};
use super::node::{Node, Running, Sizes, Thread};
use super::plan::Plan;
use super::trace::{Recorder, What};

/// All nodes, what is between them, their clients, and who watches.
pub struct Cluster {
    pub(super) now_us: u64,
    sequence: u64,
    steps: u64,
    pub(super) last_write: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) chaos: Chaos,
    pub(super) faults: Faults,
    pub(super) checker: Checker,
    pub(super) counts: Counts,
    pub(super) recorder: Recorder,
    /// How long steps take, and what else is drawn for the threads.
    pub(super) random: Random,
    election_ms: u64,
    pub(super) tick_us: u64,
    /// Within a read, steps of others go on; they do not read.
    pub(super) is_reading: bool,
    /// Used again for every message.
    pub(super) buffer: BytesMut,
}

/// A step at its time. The sequence makes the order total.
struct Scheduled {
    at_us: u64,
    sequence: u64,
    step: Step,
}

/// What happens next. Steps of a node name its process: those of an earlier one do nothing.
pub(super) enum Step {
    /// The state machine's clock.
    Tick(NodeId, u64),
    /// A thread does its next step.
    Thread(NodeId, u64, Thread),
    /// The state machine's turn with what it took.
    Turn(NodeId, u64),
    /// The write under way ends.
    WriteEnds(NodeId, u64),
    /// Storage looks whether there is room on the disk again.
    Retry(NodeId, u64),
    /// A node dials another.
    Dial(NodeId, NodeId),
    /// A message arrives.
    Arrive(Box<Flight>),
    /// A client does something.
    Client(usize, u64),
    /// A request of the liveness phase is out of time.
    Forget(Ticket),
    /// Somebody wants another node to lead.
    Transfer,
    /// Somebody reads the log of a node.
    Read,
    /// A fault begins or ends.
    Chaos(Act),
    /// A node starts.
    Start(NodeId),
}

impl Step {
    /// Whose threads it may run.
    fn node(&self) -> Option<NodeId> {
        match self {
            Step::Tick(id, _) | Step::Thread(id, _, _) | Step::Turn(id, _) => Some(*id),
            Step::WriteEnds(id, _) | Step::Retry(id, _) => Some(*id),
            _ => None,
        }
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at_us, self.sequence).cmp(&(other.at_us, other.sequence))
    }
}

/// A full comparison is made every so many steps, of one node at a time.
const COMPARE_EVERY: u64 = 1000;

impl Cluster {
    /// A cluster that just starts, all nodes at once; `keep` events are kept of its trace.
    pub fn new(plan: &Plan, keep: usize) -> Cluster {
        let mut random = Random::new(plan.seed);
        let faults = match &plan.faults {
            Some(faults) => faults.clone(),
            None => Faults::mixed(&mut Random::new(plan.seed ^ 0xFA17)),
        };
        let mut pick = |values: &[u64]| values[random.between(0, values.len() as u64) as usize];
        let election_ms = pick(&[100, 200, 300]);
        let heartbeat_ms = election_ms / pick(&[5, 10]);
        let (window_entries, window_bytes) = (pick(&[1, 3, 8, 64, 1024]), pick(&[300, 10_000, 4_000_000]));
        let sizes = Sizes {
            works_bytes: pick(&[1000, 100_000, 32 << 20]) as usize,
            outgoing_bytes: pick(&[1000, 100_000, 64 << 20]) as usize,
            peers_bytes: pick(&[2000, 100_000, 64 << 20]) as usize,
            proposals_bytes: pick(&[500, 10_000, 32 << 20]) as usize,
            recent_bytes: pick(&[1, 600, 3000, 1_000_000]) as usize,
            window: 1 << 16,
        };
        let voters = Voters::new((1..=plan.nodes).collect());
        let node = |id: NodeId| {
            let seed = plan.seed.wrapping_mul(1000).wrapping_add(id << 32);
            let voters = voters.clone();
            let config = Config {
                node: id,
                voters,
                election_ms,
                heartbeat_ms,
                window_entries,
                window_bytes: window_bytes as usize,
                seed,
            };
            Node::new(plan.protocol, config, sizes, u128::from(id))
        };
        let mut cluster = Cluster {
            now_us: 0,
            sequence: 0,
            steps: 0,
            last_write: 0,
            queue: BinaryHeap::new(),
            nodes: (1..=plan.nodes).map(node).collect(),
            network: Network::new(plan.seed),
            clients: Clients::new(plan),
            chaos: Chaos::new(plan),
            faults,
            checker: Checker::new(plan.protocol, plan.nodes as usize),
            counts: Counts::default(),
            recorder: Recorder::new(keep),
            random,
            election_ms,
            tick_us: (heartbeat_ms / 5).clamp(1, 10) * 1000,
            is_reading: false,
            buffer: BytesMut::new(),
        };
        cluster.ids().for_each(|id| cluster.schedule(0, Step::Start(id)));
        cluster.begin_clients();
        cluster.begin_chaos();
        cluster.schedule(cluster.election_ms * 1000, Step::Read);
        cluster
    }

    /// The next step. There always is one.
    pub fn step(&mut self) {
        let Reverse(Scheduled { at_us, step, .. }) = self.queue.pop().expect("clocks tick for ever");
        assert!(at_us >= self.now_us, "time goes on: {at_us} after {}", self.now_us);
        self.now_us = at_us;
        self.steps += 1;
        let node = step.node();
        match step {
            Step::Tick(id, process) if self.is_current(id, process) => self.tick(id),
            Step::Thread(id, process, thread) if self.is_current(id, process) => self.run_thread(id, thread),
            Step::Turn(id, process) if self.is_current(id, process) => self.turn(id),
            Step::WriteEnds(id, process) if self.is_current(id, process) => self.end_write(id),
            Step::Retry(id, process) if self.is_current(id, process) => self.retry(id),
            Step::Tick(..) | Step::Thread(..) | Step::Turn(..) | Step::WriteEnds(..) | Step::Retry(..) => {}
            Step::Dial(from, to) => self.dial(from, to),
            Step::Arrive(flight) => self.arrive(*flight),
            Step::Client(client, operation) => self.client_acts(client, operation),
            Step::Forget(ticket) => self.forget(ticket),
            Step::Transfer => self.transfer(),
            Step::Read => self.read(),
            Step::Chaos(act) => self.act(act),
            Step::Start(id) => self.start(id),
        }
        if let Some(id) = node {
            self.ring(id);
        }
        if self.steps.is_multiple_of(COMPARE_EVERY) {
            let place = (self.steps / COMPARE_EVERY) % self.nodes.len() as u64;
            self.compare(place + 1);
        }
    }

    /// All that happens in this time.
    pub fn run_for(&mut self, us: u64) {
        let until_us = self.now_us + us;
        while self.queue.peek().is_some_and(|Reverse(next)| next.at_us <= until_us) {
            self.step();
        }
        self.now_us = until_us;
    }

    // ---- what there is to see ----

    /// How many steps were done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Virtual time since the start.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// T.
    pub fn election_ms(&self) -> u64 {
        self.election_ms
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts.add_many(Count::Chosen, self.checker.chosen().len() as u64);
        counts.add_many(Count::Repeats, self.checker.repeats);
        counts
    }

    /// The trace so far.
    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// All nodes.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.nodes.len() as u64
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub(super) fn running(&mut self, id: NodeId) -> &mut Running {
        self.node_mut(id).running.as_mut().expect("a node that runs")
    }

    fn is_current(&self, id: NodeId, process: u64) -> bool {
        let node = self.node(id);
        node.is_up() && node.process == process
    }

    // ---- time ----

    /// A step so much later.
    pub(super) fn schedule(&mut self, delay_us: u64, step: Step) {
        self.sequence += 1;
        let (at_us, sequence) = (self.now_us + delay_us, self.sequence);
        self.queue.push(Reverse(Scheduled { at_us, sequence, step }));
    }

    pub(super) fn record(&mut self, node: NodeId, what: What) {
        self.recorder.record(self.now_us, self.steps, node, what);
    }

    /// A thread has something to do: its next step comes, unless it is on its way.
    pub(super) fn wake(&mut self, id: NodeId, thread: Thread) {
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

    /// Wakes those into whose queues a node's thread has put something.
    fn ring(&mut self, id: NodeId) {
        let running = self.node_mut(id).running.as_mut();
        if running.is_some_and(|running| std::mem::take(&mut running.has_handed_on)) {
            self.wake(id, Thread::Network);
            self.wake(id, Thread::Storage);
        }
    }

    pub(super) fn wake_all(&mut self, id: NodeId) {
        for thread in [Thread::Machine, Thread::Storage, Thread::Network, Thread::Applier] {
            self.wake(id, thread);
        }
    }
}
