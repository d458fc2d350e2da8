//! A cluster of [`pipeline nodes`](super::pipeline_node), and what must hold after each of their steps, whatever
//! happens to them: the rules of the [`Checker`], and those of what clients are told and shown. Left out: what
//! happens when (`tests/pipeline_random.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use spaxos::consensus::batch::Event;
use spaxos::consensus::message::{Body, Message};
use spaxos::consensus::paxos::Config;
use spaxos::consensus::protocol::{Proposal, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Command, Entry, HardState, Index, Kind, NodeId, RequestId};
use spaxos::pipeline::recent::Recent;
use spaxos::pipeline::requests::{Answer, Digest, Requests, Ticket};
use spaxos::pipeline::state_machine::Turn;
use spaxos::pipeline::storage::read_chosen;
use spaxos::store::engine::EngineError;
use spaxos::store::{Binding, LogReader, ReadError, Recovered};

use super::checker::Checker;
use super::cluster::Shape;
use super::disk::Fault;
use super::pipeline_node::{Node, Running, Stored};

/// A peer's messages that wait for a node at most; beyond, they are dropped.
const PEERS: usize = 40;

pub struct Pipelines {
    shape: Shape,
    nodes: BTreeMap<NodeId, Node>,
    /// Messages between nodes, in the order in which they were sent.
    pub flight: Vec<Message>,
    /// Links that lose every message, from and to.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    checker: Checker,
    /// Clients that wait for an answer.
    waiting: BTreeMap<Ticket, Waiter>,
    tickets: u64,
    /// What was delivered at an index for the first time, on whichever node; `None`: a no-op or a repeat.
    log: BTreeMap<Index, Option<Command>>,
    pub reached: Reached,
    /// Each step is printed.
    pub trace: bool,
}

/// A client's request.
#[derive(Clone)]
struct Waiter {
    node: NodeId,
    request: RequestId,
    /// What it proposed; `None` if it only waits.
    payload: Option<Bytes>,
}

/// What a reader of a node's log holds while other threads of the node go on.
pub struct Reading {
    pub recent: Arc<Recent>,
    reader: LogReader,
    requests: Arc<Mutex<Requests>>,
    /// Up to it; `None`: whatever is chosen.
    delivered: Option<Index>,
}

impl Reading {
    /// To be called within [`Recent::read_chosen`].
    pub fn read(&self, first: Index, chosen: Index) -> Result<Vec<Entry>, ReadError> {
        let last = self.delivered.map_or(chosen, |delivered| delivered.min(chosen));
        read_chosen(first.min(last + 1), last, 2000, &self.recent, &self.reader)
    }
}

/// How often what happened, for a test that wants to know whether it reaches anything.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reached {
    pub delivered: u64,
    pub repeats: u64,
    pub elections: u64,
    pub crashes: u64,
    pub full: u64,
    pub rebuilds: u64,
    /// Entries of a failed write that were found on the disk.
    pub found: u64,
    pub answers: u64,
    pub other_values: u64,
    pub read: u64,
    /// Reads that a rebuild overtook.
    pub overtaken: u64,
    /// Pages sent to those who lag.
    pub pages: u64,
    pub ignored: u64,
}

impl Pipelines {
    pub fn new(shape: Shape, recent_bytes: usize) -> Pipelines {
        let Shape { nodes, election_ms, heartbeat_ms, window_entries, window_bytes, seed } = shape;
        let node = |id: NodeId| {
            let voters = Voters::new((1..=nodes).collect());
            let seed = seed.wrapping_mul(1000).wrapping_add(id << 32);
            let config =
                Config { node: id, voters, election_ms, heartbeat_ms, window_entries, window_bytes, seed };
            (id, Node::new(config, recent_bytes))
        };
        let mut cluster = Pipelines {
            shape,
            nodes: (1..=nodes).map(node).collect(),
            flight: Vec::new(),
            cut: BTreeSet::new(),
            checker: Checker::new(nodes as usize),
            waiting: BTreeMap::new(),
            tickets: 0,
            log: BTreeMap::new(),
            reached: Reached::default(),
            trace: false,
        };
        cluster.ids().for_each(|id| cluster.start(id));
        cluster
    }

    // ---- steps ----

    /// Time passes for a node, all of it between two ticks.
    pub fn tick(&mut self, id: NodeId, ms: u64) {
        let node = self.node_mut(id);
        node.now_ms += ms;
        let now_ms = node.now_ms;
        let Some(running) = node.running.as_mut().filter(|running| !running.is_blocked()) else { return };
        let turn = running.tick(now_ms);
        self.hand_on(id, turn);
    }

    /// The state machine takes some of what waits, for [`Pipelines::turn`].
    pub fn gather(&mut self, id: NodeId, some: impl FnMut(usize) -> usize) {
        if let Some(running) = self.node_mut(id).running.as_mut() {
            running.gather(some);
        }
    }

