//! What the threads of a node share with each other, with its client faces and with its embedder.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::consensus::protocol::Status;
use crate::pipeline::fork::Fork;
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::marks::Marks;
use crate::pipeline::queue::Queue;
use crate::pipeline::recent::Recent;
use crate::pipeline::requests::Requests;
use crate::pipeline::state_machine::Work;
use crate::store::LogReader;

use super::admission::Admission;
use super::applied::Applied;
use super::clock::Clock;
use super::handles::Handles;
use super::health::Health;

/// See the module. These are plain handles: the type of each one says what it is for.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) inbox: Arc<Inbox>,
    pub(super) works: Arc<Queue<Work>>,
    pub(super) outgoing: Arc<Queue<Outgoing>>,
    pub(super) recent: Arc<Recent>,
    pub(super) reader: LogReader,
    pub(super) requests: Arc<Mutex<Requests>>,
    pub(super) admission: Admission,
    pub(super) handles: Arc<Handles>,
    pub(super) applied: Applied,
    /// The state of the core as it was after one turn: what the state machine publishes.
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) health: Arc<Health>,
    /// The running hash of what was delivered.
    pub(super) marks: Arc<Mutex<Marks>>,
    /// Nodes that delivered something else than this one, if any are known.
    pub(super) fork: Arc<Mutex<Option<Fork>>>,
}

impl Shared {
    /// Called when the node has failed: nothing more is proposed, written or sent, and those that wait for it
    /// are told. The threads end.
    pub(super) fn fail(&self) {
        self.inbox.submissions.close();
        self.inbox.proposals.close();
        self.works.close();
        self.outgoing.close();
        self.handles.end();
        self.applied.end();
    }
}
