//! The rules that hold after every step, whatever happens: an observer that sees every message leave, every
//! write become durable, every watermark rise and every delivery, and knows nothing of how the cores decide.
//!
//! It counts for itself: a command is chosen when a majority of nodes durably holds it under one ballot
//! ("Paxos Made Simple", section 2.2). A core that believes anything else fails here. Each call costs in
//! proportion to what it is told of.
//!
//! Also used without the simulator, by golden scripts and random schedules over bare cores.

use std::collections::BTreeMap;

use crate::consensus::message::{Body, Message};
use crate::consensus::quorum::Set;
use crate::consensus::types::{Ballot, Command, Entry, HardState, Index, Kind, NodeId, RequestId};

use super::invariant::{Shown, hold};

/// All that was ever observed, over all incarnations of all nodes.
pub struct Checker {
    quorum: usize,
    /// What anyone ever asked for.
    proposed: BTreeMap<RequestId, Vec<Command>>,
    /// What a ballot proposed at an index, as Accept messages said.
    accepts: BTreeMap<(Index, Ballot), Command>,
    /// What is durable under a ballot at an index, and on which nodes it ever was.
    votes: BTreeMap<(Index, Ballot), (Command, Set)>,
    chosen: BTreeMap<Index, Command>,
    /// The ballot by which an index was first seen to be chosen.
    chosen_under: BTreeMap<Index, Ballot>,
    /// What was delivered from index 1 on; `None`: a no-op, or a request that was delivered before.
    delivered: Vec<Option<Command>>,
    first_delivery: BTreeMap<RequestId, Index>,
    /// Who prepared a ballot, in which incarnation.
    prepared: BTreeMap<Ballot, u64>,
    /// Who promised a ballot, all that it had accepted told.
    promisers: BTreeMap<Ballot, Set>,
    /// How often a chosen request was delivered as a no-op, being delivered before.
    pub repeats: u64,
}

impl Checker {
    /// For a cluster of nodes 1 to `nodes`.
    pub fn new(nodes: usize) -> Checker {
        Checker {
            quorum: nodes / 2 + 1,
            proposed: BTreeMap::new(),
            accepts: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            chosen_under: BTreeMap::new(),
            delivered: Vec::new(),
            first_delivery: BTreeMap::new(),
            prepared: BTreeMap::new(),
            promisers: BTreeMap::new(),
            repeats: 0,
        }
    }

    /// What is chosen by the observer's own count, which may be ahead of every node.
    pub fn chosen(&self) -> &BTreeMap<Index, Command> {
        &self.chosen
    }

    /// What was delivered by anyone, from index 1 on; `None`: a no-op, or a request that was delivered before.
    pub fn log(&self) -> &[Option<Command>] {
        &self.delivered
    }

    /// Where a request was delivered first.
    pub fn delivery(&self, request: RequestId) -> Option<Index> {
        self.first_delivery.get(&request).copied()
    }

    /// A client asks for this.
    pub fn propose(&mut self, command: &Command) {
        let asked = self.proposed.entry(command.request).or_default();
        if !asked.contains(command) {
            asked.push(command.clone());
        }
    }

    /// Early messages promise nothing and never go to the node itself.
    pub fn early(&mut self, message: &Message) {
        let Message { from, to, body } = message;
        hold!(WriteFirst, from != to, "a message to oneself left before the write: {message}");
        let promises = matches!(body, Body::Prepare { .. } | Body::Promise { .. } | Body::Accepted { .. });
        hold!(WriteFirst, !promises, "a message that promises left before the write: {message}");
    }

    /// One ballot proposes one command at an index, and is prepared by one incarnation (known bug 4).
    pub fn sent(&mut self, message: &Message, incarnation: u64) {
        match &message.body {
            Body::Accept { ballot, entries, .. } => {
                for entry in entries {
                    self.proposes(*ballot, entry);
                }
            }
            Body::Prepare { ballot, .. } => {
                let first = *self.prepared.entry(*ballot).or_insert(incarnation);
                hold!(
                    Ballot,
                    first == incarnation,
                    "ballot {ballot} was used by the incarnations {first} and {incarnation}"
                );
            }
            Body::Promise { ballot, more: false, .. } => {
                self.promisers.entry(*ballot).or_default().insert(message.from as usize - 1);
            }
            _ => {}
        }
    }

