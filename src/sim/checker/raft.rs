//! What only Raft promises, counted independently of the cores: who voted for whom, who led, what every
//! leader's log was, what is in every log on a disk.
//!
//! A leader's log is known from what its Appends say of it; a follower's from what it wrote. Left out:
//! elections by count of votes, and what is chosen, which both protocols share (`checker.rs`).
//!
//! # Which copies of a chosen entry must stay
//!
//! Those that counted, and no others. An entry E of round r may be chosen under a later round u, along with
//! an entry of the leader of u (thesis section 3.6.2). A node that was paused all that time may hold a copy
//! of E since round r, and take a late Append of a round between r and u, whose leader lacked E. It removes
//! its copy, correctly: it never told the leader of u of it. It gets E again from any leader that it hears
//! later.
//!
//! *A copy of E that counted is on a node that is durably in round u or a later one*: the leader of u
//! counted the node's answer, which left behind a write that holds at least that round. *Such a node never
//! removes E*: it takes Appends of its own round and of later ones only. The leader of u had E when E was
//! chosen. All later leaders have it (Leader Completeness, section 3.6.3). Log Matching says that a log with
//! E agrees with theirs up to E, so that nothing up to there conflicts. Hence the rule of
//! [`RaftRules::truncated`]: a node whose round was u or later *before* the write that removes an entry must
//! not remove one that was chosen under u. (The round in that write itself says nothing: one turn may take
//! the late Append first and a vote in a higher round next.)
//!
//! The other order is as wrong: a copy that is removed after it was reported, and before enough others were
//! written. The leader would count it all the same. So at the time of choice all copies that count must be
//! there ([`RaftRules::choose`]). No node of an honest cluster breaks this. It would have heard a leader of
//! a later round that lacks E. A majority voted for that leader, and a majority reported E. A node in both
//! reported E before its vote, as it answers no earlier round after it; so the leader that it voted for has
//! E.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Nodes that lost their disks: their copies are gone.
    wiped: BTreeSet<NodeId>,
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

    /// What was durable from an index on is gone: no copy of it may have counted. `chosen_under` has the
    /// ballots under which indexes were chosen. Called before the hard state of the same write.
    pub fn truncated(&mut self, node: NodeId, first: Index, chosen_under: &BTreeMap<Index, Ballot>) {
        let disk = self.disks.entry(node).or_default();
        for (index, (ballot, command)) in disk.log.split_off(&first) {
            let is_chosen = self.chosen.get(&index) == Some(&ballot.round);
            let Some(under) = chosen_under.get(&index).filter(|_| is_chosen) else { continue };
            hold!(
                Chosen,
                disk.round < under.round,
                "node {node}, which was in round {}, removes {index}@{ballot}:{command}, which was chosen under {under}",
                disk.round
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

    /// The entry of this ballot at `last`, which these nodes reported, is chosen, and with it all that is
    /// before it in their logs. Returns what of it is new, and always the entry itself.
    pub fn choose(&mut self, nodes: &BTreeSet<NodeId>, last: Index, ballot: Ballot) -> Vec<(Index, Command)> {
        let mut log = None;
        for node in nodes.difference(&self.wiped) {
            let held = self.disks.get(node).map(|disk| &disk.log);
            let round = held.and_then(|log| log.get(&last)).map(|(ballot, _)| ballot.round);
            hold!(
                Chosen,
                round == Some(ballot.round),
                "{last}@{ballot} is chosen by the copies on nodes {nodes:?}, but node {node} has removed its own and \
                 holds one of round {round:?}"
            );
            log = held;
        }
        let highest = self.chosen.last_key_value().map_or(0, |(highest, _)| *highest);
        let first = (highest + 1).min(last);
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
        self.wiped.insert(node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Checker;
    use super::*;
    use crate::consensus::protocols::ProtocolName;
    use crate::consensus::types::HardState;
    use crate::sim::{Invariant, Violation};

    fn entry(index: Index, ballot: Ballot) -> Entry {
        Entry { index, ballot, command: Command::noop(ballot.node) }
    }

    /// The nodes' disks. A write removes what is there from its first entry on, and leaves its node in this
    /// round.
    struct Lab {
        checker: Checker,
        hard_states: BTreeMap<NodeId, HardState>,
    }

    impl Lab {
        fn new() -> Lab {
            Lab { checker: Checker::new(ProtocolName::Raft, 5, 16), hard_states: BTreeMap::new() }
        }

        fn write(&mut self, node: NodeId, round: Round, entries: &[Entry]) {
            if let Some(first) = entries.first() {
                self.checker.truncated(node, first.index);
            }
            let promised = Ballot { round, node: 0 };
            let after = HardState { promised, chosen: 0 };
            let before = self.hard_states.insert(node, after).unwrap_or_default();
            self.checker.durable(node, before, after);
            entries.iter().for_each(|entry| self.checker.voted(node, entry));
        }

        /// Which rule the write breaks.
        fn breaks(&mut self, node: NodeId, round: Round, entries: &[Entry]) -> Option<Invariant> {
            let write = std::panic::AssertUnwindSafe(|| self.write(node, round, entries));
            let payload = std::panic::catch_unwind(write).err()?;
            Some(Violation::of_panic(&*payload).invariant)
        }
    }

    const FIRST: Ballot = Ballot { round: 2, node: 1 };
    const LATE: Ballot = Ballot { round: 3, node: 2 };
    const LAST: Ballot = Ballot { round: 4, node: 1 };

    /// Node 5 is paused with an entry that later is chosen by copies on nodes 1, 3 and 4, in round 4.
    fn chosen_while_paused() -> Lab {
        let mut lab = Lab::new();
        [1, 5].into_iter().for_each(|node| lab.write(node, 2, &[entry(1, FIRST)]));
        lab.write(2, 3, &[entry(1, LATE)]);
        lab.write(1, 4, &[]);
        lab.checker.voted(1, &entry(2, LAST));
        [3, 4].into_iter().for_each(|node| lab.write(node, 4, &[entry(1, FIRST), entry(2, LAST)]));
        assert_eq!(lab.checker.chosen().len(), 2, "a majority reported both entries to the leader of {LAST}");
        lab
    }

    /// It takes the late Append of round 3, even if its write holds a later round: its copy never counted.
    #[test]
    fn a_copy_that_never_counted_may_go() {
        for round in [3, 4, 5] {
            let mut lab = chosen_while_paused();
            lab.write(5, round, &[entry(1, LATE)]);
            lab.write(5, round.max(4), &[entry(1, FIRST), entry(2, LAST)]);
        }
    }

    #[test]
    fn a_copy_that_counted_stays() {
        for node in [1, 3, 4] {
            let broken = chosen_while_paused().breaks(node, 5, &[entry(1, LATE)]);
            assert_eq!(broken, Some(Invariant::Chosen), "node {node} removes what its leader counted");
        }
        let mut lab = chosen_while_paused();
        lab.write(5, 4, &[entry(1, FIRST), entry(2, LAST)]);
        assert_eq!(lab.breaks(5, 5, &[entry(1, LATE)]), Some(Invariant::Chosen), "written after the choice");
        let mut lab = chosen_while_paused();
        lab.write(5, 4, &[]);
        assert_eq!(
            lab.breaks(5, 4, &[entry(1, LATE)]),
            Some(Invariant::Chosen),
            "in the round of the choice"
        );
    }

    /// A copy that was reported and then removed counts for its leader all the same.
    #[test]
    fn a_copy_that_counts_stays_until_the_entry_is_chosen() {
        let mut lab = Lab::new();
        [1, 2].into_iter().for_each(|node| lab.write(node, 2, &[entry(1, FIRST)]));
        lab.write(2, 3, &[entry(1, LATE)]);
        assert_eq!(
            lab.breaks(3, 2, &[entry(1, FIRST)]),
            Some(Invariant::Chosen),
            "node 2 has removed its copy"
        );
        let mut lab = Lab::new();
        [1, 2].into_iter().for_each(|node| lab.write(node, 2, &[entry(1, FIRST)]));
        lab.checker.wiped(2);
        assert_eq!(lab.breaks(3, 2, &[entry(1, FIRST)]), None, "a wiped disk is a fault, and no removal");
    }
}
