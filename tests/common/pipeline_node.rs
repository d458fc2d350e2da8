//! A node of the pipeline without its threads: the production objects of `pipeline/` over a real store, and the
//! queues between them as lists. Each thread of `node/` is a step here that takes some of what waits, in the
//! order in which that thread takes it; so a schedule decides which thread gets how far.
//!
//! Left out: sockets, the log file, time that passes by itself, and who checks (`pipeline.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use spaxos::consensus::message::Message;
use spaxos::consensus::paxos::{Config, Paxos, Restored};
use spaxos::consensus::protocol::Proposal;
use spaxos::consensus::types::{Entry, HardState, NodeId};
use spaxos::pipeline::applier::Applier;
use spaxos::pipeline::inbox::{Control, Outgoing, OwnMessages};
use spaxos::pipeline::recent::Recent;
use spaxos::pipeline::requests::Requests;
use spaxos::pipeline::state_machine::{Inputs, StateMachine, Turn, Work};
use spaxos::pipeline::storage::{self, Durable, TurnError};
use spaxos::store::{Binding, Founding, LogReader, Recovered, Store, WriteError};

use super::disk::{Disk, Fault};

/// Works and outgoing items that may wait before the threads that fill these queues wait, too.
const QUEUE: usize = 12;
/// Proposals that may wait: beyond, clients hear BUSY.
const PROPOSALS: usize = 20;
/// Distinct requests that are remembered: more than a schedule makes.
const WINDOW: usize = 2000;

/// A node: a disk and a clock always, the rest while it runs.
pub struct Node {
    pub id: NodeId,
    config: Config,
    recent_bytes: usize,
    disk: Arc<Disk>,
    pub now_ms: u64,
    pub running: Option<Running>,
    /// What was found or made durable last.
    pub hard_state: HardState,
    /// Peers whose binding was said to be durable.
    pub bound: BTreeSet<NodeId>,
    /// The entries of a failed write, which may be on the disk.
    uncertain: Vec<Entry>,
}

/// What the threads of a node share, and what waits between them.
pub struct Running {
    pub machine: StateMachine,
    pub store: Store,
    pub reader: LogReader,
    pub recent: Arc<Recent>,
    pub requests: Arc<Mutex<Requests>>,
    pub applier: Applier,
    config: Config,
    /// Which start of the node it is.
    start: u64,
    inputs: Inputs,
    control: VecDeque<Control>,
    own: VecDeque<OwnMessages>,
    pub peers: VecDeque<Message>,
    bindings: VecDeque<Binding>,
    proposals: VecDeque<Proposal>,
    works: VecDeque<Work>,
    outgoing: VecDeque<Outgoing>,
    /// Storage's: works of older ones are dropped.
    generation: u64,
    /// Storage waits for room on the disk; proposals are refused.
    pub full: bool,
}

/// How a step of storage ended.
pub enum Stored {
    Nothing,
    /// These entries and messages are durable, and may leave.
    Durable(Vec<Entry>, Durable),
    Full,
    /// The node is to be ended.
    Failed,
}

impl Node {
    pub fn new(config: Config, recent_bytes: usize) -> Node {
        Node {
            id: config.node,
            config,
            recent_bytes,
            disk: Arc::default(),
            now_ms: 0,
            running: None,
            hard_state: HardState::default(),
            bound: BTreeSet::new(),
            uncertain: Vec::new(),
        }
    }

    /// Ends at once. What was not synced is gone, unless a write that failed says otherwise.
    pub fn crash(&mut self) {
        self.running = None;
        self.disk.power_cut();
    }

