//! The messages that nodes exchange, each a variant of [`Body`] with just its fields.
//!
//! Each kind says whether it *promises*: a message that promises leaves a node only after the state behind
//! it is durable ([`Batch::messages`](super::batch::Batch)), one that promises nothing may leave at once
//! ([`Batch::early`](super::batch::Batch)). No kind relies on order, and each may be lost or come twice.

use std::fmt;

use super::types::{Ballot, Command, Entry, Index, NodeId, Position};

/// What a list of entries or commands in a message holds at most (in [`Command::cost_bytes`]), unless its
/// first item alone is larger.
pub const MAX_PAGE_BYTES: usize = 512 * 1024;

/// A message between two members, or from a node to itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who says it; `wire` makes sure that this is the peer at the other end.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// What it says.
    pub body: Body,
}

/// An inclusive range of indexes, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The lowest index of it.
    pub first: Index,
    /// The highest index of it, at least `first`.
    pub last: Index,
}

/// What a message says. Shared by all protocols: [`PreVoteReply`](Body::PreVoteReply), heartbeats,
/// [`Refuse`](Body::Refuse), [`CatchUp`](Body::CatchUp), [`Learn`](Body::Learn), [`Forward`](Body::Forward),
/// [`TimeoutNow`](Body::TimeoutNow); the kinds about reads; those from
/// [`RequestPreVote`](Body::RequestPreVote) on are Raft's, the others Paxos's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// "Would you follow me under this ballot?" Promises nothing: nobody's state changes. (Raft thesis
    /// section 9.6; it keeps a node that returns from a partition from deposing a good leader.)
    PreVote {
        /// The ballot it would use; echoed by the answer, so that late answers are inert.
        ballot: Ballot,
    },
    /// Answers [`Body::PreVote`] and [`Body::RequestPreVote`]. Promises nothing.
    PreVoteReply {
        /// The asked ballot.
        ballot: Ballot,
        /// Whether the answerer has not heard from a live leader for T.
        granted: bool,
        /// What the answerer has promised: the candidate goes above it.
        promised: Ballot,
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
        /// The acceptor's watermark: up to it the page says nothing, the candidate catches up.
        chosen: Index,
        /// Up to it the acceptor no longer has the entries.
        compacted: Index,
        /// The asked `first`.
        first: Index,
        /// The page covers `first..=last`: an index of it without an entry was not accepted here.
        last: Index,
        /// Whether the acceptor accepted anything above `last`: the candidate asks from `last + 1` on.
        more: bool,
        /// What was accepted, in ascending order of index, with the ballots it was accepted under.
        entries: Vec<Entry>,
    },
    /// Phase 2a for any number of indexes, with holes between them allowed. Promises nothing: the leader's
    /// promise of the ballot is durable since before its Prepare, and its own acceptance travels apart.
    Accept {
        /// The leader's ballot; that of each entry, too.
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
    /// "I lead." Promises nothing.
    Heartbeat {
        /// The leader's ballot.
        ballot: Ballot,
        /// The leader's watermark.
        chosen: Index,
        /// The leader's clock, echoed by the answer: an answer proves that the peer followed at that time.
        sent_ms: u64,
    },
    /// Answers [`Body::Heartbeat`]. Promises nothing.
    HeartbeatReply {
        /// The ballot of the heartbeat.
        ballot: Ballot,
        /// The follower's watermark.
        chosen: Index,
        /// The `sent_ms` of the heartbeat.
        sent_ms: u64,
    },
    /// Answers a Prepare, Accept, RequestVote, Append, Heartbeat or TimeoutNow below what was promised.
    /// Promises nothing: it only tells the asker to give up.
    Refuse {
        /// The ballot that is refused.
        ballot: Ballot,
        /// What was promised instead.
        promised: Ballot,
    },
    /// Asks for chosen entries from `first` on. Promises nothing.
    CatchUp {
        /// The first index that the asker lacks.
        first: Index,
    },
    /// Chosen entries from some index on without gaps, bounded by bytes: an answer to [`Body::CatchUp`].
    /// Promises nothing: it states facts.
    Learn {
        /// The sender's watermark.
        chosen: Index,
        /// Chosen entries, in ascending order without gaps.
        entries: Vec<Entry>,
    },
    /// Proposals that a node which does not lead passes on to the leader. Promises nothing.
    Forward {
        /// The proposals.
        commands: Vec<Command>,
    },
    /// "Campaign at once", says a leader to the node that it hands leadership over to. Promises nothing.
    TimeoutNow {
        /// The leader's ballot.
        ballot: Ballot,
    },
    /// "Do you still follow me?" Says all that a heartbeat does but the watermark. Promises nothing.
    Confirm {
        /// The leader's ballot.
        ballot: Ballot,
        /// Echoed by the answer.
        number: u64,
    },
    /// Answers [`Body::Confirm`]: it follows. Promises nothing: a higher promise is refused from when it is
    /// made, and durable before anyone counts it.
    Confirmed {
        /// The leader's ballot.
        ballot: Ballot,
        /// The number of the question.
        number: u64,
    },
    /// Asks the leader from which index on a state answers a read. Promises nothing.
    Read {
        /// The asker's name for it.
        id: u64,
    },
    /// Answers [`Body::Read`]. Promises nothing: it states a fact.
    ReadReply {
        /// The asker's name for it.
        id: u64,
        /// What has to be delivered before.
        index: Index,
    },
    /// Raft: "would you vote for me?" (thesis section 9.6). Promises nothing: nobody's state changes.
    RequestPreVote {
        /// The ballot it would use; echoed by the answer.
        ballot: Ballot,
        /// Where its log ends.
        last: Position,
    },
    /// Raft: asks for a vote (thesis section 3.4). Promises: its ballot is never used again by another
    /// incarnation of the candidate, so it waits until the candidate's vote for itself is durable.
    RequestVote {
        /// The candidate's ballot.
        ballot: Ballot,
        /// Where its log ends.
        last: Position,
    },
    /// Raft: grants a vote. Promises.
    Vote {
        /// The candidate's ballot.
        ballot: Ballot,
    },
    /// Raft: entries that follow `previous` in the leader's log; none to find out where the logs agree
    /// (thesis section 3.5, AppendEntries). Promises nothing: the leader's vote for itself is durable since
    /// before it was elected, and its own copy is counted apart.
    Append {
        /// The leader's ballot.
        ballot: Ballot,
        /// The leader's watermark.
        chosen: Index,
        /// What stands before the entries in the leader's log: a log that has it is equal to the leader's up
        /// to it.
        previous: Position,
        /// Without gaps from `previous.index + 1` on, with the ballots of the leaders that made them.
        entries: Vec<Entry>,
    },
    /// Raft: the log up to an index is the leader's. Promises.
    Appended {
        /// The leader's ballot.
        ballot: Ballot,
        /// The follower's watermark.
        chosen: Index,
        /// Up to it the logs are the same, and the follower's is durable.
        matched: Index,
    },
    /// Raft: `previous` of an Append is not in the follower's log. Promises nothing.
    Mismatch {
        /// The leader's ballot.
        ballot: Ballot,
        /// The follower's watermark: up to it the logs agree.
        chosen: Index,
        /// The index of that `previous`.
        previous: Index,
        /// The last place at or below it whose round is not above its round: the logs may agree up to there.
        hint: Position,
    },
}

