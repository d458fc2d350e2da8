//! The trait that every consensus core implements, its inputs and its status.
//!
//! A core is a function: state and input give state and batch. It has no clock, socket, file, thread or
//! logger, and its randomness is a small generator inside its state, so the same inputs always give the
//! same batches, and a core can be cloned, compared, hashed and searched exhaustively. `dyn Protocol`
//! appears above `consensus` only.

use super::batch::Batch;
use super::message::Message;
use super::types::{Ballot, Command, Index, NodeId, Round};

/// A consensus core.
pub trait Protocol: Send {
    /// Takes one input and adds its effects to `out`. Never fails: nonsense from outside is ignored and
    /// counted ([`Status::ignored`]); our own bugs fail an assertion.
    fn step(&mut self, input: Input, out: &mut Batch);

    /// Its state, for people and metrics.
    fn status(&self) -> Status;

    /// How many more proposals of its own clients it takes before it would refuse one. The caller keeps the
    /// rest. What other nodes forward has a share of its own.
    fn room(&self) -> usize;
}

/// What happens to a core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time passed: a monotonic clock in milliseconds. Ticks may be late, never backward. Several belong in
    /// each heartbeat interval. One that comes later than a heartbeat interval counts as if the process had
    /// not run in between: that silence says nothing about the others.
    Tick {
        /// The clock.
        now_ms: u64,
    },
    /// A message from a peer, or one of its own that came back after the write.
    Message(Message),
    /// Proposals of this node's clients, all together so that they share messages and one write.
    Propose(Vec<Proposal>),
    /// A reader wants to know from which index on a state answers what is asked now. The answer comes in
    /// [`Batch::reads`], or never (no leader, a lost message): then the reader asks again under another id.
    Read {
        /// Names the question; one question may serve many reads.
        id: u64,
    },
    /// If this node leads, it must hand leadership over, within T or not at all; proposals wait until then.
    Transfer {
        /// The successor, another voter.
        to: NodeId,
    },
    /// This node is in trouble (its disk hangs, say), and these voters are not: as long as there are any, it
    /// hands over to one of them if it leads, steps down if none takes over within T, and leaves elections to
    /// them. Each input replaces the one before; a core starts with an empty list.
    MakeWay {
        /// Other voters that are better off.
        to: Vec<NodeId>,
    },
}

/// A client's command and how long it is worth proposing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Its request id is not [`RequestId::NONE`](super::types::RequestId::NONE).
    pub command: Command,
    /// On the clock of [`Input::Tick`]: after it the command is neither forwarded nor proposed any more.
    pub deadline_ms: u64,
}

/// What a node is doing in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether others would follow (pre-vote), or prepares a ballot.
    Candidate,
    /// Proposes.
    Leader,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}

/// The state of a core: `compacted <= chosen <= last`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// What it is doing.
    pub role: Role,
    /// The highest ballot it promised.
    pub promised: Ballot,
    /// The highest round it used, promised, stored or heard of: a core that takes its place starts above.
    pub highest_round: Round,
    /// The leader, as far as it knows.
    pub leader: Option<NodeId>,
    /// Every index up to this one is chosen.
    pub chosen: Index,
    /// The highest index it has an entry for.
    pub last: Index,
    /// Entries up to this index are no longer kept.
    pub compacted: Index,
    /// Indexes proposed by this leader and not yet chosen.
    pub in_flight: u64,
    /// Requests of this node's clients, and of forwarders if it leads, that are not yet chosen.
    pub pending: u64,
    /// How often a leader was elected here since the start.
    pub elections: u64,
    /// Nonsensical messages (impossible ballots or indexes, unknown senders) since the start.
    pub ignored: u64,
    /// Messages dropped because a limit was reached; the protocol repeats them.
    pub dropped: u64,
    /// The other members, by id.
    pub peers: Vec<PeerStatus>,
}

impl Status {
    /// Whether it leads, under the ballot [`Status::promised`].
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}

/// What a node knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// Its watermark, as last heard (0: never).
    pub chosen: Index,
    /// When it was last heard, on the clock of [`Input::Tick`].
    pub heard_ms: u64,
}
