//! Hostile input at both ports of a running node: a smoke test of what other tests look at closely
//! (`peer_port`, and the client port's own).

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use spaxos::cli::resp::{Connection, Reply};
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options};
use crate::common::outside::{PATIENCE, wait_until};

each_protocol!(hostile_input_harms_nobody, running_out_of_file_handles_passes);

/// Random bytes, lines without end, half requests, other protocols and hundreds of silent connections at both
/// ports of the leader: in the meantime an honest client is served, the process lives, nothing panics.
fn hostile_input_harms_nobody(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 3));
    let leader = cluster.leader();
    let node = &cluster.nodes[&leader];
    let peers = SocketAddr::new(node.client.ip(), 10_000 + leader as u16);
    let mut reqid = 0;
    let mut serves = |what: &str| {
        reqid += 1;
        println!("after {what}");
        node.propose_until_chosen(reqid, "honest");
    };
    let mut random = vec![0; 300_000];
    getrandom::fill(&mut random).unwrap();
    let inputs: [(&str, &[u8]); 9] = [
        ("random bytes", &random),
        ("a line without end", &vec![b'x'; 3 << 20]),
        ("zeros", &vec![0; 1 << 20]),
        ("empty lines", &b"\r\n".repeat(200_000)),
        ("half a request", b"*3\r\n$4\r\nPROP\r\n$1\r\n5"),
        ("a huge array", b"*2147483647\r\n"),
        ("a deep array", &b"*1\r\n".repeat(10_000)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ];
    for (what, input) in inputs {
        for port in [node.client, peers] {
            throw(port, input);
            serves(what);
        }
    }
    let silent: Vec<TcpStream> =
        (0..400).map(|number| TcpStream::connect([node.client, peers][number % 2]).unwrap()).collect();
    serves("silent connections");
    drop(silent);
    serves("their end");

    cluster.settle(u64::MAX);
    cluster.check_logs();
    for node in cluster.nodes.values() {
        let log = fs::read_to_string(&node.log).unwrap();
        assert!(!log.contains("an assertion failed") && !log.contains("panicked"), "{log}");
    }
}

/// Connections take all file handles that a node may have: a client that is connected already is served, and
/// once they are gone, so is everybody.
fn running_out_of_file_handles_passes(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 3));
    let node = &cluster.nodes[&cluster.leader()];
    let mut honest = Connection::open(node.client, PATIENCE).unwrap();
    let mut propose = |reqid: &[u8]| {
        let reply = honest.ask(&[b"PROP", reqid, b"honest"]).unwrap();
        assert!(matches!(reply, Reply::Integer(_)), "{reply:?}");
    };
    propose(b"1");
    let open = fs::read_dir(format!("/proc/{}/fd", node.pid().as_raw_nonzero())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + 20), ..getrlimit(Resource::Nofile) };
    prlimit(Some(node.pid()), Resource::Nofile, limit).unwrap();
    let taken: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(node.client).unwrap()).collect();
    wait_until("a warning in the log", || {
        fs::read_to_string(&node.log).unwrap().contains("raise the limit of open files")
    });
    propose(b"2");
    drop(taken);
    node.propose_until_chosen(3, "honest");
    cluster.settle(4);
    cluster.check_logs();
}

/// Sends as much of it as is taken, half-closes, and reads until the other end closes as well or answers
/// nothing more: no input may hold up the test.
fn throw(port: SocketAddr, input: &[u8]) {
    let mut stream = TcpStream::connect(port).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}
