//! What the searched network carries, and which messages are dead; see `exhaustive.rs` for why that is sound.

use spaxos::consensus::config::ProtocolName;
use spaxos::consensus::message::{Body, Message};
use spaxos::consensus::protocol::{Role, Status};
use spaxos::consensus::types::{Ballot, HardState, Index};

use crate::bounds::Bounds;
use crate::node::Broken;

/// The message as it travels, or `None` if it never arrives.
pub fn travels(mut message: Message, protocol: ProtocolName, bounds: &Bounds) -> Option<Message> {
    let raft_answers = protocol == ProtocolName::Raft && bounds.answers;
    match &mut message.body {
        Body::PreVote { .. } | Body::RequestPreVote { .. } | Body::PreVoteReply { .. } => None,
        Body::Refuse { .. } => raft_answers.then_some(message),
        Body::HeartbeatReply { sent_ms, .. } => {
            *sent_ms = 0;
            raft_answers.then_some(message)
        }
        Body::Heartbeat { sent_ms, .. } => {
            *sent_ms = 0;
            Some(message)
        }
        Body::Accepted { chosen, .. } | Body::Appended { chosen, .. } => {
            *chosen = 0;
            Some(message)
        }
        _ => Some(message),
    }
}

/// A message that promises waits for its write, and one to the node itself always does.
pub fn check_early(message: &Message) -> Result<(), Broken> {
    let promises = matches!(
        message.body,
        Body::Prepare { .. }
            | Body::Promise { .. }
            | Body::Accepted { .. }
            | Body::RequestVote { .. }
            | Body::Vote { .. }
            | Body::Appended { .. }
    );
    if promises || message.from == message.to {
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
        Body::Prepare { ballot, .. } | Body::Accept { ballot, .. } => below(*ballot),
        Body::Heartbeat { ballot, .. } | Body::Append { ballot, .. } => below(*ballot),
        Body::RequestVote { ballot, .. } => {
            let voted_for_another = promised.node > 0 && promised.node != ballot.node;
            below(*ballot) || (promised.round == ballot.round && voted_for_another)
        }
        Body::Promise { ballot, .. } | Body::Vote { ballot } => !asks(*ballot, Role::Candidate),
        Body::Accepted { ballot, ranges, .. } => {
            !counts(*ballot, ranges.last().map_or(0, |range| range.last))
        }
        Body::Appended { ballot, matched, .. } => !counts(*ballot, *matched),
        Body::Mismatch { ballot, .. } | Body::HeartbeatReply { ballot, .. } => !asks(*ballot, Role::Leader),
        Body::Refuse { promised: heard, .. } => heard.round <= promised.round,
        Body::Learn { entries, .. } if protocol == ProtocolName::Raft => {
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