    /// One command an index and ballot; and once a value is chosen, every higher ballot proposes that value (P2b of
    /// "Paxos Made Simple"): an unsafe proposal is seen before anybody accepts it.
    fn proposes(&mut self, ballot: Ballot, entry: &Entry) {
        let Entry { index, command, .. } = entry;
        let first = self.accepts.entry((*index, ballot)).or_insert_with(|| command.clone());
        hold!(Ballot, first == command, "ballot {ballot} proposed {first} at {index}, and then {command}");
        if let (Some(under), Some(chosen)) = (self.chosen_under.get(index), self.chosen.get(index)) {
            hold!(
                Proposal,
                ballot < *under || chosen == command,
                "at {index} {chosen} was chosen under {under}, and {ballot} proposes {command}"
            );
        }
    }

    /// A node begins to lead: a majority said, behind their writes, that they promised (known bugs 9 and 24).
    pub fn leads(&self, node: NodeId, ballot: Ballot) {
        let promisers = self.promisers.get(&ballot).map_or(0, |nodes| nodes.len());
        hold!(
            Majority,
            promisers >= self.quorum && ballot.node == node,
            "node {node} leads with ballot {ballot}, which {promisers} nodes promised"
        );
    }

    /// The hard state on a disk never regresses (known bugs 1 and 3).
    pub fn durable(&self, node: NodeId, before: HardState, after: HardState) {
        hold!(
            Promise,
            before.promised <= after.promised && before.chosen <= after.chosen,
            "node {node}: durable state went from {before} to {after}"
        );
    }

    /// An entry became durable: a vote.
    pub fn voted(&mut self, node: NodeId, entry: &Entry) {
        let Entry { index, ballot, command } = entry;
        let none = || (command.clone(), Set::default());
        let (voted, nodes) = self.votes.entry((*index, *ballot)).or_insert_with(none);
        hold!(
            Ballot,
            voted == command,
            "under ballot {ballot} there are durable at {index}: {voted}, and on node {node} {command}"
        );
        nodes.insert(node as usize - 1);
        if nodes.len() < self.quorum {
            return;
        }
        let chosen = self.chosen.entry(*index).or_insert_with(|| command.clone());
        hold!(Chosen, chosen == command, "at {index} {chosen} was chosen, and then {command} under {ballot}");
        let under = *self.chosen_under.entry(*index).or_insert(*ballot);
        for ((_, higher), proposed) in self.accepts.range((*index, under)..(*index + 1, Ballot::ZERO)) {
            hold!(
                Proposal,
                proposed == command,
                "at {index} {command} is chosen under {under}, and {higher} proposed {proposed}"
            );
        }
    }

    /// A node believes an entry to be chosen: then it is, and somebody proposed it.
    pub fn believed(&self, node: NodeId, entry: &Entry) {
        let chosen = self.chosen.get(&entry.index);
        hold!(
            Chosen,
            chosen == Some(&entry.command),
            "node {node} takes {entry} for chosen; by count of what is durable it is {}",
            Shown(chosen)
        );
        let asked = self.proposed.get(&entry.command.request);
        let valid = match entry.command.kind {
            Kind::Noop => entry.command.request == RequestId::NONE && entry.command.payload.is_empty(),
            _ => asked.is_some_and(|asked| asked.contains(&entry.command)),
        };
        hold!(
            Validity,
            valid,
            "nobody proposed {entry}; under its id were proposed {:?}",
            asked.into_iter().flatten().map(Command::to_string).collect::<Vec<_>>()
        );
    }

    /// All nodes deliver the same at an index, and a request once (known bug 16).
    pub fn delivered(&mut self, node: NodeId, entry: &Entry, counts: bool) {
        let what = counts.then_some(&entry.command);
        let place = entry.index as usize - 1;
        match self.delivered.get(place) {
            Some(first) => hold!(
                Agreement,
                first.as_ref() == what,
                "node {node} delivers {entry} (counts: {counts}), another node delivered {} there",
                Shown(first.as_ref())
            ),
            None => {
                let last = self.delivered.len();
                hold!(Order, place == last, "node {node} delivers {entry}, and nobody has {}", last + 1);
                self.repeats += u64::from(!counts && entry.command.kind != Kind::Noop);
                self.delivered.push(what.cloned());
            }
        }
        if let Some(command) = what {
            let request = command.request;
            let first = *self.first_delivery.entry(request).or_insert(entry.index);
            hold!(
                OnceOnly,
                first == entry.index,
                "node {node} delivers request {request} at {first} and at {}",
                entry.index
            );
        }
    }
}
