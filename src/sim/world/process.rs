//! A process of a node: the production objects of the pipeline, with the production queues between them, and
//! what each thread of `node/` does to them, as plain calls.
//!
//! A thread that would wait for room in a queue is *stuck* here: it holds what did not fit, and does nothing
//! until the queue is drained. Left out: when what happens (`threads.rs`), sockets, the client port, the log
//! file.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::consensus::config::Config;
use crate::consensus::protocol::{Proposal, Role, Status};
use crate::consensus::protocols::ProtocolName;
use crate::consensus::types::{Ballot, NodeId};
use crate::pipeline::applier::Applier;
use crate::pipeline::fork::ForkWatch;
use crate::pipeline::held::{HeldWorks, Takes};
use crate::pipeline::inbox::{Control, Inbox, Outgoing, OwnMessages};
use crate::pipeline::marks::Marks;
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::recent::Recent;
use crate::pipeline::requests::Requests;
use crate::pipeline::state_machine::{Inputs, StateMachine, Turn, Work};
use crate::pipeline::storage::{Durable, Storage, TurnError, restored};
use crate::pipeline::trouble::Signs;
use crate::pipeline::trust::Trust;
use crate::store::{Binding, LogReader, Recovered, Store};
use crate::wire::hello::{Hello, LOWEST_WIRE_VERSION, WIRE_VERSION};
use crate::wire::message::{PeerMessage, Trouble};

use super::super::application::Chain;
use super::shape::Sizes;
use super::step::Flight;

/// The name of every simulated cluster.
pub const CLUSTER: &str = "simulation";

/// What the threads of a process share, and what waits between them.
pub struct Running {
    pub machine: StateMachine,
    pub storage: Storage,
    pub applier: Applier,
    pub reader: LogReader,
    pub recent: Arc<Recent>,
    pub requests: Arc<Mutex<Requests>>,
    pub trust: Trust,
    pub inbox: Inbox,
    pub works: Queue<Work>,
    pub outgoing: Queue<Outgoing>,
    /// Which start of the store it is.
    pub start: u64,
    /// Its role and ballot as last told.
    pub told: (Role, Ballot),
    /// Its trouble as last told.
    pub told_trouble: Trouble,
    /// Its clock at the last turn, if that was a tick.
    pub ticked_ms: Option<u64>,
    /// The first tick at which it led and should have made way.
    pub makes_way_since_ms: Option<u64>,
    /// The state machine thread took these, for its next turn.
    pub inputs: Inputs,
    pub taken: bool,
    /// A tick came while it was busy with a turn.
    pub tick_is_due: bool,
    /// What the state machine thread waits to hand on.
    machine_stuck: VecDeque<Outgoing>,
    held: HeldWorks,
    /// Works that are being written; what storage waits to hand on.
    pub writing: Option<Vec<Work>>,
    /// Names the last write in the trace.
    pub write: u64,
    /// How often storage went to work.
    storage_turns: u64,
    /// The log file takes no lines: the applier waits for it.
    pub log_file_fails: bool,
    storage_stuck: VecDeque<Outgoing>,
    /// The disk is full: storage waits for room, and proposals are refused.
    pub is_suspended: bool,
    pub paused: bool,
    /// What arrived while it was paused.
    pub socket: Vec<Flight>,
    pub disk_busy_until_us: u64,
    pub disk_factor: u64,
    /// Something was put into the queues of storage or network: they must be woken.
    pub has_handed_on: bool,
    pub marks: Arc<Mutex<Marks>>,
    /// What it remembers of the log that it delivered is not true any more.
    pub is_flipped: bool,
    /// Bitset of [`Thread`](super::Thread)s that have a step scheduled.
    pub scheduled: u8,
    /// Of those, the ones that do not run until then, whatever happens.
    pub stalled: u8,
}

