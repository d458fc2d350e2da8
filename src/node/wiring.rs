//! Puts a node together: its ports, its queues, what its threads share, and the threads on top.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use log::{info, warn};
use parking_lot::Mutex;

use crate::config::Config;
use crate::consensus::config::Config as CoreConfig;
use crate::consensus::quorum::Voters;
use crate::consensus::types::{Index, NodeId};
use crate::logfile::{ChosenLog, Log};
use crate::pipeline::fork::ForkWatch;
use crate::pipeline::held::HeldWorks;
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::ledger;
use crate::pipeline::marks::Marks;
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::recent::Recent;
use crate::pipeline::requests::Requests;
use crate::pipeline::state_machine::{StateMachine, Work};
use crate::pipeline::storage::restored;
use crate::store::{Binding, Recovered, Store};
use crate::wire::hello::Introduction;
use crate::wire::proof::Keys;

use super::admission::Admission;
use super::applied::Applied;
use super::clients::{Answers, ClientOptions, ClientPort};
use super::clock::Clock;
use super::ending::{Ender, ExitCode};
use super::errors::StartError;
use super::front::NodeFront;
use super::handles::Handles;
use super::health::Health;
use super::items::Closer;
use super::parts::Parts;
use super::peers::{Fatal, PeerLimits, PeerNetwork, PeerOptions};
use super::proposing::Proposer;
use super::shared::Shared;
use super::threads::{Starting, Threads};

/// Works that wait for storage. When it is full, the state machine waits (its inbox then fills, and refuses).
const WORKS_CAPACITY_BYTES: usize = 32 << 20;
/// What waits for the network. When it is full, storage and the state machine wait; the network thread never
/// does, so the queue empties again.
const OUTGOING_CAPACITY_BYTES: usize = 64 << 20;
/// Each item of these two queues counts for at least this much, which bounds their number.
const ITEM_MIN_BYTES: usize = 32 << 10;
/// Answers on their way to the client port, in turns of the applier. When it is full, the applier waits.
const ANSWERS_CAPACITY: usize = 1024;
/// How much of the latest entries is kept in memory for the applier and lagging peers.
const RECENT_BYTES: usize = 32 << 20;

/// A node whose threads run: what a [`Node`](super::Node) holds.
pub(super) struct Running {
    pub(super) chosen_at_start: Index,
    pub(super) client_address: Option<SocketAddr>,
    pub(super) peer_address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    pub(super) proposer: Proposer,
    pub(super) front: Arc<NodeFront>,
    pub(super) ender: Ender,
    /// `None` once the threads have ended.
    pub(super) threads: Option<Threads>,
    pub(super) log: Option<Log>,
}

/// Binds the ports and starts the threads.
pub(super) fn start(parts: Parts) -> Result<Running, StartError> {
    let Parts {
        config,
        peers_key,
        application,
        apply,
        client,
        clients,
        peer_listener,
        store,
        recovered,
        log,
    } = parts;
    let (log, lines) = log.unzip();
    log_recovery(&config, &recovered);
    let ahead = lines_ahead(&config, &recovered, lines.as_ref().and_then(ChosenLog::last));
    ahead.iter().chain(&clients.warning).for_each(|text| warn!("{text}"));
    assert_own_room();
    let ender = Ender::default();
    let client = client.map(|address| client_options(&config, address, clients.clients));
    let ports =
        Ports::bind(&config, client, peer_listener, peers_key.keys.clone(), &recovered, ender.clone())?;
    let (client_address, peer_address) = (ports.client_address, ports.peer_address);
    peers_key.log(&config, peer_address);
    let recent = Arc::new(Recent::new(RECENT_BYTES, recovered.hard_state.chosen));
    let marks = Arc::new(Mutex::new(Marks::new(store.reader().compacted_point())));
    let watch = fork_watch(&config, peers_key.keys.is_some(), marks.clone());
    let (core, restored) = (core_config(&config, &recovered), restored(&recovered));
    let state_machine = StateMachine::new(config.protocol, core, restored, recent.clone(), watch);
    let shared =
        Arc::new(share(&config, &store, &recovered, &state_machine, recent, marks, ports.network_bell));
    let front = Arc::new(NodeFront {
        cluster: config.cluster.clone(),
        node: config.node,
        client_address: client_address.map_or(String::new(), |address| address.to_string()),
        shared: shared.clone(),
        peers: ports.network.table(),
        log: log.as_ref().map(|log| log.control()),
    });
    let close_apply = apply.as_ref().map(|apply| apply.closer());
    end_with(&ender, shared.clone(), close_apply.clone());
    let tick_ms = (config.timing.heartbeat_ms / 5).clamp(1, 10);
    let starting = Starting { shared: &shared, ender: &ender };
    let answers = ports.clients.as_ref().map(|(_, answers)| answers.clone());
    let (stop_applier, applier_bell, applier) = starting.applier(application, apply, answers, lines)?;
    let clients = |(port, answers)| starting.clients(port, front.clone(), answers);
    let threads = Threads {
        storage: starting.storage(config.node, store)?,
        network: starting.network(ports.network)?,
        state_machine: starting.state_machine(
            state_machine,
            tick_ms,
            applier_bell.clone(),
            front.log.clone(),
        )?,
        stop_applier,
        applier_bell,
        applier,
        close_apply,
        clients: ports.clients.map(clients).transpose()?,
    };
    Ok(Running {
        chosen_at_start: recovered.hard_state.chosen,
        client_address,
        peer_address,
        proposer: proposer(&config, &recovered, shared.clone()),
        shared,
        front,
        ender,
        threads: Some(threads),
        log,
    })
}

