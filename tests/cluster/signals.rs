//! Signals: how a node ends in order, and what else a signal makes it do.

use std::fs;

use rustix::process::Signal;
use spaxos::cli::resp::Reply;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options};
use super::load::Load;
use crate::common::outside::wait_until;

each_protocol!(
    sigterm_and_sigint_end_in_order,
    nodes_may_be_restarted_in_turn,
    the_ready_line_names_what_scripts_need,
    sighup_reopens_the_log,
    sigusr1_writes_the_status,
);

/// SIGTERM and SIGINT end a node in order, under load: exit code 0, and all that was acknowledged or logged
/// is there after the next start.
fn sigterm_and_sigint_end_in_order(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 1));
    for (round, signal) in (1..).zip([Signal::TERM, Signal::INT]) {
        let load = Load::start(&cluster.clients(), round * 1_000_000);
        load.wait_for_more(50);
        let node = cluster.node(1);
        node.signal(signal);
        assert_eq!(node.wait_for_end().code(), Some(0), "{}", node.output());
        assert!(node.output().contains("ending in order"), "{}", node.output());
        let acknowledged = load.stop();
        cluster.check_acknowledged(&acknowledged);
        cluster.node(1).start();
        cluster.settle(round);
        cluster.check_acknowledged(&acknowledged);
    }
}

/// Every node of a cluster ended by SIGTERM and started again, one after the other, under load: clients go on
/// at the others, each node ends with exit code 0, and nothing acknowledged is lost.
fn nodes_may_be_restarted_in_turn(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let load = Load::start(&cluster.clients(), 1);
    for id in 1..=3 {
        load.wait_for_more(50);
        cluster.node(id).stop();
        load.wait_for_more(50);
        cluster.node(id).start();
    }
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// The line `ready client=… peers=… node=… applied=…` comes once a node serves.
fn the_ready_line_names_what_scripts_need(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 1));
    cluster.settle(1);
    let node = cluster.node(1);
    node.stop();
    node.start();
    let output = node.output();
    let line = output.lines().find(|line| line.contains(" ready ")).unwrap();
    let peers = std::net::SocketAddr::new(node.client.ip(), 10_001);
    let expected = format!(" [INFO] ready client={} peers={peers} node=1 applied=", node.client);
    assert!(line.contains(&expected), "{line}");
    assert_eq!(node.ask(&[b"PING"]).unwrap(), Reply::Simple("PONG".into()));
}

/// SIGHUP goes on in a new log file after the old one was moved away, without a gap or a repeat over both.
fn sighup_reopens_the_log(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 1));
    let node = &cluster.nodes[&1];
    cluster.settle(1);
    // Under the name of a rotated file, so that it is read as the older part.
    fs::rename(&node.log, format!("{}.1", node.log.display())).unwrap();
    cluster.settle(2);
    node.signal(Signal::HUP);
    wait_until("a new log file", || {
        fs::read_to_string(&node.log).is_ok_and(|text| text.contains("SIGHUP: the log file was opened again"))
    });
    let last = cluster.settle(3);
    let log = cluster.check_logs();
    assert_eq!(log.last().unwrap().index, last);
    assert!(fs::read_to_string(&node.log).unwrap().contains(&format!(" chosen index={last} reqid=3 ")));
}

/// SIGUSR1 writes the status into the log.
fn sigusr1_writes_the_status(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 1));
    let node = &cluster.nodes[&1];
    cluster.settle(1);
    node.signal(Signal::USR1);
    wait_until("the status in the log", || {
        let text = fs::read_to_string(&node.log).unwrap();
        ["status Node: cluster:test node:1 role:leader", "status Counters: "]
            .iter()
            .all(|line| text.contains(line))
    });
}
