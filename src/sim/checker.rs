//! The rules that hold after every step, whatever happens: an observer that sees every message leave, every
//! write become durable, every watermark rise and every delivery, and knows nothing of how the cores decide.
//!
//! It does its own counting. Paxos: a command is chosen when a majority of nodes durably holds it under one
//! ballot ("Paxos Made Simple", section 2.2). Raft: an entry is chosen when a majority wrote it while in the
//! entry's own round, and with it all entries before it (thesis section 3.6.2): an entry that later leaders
//! put on a majority does not count. A core that believes anything else fails here. The cost of a call is in
//! proportion to what it is told, that of an election to the log.
//!
//! A request is delivered at most once *within the delivery window*: the last so many distinct delivered
//! requests, by index. One that left the window may be delivered again, and then must be on all nodes; one
//! that is in it must not, and is a no-op on all. Both are counted here from the deliveries alone.
//!
//! It is also used without the simulator, by golden scripts and random schedules over bare cores.

mod raft;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::consensus::message::{Body, Message, PaxosBody, RaftBody};
use crate::consensus::protocols::ProtocolName;
use crate::consensus::types::{Ballot, Command, Entry, HardState, Index, Kind, NodeId, RequestId};

use super::invariant::{Shown, hold};
use raft::RaftRules;

/// Everything observed so far, over all incarnations of all nodes.
pub struct Checker {
    quorum: usize,
    /// All commands that were ever proposed.
    proposed: BTreeMap<RequestId, Vec<Command>>,
    /// What a ballot proposed at an index, as Accept and Append messages said.
    accepts: BTreeMap<(Index, Ballot), Command>,
    /// What is durable under a ballot at an index, and the nodes that ever held it.
    votes: BTreeMap<(Index, Ballot), (Command, BTreeSet<NodeId>)>,
    chosen: BTreeMap<Index, Command>,
    /// The ballot under which an index was first seen to be chosen (Raft: that of the leader whose entry
    /// chose it).
    chosen_under: BTreeMap<Index, Ballot>,
    /// What was delivered from index 1 on; `None` is a no-op, or a request that had been delivered before.
    delivered: Vec<Option<Command>>,
    /// The delivery window: its requests in the order in which they were delivered, and where.
    window: VecDeque<RequestId>,
    window_len: usize,
    places: BTreeMap<RequestId, Index>,
    /// Where a request was delivered last, whether it has left the window or not.
    last_delivery: BTreeMap<RequestId, Index>,
    /// The state of the application after an index.
    states: BTreeMap<Index, Bytes>,
    /// The incarnation that prepared each ballot.
    prepared: BTreeMap<Ballot, u64>,
    /// The nodes that promised a ballot and reported all that they had accepted (Raft: that voted).
    promisers: BTreeMap<Ballot, BTreeSet<NodeId>>,
    /// The state of Raft's own rules; `None` for Paxos.
    raft: Option<RaftRules>,
    /// How often a chosen request was delivered as a no-op, because it had been delivered before.
    pub repeats: u64,
    /// How often a request was delivered again, since it had left the window.
    pub again: u64,
}

impl Checker {
    /// A checker for a cluster of nodes 1 to `nodes`, founded with this delivery window.
    pub fn new(protocol: ProtocolName, nodes: usize, delivery_window: usize) -> Checker {
        Checker {
            quorum: nodes / 2 + 1,
            proposed: BTreeMap::new(),
            accepts: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            chosen_under: BTreeMap::new(),
            delivered: Vec::new(),
            window: VecDeque::new(),
            window_len: delivery_window,
            places: BTreeMap::new(),
            last_delivery: BTreeMap::new(),
            states: BTreeMap::new(),
            prepared: BTreeMap::new(),
            promisers: BTreeMap::new(),
            raft: (protocol == ProtocolName::Raft).then(RaftRules::default),
            repeats: 0,
            again: 0,
        }
    }

    /// What is chosen by the observer's own count, which may be ahead of every node.
    pub fn chosen(&self) -> &BTreeMap<Index, Command> {
        &self.chosen
    }

    /// What any node delivered, from index 1 on; `None` is a no-op, or a request that had been delivered
    /// before.
    pub fn log(&self) -> &[Option<Command>] {
        &self.delivered
    }

