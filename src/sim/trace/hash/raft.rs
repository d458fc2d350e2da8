//! The name and the digest of the kinds of messages that only Raft has.

use super::numbers::Numbers;
use crate::consensus::message::RaftBody;

pub(super) fn name(body: &RaftBody) -> &'static str {
    match body {
        RaftBody::RequestPreVote { .. } => "RequestPreVote",
        RaftBody::RequestVote { .. } => "RequestVote",
        RaftBody::Vote { .. } => "Vote",
        RaftBody::Append { .. } => "Append",
        RaftBody::Appended { .. } => "Appended",
        RaftBody::Mismatch { .. } => "Mismatch",
    }
}

/// All fields, in an order that never changes.
pub(super) fn feed(body: &RaftBody, out: &mut Numbers) {
    match body {
        RaftBody::RequestPreVote { ballot, last } | RaftBody::RequestVote { ballot, last } => {
            out.ballot(*ballot);
            out.numbers(&[last.index, last.round]);
        }
        RaftBody::Vote { ballot } => out.ballot(*ballot),
        RaftBody::Append { ballot, chosen, previous, entries } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, previous.index, previous.round]);
            out.entries(entries);
        }
        RaftBody::Appended { ballot, chosen, matched } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *matched]);
        }
        RaftBody::Mismatch { ballot, chosen, previous, hint } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *previous, hint.index, hint.round]);
        }
    }
}
