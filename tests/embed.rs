//! A node embedded in a program: what [`Node`] and its handles promise, each test one promise. All nodes are
//! in one process, on real sockets; most keep their log in memory.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spaxos::{
    Application, Bytes, Config, End, ExitCode, Item, Items, MemoryDisk, Node, NodeId, ProposeError,
    ProtocolName, Received, RequestId, WaitError, apply_channel,
};

use common::outside::{PATIENCE, own_address, wait_for};

each_protocol!(
    the_leader_says_at_once_where_a_command_stands,
    a_cluster_with_a_key_needs_no_further_step,
    a_follower_forwards_and_says_that_it_does_not_lead,
    values_that_are_proposed_together_stand_together,
    the_same_request_is_delivered_once,
    channels_of_all_nodes_carry_the_same,
    a_slow_consumer_holds_up_its_own_node_only,
    the_log_is_read_and_waited_for,
    a_restart_applies_the_log_again,
    a_cluster_survives_a_node_and_takes_it_back,
    without_a_majority_the_outcome_is_unknown,
    leadership_is_handed_over,
);

/// Adds up numbers, and answers with the sum.
#[derive(Default)]
struct Sum(u64);

impl Application for Sum {
    fn apply(&mut self, item: &Item) -> Bytes {
        self.0 += std::str::from_utf8(&item.command.payload).unwrap().parse::<u64>().unwrap();
        Bytes::from(self.0.to_string())
    }
}

/// The members of a cluster on a loopback address of its own, so that nobody takes the port of a node that is
/// down.
struct Members {
    protocol: ProtocolName,
    peers: BTreeMap<NodeId, SocketAddr>,
    disks: BTreeMap<NodeId, MemoryDisk>,
}

impl Members {
    fn new(protocol: ProtocolName, count: u64) -> Members {
        let ids = 1..=count;
        let port = |id| 7000 + id as u16;
        let address = own_address(&ids.clone().map(port).collect::<Vec<_>>());
        Members {
            protocol,
            peers: ids.clone().map(|id| (id, SocketAddr::new(address, port(id)))).collect(),
            disks: ids.map(|id| (id, MemoryDisk::default())).collect(),
        }
    }

    fn config(&self, id: NodeId) -> Config {
        let mut config = Config::new("test", id, self.peers.clone(), "unused").unwrap();
        config.protocol = self.protocol;
        config.timing.election_ms = 500;
        config.timing.heartbeat_ms = 50;
        config.client.timeout_ms = 60_000;
        config
    }

    fn builder(&self, id: NodeId) -> spaxos::Builder {
        Node::builder(self.config(id)).in_memory(&self.disks[&id])
    }

    fn start_all(&self) -> Vec<Node> {
        self.peers.keys().map(|id| self.builder(*id).application(Sum::default()).start().unwrap()).collect()
    }
}

/// The place among `nodes` of the leader that all of them name.
fn leader(nodes: &[Node]) -> usize {
    wait_for("a leader that all nodes name", || {
        let first = nodes[0].leader()?;
        let agreed = nodes.iter().all(|node| node.leader() == Some(first));
        let place = nodes.iter().position(|node| node.id() == first)?;
        (agreed && nodes[place].status().is_leader()).then_some(place)
    })
}

fn one(protocol: ProtocolName) -> (Members, Node) {
    let members = Members::new(protocol, 1);
    let node = members.builder(1).application(Sum::default()).start().unwrap();
    leader(std::slice::from_ref(&node));
    (members, node)
}

fn response(delivered: spaxos::Delivered) -> String {
    String::from_utf8(delivered.response.unwrap().to_vec()).unwrap()
}

/// Nodes and handles may be shared among threads and shown.
#[test]
fn all_of_it_goes_between_threads() {
    fn shared<T: Send + Sync + std::fmt::Debug>() {}
    fn sent<T: Send + std::fmt::Debug>() {}
    shared::<Node>();
    shared::<spaxos::Proposed>();
    shared::<spaxos::Ender>();
    shared::<MemoryDisk>();
    shared::<spaxos::ApplySender>();
    sent::<Items>();
    sent::<spaxos::Builder>();
    sent::<spaxos::Opened>();
}

