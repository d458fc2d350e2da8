//! Without a majority nothing is chosen, and clients are told so.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use spaxos::cli::resp::Reply;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options};
use crate::common::outside::{PATIENCE, wait_until};

each_protocol!(
    without_a_majority_proposals_time_out_and_can_be_sent_again,
    a_node_alone_chooses_and_restarts,
);

/// With two of three nodes gone nothing is chosen, and proposals, in either form, are answered `-TIMEOUT`
/// once their time is up; the same reqids sent again when a node has come back are chosen once each.
fn without_a_majority_proposals_time_out_and_can_be_sent_again(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options { timeout_ms: 400, ..Options::nodes(protocol, 3) });
    let before = cluster.settle(100);
    let survivor = cluster.leader();
    let gone: Vec<u64> = cluster.nodes.keys().copied().filter(|id| *id != survivor).collect();
    gone.iter().for_each(|id| cluster.node(*id).kill());

    let node = &cluster.nodes[&survivor];
    let timed_out = |reply: Reply, reqid: u64| {
        let start = format!("TIMEOUT reqid={reqid} ");
        assert!(matches!(&reply, Reply::Error(text) if text.starts_with(&start)), "{reply:?}");
    };
    timed_out(node.propose(1, "a").unwrap(), 1);
    let line = answer_to_line(node.client, "PROP 2 b\r\n");
    assert!(line.starts_with("-TIMEOUT reqid=2 "), "{line}");
    wait_until("the leader to stop leading", || node.status("role").is_some_and(|role| role != "leader"));
    timed_out(node.propose(3, "c").unwrap(), 3);
    assert_eq!(node.status_number("chosen"), Some(before));
    assert_eq!(node.chosen().last().map(|line| line.index), Some(before));
    assert_eq!(node.ask(&[b"AWAIT", b"1", b"0"]).unwrap(), Reply::Nil);

    cluster.node(gone[0]).start();
    for (reqid, value) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster.nodes[&survivor].propose_until_chosen(reqid, value);
        cluster.nodes[&gone[0]].propose_until_chosen(reqid, value);
    }
    cluster.node(gone[1]).start();
    cluster.settle(101);
    let log = cluster.check_logs();
    for (reqid, value) in [(1, "a"), (2, "b"), (3, "c")] {
        let lines: Vec<_> = log.iter().filter(|line| line.reqid == reqid).collect();
        assert!(lines.len() == 1 && lines[0].rest == format!("value=\"{value}\""), "{lines:?}");
    }
}

/// A node alone is a majority of itself.
fn a_node_alone_chooses_and_restarts(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 1));
    let node = cluster.node(1);
    let first = node.propose_until_chosen(1, "hello");
    node.kill();
    node.start();
    assert_eq!(node.propose_until_chosen(1, "hello"), first);
    assert!(node.propose_until_chosen(2, "again") > first);
    cluster.settle(3);
    cluster.check_logs();
}

/// The first line that comes back.
fn answer_to_line(client: std::net::SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(client).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}
