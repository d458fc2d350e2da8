//! A running node: the only place that starts threads.
//!
//! | thread | does | waits in |
//! | --- | --- | --- |
//! | `clients` | the client port: requests in, answers out | its poll |
//! | `state-machine` | turns of the core | the inbox's bell |
//! | `storage` | one durable write for all that waits | the works queue |
//! | `network` | peers: frames in and out; own messages back to the inbox | its poll |
//! | `applier` | delivery, answers, chosen lines | its bell |
//! | `log-file`, `log-terminal` | diagnostic lines | their queues |
//!
//! State machine → storage and storage → network block when full; network → state machine never does, so
//! the ring cannot lock up. What each queue holds, and what fullness does, stands beside its constant here
//! and in [`Inbox`].

mod applier;
pub mod clients;
mod clock;
pub mod ending;
mod health;
pub mod log;
pub mod peers;
mod service;
mod state_machine;
mod storage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use ::log::{info, warn};
use parking_lot::Mutex;

use crate::client::Service;
use crate::config::Config;
use crate::consensus::config as core;
use crate::consensus::protocol::{Role, Status};
use crate::consensus::quorum::Voters;
use crate::consensus::types::{Index, NodeId};
use crate::pipeline::applier::Applier;
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::recent::Recent;
use crate::pipeline::requests::{self, Requests};
use crate::pipeline::state_machine::{StateMachine, Work};
use crate::pipeline::storage::{Storage, restored};
use crate::store::{Binding, Founding, Recovered, Store, StoreOptions};

use crate::wire::hello::{Hello, LOWEST_WIRE_VERSION, WIRE_VERSION};

use self::applier::ApplierThread;
use self::clients::{ClientOptions, ClientPort, Stop};
use self::clock::Clock;
use self::ending::{Ender, ExitCode};
use self::health::Health;
use self::log::{ChosenLog, LogControl, RateLimited};
use self::peers::{Fatal, PeerLimits, PeerNetwork, PeerOptions};
use self::service::NodeService;
use self::state_machine::{EventLog, StateMachineThread};
use self::storage::StorageThread;

/// Works that wait for storage. Full: the state machine waits (its inbox then fills, and refuses).
const WORKS_CAPACITY_BYTES: usize = 32 << 20;
/// What waits for the network. Full: storage and the state machine wait; the network thread never does, so
/// it is emptied.
const OUTGOING_CAPACITY_BYTES: usize = 64 << 20;
/// Each item of these two queues weighs at least so much, which bounds their number.
const ITEM_MIN_BYTES: usize = 32 << 10;
/// Answers on their way to the client port, in turns of the applier. Full: the applier waits.
const ANSWERS_CAPACITY: usize = 1024;
/// What is kept in memory of the latest entries for the applier and lagging peers.
const RECENT_BYTES: usize = 32 << 20;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// The exit code it means.
    pub code: ExitCode,
    /// What is wrong and what to do.
    pub text: String,
}

impl StartError {
    fn new(code: ExitCode, text: impl Into<String>) -> StartError {
        StartError { code, text: text.into() }
    }
}

/// Why leadership is not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The successor is this node, or none of the cluster.
    #[error("node {to} is not another member of this cluster; choose one of {others:?}")]
    NoOtherMember {
        /// Who was to lead.
        to: NodeId,
        /// Who can.
        others: Vec<NodeId>,
    },
    /// Only the leader can hand over.
    #[error("this node does not lead; ask the leader ({leader:?})")]
    NotLeading {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Earlier wishes wait for the state machine.
    #[error("earlier wishes have not been looked at; try again")]
    Busy,
}

/// An open data directory: nobody else uses it now.
pub struct Opened {
    store: Store,
    recovered: Recovered,
}

/// Opens (or founds) the data directory of a configuration and locks it. The log file may be opened after
/// that, and the node started.
pub fn open(config: &Config) -> Result<Opened, StartError> {
    let members = config.peers.iter().map(|(node, address)| (*node, address.to_string())).collect();
    let founding = Founding {
        cluster: config.cluster.clone(),
        node: config.node,
        protocol: config.protocol.name().to_owned(),
        members,
        delivery_window: requests::WINDOW as u64,
    };
    let options = StoreOptions {
        cache_bytes: config.store.cache_mb << 20,
        free_low_bytes: config.store.free_mb << 20,
        ..StoreOptions::new(&config.data, founding)
    };
    let (store, recovered) = Store::open(options).map_err(|error| {
        let code = if error.exit_code() == 1 { ExitCode::Config } else { ExitCode::Data };
        StartError::new(code, error.to_string())
    })?;
    Ok(Opened { store, recovered })
}