    /// A node's application applied an index: its state must be that of every other node after this index.
    pub fn applied(&mut self, node: NodeId, index: Index, state: &Bytes) {
        let first = self.states.entry(index).or_insert_with(|| state.clone());
        hold!(
            EqualStates,
            first == state,
            "node {node} is in state {state:02x?} after {index}, but the first node was in {first:02x?}"
        );
    }

    /// The latest index at which a request was delivered.
    pub fn delivery(&self, request: RequestId) -> Option<Index> {
        self.last_delivery.get(&request).copied()
    }

    /// How many distinct delivered requests are remembered.
    pub fn delivery_window(&self) -> usize {
        self.window_len
    }

    /// A client proposes this command.
    pub fn propose(&mut self, command: &Command) {
        let asked = self.proposed.entry(command.request).or_default();
        if !asked.contains(command) {
            asked.push(command.clone());
        }
    }

    /// Early messages promise nothing and never go to the node itself.
    pub fn early(&mut self, message: &Message) {
        let Message { from, to, body } = message;
        hold!(WriteFirst, from != to, "a message to the node itself left before the write: {message}");
        hold!(WriteFirst, !body.promises(), "a message that promises left before the write: {message}");
    }

    /// One ballot proposes one command at an index, and is prepared by one incarnation (known bug 4).
    pub fn sent(&mut self, message: &Message, incarnation: u64) {
        if let (Some(raft), Body::Raft(RaftBody::Append { ballot, previous, entries, .. })) =
            (&mut self.raft, &message.body)
        {
            raft.append(*ballot, *previous, entries);
        }
        match &message.body {
            Body::Paxos(PaxosBody::Accept { entries, .. }) | Body::Raft(RaftBody::Append { entries, .. }) => {
                for entry in entries {
                    self.proposes(entry.ballot, entry);
                }
            }
            Body::Paxos(PaxosBody::Prepare { ballot, .. })
            | Body::Raft(RaftBody::RequestVote { ballot, .. }) => {
                let first = *self.prepared.entry(*ballot).or_insert(incarnation);
                hold!(
                    Ballot,
                    first == incarnation,
                    "ballot {ballot} was used by the incarnations {first} and {incarnation}"
                );
            }
            Body::Paxos(PaxosBody::Promise { ballot, more: false, .. })
            | Body::Raft(RaftBody::Vote { ballot }) => {
                self.promisers.entry(*ballot).or_default().insert(message.from);
            }
            _ => {}
        }
    }

    /// There is one command for each index and ballot; and once a value is chosen, every higher ballot
    /// proposes that value (P2b of "Paxos Made Simple"): an unsafe proposal is caught before anybody accepts
    /// it.
    fn proposes(&mut self, ballot: Ballot, entry: &Entry) {
        let Entry { index, command, .. } = entry;
        let first = self.accepts.entry((*index, ballot)).or_insert_with(|| command.clone());
        hold!(Ballot, first == command, "ballot {ballot} proposed {first} at {index}, and then {command}");
        if let (Some(under), Some(chosen)) = (self.chosen_under.get(index), self.chosen.get(index)) {
            hold!(
                Proposal,
                ballot < *under || chosen == command,
                "at {index}, {chosen} was chosen under {under}, but {ballot} proposes {command}"
            );
        }
    }

    /// A node begins to lead: a majority must have promised, each behind its write (known bugs 9 and 24).
    pub fn leads(&mut self, node: NodeId, ballot: Ballot) {
        let promisers = self.promisers.get(&ballot).map_or(0, |nodes| nodes.len());
        hold!(
            Majority,
            promisers >= self.quorum && ballot.node == node,
            "node {node} leads with ballot {ballot}, which {promisers} nodes promised"
        );
        if let Some(raft) = &mut self.raft {
            raft.leads(node, ballot, &self.chosen_under);
        }
    }

    /// The hard state on a disk never regresses (known bugs 1 and 3). Called before the entries of the same
    /// write.
    pub fn durable(&mut self, node: NodeId, before: HardState, after: HardState) {
        hold!(
            Promise,
            before.promised <= after.promised && before.chosen <= after.chosen,
            "node {node}: durable state went from {before} to {after}"
        );
        if let Some(raft) = &mut self.raft {
            raft.durable(node, before, after);
        }
    }

    /// These messages leave behind a write. Called after its hard state and before its entries.
    pub fn behind(&mut self, node: NodeId, messages: &[Message]) {
        if let Some(raft) = &mut self.raft {
            raft.behind(node, messages);
        }
    }

