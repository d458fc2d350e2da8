//! The cluster in one thread: virtual time, one queue of steps ordered by (time, sequence), and the threads of all
//! nodes as steps of it. The same plan gives the same steps on every machine.
//!
//! Each thread of `node/` works off what waits, then sleeps until its bell rings; here whoever puts something into
//! a queue schedules the next step of the thread behind it ([`Cluster::wake`]), after a delay drawn from the seed.
//! The state machine takes its inputs in one step and has its turn in a later one, a write begins in one step and
//! is durable in a later one: whatever can happen in between on a real machine can happen here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::BytesMut;

use crate::consensus::batch::Event;
use crate::consensus::message::Message;
use crate::consensus::paxos::Config;
use crate::consensus::quorum::Voters;
use crate::consensus::random::Random;
use crate::consensus::types::{Index, NodeId};
use crate::pipeline::applier::ApplyError;
use crate::pipeline::inbox::Control;
use crate::pipeline::requests::Ticket;
use crate::pipeline::state_machine::Turn;
use crate::pipeline::storage::{RetryError, TurnError};
use crate::store::engine::EngineError;
use crate::store::memory::Kept;
use crate::store::{OpenError, ReadError, WriteError};

use super::chaos::Chaos;
use super::checker::Checker;
use super::clients::Clients;
use super::counts::{Count, Counts};
use super::faults::Faults;
use super::invariant::{Invariant, broken, hold};
use super::network::Network;
use super::node::{Node, Running, Sizes, Thread};
use super::plan::Plan;
use super::trace::{Recorder, What};

/// All nodes, what is between them, their clients, and who watches.
pub struct Cluster {
    pub(super) now_us: u64,
    sequence: u64,
    steps: u64,
    last_write: u64,
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
    random: Random,
    election_ms: u64,
    tick_us: u64,
    /// Within a read, steps of others go on; they do not read.
    is_reading: bool,
    /// Used again for every message.
    buffer: BytesMut,
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
    Arrive(Box<super::network::Flight>),
    /// A client does something.
    Client(usize, u64),
    /// A request of the liveness phase is out of time.
    Forget(Ticket),
    /// Somebody wants another node to lead.
    Transfer,
    /// Somebody reads the log of a node.
    Read,
    /// A fault begins or ends.
    Chaos(super::chaos::Act),
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

/// A write that fails takes so much longer, in µs, so that the queues behind it fill.
const FAILURE_US: u64 = 30_000;

/// How long storage waits before it looks for room on a full disk again, in µs.
const PROBE_US: u64 = 50_000;

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
            Node::new(config, sizes, u128::from(id))
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
            checker: Checker::new(plan.nodes as usize),
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

    fn wake_all(&mut self, id: NodeId) {
        for thread in [Thread::Machine, Thread::Storage, Thread::Network, Thread::Applier] {
            self.wake(id, thread);
        }
    }

    // ---- threads ----

    fn run_thread(&mut self, id: NodeId, thread: Thread) {
        let running = self.running(id);
        running.scheduled &= !(thread as u8);
        running.stalled &= !(thread as u8);
        if running.paused {
            return;
        }
        match thread {
            Thread::Machine => self.take(id),
            Thread::Storage => self.begin_write(id),
            Thread::Network => self.send(id),
            Thread::Applier => self.apply(id),
        }
    }

    /// The clock of the state machine; the next tick follows whatever happens.
    fn tick(&mut self, id: NodeId) {
        let (now_us, tick_us) = (self.now_us, self.tick_us);
        let node = self.node_mut(id);
        let process = node.process;
        let next_us = node.clock.true_us(tick_us);
        let now_ms = node.clock.local_ms(now_us);
        self.schedule(next_us, Step::Tick(id, process));
        let running = self.running(id);
        if running.paused {
            return;
        }
        let is_stalled = running.stalled & Thread::Machine as u8 != 0;
        if is_stalled || running.taken || !running.machine_is_free() {
            running.tick_is_due = true;
            return;
        }
        let turn = running.turn(Some(now_ms));
        self.hand_on(id, turn);
    }

