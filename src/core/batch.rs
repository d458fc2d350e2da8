//! What one turn of a core wants done: one plain, printable value.
//!
//! A core has no disk, socket or logger; it fills a [`Batch`], and its driver (`pipeline`, a test, a
//! simulator) carries it out in this order: `early` immediately; then `hard_state`, `truncate` and `entries`
//! in one atomic durable write; then `messages`, those to the node itself included. `chosen` and `events`
//! promise nothing and need not wait; `pages` are read from what is chosen.

use std::fmt;

use super::message::{Body, Message, join};
use super::types::{Ballot, Entry, HardState, Index, NodeId};

/// The effects of one turn.
#[must_use = "a batch that is dropped loses promises, entries and answers"]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Messages that promise nothing, for others only.
    pub early: Vec<Message>,
    /// Must become durable, in one write with `entries`. That of a later batch replaces it.
    pub hard_state: Option<HardState>,
    /// All entries from this index on must be removed durably, before `entries` are put. Only Raft followers
    /// ask for it, and only for what is not chosen.
    pub truncate: Option<Index>,
    /// Must become durable; they replace what was at their indexes.
    pub entries: Vec<Entry>,
    /// Messages that leave only after the write of this batch and of all before it, those to the node
    /// itself included.
    pub messages: Vec<Message>,
    /// Pages of chosen entries to read from the log and send.
    pub pages: Vec<Page>,
    /// Reads of this node that may be answered once every index up to theirs is delivered.
    pub reads: Vec<ReadIndex>,
    /// The new watermark, if it was raised: the applier may deliver up to it.
    pub chosen: Option<Index>,
    /// What happened, for a person to read.
    pub events: Vec<Event>,
}

/// A read that [`Input::Read`](super::protocol::Input::Read) asked for may be answered from a state that has
/// every index up to `index`: then it sees everything that anyone was told of before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadIndex {
    /// The id of the question.
    pub id: u64,
    /// What must be delivered before.
    pub index: Index,
}

/// A page of chosen entries that a peer asked for. It must be sent as
/// [`Learn`](super::message::ClusterBody::Learn), with at least one entry and otherwise at most
/// [`MAX_PAGE_BYTES`](super::message::MAX_PAGE_BYTES).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// The peer that asked.
    pub to: NodeId,
    /// The first wanted index.
    pub first: Index,
    /// The last that may be sent: the watermark of the core when it was asked.
    pub chosen: Index,
}

/// What a person who watches the node wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// No leader was heard for the election timeout: others are asked whether they would follow.
    Campaigning {
        /// The ballot it would use.
        ballot: Ballot,
    },
    /// A majority would follow, or the leader hands over: the ballot is promised and prepared (Raft: votes
    /// are asked for).
    Preparing {
        /// The candidate's ballot.
        ballot: Ballot,
        /// The leader that hands over.
        handed_by: Option<NodeId>,
    },
    /// A majority promised, and all they had accepted is adopted (Raft: a majority voted).
    Leading {
        /// The leader's ballot.
        ballot: Ballot,
        /// How many entries of earlier ballots it proposes again (Raft: has in its log).
        adopted: u64,
        /// How many holes it fills with no-ops.
        holes: u64,
    },
    /// Another node leads.
    Following {
        /// The leader.
        leader: NodeId,
        /// Its ballot.
        ballot: Ballot,
    },
    /// It no longer leads.
    SteppedDown {
        /// The ballot it led under.
        ballot: Ballot,
        /// Why, in plain words.
        why: &'static str,
    },
    /// It begins to hand leadership over.
    HandingOver {
        /// The successor.
        to: NodeId,
        /// The ballot it leads under.
        ballot: Ballot,
    },
    /// The successor did not take over within T: it goes on leading.
    KeptLeading {
        /// The node that should have taken over.
        to: NodeId,
        /// The ballot it leads under.
        ballot: Ballot,
    },
    /// Its log differs from the leader's: the end of its own is dropped.
    Truncating {
        /// The first entry that is dropped.
        first: Index,
        /// The last one.
        last: Index,
        /// The ballot that the leader leads under.
        ballot: Ballot,
    },
    /// It lacks chosen entries and asks for them.
    CatchingUp {
        /// The node that it asks.
        from: NodeId,
        /// The first index it lacks.
        first: Index,
        /// The highest index that it knows to be chosen.
        chosen: Index,
    },
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Batch::default()
    }

    /// Whether something must become durable.
    pub fn must_write(&self) -> bool {
        self.hard_state.is_some() || self.truncate.is_some() || !self.entries.is_empty()
    }

    /// Removes all entries from an index on, including those of this batch.
    pub(crate) fn truncate_from(&mut self, first: Index) {
        self.entries.retain(|entry| entry.index < first);
        self.truncate = Some(self.truncate.map_or(first, |earlier| earlier.min(first)));
    }

    /// Adds entries that must become durable.
    pub(crate) fn write(&mut self, entries: Vec<Entry>) {
        if self.entries.is_empty() {
            self.entries = entries;
        } else {
            self.entries.extend(entries);
        }
    }

    /// Adds a message that promises nothing.
    pub(crate) fn send_early(&mut self, from: NodeId, to: NodeId, body: impl Into<Body>) {
        let body = body.into();
        assert_ne!(from, to, "a message to the node itself promises, so it is never early: {body}");
        push(&mut self.early, Message { from, to, body });
    }

    /// Adds a message that waits for the write.
    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, body: impl Into<Body>) {
        push(&mut self.messages, Message { from, to, body: body.into() });
    }
}