impl Running {
    /// Starts from what the store holds, as `node::Node::start` does.
    pub fn start(
        protocol: ProtocolName,
        config: &Config,
        sizes: Sizes,
        store: Store,
        recovered: &Recovered,
    ) -> Running {
        let id = config.node;
        let recent = Arc::new(Recent::new(sizes.recent_bytes, recovered.hard_state.chosen));
        let requests = Arc::new(Mutex::new(Requests::new(sizes.window)));
        let mut trust = Trust::new(hello(protocol, id, recovered), config.voters.others(id));
        recovered.bindings.iter().for_each(|(node, directory)| {
            trust.bind(Binding { node: *node, directory: *directory });
        });
        let config = Config { seed: config.seed ^ recovered.start, ..config.clone() };
        let reader = store.reader();
        let marks = Arc::new(Mutex::new(Marks::new(reader.compacted_point())));
        let members: Vec<NodeId> = recovered.founding.members.keys().copied().collect();
        let watch = ForkWatch::new(id, &members, true, marks.clone());
        let machine = StateMachine::new(protocol, config, restored(recovered), recent.clone(), watch);
        let application = Some(Box::new(Chain::default()) as _);
        Running {
            told: (Role::Follower, machine.status().promised),
            told_trouble: Trouble::None,
            ticked_ms: None,
            makes_way_since_ms: None,
            machine,
            storage: Storage::new(id, store, recent.clone()),
            applier: Applier::new(
                recent.clone(),
                reader.clone(),
                requests.clone(),
                application,
                marks.clone(),
            ),
            reader,
            recent,
            requests,
            trust,
            inbox: Inbox::with_room_for(sizes.peers_bytes, sizes.proposals_bytes),
            works: Queue::new(sizes.works_bytes, Work::cost_bytes, Bell::new()),
            outgoing: Queue::new(sizes.outgoing_bytes, Outgoing::cost_bytes, Bell::new()),
            start: recovered.start,
            inputs: Inputs::default(),
            taken: false,
            tick_is_due: false,
            machine_stuck: VecDeque::new(),
            held: HeldWorks::default(),
            writing: None,
            write: 0,
            storage_turns: 0,
            log_file_fails: false,
            storage_stuck: VecDeque::new(),
            is_suspended: false,
            paused: false,
            socket: Vec::new(),
            disk_busy_until_us: 0,
            disk_factor: 1,
            has_handed_on: false,
            marks,
            is_flipped: false,
            scheduled: 0,
            stalled: 0,
        }
    }

    /// Names the incarnation of the core: no other incarnation of this node has the same number.
    pub fn incarnation(&self) -> u64 {
        self.start * 1_000_000 + self.machine.generation()
    }

    pub fn status(&self) -> Status {
        self.machine.status()
    }

    // ---- the state machine thread ----

    /// Hands on what it could not before. Returns what it may do now: it waits for the network whatever
    /// happens, and for storage with a clock that ticks.
    pub fn machine_takes(&mut self) -> Takes {
        self.has_handed_on |= !self.machine_stuck.is_empty() || !self.held.is_empty();
        while let Some(item) = self.machine_stuck.pop_front() {
            if let Err(item) = self.outgoing.try_push(item) {
                self.machine_stuck.push_front(item);
                return Takes::Nothing;
            }
        }
        self.held.push_into(&self.works);
        self.held.takes(self.machine.makes_way())
    }

    /// Whether all that it made is handed on.
    pub fn machine_is_free(&self) -> bool {
        self.machine_stuck.is_empty() && self.held.is_empty()
    }

