//! What only Raft promises, counted independently of the cores: who voted for whom, who led, what every
//! leader's log was, what is in every log on a disk.
//!
//! A leader's log is known from what its Appends say of it; a follower's from what it wrote. Left out:
//! elections by count of votes, and what is chosen, which both protocols share (`checker.rs`).

use std::collections::BTreeMap;

use crate::consensus::message::{Body, Message, RaftBody};
use crate::consensus::types::{Ballot, Command, Entry, HardState, Index, NodeId, Position, Round};

use super::super::invariant::{Shown, hold};

/// Everything observed so far for Raft's own rules.
#[derive(Default)]
pub(super) struct RaftRules {
    disks: BTreeMap<NodeId, Disk>,
    /// The leader of each round.
    leaders: BTreeMap<Round, NodeId>,
    /// By leader's round and index: the round of the entry there, as its Appends say.
    led: BTreeMap<(Round, Index), Round>,
    /// By index and round: the round of the entry before it.
    previous: BTreeMap<(Index, Round), Round>,
    /// The entries that are chosen, by their rounds.
    chosen: BTreeMap<Index, Round>,
}

/// What is durable on a node.
#[derive(Default)]
struct Disk {
    round: Round,
    log: BTreeMap<Index, (Ballot, Command)>,
    /// The Appended messages behind the write that is being reported: each leader's ballot, and the index up
    /// to which the log is that leader's.
    appended: Vec<(Ballot, Index)>,
}

impl RaftRules {
    /// A leader says what its log is.
    pub fn append(&mut self, ballot: Ballot, previous: Position, entries: &[Entry]) {
        let mut last = previous;
        self.leads_log(ballot, last);
        for entry in entries {
            self.follows(entry.index, entry.ballot.round, last.round);
            last = Position { round: entry.ballot.round, index: entry.index };
            self.leads_log(ballot, last);
        }
    }

    fn leads_log(&mut self, ballot: Ballot, Position { round, index }: Position) {
        let first = *self.led.entry((ballot.round, index)).or_insert(round);
        hold!(
            AppendOnly,
            first == round,
            "the leader of {ballot} had an entry of round {first} at {index}, and then one of round {round}"
        );
    }

    fn follows(&mut self, index: Index, round: Round, previous: Round) {
        let first = *self.previous.entry((index, round)).or_insert(previous);
        hold!(
            LogMatching,
            first == previous,
            "before {index}@{round} there is an entry of round {first} in one log, of round {previous} in another"
        );
    }

    /// A node begins to lead: nobody else led in that round, and it has all that was chosen in earlier ones.
    pub fn leads(&mut self, node: NodeId, ballot: Ballot, chosen_under: &BTreeMap<Index, Ballot>) {
        let first = *self.leaders.entry(ballot.round).or_insert(node);
        hold!(ElectionSafety, first == node, "nodes {first} and {node} lead in round {}", ballot.round);
        let log = self.disks.get(&node).map(|disk| &disk.log);
        for (index, under) in chosen_under.iter().filter(|(_, under)| under.round < ballot.round) {
            let held = log.and_then(|log| log.get(index));
            let chosen = self.chosen[index];
            hold!(
                LeaderCompleteness,
                held.is_some_and(|(ballot, _)| ballot.round == chosen),
                "node {node} leads with ballot {ballot}; at {index} an entry of round {chosen} was chosen under {under}, \
                 but it has {}",
                Shown(held.map(|(_, command)| command))
            );
        }
    }

    /// A hard state is durable: a round has one vote.
    pub fn durable(&mut self, node: NodeId, before: HardState, after: HardState) {
        let (old, new) = (before.promised, after.promised);
        hold!(
            ElectionSafety,
            old.round != new.round || old.node == 0 || old.node == new.node,
            "node {node} votes for {} in round {}, but has already voted for {} in it",
            new.node,
            new.round,
            old.node
        );
        let disk = self.disks.entry(node).or_default();
        disk.round = new.round;
        disk.appended.clear();
    }