/// On one machine the first node makes the file that `peers_key` names, and the others read it.
fn a_cluster_with_a_key_needs_no_further_step(protocol: ProtocolName) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("peers.key");
    let members = Members::new(protocol, 3);
    let start = |id: &NodeId| {
        let config = Config { peers_key: Some(key.clone()), ..members.config(*id) };
        Node::builder(config).application(Sum::default()).in_memory(&members.disks[id]).start().unwrap()
    };
    let nodes: Vec<Node> = members.peers.keys().map(start).collect();
    let at = leader(&nodes);
    assert_eq!(response(nodes[at].propose("5").unwrap().wait(PATIENCE).unwrap()), "5");
    std::fs::write(&key, "5").unwrap();
    drop(nodes);
    let error =
        Node::builder(Config { peers_key: Some(key.clone()), ..members.config(1) }).start().unwrap_err();
    assert_eq!(error.code, ExitCode::Config);
    assert!(error.text.contains("peers.key:1: the key has 1 digits"), "{error}");
}

/// Lab 2, `Start`: the leader says immediately where a command is placed, under which term, and that it
/// leads; there it is delivered. Without a no-op of a new leader the first commands are numbered from 1 on.
fn the_leader_says_at_once_where_a_command_stands(protocol: ProtocolName) {
    let nodes = Members::new(protocol, 3).start_all();
    let at = leader(&nodes);
    let mut last = 0;
    for number in 1..=20u64 {
        let proposed = nodes[at].propose(number.to_string()).unwrap();
        assert!(proposed.leads, "{proposed:?}");
        assert_eq!(proposed.ballot, nodes[at].status().promised);
        let index = proposed.index.expect("a leader whose window has room places immediately");
        assert!(index > last, "index {index} after {last}");
        last = index;
        let delivered = proposed.wait(PATIENCE).unwrap();
        assert_eq!(delivered.index, index);
        assert_eq!(response(delivered), (number * (number + 1) / 2).to_string());
        assert!(proposed.try_outcome().is_some());
    }
}

/// A node that does not lead says so, forwards the command, and is told its own application's response.
fn a_follower_forwards_and_says_that_it_does_not_lead(protocol: ProtocolName) {
    let nodes = Members::new(protocol, 3).start_all();
    let at = leader(&nodes);
    let follower = &nodes[(at + 1) % 3];
    let proposed = follower.propose("42").unwrap();
    assert_eq!((proposed.leads, proposed.index), (false, None));
    let delivered = proposed.wait(PATIENCE).unwrap();
    assert!(delivered.index > 0);
    assert_eq!(response(delivered), "42");
}

/// Several values in one proposal are placed one after the other, and each has an outcome of its own.
fn values_that_are_proposed_together_stand_together(protocol: ProtocolName) {
    let nodes = Members::new(protocol, 3).start_all();
    let at = leader(&nodes);
    let proposed = nodes[at].propose_all(["1", "2", "3", "4"]).unwrap();
    let indexes: Vec<u64> = proposed.iter().map(|proposed| proposed.index.unwrap()).collect();
    assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{indexes:?}");
    let sums: Vec<_> = proposed.iter().map(|proposed| response(proposed.wait(PATIENCE).unwrap())).collect();
    assert_eq!(sums, ["1", "3", "6", "10"]);
}

/// A request is delivered once, however often and wherever it is proposed; a different command under its id
/// is never delivered.
fn the_same_request_is_delivered_once(protocol: ProtocolName) {
    let nodes = Members::new(protocol, 3).start_all();
    let at = leader(&nodes);
    let request = RequestId { session: 77, number: 1 };
    let first = nodes[at].propose_as(request, "5").unwrap();
    let delivered = first.wait(PATIENCE).unwrap();
    assert_eq!((first.request(), response(delivered.clone())), (request, "5".to_owned()));
    let other = &nodes[(at + 1) % 3];
    other.wait_for(delivered.index, PATIENCE).unwrap().expect("it is delivered there as well");
    let again = other.propose_as(request, "5").unwrap().wait(PATIENCE).unwrap();
    assert_eq!((again.index, again.response), (delivered.index, None));
    let clash = other.propose_as(request, "6").unwrap();
    let outcome = Err(WaitError::OtherCommand { index: delivered.index });
    assert_eq!(clash.wait(PATIENCE), outcome);
    assert_eq!(response(nodes[at].propose("1").unwrap().wait(PATIENCE).unwrap()), "6");
    drop(nodes);
    assert_eq!(clash.try_outcome(), Some(outcome), "an outcome stands");
}

