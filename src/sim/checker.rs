//! The rules that hold after every step, whatever happens: an observer that sees every message leave, every
//! write become durable, every watermark rise and every delivery, and knows nothing of how the cores decide.
//!
//! It counts for itself. Paxos: a command is chosen when a majority of nodes durably holds it under one ballot
//! ("Paxos Made Simple", section 2.2). Raft: an entry is chosen when a majority wrote it while in its very round, and
//! all before it with it (thesis section 3.6.2): what is on a majority by the hand of later leaders does not count. A
//! core that believes anything else fails here. Each call costs in proportion to what it is told of, an election in
//! proportion to the log.
//!
//! Also used without the simulator, by golden scripts and random schedules over bare cores.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::consensus::config::ProtocolName;
use crate::consensus::message::{Body, Message};
use crate::consensus::quorum::Set;
use crate::consensus::types::{Ballot, Command, Entry, HardState, Index, Kind, NodeId, RequestId, Round};

use super::invariant::{Shown, hold};

/// All that was ever observed, over all incarnations of all nodes.
pub struct Checker {
    protocol: ProtocolName,
    quorum: usize,
    /// What anyone ever asked for.
    proposed: BTreeMap<RequestId, Vec<Command>>,
    /// What a ballot proposed at an index, as Accept and Append messages said.
    accepts: BTreeMap<(Index, Ballot), Command>,
    /// What is durable under a ballot at an index, and on which nodes it ever was.
    votes: BTreeMap<(Index, Ballot), (Command, Set)>,
    chosen: BTreeMap<Index, Command>,
    /// The ballot by which an index was first seen to be chosen (Raft: of the leader whose entry chose it).
    chosen_under: BTreeMap<Index, Ballot>,
    /// What was delivered from index 1 on; `None`: a no-op, or a request that was delivered before.
    delivered: Vec<Option<Command>>,
    first_delivery: BTreeMap<RequestId, Index>,
    /// The state of the application after an index.
    states: BTreeMap<Index, Bytes>,
    /// Who prepared a ballot, in which incarnation.
    prepared: BTreeMap<Ballot, u64>,
    /// Who promised a ballot, all that it had accepted told (Raft: voted).
    promisers: BTreeMap<Ballot, Set>,
    /// The durable state of each node; used for Raft.
    disks: BTreeMap<NodeId, Disk>,
    /// Raft: the ballot that the chosen entry at an index carries on every node.
    entry_ballots: BTreeMap<Index, Ballot>,
    /// Raft: who leads in a round.
    leaders: BTreeMap<Round, NodeId>,
    /// How often a chosen request was delivered as a no-op, being delivered before.
    pub repeats: u64,
}

/// What is durable on a node.
#[derive(Default)]
struct Disk {
    round: Round,
    log: BTreeMap<Index, (Ballot, Command)>,
}

