//! What is durable on a searched node, what waits to be written, and what was ever durable: a disk that loses
//! in a crash just what was not written, and is watched.

use std::collections::BTreeMap;

use spaxos::consensus::batch::Batch;
use spaxos::consensus::config::Restored;
use spaxos::consensus::message::{Body, Message, PaxosBody, RaftBody};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index, NodeId, Round};

use crate::node::Broken;

/// What a crash leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    pub hard_state: HardState,
    pub entries: BTreeMap<Index, Entry>,
    highest_round: Round,
}

/// What one batch wants made durable, and says after that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Write {
    hard_state: Option<HardState>,
    truncate: Option<Index>,
    entries: Vec<Entry>,
    pub messages: Vec<Message>,
}

/// What was ever durable, over all incarnations. No core sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// What was ever durable here at an index under a ballot.
    pub votes: BTreeMap<(Index, Ballot), Vote>,
    /// What this node ever proposed at an index under a ballot of its own.
    proposed: BTreeMap<(Index, Ballot), Command>,
    /// Raft: whom this node durably voted for, by round.
    voted_for: BTreeMap<Round, NodeId>,
    /// Raft: the rounds in which it led.
    pub led: Vec<Round>,
}

/// An entry that was durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    pub command: Command,
    /// Raft: the ballot of the entry before it; [`Ballot::ZERO`] for the first, and always with Paxos.
    pub previous: Ballot,
    /// Whether it counts for being chosen. Raft: it does if it was written in the round of its ballot;
    /// written for a later leader, it does not (thesis section 3.6.2).
    pub counts: bool,
}

impl Disk {
    /// What a core is made from.
    pub fn restored(&self) -> Restored {
        let Disk { hard_state, entries, highest_round } = self;
        let chosen_ballot = entries.get(&hard_state.chosen).map_or(Ballot::ZERO, |entry| entry.ballot);
        let entries = entries.range(hard_state.chosen + 1..).map(|(_, entry)| entry.clone()).collect();
        let (hard_state, highest_round) = (*hard_state, *highest_round);
        Restored { hard_state, chosen_ballot, highest_round, entries, ..Restored::default() }
    }

    /// Makes a write durable and returns the messages that leave then.
    pub fn write(
        &mut self,
        write: Write,
        protocol: ProtocolName,
        history: &mut History,
    ) -> Result<Vec<Message>, Broken> {
        let Write { hard_state, truncate, entries, messages } = write;
        if let Some(after) = hard_state {
            let before = std::mem::replace(&mut self.hard_state, after);
            if before.promised > after.promised || before.chosen > after.chosen {
                return Err(format!("what is durable regressed from {before} to {after}"));
            }
            self.highest_round = self.highest_round.max(after.promised.round);
        }
        if let Some(first) = truncate {
            self.entries.split_off(&first);
        }
        for entry in entries {
            self.highest_round = self.highest_round.max(entry.ballot.round);
            self.entries.insert(entry.index, entry.clone());
            history.note_vote(&entry, self, protocol)?;
        }
        if protocol == ProtocolName::Raft {
            history.note_voted_for(self.hard_state.promised)?;
        }
        messages.iter().try_for_each(|message| self.check_promise(&message.body))?;
        Ok(messages)
    }

    /// What a message promises is durable when it leaves, and more may be already.
    fn check_promise(&self, body: &Body) -> Result<(), Broken> {
        let HardState { promised, .. } = self.hard_state;
        let holds = |ballot: Ballot| promised == ballot || promised.round > ballot.round;
        let kept = match body {
            Body::Paxos(
                PaxosBody::Prepare { ballot, .. }
                | PaxosBody::Promise { ballot, .. }
                | PaxosBody::Accepted { ballot, .. },
            ) => promised >= *ballot,
            Body::Raft(RaftBody::RequestVote { ballot, .. } | RaftBody::Vote { ballot }) => holds(*ballot),
            Body::Raft(RaftBody::Appended { ballot, matched, .. }) => {
                let whole = self.entries.keys().filter(|index| *index <= matched).count() as u64 == *matched;
                promised.round > ballot.round || (promised.round == ballot.round && whole)
            }
            _ => true,
        };
        if kept {
            return Ok(());
        }
        let last = self.entries.keys().next_back().unwrap_or(&0);
        Err(format!("{body} leaves, and durable are {} and entries to {last}", self.hard_state))
    }
}