    /// The state machine takes what waits, for a turn a little later.
    fn take(&mut self, id: NodeId) {
        let delay_us = self.random.between(1, 40);
        let node = self.node_mut(id);
        let process = node.process;
        let running = node.running.as_mut().expect("a node that runs");
        if running.taken || !running.machine_is_free() {
            return;
        }
        let before = running.machine.generation();
        running.taken = running.machine.take(&running.inbox, &mut running.inputs);
        let (generation, taken) = (running.machine.generation(), running.taken);
        if generation != before {
            self.counts.add(Count::Rebuilds);
            self.record(id, What::Rebuilt { generation });
        }
        if taken || self.running(id).tick_is_due {
            self.running(id).taken = true;
            self.schedule(delay_us, Step::Turn(id, process));
        }
    }

    fn turn(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let node = self.node_mut(id);
        let now_ms = node.clock.local_ms(now_us);
        let running = node.running.as_mut().expect("a node that runs");
        if running.paused {
            return;
        }
        let tick = std::mem::take(&mut running.tick_is_due).then_some(now_ms);
        let turn = running.turn(tick);
        self.hand_on(id, turn);
        self.wake(id, Thread::Machine);
    }

    /// What a turn made is on its way; those behind the queues wake.
    fn hand_on(&mut self, id: NodeId, turn: Turn) {
        self.watch_turn(id, &turn);
        for event in &turn.events {
            self.note(id, event);
        }
        let running = self.running(id);
        let is_free = running.machine_is_free();
        if !is_free {
            self.counts.add(Count::Stuck);
        }
        if turn.chosen.is_some() {
            self.wake(id, Thread::Applier);
        }
    }

    fn note(&mut self, id: NodeId, event: &Event) {
        match event {
            Event::Leading { ballot, adopted, holes } => {
                self.checker.leads(id, *ballot);
                self.counts.add(Count::Elections);
                self.counts.add_many(Count::Adoptions, *adopted);
                self.counts.add_many(Count::Holes, *holes);
            }
            Event::SteppedDown { .. } => self.counts.add(Count::StepDowns),
            Event::Preparing { handed_by: Some(_), .. } => self.counts.add(Count::HandedOver),
            Event::KeptLeading { .. } => self.counts.add(Count::KeptLeading),
            _ => {}
        }
        let text = self.recorder.text(|| event.to_string());
        self.record(id, What::Noted { text });
    }

    /// Storage begins to write all that waits.
    fn begin_write(&mut self, id: NodeId) {
        let (low_us, high_us) = (self.faults.write_min_us, self.faults.write_max_us);
        let took_us = self.random.between(low_us, high_us + 1);
        let now_us = self.now_us;
        let node = self.node_mut(id);
        let process = node.process;
        let failing_us = if node.disk.fails_next() { FAILURE_US } else { 0 };
        let running = node.running.as_mut().expect("a node that runs");
        if running.is_suspended || running.writing.is_some() || !running.storage_is_free() {
            return;
        }
        if !running.begin_write() {
            return;
        }
        let works = running.writing.as_deref().unwrap_or_default();
        let must_write = works.iter().any(|work| work.must_write());
        let count = works.len() as u64;
        let took_us = match must_write {
            true => {
                took_us * running.disk_factor + failing_us + running.disk_busy_until_us.saturating_sub(now_us)
            }
            false => 3,
        };
        if must_write {
            let works = self.running(id).writing.take().unwrap_or_default();
            let entries = works.iter().map(|work| work.entries.len() as u64).sum();
            let text = self.recorder.text(|| writing_text(&works));
            self.running(id).writing = Some(works);
            self.last_write += 1;
            let write = self.last_write;
            self.running(id).write = write;
            self.record(id, What::Writing { write, works: count, entries, text });
        }
        // Storage has made room: the state machine may have waited for it.
        self.wake(id, Thread::Machine);
        self.schedule(took_us, Step::WriteEnds(id, process));
    }

