//! The rules that several nodes must keep together, by an observer that counts for itself: it looks at what
//! was ever durable on the nodes' disks, and at what their cores believe only to compare.
//!
//! What was durable is never forgotten here, so that two commands chosen at different times, by whatever
//! incarnations, are found as well: what is chosen is chosen forever.

use std::collections::{BTreeMap, BTreeSet};

use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Command, Entry, Index, NodeId, Round};

use crate::disk::Vote;
use crate::node::{Broken, NODES, Node};

/// What the rules look at in a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    votes: Vec<((Index, Ballot), Vote)>,
    believed: Vec<Item>,
    leads: Option<Ballot>,
    /// Raft: the rounds in which it ever led, and its log while it leads.
    led: Vec<Round>,
    leads_with: Vec<Item>,
}

/// What is at an index. Raft's entries permanently keep the ballots of the leaders that made them; with Paxos
/// the ballot is left out, as each later one proposes the same command again.
type Item = (Index, Ballot, Command);

/// What is true of a state besides the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    pub chosen: bool,
    pub both_chosen: bool,
    pub two_leaders: bool,
    /// Raft: an entry came to a majority, and is not chosen all the same (figure 8 of the Raft paper).
    pub figure_8: bool,
}

/// What clients proposed: values 1 to `values`, each of `bytes` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Proposed {
    pub values: u8,
    pub bytes: usize,
}

impl Facts {
    pub fn of(node: &Node) -> Facts {
        let keeps_ballots = node.protocol() == ProtocolName::Raft;
        let item = |Entry { index, ballot, command }: Entry| {
            (index, if keeps_ballots { ballot } else { Ballot::ZERO }, command)
        };
        let leads = node.leads();
        let log = node.log().into_values().filter(|_| keeps_ballots && leads.is_some());
        Facts {
            votes: node.history().votes.iter().map(|(key, vote)| (*key, vote.clone())).collect(),
            believed: node.believed().into_iter().map(item).collect(),
            leads,
            led: node.history().led.clone(),
            leads_with: log.map(item).collect(),
        }
    }
}

/// By index: what is chosen, and the lowest ballot by which it was.
type Chosen = BTreeMap<Index, (Ballot, Command, Ballot)>;

/// All that was ever durable, on how many nodes, and on how many so that it counts.
type Counts<'a> = BTreeMap<(Index, Ballot), (&'a Vote, usize, usize)>;

/// The rules that nodes must keep together, in every state, and what is worth counting of it.
pub fn check(nodes: [&Facts; NODES], proposed: Proposed) -> Result<Traits, Broken> {
    let counts = count(nodes)?;
    let chosen = chosen(&counts, nodes)?;
    check_leaders(nodes, &chosen)?;
    for (node, facts) in (1..).zip(nodes) {
        for (index, ballot, command) in &facts.believed {
            let counted = chosen.get(index).map(|(ballot, command, _)| (ballot, command));
            if counted != Some((ballot, command)) {
                let counted = counted.map_or("nothing".to_string(), |(_, command)| name(command));
                return Err(format!(
                    "node {node} takes {} for chosen at index {index}; \
                     by count of what was ever durable {counted} is",
                    name(command)
                ));
            }
        }
    }
    let values = check_values(&chosen, proposed)?;
    let figure_8 = counts.iter().any(|((index, ballot), (_, all, _))| {
        *all > NODES / 2 && chosen.get(index).is_none_or(|(of, ..)| *of != Ballot::ZERO && of != ballot)
    });
    let two_leaders = nodes.iter().filter(|facts| facts.leads.is_some()).count() > 1;
    Ok(Traits { chosen: values > 0, both_chosen: values > 1, two_leaders, figure_8 })
}