    /// The state machine's turn with what it took.
    pub fn turn(&mut self, id: NodeId) {
        let Some(running) = self.node_mut(id).running.as_mut().filter(|it| !it.is_blocked()) else { return };
        let turn = running.turn();
        self.hand_on(id, turn);
    }

    /// Storage writes the oldest `count` works.
    pub fn store(&mut self, id: NodeId, count: usize, fault: Option<Fault>) {
        match self.node_mut(id).store(count, fault) {
            Stored::Nothing => {}
            Stored::Full => {
                self.say(|| format!("{id} has no room: {fault:?}"));
                self.reached.full += 1;
            }
            Stored::Failed => self.crash(id),
            Stored::Durable(entries, durable) => {
                let running = self.running(id);
                let hard_state = running.store.hard_state();
                for entry in &entries {
                    let replaced = entries.iter().any(|other| other.index == entry.index && other != entry);
                    assert!(replaced || running.holds(entry), "{id} forwards, and does not hold {entry}");
                }
                let status = running.machine.status();
                let is_behind = hard_state.promised <= status.promised && hard_state.chosen <= status.chosen;
                assert!(
                    is_behind || running.is_to_be_rebuilt(),
                    "{id}: durable is {hard_state}, ahead of the core: {status:?}"
                );
                self.become_durable(id, hard_state, &entries);
                durable.messages.iter().for_each(|message| self.check_promise(id, message));
                self.check_sent(id, &durable.messages);
                self.say(|| format!("{id} stored {hard_state} {entries:?}"));
                self.running_mut(id).forward(durable);
            }
        }
    }

    /// Storage looks whether there is room on the disk again.
    pub fn retry(&mut self, id: NodeId, reopens: bool, writes: bool) {
        let Some((recovered, found)) = self.node_mut(id).retry(reopens, writes) else { return };
        self.say(|| format!("{id} has room again: {}", recovered.hard_state));
        self.recovered(id, &recovered, &found);
        self.reached.rebuilds += 1;
    }

    /// The network takes what waits for it.
    pub fn send(&mut self, id: NodeId, count: usize) {
        let Some(running) = self.node_mut(id).running.as_mut() else { return };
        let (sent, bound) = running.send(id, count);
        self.flight.extend(sent);
        self.node_mut(id).bound.extend(bound.iter().map(|binding| binding.node));
    }

    /// A message arrives, if its link and its receiver are up and there is room.
    pub fn arrive(&mut self, message: Message) {
        let lost = self.cut.contains(&(message.from, message.to));
        let running = self.node_mut(message.to).running.as_mut();
        if let Some(running) = running.filter(|running| !lost && running.peers.len() < PEERS) {
            running.peers.push_back(message);
        }
    }

    /// A peer says hello for the first time.
    pub fn bind(&mut self, id: NodeId, peer: NodeId) {
        let binding = Binding { node: peer, directory: u128::from(peer) };
        if let Some(running) = self.node_mut(id).running.as_mut() {
            running.bind(binding);
        }
    }

    /// The applier delivers some of what is chosen.
    pub fn apply(&mut self, id: NodeId) {
        let Some(running) = self.node_mut(id).running.as_mut() else { return };
        let mut last = running.applier.applied();
        let delivered = running.applier.turn().unwrap_or_else(|error| panic!("{id} delivers: {error}"));
        let applied = running.applier.applied();
        for (entry, counts) in delivered.entries {
            assert_eq!(entry.index, last + 1, "{id} delivers {entry} after {last}");
            last = entry.index;
            self.say(|| format!("{id} delivers {entry}: {counts}"));
            self.checker.believed(id, &entry);
            self.checker.delivered(id, &entry, counts);
            self.log.entry(entry.index).or_insert(counts.then_some(entry.command));
        }
        assert_eq!(applied, last, "{id} delivered up to {last} and says {applied}");
        delivered.answers.into_iter().for_each(|(ticket, answer)| self.answer(ticket, answer));
    }

    /// A client of a node proposes, as `node/service.rs` takes it; without a value it only waits.
    pub fn propose(&mut self, id: NodeId, reqid: u64, payload: Option<Bytes>, ttl_ms: u64) -> Option<Ticket> {
        let ticket = Ticket { connection: id, sequence: self.tickets };
        self.tickets += 1;
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        let deadline_ms = node.now_ms + ttl_ms;
        let running = node.running.as_mut().filter(|running| !running.full)?;
        let command = payload.clone().map(|payload| Command::value(reqid, id, payload));
        let request = RequestId::user(reqid);
        let digest = command.as_ref().map(Digest::of);
        let answer = running.requests.lock().register(request, digest, ticket);
        self.waiting.insert(ticket, Waiter { node: id, request, payload });
        match (answer, command) {
            (Some(answer), _) => self.answer(ticket, answer),
            (None, None) => {}
            (None, Some(command)) => {
                self.checker.propose(&command);
                let queued = running.propose(Proposal { command, deadline_ms });
                if !queued {
                    self.forget(ticket);
                }
            }
        }
        Some(ticket)
    }

