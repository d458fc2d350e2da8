//! A cluster of cores without threads, sockets or disks: every step is a call, so a script or a seed decides
//! what happens when. What a core asks for is carried out as the pipeline does it: early messages
//! immediately; messages only after the write before them is flushed, in order; pages from what is chosen;
//! deliveries through the table that makes them at most once. Every step is watched by a [`Checker`].
//!
//! Left out: bytes (`wire`, `store`), time that passes by itself, threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::mem;

use spaxos::consensus::batch::{Batch, Event, Page, ReadIndex};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{ClusterBody, MAX_PAGE_BYTES, Message};
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Status};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index, NodeId, Round};
use spaxos::pipeline::ledger::WINDOW;
use spaxos::pipeline::requests::Requests;
use spaxos::sim::checker::Checker;
use spaxos::sim::trace::What;

use super::tracer::Tracer;

/// What all nodes of a cluster have in common.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub protocol: ProtocolName,
    pub nodes: u64,
    pub election_ms: u64,
    pub heartbeat_ms: u64,
    pub window_entries: u64,
    pub window_bytes: usize,
    pub seed: u64,
}

/// How much of what happens is written into [`Cluster::out`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    Nothing,
    /// Events and deliveries.
    Brief,
    /// Every input with its batch, and every flush.
    Full,
}

/// The nodes and what is between them.
pub struct Cluster {
    shape: Shape,
    nodes: BTreeMap<NodeId, Node>,
    /// Messages in flight, in the order in which they were sent.
    pub flight: Vec<Message>,
    /// Links that lose every message, from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes whose disks hang: what they write becomes durable only later.
    pub hung: BTreeSet<NodeId>,
    pub checker: Checker,
    /// Set if a picture is wanted.
    pub tracer: Option<Tracer>,
    /// For each read, what anyone knew to be chosen when it was asked for.
    asked: Vec<Index>,
    reached: Reached,
    pub detail: Detail,
    /// What happened, for a reader; taken by the caller that prints it.
    pub out: String,
}

/// How often each thing happened, for a test that wants to know whether it reaches anything.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reached {
    pub chosen: u64,
    pub elections: u64,
    pub stepped_down: u64,
    pub adopted: u64,
    pub holes: u64,
    pub catch_ups: u64,
    pub truncations: u64,
    pub reads: u64,
    pub pages: u64,
    pub repeats: u64,
    pub crashes: u64,
    pub transfers: u64,
    pub taken_over: u64,
    pub kept: u64,
    pub ignored: u64,
}

/// A node: a core while it is up, a disk always.
struct Node {
    core: Option<Box<dyn Protocol>>,
    incarnation: u64,
    now_ms: u64,
    disk: Disk,
    /// Written, not yet flushed, each with the messages that wait for it.
    unflushed: VecDeque<Unflushed>,
    /// The disk as the running node sees it: with what is not yet flushed.
    seen: BTreeMap<Index, Entry>,
    requests: Requests,
}

/// What survives a crash.
#[derive(Default)]
struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Index, Entry>,
    highest_round: Round,
    /// The core is told that entries up to this one are gone; they stay here for the deliveries of a restart.
    compacted: Index,
}

struct Unflushed {
    hard_state: Option<HardState>,
    truncate: Option<Index>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

impl Cluster {
    pub fn new(shape: Shape) -> Cluster {
        let mut cluster = Cluster {
            shape,
            nodes: BTreeMap::new(),
            flight: Vec::new(),
            cut: BTreeSet::new(),
            hung: BTreeSet::new(),
            checker: Checker::new(shape.protocol, shape.nodes as usize, WINDOW),
            tracer: None,
            asked: Vec::new(),
            reached: Reached::default(),
            detail: Detail::Nothing,
            out: String::new(),
        };
        for id in 1..=shape.nodes {
            cluster.nodes.insert(id, Node::new());
            cluster.restart(id);
        }
        cluster
    }

    // ---- steps ----

    /// Time passes on a node's clock, all of it between two ticks: more than a heartbeat interval is a
    /// pause.
    pub fn tick(&mut self, id: NodeId, ms: u64) -> Batch {
        let node = self.node_mut(id);
        node.now_ms += ms;
        let now_ms = node.now_ms;
        self.turn(id, &format!("tick {now_ms}"), vec![Input::Tick { now_ms }])
    }

