//! The name and the digest of the kinds of messages that all protocols share.

use super::numbers::Numbers;
use crate::consensus::message::ClusterBody;

pub(super) fn name(body: &ClusterBody) -> &'static str {
    match body {
        ClusterBody::PreVoteReply { .. } => "PreVoteReply",
        ClusterBody::Heartbeat { .. } => "Heartbeat",
        ClusterBody::HeartbeatReply { .. } => "HeartbeatReply",
        ClusterBody::Refuse { .. } => "Refuse",
        ClusterBody::CatchUp { .. } => "CatchUp",
        ClusterBody::Learn { .. } => "Learn",
        ClusterBody::Forward { .. } => "Forward",
        ClusterBody::TimeoutNow { .. } => "TimeoutNow",
        ClusterBody::Confirm { .. } => "Confirm",
        ClusterBody::Confirmed { .. } => "Confirmed",
        ClusterBody::Read { .. } => "Read",
        ClusterBody::ReadReply { .. } => "ReadReply",
    }
}

/// All fields, in an order that never changes.
pub(super) fn feed(body: &ClusterBody, out: &mut Numbers) {
    match body {
        ClusterBody::PreVoteReply { ballot, granted, promised } => {
            out.ballot(*ballot);
            out.ballot(*promised);
            out.number(u64::from(*granted));
        }
        ClusterBody::Heartbeat { ballot, chosen, sent_ms }
        | ClusterBody::HeartbeatReply { ballot, chosen, sent_ms } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *sent_ms]);
        }
        ClusterBody::Refuse { ballot, promised } => {
            out.ballot(*ballot);
            out.ballot(*promised);
        }
        ClusterBody::CatchUp { first } => out.number(*first),
        ClusterBody::Learn { chosen, entries } => {
            out.number(*chosen);
            out.entries(entries);
        }
        ClusterBody::Forward { commands } => {
            out.number(commands.len() as u64);
            commands.iter().for_each(|command| out.command(command));
        }
        ClusterBody::TimeoutNow { ballot } => out.ballot(*ballot),
        ClusterBody::Confirm { ballot, number } | ClusterBody::Confirmed { ballot, number } => {
            out.ballot(*ballot);
            out.number(*number);
        }
        ClusterBody::Read { id } => out.number(*id),
        ClusterBody::ReadReply { id, index } => out.numbers(&[*id, *index]),
    }
}