/// Adds a message, joined with the last one to the same node if one message can say both: a turn of many
/// inputs then sends one Accept, one Accepted, one Forward to each peer.
fn push(messages: &mut Vec<Message>, message: Message) {
    let Message { from, to, body } = message;
    let last = messages.iter_mut().rev().find(|last| last.to == to);
    let apart = match last {
        Some(last) => last.body.join(body).err(),
        None => Some(body),
    };
    if let Some(body) = apart {
        messages.push(Message { from, to, body });
    }
}

impl fmt::Display for Batch {
    /// One line for each effect, in the order in which they are carried out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "event {event}")?;
        }
        for message in &self.early {
            writeln!(f, "early {message}")?;
        }
        if let Some(hard_state) = &self.hard_state {
            writeln!(f, "write {hard_state}")?;
        }
        if let Some(first) = self.truncate {
            writeln!(f, "write truncate from {first}")?;
        }
        if !self.entries.is_empty() {
            writeln!(f, "write [{}]", join(&self.entries))?;
        }
        for message in &self.messages {
            writeln!(f, "after {message}")?;
        }
        for Page { to, first, chosen } in &self.pages {
            writeln!(f, "page to {to}: {first}..{chosen}")?;
        }
        for ReadIndex { id, index } in &self.reads {
            writeln!(f, "read {id} from {index}")?;
        }
        if let Some(chosen) = self.chosen {
            writeln!(f, "chosen {chosen}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Campaigning { ballot } => {
                write!(f, "no leader heard: asking whether others would follow ballot {ballot}")
            }
            Event::Preparing { ballot, handed_by: None } => {
                write!(f, "a majority would follow: preparing ballot {ballot}")
            }
            Event::Preparing { ballot, handed_by: Some(leader) } => {
                write!(f, "node {leader} hands over: preparing ballot {ballot}")
            }
            Event::Leading { ballot, adopted, holes } => {
                write!(f, "leading with ballot {ballot} (adopted {adopted} entries, filled {holes} holes)")
            }
            Event::Following { leader, ballot } => write!(f, "following node {leader} with ballot {ballot}"),
            Event::SteppedDown { ballot, why } => write!(f, "stopped leading with ballot {ballot}: {why}"),
            Event::HandingOver { to, ballot } => write!(f, "handing over from ballot {ballot} to node {to}"),
            Event::KeptLeading { to, ballot } => {
                write!(f, "node {to} did not take over: still leading with ballot {ballot}")
            }
            Event::Truncating { first, last, ballot } => {
                write!(f, "dropping entries {first} to {last}: the leader of ballot {ballot} has others")
            }
            Event::CatchingUp { from, first, chosen } => {
                write!(f, "catching up from node {from}: indexes {first} to {chosen}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{ClusterBody, MAX_PAGE_BYTES, PaxosBody, Range};
    use super::super::types::Command;
    use super::*;

    const BALLOT: Ballot = Ballot { round: 1, node: 1 };
    const OTHER: Ballot = Ballot { round: 2, node: 1 };

    fn accept(ballot: Ballot, chosen: Index, indexes: &[Index]) -> Body {
        let entry = |index: &Index| Entry { index: *index, ballot, command: Command::noop(1) };
        PaxosBody::Accept { ballot, chosen, entries: indexes.iter().map(entry).collect() }.into()
    }

    fn accepted(ballot: Ballot, chosen: Index, ranges: &[(Index, Index)]) -> Body {
        let ranges = ranges.iter().map(|(first, last)| Range { first: *first, last: *last }).collect();
        PaxosBody::Accepted { ballot, chosen, ranges }.into()
    }

    fn heartbeat(ballot: Ballot, chosen: Index) -> Body {
        ClusterBody::Heartbeat { ballot, chosen, sent_ms: 7 }.into()
    }

    fn forward(len: usize) -> Body {
        ClusterBody::Forward { commands: vec![Command::value(len as u64, 1, vec![b'x'; len])] }.into()
    }

    /// What a batch says when it is given this and then that, for the same node.
    fn said(this: &Body, that: &Body) -> Vec<String> {
        let mut batch = Batch::default();
        for body in [this, that] {
            batch.send(1, 2, body.clone());
        }
        batch.messages.iter().map(|message| message.body.to_string()).collect()
    }

    /// Two messages that are joined say what both said: the higher watermark, no index between their ranges.
    #[test]
    fn what_is_joined_says_what_both_said() {
        let cases = [
            (
                accept(BALLOT, 3, &[5]),
                accept(BALLOT, 2, &[6]),
                "Accept 1.1 chosen=3 [5@1.1:noop, 6@1.1:noop]",
            ),
            (
                accept(BALLOT, 2, &[5]),
                accept(BALLOT, 3, &[8]),
                "Accept 1.1 chosen=3 [5@1.1:noop, 8@1.1:noop]",
            ),
            (accept(BALLOT, 2, &[5]), heartbeat(BALLOT, 3), "Accept 1.1 chosen=3 [5@1.1:noop]"),
            (accept(BALLOT, 3, &[5]), heartbeat(BALLOT, 2), "Accept 1.1 chosen=3 [5@1.1:noop]"),
            (heartbeat(BALLOT, 2), heartbeat(BALLOT, 3), "Heartbeat 1.1 chosen=3 sent=7"),
            (accepted(BALLOT, 2, &[(3, 4)]), accepted(BALLOT, 3, &[(5, 6)]), "Accepted 1.1 chosen=3 [3..6]"),
            (accepted(BALLOT, 3, &[(4, 4)]), accepted(BALLOT, 2, &[(6, 6)]), "Accepted 1.1 chosen=3 [4, 6]"),
            (
                accepted(BALLOT, 0, &[(1, 1)]),
                accepted(BALLOT, 0, &[(2, 2), (4, 4), (5, 5)]),
                "Accepted 1.1 chosen=0 [1..2, 4..5]",
            ),
        ];
        for (this, that, both) in cases {
            assert_eq!(said(&this, &that), [both], "{this} and {that}");
        }
    }

    /// Messages whose indexes do not ascend, that have different ballots or that say different things stay
    /// apart.
    #[test]
    fn what_cannot_be_said_in_one_message_is_said_in_two() {
        let cases = [
            (accept(BALLOT, 2, &[5]), accept(BALLOT, 2, &[5])),
            (accept(BALLOT, 2, &[5]), accept(BALLOT, 2, &[4])),
            (accept(BALLOT, 2, &[5]), accept(OTHER, 2, &[6])),
            (accept(BALLOT, 2, &[5]), heartbeat(OTHER, 2)),
            (heartbeat(BALLOT, 2), heartbeat(OTHER, 2)),
            (heartbeat(BALLOT, 2), accept(BALLOT, 2, &[5])),
            (accepted(BALLOT, 2, &[(3, 4)]), accepted(BALLOT, 2, &[(4, 5)])),
            (accepted(BALLOT, 2, &[(5, 6)]), accepted(BALLOT, 2, &[(3, 4)])),
            (accepted(BALLOT, 2, &[(3, 4)]), accepted(OTHER, 2, &[(5, 6)])),
            (ClusterBody::CatchUp { first: 1 }.into(), ClusterBody::CatchUp { first: 2 }.into()),
        ];
        for (this, that) in cases {
            assert_eq!(said(&this, &that), [this.to_string(), that.to_string()]);
        }
    }

    /// A joined list holds at most a page; otherwise peers would close the connection.
    #[test]
    fn what_is_joined_fits_a_page() {
        let len = MAX_PAGE_BYTES / 2 - 64;
        assert_eq!(said(&forward(len), &forward(len)).len(), 1);
        assert_eq!(said(&forward(len), &forward(len + 1)).len(), 2);
        let accept = |index, len| {
            let command = Command::value(index, 1, vec![b'x'; len]);
            let entries = vec![Entry { index, ballot: BALLOT, command }];
            PaxosBody::Accept { ballot: BALLOT, chosen: 0, entries }.into()
        };
        assert_eq!(said(&accept(1, len), &accept(2, len)).len(), 1);
        assert_eq!(said(&accept(1, len), &accept(2, len + 1)).len(), 2);
    }
}