/// All nodes send the same items through their channels: in order, numbered from 1 without gaps, no-ops left
/// out.
fn channels_of_all_nodes_carry_the_same(protocol: ProtocolName) {
    let members = Members::new(protocol, 3);
    let mut channels: Vec<Items> = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    for id in 1..=3 {
        let (sender, items) = apply_channel(8);
        channels.push(items);
        nodes.push(members.builder(id).apply_channel(sender).start().unwrap());
    }
    let at = leader(&nodes);
    let values: Vec<String> = (0..40).map(|number| format!("value {number}")).collect();
    let proposed = nodes[at].propose_all(values.clone()).unwrap();
    let logs: Vec<Vec<Item>> = channels.iter_mut().map(|items| items.take(40).collect()).collect();
    assert_eq!(proposed.iter().filter(|proposed| proposed.wait(PATIENCE).is_ok()).count(), 40);
    assert!(logs[0] == logs[1] && logs[1] == logs[2]);
    for (item, (number, value)) in logs[0].iter().zip((1..).zip(values)) {
        assert_eq!((item.number, &item.command.payload[..]), (number, value.as_bytes()));
    }
}

/// A consumer that does not read holds up delivery on its own node, and nothing else.
fn a_slow_consumer_holds_up_its_own_node_only(protocol: ProtocolName) {
    let members = Members::new(protocol, 3);
    let (sender, mut slow) = apply_channel(1);
    let mut nodes = vec![members.builder(1).apply_channel(sender).start().unwrap()];
    nodes.extend([2, 3].map(|id| members.builder(id).application(Sum::default()).start().unwrap()));
    leader(&nodes);
    let proposed = nodes[1].propose_all(["1"; 100]).unwrap();
    for proposed in &proposed {
        proposed.wait(PATIENCE).unwrap();
    }
    let stuck = nodes[0].propose("1").unwrap();
    nodes[2].wait_for(nodes[1].applied() + 1, PATIENCE).unwrap().expect("consensus goes on");
    assert_eq!(stuck.try_outcome(), None);
    let numbers: Vec<u64> = slow.by_ref().take(101).map(|item| item.number).collect();
    assert_eq!(numbers, (1..=101).collect::<Vec<_>>());
    stuck.wait(PATIENCE).unwrap();
    assert_eq!(slow.try_recv(), Received::TimedOut);
    drop(nodes);
    assert_eq!((slow.try_recv(), slow.recv()), (Received::Ended, None));
}

/// A node that nobody receives from any more, or that is stopped while its channel is full, does not hang.
#[test]
fn a_channel_that_nobody_reads_does_not_keep_a_node_from_ending() {
    let members = Members::new(ProtocolName::Paxos, 1);
    let (sender, mut items) = apply_channel(1);
    let node = members.builder(1).apply_channel(sender).start().unwrap();
    let proposed = node.propose_all(["x"; 50]).unwrap();
    assert_eq!(items.recv().unwrap().number, 1);
    node.stop().unwrap();
    assert!(proposed.iter().all(|proposed| proposed.try_outcome().is_some()));

    let (sender, items) = apply_channel(1);
    drop(items);
    let node = members.builder(1).apply_channel(sender).start().unwrap();
    node.propose("y").unwrap().wait(PATIENCE).unwrap();
}

/// What is delivered can be read from any index on, and waited for: no-ops are told apart.
fn the_log_is_read_and_waited_for(protocol: ProtocolName) {
    let (_members, node) = one(protocol);
    let indexes: Vec<u64> = node
        .propose_all(["1", "2", "3"])
        .unwrap()
        .iter()
        .map(|proposed| proposed.wait(PATIENCE).unwrap().index)
        .collect();
    let items = node.read_log(indexes[1], 100).unwrap();
    let values: Vec<_> = items.iter().map(|item| item.command.as_ref().unwrap().payload.clone()).collect();
    assert_eq!(values, ["2", "3"]);
    assert_eq!(node.read_log(1, 1).unwrap()[0].command, None, "a new leader's no-op");
    assert_eq!(node.read_log(0, 2).unwrap().len(), 2);
    assert_eq!(node.read_log(indexes[2] + 1, 100).unwrap(), []);
    assert_eq!(node.get(indexes[0]).unwrap().unwrap().index, indexes[0]);
    assert_eq!(node.get(indexes[2] + 1).unwrap(), None);
    assert_eq!(node.get(u64::MAX).unwrap(), None);
    assert_eq!(node.wait_for(indexes[2] + 1, Duration::from_millis(1)).unwrap(), None);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| node.wait_for(indexes[2] + 1, PATIENCE).unwrap());
        node.propose("4").unwrap().wait(PATIENCE).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap().index, indexes[2] + 1);
    });
}