    /// Starts from the disk, as `node::Node::start` does; what is found there, with entries of a write that
    /// nobody knew to be durable.
    pub fn start(&mut self) -> (Recovered, Vec<Entry>) {
        let members = self.config.voters.ids().iter().map(|id| (*id, format!("node{id}")));
        let founding = Founding {
            cluster: "random".into(),
            node: self.id,
            protocol: "paxos".into(),
            members: members.collect::<BTreeMap<_, _>>(),
            delivery_window: WINDOW as u64,
        };
        let opened = Store::open_on(self.disk.clone(), &founding, u128::from(self.id));
        let (store, recovered) = opened.unwrap_or_else(|error| panic!("node {} opens: {error}", self.id));
        let recent = Arc::new(Recent::new(self.recent_bytes, recovered.hard_state.chosen));
        let requests = Arc::new(Mutex::new(Requests::new(WINDOW)));
        let config = Config { seed: self.config.seed ^ recovered.start, ..self.config.clone() };
        let core = Paxos::new(config.clone(), restored(&recovered));
        let reader = store.reader();
        self.running = Some(Running {
            machine: StateMachine::new(Box::new(core), recent.clone()),
            applier: Applier::new(recent.clone(), reader.clone(), requests.clone()),
            store,
            reader,
            recent,
            requests,
            config,
            start: recovered.start,
            inputs: Inputs::default(),
            control: VecDeque::new(),
            own: VecDeque::new(),
            peers: VecDeque::new(),
            bindings: VecDeque::new(),
            proposals: VecDeque::new(),
            works: VecDeque::new(),
            outgoing: VecDeque::new(),
            generation: 0,
            full: false,
        });
        let found = self.found();
        (recovered, found)
    }

    /// Storage writes the oldest `count` works at once.
    pub fn store(&mut self, count: usize, fault: Option<Fault>) -> Stored {
        let Some(running) = &mut self.running else { return Stored::Nothing };
        if running.full || running.outgoing.len() >= QUEUE {
            return Stored::Nothing;
        }
        let count = count.min(running.works.len());
        let mut works: Vec<Work> = running.works.drain(..count).collect();
        works.retain(|work| work.generation == running.generation);
        if let Some(fault) = fault.filter(|_| works.iter().any(Work::must_write)) {
            self.disk.fail(fault);
        }
        let entries: Vec<Entry> = works.iter().flat_map(|work| work.entries.clone()).collect();
        match storage::turn(self.id, works, &mut running.store, &running.recent) {
            Ok(durable) => Stored::Durable(entries, durable),
            Err(TurnError::Write(WriteError::Passing(_))) => {
                running.full = true;
                running.generation += 1;
                running.control.push_back(Control::Suspend);
                self.uncertain = entries;
                Stored::Full
            }
            Err(TurnError::Write(WriteError::Fatal(_))) => {
                self.uncertain = entries;
                Stored::Failed
            }
            Err(TurnError::Read(error)) => panic!("node {} cannot read a page: {error}", self.id),
        }
    }

    /// Storage looks whether there is room again: then, what it found on the disk, with entries of a write that
    /// nobody knew to be durable.
    pub fn retry(&mut self, reopens: bool, writes: bool) -> Option<(Recovered, Vec<Entry>)> {
        let running = self.running.as_mut().filter(|running| running.full)?;
        running.works.clear();
        if !reopens {
            self.disk.refuse_reopen();
        }
        let recovered = match running.store.rebuild() {
            Ok(recovered) => recovered,
            Err(error) if error.may_pass() => return None,
            Err(error) => panic!("node {} rebuilds: {error}", self.id),
        };
        if !writes {
            self.disk.fail(Fault::NoRoom);
        }
        match running.store.probe() {
            Ok(()) => {}
            Err(WriteError::Passing(_)) => return None,
            Err(error) => panic!("node {} probes: {error}", self.id),
        }
        running.control.push_back(Control::Rebuild(restored(&recovered)));
        running.full = false;
        let found = self.found();
        Some((recovered, found))
    }

    /// Which entries of a failed write the store holds after all.
    fn found(&mut self) -> Vec<Entry> {
        let running = self.running.as_ref().expect("a node that just opened its store");
        let mut found = std::mem::take(&mut self.uncertain);
        found.retain(|entry| running.holds(entry));
        found
    }
}

impl Running {
    /// Names the incarnation of the core: no other one of this node has the same.
    pub fn incarnation(&self) -> u64 {
        self.start * 1_000_000 + self.machine.generation()
    }

    /// Whether the store holds an entry durably.
    pub fn holds(&self, entry: &Entry) -> bool {
        let read = self.store.reader().read(entry.index, entry.index, usize::MAX);
        read.is_ok_and(|read| read[0] == *entry)
    }

    /// The state machine has not yet heard of a write that failed, or of the rebuild after it.
    pub fn is_to_be_rebuilt(&self) -> bool {
        !self.control.is_empty() || self.full
    }

