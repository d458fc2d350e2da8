//! A running node: the only place that starts threads.
//!
//! | thread | does | waits in |
//! | --- | --- | --- |
//! | `clients` | the client port, if there is one: requests in, answers out | its poll |
//! | `state-machine` | turns of the core | the inbox's bell |
//! | `storage` | one durable write for all that waits | the works queue |
//! | `network` | peers: frames in and out; own messages back to the inbox | its poll |
//! | `applier` | delivery: the application, the apply channel, answers, chosen lines | its bell |
//! | `log-file`, `log-terminal` | diagnostic lines, if there is a log file | their queues |
//!
//! State machine → storage and storage → network block when full; network → state machine never does, so the
//! ring cannot lock up. What each queue holds, and what fullness does, stands beside its constant in `wiring`
//! and `pipeline::inbox`.
//!
//! [`Node::builder`] is the only way to a node, for `simplesvr` as for a program that embeds one.

mod applied;
mod applier;
mod builder;
#[doc(hidden)]
pub mod clients;
mod clock;
mod ending;
mod errors;
mod handles;
mod health;
mod items;
#[doc(hidden)]
pub mod log;
mod parts;
#[doc(hidden)]
pub mod peers;
mod proposing;
mod service;
mod state_machine;
mod storage;
mod wiring;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::log::info;
use bytes::Bytes;

use crate::client::Service;
use crate::config::Config;
use crate::consensus::protocol::Status;
use crate::consensus::types::{Command, Index, NodeId, RequestId};

use self::log::{Log, LogControl};
use self::service::NodeService;
use self::wiring::Threads;

pub use self::builder::{Builder, MemoryDisk, Opened};
pub use self::ending::{End, Ender, ExitCode, Failure};
pub use self::errors::{ProposeError, ReadError, StartError, TransferError, WaitError};
pub use self::handles::Delivered;
pub use self::items::{ApplySender, Items, Received, apply_channel};
pub use self::proposing::{PLACEMENT_WAIT, Proposed};

/// One proposal holds at most so many commands.
pub const MAX_COMMANDS: usize = 4096;

/// What [`Node::read_log`] takes from the log at most, unless its first item alone is larger.
const READ_BYTES: usize = 1 << 20;

/// An item of the log, as [`Node::read_log`] finds it: delivered, and so the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogItem {
    /// Where it stands.
    pub index: Index,
    /// What was delivered there; `None`: nothing (a no-op, or a repeat of a request that was delivered
    /// before).
    pub command: Option<Command>,
}