/// After a stop and a start on the same disk the log is applied again, from its beginning, to a new
/// application.
fn a_restart_applies_the_log_again(protocol: ProtocolName) {
    let folder = tempfile::tempdir().unwrap();
    let start = |number: u64| {
        let peers = Members::new(protocol, 1).peers;
        let mut config = Config::new("test", 1, peers, folder.path().join("data")).unwrap();
        config.protocol = protocol;
        let (sender, items) = apply_channel(100);
        let node = Node::builder(config).application(Sum::default()).apply_channel(sender);
        let node = node.start().unwrap();
        let proposed = node.propose(number.to_string()).unwrap();
        let sum = response(proposed.wait(PATIENCE).unwrap());
        node.stop().unwrap();
        (sum, items.map(|item| item.number).collect::<Vec<_>>())
    };
    assert_eq!(start(5), ("5".to_owned(), vec![1]));
    assert_eq!(start(6), ("11".to_owned(), vec![1, 2]));
    let files = walk(folder.path());
    assert!(!files.iter().any(|file| file.ends_with(".log")), "no log file was asked for: {files:?}");
}

/// What outlives a node keeps nothing of it: the same process opens its directory again.
#[test]
fn handles_that_outlive_a_node_keep_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let peers = Members::new(ProtocolName::Paxos, 1).peers;
        Node::builder(Config::new("test", 1, peers, folder.path()).unwrap()).start().unwrap()
    };
    let node = start();
    let (proposed, ender) = (node.propose("7").unwrap(), node.ender());
    proposed.wait(PATIENCE).unwrap();
    node.stop().unwrap();
    let node = start();
    drop((proposed, ender));
    let proposed = node.propose("8").unwrap();
    drop(node);
    start().stop().unwrap();
    drop(proposed);
}

fn walk(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}

/// A cluster whose leader is stopped goes on, and the node that comes back on its disk catches up.
fn a_cluster_survives_a_node_and_takes_it_back(protocol: ProtocolName) {
    let members = Members::new(protocol, 3);
    let mut nodes = members.start_all();
    let at = leader(&nodes);
    assert_eq!(response(nodes[at].propose("1").unwrap().wait(PATIENCE).unwrap()), "1");
    let stopped = nodes.remove(at);
    let id = stopped.id();
    stopped.stop().unwrap();
    let index = nodes[0].propose("2").unwrap().wait(PATIENCE).unwrap().index;
    nodes.push(members.builder(id).application(Sum::default()).start().unwrap());
    let command = nodes[2].wait_for(index, PATIENCE).unwrap().unwrap().command.unwrap();
    assert_eq!(command.payload, "2");
    assert_eq!(response(nodes[2].propose("3").unwrap().wait(PATIENCE).unwrap()), "6");
}

/// Without a majority nothing is delivered: the wait ends in time and the outcome is unknown. A proposal that
/// still waits when the node is stopped is told so.
fn without_a_majority_the_outcome_is_unknown(protocol: ProtocolName) {
    let members = Members::new(protocol, 3);
    let alone = members.builder(1).start().unwrap();
    let proposed = alone.propose("1").unwrap();
    assert_eq!((proposed.leads, proposed.index), (false, None));
    assert_eq!(proposed.wait(Duration::from_millis(20)), Err(WaitError::TimedOut));
    assert_eq!(proposed.try_outcome(), None);
    alone.stop().unwrap();
    assert_eq!(proposed.wait(PATIENCE), Err(WaitError::Ended));
}

