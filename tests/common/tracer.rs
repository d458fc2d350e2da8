//! Writes down what a [`Cluster`](super::cluster::Cluster) does, as a trace that `spaxos trace` can draw.
//!
//! Messages in flight have no names there, so a message that arrives is the oldest one under way that says
//! the same. Clocks of the nodes differ; the time of an event is the highest clock that was seen.

use std::collections::{BTreeMap, BTreeSet};

use spaxos::consensus::batch::Batch;
use spaxos::consensus::message::Message;
use spaxos::consensus::protocol::{Input, Role, Status};
use spaxos::consensus::types::{Entry, HardState, NodeId, RequestId};
use spaxos::sim::trace::{MAX_EVENTS, Recorder, Trace, What, digest, name};

pub struct Tracer {
    recorder: Recorder,
    at_us: u64,
    step: u64,
    messages: u64,
    writes: u64,
    faults: u64,
    /// Faults up to this one are healed.
    healed: u64,
    under_way: Vec<(u64, Message)>,
    roles: BTreeMap<NodeId, Role>,
    /// Proposals of the clients of a node that are not answered yet.
    asked: BTreeSet<(NodeId, RequestId)>,
}

impl Tracer {
    pub fn new() -> Tracer {
        Tracer {
            recorder: Recorder::new(MAX_EVENTS),
            at_us: 0,
            step: 0,
            messages: 0,
            writes: 0,
            faults: 0,
            healed: 0,
            under_way: Vec::new(),
            roles: BTreeMap::new(),
            asked: BTreeSet::new(),
        }
    }

    pub fn into_trace(self, nodes: u64, election_ms: u64) -> Trace {
        let version = env!("CARGO_PKG_VERSION").to_string();
        Trace { version, nodes, election_ms, ..self.recorder.into_trace() }
    }

    /// What is recorded from now on belongs together.
    pub fn begin(&mut self, now_ms: u64) {
        self.at_us = self.at_us.max(now_ms * 1000);
        self.step += 1;
    }

    pub fn record(&mut self, node: NodeId, what: What) {
        self.recorder.record(self.at_us, self.step, node, what);
    }

    pub fn inputs(&mut self, node: NodeId, inputs: &[Input]) {
        for input in inputs {
            match input {
                Input::Tick { .. } => {}
                Input::Read { id } => {
                    self.record(node, What::Noted { text: format!("is asked for read {id}") })
                }
                Input::Transfer { to } => {
                    self.record(node, What::Noted { text: format!("is asked to hand over to node {to}") });
                }
                Input::MakeWay { to } => {
                    self.record(node, What::Noted { text: format!("is asked to make way to {to:?}") });
                }
                Input::Message(message) => {
                    let id = self.take(message);
                    let name = name(&message.clone().into()).into();
                    self.record(node, What::Received { id, from: message.from, name });
                }
                Input::Propose(proposals) => {
                    for proposal in proposals {
                        let (request, text) = (proposal.command.request, proposal.command.to_string());
                        self.asked.insert((node, request));
                        self.record(node, What::Proposed { client: node, request, text });
                    }
                }
            }
        }
    }

    /// What came of a turn, except for its messages.
    pub fn turned(&mut self, node: NodeId, batch: &Batch, status: &Status) {
        for event in &batch.events {
            self.record(node, What::Noted { text: event.to_string() });
        }
        if self.roles.insert(node, status.role) != Some(status.role) {
            let role = status.role.to_string().into();
            self.record(node, What::Role { role, ballot: status.promised });
        }
        let (entries, messages) = (batch.entries.len() as u64, batch.messages.len() as u64);
        if batch.must_write() || messages > 0 {
            self.record(node, What::Queued { entries, messages });
        }
        if let Some(index) = batch.chosen {
            self.record(node, What::Chosen { index });
        }
    }

    pub fn sent(&mut self, message: &Message, early: bool) {
        self.messages += 1;
        let said = message.clone().into();
        let (name, digest) = (name(&said).into(), digest(&said));
        let (id, text) = (self.messages, message.body.to_string());
        self.under_way.push((id, message.clone()));
        self.record(message.from, What::Sent { id, to: message.to, name, early, digest, text });
    }

    pub fn lost(&mut self, message: &Message, why: &'static str) {
        let id = self.take(message);
        self.record(message.to, What::Dropped { id, why: why.into() });
    }

    pub fn duplicated(&mut self, message: &Message) {
        let id = self.take(message);
        self.under_way.extend([(id, message.clone()), (id, message.clone())]);
        self.record(message.from, What::Duplicated { id });
    }

    /// A write that begins and ends at the same moment.
    pub fn wrote(&mut self, node: NodeId, works: u64, entries: &[Entry], hard_state: HardState) {
        self.writes += 1;
        let write = self.writes;
        let written: Vec<_> = entries.iter().map(|entry| format!(" {entry}")).collect();
        let (text, entries) = (format!("{hard_state}{}", written.concat()), entries.len() as u64);
        self.record(node, What::Writing { write, works, entries, text });
        let HardState { promised, chosen } = hard_state;
        self.record(node, What::Durable { write, promised, chosen, entries });
    }

    pub fn delivered(&mut self, node: NodeId, entry: &Entry, text: String) {
        let (index, request) = (entry.index, entry.command.request);
        self.record(node, What::Delivered { index, request, text });
        if self.asked.remove(&(node, request)) {
            let index = Some(index);
            self.record(node, What::Answered { client: node, request, index, text: String::new() });
        }
    }

    pub fn ended(&mut self, node: NodeId) {
        self.roles.remove(&node);
        self.asked.retain(|(asked, _)| *asked != node);
    }

    pub fn fault(&mut self, text: String) {
        self.faults += 1;
        self.record(0, What::Fault { fault: self.faults, text });
    }

    pub fn healed(&mut self) {
        for fault in std::mem::replace(&mut self.healed, self.faults) + 1..=self.faults {
            self.record(0, What::Healed { fault, text: "all links are good".into() });
        }
    }

    fn take(&mut self, message: &Message) -> u64 {
        let place = self.under_way.iter().position(|(_, other)| other == message);
        self.under_way.remove(place.unwrap_or_else(|| panic!("{message} is not under way"))).0
    }
}
