//! The rules that several nodes must keep together, by an observer that counts for itself: it looks at what
//! was ever durable on the nodes' disks, and at what their cores believe only to compare.
//!
//! What was durable is never forgotten here, so that two commands chosen at different times, by whatever
//! incarnations, are found as well: what is chosen is chosen for ever.

use std::collections::{BTreeMap, BTreeSet};

use spaxos::consensus::types::{Ballot, Command, Index, NodeId};

use crate::node::{Broken, NODES, Node};

/// What the rules look at in a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    votes: Vec<((Index, Ballot), Command)>,
    believed: Vec<(Index, Command)>,
    leads: Option<Ballot>,
}

/// What is true of a state beside the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    pub chosen: bool,
    pub both_chosen: bool,
    pub two_leaders: bool,
}

impl Facts {
    pub fn of(node: &Node) -> Facts {
        let votes = node.history().votes.iter().map(|(key, command)| (*key, command.clone())).collect();
        let believed = node.believed().into_iter().map(|entry| (entry.index, entry.command)).collect();
        Facts { votes, believed, leads: node.leads() }
    }
}

type Chosen = BTreeMap<Index, Command>;

/// Counted from what was ever durable, without a look at what any core thinks: a command is chosen when a
/// majority of nodes voted for it under one ballot ("Paxos Made Simple", section 2.2).
fn chosen(nodes: [&Facts; NODES]) -> Result<Chosen, Broken> {
    let mut counts: BTreeMap<(Index, Ballot), (&Command, usize)> = BTreeMap::new();
    for ((index, ballot), command) in nodes.iter().flat_map(|facts| &facts.votes) {
        let (first, count) = counts.entry((*index, *ballot)).or_insert((command, 0));
        *count += 1;
        if *first != command {
            return Err(format!(
                "ballot {ballot} has votes for {} and for {} at index {index}",
                name(first),
                name(command)
            ));
        }
    }
    let mut chosen = Chosen::new();
    for ((index, ballot), (command, _)) in counts.into_iter().filter(|(_, (_, count))| *count > NODES / 2) {
        let first = chosen.entry(index).or_insert_with(|| command.clone());
        if first != command {
            let (first, second) = (name(first), name(command));
            return Err(format!(
                "two commands are chosen at index {index}: {first} and {second}, one of them under {ballot}"
            ));
        }
    }
    Ok(chosen)
}

/// The rules that nodes must keep together, in every state, and what is worth counting of it.
pub fn check(nodes: [&Facts; NODES], proposals: u8) -> Result<Traits, Broken> {
    let chosen = chosen(nodes)?;
    for (node, facts) in (1..).zip(nodes) {
        for (index, command) in &facts.believed {
            if chosen.get(index) != Some(command) {
                let counted = chosen.get(index).map_or("nothing".to_string(), name);
                return Err(format!(
                    "node {node} takes {} for chosen at index {index}; \
                     by count of what was ever durable {counted} is",
                    name(command)
                ));
            }
        }
    }
    let mut values = BTreeSet::new();
    for command in chosen.values() {
        let number = command.request.number;
        let proposed = (1..=proposals.into()).contains(&number) && *command == value(number, command.from);
        let noop = *command == Command::noop(command.from);
        if !noop && !proposed {
            return Err(format!("{} is chosen, and nobody proposed it", name(command)));
        }
        if !noop {
            values.insert(number);
        }
    }
    let two_leaders = nodes.iter().filter(|facts| facts.leads.is_some()).count() > 1;
    Ok(Traits { chosen: !values.is_empty(), both_chosen: values.len() > 1, two_leaders })
}

/// What a client proposes.
pub fn value(number: u64, from: NodeId) -> Command {
    Command::value(number, from, "v")
}

fn name(command: &Command) -> String {
    format!("{command} from node {}", command.from)
}