    /// These messages leave behind the write.
    pub fn behind(&mut self, node: NodeId, messages: &[Message]) {
        let disk = self.disks.entry(node).or_default();
        disk.appended = messages
            .iter()
            .filter_map(|message| match message.body {
                Body::Raft(RaftBody::Appended { ballot, matched, .. }) => Some((ballot, matched)),
                _ => None,
            })
            .collect();
    }

    /// What was durable from an index on is gone: none of it may be chosen.
    pub fn truncated(&mut self, node: NodeId, first: Index) {
        let removed = self.disks.entry(node).or_default().log.split_off(&first);
        for (index, (ballot, command)) in removed {
            hold!(
                Chosen,
                self.chosen.get(&index) != Some(&ballot.round),
                "node {node} removes {index}@{ballot}:{command}, which is chosen"
            );
        }
    }

    /// An entry became durable. Returns whether it counts as a copy of its leader's entry: it does if it was
    /// written in the entry's own round, or reported to its leader (a node may have gone on to a later round
    /// within the same write).
    pub fn written(&mut self, node: NodeId, entry: &Entry) -> bool {
        let Entry { index, ballot, command } = entry;
        let disk = self.disks.entry(node).or_default();
        let last = disk.log.last_key_value().map_or(0, |(last, _)| *last);
        hold!(
            LogMatching,
            last + 1 == *index,
            "node {node} writes {entry} at the end of a log that ends with {last}: what was there must be removed first"
        );
        let previous = disk.log.get(&last).map_or(0, |(ballot, _)| ballot.round);
        disk.log.insert(*index, (*ballot, command.clone()));
        let is_told = disk.appended.iter().any(|(to, matched)| to == ballot && matched >= index);
        let counts = disk.round == ballot.round || is_told;
        self.follows(*index, ballot.round, previous);
        counts
    }

    /// What a node holds up to this index is chosen. Returns what of it is new, and always the entry at this
    /// index.
    pub fn choose(&mut self, node: NodeId, last: Index) -> Vec<(Index, Command)> {
        let highest = self.chosen.last_key_value().map_or(0, |(highest, _)| *highest);
        let first = (highest + 1).min(last);
        let log = self.disks.get(&node).map(|disk| &disk.log);
        let mut news = Vec::new();
        for (index, (ballot, command)) in log.into_iter().flat_map(|log| log.range(first..=last)) {
            let chosen = *self.chosen.entry(*index).or_insert(ballot.round);
            hold!(
                Chosen,
                chosen == ballot.round,
                "at {index} an entry of round {chosen} was chosen, and then one of {ballot}"
            );
            news.push((*index, command.clone()));
        }
        news
    }

    /// A node says that its log is the leader's up to an index: then its disk must hold there what the leader
    /// has there. Nothing is known once the node is in another round; and what the node knows to be chosen
    /// needs no match.
    pub fn appended(&self, node: NodeId, ballot: Ballot, matched: Index, known: Index) {
        let Some(disk) = self.disks.get(&node).filter(|disk| disk.round == ballot.round && matched > 0)
        else {
            return;
        };
        let held = disk.log.get(&matched).map(|(ballot, _)| ballot.round);
        hold!(
            WriteFirst,
            held.is_some(),
            "node {node} says that it has the log of {ballot} up to {matched}, but holds nothing there durably"
        );
        let led = self.led.get(&(ballot.round, matched)).copied();
        hold!(
            LogMatching,
            held == led || matched <= known || node == ballot.node,
            "node {node} says that it has the log of {ballot} up to {matched}, but there it holds an entry of round \
             {held:?}, and the leader one of {led:?}"
        );
    }

    /// A node got a new, empty disk.
    pub fn wiped(&mut self, node: NodeId) {
        self.disks.remove(&node);
    }
}