    /// A turn with what was taken; `now_ms` is the node's clock if a tick is due. What it made is on its way,
    /// or stuck.
    pub fn turn(&mut self, now_ms: Option<u64>) -> Turn {
        self.inputs.tick_ms = now_ms;
        self.ticked_ms = now_ms;
        self.inputs.signs = Signs {
            storage: self.writing.as_ref().map(|_| self.storage_turns),
            log_file: self.log_file_fails.then_some(1),
        };
        self.taken = false;
        let mut turn = self.machine.turn(&mut self.inputs);
        self.inputs.proposals = std::mem::take(&mut turn.left);
        let generation = self.machine.generation();
        if !turn.early.is_empty() {
            let messages = turn.early.clone();
            self.machine_stuck.push_back(Outgoing::Messages { generation, messages });
        }
        if !turn.services.is_empty() {
            let services = std::mem::take(&mut turn.services);
            self.machine_stuck.push_back(Outgoing::Services(services));
        }
        if let Some(work) = turn.work.take() {
            self.has_handed_on = true;
            self.held.push(work, &self.works);
        }
        self.machine_takes();
        turn
    }

    // ---- the storage thread ----

    /// Hands on what it could not before. Returns whether it can go on.
    pub fn storage_is_free(&mut self) -> bool {
        self.has_handed_on |= !self.storage_stuck.is_empty();
        while let Some(item) = self.storage_stuck.pop_front() {
            if let Err(item) = self.outgoing.try_push(item) {
                self.storage_stuck.push_front(item);
                return false;
            }
        }
        true
    }

    /// Begins to write all that waits. Returns whether there is anything.
    pub fn begin_write(&mut self) -> bool {
        let mut works = Vec::new();
        let any = self.works.drain(&mut works);
        if any {
            self.writing = Some(works);
            self.storage_turns += 1;
        }
        any
    }

    /// The write ends, whether it succeeds or fails.
    pub fn end_write(&mut self) -> Result<Durable, TurnError> {
        let works = self.writing.take().unwrap_or_default();
        self.storage.turn(works)
    }

    /// What a write made possible goes to the network, or is stuck.
    pub fn forward(&mut self, durable: Durable) {
        self.storage_stuck.extend(self.storage.outgoing(durable));
        self.storage_is_free();
    }

    /// Storage tells the state machine.
    pub fn tell(&mut self, control: Control) {
        let told = self.inbox.control.try_push(control);
        assert!(told.is_ok(), "the control queue has room for every control that can be under way: {told:?}");
    }

    // ---- the network thread ----

    /// Takes all that waits: own messages go back, and what is bound is trusted. Returns the messages to
    /// others, and what is bound.
    pub fn send(&mut self, id: NodeId) -> (Vec<PeerMessage>, Vec<Binding>) {
        let mut items = Vec::new();
        self.outgoing.drain(&mut items);
        let (mut sent, mut bound) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Outgoing::Services(services) => {
                    sent.extend(services.into_iter().map(PeerMessage::Service));
                }
                Outgoing::Bound(binding) => {
                    self.trust.bind(binding);
                    bound.push(binding);
                }
                Outgoing::Messages { generation, messages } => {
                    let (own, others): (Vec<_>, Vec<_>) =
                        messages.into_iter().partition(|message| message.to == id);
                    sent.extend(others.into_iter().map(PeerMessage::Core));
                    if !own.is_empty() {
                        let pushed = self.inbox.own.try_push(OwnMessages { generation, messages: own });
                        assert!(pushed.is_ok(), "room for own messages is reserved: {pushed:?}");
                    }
                }
            }
        }
        (sent, bound)
    }

    // ---- the client port ----

    /// Puts a proposal into its queue, if there is room. Returns whether it did.
    pub fn propose(&mut self, proposal: Proposal) -> bool {
        !self.is_suspended && self.inbox.proposals.try_push(proposal).is_ok()
    }
}

fn hello(protocol: ProtocolName, node: NodeId, recovered: &Recovered) -> Hello {
    Hello {
        version: WIRE_VERSION,
        lowest_version: LOWEST_WIRE_VERSION,
        cluster: CLUSTER.into(),
        node,
        directory: recovered.directory,
        start: recovered.start,
        protocol: protocol.name().into(),
        founding: 0,
        client_address: String::new(),
    }
}