    /// Clients of a node propose.
    pub fn propose(&mut self, id: NodeId, commands: Vec<Command>, ttl_ms: u64) -> Batch {
        let deadline_ms = self.node(id).now_ms + ttl_ms;
        for command in &commands {
            self.checker.propose(command);
        }
        let words = commands.iter().map(Command::to_string).collect::<Vec<_>>().join(", ");
        let proposals = commands.into_iter().map(|command| Proposal { command, deadline_ms }).collect();
        self.turn(id, &format!("propose {words}"), vec![Input::Propose(proposals)])
    }

    /// Somebody reads through a node: the answer must see all that anyone knew to be chosen when it was asked
    /// for.
    pub fn read(&mut self, id: NodeId) -> Batch {
        let read = self.asked.len() as u64 + 1;
        let up = self.nodes.values().filter_map(|node| node.core.as_ref());
        let floor = up.map(|core| core.status().chosen).max().unwrap_or(0);
        self.asked.push(floor);
        self.turn(id, &format!("read {read}"), vec![Input::Read { id: read }])
    }

    /// A node is asked to hand leadership over.
    pub fn transfer(&mut self, id: NodeId, to: NodeId) -> Batch {
        self.turn(id, &format!("transfer to {to}"), vec![Input::Transfer { to }])
    }

    /// A node is in trouble, and these are not.
    pub fn make_way(&mut self, id: NodeId, to: Vec<NodeId>) -> Batch {
        self.turn(id, &format!("make way to {to:?}"), vec![Input::MakeWay { to }])
    }

    /// The `place`th message in flight arrives, if its link and its receiver are up.
    pub fn deliver(&mut self, place: usize) -> Option<Batch> {
        let message = self.flight.remove(place);
        self.arrive(vec![message])
    }

    /// Messages for one node arrive in one turn.
    pub fn arrive(&mut self, mut messages: Vec<Message>) -> Option<Batch> {
        self.lose(&mut messages, "the link is cut", |cluster, message| {
            cluster.cut.contains(&(message.from, message.to))
        });
        self.lose(&mut messages, "the node is down", |cluster, message| !cluster.is_up(message.to));
        let to = messages.first()?.to;
        assert!(messages.iter().all(|message| message.to == to), "one turn belongs to one node");
        let words = messages.iter().map(Message::to_string).collect::<Vec<_>>().join(" + ");
        Some(self.turn(to, &words, messages.into_iter().map(Input::Message).collect()))
    }

    /// Takes out messages that do not arrive.
    fn lose(
        &mut self,
        messages: &mut Vec<Message>,
        why: &'static str,
        is_lost: impl Fn(&Cluster, &Message) -> bool,
    ) {
        let (lost, rest): (Vec<_>, _) =
            mem::take(messages).into_iter().partition(|message| is_lost(self, message));
        *messages = rest;
        if let Some(tracer) = &mut self.tracer {
            lost.iter().for_each(|message| tracer.lost(message, why));
        }
    }

    /// The first `count` writes of a node become durable in one go, and the messages behind them leave.
    pub fn flush(&mut self, id: NodeId, count: usize) {
        if self.hung.contains(&id) {
            return;
        }
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        let count = count.min(node.unflushed.len());
        let (mut sent, mut written) = (Vec::new(), Vec::new());
        for write in node.unflushed.drain(..count) {
            if let Some(first) = write.truncate {
                self.checker.truncated(id, first);
                node.disk.entries.split_off(&first);
            }
            if let Some(hard_state) = write.hard_state {
                self.checker.durable(id, node.disk.hard_state, hard_state);
                node.disk.hard_state = hard_state;
            }
            self.checker.behind(id, &write.messages);
            for entry in write.entries {
                self.checker.voted(id, &entry);
                node.disk.highest_round = node.disk.highest_round.max(entry.ballot.round);
                if self.tracer.is_some() {
                    written.push(entry.clone());
                }
                node.disk.entries.insert(entry.index, entry);
            }
            sent.extend(write.messages);
        }
        let promised = node.disk.hard_state.promised;
        node.disk.highest_round = node.disk.highest_round.max(promised.round);
        let chosen = node.disk.hard_state.chosen;
        let held = node.disk.entries.range(..=chosen).count() as u64;
        assert_eq!(held, chosen, "node {id}: chosen up to {chosen} on a disk with {held} of these entries");
        if let Some(tracer) = self.tracer.as_mut().filter(|_| count > 0) {
            tracer.begin(node.now_ms);
            tracer.wrote(id, count as u64, &written, node.disk.hard_state);
        }
        if count > 0 && self.detail == Detail::Full {
            let hard_state = node.disk.hard_state;
            let _ = writeln!(self.out, "{id} flushed: {hard_state}");
            for message in &sent {
                let _ = writeln!(self.out, "  sent {message}");
            }
        }
        self.post(id, sent, false);
    }

