//! As `one_core.rs`, with a Raft core.

use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, RaftBody};
use spaxos::consensus::protocol::{Protocol, Role};
use spaxos::consensus::raft::Raft;
use spaxos::consensus::types::{Ballot, Entry, HardState, Index, Position, Round};

use super::one_core::{OneCore, config};

pub type Node = OneCore<Raft>;

/// Before the first entry.
pub const START: Position = Position { index: 0, round: 0 };

impl Node {
    pub fn new(config: Config, restored: Restored) -> Node {
        Node { core: Raft::new(config, restored), now_ms: 0, followed: false }
    }

    pub fn follower() -> Node {
        Node::new(config(), Restored::default())
    }

    /// It stands for election in round 1, and has its own vote.
    pub fn candidate() -> Node {
        Node::follower().made_candidate()
    }

    /// It leads in round 1; its no-op at 1 is on no disk.
    pub fn leader() -> Node {
        Node::follower().made_leader()
    }

    /// The same, of a node that was just made, in the round after its last.
    pub fn made_leader(self) -> Node {
        let mut node = self.made_candidate();
        let ballot = node.core.status().promised;
        let _ = node.told(2, RaftBody::Vote { ballot });
        assert_eq!(node.core.status().role, Role::Leader);
        node
    }

    fn made_candidate(self) -> Node {
        let mut node = self.until_it_asks();
        let ballot = Ballot { round: node.core.status().promised.round + 1, node: 1 };
        let batch = node.told(2, ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO });
        let own = batch.messages.iter().find(|message| message.to == 1).expect("a vote for itself");
        let _ = node.told(1, own.body.clone());
        node
    }

    /// All three nodes have its log up to an index.
    pub fn matched(mut self, matched: Index) -> Node {
        let ballot = self.core.status().promised;
        for from in [1, 2, 3] {
            let _ = self.told(from, RaftBody::Appended { ballot, chosen: 0, matched });
        }
        self
    }
}

/// Above a watermark of 0, or at it.
pub fn restored(hard_state: HardState, entries: &[Entry]) -> Restored {
    Restored { hard_state, entries: entries.to_vec(), ..Restored::default() }
}

pub fn append(ballot: Ballot, chosen: Index, previous: Position, entries: &[Entry]) -> Body {
    RaftBody::Append { ballot, chosen, previous, entries: entries.to_vec() }.into()
}

pub fn at(index: Index, round: Round) -> Position {
    Position { index, round }
}