/// One ballot has one command an index. Raft: and one entry before it, so that logs which have the same entry
/// are equal up to that one (Log Matching).
fn count(nodes: [&Facts; NODES]) -> Result<Counts<'_>, Broken> {
    let mut counts = Counts::new();
    for ((index, ballot), vote) in nodes.iter().flat_map(|facts| &facts.votes) {
        let (first, all, counted) = counts.entry((*index, *ballot)).or_insert((vote, 0, 0));
        *all += 1;
        *counted += usize::from(vote.counts);
        if (&first.command, first.previous) != (&vote.command, vote.previous) {
            return Err(format!(
                "ballot {ballot} has votes for {} after {} and for {} after {} at index {index}",
                name(&first.command),
                first.previous,
                name(&vote.command),
                vote.previous
            ));
        }
    }
    Ok(counts)
}

/// Counted from what was ever durable, without looking at what any core thinks: a command is chosen when a
/// majority of nodes voted for it under one ballot ("Paxos Made Simple", section 2.2). Raft: wrote it while
/// in its very round, and with it all before it.
fn chosen(counts: &Counts, nodes: [&Facts; NODES]) -> Result<Chosen, Broken> {
    let keeps_ballots = nodes.iter().any(|facts| !facts.led.is_empty());
    let mut chosen = Chosen::new();
    for ((index, under), (_, _, counted)) in counts {
        let mut at = (*counted > NODES / 2).then_some((*index, *under));
        while let Some((index, ballot)) = at {
            let Some((vote, ..)) = counts.get(&(index, ballot)) else {
                return Err(format!("nobody ever held what stands before {}@{under}", index + 1));
            };
            let kept = if keeps_ballots { ballot } else { Ballot::ZERO };
            let first = chosen.entry(index).or_insert_with(|| (kept, vote.command.clone(), *under));
            if (first.0, &first.1) != (kept, &vote.command) {
                let (first, second) = (name(&first.1), name(&vote.command));
                return Err(format!(
                    "two commands are chosen at index {index}: {first} and {second}, one of them under {under}"
                ));
            }
            first.2 = first.2.min(*under);
            at = (vote.previous != Ballot::ZERO).then(|| (index - 1, vote.previous));
        }
    }
    Ok(chosen)
}

/// Raft: a round has one leader (Election Safety), which has all that was chosen in earlier ones (Leader
/// Completeness).
fn check_leaders(nodes: [&Facts; NODES], chosen: &Chosen) -> Result<(), Broken> {
    let mut rounds = BTreeSet::new();
    for (node, facts) in (1..).zip(nodes) {
        if let Some(round) = facts.led.iter().find(|round| !rounds.insert(**round)) {
            return Err(format!("node {node} leads in round {round}, and so did another"));
        }
        let Some(leads) = facts.leads.filter(|_| !facts.led.is_empty()) else { continue };
        for (index, (ballot, command, under)) in chosen.iter().filter(|(_, (_, _, under))| *under < leads) {
            let held = facts.leads_with.iter().find(|(at, ..)| at == index);
            if held.is_none_or(|(_, of, held)| (of, held) != (ballot, command)) {
                return Err(format!(
                    "node {node} leads with {leads} and lacks {}, chosen at index {index} under {under}",
                    name(command)
                ));
            }
        }
    }
    Ok(())
}

/// Only what was proposed is chosen, or a no-op; how many different values are.
fn check_values(chosen: &Chosen, proposed: Proposed) -> Result<usize, Broken> {
    let mut values = BTreeSet::new();
    for (_, command, _) in chosen.values() {
        let number = command.request.number;
        let is_value = (1..=proposed.values.into()).contains(&number)
            && *command == value(number, command.from, proposed.bytes);
        let noop = *command == Command::noop(command.from);
        if !noop && !is_value {
            return Err(format!("{} is chosen, and nobody proposed it", name(command)));
        }
        if !noop {
            values.insert(number);
        }
    }
    Ok(values.len())
}

/// What a client proposes.
pub fn value(number: u64, from: NodeId, bytes: usize) -> Command {
    Command::value(number, from, vec![b'v'; bytes])
}

fn name(command: &Command) -> String {
    format!("{command} from node {}", command.from)
}