    fn end_write(&mut self, id: NodeId) {
        if self.running(id).paused {
            return;
        }
        let works = self.running(id).writing.take().unwrap_or_default();
        let generation = self.running(id).storage.generation();
        let current = works.iter().filter(|work| work.generation == generation);
        let entries: Vec<_> = current.flat_map(|work| work.entries.iter().cloned()).collect();
        let must_write = works.iter().any(|work| work.must_write());
        let running = self.running(id);
        running.writing = Some(works);
        match running.end_write() {
            Ok(durable) => {
                let write = self.running(id).write;
                self.watch_durable(id, &entries, &durable, must_write.then_some(write));
                self.running(id).forward(durable);
                self.wake(id, Thread::Storage);
            }
            Err(TurnError::Write(WriteError::Passing(why))) => {
                self.node_mut(id).uncertain.extend(entries);
                self.suspend(id, &why);
            }
            Err(TurnError::Write(WriteError::Fatal(why))) => {
                self.node_mut(id).uncertain.extend(entries);
                let write = self.running(id).write;
                self.record(id, What::WriteFailed { write, flush: true, text: why });
                self.end_and_restart(id, "its disk failed");
            }
            Err(TurnError::Read(error)) => self.lose(id, "it found a damaged record", &error.to_string()),
        }
    }

    fn suspend(&mut self, id: NodeId, why: &str) {
        let process = self.node(id).process;
        let running = self.running(id);
        running.is_suspended = true;
        running.tell(Control::Suspend);
        let write = running.write;
        let text = self.recorder.text(|| why.to_owned());
        self.record(id, What::WriteFailed { write, flush: false, text });
        self.record(id, What::Suspended);
        self.wake(id, Thread::Machine);
        self.schedule(PROBE_US, Step::Retry(id, process));
    }

    fn retry(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let process = node.process;
        let running = node.running.as_mut().expect("a node that runs");
        if running.paused || !running.is_suspended {
            return;
        }
        running.works.drain(&mut Vec::new());
        match running.storage.retry() {
            Ok(Some(restored)) => {
                running.is_suspended = false;
                running.tell(Control::Rebuild(restored));
                self.reconcile(id);
                self.wake_all(id);
                // Of all times this is when a reader may be led astray: it begins before the rebuild, and ends after.
                self.read_of(id);
            }
            Ok(None) => {
                self.wake(id, Thread::Machine);
                self.schedule(PROBE_US, Step::Retry(id, process));
            }
            Err(RetryError::Read(error @ OpenError::Damaged { .. })) => {
                self.lose(id, "it cannot read back what is durable", &error.to_string());
            }
            Err(_) => self.end_and_restart(id, "its disk failed"),
        }
    }

    /// The network thread takes all that waits.
    fn send(&mut self, id: NodeId) {
        let (sent, bound) = self.running(id).send(id);
        for binding in bound {
            self.node_mut(id).bound.insert(binding.node, binding.directory);
        }
        for message in sent {
            self.transmit(message);
        }
        let running = self.running(id);
        if !running.inbox.own.is_empty() || !running.machine_is_free() || running.tick_is_due {
            self.wake(id, Thread::Machine);
        }
        // Others may have waited for the room that there is now.
        self.wake(id, Thread::Storage);
        let running = self.running(id);
        if !running.outgoing.is_empty() {
            self.wake(id, Thread::Network);
        }
    }

