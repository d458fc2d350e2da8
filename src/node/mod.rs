//! A running node: the only place that starts threads, except for those of the log file.
//!
//! | thread | does | waits in |
//! | --- | --- | --- |
//! | `clients` | the client port, if there is one: requests in, answers out | its poll |
//! | `state-machine` | turns of the core | the inbox's bell |
//! | `storage` | one durable write for everything that waits | the works queue |
//! | `network` | peers: frames in and out; own messages back to the inbox | its poll |
//! | `applier` | delivery: the application, the apply channel, answers, chosen lines | its bell |
//! | `log-file`, `log-terminal` | diagnostic lines, if there is a log file (`logfile`) | their queues |
//!
//! State machine → storage and storage → network block when full; network → state machine never does, so the
//! ring cannot lock up. What each queue holds, and what happens when it is full, is written next to its
//! constant in `wiring` and `pipeline::inbox`.
//!
//! [`Node::builder`] is the only way to get a node, for `simplesvr` as well as for a program that embeds one:
//! `builder` makes the `parts`, `wiring` puts them together. What the threads share is in `shared`. Clients
//! come in through `front`, the embedder through `proposing`, and both pass `admission`.

mod admission;
mod applied;
mod applier;
mod builder;
#[cfg(not(feature = "internals"))]
mod clients;
#[cfg(feature = "internals")]
pub mod clients;
mod clock;
mod descriptors;
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
pub(crate) mod peers_key;
mod proposing;
mod shared;
mod state_machine;
mod storage;
mod threads;
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

/// The most that [`Node::read_log`] takes from the log, unless its first item alone is larger.
const READ_BYTES: usize = 1 << 20;

/// A running node. It ends with [`Node::stop`], or when it is dropped. To share one among threads, put it
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

    /// Proposes a command, and returns where it stands after one turn of the state machine, for which it
    /// waits at most [`PLACEMENT_WAIT`]. Any node will do: one that does not lead forwards the command to the
    /// leader.
    ///
    /// The request id is made here. A caller that may have to propose again, for example after a restart,
    /// chooses its own: [`Node::propose_as`].
    pub fn propose(&self, payload: impl Into<Bytes>) -> Result<Proposed, ProposeError> {
        self.propose_as(self.running.proposer.next_request(), payload)
    }

    /// Like [`Node::propose`], under an id that the caller chose. To propose under the same id again, at any
    /// node, is to propose the same request, which is delivered at most once (within the last 1,048,576
    /// delivered requests).
    pub fn propose_as(
        &self,
        request: RequestId,
        payload: impl Into<Bytes>,
    ) -> Result<Proposed, ProposeError> {
        let proposed = self.running.proposer.propose(vec![(request, payload.into())])?;
        Ok(proposed.into_iter().next().expect("one command was proposed"))
    }

    /// Proposes up to [`MAX_COMMANDS`] commands together: one turn, one write, and one after the other in the
    /// log unless the leader changes in the meantime. Either all of them are proposed or none.
    pub fn propose_all<T: Into<Bytes>>(
        &self,
        payloads: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Proposed>, ProposeError> {
        let commands =
            payloads.into_iter().map(|payload| (self.running.proposer.next_request(), payload.into()));
        self.running.proposer.propose(commands.collect())
    }

    /// Like [`Node::propose_all`], each command under an id that the caller chose.
    pub fn propose_all_as<T: Into<Bytes>>(
        &self,
        commands: impl IntoIterator<Item = (RequestId, T)>,
    ) -> Result<Vec<Proposed>, ProposeError> {
        let commands = commands.into_iter().map(|(request, payload)| (request, payload.into()));
        self.running.proposer.propose(commands.collect())
    }

    // ---- reading ----

    /// Returns delivered items from `first` on (the log begins with 1), without gaps: at most `count` items
    /// and about 1 MiB. There are none if nothing has been delivered there yet. It reads what this node has
    /// delivered, which may be less than what is chosen.
    pub fn read_log(&self, first: Index, count: usize) -> Result<Vec<LogItem>, ReadError> {
        Ok(self.running.front.read_log(first.max(1), count, READ_BYTES)?)
    }

    /// What was delivered at an index; `None` if nothing has been delivered there yet.
    pub fn get(&self, index: Index) -> Result<Option<LogItem>, ReadError> {
        let items = self.running.front.read_log(index.max(1), 1, READ_BYTES)?;
        Ok(items.into_iter().find(|item| item.index == index))
    }

    /// Waits for a delivery at an index, at most this long, and returns what was delivered; `None` if the
    /// time ran out or the node ended.
    pub fn wait_for(&self, index: Index, timeout: Duration) -> Result<Option<LogItem>, ReadError> {
        if self.running.shared.applied.wait_for(index, timeout) { self.get(index) } else { Ok(None) }
    }

    /// Every index up to this one was delivered here.
    pub fn applied(&self) -> Index {
        self.running.shared.applied.index()
    }

    /// Whether everything that was known to be chosen at startup has been delivered.
    pub fn is_replayed(&self) -> bool {
        self.applied() >= self.running.chosen_at_start
    }

    // ---- the cluster ----

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.running.front.node()
    }

    /// The state of the core: role, ballot (Raft: term), leader, watermarks, peers; at most a tick old (a
    /// fifth of a heartbeat interval). The labs' `GetState` is `(status.promised.round, status.is_leader())`.
    pub fn status(&self) -> Status {
        self.running.shared.status.lock().clone()
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.running.shared.status.lock().leader
    }

    /// Asks for leadership to be handed over, without waiting for it: [`Node::status`] shows the result. It
    /// happens within T or not at all, and proposals wait in the meantime. A request that comes while another
    /// is being carried out is ignored.
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

    /// Waits until the node fails or somebody asks it to end ([`Ender::ask`]). The node must still be
    /// stopped.
    pub fn wait(&self) -> End {
        loop {
            if let Some(end) = self.running.ender.wait(None) {
                return end;
            }
        }
    }

    /// Like [`Node::wait`], but waits at most this long.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<End> {
        self.running.ender.wait(Some(timeout))
    }

    /// Why the node cannot go on, if it cannot: a disk that failed, a damaged or wiped data directory, an
    /// application that panicked. From then on it proposes, acknowledges and delivers nothing; its process
    /// goes on.
    pub fn failure(&self) -> Option<Failure> {
        self.running.ender.failure()
    }

    /// A handle for signal handlers and others that want the node to end.
    pub fn ender(&self) -> Ender {
        self.running.ender.clone()
    }

    /// Ends the node in order: no new proposals, replies flushed, threads joined. What is chosen and not yet
    /// delivered comes after the next start; callers that wait for a proposal get [`WaitError::Ended`]. It
    /// waits for an application that is at work, and the application must not call it. It waits for the disk
    /// as well, however long that takes: `simplesvr` gives up after `client.timeout_ms` and five seconds
    /// more. It returns an error if the node failed, before or while it was stopping.
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
        threads.end(&self.running.shared, &self.running.ender);
        self.running.ender.forget();
        if self.running.ender.failure().is_none() {
            info!("ended");
        }
        self.running.ender.set_waits_for("log-file");
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