/// A running node. It ends with [`Node::stop`], and when it is dropped. To share one among threads, put it
/// into an [`Arc`].
pub struct Node {
    chosen_at_start: Index,
    client_address: Option<SocketAddr>,
    peer_address: SocketAddr,
    service: Arc<NodeService>,
    ender: Ender,
    /// `None` once they have ended.
    threads: Option<Threads>,
    log: Option<Log>,
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
        self.propose_as(self.next_request(), payload)
    }

    /// As [`Node::propose`], under an id of the caller's: whoever proposes under the same id again, at
    /// whatever node, proposes the same request, which is delivered at most once (within the last 1,048,576
    /// delivered requests).
    pub fn propose_as(
        &self,
        request: RequestId,
        payload: impl Into<Bytes>,
    ) -> Result<Proposed, ProposeError> {
        let proposed = proposing::propose(&self.service, vec![(request, payload.into())])?;
        Ok(proposed.into_iter().next().expect("one command was proposed"))
    }

    /// Proposes up to [`MAX_COMMANDS`] commands together: one turn, one write, in the log one after the other
    /// unless the leader changes meanwhile. All of them are proposed or none.
    pub fn propose_all<T: Into<Bytes>>(
        &self,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Proposed>, ProposeError> {
        let commands = payloads.into_iter().map(|payload| (self.next_request(), payload.into()));
        proposing::propose(&self.service, commands.collect())
    }

    /// As [`Node::propose_all`], each under an id of the caller's.
    pub fn propose_all_as<T: Into<Bytes>>(
        &self,
        commands: impl IntoIterator<Item = (RequestId, T)>,
    ) -> Result<Vec<Proposed>, ProposeError> {
        let commands = commands.into_iter().map(|(request, payload)| (request, payload.into()));
        proposing::propose(&self.service, commands.collect())
    }

    fn next_request(&self) -> RequestId {
        let number = 1 + self.service.last_number.fetch_add(1, Ordering::Relaxed);
        RequestId { session: self.service.session, number }
    }

    // ---- reading ----

    /// Delivered items from `first` on (the log begins with 1), without gaps: at most `count`, and about 1
    /// MiB. None if nothing is delivered there yet. It reads what this node has delivered, which may be less
    /// than what is chosen.
    pub fn read_log(&self, first: Index, count: usize) -> Result<Vec<LogItem>, ReadError> {
        Ok(self.service.delivered_from(first.max(1), count, READ_BYTES)?)
    }

    /// What was delivered at an index; `None` if nothing was delivered there yet.
    pub fn get(&self, index: Index) -> Result<Option<LogItem>, ReadError> {
        let items = self.service.delivered_from(index.max(1), 1, READ_BYTES)?;
        Ok(items.into_iter().find(|item| item.index == index))
    }

    /// What is delivered at an index, waiting for it at most so long; `None` if it did not come, or the node
    /// ended.
    pub fn wait_for(&self, index: Index, timeout: Duration) -> Result<Option<LogItem>, ReadError> {
        match self.service.applied.wait_for(index, timeout) {
            true => self.get(index),
            false => Ok(None),
        }
    }

    /// Up to it everything was delivered here.
    pub fn applied(&self) -> Index {
        self.service.applied.index()
    }

    /// Whether what was known to be chosen at the start is delivered.
    pub fn is_replayed(&self) -> bool {
        self.applied() >= self.chosen_at_start
    }

    // ---- the cluster ----

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.service.node
    }

    /// How the core stands: role, ballot (Raft: term), leader, watermarks, peers; at most a tick old (a fifth
    /// of a heartbeat interval). The labs' `GetState` is `(status.promised.round, status.is_leader())`.
    pub fn status(&self) -> Status {
        self.service.status.lock().clone()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.service.status.lock().leader
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
        self.service.inbox.transfers.try_push(to).map_err(|_| TransferError::Busy)
    }

    /// Where clients connect, if there is a client port.
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.client_address
    }

    /// Where peers connect.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    // ---- the end ----

    /// Waits until the node fails or somebody asks for its end ([`Ender::ask`]). The node still has to be
    /// stopped.
    pub fn wait(&self) -> End {
        loop {
            if let Some(end) = self.ender.wait(None) {
                return end;
            }
        }
    }

    /// The same, at most so long.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<End> {
        self.ender.wait(Some(timeout))
    }

    /// Why the node cannot go on, if so: a disk that failed, a damaged or wiped data directory, an
    /// application that panicked. From then on it proposes, acknowledges and delivers nothing; its process
    /// goes on.
    pub fn failure(&self) -> Option<Failure> {
        self.ender.failure()
    }

    /// For signal handlers and others that want the node to end.
    pub fn ender(&self) -> Ender {
        self.ender.clone()
    }

    /// Ends in order: no new proposals, replies flushed, threads joined. What is chosen and not delivered yet
    /// comes after the next start; whoever waits for a proposal is told [`WaitError::Ended`]. It waits for an
    /// application that is at work, and must not be called by it. An error is that of a node that failed,
    /// before or meanwhile.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.end();
        self.ender.failure().map_or(Ok(()), Err)
    }

    fn end(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        info!("ending in order");
        let log = self.log.take();
        if let Some(log) = &log {
            log.control().stop_waiting();
        }
        threads.end(&self.service);
        self.ender.forget();
        if self.ender.failure().is_none() {
            info!("ended");
        }
        log.into_iter().for_each(Log::close);
    }

    // ---- for the command line ----

    /// The node as its client port sees it.
    #[doc(hidden)]
    pub fn service(&self) -> Arc<dyn Service> {
        self.service.clone()
    }

    /// The log file, if there is one.
    #[doc(hidden)]
    pub fn log(&self) -> Option<LogControl> {
        self.log.as_ref().map(Log::control)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, peers, clients) = (self.id(), self.peer_address, self.client_address);
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