/// A running node. Ends with [`Node::stop`].
pub struct Node {
    chosen_at_start: Index,
    client_address: SocketAddr,
    peer_address: SocketAddr,
    service: Arc<NodeService>,
    stop_clients: Stop,
    stop_applier: Arc<AtomicBool>,
    applier_bell: Bell,
    clients: JoinHandle<()>,
    state_machine: JoinHandle<()>,
    storage: JoinHandle<()>,
    network: JoinHandle<()>,
    applier: JoinHandle<()>,
}

impl Node {
    /// Binds both ports and starts the threads. `client` is the address of the client port (port 0: any).
    pub fn start(
        config: &Config,
        client: SocketAddr,
        opened: Opened,
        (log, lines): (LogControl, ChosenLog),
        ender: Ender,
    ) -> Result<Node, StartError> {
        let Opened { store, recovered } = opened;
        log_recovery(config, &recovered);
        if let Some(text) = lines_ahead(config, &recovered, lines.last()) {
            warn!("{text}");
        }
        let clock = Clock::start();
        let recent = Arc::new(Recent::new(RECENT_BYTES, recovered.hard_state.chosen));
        let requests = Arc::new(Mutex::new(Requests::default()));
        let inbox = Arc::new(Inbox::new());
        let health = Arc::new(Health::default());

        let (port, clients_bell) = ClientPort::bind(client_options(config, client)).map_err(|error| {
            let text = format!("cannot listen for clients on {client}: {error}; choose another address");
            StartError::new(ExitCode::Config, text)
        })?;
        let client_address = port.local_address().unwrap_or(client);
        let options = peer_options(config, client_address, &recovered, ender.clone());
        let listen = options.listen;
        let (network, network_bell) = PeerNetwork::bind(options).map_err(|error| {
            let text =
                format!("cannot listen for peers on {listen}: {error}; choose another address in [[peers]]");
            StartError::new(ExitCode::Config, text)
        })?;

        let works = Arc::new(Queue::new(
            WORKS_CAPACITY_BYTES,
            |work: &Work| work.cost_bytes().max(ITEM_MIN_BYTES),
            Bell::new(),
        ));
        let outgoing = Arc::new(Queue::new(
            OUTGOING_CAPACITY_BYTES,
            |item: &Outgoing| item.cost_bytes().max(ITEM_MIN_BYTES),
            network_bell,
        ));
        let answers = Arc::new(Queue::new(ANSWERS_CAPACITY, |_| 1, clients_bell));
        assert_own_room();

        let seed = recovered.directory as u64 ^ recovered.start;
        let core_config = core_config(config, seed);
        let restored = restored(&recovered);
        let state_machine = StateMachine::new(config.protocol, core_config, restored, recent.clone());
        let status = Arc::new(Mutex::new(state_machine.status()));
        let reader = store.reader();
        let applied = Arc::new(AtomicU64::new(reader.compacted()));
        let applier_bell = Bell::new();
        let stop_applier = Arc::new(AtomicBool::new(false));
        let service = Arc::new(NodeService {
            cluster: config.cluster.clone(),
            node: config.node,
            client_address: client_address.to_string(),
            pending_limit: config.limits.pending,
            clock,
            inbox: inbox.clone(),
            works: works.clone(),
            outgoing: outgoing.clone(),
            requests: requests.clone(),
            recent: recent.clone(),
            reader: reader.clone(),
            applied: applied.clone(),
            status: status.clone(),
            health: health.clone(),
            peers: network.table(),
            log,
        });
        let applier_thread = ApplierThread {
            logged: lines.last().unwrap_or(0),
            applier: Applier::new(recent.clone(), reader, requests),
            lines,
            answers: answers.clone(),
            bell: applier_bell.clone(),
            applied,
            stop: stop_applier.clone(),
            ender: ender.clone(),
        };
        let storage_thread = StorageThread {
            storage: Storage::new(config.node, store, recent),
            works: works.clone(),
            outgoing: outgoing.clone(),
            inbox: inbox.clone(),
            health,
            clock,
            ender: ender.clone(),
            slow: RateLimited::new(storage::SLOW_WRITE_EVERY),
        };
        let state_machine_thread = StateMachineThread {
            state_machine,
            clock,
            tick_ms: (config.timing.heartbeat_ms / 5).clamp(1, 10),
            inbox: inbox.clone(),
            works,
            outgoing: outgoing.clone(),
            applier: applier_bell.clone(),
            status,
            events: EventLog::new(),
        };
        let peer_address = network.local_addr().unwrap_or(listen);
        let stop_clients = port.stopper();
        let port_service = service.clone();
        let (network_ender, clients_ender) = (ender.clone(), ender);
        Ok(Node {
            chosen_at_start: recovered.hard_state.chosen,
            client_address,
            peer_address,
            service,
            stop_clients,
            stop_applier,
            applier_bell,
            applier: spawn("applier", move || applier_thread.run())?,
            storage: spawn("storage", move || storage_thread.run())?,
            network: spawn("network", move || {
                let ended = network.run(&outgoing, &inbox);
                // If it failed, nobody waits for room any more.
                outgoing.close();
                end_of_poll("network", ended, &network_ender)
            })?,
            state_machine: spawn("state-machine", move || state_machine_thread.run())?,
            clients: spawn("clients", move || {
                let ended = port.run(port_service, answers.clone());
                // The applier goes on to the end, and nobody takes answers any more.
                answers.close();
                end_of_poll("clients", ended, &clients_ender)
            })?,
        })
    }