    /// A node durably removed the entries from an index on: none of them may have counted towards what is
    /// chosen. Called before the hard state of the same write.
    pub fn truncated(&mut self, node: NodeId, first: Index) {
        if let Some(raft) = &mut self.raft {
            raft.truncated(node, first, &self.chosen_under);
        }
    }

    /// An entry became durable: a vote.
    pub fn voted(&mut self, node: NodeId, entry: &Entry) {
        let Entry { index, ballot, command } = entry;
        let counts = self.raft.as_mut().is_none_or(|raft| raft.written(node, entry));
        let none = || (command.clone(), BTreeSet::new());
        let (voted, nodes) = self.votes.entry((*index, *ballot)).or_insert_with(none);
        hold!(
            Ballot,
            voted == command,
            "under ballot {ballot}, {voted} is durable at {index}, but on node {node} it is {command}"
        );
        if counts {
            nodes.insert(node);
        }
        if nodes.len() < self.quorum {
            return;
        }
        match &mut self.raft {
            None => self.choose(*index, command, *ballot),
            // With an entry, all entries before it are chosen.
            Some(raft) => {
                for (index, command) in raft.choose(nodes, *index, *ballot) {
                    self.choose(index, &command, *ballot);
                }
            }
        }
    }

    /// What a node says of its log, in a message that leaves behind a write; `known` is its watermark.
    pub fn appended(&self, message: &Message, known: Index) {
        if let (Some(raft), Body::Raft(RaftBody::Appended { ballot, matched, .. })) =
            (&self.raft, &message.body)
        {
            raft.appended(message.from, *ballot, *matched, known);
        }
    }

    /// A node got a new, empty disk.
    pub fn wiped(&mut self, node: NodeId) {
        if let Some(raft) = &mut self.raft {
            raft.wiped(node);
        }
    }

    fn choose(&mut self, index: Index, command: &Command, ballot: Ballot) {
        let index = &index;
        let chosen = self.chosen.entry(*index).or_insert_with(|| command.clone());
        hold!(
            Chosen,
            chosen == command,
            "at {index}, {chosen} was chosen, and then {command} under {ballot}"
        );
        let under = *self.chosen_under.entry(*index).or_insert(ballot);
        for ((_, higher), proposed) in self.accepts.range((*index, under)..(*index + 1, Ballot::ZERO)) {
            hold!(
                Proposal,
                proposed == command,
                "at {index}, {command} is chosen under {under}, but {higher} proposed {proposed}"
            );
        }
    }

    /// A node believes that an entry is chosen: it must be, and somebody must have proposed it.
    pub fn believed(&self, node: NodeId, entry: &Entry) {
        let chosen = self.chosen.get(&entry.index);
        hold!(
            Chosen,
            chosen == Some(&entry.command),
            "node {node} takes {entry} for chosen; by what is durable, it is {}",
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
            "nobody proposed {entry}; what was proposed under its id: {:?}",
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
                "node {node} delivers {entry} (counts: {counts}), but another node delivered {} there",
                Shown(first.as_ref())
            ),
            None => {
                let last = self.delivered.len();
                hold!(Order, place == last, "node {node} delivers {entry}, but nobody has {}", last + 1);
                self.delivered.push(what.cloned());
                self.remembers(node, entry, counts);
            }
        }
    }

    /// The first delivery of an index: it counts unless it is a no-op, or its request is in the window.
    fn remembers(&mut self, node: NodeId, entry: &Entry, counts: bool) {
        if entry.command.kind == Kind::Noop {
            hold!(OnceOnly, !counts, "node {node} delivers {entry}, which asks for nothing");
            return;
        }
        let request = entry.command.request;
        let earlier = self.places.get(&request);
        hold!(
            OnceOnly,
            counts == earlier.is_none(),
            "node {node} delivers {entry} (counts: {counts}), but where the window of {} requests has it is {earlier:?}",
            self.window_len
        );
        self.repeats += u64::from(!counts);
        if !counts {
            return;
        }
        if self.window.len() == self.window_len
            && let Some(oldest) = self.window.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.window.push_back(request);
        self.places.insert(request, entry.index);
        let before = self.last_delivery.insert(request, entry.index);
        self.again += u64::from(before.is_some());
    }
}