    /// The applier delivers some of what is chosen.
    fn apply(&mut self, id: NodeId) {
        let running = self.running(id);
        let before = running.applier.applied();
        let delivered = match running.applier.turn() {
            Ok(delivered) => delivered,
            Err(ApplyError::Read(ReadError::Unreadable { why: EngineError::Closed, .. })) => return,
            Err(error) => return self.lose(id, "it found a damaged record", &error.to_string()),
        };
        let applied = running.applier.applied();
        let is_behind = applied < running.recent.chosen();
        self.watch_delivered(id, before, applied, &delivered.entries);
        for (ticket, answer) in delivered.answers {
            self.answer(ticket, answer);
        }
        if delivered.more || (is_behind && applied > before) {
            self.wake(id, Thread::Applier);
        }
    }

    // ---- processes ----

    fn start(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let rate_permille = self.chaos.rate_permille(id);
        let node = self.node_mut(id);
        if node.is_up() || node.lost.is_some() {
            return;
        }
        let is_harmed = node.is_harmed;
        match node.start(now_us, rate_permille) {
            Ok(recovered) => {
                let process = node.process;
                self.record(id, What::Started { start: recovered.start });
                self.reconcile(id);
                self.schedule(0, Step::Tick(id, process));
                self.wake_all(id);
                for peer in self.ids().filter(|peer| *peer != id) {
                    self.dial_soon(id, peer);
                    self.dial_soon(peer, id);
                }
            }
            // A full or failing disk: whoever looks after the node tries again.
            Err(OpenError::NoRoom { .. } | OpenError::Io { .. }) => {
                node.disk.crash(|| Kept::Lost);
                self.schedule(PROBE_US, Step::Start(id));
            }
            Err(error) => {
                hold!(Durability, is_harmed, "node {id} refuses its disk, which nobody harmed: {error}");
                self.lose(id, "it refused its disk", &error.to_string());
            }
        }
    }

    /// The process ends, and comes back after a while.
    pub(super) fn end_and_restart(&mut self, id: NodeId, why: &'static str) {
        self.end(id, why);
        let down_us = self.chaos.down_us(self.faults.down_ms);
        self.schedule(down_us, Step::Start(id));
    }

    /// The process ends.
    pub(super) fn end(&mut self, id: NodeId, why: &'static str) {
        if !self.node(id).is_up() {
            return;
        }
        let status = self.running(id).status();
        hold!(Honesty, status.ignored == 0, "node {id} took {} messages for nonsense", status.ignored);
        self.counts.add(Count::Crashes);
        let chaos = &mut self.chaos;
        let counts = &mut self.counts;
        let percent = self.faults.power_cut_percent;
        let node = &mut self.nodes[id as usize - 1];
        let torn = node.running.as_ref().is_some_and(|it| it.writing.is_some()) && chaos.tears(id);
        let socket = node.running.as_mut().map(|it| std::mem::take(&mut it.socket)).unwrap_or_default();
        let cut = chaos.cuts_power(percent);
        counts.add_many(Count::PowerCuts, u64::from(cut || torn));
        node.crash(|| chaos.kept(cut, torn, counts));
        node.is_harmed |= torn;
        for flight in socket {
            self.record(id, What::Dropped { id: flight.id, why: "the node is down".into() });
        }
        self.record(id, What::Crashed { why: why.into() });
        self.disconnect(id);
        self.clients_lose(id);
    }

    /// The node never runs again; somebody harmed its disk, or this is a rule broken.
    pub(super) fn lose(&mut self, id: NodeId, why: &'static str, text: &str) {
        hold!(
            Durability,
            self.node(id).is_harmed,
            "node {id} ends since {why}, and nobody harmed its disk: {text}"
        );
        self.end(id, why);
        self.counts.add(Count::Refused);
        self.node_mut(id).lost = Some(why);
    }

    // ---- reads ----

    /// Somebody reads a log, and while it is read everything else may go on.
    fn read(&mut self) {
        let pause_us = self.random.between(500, 50_000);
        let id = self.random.between(1, self.nodes.len() as u64 + 1);
        self.read_of(id);
        self.schedule(pause_us, Step::Read);
    }

