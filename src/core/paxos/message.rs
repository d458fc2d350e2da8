//! The messages that only Multi-Paxos has, besides those of [`ClusterBody`]: pre-vote and both phases.

use std::fmt;

use super::super::message::cluster::ClusterBody;
use super::super::message::lists::{Range, entries_cost_bytes, fits_a_page, join};
use super::super::types::{Ballot, Entry, Index};

/// The part of [`Body`](super::super::message::Body) that only Paxos has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PaxosBody {
    /// "Would you follow me under this ballot?" Promises nothing: nobody's state changes. (Raft thesis
    /// section 9.6; it keeps a node that returns from a partition from deposing a good leader.)
    PreVote {
        /// The ballot it would use; echoed by the answer, so that late answers are inert.
        ballot: Ballot,
    },
    /// Phase 1a for all indexes from `first` on. Promises: its ballot is never used again by another
    /// incarnation of the candidate, so it waits until the candidate's own promise of it is durable.
    Prepare {
        /// The candidate's ballot.
        ballot: Ballot,
        /// The first index whose acceptances it wants: its first unchosen one, or the next page's first.
        first: Index,
    },
    /// Phase 1b: a page of what the acceptor accepted above its watermark. Promises.
    Promise {
        /// The promised ballot.
        ballot: Ballot,
        /// The acceptor's watermark: the page says nothing of indexes up to this one; the candidate catches
        /// up.
        chosen: Index,
        /// The acceptor no longer has the entries up to this index.
        compacted: Index,
        /// The `first` of the question.
        first: Index,
        /// The page covers `first..=last`: at an index of it without an entry, nothing was accepted here.
        last: Index,
        /// Whether the acceptor accepted anything above `last`: the candidate asks from `last + 1` on.
        more: bool,
        /// What was accepted, in ascending order of index, with the ballots it was accepted under.
        entries: Vec<Entry>,
    },
    /// Phase 2a for any number of indexes, with holes between them allowed. Promises nothing: the leader's
    /// promise of the ballot became durable before its Prepare left, and its own acceptance travels
    /// separately.
    Accept {
        /// The leader's ballot, and that of each entry.
        ballot: Ballot,
        /// The leader's watermark.
        chosen: Index,
        /// What to accept, in ascending order of index.
        entries: Vec<Entry>,
    },
    /// Phase 2b. Promises.
    Accepted {
        /// The ballot under which the ranges were accepted.
        ballot: Ballot,
        /// The acceptor's watermark.
        chosen: Index,
        /// The accepted indexes.
        ranges: Vec<Range>,
    },
}

impl PaxosBody {
    /// Whether it promises; see [`Body::promises`](super::super::message::Body::promises).
    pub(crate) fn promises(&self) -> bool {
        match self {
            PaxosBody::Prepare { .. } | PaxosBody::Promise { .. } | PaxosBody::Accepted { .. } => true,
            PaxosBody::PreVote { .. } | PaxosBody::Accept { .. } => false,
        }
    }

    /// See [`Body::cost_bytes`](super::super::message::Body::cost_bytes).
    pub(crate) fn cost_bytes(&self) -> usize {
        match self {
            PaxosBody::Promise { entries, .. } | PaxosBody::Accept { entries, .. } => {
                entries_cost_bytes(entries)
            }
            PaxosBody::Accepted { ranges, .. } => size_of_val(&ranges[..]),
            _ => 0,
        }
    }

    /// See [`Body::join`](super::super::message::Body::join).
    pub(crate) fn join(&mut self, later: PaxosBody) -> Result<(), PaxosBody> {
        match (self, later) {
            (
                PaxosBody::Accept { ballot, chosen, entries },
                PaxosBody::Accept { ballot: other, chosen: newer, entries: more },
            ) if *ballot == other && can_follow(entries, &more) => {
                *chosen = newer.max(*chosen);
                entries.extend(more);
                Ok(())
            }
            (
                PaxosBody::Accepted { ballot, chosen, ranges },
                PaxosBody::Accepted { ballot: other, chosen: newer, ranges: more },
            ) if *ballot == other && ascend(ranges, &more) => {
                *chosen = newer.max(*chosen);
                append_ranges(ranges, more);
                Ok(())
            }
            (_, later) => Err(later),
        }
    }

    /// An Accept says all that a heartbeat does.
    pub(crate) fn join_cluster(&mut self, later: ClusterBody) -> Result<(), ClusterBody> {
        match (self, later) {
            (
                PaxosBody::Accept { ballot, chosen, .. },
                ClusterBody::Heartbeat { ballot: other, chosen: newer, .. },
            ) if *ballot == other => {
                *chosen = newer.max(*chosen);
                Ok(())
            }
            (_, later) => Err(later),
        }
    }
}

/// Whether indexes still ascend, and a page holds both.
fn can_follow(entries: &[Entry], more: &[Entry]) -> bool {
    let ascending = match (entries.last(), more.first()) {
        (Some(last), Some(first)) => last.index < first.index,
        _ => true,
    };
    ascending && fits_a_page(entries.iter().chain(more).map(|entry| &entry.command))
}

fn ascend(ranges: &[Range], more: &[Range]) -> bool {
    match (ranges.last(), more.first()) {
        (Some(last), Some(first)) => last.last < first.first,
        _ => true,
    }
}

/// A range that begins where the last one ends becomes one with it.
fn append_ranges(ranges: &mut Vec<Range>, more: Vec<Range>) {
    for range in more {
        match ranges.last_mut() {
            Some(last) if last.last + 1 == range.first => last.last = range.last,
            _ => ranges.push(range),
        }
    }
}

impl fmt::Display for PaxosBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PaxosBody::PreVote { ballot } => write!(f, "PreVote {ballot}"),
            PaxosBody::Prepare { ballot, first } => write!(f, "Prepare {ballot} first={first}"),
            PaxosBody::Promise { ballot, chosen, compacted, first, last, more, entries } => {
                write!(f, "Promise {ballot} chosen={chosen}")?;
                if *compacted > 0 {
                    write!(f, " compacted={compacted}")?;
                }
                write!(f, " page={first}..{last}{} [{}]", if *more { "+" } else { "" }, join(entries))
            }
            PaxosBody::Accept { ballot, chosen, entries } => {
                write!(f, "Accept {ballot} chosen={chosen} [{}]", join(entries))
            }
            PaxosBody::Accepted { ballot, chosen, ranges } => {
                write!(f, "Accepted {ballot} chosen={chosen} [{}]", join(ranges))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that is optional is printed when it is there, and only then.
    #[test]
    fn a_promise_prints_what_it_has() {
        let ballot = Ballot { round: 2, node: 1 };
        let page = |compacted, more| {
            PaxosBody::Promise { ballot, chosen: 5, compacted, first: 6, last: 7, more, entries: vec![] }
                .to_string()
        };
        assert_eq!(page(0, false), "Promise 2.1 chosen=5 page=6..7 []");
        assert_eq!(page(4, true), "Promise 2.1 chosen=5 compacted=4 page=6..7+ []");
    }
}