    /// A node ends; what was not flushed is lost, and so is what it told itself.
    pub fn crash(&mut self, id: NodeId) {
        self.trace(id, || What::Crashed { why: "killed".into() });
        self.forget(id);
    }

    fn forget(&mut self, id: NodeId) {
        self.reached.crashes += 1;
        self.reached.ignored += self.node(id).core.as_ref().map_or(0, |core| core.status().ignored);
        let node = self.node_mut(id);
        node.core = None;
        node.unflushed.clear();
        let mut flight = mem::take(&mut self.flight);
        self.lose(&mut flight, "gone with what was not durable", |_, message| {
            (message.from, message.to) == (id, id)
        });
        self.flight = flight;
        if let Some(tracer) = &mut self.tracer {
            tracer.ended(id);
        }
    }

    /// A node starts from its disk.
    pub fn restart(&mut self, id: NodeId) {
        self.start(id, 0);
        let start = self.node(id).incarnation;
        self.trace(id, || What::Started { start });
    }

    /// A failed write: the node goes on from its disk, with a ballot above all it used in this run.
    pub fn rebuild(&mut self, id: NodeId) {
        let highest_round = self.status(id).highest_round;
        self.forget(id);
        self.start(id, highest_round);
        let generation = self.node(id).incarnation;
        self.trace(id, || What::Rebuilt { generation });
    }

    /// A stopped node forgets entries up to `compacted`, as far as it and another durably know them to be
    /// chosen (there are no snapshots yet: what only one node knew would be lost).
    pub fn compact(&mut self, id: NodeId, compacted: Index) {
        let others = self.ids().filter(|other| *other != id);
        let known = others.map(|other| self.node(other).disk.hard_state.chosen).max().unwrap_or(0);
        let node = self.node_mut(id);
        assert!(node.core.is_none(), "node {id} is up");
        let chosen = node.disk.hard_state.chosen;
        node.disk.compacted = compacted.min(chosen).min(known).max(node.disk.compacted);
    }

    /// Puts a log on the empty disk of a stopped node, as earlier leaders may have left it, and the last
    /// round that the node heard of. It proves nothing chosen, except for entries of that very round.
    pub fn write_log(&mut self, id: NodeId, round: Round, entries: Vec<Entry>) {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        assert!(node.core.is_none() && node.disk.entries.is_empty(), "node {id} is up, or was");
        let hard_state = HardState { promised: Ballot { round, node: 0 }, chosen: 0 };
        self.checker.durable(id, node.disk.hard_state, hard_state);
        node.disk.hard_state = hard_state;
        node.disk.highest_round = round;
        for entry in entries {
            self.checker.propose(&entry.command);
            self.checker.voted(id, &entry);
            node.disk.entries.insert(entry.index, entry);
        }
    }

    /// Flushes and delivers, oldest first, until nothing is under way.
    pub fn settle(&mut self) {
        for step in 0.. {
            assert!(step < 100_000, "messages without end: {:?}", self.flight.first());
            let writing = self.ids().find(|id| self.unflushed(*id) > 0 && !self.hung.contains(id));
            match writing {
                Some(id) => self.flush(id, usize::MAX),
                None if self.flight.is_empty() => return,
                None => drop(self.deliver(0)),
            }
        }
    }

    /// All clocks advance in small steps, and after each step everything settles.
    pub fn run(&mut self, ms: u64) {
        let step_ms = self.shape.heartbeat_ms / 2;
        for _ in 0..ms.div_ceil(step_ms) {
            for id in self.ids().collect::<Vec<_>>() {
                if self.is_up(id) {
                    let _ = self.tick(id, step_ms);
                } else {
                    self.node_mut(id).now_ms += step_ms;
                }
            }
            self.settle();
        }
    }

    // ---- what there is to see ----

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.shape.nodes
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.node(id).core.is_some()
    }

    pub fn status(&self, id: NodeId) -> Status {
        self.node(id).core.as_ref().expect("a node that is up").status()
    }

    pub fn core(&self, id: NodeId) -> Option<&dyn Protocol> {
        self.node(id).core.as_deref()
    }

    pub fn now_ms(&self, id: NodeId) -> u64 {
        self.node(id).now_ms
    }

    pub fn applied(&self, id: NodeId) -> Index {
        self.node(id).requests.ledger.applied()
    }