impl Checker {
    /// For a cluster of nodes 1 to `nodes`.
    pub fn new(protocol: ProtocolName, nodes: usize) -> Checker {
        Checker {
            protocol,
            quorum: nodes / 2 + 1,
            proposed: BTreeMap::new(),
            accepts: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            chosen_under: BTreeMap::new(),
            delivered: Vec::new(),
            first_delivery: BTreeMap::new(),
            states: BTreeMap::new(),
            prepared: BTreeMap::new(),
            promisers: BTreeMap::new(),
            disks: BTreeMap::new(),
            entry_ballots: BTreeMap::new(),
            leaders: BTreeMap::new(),
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

    /// A node's application applied an index: its state is that of every other after it.
    pub fn applied(&mut self, node: NodeId, index: Index, state: &Bytes) {
        let first = self.states.entry(index).or_insert_with(|| state.clone());
        hold!(
            EqualStates,
            first == state,
            "node {node} is in state {state:02x?} after {index}, and {first:02x?} was the first one's"
        );
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
        let promises = matches!(
            body,
            Body::Prepare { .. }
                | Body::Promise { .. }
                | Body::Accepted { .. }
                | Body::RequestVote { .. }
                | Body::Vote { .. }
                | Body::Appended { .. }
        );
        hold!(WriteFirst, !promises, "a message that promises left before the write: {message}");
    }

    /// One ballot proposes one command at an index, and is prepared by one incarnation (known bug 4).
    pub fn sent(&mut self, message: &Message, incarnation: u64) {
        match &message.body {
            Body::Accept { entries, .. } | Body::Append { entries, .. } => {
                for entry in entries {
                    self.proposes(entry.ballot, entry);
                }
            }
            Body::Prepare { ballot, .. } | Body::RequestVote { ballot, .. } => {
                let first = *self.prepared.entry(*ballot).or_insert(incarnation);
                hold!(
                    Ballot,
                    first == incarnation,
                    "ballot {ballot} was used by the incarnations {first} and {incarnation}"
                );
            }
            Body::Promise { ballot, more: false, .. } | Body::Vote { ballot } => {
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
    pub fn leads(&mut self, node: NodeId, ballot: Ballot) {
        let promisers = self.promisers.get(&ballot).map_or(0, |nodes| nodes.len());
        hold!(
            Majority,
            promisers >= self.quorum && ballot.node == node,
            "node {node} leads with ballot {ballot}, which {promisers} nodes promised"
        );
        if self.protocol == ProtocolName::Raft {
            self.raft_leads(node, ballot);
        }
    }

    /// Election Safety, and Leader Completeness (thesis section 3.6.3): a leader has all that was chosen in earlier
    /// rounds.
    fn raft_leads(&mut self, node: NodeId, ballot: Ballot) {
        let first = *self.leaders.entry(ballot.round).or_insert(node);
        hold!(Ballot, first == node, "nodes {first} and {node} lead in round {}", ballot.round);
        let log = self.disks.get(&node).map(|disk| &disk.log);
        for (index, under) in self.chosen_under.iter().filter(|(_, under)| under.round < ballot.round) {
            let (chosen, held) = (&self.chosen[index], log.and_then(|log| log.get(index)));
            hold!(
                Proposal,
                held.is_some_and(|(_, command)| command == chosen),
                "node {node} leads with ballot {ballot}; at {index} {chosen} was chosen under {under}, and it has {}",
                Shown(held.map(|(_, command)| command))
            );
        }
    }

    /// The hard state on a disk never regresses (known bugs 1 and 3). Told before the entries of the same write.
    pub fn durable(&mut self, node: NodeId, before: HardState, after: HardState) {
        hold!(
            Promise,
            before.promised <= after.promised && before.chosen <= after.chosen,
            "node {node}: durable state went from {before} to {after}"
        );
        self.disks.entry(node).or_default().round = after.promised.round;
    }

    /// A node durably removed the entries from an index on: none of them is chosen.
    pub fn truncated(&mut self, node: NodeId, first: Index) {
        let removed = self.disks.entry(node).or_default().log.split_off(&first);
        for (index, (ballot, command)) in removed {
            let is_chosen = self.entry_ballots.get(&index) == Some(&ballot);
            hold!(Chosen, !is_chosen, "node {node} removes {index}@{ballot}:{command}, which is chosen");
        }
    }

    /// An entry became durable: a vote.
    pub fn voted(&mut self, node: NodeId, entry: &Entry) {
        let Entry { index, ballot, command } = entry;
        let disk = self.disks.entry(node).or_default();
        if self.protocol == ProtocolName::Raft {
            disk.log.insert(*index, (*ballot, command.clone()));
        }
        let counts = self.protocol == ProtocolName::Paxos || disk.round == ballot.round;
        let none = || (command.clone(), Set::default());
        let (voted, nodes) = self.votes.entry((*index, *ballot)).or_insert_with(none);
        hold!(
            Ballot,
            voted == command,
            "under ballot {ballot} there are durable at {index}: {voted}, and on node {node} {command}"
        );
        if counts {
            nodes.insert(node as usize - 1);
        }
        if nodes.len() < self.quorum {
            return;
        }
        match self.protocol {
            ProtocolName::Paxos => self.choose(*index, command, *ballot),
            ProtocolName::Raft => self.choose_up_to(node, *index, *ballot),
        }
    }

    /// Raft: what a node holds up to `last` is chosen.
    fn choose_up_to(&mut self, node: NodeId, last: Index, under: Ballot) {
        let first = self.chosen.keys().next_back().map_or(1, |highest| highest + 1);
        let Some(disk) = self.disks.get(&node) else { return };
        let prefix = disk.log.range(first.min(last)..=last);
        let prefix: Vec<_> =
            prefix.map(|(index, (ballot, command))| (*index, *ballot, command.clone())).collect();
        for (index, ballot, command) in prefix {
            let first = *self.entry_ballots.entry(index).or_insert(ballot);
            hold!(
                Chosen,
                first == ballot,
                "at {index} the entry of {first} was chosen, and then that of {ballot}"
            );
            self.choose(index, &command, under);
        }
    }

    fn choose(&mut self, index: Index, command: &Command, ballot: Ballot) {
        let index = &index;
        let chosen = self.chosen.entry(*index).or_insert_with(|| command.clone());
        hold!(Chosen, chosen == command, "at {index} {chosen} was chosen, and then {command} under {ballot}");
        let under = *self.chosen_under.entry(*index).or_insert(ballot);
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