/// If the node fails, nobody waits for it any more.
fn end_with(ender: &Ender, shared: Arc<Shared>, close_apply: Option<Closer>) {
    ender.on_failure(move || {
        shared.fail();
        close_apply.iter().for_each(|close| close());
    });
}

/// The sockets that listen. Nothing reads from them yet.
struct Ports {
    /// The client port, if there is one, and the queue of the answers for its clients.
    clients: Option<(ClientPort, Arc<Answers>)>,
    client_address: Option<SocketAddr>,
    network: PeerNetwork,
    network_bell: Bell,
    peer_address: SocketAddr,
}

impl Ports {
    fn bind(
        config: &Config,
        client: Option<ClientOptions>,
        peer_listener: Option<TcpListener>,
        keys: Option<Keys>,
        recovered: &Recovered,
        ender: Ender,
    ) -> Result<Ports, StartError> {
        let clients = client.map(bind_clients).transpose()?;
        let client_address = clients.as_ref().map(|(port, _)| port.address());
        let options = PeerOptions { keys, ..peer_options(config, client_address, recovered, ender) };
        let (network, network_bell) = bind_peers(peer_listener, options)?;
        let peer_address = network.local_addr().unwrap_or(config.peers[&config.node]);
        Ok(Ports { clients, client_address, network, network_bell, peer_address })
    }
}

/// What the threads share, with empty queues between them.
fn share(
    config: &Config,
    store: &Store,
    recovered: &Recovered,
    state_machine: &StateMachine,
    recent: Arc<Recent>,
    marks: Arc<Mutex<Marks>>,
    network: Bell,
) -> Shared {
    let (clock, health) = (Clock::start(), Arc::<Health>::default());
    let requests = Arc::new(Mutex::new(Requests::default()));
    Shared {
        clock,
        inbox: Arc::new(Inbox::new()),
        works: works(),
        outgoing: outgoing(network),
        recent,
        reader: store.reader(),
        admission: Admission {
            node: config.node,
            pending_limit: config.limits.pending,
            clock,
            health: health.clone(),
            requests: requests.clone(),
        },
        handles: Arc::new(Handles::new(requests.clone())),
        requests,
        applied: Applied::new(recovered.compacted),
        status: state_machine.published(),
        health,
        marks,
        fork: Arc::default(),
    }
}

/// With a key every peer proved itself before it could say anything.
fn fork_watch(config: &Config, has_key: bool, marks: Arc<Mutex<Marks>>) -> ForkWatch {
    let members: Vec<NodeId> = config.peers.keys().copied().collect();
    ForkWatch::new(config.node, &members, has_key, marks)
}

fn proposer(config: &Config, recovered: &Recovered, shared: Arc<Shared>) -> Proposer {
    Proposer {
        shared,
        value_limit: config.limits.value_bytes,
        timeout_ms: config.client.timeout_ms,
        // Unique to this run: a directory's id is random, and its starts are counted.
        session: recovered.directory.wrapping_add(u128::from(recovered.start)).max(1),
        last_number: AtomicU64::new(0),
    }
}

fn works() -> Arc<Queue<Work>> {
    let weigh = |work: &Work| work.cost_bytes().max(ITEM_MIN_BYTES);
    Arc::new(Queue::new(WORKS_CAPACITY_BYTES, weigh, Bell::new()))
}

fn outgoing(network: Bell) -> Arc<Queue<Outgoing>> {
    let weigh = |item: &Outgoing| item.cost_bytes().max(ITEM_MIN_BYTES);
    Arc::new(Queue::new(OUTGOING_CAPACITY_BYTES, weigh, network))
}

/// Returns the client port, and the queue of the answers for its clients.
fn bind_clients(options: ClientOptions) -> Result<(ClientPort, Arc<Answers>), StartError> {
    let (port, bell) = ClientPort::bind(options).map_err(|error| {
        let address = options.address;
        let text = format!("cannot listen for clients on {address}: {error}; choose another address");
        StartError::new(ExitCode::Config, text)
    })?;
    Ok((port, Arc::new(Queue::new(ANSWERS_CAPACITY, |_| 1, bell))))
}