impl Write {
    /// What a batch wants written, and said after that.
    pub fn of(batch: &Batch) -> Write {
        let Batch { hard_state, truncate, entries, messages, .. } = batch.clone();
        Write { hard_state, truncate, entries, messages }
    }

    /// Whether there is nothing to write.
    pub fn is_durable(&self) -> bool {
        self.hard_state.is_none() && self.truncate.is_none() && self.entries.is_empty()
    }

    /// What a log is once this is written.
    pub fn apply(&self, log: &mut BTreeMap<Index, Entry>) {
        if let Some(first) = self.truncate {
            log.split_off(&first);
        }
        log.extend(self.entries.iter().map(|entry| (entry.index, entry.clone())));
    }

    /// Joins two writes to one that sends nothing: what is never written has no order.
    pub fn then(self, later: Write) -> Write {
        let mut entries = self.entries.into_iter().map(|entry| (entry.index, entry)).collect();
        later.apply(&mut entries);
        let hard_state = later.hard_state.or(self.hard_state);
        let truncate = match (self.truncate, later.truncate) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Write { hard_state, truncate, entries: entries.into_values().collect(), messages: vec![] }
    }
}

impl History {
    fn note_vote(&mut self, entry: &Entry, disk: &Disk, protocol: ProtocolName) -> Result<(), Broken> {
        let Entry { index, ballot, command } = entry;
        let (previous, counts) = match protocol {
            ProtocolName::Paxos => (Ballot::ZERO, true),
            ProtocolName::Raft => {
                let before = disk.entries.get(&(index - 1)).map_or(Ballot::ZERO, |before| before.ballot);
                (before, ballot.round == disk.hard_state.promised.round)
            }
        };
        let new = Vote { command: command.clone(), previous, counts };
        let vote = self.votes.entry((*index, *ballot)).or_insert_with(|| new.clone());
        if (&vote.command, vote.previous) != (command, previous) {
            return Err(format!(
                "two votes under one ballot: {} after {} and then {entry} after {previous}",
                vote.command, vote.previous
            ));
        }
        vote.counts |= counts;
        Ok(())
    }

    fn note_voted_for(&mut self, promised: Ballot) -> Result<(), Broken> {
        if promised.node == 0 {
            return Ok(());
        }
        let first = *self.voted_for.entry(promised.round).or_insert(promised.node);
        if first != promised.node {
            return Err(format!("two votes in a round: for node {first}, and then {promised}"));
        }
        Ok(())
    }

    /// Takes note of what leaves a node: its own proposals.
    pub fn note_sent(&mut self, node: NodeId, sent: &[Message]) -> Result<(), Broken> {
        for message in sent {
            let (Body::Paxos(PaxosBody::Accept { entries, .. })
            | Body::Raft(RaftBody::Append { entries, .. })) = &message.body
            else {
                continue;
            };
            for Entry { index, ballot, command } in entries.iter().filter(|entry| entry.ballot.node == node) {
                let first = self.proposed.entry((*index, *ballot)).or_insert_with(|| command.clone());
                if first != command {
                    return Err(format!("ballot {ballot} proposes {first} and {command} at index {index}"));
                }
            }
        }
        Ok(())
    }

    /// Takes note of the round that a node leads in.
    pub fn note_led(&mut self, ballot: Ballot) {
        if !self.led.contains(&ballot.round) {
            self.led.push(ballot.round);
        }
    }
}