/// A proposal that breaks a limit is certainly not proposed, and the error says which limit.
#[test]
fn what_breaks_a_limit_is_refused_at_once() {
    let members = Members::new(ProtocolName::Paxos, 3);
    let mut config = members.config(1);
    config.limits.value_bytes = 10;
    config.limits.pending = 3;
    let node = Node::builder(config).in_memory(&members.disks[&1]).start().unwrap();
    assert_eq!(node.propose("12345678901").unwrap_err(), ProposeError::TooLong { bytes: 11, limit: 10 });
    assert_eq!(node.propose_as(RequestId::NONE, "1").unwrap_err(), ProposeError::NoRequest);
    assert_eq!(node.propose_all([""; 0]).unwrap_err(), ProposeError::Count(0));
    assert_eq!(node.propose_all(["1"; 4097]).unwrap_err(), ProposeError::Count(4097));
    let held = node.propose_all(["1", "2", "3"]).unwrap();
    let error = node.propose("4").unwrap_err().to_string();
    assert!(error.contains("limits.pending"), "{error}");
    // Handles that are dropped make room.
    drop(held);
    drop(node.propose("4").unwrap());
}

/// A node that cannot start says in words why.
#[test]
fn a_failing_start_says_why() {
    let members = Members::new(ProtocolName::Paxos, 3);
    let mut config = members.config(1);
    config.timing.heartbeat_ms = 300;
    let error = Node::builder(config).start().err().unwrap();
    assert_eq!(error.code, ExitCode::Config);
    assert!(error.text.contains("timing.heartbeat_ms is 300; allowed are 5 to 249"), "{error}");

    let listener = TcpListener::bind(members.peers[&1]).unwrap();
    let error = members.builder(1).start().err().unwrap();
    assert!(error.text.contains("cannot listen for peers on 127."), "{error}");
    drop(listener);

    let folder = tempfile::tempdir().unwrap();
    let on_disk = |id, cluster: &str| {
        let config = Config::new(cluster, id, members.peers.clone(), folder.path()).unwrap();
        Node::builder(config).start()
    };
    let node = on_disk(1, "test").unwrap();
    let error = on_disk(2, "test").err().unwrap();
    assert_eq!(error.code, ExitCode::Data);
    assert!(error.text.contains("lock") || error.text.contains("another process"), "{error}");
    node.stop().unwrap();
    let error = on_disk(1, "other").err().unwrap();
    assert!(
        error.text.contains("belongs to cluster test, but this node is configured as cluster other"),
        "{error}"
    );

    for (peers, text) in [
        (vec![], "0 [[peers]]; allowed are 1 to 31"),
        (vec![(2, "127.0.0.1:1")], "node 1 is not among [[peers]]"),
        (vec![(1, "127.0.0.1:1"), (1, "127.0.0.1:2")], "node 1 is listed twice"),
        (vec![(1, "127.0.0.1:1"), (2, "127.0.0.1:1")], "have the same address"),
        (vec![(1, "127.0.0.1:1"), (2, "127.0.0.1:0")], "cannot be reached by other nodes"),
    ] {
        let peers = peers.into_iter().map(|(id, address)| (id, address.parse().unwrap()));
        let error = Config::new("test", 1, peers, "data").unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// An application that panics ends its node, which says so to all who wait; the process goes on.
#[test]
fn a_panic_of_the_application_ends_the_node_only() {
    struct Bomb;
    impl Application for Bomb {
        fn apply(&mut self, item: &Item) -> Bytes {
            panic!("cannot apply {}", item.number)
        }
    }
    let members = Members::new(ProtocolName::Paxos, 1);
    let (sender, mut items) = apply_channel(4);
    let node = members.builder(1).application(Bomb).apply_channel(sender).start().unwrap();
    let proposed = node.propose("1").unwrap();
    let End::Failed(failure) = node.wait() else { panic!("the node was not asked to end") };
    assert_eq!(failure.code, ExitCode::Assertion);
    assert_eq!(failure.text, "the applier thread panicked: cannot apply 1");
    assert_eq!(proposed.wait(PATIENCE), Err(WaitError::Ended));
    assert_eq!(items.recv(), None);
    assert_eq!(node.propose("2").unwrap_err(), ProposeError::Ended);
    assert_eq!(node.wait_for(1_000, PATIENCE).unwrap(), None);
    assert_eq!(node.failure(), Some(failure.clone()));
    assert_eq!(node.stop(), Err(failure));
}

/// A caller that waits for the end hears when it is asked for, by a handle that any thread may hold.
#[test]
fn an_end_can_be_asked_for() {
    let (_members, node) = one(ProtocolName::Paxos);
    assert_eq!(node.wait_timeout(Duration::ZERO), None);
    let ender = node.ender();
    std::thread::scope(|scope| {
        scope.spawn(|| ender.ask());
        assert_eq!(node.wait(), End::Asked);
    });
    node.stop().unwrap();
}

/// Leadership goes where it is asked to go, and an error says why it cannot.
fn leadership_is_handed_over(protocol: ProtocolName) {
    let nodes = Members::new(protocol, 3).start_all();
    let at = leader(&nodes);
    let successor = nodes[(at + 1) % 3].id();
    let error = nodes[at].transfer_leadership(9).unwrap_err().to_string();
    assert!(error.contains("node 9 is not another member"), "{error}");
    assert!(nodes[(at + 1) % 3].transfer_leadership(nodes[at].id()).is_err());
    nodes[at].transfer_leadership(successor).unwrap();
    wait_for("the successor to lead", || {
        let _ = nodes[at].transfer_leadership(successor);
        nodes[(at + 1) % 3].status().is_leader().then_some(())
    });
}

/// A handle is a future, under any executor: it wakes the task that polled it.
#[test]
fn a_proposal_can_be_awaited() {
    struct Flag(AtomicBool, std::thread::Thread);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Flag>) {
            self.0.store(true, Ordering::SeqCst);
            self.1.unpark();
        }
    }
    let (_members, node) = one(ProtocolName::Paxos);
    let flag = Arc::new(Flag(AtomicBool::new(true), std::thread::current()));
    let waker = std::task::Waker::from(flag.clone());
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(async { node.propose("8").unwrap().await });
    let outcome = loop {
        if flag.0.swap(false, Ordering::SeqCst)
            && let std::task::Poll::Ready(outcome) = future.as_mut().poll(&mut context)
        {
            break outcome;
        }
        std::thread::park_timeout(PATIENCE);
    };
    assert_eq!(response(outcome.unwrap()), "8");
}

