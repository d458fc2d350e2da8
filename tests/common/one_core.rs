//! One core that is told everything by hand, for tests that look at each side of a limit. Node 1 of three;
//! the test decides what the others say. The rules are the same for both protocols as far as they can be:
//! what the protocols say differently is below, a function for each subject.
//!
//! Left out: disks and deliveries. A write counts as durable when the test tells the node what it says to
//! itself.

use spaxos::consensus::batch::{Batch, Event};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, RaftBody, Range};
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Role};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index, NodeId, Position, Round};

use super::any_core::AnyCore;

pub const T: u64 = 100;

/// More than any wait.
pub const LONG_MS: u64 = 10 * T;

/// The ballot of the first campaign of a node with an empty disk.
pub const FIRST: Ballot = Ballot { round: 1, node: 1 };

/// The position before the first entry.
pub const START: Position = Position { index: 0, round: 0 };

/// Node 1 of a cluster.
#[derive(Clone)]
pub struct Node {
    pub core: AnyCore,
    pub now_ms: u64,
    /// Whether the others answer each heartbeat immediately.
    pub followed: bool,
}

impl Node {
    pub fn new(protocol: ProtocolName, config: Config, restored: Restored) -> Node {
        Node { core: AnyCore::new(protocol, config, restored), now_ms: 0, followed: false }
    }

    pub fn follower(protocol: ProtocolName) -> Node {
        Node::new(protocol, config(), Restored::default())
    }

    /// It has asked whether the others would follow ballot 1.1.
    pub fn asking(protocol: ProtocolName) -> Node {
        Node::follower(protocol).until_it_asks()
    }

    /// It campaigns with ballot 1.1, and its own promise or vote is durable.
    pub fn candidate(protocol: ProtocolName) -> Node {
        Node::follower(protocol).made_candidate()
    }

    /// It leads with ballot 1.1. Nothing is chosen: its no-op at index 1 is on no disk.
    pub fn leader(protocol: ProtocolName) -> Node {
        Node::follower(protocol).made_leader()
    }

    /// A node that was just made becomes the leader, in the round after its last.
    pub fn made_leader(self) -> Node {
        let mut node = self.made_candidate();
        let ballot = node.core.status().promised;
        let _ = node.told(2, support(node.core.protocol(), ballot));
        assert_eq!(node.core.status().role, Role::Leader);
        node
    }

    fn made_candidate(self) -> Node {
        let mut node = self.until_it_asks();
        let ballot = Ballot { round: node.core.status().promised.round + 1, node: 1 };
        let batch = node.told(2, ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO });
        let own = batch.messages.iter().find(|message| message.to == 1).expect("it supports itself");
        let _ = node.told(1, own.body.clone());
        node
    }

    /// Lets time pass until it asks whether others would follow.
    pub fn until_it_asks(mut self) -> Node {
        let _ = self.when(self.patience_ms(), "");
        self
    }

    /// The leader hears that all three nodes have its log up to an index.
    pub fn matched(mut self, last: Index) -> Node {
        let ballot = self.core.status().promised;
        for from in [1, 2, 3] {
            let _ = self.told(from, has(self.core.protocol(), ballot, last));
        }
        self
    }

    pub fn told(&mut self, from: NodeId, body: impl Into<Body>) -> Batch {
        self.message(Message { from, to: 1, body: body.into() })
    }

    pub fn message(&mut self, message: Message) -> Batch {
        self.input(Input::Message(message))
    }

    /// Time passes in one tick.
    pub fn ticks(&mut self, ms: u64) -> Batch {
        self.now_ms += ms;
        self.input(Input::Tick { now_ms: self.now_ms })
    }

    pub fn proposes(&mut self, commands: Vec<Command>) -> Batch {
        let deadline_ms = self.now_ms + 100 * T;
        let proposals = commands.into_iter().map(|command| Proposal { command, deadline_ms }).collect();
        self.input(Input::Propose(proposals))
    }

    pub fn input(&mut self, input: Input) -> Batch {
        let mut batch = Batch::default();
        self.core.step(input, &mut batch);
        batch
    }

    /// Lets time pass in steps of a millisecond. Returns when, counted from now, messages of this kind left,
    /// and for whom.
    pub fn when(&mut self, ms: u64, kind: &str) -> Vec<(u64, NodeId)> {
        let mut when = Vec::new();
        for passed_ms in 1..=ms {
            let batch = self.ticks(1);
            for message in batch.early.iter().chain(&batch.messages) {
                if kind_of(&message.body) == kind {
                    when.push((passed_ms, message.to));
                }
                if let (Body::Cluster(ClusterBody::Heartbeat { ballot, sent_ms, .. }), true) =
                    (&message.body, self.followed)
                {
                    let (ballot, sent_ms) = (*ballot, *sent_ms);
                    let _ = self.told(message.to, ClusterBody::HeartbeatReply { ballot, chosen: 0, sent_ms });
                }
            }
        }
        when
    }

    /// How long it takes until it asks whether others would follow, if nothing happens.
    pub fn patience_ms(&self) -> u64 {
        let mut node = self.clone();
        let asks = |event: &Event| matches!(event, Event::Campaigning { .. });
        (1..=LONG_MS).find(|_| node.ticks(1).events.iter().any(asks)).expect("it asks")
    }

    /// Checks that a message is taken for nonsense: the core counts it, each time it comes, and does nothing
    /// else.
    pub fn ignores(mut self, message: Message) {
        let protocol = self.core.protocol();
        for times in 1..=3 {
            let before = self.core.status();
            let batch = self.message(message.clone());
            assert!(batch.is_empty(), "{protocol}, {message}: {batch}");
            let after = self.core.status();
            assert_eq!(after.ignored, times, "{protocol}, {message}");
            assert_eq!((after.role, after.promised, after.last), (before.role, before.promised, before.last));
            assert_eq!(after.highest_round, before.highest_round, "{protocol}, {message}");
        }
    }
}

