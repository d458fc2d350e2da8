//! The messages that nodes exchange. The kinds that all protocols share are a part of [`Body`], and each
//! protocol's own kinds are another. A kind is a variant with just its fields.
//!
//! This file has what is true of all kinds. The file of a part says what its kinds mean, whether they
//! promise, which of them can be joined, and how they are printed: `message/cluster.rs` (shared),
//! `paxos/message.rs`, `raft/message.rs`. No kind relies on order, and each may be lost or come twice.

pub(super) mod cluster;
pub(super) mod lists;

use std::fmt;

use super::types::NodeId;

pub use super::paxos::message::PaxosBody;
pub use super::raft::message::RaftBody;
pub use cluster::ClusterBody;
pub(crate) use lists::join;
pub use lists::{MAX_PAGE_BYTES, Range};

/// A message between two members, or from a node to itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The node that says it; `wire` makes sure that this is the peer at the other end.
    pub from: NodeId,
    /// The node that it is for.
    pub to: NodeId,
    /// What it says.
    pub body: Body,
}

/// What a message says. A core ignores and counts the messages of another protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Shared by all protocols.
    Cluster(ClusterBody),
    /// Said by [`Paxos`](super::paxos::Paxos) only.
    Paxos(PaxosBody),
    /// Said by [`Raft`](super::raft::Raft) only.
    Raft(RaftBody),
}

impl Body {
    /// Whether it *promises*: such a message leaves a node only after the state behind it is durable
    /// ([`Batch::messages`](super::batch::Batch)); one that promises nothing may leave immediately
    /// ([`Batch::early`](super::batch::Batch)). Each kind's documentation gives the reason.
    pub fn promises(&self) -> bool {
        match self {
            Body::Cluster(body) => body.promises(),
            Body::Paxos(body) => body.promises(),
            Body::Raft(body) => body.promises(),
        }
    }

    /// What its lists take in memory and, roughly, on the wire.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Body::Cluster(body) => body.cost_bytes(),
            Body::Paxos(body) => body.cost_bytes(),
            Body::Raft(body) => body.cost_bytes(),
        }
    }

    /// Takes `later`, which goes to the same node, into this message if one message can say both: they have
    /// the same kind and ballot, indexes still ascend, and together they fill at most a page. A protocol's
    /// message may also take in a shared one if it says all of that. Otherwise `later` is returned.
    pub(super) fn join(&mut self, later: Body) -> Result<(), Body> {
        match (self, later) {
            (Body::Cluster(body), Body::Cluster(later)) => body.join(later).map_err(Body::Cluster),
            (Body::Paxos(body), Body::Paxos(later)) => body.join(later).map_err(Body::Paxos),
            (Body::Paxos(body), Body::Cluster(later)) => body.join_cluster(later).map_err(Body::Cluster),
            (Body::Raft(body), Body::Raft(later)) => body.join(later).map_err(Body::Raft),
            (Body::Raft(body), Body::Cluster(later)) => body.join_cluster(later).map_err(Body::Cluster),
            (_, later) => Err(later),
        }
    }
}

impl From<ClusterBody> for Body {
    fn from(body: ClusterBody) -> Body {
        Body::Cluster(body)
    }
}

impl From<PaxosBody> for Body {
    fn from(body: PaxosBody) -> Body {
        Body::Paxos(body)
    }
}

impl From<RaftBody> for Body {
    fn from(body: RaftBody) -> Body {
        Body::Raft(body)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} {}", self.from, self.to, self.body)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Cluster(body) => body.fmt(f),
            Body::Paxos(body) => body.fmt(f),
            Body::Raft(body) => body.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Ballot, Position};
    use super::*;

    /// What a crash must not take back, and nothing else, waits for its write.
    #[test]
    fn what_binds_a_node_promises() {
        let (ballot, last) = (Ballot { round: 1, node: 1 }, Position::default());
        let (chosen, first, entries) = (0, 1, Vec::new());
        let promise =
            PaxosBody::Promise { ballot, chosen, compacted: 0, first, last: 1, more: false, entries };
        let promises: [Body; 6] = [
            PaxosBody::Prepare { ballot, first }.into(),
            promise.into(),
            PaxosBody::Accepted { ballot, chosen, ranges: Vec::new() }.into(),
            RaftBody::RequestVote { ballot, last }.into(),
            RaftBody::Vote { ballot }.into(),
            RaftBody::Appended { ballot, chosen, matched: 0 }.into(),
        ];
        for body in promises {
            assert!(body.promises(), "{body}");
        }
        let nothing: [Body; 6] = [
            PaxosBody::PreVote { ballot }.into(),
            PaxosBody::Accept { ballot, chosen, entries: Vec::new() }.into(),
            RaftBody::RequestPreVote { ballot, last }.into(),
            RaftBody::Append { ballot, chosen, previous: last, entries: Vec::new() }.into(),
            RaftBody::Mismatch { ballot, chosen, previous: 1, hint: last }.into(),
            ClusterBody::Learn { chosen, entries: Vec::new() }.into(),
        ];
        for body in nothing {
            assert!(!body.promises(), "{body}");
        }
    }
}