/// A client port, if asked for, serves the same log; what the embedder proposed has no reqid there.
#[test]
fn a_client_port_serves_the_same_log() {
    use spaxos::cli::resp::{Reply, ask};
    let members = Members::new(ProtocolName::Paxos, 1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = members.builder(1).application(Sum::default()).client_port(address).start().unwrap();
    let client = node.client_address().unwrap();
    let reply = ask(client, PATIENCE, &[b"PROP", b"7", b"40"]).unwrap();
    let Reply::Integer(index) = reply else { panic!("{reply:?}") };
    let delivered = node.propose("2").unwrap().wait(PATIENCE).unwrap();
    assert_eq!(response(delivered.clone()), "42");
    let reply = ask(client, PATIENCE, &[b"LOG", index.to_string().as_bytes(), b"2"]).unwrap();
    let Reply::Array(items) = &reply else { panic!("{reply:?}") };
    let shown: Vec<_> = items
        .iter()
        .map(|item| match item {
            Reply::Array(parts) => parts.iter().skip(1).map(|part| part.text().unwrap().to_owned()).collect(),
            other => panic!("{other:?}"),
        })
        .collect::<Vec<Vec<String>>>();
    assert_eq!(shown, [["7", "40"], ["0", "2"]]);
}

/// The chosen lines go to the configured file if they are asked for, and nothing goes to the terminal.
#[test]
fn chosen_lines_are_written_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let members = Members::new(ProtocolName::Paxos, 1);
    let mut config = members.config(1);
    config.log.file = folder.path().join("chosen.log");
    let node = Node::builder(config.clone()).in_memory(&members.disks[&1]).log_file().start().unwrap();
    let index = node.propose("hello").unwrap().wait(PATIENCE).unwrap().index;
    node.stop().unwrap();
    let text = std::fs::read_to_string(&config.log.file).unwrap();
    assert!(
        text.contains(&format!("chosen index={index} reqid=0 ")) && text.contains("value=\"hello\""),
        "{text}"
    );
}
