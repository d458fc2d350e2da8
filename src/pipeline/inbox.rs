//! What waits for the state machine thread: its own messages, peers' messages, bindings, proposals and
//! wishes. Each has a bounded queue with its own policy, and all share one bell.

use crate::consensus::config::Restored;
use crate::consensus::message::Message;
use crate::consensus::protocol::Proposal;
use crate::consensus::types::NodeId;
pub use crate::store::{Binding, DirectoryId};
use crate::wire::message::{PeerMessage, Service};

use super::placement::Submission;
use super::queue::{Bell, Queue};

/// Messages that a node addressed to itself and whose write is durable.
#[derive(Debug)]
pub struct OwnMessages {
    /// The generation of the core that made them. Those of an older generation are discarded.
    pub generation: u64,
    /// All messages of one write, so that they take one place.
    pub messages: Vec<Message>,
}

/// What storage tells the state machine outside the ring.
#[derive(Debug)]
pub enum Control {
    /// A write failed: do nothing until told to go on.
    Suspend,
    /// There is room again: continue from what is durable.
    Rebuild(Restored),
}

/// The state machine's inputs, and what happens when a queue is full:
///
/// | queue | full |
/// | --- | --- |
/// | `own` | cannot happen: room is reserved (see [`Inbox::OWN_CAPACITY`]); the producer asserts it |
/// | `control` | cannot happen: at most one of each is under way |
/// | `peers` | the message is dropped and counted; the protocol repeats it |
/// | `bindings` | the connection is closed; the peer dials again |
/// | `proposals` | the client is answered `-BUSY` |
/// | `submissions` | the embedder is told that the node is busy |
/// | `transfers` | the caller is told so |
pub struct Inbox {
    /// Failures and recoveries, by storage.
    pub control: Queue<Control>,
    /// Own messages, by the network thread.
    pub own: Queue<OwnMessages>,
    /// Peers' messages, for the core and for services, by the network thread; weighed in bytes.
    pub peers: Queue<PeerMessage>,
    /// Peers whose first message for the core came, by the network thread. The node id must be bound durably
    /// to the directory before the peer's first message counts.
    pub bindings: Queue<Binding>,
    /// Clients' proposals, by the client port; weighed in bytes.
    pub proposals: Queue<Proposal>,
    /// Proposals, by the embedder; weighed in bytes.
    pub submissions: Queue<Submission>,
    /// Nodes to hand leadership over to, by the embedder.
    pub transfers: Queue<NodeId>,
    /// Wakes the state machine.
    pub bell: Bell,
}

impl Inbox {
    /// How many writes may have own messages under way at the same time: what the storage queue, a drain of
    /// it, the outgoing queue and a drain of that can hold. `node` asserts that its capacities add up to
    /// this.
    pub const OWN_CAPACITY: usize = 8192;
    /// The most bytes of peers' messages that wait: some turns of a loaded cluster.
    pub const PEERS_CAPACITY_BYTES: usize = 64 << 20;
    /// The most bindings that wait. A peer is bound once in its life.
    pub const BINDINGS_CAPACITY: usize = 64;
    /// The most bytes of proposals that wait, besides those that the core holds.
    pub const PROPOSALS_CAPACITY_BYTES: usize = 32 << 20;
    /// The same for the embedder's proposals.
    pub const SUBMISSIONS_CAPACITY_BYTES: usize = 16 << 20;
    /// The most transfers that wait. A core follows the first wish and ignores others until that one is
    /// settled.
    pub const TRANSFERS_CAPACITY: usize = 4;

    /// Empty queues.
    pub fn new() -> Inbox {
        Inbox::with_room_for(Inbox::PEERS_CAPACITY_BYTES, Inbox::PROPOSALS_CAPACITY_BYTES)
    }

    /// Empty queues with less room for inputs that may be refused, so that a simulation sees them refused.
    pub fn with_room_for(peers_bytes: usize, proposals_bytes: usize) -> Inbox {
        let bell = Bell::new();
        Inbox {
            control: Queue::new(4, |_| 1, bell.clone()),
            own: Queue::new(Inbox::OWN_CAPACITY, |_| 1, bell.clone()),
            peers: Queue::new(peers_bytes, PeerMessage::cost_bytes, bell.clone()),
            bindings: Queue::new(Inbox::BINDINGS_CAPACITY, |_| 1, bell.clone()),
            proposals: Queue::new(proposals_bytes, |proposal| proposal.command.cost_bytes(), bell.clone()),
            submissions: Queue::new(Inbox::SUBMISSIONS_CAPACITY_BYTES, Submission::cost_bytes, bell.clone()),
            transfers: Queue::new(Inbox::TRANSFERS_CAPACITY, |_| 1, bell.clone()),
            bell,
        }
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

/// What a message takes in memory and, roughly, on the wire.
pub fn message_cost_bytes(message: &Message) -> usize {
    64 + message.body.cost_bytes()
}

/// What waits for the network thread.
#[derive(Debug)]
pub enum Outgoing {
    /// Messages to peers and to the node itself.
    Messages {
        /// The generation of the core that made them.
        generation: u64,
        /// The messages, in the order in which they must be sent.
        messages: Vec<Message>,
    },
    /// Messages of services to peers, which promise nothing.
    Services(Vec<Service>),
    /// The binding is durable: the peer's messages may pass.
    Bound(Binding),
}

impl Outgoing {
    /// What the item takes in the queue.
    pub fn cost_bytes(&self) -> usize {
        match self {
            Outgoing::Messages { messages, .. } => {
                64 + messages.iter().map(message_cost_bytes).sum::<usize>()
            }
            Outgoing::Services(services) => 64 + services.iter().map(Service::cost_bytes).sum::<usize>(),
            Outgoing::Bound(_) => 64,
        }
    }
}