    /// Where clients connect.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where peers connect.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Up to it everything was delivered here.
    pub fn applied(&self) -> Index {
        self.service.applied.load(Ordering::Acquire)
    }

    /// Whether what was known to be chosen at the start is delivered.
    pub fn is_replayed(&self) -> bool {
        self.applied() >= self.chosen_at_start
    }

    /// The node as its clients see it.
    pub fn service(&self) -> Arc<dyn Service> {
        self.service.clone()
    }

    /// How the core stands; at most a tick old (a fifth of a heartbeat interval).
    pub fn status(&self) -> Status {
        self.service.status.lock().clone()
    }

    /// Asks for leadership to be handed over, without waiting for it: [`Node::status`] shows what came of it. It
    /// happens within T or not at all, and proposals wait meanwhile. A wish that comes while one is being carried out
    /// is ignored.
    pub fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        let Status { role, leader, peers, .. } = self.status();
        if !peers.iter().any(|peer| peer.node == to) {
            let others = peers.iter().map(|peer| peer.node).collect();
            return Err(TransferError::NoOtherMember { to, others });
        }
        if role != Role::Leader {
            return Err(TransferError::NotLeading { leader });
        }
        self.service.inbox.transfers.try_push(to).map_err(|_| TransferError::Busy)
    }

    /// Ends in order: no new proposals, replies flushed, what was chosen delivered, threads joined.
    pub fn stop(self) {
        self.stop_clients.stop();
        join("clients", self.clients);
        self.service.inbox.proposals.close();
        join("state-machine", self.state_machine);
        join("storage", self.storage);
        join("network", self.network);
        self.stop_applier.store(true, Ordering::Release);
        self.applier_bell.ring();
        join("applier", self.applier);
    }
}

/// Own messages come back to the inbox in the items of the outgoing queue, one item a durable write. While
/// the state machine waits for the works queue, everything in the ring may arrive: that many places are kept.
fn assert_own_room() {
    let works = WORKS_CAPACITY_BYTES / ITEM_MIN_BYTES;
    let outgoing = OUTGOING_CAPACITY_BYTES / ITEM_MIN_BYTES;
    let under_way = 2 * works + 2 * outgoing;
    assert!(
        under_way <= Inbox::OWN_CAPACITY,
        "{under_way} own messages may be under way, and the inbox keeps room for {}",
        Inbox::OWN_CAPACITY
    );
}

fn client_options(config: &Config, client: SocketAddr) -> ClientOptions {
    let limits = crate::client::Limits {
        value_bytes: config.limits.value_bytes,
        propose_timeout_ms: config.client.timeout_ms,
        request_timeout_ms: config.client.partial_s * 1000,
        idle_timeout_ms: config.client.idle_s * 1000,
        ..crate::client::Limits::default()
    };
    ClientOptions { connections: config.limits.clients, limits, ..ClientOptions::new(client) }
}

