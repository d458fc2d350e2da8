//! The log file and the terminal: rotation, and that consensus is not held up if nobody reads them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Chosen, Cluster, Options, check_log};
use super::load::propose_all;
use crate::common::outside::wait_until;

each_protocol!(
    rotation_keeps_every_line,
    a_removed_log_is_written_again,
    a_terminal_that_is_gone_ends_nobody,
    a_log_and_a_terminal_that_nobody_reads_hold_up_nobody,
    a_fifo_gets_all_lines_again_at_each_start,
);

/// A chosen line of it is about 600 bytes long: each byte is shown as `\xff`.
const VALUE: [u8; 128] = [0xff; 128];

/// Rotation loses and repeats no chosen line, with kill -9 of one node and of all in between.
fn rotation_keeps_every_line(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options { log: "max_mb = 1\nkeep = 20", ..Options::nodes(protocol, 3) });
    let mut first = 1;
    for round in 0..4 {
        let leader = cluster.leader();
        propose_all(cluster.nodes[&leader].client, first..first + 1500, &VALUE);
        first += 1500;
        match round {
            0 => cluster.node(leader).kill(),
            1 => cluster.nodes.values_mut().for_each(|node| node.kill()),
            _ => {}
        }
        cluster.start_all();
    }
    cluster.settle(u64::MAX);
    cluster.check_logs();
    for node in cluster.nodes.values() {
        let rotations = node.log_files().len() - 1;
        assert!(rotations >= 2, "the log of node {} was rotated {rotations} times", node.id);
    }
}

/// A log file that was removed while the node was down is written again from the first index on, with the
/// same lines.
fn a_removed_log_is_written_again(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 1));
    propose_all(cluster.nodes[&1].client, 1..100, &VALUE);
    cluster.settle(100);
    let before = cluster.check_logs();
    let node = cluster.node(1);
    node.kill();
    std::fs::remove_file(&node.log).unwrap();
    node.start();
    cluster.settle(101);
    assert_eq!(cluster.check_logs()[..before.len()], before);
}

/// The reader of a node's stdout is gone: the node goes on.
fn a_terminal_that_is_gone_ends_nobody(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options { log: "terminal = \"all\"", ..Options::nodes(protocol, 1) });
    let node = cluster.node(1);
    let mut command = node.command();
    command.stdout(Stdio::piped());
    node.spawn(command);
    drop(node.child.as_mut().unwrap().stdout.take());
    wait_until("node 1 to serve", || node.ask(&[b"PING"]).is_ok());
    propose_all(node.client, 1..300, &VALUE);
    node.stop();
}

/// Nobody reads the pipe on a node's stdout, and nobody reads the FIFO that is its log file: consensus goes
/// on with this node as a necessary member. A later reader of the FIFO finds every line, once and in order.
fn a_log_and_a_terminal_that_nobody_reads_hold_up_nobody(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options { log: "terminal = \"all\"", ..Options::nodes(protocol, 3) });
    let node = cluster.node(1);
    std::fs::create_dir(&node.data).unwrap();
    assert!(Command::new("mkfifo").arg(&node.log).status().unwrap().success());
    let mut command = node.command();
    command.stdout(Stdio::piped());
    node.spawn(command);
    wait_until("node 1 to serve", || node.ask(&[b"PING"]).is_ok());
    for id in [2, 3] {
        cluster.node(id).start();
    }
    propose_all(cluster.nodes[&2].client, 1..800, &VALUE);
    wait_until("the log of node 1 to be stuck", || {
        cluster.nodes[&1].status("log_stuck").is_some_and(|stuck| stuck == "yes")
    });
    cluster.node(3).kill();
    propose_all(cluster.nodes[&2].client, 800..1000, &VALUE);

    let fifo = cluster.nodes[&1].log.clone();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(File::open(fifo).unwrap()).lines().map_while(Result::ok);
        lines
            .filter_map(|line| Chosen::parse(&line))
            .take_while(|line| line.reqid != 1000)
            .collect::<Vec<_>>()
    });
    cluster.nodes[&2].propose_until_chosen(1000, "last");
    let log = reader.join().unwrap();
    assert!(log.len() >= 999);
    check_log(1, &log);
    // Ends in order although nobody reads any more.
    cluster.node(1).stop();
}

/// Nobody can tell how much of a FIFO was read, so each start writes the whole log into it again, after kill
/// -9 and after an orderly end; within a run no line comes twice.
fn a_fifo_gets_all_lines_again_at_each_start(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let node = cluster.node(1);
    std::fs::create_dir(&node.data).unwrap();
    assert!(Command::new("mkfifo").arg(&node.log).status().unwrap().success());
    let fifo = node.log.clone();
    for run in 1..=3 {
        let command = node.command();
        node.spawn(command);
        wait_until("node 1 to serve", || node.ask(&[b"PING"]).is_ok());
        let mut lines = BufReader::new(File::open(&fifo).unwrap()).lines().map_while(Result::ok);
        node.propose_until_chosen(run, "v");
        let mut log = Vec::new();
        while log.last().is_none_or(|line: &Chosen| line.reqid != run) {
            log.extend(Chosen::parse(&lines.next().unwrap()));
        }
        check_log(1, &log);
        let reqids: Vec<u64> = log.iter().map(|line| line.reqid).filter(|reqid| *reqid > 0).collect();
        assert_eq!(reqids, (1..=run).collect::<Vec<_>>());
        if run == 1 { node.kill() } else { node.stop() }
    }
}
