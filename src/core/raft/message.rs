//! The messages that only Raft has, besides those of [`ClusterBody`]: pre-vote, votes and the log.

use std::fmt;

use super::super::message::cluster::ClusterBody;
use super::super::message::lists::{entries_cost_bytes, fits_a_page, join};
use super::super::types::{Ballot, Entry, Index, Position};

/// The part of [`Body`](super::super::message::Body) that only Raft has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RaftBody {
    /// "Would you vote for me?" (thesis section 9.6). Promises nothing: nobody's state changes.
    RequestPreVote {
        /// The ballot it would use; echoed by the answer.
        ballot: Ballot,
        /// Where its log ends.
        last: Position,
    },
    /// Asks for a vote (thesis section 3.4). Promises: its ballot is never used again by another
    /// incarnation of the candidate, so it waits until the candidate's vote for itself is durable.
    RequestVote {
        /// The candidate's ballot.
        ballot: Ballot,
        /// Where its log ends.
        last: Position,
    },
    /// Grants a vote. Promises.
    Vote {
        /// The candidate's ballot.
        ballot: Ballot,
    },
    /// Entries that follow `previous` in the leader's log; none if it only asks where the logs agree (thesis
    /// section 3.5, AppendEntries). Promises nothing: the leader's vote for itself became durable before it
    /// was elected, and its own copy is counted separately.
    Append {
        /// The leader's ballot.
        ballot: Ballot,
        /// The leader's watermark.
        chosen: Index,
        /// The place before the entries in the leader's log: a log that has it is equal to the leader's up to
        /// there.
        previous: Position,
        /// Without gaps from `previous.index + 1` on, with the ballots of the leaders that made them.
        entries: Vec<Entry>,
    },
    /// The log up to an index is the leader's. Promises.
    Appended {
        /// The leader's ballot.
        ballot: Ballot,
        /// The follower's watermark.
        chosen: Index,
        /// The logs are the same up to this index, and the follower's is durable.
        matched: Index,
    },
    /// `previous` of an Append is not in the follower's log. Promises nothing.
    Mismatch {
        /// The leader's ballot.
        ballot: Ballot,
        /// The follower's watermark: the logs agree up to there.
        chosen: Index,
        /// The index of that `previous`.
        previous: Index,
        /// The last place at or below `previous` whose round is not above that of `previous`: the logs may
        /// agree up to there.
        hint: Position,
    },
}

impl RaftBody {
    /// Whether it promises; see [`Body::promises`](super::super::message::Body::promises).
    pub(crate) fn promises(&self) -> bool {
        match self {
            RaftBody::RequestVote { .. } | RaftBody::Vote { .. } | RaftBody::Appended { .. } => true,
            RaftBody::RequestPreVote { .. } | RaftBody::Append { .. } | RaftBody::Mismatch { .. } => false,
        }
    }

    /// See [`Body::cost_bytes`](super::super::message::Body::cost_bytes).
    pub(crate) fn cost_bytes(&self) -> usize {
        match self {
            RaftBody::Append { entries, .. } => entries_cost_bytes(entries),
            _ => 0,
        }
    }

    /// See [`Body::join`](super::super::message::Body::join).
    pub(crate) fn join(&mut self, later: RaftBody) -> Result<(), RaftBody> {
        match (self, later) {
            (
                RaftBody::Append { ballot, chosen, previous, entries },
                RaftBody::Append { ballot: other, chosen: newer, previous: next, entries: more },
            ) if *ballot == other && can_follow(*previous, entries, next, &more) => {
                *chosen = newer.max(*chosen);
                entries.extend(more);
                Ok(())
            }
            (
                RaftBody::Appended { ballot, chosen, matched },
                RaftBody::Appended { ballot: other, chosen: newer, matched: further },
            ) if *ballot == other => {
                *chosen = newer.max(*chosen);
                *matched = further.max(*matched);
                Ok(())
            }
            (_, later) => Err(later),
        }
    }

    /// An Append says all that a heartbeat does.
    pub(crate) fn join_cluster(&mut self, later: ClusterBody) -> Result<(), ClusterBody> {
        match (self, later) {
            (
                RaftBody::Append { ballot, chosen, .. },
                ClusterBody::Heartbeat { ballot: other, chosen: newer, .. },
            ) if *ballot == other => {
                *chosen = newer.max(*chosen);
                Ok(())
            }
            (_, later) => Err(later),
        }
    }
}

/// Whether `more` begins where `entries` end, and a page holds both.
fn can_follow(previous: Position, entries: &[Entry], next: Position, more: &[Entry]) -> bool {
    let last = entries.last().map_or(previous.index, |entry| entry.index);
    last == next.index && fits_a_page(entries.iter().chain(more).map(|entry| &entry.command))
}

impl fmt::Display for RaftBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RaftBody::RequestPreVote { ballot, last } => write!(f, "RequestPreVote {ballot} last={last}"),
            RaftBody::RequestVote { ballot, last } => write!(f, "RequestVote {ballot} last={last}"),
            RaftBody::Vote { ballot } => write!(f, "Vote {ballot}"),
            RaftBody::Append { ballot, chosen, previous, entries } => {
                write!(f, "Append {ballot} chosen={chosen} previous={previous} [{}]", join(entries))
            }
            RaftBody::Appended { ballot, chosen, matched } => {
                write!(f, "Appended {ballot} chosen={chosen} matched={matched}")
            }
            RaftBody::Mismatch { ballot, chosen, previous, hint } => {
                write!(f, "Mismatch {ballot} chosen={chosen} previous={previous} hint={hint}")
            }
        }
    }
}
