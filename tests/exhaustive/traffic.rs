//! What the searched network carries, and which messages are dead; see `exhaustive.rs` for why that is sound.

use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, RaftBody};
use spaxos::consensus::protocol::{Role, Status};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, HardState, Index};

use crate::bounds::Bounds;
use crate::node::Broken;

/// The message as it travels, or `None` if it never arrives.
pub fn travels(mut message: Message, protocol: ProtocolName, bounds: &Bounds) -> Option<Message> {
    let raft_answers = protocol == ProtocolName::Raft && bounds.answers;
    match &mut message.body {
        Body::Paxos(PaxosBody::PreVote { .. })
        | Body::Raft(RaftBody::RequestPreVote { .. })
        | Body::Cluster(ClusterBody::PreVoteReply { .. }) => None,
        Body::Cluster(ClusterBody::Refuse { .. }) => raft_answers.then_some(message),
        Body::Cluster(ClusterBody::HeartbeatReply { sent_ms, .. }) => {
            *sent_ms = 0;
            raft_answers.then_some(message)
        }
        Body::Cluster(ClusterBody::Heartbeat { sent_ms, .. }) => {
            *sent_ms = 0;
            Some(message)
        }
        Body::Paxos(PaxosBody::Accepted { chosen, .. }) | Body::Raft(RaftBody::Appended { chosen, .. }) => {
            *chosen = 0;
            Some(message)
        }
        _ => Some(message),
    }
}

/// A message that promises waits for its write, and one to the node itself always does.
pub fn check_early(message: &Message) -> Result<(), Broken> {
    if message.body.promises() || message.from == message.to {
        return Err(format!("it leaves before the write: {message}"));
    }
    Ok(())
}

/// Whether a message means nothing to a node and all that it can become: the ballot is below its durable
/// promise, or an answer comes to a question that it does not ask any more, and will not ask if it campaigns
/// no more.
pub fn is_dead(body: &Body, node: Standing) -> bool {
    let Standing { protocol, durable: HardState { promised, chosen }, status, campaigns_again } = node;
    let below = |ballot: Ballot| match protocol {
        ProtocolName::Paxos => ballot < promised,
        ProtocolName::Raft => ballot.round < promised.round,
    };
    let asks =
        |ballot: Ballot, role: Role| campaigns_again || (status.role == role && status.promised <= ballot);
    let counts = |ballot: Ballot, last: Index| {
        asks(ballot, Role::Leader) && !(status.role == Role::Leader && last <= status.chosen)
    };
    match body {
        Body::Paxos(PaxosBody::Prepare { ballot, .. } | PaxosBody::Accept { ballot, .. }) => below(*ballot),
        Body::Cluster(ClusterBody::Heartbeat { ballot, .. })
        | Body::Raft(RaftBody::Append { ballot, .. }) => below(*ballot),
        Body::Raft(RaftBody::RequestVote { ballot, .. }) => {
            let voted_for_another = promised.node > 0 && promised.node != ballot.node;
            below(*ballot) || (promised.round == ballot.round && voted_for_another)
        }
        Body::Paxos(PaxosBody::Promise { ballot, .. }) | Body::Raft(RaftBody::Vote { ballot }) => {
            !asks(*ballot, Role::Candidate)
        }
        Body::Paxos(PaxosBody::Accepted { ballot, ranges, .. }) => {
            !counts(*ballot, ranges.last().map_or(0, |range| range.last))
        }
        Body::Raft(RaftBody::Appended { ballot, matched, .. }) => !counts(*ballot, *matched),
        Body::Raft(RaftBody::Mismatch { ballot, .. })
        | Body::Cluster(ClusterBody::HeartbeatReply { ballot, .. }) => !asks(*ballot, Role::Leader),
        Body::Cluster(ClusterBody::Refuse { promised: heard, .. }) => heard.round <= promised.round,
        Body::Cluster(ClusterBody::Learn { entries, .. }) if protocol == ProtocolName::Raft => {
            entries.last().is_none_or(|last| last.index <= chosen)
        }
        _ => false,
    }
}

/// What decides which messages are dead to a node.
pub struct Standing<'a> {
    pub protocol: ProtocolName,
    pub durable: HardState,
    pub status: &'a Status,
    pub campaigns_again: bool,
}