    /// The client that has waited longest is out of time.
    pub fn forget_oldest(&mut self) {
        let oldest = self.waiting.keys().min_by_key(|ticket| ticket.sequence).copied();
        oldest.into_iter().for_each(|ticket| self.forget(ticket));
    }

    fn forget(&mut self, ticket: Ticket) {
        let Waiter { node, request, .. } = self.waiting.remove(&ticket).expect("it waits");
        let was = self.running(node).requests.lock().forget(request, ticket);
        assert!(was, "{ticket:?} of node {node} was not answered, and is not found waiting for {request}");
    }

    /// Begins a read of the log: by a client, of what is delivered, or by whoever wants what is chosen.
    pub fn reading(&self, id: NodeId, delivered: bool) -> Option<Reading> {
        let Running { recent, reader, requests, applier, .. } = self.node(id).running.as_ref()?;
        let delivered = delivered.then(|| applier.applied());
        Some(Reading {
            recent: recent.clone(),
            reader: reader.clone(),
            requests: requests.clone(),
            delivered,
        })
    }

    /// What was read is what is chosen, and a client was shown what was delivered.
    pub fn check_read(&mut self, id: NodeId, reading: &Reading, read: Option<Result<Vec<Entry>, ReadError>>) {
        let entries = match read {
            Some(Ok(entries)) => entries,
            Some(Err(ReadError::Unreadable { why: EngineError::Closed, .. })) => return,
            Some(Err(error)) => panic!("{id} reads: {error}"),
            None => return self.reached.overtaken += 1,
        };
        for entry in entries {
            self.checker.believed(id, &entry);
            let command = (!reading.requests.lock().is_noop(&entry)).then_some(&entry.command);
            let logged = self.log.get(&entry.index).map(Option::as_ref);
            let is_true = reading.delivered.is_none() || logged == Some(command);
            assert!(is_true, "{id} shows {entry}, delivered was {logged:?}");
            self.reached.read += 1;
        }
    }

    pub fn crash(&mut self, id: NodeId) {
        self.say(|| format!("{id} crashes"));
        if let Some(running) = &self.node(id).running {
            self.reached.ignored += running.machine.status().ignored;
            self.reached.crashes += 1;
        }
        self.node_mut(id).crash();
        self.waiting.retain(|_, waiter| waiter.node != id);
    }

    pub fn start(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        assert!(node.running.is_none(), "node {id} runs");
        let (recovered, found) = node.start();
        self.say(|| format!("{id} starts: {}", recovered.hard_state));
        self.recovered(id, &recovered, &found);
    }

