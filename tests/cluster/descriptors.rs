//! Clients never take the descriptors that peers, the disk and the log need: a node reserves those, serves as
//! many clients as the rest allows, and says so.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use spaxos::cli::resp::{Connection, Reply};
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options, SIMPLESVR};
use crate::common::outside::{PATIENCE, wait_until};

each_protocol!(
    a_thousand_silent_clients_leave_peers_log_and_disk_what_they_need,
    too_few_descriptors_are_refused_and_more_are_asked_for,
    what_half_sent_values_took_is_handed_back
);

/// With few descriptors, a thousand clients that say nothing want all of them. In the meantime the node
/// replicates and writes, rotates its log and opens it again, takes back a peer that was killed and serves
/// the client that it had.
fn a_thousand_silent_clients_leave_peers_log_and_disk_what_they_need(protocol: ProtocolName) {
    let options = Options { log: "max_mb = 1", ..Options::nodes(protocol, 3) };
    let mut cluster = Cluster::prepare(options);
    for id in [1, 2, 3] {
        let node = cluster.node(id);
        let command = limited(node, "ulimit -n 250");
        node.spawn(command);
    }
    cluster.start_all();
    let flooded = cluster.leader();
    let other = cluster.follower();
    let node = &cluster.nodes[&flooded];
    // Both numbers, and what to do.
    let text = fs::read_to_string(&node.log).unwrap();
    let (_, warning) = text.split_once("limits.clients is 10000, but only ").expect("a warning in the log");
    let fitting: usize = warning.split(' ').next().unwrap().parse().unwrap();
    assert!((50..200).contains(&fitting), "{fitting} clients fit");
    assert!(warning.contains("may open 250 files") && warning.contains("or lower limits.clients"), "{text}");

    let mut honest = Connection::open(node.client, PATIENCE).unwrap();
    assert_eq!(honest.ask(&[b"PING"]).unwrap(), Reply::Simple("PONG".into()));
    let silent = thousand_connections(node);
    wait_until("clients to be refused", || {
        let mut refused = TcpStream::connect(node.client).unwrap();
        refused.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let _ = refused.read_to_string(&mut answer);
        answer.starts_with("-ERR max number of clients reached")
    });

    let peer = cluster.node(other);
    peer.kill();
    let command = limited(peer, "ulimit -n 250");
    peer.spawn(command);
    peer.wait_ready();
    let mut propose = |reqid: u64| {
        let reply = honest.ask(&[b"PROP", reqid.to_string().as_bytes(), &[0xff; 128]]).unwrap();
        assert!(matches!(reply, Reply::Integer(_)), "{reply:?}");
    };
    // A line has about 600 bytes, so more than 1 MiB of them rotates the log.
    (1..=2000).for_each(&mut propose);
    let node = &cluster.nodes[&flooded];
    fs::rename(&node.log, node.log.with_extension("moved")).unwrap();
    node.signal(Signal::HUP);
    wait_until("the log to be opened again", || node.log.exists());
    propose(2001);
    let status = honest.ask(&[b"STATUS"]).unwrap();
    let status = status.text().unwrap();
    assert!(!status.contains("log_rotations:0\r\n") && status.contains("log_stuck:no"), "{status}");
    wait_until("both peers to be connected", || {
        let status = honest.ask(&[b"STATUS"]).unwrap();
        let status = status.text().unwrap();
        status.matches("sends=yes").count() == 2 && status.matches("receives=yes").count() == 2
    });
    for id in [1, 2, 3] {
        let log = fs::read_to_string(&cluster.nodes[&id].log).unwrap_or_default();
        assert!(!log.contains("Too many open files"), "{log}");
    }
    drop(silent);
    fs::remove_file(cluster.nodes[&flooded].log.with_extension("moved")).unwrap();
}

/// A node that cannot have enough descriptors does not start, and says how many it takes. A server raises the
/// soft limit to the hard one by itself.
fn too_few_descriptors_are_refused_and_more_are_asked_for(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let node = cluster.node(1);
    let command = limited(node, "ulimit -n 60");
    node.spawn(command);
    assert_eq!(node.wait_for_end().code(), Some(1));
    let output = node.output();
    assert!(output.contains("may open only 60 files") && output.contains("raise the limit"), "{output}");
    assert!(!node.data.exists(), "nothing was founded");

    let command = limited(node, "ulimit -Hn 20000; ulimit -Sn 100");
    node.spawn(command);
    node.wait_ready();
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().filter(|word| *word == "20000").count(), 2, "{line}");
    assert!(!fs::read_to_string(&node.log).unwrap().contains("limits.clients is"), "10,000 clients fit");
    // It takes no more than it reserves.
    let open = fs::read_dir(format!("/proc/{}/fd", node.pid().as_raw_nonzero())).unwrap().count();
    assert!(open < 40, "{open} descriptors are open in a node of its own without clients");
}

/// What clients took with values that they never sent to the end goes back to the system once they are gone,
/// though the node has nothing to do.
fn what_half_sent_values_took_is_handed_back(protocol: ProtocolName) {
    use std::io::Write;
    let cluster = Cluster::start(Options::nodes(protocol, 1));
    let node = &cluster.nodes[&1];
    node.propose_until_chosen(1, "before");
    let before_mb = node.rss_mb();
    let half = [&b"*3\r\n$4\r\nPROP\r\n$1\r\n2\r\n$1048576\r\n"[..], &[b'x'; 1_000_000]].concat();
    let clients: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut client = TcpStream::connect(node.client).unwrap();
            client.write_all(&half).unwrap();
            client
        })
        .collect();
    wait_until("the values to be held", || node.rss_mb() > before_mb + 120);
    drop(clients);
    wait_until("the memory to be handed back", || node.rss_mb() < before_mb + 60);
}

/// The server under a limit, which the shell sets.
fn limited(node: &Node, limit: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit}; exec \"$0\" \"$@\""), SIMPLESVR]);
    command.arg(&node.config).arg(node.client.to_string());
    node.capture(&mut command);
    command
}

fn thousand_connections(node: &Node) -> Vec<TcpStream> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    (0..1000).map(|_| TcpStream::connect(node.client).unwrap()).collect()
}