fn bind_peers(
    listener: Option<TcpListener>,
    options: PeerOptions,
) -> Result<(PeerNetwork, Bell), StartError> {
    let listen = options.listen;
    let bound = match listener {
        Some(listener) => PeerNetwork::with_listener(listener, options),
        None => PeerNetwork::bind(options),
    };
    bound.map_err(|error| {
        let text =
            format!("cannot listen for peers on {listen}: {error}; choose another address in [[peers]]");
        StartError::new(ExitCode::Config, text)
    })
}

/// Own messages come back to the inbox in the items of the outgoing queue, one item per durable write. While
/// the state machine waits for the works queue, everything in the ring may arrive, and what it holds back, so
/// that many places are reserved.
fn assert_own_room() {
    let works = WORKS_CAPACITY_BYTES / ITEM_MIN_BYTES;
    let outgoing = OUTGOING_CAPACITY_BYTES / ITEM_MIN_BYTES;
    let under_way = 2 * works + 2 * outgoing + HeldWorks::LIMIT;
    assert!(
        under_way <= Inbox::OWN_CAPACITY,
        "{under_way} own messages may be under way, but the inbox has room for only {}",
        Inbox::OWN_CAPACITY
    );
}

fn client_options(config: &Config, address: SocketAddr, clients: usize) -> ClientOptions {
    let limits = crate::client::Limits {
        value_bytes: config.limits.value_bytes,
        propose_timeout_ms: config.client.timeout_ms,
        request_timeout_ms: config.client.partial_s * 1000,
        idle_timeout_ms: config.client.idle_s * 1000,
        ..crate::client::Limits::default()
    };
    ClientOptions { connections: clients, limits, ..ClientOptions::new(address) }
}

fn peer_options(
    config: &Config,
    client: Option<SocketAddr>,
    recovered: &Recovered,
    ender: Ender,
) -> PeerOptions {
    let own = Introduction {
        cluster: config.cluster.clone(),
        node: config.node,
        directory: recovered.directory,
        start: recovered.start,
        protocol: config.protocol.name().to_owned(),
        founding: founding_hash(config),
        client_address: client.map_or(String::new(), |address| address.to_string()),
    };
    let bindings = recovered.bindings.iter();
    PeerOptions {
        listen: config.peers[&config.node],
        peers: config.peers.clone(),
        own,
        bindings: bindings.map(|(node, directory)| Binding { node: *node, directory: *directory }).collect(),
        keys: None,
        limits: PeerLimits::of(config.timing.election_ms),
        on_fatal: Box::new(move |fatal: Fatal| {
            ender.fail(ExitCode::Data, fatal.to_string());
        }),
    }
}

fn core_config(config: &Config, recovered: &Recovered) -> CoreConfig {
    CoreConfig {
        node: config.node,
        voters: Voters::new(config.peers.keys().copied().collect()),
        election_ms: config.timing.election_ms,
        heartbeat_ms: config.timing.heartbeat_ms,
        window_entries: config.limits.window_entries,
        window_bytes: config.limits.window_bytes,
        seed: recovered.directory as u64 ^ recovered.start,
    }
}

/// Tells clusters apart that were founded differently: a hash of what all members must agree on forever.
fn founding_hash(config: &Config) -> u64 {
    let voters: Vec<String> = config.peers.keys().map(NodeId::to_string).collect();
    let text = format!("voters={} delivery_window={}", voters.join(","), ledger::WINDOW);
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

/// Warns of a log file that is ahead of the store. Chosen lines up to the last one in the log file are not
/// written again, so a file from a different data directory would swallow the lines of this one. (Such a file
/// cannot be recognised if it is shorter than this log.)
fn lines_ahead(config: &Config, recovered: &Recovered, logged: Option<Index>) -> Option<String> {
    let logged = logged.filter(|logged| *logged > recovered.last)?;
    let file = config.log.file.display();
    let last = recovered.last;
    Some(format!(
        "the log file {file} has chosen lines up to index {logged}, the data directory entries up to {last}: no line \
         up to index {logged} is written again. That is expected if this node was killed: it learns the rest from the \
         others. If the file belongs to a different data directory, stop this node, move the file away and start again"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Node;
    use super::*;

    /// A log file that is ahead of the store causes a warning, with both indexes and what to do.
    #[test]
    fn a_log_ahead_of_the_store_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let text = format!(
            "cluster = \"test\"\nnode = 1\nprotocol = \"paxos\"\ndata = {data:?}\n\
             [[peers]]\nnode = 1\naddress = \"127.0.0.1:1\"\n"
        );
        let config = Config::parse(&text, Path::new("test.toml")).unwrap();
        let opened = Node::builder(config.clone()).open().unwrap();
        let recovered = &opened.parts.recovered;
        let ahead = |logged| lines_ahead(&config, recovered, logged);
        assert_eq!((ahead(None), ahead(Some(recovered.last))), (None, None));
        let text = ahead(Some(41)).unwrap();
        for part in ["simplesvr.log", "up to index 41", "entries up to 0", "move the file away"] {
            assert!(text.contains(part), "{text} does not say {part}");
        }
    }
}
