//! Leadership transfer (Raft thesis section 3.10): a leader hands over to a successor of its choice, so that
//! nobody has to wait for an election timeout.
//!
//! 1. The leader places nothing new: proposals wait in [`Proposals`](super::proposals::Proposals), up to its
//!    limits.
//! 2. Once the successor is up to date (each protocol says when), the leader says
//!    [`ClusterBody::TimeoutNow`], again each heartbeat interval. Until then it leads as ever, so a successor
//!    that lags learns what it lacks.
//! 3. The successor campaigns at once, without pre-vote, which the others would refuse: they hear a leader.
//! 4. Its higher ballot deposes the leader, which forwards its own clients' proposals to the new one as soon
//!    as it hears it; so do those that forwarded to the old one. None is lost.
//!
//! If that does not come about within T, the leader gives it up and places what waited. A TimeoutNow that is
//! still under way then costs an election more; nothing else, as it promises nothing.

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
    /// When the successor is told to take over, should it be up to date: at once, then each heartbeat
    /// interval.
    tell_at_ms: u64,
}

impl Transfer {
    /// To another voter; anyone else is nonsense.
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