    /// The requests that a node delivered, in order: no no-ops, and none twice.
    pub fn delivered(&self, id: NodeId) -> Vec<Entry> {
        let node = self.node(id);
        let entries = node.seen.range(..=node.requests.ledger.applied()).map(|(_, entry)| entry);
        let is_first =
            |entry: &&Entry| node.requests.ledger.lookup(entry.command.request) == Some(entry.index);
        entries.filter(is_first).cloned().collect()
    }

    pub fn requests(&self, id: NodeId) -> &Requests {
        &self.node(id).requests
    }

    /// How many writes wait to be flushed.
    pub fn unflushed(&self, id: NodeId) -> usize {
        self.node(id).unflushed.len()
    }

    /// What is durable on a node.
    pub fn disk(&self, id: NodeId) -> (HardState, Vec<Entry>) {
        let disk = &self.node(id).disk;
        (disk.hard_state, disk.entries.values().cloned().collect())
    }

    /// What happened so far.
    pub fn reached(&self) -> Reached {
        let chosen = self.checker.chosen().len() as u64;
        let up = self.nodes.values().filter_map(|node| node.core.as_ref());
        let ignored = self.reached.ignored + up.map(|core| core.status().ignored).sum::<u64>();
        Reached { chosen, repeats: self.checker.repeats, ignored, ..self.reached }
    }

    /// Writes a line for the reader, if that much detail is wanted.
    pub fn say(&mut self, at_least: Detail, line: impl FnOnce() -> String) {
        if self.detail >= at_least {
            self.out.push_str(&line());
            self.out.push('\n');
        }
    }

    fn trace(&mut self, id: NodeId, what: impl FnOnce() -> What) {
        let now_ms = self.node(id).now_ms;
        if let Some(tracer) = &mut self.tracer {
            tracer.begin(now_ms);
            tracer.record(id, what());
        }
    }

    // ---- how a batch is carried out ----

    fn turn(&mut self, id: NodeId, words: &str, inputs: Vec<Input>) -> Batch {
        let mut batch = Batch::default();
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        if let Some(tracer) = &mut self.tracer {
            tracer.begin(node.now_ms);
            tracer.inputs(id, &inputs);
        }
        let core = node.core.as_mut().expect("a node that is up");
        for input in inputs {
            core.step(input, &mut batch);
        }
        let status = core.status();
        if let Some(tracer) = &mut self.tracer {
            tracer.turned(id, &batch, &status);
        }
        let Status { compacted, chosen, last, .. } = status;
        assert!(compacted <= chosen && chosen <= last, "{compacted} <= {chosen} <= {last}");
        self.count(id, &batch.events);
        self.describe(id, words, &batch);
        self.carry_out(id, batch.clone());
        batch
    }

    fn count(&mut self, id: NodeId, events: &[Event]) {
        for event in events {
            match event {
                Event::Leading { ballot, adopted, holes } => {
                    self.checker.leads(id, *ballot);
                    self.reached.elections += 1;
                    self.reached.adopted += adopted;
                    self.reached.holes += holes;
                }
                Event::SteppedDown { .. } => self.reached.stepped_down += 1,
                Event::CatchingUp { .. } => self.reached.catch_ups += 1,
                Event::Truncating { .. } => self.reached.truncations += 1,
                Event::HandingOver { .. } => self.reached.transfers += 1,
                Event::Preparing { handed_by: Some(_), .. } => self.reached.taken_over += 1,
                Event::KeptLeading { .. } => self.reached.kept += 1,
                _ => {}
            }
        }
    }

    fn describe(&mut self, id: NodeId, words: &str, batch: &Batch) {
        match self.detail {
            Detail::Nothing => {}
            Detail::Brief => {
                for event in &batch.events {
                    let _ = writeln!(self.out, "{id}: {event}");
                }
            }
            Detail::Full if batch.is_empty() && words.starts_with("tick") => {}
            Detail::Full => {
                let _ = writeln!(self.out, "{id} ← {words}");
                for line in batch.to_string().lines() {
                    let _ = writeln!(self.out, "  {line}");
                }
            }
        }
    }

