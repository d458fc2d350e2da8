//! The messages that all protocols share: who leads, what is chosen, proposals and reads on their way to the
//! leader, and the hand-over of leadership.

use std::fmt;

use super::super::types::{Ballot, Command, Entry, Index};
use super::lists::{entries_cost_bytes, fits_a_page, join};

/// The part of [`Body`](super::Body) that all protocols share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterBody {
    /// Answers [`PreVote`](super::PaxosBody::PreVote) and
    /// [`RequestPreVote`](super::RaftBody::RequestPreVote). Promises nothing.
    PreVoteReply {
        /// The ballot of the question.
        ballot: Ballot,
        /// Whether the answerer has not heard from a live leader for T.
        granted: bool,
        /// What the answerer has promised: the candidate goes above it.
        promised: Ballot,
    },
    /// "I lead." Promises nothing.
    Heartbeat {
        /// The leader's ballot.
        ballot: Ballot,
        /// The leader's watermark.
        chosen: Index,
        /// The time that the leader's ticks have seen, echoed by the answer: an answer proves that the peer
        /// followed at that time.
        sent_ms: u64,
    },
    /// Answers [`ClusterBody::Heartbeat`]. Promises nothing.
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
    /// Chosen entries from some index on without gaps, bounded by bytes: an answer to
    /// [`ClusterBody::CatchUp`]. Promises nothing: it states facts.
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
    /// "Campaign now", says a leader to the node that it hands leadership over to. Promises nothing.
    TimeoutNow {
        /// The leader's ballot.
        ballot: Ballot,
    },
    /// "Do you still follow me?" It says all that a heartbeat does except the watermark. Promises nothing.
    Confirm {
        /// The leader's ballot.
        ballot: Ballot,
        /// Echoed by the answer.
        number: u64,
    },
    /// Answers [`ClusterBody::Confirm`]: the sender follows. Promises nothing: once a node promises a higher
    /// ballot it refuses the question, and that promise is durable before anyone counts it.
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
    /// Answers [`ClusterBody::Read`]. Promises nothing: it states a fact.
    ReadReply {
        /// The asker's name for it.
        id: u64,
        /// What must be delivered before.
        index: Index,
    },
}

impl ClusterBody {
    /// Whether it promises; see [`Body::promises`](super::Body::promises).
    pub(super) fn promises(&self) -> bool {
        match self {
            ClusterBody::PreVoteReply { .. }
            | ClusterBody::Heartbeat { .. }
            | ClusterBody::HeartbeatReply { .. }
            | ClusterBody::Refuse { .. }
            | ClusterBody::CatchUp { .. }
            | ClusterBody::Learn { .. }
            | ClusterBody::Forward { .. }
            | ClusterBody::TimeoutNow { .. }
            | ClusterBody::Confirm { .. }
            | ClusterBody::Confirmed { .. }
            | ClusterBody::Read { .. }
            | ClusterBody::ReadReply { .. } => false,
        }
    }

    /// See [`Body::cost_bytes`](super::Body::cost_bytes).
    pub(super) fn cost_bytes(&self) -> usize {
        match self {
            ClusterBody::Learn { entries, .. } => entries_cost_bytes(entries),
            ClusterBody::Forward { commands } => commands.iter().map(Command::cost_bytes).sum(),
            _ => 0,
        }
    }

    /// See [`Body::join`](super::Body::join).
    pub(super) fn join(&mut self, later: ClusterBody) -> Result<(), ClusterBody> {
        match (self, later) {
            (ClusterBody::Forward { commands }, ClusterBody::Forward { commands: more })
                if fits_a_page(commands.iter().chain(&more)) =>
            {
                commands.extend(more);
                Ok(())
            }
            (
                ClusterBody::Heartbeat { ballot, chosen, .. },
                ClusterBody::Heartbeat { ballot: other, chosen: newer, .. },
            ) if *ballot == other => {
                *chosen = newer.max(*chosen);
                Ok(())
            }
            (_, later) => Err(later),
        }
    }
}

impl fmt::Display for ClusterBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterBody::PreVoteReply { ballot, granted, promised } => {
                let word = if *granted { "granted" } else { "refused" };
                write!(f, "PreVoteReply {ballot} {word} promised={promised}")
            }
            ClusterBody::Heartbeat { ballot, chosen, sent_ms } => {
                write!(f, "Heartbeat {ballot} chosen={chosen} sent={sent_ms}")
            }
            ClusterBody::HeartbeatReply { ballot, chosen, sent_ms } => {
                write!(f, "HeartbeatReply {ballot} chosen={chosen} sent={sent_ms}")
            }
            ClusterBody::Refuse { ballot, promised } => write!(f, "Refuse {ballot} promised={promised}"),
            ClusterBody::CatchUp { first } => write!(f, "CatchUp first={first}"),
            ClusterBody::Learn { chosen, entries } => write!(f, "Learn chosen={chosen} [{}]", join(entries)),
            ClusterBody::Forward { commands } => write!(f, "Forward [{}]", join(commands)),
            ClusterBody::TimeoutNow { ballot } => write!(f, "TimeoutNow {ballot}"),
            ClusterBody::Confirm { ballot, number } => write!(f, "Confirm {ballot} number={number}"),
            ClusterBody::Confirmed { ballot, number } => write!(f, "Confirmed {ballot} number={number}"),
            ClusterBody::Read { id } => write!(f, "Read {id}"),
            ClusterBody::ReadReply { id, index } => write!(f, "ReadReply {id} index={index}"),
        }
    }
}