    // ---- what there is to see ----

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.shape.nodes
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.node(id).running.is_some()
    }

    pub fn is_full(&self, id: NodeId) -> bool {
        self.node(id).running.as_ref().is_some_and(|running| running.full)
    }

    pub fn is_idle(&self, id: NodeId) -> bool {
        self.node(id).running.as_ref().is_none_or(Running::is_idle)
    }

    pub fn leads(&self, id: NodeId) -> bool {
        let running = self.node(id).running.as_ref();
        running.is_some_and(|running| running.machine.status().role == Role::Leader)
    }

    /// Up to it a running node delivered everything.
    pub fn applied(&self, id: NodeId) -> Index {
        self.running(id).applier.applied()
    }

    /// The highest index that anyone delivered, or knows or counts to be chosen.
    pub fn last(&self) -> Index {
        let counted = self.checker.chosen().keys().next_back().copied().unwrap_or(0);
        let known = self.nodes.values().filter_map(|node| node.running.as_ref());
        known.map(|running| running.recent.chosen()).max().unwrap_or(0).max(counted)
    }

    /// Up to it a node knows all to be chosen.
    pub fn known(&self, id: NodeId) -> Index {
        self.node(id).running.as_ref().map_or(0, |running| running.recent.chosen())
    }

    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    pub fn pending(&self, id: NodeId) -> u64 {
        self.running(id).machine.status().pending
    }

    /// Every node tells the same of every request that was ever delivered.
    pub fn check_requests(&self) {
        for (index, command) in &self.log {
            let Some(command) = command else { continue };
            for id in self.ids() {
                let told = self.running(id).requests.lock().lookup(command.request);
                assert_eq!(told, Some(*index), "{id} on the request {}", command.request);
            }
        }
    }

    pub fn status(&self) -> String {
        let up = self.nodes.values().filter_map(|node| node.running.as_ref());
        let line = |running: &Running| {
            format!("{:?} applied {}\n", running.machine.status(), running.applier.applied())
        };
        up.map(line).collect()
    }

    // ---- rules ----

    fn hand_on(&mut self, id: NodeId, mut turn: Turn) {
        self.say(|| format!("{id}: {turn:?}"));
        let has_work = turn.work.is_some();
        let running = self.running_mut(id);
        running.hand_on(&mut turn);
        let (status, chosen) = (running.machine.status(), running.recent.chosen());
        assert_eq!(status.chosen, chosen, "{id}: the core's watermark and the one that readers see");
        assert!(turn.chosen.is_none_or(|raised| raised == chosen), "{id}: {:?}, {chosen}", turn.chosen);
        for event in &turn.events {
            self.reached.elections += u64::from(matches!(event, Event::Leading { .. }));
        }
        turn.early.iter().for_each(|message| self.checker.early(message));
        self.check_sent(id, &turn.early);
        if has_work || turn.chosen.is_some() {
            let reading = self.reading(id, false).expect("a node that runs");
            let first = chosen.saturating_sub(4).max(1);
            let read = reading.recent.read_chosen(|chosen| reading.read(first, chosen));
            self.check_read(id, &reading, read);
        }
    }

    fn check_sent(&mut self, id: NodeId, messages: &[Message]) {
        let incarnation = self.running(id).incarnation();
        for message in messages {
            assert_eq!(message.from, id, "a message of another: {message}");
            self.checker.sent(message, incarnation);
            if let Body::Learn { entries, .. } = &message.body {
                entries.iter().for_each(|entry| self.checker.believed(id, entry));
                self.reached.pages += 1;
            }
        }
    }

    /// What a message promises is durable when it leaves storage: the ballot, and what was accepted under it (what
    /// is known to be chosen may be held under another).
    fn check_promise(&self, id: NodeId, message: &Message) {
        let running = self.running(id);
        let (ballot, ranges) = match &message.body {
            Body::Prepare { ballot, .. } | Body::Promise { ballot, .. } => (*ballot, &[][..]),
            Body::Accepted { ballot, ranges, .. } => (*ballot, &ranges[..]),
            _ => return,
        };
        let promised = running.store.hard_state().promised;
        assert!(promised >= ballot, "{id} has promised {promised} durably, and sends {message}");
        for index in ranges.iter().flat_map(|range| range.first..=range.last) {
            let held = running.store.reader().read(index, index, 0).ok().map(|read| read[0].ballot);
            let known = held.is_some() && index <= running.recent.chosen();
            assert!(
                known || held >= Some(ballot),
                "{id} holds {index} durably by {held:?}, and sends {message}"
            );
        }
    }

    fn become_durable(&mut self, id: NodeId, hard_state: HardState, entries: &[Entry]) {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        self.checker.durable(id, node.hard_state, hard_state);
        node.hard_state = hard_state;
        entries.iter().for_each(|entry| self.checker.voted(id, entry));
    }

    fn recovered(&mut self, id: NodeId, recovered: &Recovered, found: &[Entry]) {
        self.reached.found += found.len() as u64;
        self.become_durable(id, recovered.hard_state, found);
        for peer in &self.node(id).bound {
            let directory = recovered.bindings.get(peer);
            assert_eq!(directory, Some(&u128::from(*peer)), "{id} was told that {peer} is bound");
        }
    }

    /// A client is told the truth, and once.
    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let waiter = self.waiting.remove(&ticket);
        let Waiter { request, payload, .. } = waiter.unwrap_or_else(|| panic!("{ticket:?} hears {answer:?}"));
        let delivered = self.log.get(&answer.index()).cloned().flatten();
        let delivered = delivered.filter(|command| command.request == request && command.kind == Kind::Value);
        let delivered =
            delivered.unwrap_or_else(|| panic!("{request} is not what was delivered: {answer:?}"));
        let same = payload.is_none_or(|payload| payload == delivered.payload);
        assert_eq!(same, matches!(answer, Answer::Delivered(_)), "{request}: {answer:?} of {delivered}");
        self.reached.answers += 1;
        self.reached.other_values += u64::from(!same);
    }

    /// What was reached so far.
    pub fn reached(&self) -> Reached {
        let up = self.nodes.values().filter_map(|node| node.running.as_ref());
        let ignored = up.map(|running| running.machine.status().ignored).sum::<u64>() + self.reached.ignored;
        Reached { delivered: self.log.len() as u64, repeats: self.checker.repeats, ignored, ..self.reached }
    }

    fn say(&self, line: impl FnOnce() -> String) {
        if self.trace {
            println!("{}", line());
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("a node of the cluster")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }

    fn running(&self, id: NodeId) -> &Running {
        self.node(id).running.as_ref().expect("a node that runs")
    }

    fn running_mut(&mut self, id: NodeId) -> &mut Running {
        self.node_mut(id).running.as_mut().expect("a node that runs")
    }
}