    fn carry_out(&mut self, id: NodeId, batch: Batch) {
        let Batch { early, hard_state, truncate, entries, messages, pages, reads, chosen, .. } = batch;
        for ReadIndex { id: read, index } in reads {
            let floor = self.asked[read as usize - 1];
            assert!(index >= floor, "read {read} from {index}, and {floor} was chosen before it");
            self.reached.reads += 1;
        }
        for message in &early {
            self.checker.early(message);
        }
        self.post(id, early, true);
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        if let Some(first) = truncate {
            node.seen.split_off(&first);
        }
        for entry in &entries {
            node.seen.insert(entry.index, entry.clone());
        }
        if hard_state.is_some() || truncate.is_some() || !entries.is_empty() || !messages.is_empty() {
            node.unflushed.push_back(Unflushed { hard_state, truncate, entries, messages });
        }
        self.reached.pages += pages.len() as u64;
        let learns = pages.into_iter().map(|page| self.read_page(id, page)).collect();
        self.post(id, learns, true);
        if let Some(chosen) = chosen {
            self.deliver_entries(id, chosen);
        }
    }

    fn post(&mut self, id: NodeId, messages: Vec<Message>, early: bool) {
        let incarnation = self.node(id).incarnation;
        for message in messages {
            assert_eq!(message.from, id, "another node's message: {message}");
            self.checker.sent(&message, incarnation);
            if let Some(tracer) = &mut self.tracer {
                tracer.sent(&message, early);
            }
            self.flight.push(message);
        }
    }

    /// The entries a peer asked for, as far as a page holds them.
    fn read_page(&self, id: NodeId, page: Page) -> Message {
        let mut bytes = 0;
        let held = self.node(id).seen.range(page.first..=page.chosen).map(|(_, entry)| entry.clone());
        let fits = held.take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.command.cost_bytes();
            first || bytes <= MAX_PAGE_BYTES
        });
        let body = ClusterBody::Learn { chosen: page.chosen, entries: fits.collect() };
        Message { from: id, to: page.to, body: body.into() }
    }

    fn deliver_entries(&mut self, id: NodeId, chosen: Index) {
        while self.node(id).requests.ledger.applied() < chosen {
            let index = self.node(id).requests.ledger.applied() + 1;
            let node = self.nodes.get_mut(&id).expect("a node of the cluster");
            let entry = node.seen.get(&index).unwrap_or_else(|| panic!("{id}: {index} is chosen, not held"));
            self.checker.believed(id, entry);
            let counts = node.requests.deliver(entry, &mut vec![]);
            self.checker.delivered(id, entry, counts);
            let Entry { command, .. } = entry;
            if self.detail > Detail::Nothing || self.tracer.is_some() {
                let repeat = node.requests.ledger.lookup(command.request).filter(|first| *first < index);
                let word = match repeat {
                    Some(first) => format!("a no-op, {command} was delivered at {first}"),
                    None => command.to_string(),
                };
                if self.detail > Detail::Nothing {
                    let _ = writeln!(self.out, "{id} delivers {index}: {word}");
                }
                if let Some(tracer) = &mut self.tracer {
                    tracer.delivered(id, entry, word);
                }
            }
        }
    }

    fn start(&mut self, id: NodeId, highest_round: Round) {
        let Shape { protocol, nodes, election_ms, heartbeat_ms, window_entries, window_bytes, seed } =
            self.shape;
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        assert!(node.core.is_none(), "node {id} is up");
        node.incarnation += 1;
        let config = Config {
            node: id,
            voters: Voters::new((1..=nodes).collect()),
            election_ms,
            heartbeat_ms,
            window_entries,
            window_bytes,
            seed: seed.wrapping_add(1000 * id + node.incarnation),
        };
        let disk = &node.disk;
        let open = disk.entries.range(disk.hard_state.chosen + 1..);
        let restored = Restored {
            hard_state: disk.hard_state,
            chosen_ballot: disk
                .entries
                .get(&disk.hard_state.chosen)
                .map_or(Ballot::ZERO, |entry| entry.ballot),
            highest_round: disk.highest_round.max(highest_round),
            compacted: disk.compacted,
            entries: open.map(|(_, entry)| entry.clone()).collect(),
        };
        node.core = Some(protocol.core(config, restored));
        node.seen = disk.entries.clone();
        node.requests = Requests::default();
        let chosen = disk.hard_state.chosen;
        let (detail, tracer) = (mem::replace(&mut self.detail, Detail::Nothing), self.tracer.take());
        self.deliver_entries(id, chosen);
        (self.detail, self.tracer) = (detail, tracer);
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("a node of the cluster")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }
}

impl Node {
    fn new() -> Node {
        Node {
            core: None,
            incarnation: 0,
            now_ms: 0,
            disk: Disk::default(),
            unflushed: VecDeque::new(),
            seen: BTreeMap::new(),
            requests: Requests::default(),
        }
    }
}