    fn read_of(&mut self, id: NodeId) {
        let (nested, back) = (self.random.between(0, 30), self.random.between(0, 6));
        let of_client = self.random.between(0, 3) > 0;
        if !self.is_reading && self.node(id).is_up() {
            self.is_reading = true;
            self.read_log(id, nested, back, of_client);
            self.is_reading = false;
        }
    }

    // ---- the end ----

    /// Faults end: the network heals, disks work, all that can run runs.
    pub fn heal(&mut self) {
        let quiet = Faults::none();
        self.stop_chaos();
        self.faults = quiet;
        for id in self.ids() {
            self.node(id).disk.heal();
            let now_us = self.now_us;
            let node = self.node_mut(id);
            node.clock.set_rate(now_us, 1000);
            if let Some(running) = &mut node.running {
                running.disk_factor = 1;
                running.disk_busy_until_us = 0;
            }
            self.resume(id);
            self.schedule(0, Step::Start(id));
        }
    }

    /// After [`Cluster::heal`]: every node that is left serves within 10 T, and all come to the same log.
    pub fn find_together(&mut self) {
        let began_us = self.now_us;
        let within_us = 10 * self.election_ms * 1000;
        let probes = self.propose_everywhere();
        while self.waiting(&probes) {
            hold!(
                Liveness,
                self.now_us < began_us + within_us,
                "nodes {:?} do not serve {} ms after the faults ended, T is {} ms\n{}",
                self.nodes_of_waiting(&probes),
                (self.now_us - began_us) / 1000,
                self.election_ms,
                self.standing()
            );
            self.step();
        }
        self.stop_clients();
        let last = self.last();
        while !self.ids().all(|id| self.node(id).lost.is_some() || self.has_all(id, last)) {
            hold!(
                Liveness,
                self.now_us < began_us + 2 * within_us,
                "not all have delivered {last} {} ms after the faults ended, T is {} ms\n{}",
                (self.now_us - began_us) / 1000,
                self.election_ms,
                self.standing()
            );
            self.step();
        }
        for id in self.ids() {
            if self.node(id).is_up() {
                self.compare(id);
            }
        }
        self.compare_ends(last);
    }

    fn has_all(&self, id: NodeId, last: Index) -> bool {
        let running = self.node(id).running.as_ref();
        running.is_some_and(|running| running.applier.applied() >= last)
    }

    /// How every node stands, a line each.
    pub(super) fn standing(&self) -> String {
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
        self.nodes.iter().map(line).collect()
    }

    /// The same message, by way of its bytes.
    pub(super) fn by_wire(&mut self, message: &Message) -> Message {
        use crate::wire::frame::FrameDecoder;
        use crate::wire::message::{Decoded, decode_message, encode_message};
        self.buffer.clear();
        let encoded = encode_message(message, &mut self.buffer);
        hold!(Honesty, encoded.is_ok(), "{message} cannot be encoded: {encoded:?}");
        let mut decoder = FrameDecoder::new(crate::wire::frame::MAX_FRAME_BYTES);
        let frame = decoder.decode(&mut &self.buffer[..]);
        let Ok(Some(frame)) = frame else { broken(Invariant::Honesty, format_args!("{message}: {frame:?}")) };
        match decode_message(frame) {
            Ok(Decoded::Message(decoded)) => {
                hold!(Honesty, decoded == *message, "{message} is decoded as {decoded}");
                decoded
            }
            other => broken(Invariant::Honesty, format_args!("{message} is decoded as {other:?}")),
        }
    }
}

fn writing_text(works: &[crate::pipeline::state_machine::Work]) -> String {
    let mut text = String::new();
    for work in works {
        if let Some(hard_state) = work.hard_state {
            text += &format!("{hard_state} ");
        }
        for entry in &work.entries {
            text += &format!("{entry} ");
        }
    }
    text.trim_end().to_owned()
}