impl Body {
    /// Whether `later`, to the same node, can be said in this message: the same kind and ballot, indexes
    /// still ascending, together at most a page. (An Accept says all that a heartbeat does.)
    pub(crate) fn can_join(&self, later: &Body) -> bool {
        match (self, later) {
            (Body::Accept { ballot, entries, .. }, Body::Accept { ballot: other, entries: more, .. }) => {
                let ascending = match (entries.last(), more.first()) {
                    (Some(last), Some(first)) => last.index < first.index,
                    _ => true,
                };
                let commands = entries.iter().chain(more).map(|entry| &entry.command);
                ballot == other && ascending && fits_a_page(commands)
            }
            (Body::Accepted { ballot, ranges, .. }, Body::Accepted { ballot: other, ranges: more, .. }) => {
                let ascending = match (ranges.last(), more.first()) {
                    (Some(last), Some(first)) => last.last < first.first,
                    _ => true,
                };
                ballot == other && ascending
            }
            (Body::Forward { commands }, Body::Forward { commands: more }) => {
                fits_a_page(commands.iter().chain(more))
            }
            (
                Body::Append { ballot, previous, entries, .. },
                Body::Append { ballot: other, previous: next, entries: more, .. },
            ) => {
                let last = entries.last().map_or(previous.index, |entry| entry.index);
                let commands = entries.iter().chain(more).map(|entry| &entry.command);
                ballot == other && last == next.index && fits_a_page(commands)
            }
            (Body::Appended { ballot, .. }, Body::Appended { ballot: other, .. }) => ballot == other,
            (Body::Append { ballot, .. }, Body::Heartbeat { ballot: other, .. }) => ballot == other,
            (Body::Heartbeat { ballot, .. }, Body::Heartbeat { ballot: other, .. }) => ballot == other,
            (Body::Accept { ballot, .. }, Body::Heartbeat { ballot: other, .. }) => ballot == other,
            _ => false,
        }
    }
}

