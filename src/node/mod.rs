//! A running node: the only place that starts threads, but for those of the log file.
//!
//! | thread | does | waits in |
//! | --- | --- | --- |
//! | `clients` | the client port, if there is one: requests in, answers out | its poll |
//! | `state-machine` | turns of the core | the inbox's bell |
//! | `storage` | one durable write for all that waits | the works queue |
//! | `network` | peers: frames in and out; own messages back to the inbox | its poll |
//! | `applier` | delivery: the application, the apply channel, answers, chosen lines | its bell |
//! | `log-file`, `log-terminal` | diagnostic lines, if there is a log file (`logfile`) | their queues |
//!
//! State machine → storage and storage → network block when full; network → state machine never does, so the
//! ring cannot lock up. What each queue holds, and what fullness does, stands beside its constant in `wiring`
//! and `pipeline::inbox`.
//!
//! [`Node::builder`] is the only way to a node, for `simplesvr` as for a program that embeds one: `builder`
//! makes the `parts`, `wiring` puts them together. What the threads share is in `shared`. Clients come in by
//! `front`, the embedder by `proposing`, both past `admission`.

mod admission;
mod applied;
mod applier;
mod builder;
#[cfg(not(feature = "internals"))]
mod clients;
#[cfg(feature = "internals")]
pub mod clients;
mod clock;
mod ending;
mod errors;
mod front;
mod handles;
mod health;
mod items;
mod parts;
#[cfg(not(feature = "internals"))]
mod peers;
#[cfg(feature = "internals")]
pub mod peers;
mod proposing;
mod shared;
mod state_machine;
mod storage;
mod wiring;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log::info;

use crate::client::front::Front;
use crate::config::Config;
use crate::consensus::protocol::Status;
use crate::consensus::types::{Index, NodeId, RequestId};
use crate::logfile::{Log, LogControl};

use self::wiring::Running;

pub use self::builder::{Builder, MemoryDisk, Opened};
pub use self::ending::{End, Ender, ExitCode, Failure};
pub use self::errors::{MAX_COMMANDS, ProposeError, ReadError, StartError, TransferError, WaitError};
pub use self::handles::Delivered;
pub use self::items::{ApplySender, Items, Received, apply_channel};
pub use self::proposing::{PLACEMENT_WAIT, Proposed};
pub use crate::client::front::LogItem;

/// What [`Node::read_log`] takes from the log at most, unless its first item alone is larger.
const READ_BYTES: usize = 1 << 20;

/// A running node. It ends with [`Node::stop`], and when it is dropped. To share one among threads, put it
/// into an [`Arc`].
pub struct Node {
    running: Running,
}

impl Node {
    /// The way to start a node: `Node::builder(config).application(..).start()`.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    // ---- proposing ----

    /// Proposes a command, and says at once where it stands: after one turn of the state machine, for which
    /// it waits at most [`PLACEMENT_WAIT`]. Whatever node it is, it forwards the command to the leader if it
    /// does not lead.
    ///
    /// The request id is made here. A caller that may have to propose again, after a restart say, gives its
    /// own: [`Node::propose_as`].
    pub fn propose(&self, payload: impl Into<Bytes>) -> Result<Proposed, ProposeError> {
        self.propose_as(self.running.proposer.next_request(), payload)
    }

    /// As [`Node::propose`], under an id of the caller's: whoever proposes under the same id again, at
    /// whatever node, proposes the same request, which is delivered at most once (within the last 1,048,576
    /// delivered requests).
    pub fn propose_as(
        &self,
        request: RequestId,
        payload: impl Into<Bytes>,
    ) -> Result<Proposed, ProposeError> {
        let proposed = self.running.proposer.propose(vec![(request, payload.into())])?;
        Ok(proposed.into_iter().next().expect("one command was proposed"))
    }