fn peer_options(config: &Config, client: SocketAddr, recovered: &Recovered, ender: Ender) -> PeerOptions {
    let hello = Hello {
        version: WIRE_VERSION,
        lowest_version: LOWEST_WIRE_VERSION,
        cluster: config.cluster.clone(),
        node: config.node,
        directory: recovered.directory,
        start: recovered.start,
        protocol: config.protocol.name().to_owned(),
        founding: founding_hash(config),
        client_address: client.to_string(),
    };
    let bindings = recovered.bindings.iter();
    PeerOptions {
        listen: config.peers[&config.node],
        peers: config.peers.clone(),
        hello,
        bindings: bindings.map(|(node, directory)| Binding { node: *node, directory: *directory }).collect(),
        limits: PeerLimits::default(),
        on_fatal: Box::new(move |fatal: Fatal| {
            ender.fail(ExitCode::Data, fatal.to_string());
        }),
    }
}

/// A network thread ends when it is told to; that the system's poll fails is the end of the node.
fn end_of_poll(name: &str, result: std::io::Result<()>, ender: &Ender) {
    if let Err(error) = result {
        ender.fail(ExitCode::Disk, format!("the {name} thread cannot wait for events: {error}"));
    }
}

fn core_config(config: &Config, seed: u64) -> core::Config {
    core::Config {
        node: config.node,
        voters: Voters::new(config.peers.keys().copied().collect()),
        election_ms: config.timing.election_ms,
        heartbeat_ms: config.timing.heartbeat_ms,
        window_entries: config.limits.window_entries,
        window_bytes: config.limits.window_bytes,
        seed,
    }
}

/// Tells apart clusters that were founded differently: what all members must agree on for ever.
fn founding_hash(config: &Config) -> u64 {
    let voters: Vec<String> = config.peers.keys().map(NodeId::to_string).collect();
    let text = format!("voters={} delivery_window={}", voters.join(","), requests::WINDOW);
    u64::from(crc32c::crc32c(text.as_bytes())) << 32 | u64::from(crc32c::crc32c_append(1, text.as_bytes()))
}

fn log_recovery(config: &Config, recovered: &Recovered) {
    let Recovered { start, hard_state, last, .. } = recovered;
    info!("data directory {} opened: start {start}, {hard_state}, last index {last}", config.data.display());
    for (node, address) in &config.peers {
        let founded = recovered.founding.members.get(node);
        if let Some(founded) = founded.filter(|founded| **founded != address.to_string()) {
            info!("node {node} is at {address} now; the cluster was founded with {founded}");
        }
    }
}

/// Chosen lines up to the last one in the log file are not written again, so a file of another life would swallow
/// those of this one. (A file of another life that is shorter than this log cannot be told.)
fn lines_ahead(config: &Config, recovered: &Recovered, logged: Option<Index>) -> Option<String> {
    let logged = logged.filter(|logged| *logged > recovered.last)?;
    let file = config.log.file.display();
    let last = recovered.last;
    Some(format!(
        "the log file {file} has chosen lines up to index {logged}, the data directory entries up to {last}: no line \
         up to index {logged} is written again. That is in order if this node was killed, and it learns the rest from \
         others; if the file is of another data directory, stop this node, move the file away and start again"
    ))
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
        StartError::new(
            ExitCode::Config,
            format!("cannot start the {name} thread: {error}; raise the limit of threads"),
        )
    })
}

/// A thread that panicked has ended the process already (see `cli::serve`), unless a test runs the node.
fn join(name: &str, thread: JoinHandle<()>) {
    assert!(thread.join().is_ok(), "the {name} thread panicked");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A log file that is ahead of the store is told of, with both indexes and what to do.
    #[test]
    fn a_log_ahead_of_the_store_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let text = format!(
            "cluster = \"test\"\nnode = 1\nprotocol = \"paxos\"\ndata = {data:?}\n\
             [[peers]]\nnode = 1\naddress = \"127.0.0.1:1\"\n"
        );
        let config = Config::parse(&text, Path::new("test.toml")).unwrap();
        let opened = open(&config).unwrap();
        let ahead = |logged| lines_ahead(&config, &opened.recovered, logged);
        assert_eq!((ahead(None), ahead(Some(opened.recovered.last))), (None, None));
        let text = ahead(Some(41)).unwrap();
        for part in ["simplesvr.log", "up to index 41", "entries up to 0", "move the file away"] {
            assert!(text.contains(part), "{text} does not say {part}");
        }
    }
}
