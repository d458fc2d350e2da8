//! The name and the digest of the kinds of messages that only Paxos has.

use super::numbers::Numbers;
use crate::consensus::message::PaxosBody;

pub(super) fn name(body: &PaxosBody) -> &'static str {
    match body {
        PaxosBody::PreVote { .. } => "PreVote",
        PaxosBody::Prepare { .. } => "Prepare",
        PaxosBody::Promise { .. } => "Promise",
        PaxosBody::Accept { .. } => "Accept",
        PaxosBody::Accepted { .. } => "Accepted",
    }
}

/// All fields, in an order that never changes.
pub(super) fn feed(body: &PaxosBody, out: &mut Numbers) {
    match body {
        PaxosBody::PreVote { ballot } => out.ballot(*ballot),
        PaxosBody::Prepare { ballot, first } => {
            out.ballot(*ballot);
            out.number(*first);
        }
        PaxosBody::Promise { ballot, chosen, compacted, first, last, more, entries } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, *compacted, *first, *last, u64::from(*more)]);
            out.entries(entries);
        }
        PaxosBody::Accept { ballot, chosen, entries } => {
            out.ballot(*ballot);
            out.number(*chosen);
            out.entries(entries);
        }
        PaxosBody::Accepted { ballot, chosen, ranges } => {
            out.ballot(*ballot);
            out.numbers(&[*chosen, ranges.len() as u64]);
            ranges.iter().for_each(|range| out.numbers(&[range.first, range.last]));
        }
    }
}
