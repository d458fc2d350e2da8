//! Leadership transfer (Raft thesis section 3.10): a leader hands over to a successor of its choice, so that
//! nobody has to wait for an election timeout.
//!
//! 1. The leader places nothing new: proposals wait in [`Proposals`](super::proposals::Proposals), up to its
//!    limits.
//! 2. Once the successor is up to date (each protocol says when), the leader says
//!    [`ClusterBody::TimeoutNow`], again each heartbeat interval. Until then it leads as before, so a
//!    successor that lags learns what it lacks.
//! 3. The successor campaigns immediately, without pre-vote, which the others would refuse: they hear a
//!    leader.
//! 4. Its higher ballot deposes the leader, which forwards its own clients' proposals to the new one as soon
//!    as it hears from it; so do the nodes that forwarded to the old one. No proposal is lost.
//!
//! If that does not happen within T, the leader gives up the transfer and places what waited. A TimeoutNow
//! that is still under way then costs another election, and nothing else, since it promises nothing.

use super::batch::{Batch, Event};
use super::member::Member;
use super::message::ClusterBody;
use super::types::{Ballot, NodeId};

/// A transfer under way: at most one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    /// When it is given up.
    pub(super) until_ms: u64,
    /// When the successor is told to take over, if it is up to date: immediately, then each heartbeat
    /// interval.
    tell_at_ms: u64,
}

impl Transfer {
    /// Begins to hand over to another voter; any other node is nonsense.
    pub(super) fn begin(member: &Member, to: NodeId, ballot: Ballot, out: &mut Batch) -> Transfer {
        out.events.push(Event::HandingOver { to, ballot });
        Transfer { to, until_ms: member.now_ms() + member.election_ms(), tell_at_ms: member.now_ms() }
    }

    /// The successor is up to date: it is told to take over, if that is due.
    pub(super) fn tell(&mut self, member: &Member, ballot: Ballot, out: &mut Batch) {
        if member.now_ms() >= self.tell_at_ms {
            self.tell_at_ms = member.now_ms() + member.heartbeat_ms();
            member.send_early(self.to, ClusterBody::TimeoutNow { ballot }, out);
        }
    }
}