fn fits_a_page<'a>(commands: impl Iterator<Item = &'a Command>) -> bool {
    commands.map(Command::cost_bytes).sum::<usize>() <= MAX_PAGE_BYTES
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{} {}", self.from, self.to, self.body)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}..{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::PreVote { ballot } => write!(f, "PreVote {ballot}"),
            Body::PreVoteReply { ballot, granted, promised } => {
                let word = if *granted { "granted" } else { "refused" };
                write!(f, "PreVoteReply {ballot} {word} promised={promised}")
            }
            Body::Prepare { ballot, first } => write!(f, "Prepare {ballot} first={first}"),
            Body::Promise { ballot, chosen, compacted, first, last, more, entries } => {
                write!(f, "Promise {ballot} chosen={chosen}")?;
                if *compacted > 0 {
                    write!(f, " compacted={compacted}")?;
                }
                write!(f, " page={first}..{last}{} [{}]", if *more { "+" } else { "" }, join(entries))
            }
            Body::Accept { ballot, chosen, entries } => {
                write!(f, "Accept {ballot} chosen={chosen} [{}]", join(entries))
            }
            Body::Accepted { ballot, chosen, ranges } => {
                write!(f, "Accepted {ballot} chosen={chosen} [{}]", join(ranges))
            }
            Body::Heartbeat { ballot, chosen, sent_ms } => {
                write!(f, "Heartbeat {ballot} chosen={chosen} sent={sent_ms}")
            }
            Body::HeartbeatReply { ballot, chosen, sent_ms } => {
                write!(f, "HeartbeatReply {ballot} chosen={chosen} sent={sent_ms}")
            }
            Body::Refuse { ballot, promised } => write!(f, "Refuse {ballot} promised={promised}"),
            Body::CatchUp { first } => write!(f, "CatchUp first={first}"),
            Body::Learn { chosen, entries } => write!(f, "Learn chosen={chosen} [{}]", join(entries)),
            Body::Forward { commands } => write!(f, "Forward [{}]", join(commands)),
            Body::TimeoutNow { ballot } => write!(f, "TimeoutNow {ballot}"),
            Body::Confirm { ballot, number } => write!(f, "Confirm {ballot} number={number}"),
            Body::Confirmed { ballot, number } => write!(f, "Confirmed {ballot} number={number}"),
            Body::Read { id } => write!(f, "Read {id}"),
            Body::ReadReply { id, index } => write!(f, "ReadReply {id} index={index}"),
            Body::RequestPreVote { ballot, last } => write!(f, "RequestPreVote {ballot} last={last}"),
            Body::RequestVote { ballot, last } => write!(f, "RequestVote {ballot} last={last}"),
            Body::Vote { ballot } => write!(f, "Vote {ballot}"),
            Body::Append { ballot, chosen, previous, entries } => {
                write!(f, "Append {ballot} chosen={chosen} previous={previous} [{}]", join(entries))
            }
            Body::Appended { ballot, chosen, matched } => {
                write!(f, "Appended {ballot} chosen={chosen} matched={matched}")
            }
            Body::Mismatch { ballot, chosen, previous, hint } => {
                write!(f, "Mismatch {ballot} chosen={chosen} previous={previous} hint={hint}")
            }
        }
    }
}

/// `a, b, c` for the one-line forms of lists.
pub(crate) fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not always there is printed when it is, and only then.
    #[test]
    fn a_promise_prints_what_it_has() {
        let ballot = Ballot { round: 2, node: 1 };
        let page = |compacted, more| {
            Body::Promise { ballot, chosen: 5, compacted, first: 6, last: 7, more, entries: vec![] }
                .to_string()
        };
        assert_eq!(page(0, false), "Promise 2.1 chosen=5 page=6..7 []");
        assert_eq!(page(4, true), "Promise 2.1 chosen=5 compacted=4 page=6..7+ []");
    }
}