    /// Proposes up to [`MAX_COMMANDS`] commands together: one turn, one write, in the log one after the other
    /// unless the leader changes meanwhile. All of them are proposed or none.
    pub fn propose_all<T: Into<Bytes>>(
        &self,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Proposed>, ProposeError> {
        let commands =
            payloads.into_iter().map(|payload| (self.running.proposer.next_request(), payload.into()));
        self.running.proposer.propose(commands.collect())
    }

    /// As [`Node::propose_all`], each under an id of the caller's.
    pub fn propose_all_as<T: Into<Bytes>>(
        &self,
        commands: impl IntoIterator<Item = (RequestId, T)>,
    ) -> Result<Vec<Proposed>, ProposeError> {
        let commands = commands.into_iter().map(|(request, payload)| (request, payload.into()));
        self.running.proposer.propose(commands.collect())
    }

    // ---- reading ----

    /// Delivered items from `first` on (the log begins with 1), without gaps: at most `count`, and about 1
    /// MiB. None if nothing is delivered there yet. It reads what this node has delivered, which may be less
    /// than what is chosen.
    pub fn read_log(&self, first: Index, count: usize) -> Result<Vec<LogItem>, ReadError> {
        Ok(self.running.front.read_log(first.max(1), count, READ_BYTES)?)
    }

    /// What was delivered at an index; `None` if nothing was delivered there yet.
    pub fn get(&self, index: Index) -> Result<Option<LogItem>, ReadError> {
        let items = self.running.front.read_log(index.max(1), 1, READ_BYTES)?;
        Ok(items.into_iter().find(|item| item.index == index))
    }

    /// What is delivered at an index, waiting for it at most so long; `None` if it did not come, or the node
    /// ended.
    pub fn wait_for(&self, index: Index, timeout: Duration) -> Result<Option<LogItem>, ReadError> {
        if self.running.shared.applied.wait_for(index, timeout) { self.get(index) } else { Ok(None) }
    }

    /// Up to it everything was delivered here.
    pub fn applied(&self) -> Index {
        self.running.shared.applied.index()
    }

    /// Whether what was known to be chosen at the start is delivered.
    pub fn is_replayed(&self) -> bool {
        self.applied() >= self.running.chosen_at_start
    }

    // ---- the cluster ----

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.running.front.node()
    }

    /// How the core stands: role, ballot (Raft: term), leader, watermarks, peers; at most a tick old (a fifth
    /// of a heartbeat interval). The labs' `GetState` is `(status.promised.round, status.is_leader())`.
    pub fn status(&self) -> Status {
        self.running.shared.status.lock().clone()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.running.shared.status.lock().leader
    }

    /// Asks for leadership to be handed over, without waiting for it: [`Node::status`] shows what came of it.
    /// It happens within T or not at all, and proposals wait meanwhile. A wish that comes while one is being
    /// carried out is ignored.
    pub fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        let status = self.status();
        if !status.peers.iter().any(|peer| peer.node == to) {
            let others = status.peers.iter().map(|peer| peer.node).collect();
            return Err(TransferError::NoOtherMember { to, others });
        }
        if !status.is_leader() {
            return Err(TransferError::NotLeading { leader: status.leader });
        }
        self.running.shared.inbox.transfers.try_push(to).map_err(|_| TransferError::Busy)
    }

    /// Where clients connect, if there is a client port.
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.running.client_address
    }

    /// Where peers connect.
    pub fn peer_address(&self) -> SocketAddr {
        self.running.peer_address
    }

    // ---- the end ----

    /// Waits until the node fails or somebody asks for its end ([`Ender::ask`]). The node still has to be
    /// stopped.
    pub fn wait(&self) -> End {
        loop {
            if let Some(end) = self.running.ender.wait(None) {
                return end;
            }
        }
    }

    /// The same, at most so long.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<End> {
        self.running.ender.wait(Some(timeout))
    }

    /// Why the node cannot go on, if so: a disk that failed, a damaged or wiped data directory, an
    /// application that panicked. From then on it proposes, acknowledges and delivers nothing; its process
    /// goes on.
    pub fn failure(&self) -> Option<Failure> {
        self.running.ender.failure()
    }

    /// For signal handlers and others that want the node to end.
    pub fn ender(&self) -> Ender {
        self.running.ender.clone()
    }

    /// Ends in order: no new proposals, replies flushed, threads joined. What is chosen and not delivered yet
    /// comes after the next start; whoever waits for a proposal is told [`WaitError::Ended`]. It waits for an
    /// application that is at work, and must not be called by it. An error is that of a node that failed,
    /// before or meanwhile.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.end();
        self.running.ender.failure().map_or(Ok(()), Err)
    }

    fn end(&mut self) {
        let Some(threads) = self.running.threads.take() else { return };
        info!("ending in order");
        let log = self.running.log.take();
        if let Some(log) = &log {
            log.control().stop_waiting();
        }
        threads.end(&self.running.shared);
        self.running.ender.forget();
        if self.running.ender.failure().is_none() {
            info!("ended");
        }
        log.into_iter().for_each(Log::close);
    }

    // ---- for the command line ----

    /// The node as its client faces see it.
    #[cfg(feature = "internals")]
    pub fn front(&self) -> Arc<dyn Front> {
        self.running.front.clone()
    }

    /// The log file, if there is one.
    #[cfg(feature = "internals")]
    pub fn log(&self) -> Option<LogControl> {
        self.running.log.as_ref().map(Log::control)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, peers, clients) = (self.id(), self.running.peer_address, self.running.client_address);
        f.debug_struct("Node")
            .field("id", &id)
            .field("peers", &peers)
            .field("clients", &clients)
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