pub fn config() -> Config {
    Config {
        node: 1,
        voters: Voters::new(vec![1, 2, 3]),
        election_ms: T,
        heartbeat_ms: 10,
        window_entries: 64,
        window_bytes: 1000,
        seed: 1,
    }
}

/// Above a watermark of 0, or at it.
pub fn restored(hard_state: HardState, entries: &[Entry]) -> Restored {
    Restored { hard_state, entries: entries.to_vec(), ..Restored::default() }
}

pub fn ballot(round: Round, node: NodeId) -> Ballot {
    Ballot { round, node }
}

pub fn at(index: Index, round: Round) -> Position {
    Position { index, round }
}

pub fn entry(index: Index, ballot: Ballot) -> Entry {
    Entry { index, ballot, command: Command::value(index, ballot.node, "v") }
}

/// The lengths of the lists that leave early for a node.
pub fn lists(batch: &Batch, to: NodeId) -> Vec<usize> {
    let to_it = batch.early.iter().filter(|message| message.to == to);
    let lengths = to_it.map(|message| match &message.body {
        Body::Paxos(PaxosBody::Accept { entries, .. }) | Body::Raft(RaftBody::Append { entries, .. }) => {
            entries.len()
        }
        Body::Cluster(ClusterBody::Forward { commands }) => commands.len(),
        _ => 0,
    });
    lengths.filter(|length| *length > 0).collect()
}

/// The name of a message's kind.
pub fn kind_of(body: &Body) -> String {
    body.to_string().split(' ').next().unwrap_or_default().to_owned()
}

// ---- what both protocols say, each in its own words ----

/// A node whose log is up to date asks whether others would follow it.
pub fn pre_vote(protocol: ProtocolName, ballot: Ballot) -> Body {
    match protocol {
        ProtocolName::Paxos => PaxosBody::PreVote { ballot }.into(),
        ProtocolName::Raft => RaftBody::RequestPreVote { ballot, last: up_to_date(ballot) }.into(),
    }
}

/// A node whose log is up to date campaigns.
pub fn campaign(protocol: ProtocolName, ballot: Ballot) -> Body {
    match protocol {
        ProtocolName::Paxos => PaxosBody::Prepare { ballot, first: 1 }.into(),
        ProtocolName::Raft => RaftBody::RequestVote { ballot, last: up_to_date(ballot) }.into(),
    }
}

/// The last position of a long log whose last entry is of the round before.
fn up_to_date(ballot: Ballot) -> Position {
    let round = ballot.round.saturating_sub(1);
    at(round.min(1) * 9, round)
}

/// The answer that a candidate hopes for, of a node with an empty log.
pub fn support(protocol: ProtocolName, ballot: Ballot) -> Body {
    match protocol {
        ProtocolName::Paxos => promise(ballot, 0, (1, 1), vec![]),
        ProtocolName::Raft => RaftBody::Vote { ballot }.into(),
    }
}

/// A leader sends entries from the first index on.
pub fn send(protocol: ProtocolName, ballot: Ballot, chosen: Index, entries: &[Entry]) -> Body {
    match protocol {
        ProtocolName::Paxos => accept(ballot, chosen, entries.to_vec()),
        ProtocolName::Raft => append(ballot, chosen, START, entries),
    }
}

/// A node has the leader's entries up to an index; none of them is known to it as chosen.
pub fn has(protocol: ProtocolName, ballot: Ballot, last: Index) -> Body {
    match protocol {
        ProtocolName::Paxos => accepted(ballot, 1, last),
        ProtocolName::Raft => RaftBody::Appended { ballot, chosen: 0, matched: last }.into(),
    }
}

// ---- Paxos ----

pub fn promise(ballot: Ballot, chosen: Index, page: (Index, Index), entries: Vec<Entry>) -> Body {
    PaxosBody::Promise { ballot, chosen, compacted: 0, first: page.0, last: page.1, more: false, entries }
        .into()
}

pub fn accept(ballot: Ballot, chosen: Index, entries: Vec<Entry>) -> Body {
    PaxosBody::Accept { ballot, chosen, entries }.into()
}

/// No range at all if `last` is below `first`.
pub fn accepted(ballot: Ballot, first: Index, last: Index) -> Body {
    let ranges = if first <= last { vec![Range { first, last }] } else { vec![] };
    PaxosBody::Accepted { ballot, chosen: 0, ranges }.into()
}

// ---- Raft ----

pub fn append(ballot: Ballot, chosen: Index, previous: Position, entries: &[Entry]) -> Body {
    RaftBody::Append { ballot, chosen, previous, entries: entries.to_vec() }.into()
}
