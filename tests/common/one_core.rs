//! One core that is told everything by hand, for tests that look at each side of a limit. Node 1 of three;
//! what the others would say is up to the test. Left out: disks and deliveries; a write counts as durable
//! when the test says to the node what it says to itself.

use spaxos::consensus::batch::{Batch, Event};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody};
use spaxos::consensus::paxos::Paxos;
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command, Entry, Index, NodeId};

pub const T: u64 = 100;

/// More than any wait.
pub const LONG_MS: u64 = 10 * T;

/// The first round that nodes with nothing on their disks use.
pub const FIRST: Ballot = Ballot { round: 1, node: 1 };

/// Node 1 of a cluster.
#[derive(Clone)]
pub struct OneCore<C> {
    pub core: C,
    pub now_ms: u64,
    /// Whether the others answer heartbeats at once.
    pub followed: bool,
}

/// With Paxos; `one_raft.rs` has the other.
pub type Node = OneCore<Paxos>;

impl Node {
    pub fn new(config: Config, restored: Restored) -> Node {
        Node { core: Paxos::new(config, restored), now_ms: 0, followed: false }
    }

    pub fn follower() -> Node {
        Node::new(config(), Restored::default())
    }

    /// It has asked whether the others would follow ballot 1.1.
    pub fn asking() -> Node {
        Node::follower().until_it_asks()
    }

    /// It has prepared ballot 1.1, and its own promise came back.
    pub fn candidate() -> Node {
        Node::follower().made_candidate()
    }

    /// It leads with ballot 1.1; nothing is chosen, its no-op at 1 is not accepted.
    pub fn leader() -> Node {
        Node::follower().made_leader()
    }

    /// The same, of a node that was just made.
    pub fn made_leader(self) -> Node {
        let mut node = self.made_candidate();
        let _ = node.told(2, promise(FIRST, 0, (1, 1), vec![]));
        assert_eq!(node.core.status().role, Role::Leader);
        node
    }

    fn made_candidate(self) -> Node {
        let mut node = self.until_it_asks();
        let batch =
            node.told(2, ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: Ballot::ZERO });
        let own = batch.messages.iter().find(|message| message.to == 1).expect("a promise to itself");
        let _ = node.told(1, own.body.clone());
        node
    }
}

impl<C: Protocol + Clone> OneCore<C> {
    /// Lets time pass until it asks whether others would follow.
    pub fn until_it_asks(mut self) -> Self {
        let _ = self.when(self.patience_ms(), "");
        self
    }

    pub fn told(&mut self, from: NodeId, body: impl Into<Body>) -> Batch {
        self.message(Message { from, to: 1, body: body.into() })
    }

    pub fn message(&mut self, message: Message) -> Batch {
        let mut batch = Batch::default();
        self.core.step(Input::Message(message), &mut batch);
        batch
    }

    /// Time passes in one tick.
    pub fn ticks(&mut self, ms: u64) -> Batch {
        let mut batch = Batch::default();
        self.now_ms += ms;
        self.core.step(Input::Tick { now_ms: self.now_ms }, &mut batch);
        batch
    }

    /// Lets time pass in steps of a millisecond: when, from now on, which such messages left, and for whom.
    pub fn when(&mut self, ms: u64, kind: &str) -> Vec<(u64, NodeId)> {
        let mut when = Vec::new();
        for passed_ms in 1..=ms {
            let batch = self.ticks(1);
            for message in batch.early.iter().chain(&batch.messages) {
                if message.body.to_string().split(' ').next() == Some(kind) {
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

    pub fn proposes(&mut self, commands: Vec<Command>) -> Batch {
        let mut batch = Batch::default();
        let deadline_ms = self.now_ms + 100 * T;
        let proposals = commands.into_iter().map(|command| Proposal { command, deadline_ms }).collect();
        self.core.step(Input::Propose(proposals), &mut batch);
        batch
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

pub fn ballot(round: u64, node: NodeId) -> Ballot {
    Ballot { round, node }
}

pub fn entry(index: Index, ballot: Ballot) -> Entry {
    Entry { index, ballot, command: Command::value(index, ballot.node, "v") }
}

pub fn promise(ballot: Ballot, chosen: Index, page: (Index, Index), entries: Vec<Entry>) -> Body {
    PaxosBody::Promise { ballot, chosen, compacted: 0, first: page.0, last: page.1, more: false, entries }
        .into()
}

pub fn accept(ballot: Ballot, chosen: Index, entries: Vec<Entry>) -> Body {
    PaxosBody::Accept { ballot, chosen, entries }.into()
}
