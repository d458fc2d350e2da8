//! A Raft core of a cluster of any size, told everything by hand as in `common/one_core.rs`, in the terms of
//! TinyKV: logs are given by the rounds of their entries.

use spaxos::consensus::batch::Batch;
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, RaftBody};
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Role, Status};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index, NodeId, Position, Round};

use super::common::one_core::{Node, kind_of};

/// T; ticks are of a millisecond.
pub const T: u64 = 10;
pub const HEARTBEAT_MS: u64 = 2;

/// Node 1 of a cluster.
#[derive(Clone)]
pub struct Core {
    node: Node,
    nodes: u64,
}

impl Core {
    /// A node with an empty log, in round 0.
    pub fn new(nodes: u64) -> Core {
        Core::with_log(nodes, 0, &[])
    }

    pub fn with_log(nodes: u64, round: Round, log: &[Round]) -> Core {
        Core::voted(nodes, Ballot { round, node: 0 }, log)
    }

    /// A node with a log given by the rounds of its entries, none of them known to be chosen, after such a
    /// vote.
    pub fn voted(nodes: u64, promised: Ballot, log: &[Round]) -> Core {
        let restored = Restored {
            hard_state: HardState { promised, chosen: 0 },
            highest_round: promised.round,
            entries: entries(1, log),
            ..Restored::default()
        };
        Core::seeded(nodes, 1, restored)
    }

    pub fn seeded(nodes: u64, seed: u64, restored: Restored) -> Core {
        let config = Config {
            node: 1,
            voters: Voters::new((1..=nodes).collect()),
            election_ms: T,
            heartbeat_ms: HEARTBEAT_MS,
            window_entries: 64,
            window_bytes: 1 << 20,
            seed,
        };
        Core { node: Node::new(ProtocolName::Raft, config, restored), nodes }
    }

    /// A node that asked for pre-votes, got them all, and stands for election; its own vote is not durable.
    pub fn candidate(self) -> Core {
        let (mut core, _) = self.until_it_asks();
        if core.nodes == 1 {
            return core;
        }
        let ballot = Ballot { round: core.status().highest_round + 1, node: 1 };
        for from in 2..=core.nodes {
            let _ =
                core.told(from, ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO });
        }
        assert_eq!((core.status().role, core.status().promised), (Role::Candidate, ballot));
        core
    }

    /// A node that leads by the votes of all; its no-op, the last entry of its log, is not durable.
    pub fn leader(self) -> Core {
        let mut core = self.candidate();
        let ballot = core.ballot();
        for from in 1..=core.nodes {
            let _ = core.told(from, RaftBody::Vote { ballot });
        }
        assert_eq!(core.status().role, Role::Leader);
        core
    }

    /// A node in each role, in a round of its own, with the same log.
    pub fn in_each_role(log: &[Round]) -> [(Role, Core); 3] {
        let core = || Core::with_log(3, 1, log);
        [(Role::Follower, core()), (Role::Candidate, core().candidate()), (Role::Leader, core().leader())]
    }

    pub fn told(&mut self, from: NodeId, body: impl Into<Body>) -> Batch {
        self.node.told(from, body)
    }

    /// Its write is durable: what it said to itself comes back.
    pub fn flushed(&mut self, batch: &Batch) -> Batch {
        let own: Vec<_> = batch.messages.iter().filter(|message| message.to == 1).collect();
        let mut after = Batch::default();
        for message in own {
            self.node.core.step(Input::Message(message.clone()), &mut after);
        }
        after
    }

    /// A millisecond passes.
    pub fn tick(&mut self) -> Batch {
        self.node.ticks(1)
    }

    pub fn propose(&mut self, reqid: u64) -> Batch {
        let proposal = Proposal { command: Command::value(reqid, 1, "v"), deadline_ms: u64::MAX };
        self.node.input(Input::Propose(vec![proposal]))
    }

    pub fn transfer(&mut self, to: NodeId) -> Batch {
        self.node.input(Input::Transfer { to })
    }

    /// Time passes until it asks for pre-votes. Returns what it said then.
    pub fn until_it_asks(mut self) -> (Core, Batch) {
        for _ in 0..=2 * T {
            let batch = self.tick();
            if self.status().role == Role::Candidate {
                return (self, batch);
            }
        }
        panic!("it does not campaign");
    }

    pub fn status(&self) -> Status {
        self.node.core.status()
    }

    pub fn ballot(&self) -> Ballot {
        self.status().promised
    }
}

/// Entries from an index on, given by their rounds, each a value of its own.
pub fn entries(first: Index, rounds: &[Round]) -> Vec<Entry> {
    let entry = |(index, round): (Index, &Round)| Entry {
        index,
        ballot: Ballot { round: *round, node: 2 },
        command: Command::value(100 * *round + index, 2, "v"),
    };
    (first..).zip(rounds).map(entry).collect()
}

/// An Append of node 2, which leads in that round.
pub fn append(round: Round, chosen: Index, previous: Position, rounds: &[Round]) -> Body {
    let ballot = Ballot { round, node: 2 };
    RaftBody::Append { ballot, chosen, previous, entries: entries(previous.index + 1, rounds) }.into()
}

/// A heartbeat of node 2, which leads in that round.
pub fn heartbeat(round: Round, chosen: Index) -> Body {
    ClusterBody::Heartbeat { ballot: Ballot { round, node: 2 }, chosen, sent_ms: 0 }.into()
}

/// The nodes that are sent such messages, early or behind the write.
pub fn receivers(batch: &Batch, kind: &str) -> Vec<NodeId> {
    let all = batch.early.iter().chain(&batch.messages);
    let is_meant = |message: &&Message| kind_of(&message.body) == kind;
    all.filter(is_meant).map(|message| message.to).collect()
}

/// The messages for a node, as words.
pub fn said_to(batch: &Batch, to: NodeId) -> Vec<String> {
    let all = batch.early.iter().chain(&batch.messages);
    all.filter(|message| message.to == to).map(|message| message.body.to_string()).collect()
}
