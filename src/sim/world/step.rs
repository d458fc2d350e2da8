//! The kinds of step that a run is made of, as plain data: what happens to whom.

use crate::consensus::types::NodeId;
use crate::pipeline::waiters::Ticket;
use crate::wire::message::PeerMessage;

use super::super::plan::Class;

/// What happens next. Steps of a node name its process: those of an earlier one do nothing.
pub enum Step {
    /// The state machine's clock.
    Tick(NodeId, u64),
    /// A thread does its next step.
    Thread(NodeId, u64, Thread),
    /// The state machine's turn with what it took.
    Turn(NodeId, u64),
    /// The write under way ends.
    WriteEnds(NodeId, u64),
    /// Storage looks whether there is room on the disk again.
    Retry(NodeId, u64),
    /// A node dials another.
    Dial(NodeId, NodeId),
    /// A message that is on its own arrives.
    Arrive(Box<Flight>),
    /// A segment of a connection arrives: the connection, and the segment's number in it.
    Segment(u64, u64),
    /// Nothing was acknowledged on a connection for a while.
    Resend(u64),
    /// A connection may have been silent for too long.
    Ping(u64),
    /// A reset of a connection arrives at its sender.
    Reset(u64),
    /// A client does something.
    Client(usize, u64),
    /// A request of the liveness phase has timed out.
    Forget(Ticket),
    /// Somebody wants another node to lead.
    Transfer,
    /// Somebody reads the log of a node.
    Read,
    /// A fault begins or ends.
    Chaos(Act),
    /// A node starts.
    Start(NodeId),
}

impl Step {
    /// The node whose threads it may run.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Step::Tick(id, _) | Step::Thread(id, _, _) | Step::Turn(id, _) => Some(*id),
            Step::WriteEnds(id, _) | Step::Retry(id, _) => Some(*id),
            _ => None,
        }
    }
}

/// A thread of a node, as a bit of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    Machine = 1,
    Storage = 2,
    Network = 4,
    Applier = 8,
}

/// A message on its way.
#[derive(Clone)]
pub struct Flight {
    pub id: u64,
    pub message: PeerMessage,
    /// The directory of the process that sent it.
    pub directory: u128,
    /// The process that it is for.
    pub process: u64,
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Begin(Class),
    /// The split with this number heals.
    Heal(u64),
    Resume(NodeId, u64, u64),
    /// A disk works again as it did.
    Recover(NodeId, u64, u64),
    /// There is room on a disk again.
    Free(NodeId, u64),
}