    /// The state machine thread waits for room in a queue.
    pub fn is_blocked(&self) -> bool {
        self.works.len() >= QUEUE || self.outgoing.len() >= QUEUE
    }

    /// Time passes for the state machine.
    pub fn tick(&mut self, now_ms: u64) -> Turn {
        self.inputs.tick_ms = Some(now_ms);
        self.turn()
    }

    /// The state machine takes some of each kind of what waits, for a turn.
    pub fn gather(&mut self, mut some: impl FnMut(usize) -> usize) {
        while let Some(control) = self.control.pop_front() {
            match control {
                Control::Suspend => self.machine.suspend(),
                Control::Rebuild(restored) => self.rebuild(restored),
            }
        }
        self.inputs.own.extend(self.own.drain(..some(self.own.len())));
        self.inputs.peers.extend(self.peers.drain(..some(self.peers.len())));
        self.inputs.bindings.extend(self.bindings.drain(..some(self.bindings.len())));
        let room = self.machine.room().saturating_sub(self.inputs.proposals.len());
        self.inputs.proposals.extend(self.proposals.drain(..some(self.proposals.len()).min(room)));
    }

    /// The turn with what was gathered.
    pub fn turn(&mut self) -> Turn {
        let mut turn = self.machine.turn(&mut self.inputs);
        self.inputs.proposals = std::mem::take(&mut turn.left);
        turn
    }

    /// What a turn made goes to the network and to storage.
    pub fn hand_on(&mut self, turn: &mut Turn) {
        let generation = self.machine.generation();
        if !turn.early.is_empty() {
            self.outgoing.push_back(Outgoing::Messages { generation, messages: turn.early.clone() });
        }
        self.works.extend(turn.work.take());
    }

    fn rebuild(&mut self, mut restored: Restored) {
        restored.highest_round = restored.highest_round.max(self.machine.status().highest_round);
        let core = Paxos::new(self.config.clone(), restored);
        self.machine.rebuild(Box::new(core));
    }

    /// What a write made possible goes to the network.
    pub fn forward(&mut self, durable: Durable) {
        let Durable { messages, bindings, .. } = durable;
        self.outgoing.extend(bindings.into_iter().map(Outgoing::Bound));
        if !messages.is_empty() {
            self.outgoing.push_back(Outgoing::Messages { generation: self.generation, messages });
        }
    }

    /// The network takes the oldest `count` items: own messages go back, the others and what is bound come out.
    pub fn send(&mut self, id: NodeId, count: usize) -> (Vec<Message>, Vec<Binding>) {
        let (mut sent, mut bound) = (Vec::new(), Vec::new());
        for item in self.outgoing.drain(..count.min(self.outgoing.len())) {
            match item {
                Outgoing::Bound(binding) => bound.push(binding),
                Outgoing::Messages { generation, messages } => {
                    let (own, others): (Vec<_>, Vec<_>) =
                        messages.into_iter().partition(|message| message.to == id);
                    sent.extend(others);
                    if !own.is_empty() {
                        self.own.push_back(OwnMessages { generation, messages: own });
                    }
                }
            }
        }
        (sent, bound)
    }

    /// A peer says hello for the first time.
    pub fn bind(&mut self, binding: Binding) {
        self.bindings.push_back(binding);
    }

    /// Into the proposing queue, if there is room.
    pub fn propose(&mut self, proposal: Proposal) -> bool {
        let room = self.proposals.len() < PROPOSALS;
        self.proposals.extend(room.then_some(proposal));
        room
    }

    /// Whether nothing waits but for time.
    pub fn is_idle(&self) -> bool {
        self.works.is_empty()
            && self.outgoing.is_empty()
            && self.own.is_empty()
            && self.peers.is_empty()
            && self.control.is_empty()
            && self.proposals.is_empty()
            && self.bindings.is_empty()
            && self.applier.applied() >= self.recent.chosen()
    }
}

/// As `node/storage.rs` has it.
fn restored(recovered: &Recovered) -> Restored {
    Restored {
        hard_state: recovered.hard_state,
        highest_round: recovered.max_round,
        compacted: recovered.compacted,
        entries: recovered.entries.clone(),
    }
}
