//! The rules that hold after every step, whatever happens: an observer that sees every message leave, every
//! write become durable and every watermark rise, and knows nothing of how the cores decide.
//!
//! It counts for itself: a command is chosen when a majority of nodes durably holds it under one ballot
//! ("Paxos Made Simple", section 2.2). A core that believes anything else fails here.

use std::collections::{BTreeMap, BTreeSet};

use spaxos::consensus::message::{Body, Message};
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index, Kind, NodeId, RequestId};

/// All that was ever observed, over all incarnations of all nodes.
pub struct Checker {
    quorum: usize,
    /// What anyone ever asked for.
    proposed: BTreeMap<RequestId, Vec<Command>>,
    /// What a ballot proposed at an index, as Accept messages said.
    accepts: BTreeMap<(Ballot, Index), Command>,
    /// What is durable under a ballot at an index, and on which nodes it ever was.
    votes: BTreeMap<(Index, Ballot), (Command, BTreeSet<NodeId>)>,
    chosen: BTreeMap<Index, Command>,
    /// What was delivered at an index: the request, or nothing (a no-op, a repeat).
    delivered: BTreeMap<Index, Option<RequestId>>,
    first_delivery: BTreeMap<RequestId, Index>,
    /// Who prepared a ballot, in which incarnation.
    prepared: BTreeMap<Ballot, u64>,
    /// How often a chosen request was delivered as a no-op, being delivered before.
    pub repeats: u64,
}

impl Checker {
    pub fn new(nodes: usize) -> Checker {
        Checker {
            quorum: nodes / 2 + 1,
            proposed: BTreeMap::new(),
            accepts: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            delivered: BTreeMap::new(),
            first_delivery: BTreeMap::new(),
            prepared: BTreeMap::new(),
            repeats: 0,
        }
    }

    /// What is chosen by the observer's own count, which may be ahead of every node.
    pub fn chosen(&self) -> &BTreeMap<Index, Command> {
        &self.chosen
    }

    pub fn propose(&mut self, command: &Command) {
        self.proposed.entry(command.request).or_default().push(command.clone());
    }

    /// Early messages promise nothing and never go to the node itself.
    pub fn early(&mut self, message: &Message) {
        let Message { from, to, body } = message;
        assert_ne!(from, to, "a message to oneself left before the write: {message}");
        let promises = matches!(body, Body::Prepare { .. } | Body::Promise { .. } | Body::Accepted { .. });
        assert!(!promises, "a message that promises left before the write: {message}");
    }

    /// One ballot proposes one command at an index, and is prepared by one incarnation (known bug 4).
    pub fn sent(&mut self, message: &Message, incarnation: u64) {
        match &message.body {
            Body::Accept { ballot, entries, .. } => {
                for entry in entries {
                    let key = (*ballot, entry.index);
                    let first = self.accepts.entry(key).or_insert_with(|| entry.command.clone());
                    assert_eq!(*first, entry.command, "ballot {ballot} proposed two at {}", entry.index);
                }
            }
            Body::Prepare { ballot, .. } => {
                let first = *self.prepared.entry(*ballot).or_insert(incarnation);
                assert_eq!(first, incarnation, "ballot {ballot} was used by two incarnations");
            }
            _ => {}
        }
    }

    /// The hard state on a disk never regresses (known bugs 1 and 3), and no entry below it is chosen yet
    /// missing.
    pub fn durable(&self, node: NodeId, before: HardState, after: HardState) {
        assert!(
            before.promised <= after.promised && before.chosen <= after.chosen,
            "node {node}: durable state went from {before} to {after}"
        );
    }

    /// An entry became durable: a vote.
    pub fn voted(&mut self, node: NodeId, entry: &Entry) {
        let Entry { index, ballot, command } = entry;
        let none = || (command.clone(), BTreeSet::new());
        let (voted, nodes) = self.votes.entry((*index, *ballot)).or_insert_with(none);
        assert_eq!(voted, command, "two commands durable under ballot {ballot} at {index}");
        nodes.insert(node);
        if nodes.len() >= self.quorum {
            let chosen = self.chosen.entry(*index).or_insert_with(|| command.clone());
            assert_eq!(chosen, command, "two commands chosen at {index}, the second under {ballot}");
        }
    }

    /// A node believes an entry to be chosen: then it is, and somebody proposed it.
    pub fn believed(&self, node: NodeId, entry: &Entry) {
        let chosen = self.chosen.get(&entry.index);
        assert_eq!(
            chosen,
            Some(&entry.command),
            "node {node} takes {entry} for chosen; by count of what is durable it is {chosen:?}"
        );
        let asked = self.proposed.get(&entry.command.request);
        let valid = match entry.command.kind {
            Kind::Noop => entry.command.request == RequestId::NONE && entry.command.payload.is_empty(),
            _ => asked.is_some_and(|asked| asked.contains(&entry.command)),
        };
        assert!(valid, "nobody proposed {entry}");
    }

    /// All nodes deliver the same at an index, and a request once (known bug 16).
    pub fn delivered(&mut self, node: NodeId, entry: &Entry, counts: bool) {
        let what = counts.then_some(entry.command.request);
        if !counts && entry.command.kind != Kind::Noop && !self.delivered.contains_key(&entry.index) {
            self.repeats += 1;
        }
        let first = *self.delivered.entry(entry.index).or_insert(what);
        assert_eq!(first, what, "node {node} delivers {entry} otherwise than the first who delivered it");
        if let Some(request) = what {
            let first = *self.first_delivery.entry(request).or_insert(entry.index);
            assert_eq!(first, entry.index, "node {node}: request {request} is delivered twice");
        }
    }
}
