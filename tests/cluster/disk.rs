//! A full disk and a failing one, under a running node.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use spaxos::cli::resp::Reply;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options, SIMPLESVR, is_passing};
use super::load::Load;
use super::shim::Shim;
use crate::common::outside::{wait_for, wait_until};

each_protocol!(
    a_full_disk_is_busy_and_passes,
    a_node_with_a_full_disk_ends_in_order,
    a_failing_fdatasync_ends_the_node,
    a_tail_without_room_stops_nothing,
    one_sigterm_ends_a_node_whose_disk_hangs,
);

/// A node whose disk is full, the leader or a follower: it refuses proposals with `-BUSY`, the others go on;
/// once there is room it takes proposals again, and nothing acknowledged is lost.
fn a_full_disk_is_busy_and_passes(protocol: ProtocolName) {
    let cluster = Cluster::start(Options { timeout_ms: 1000, ..Options::nodes(protocol, 3) });
    for (round, of_leader) in (1..).zip([true, false]) {
        let full = if of_leader { cluster.leader() } else { cluster.follower() };
        let others: Vec<_> =
            cluster.nodes.values().filter(|node| node.id != full).map(|node| node.client).collect();
        let node = &cluster.nodes[&full];
        let first = round * 1_000_000_000;
        let load = Load::start(&cluster.clients(), first);
        load.wait_for_more(20);
        limit_files(node, Some(store_bytes(node)));
        wait_until_full(node, first + 100_000_000);
        let through_others = Load::start(&others, first + 200_000_000);
        through_others.wait_for_more(20);
        load.wait_for_more(20);
        limit_files(node, None);
        node.propose_until_chosen(first + 300_000_000, "v");
        let mut acknowledged = load.stop();
        acknowledged.extend(through_others.stop());
        cluster.settle(round);
        cluster.check_acknowledged(&acknowledged);
    }
}

/// A node alone whose disk is full can be ended in order; started where there is room it has all that was
/// acknowledged.
fn a_node_with_a_full_disk_ends_in_order(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options { timeout_ms: 1000, ..Options::nodes(protocol, 1) });
    let load = Load::start(&cluster.clients(), 1);
    load.wait_for_more(20);
    limit_files(&cluster.nodes[&1], Some(store_bytes(&cluster.nodes[&1])));
    wait_until_full(&cluster.nodes[&1], 1_000_000);
    let acknowledged = load.stop();
    cluster.node(1).stop();
    cluster.node(1).start();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// An fdatasync that fails ends the node with exit code 3 and plain words, and nothing is acknowledged that
/// is not there afterwards. Needs strace, and says so where it is missing.
fn a_failing_fdatasync_ends_the_node(protocol: ProtocolName) {
    let strace = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !strace.is_ok_and(|status| status.success()) {
        eprintln!("not tested: strace is not installed, or may not trace");
        return;
    }
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let node = cluster.node(1);
    let mut command = Command::new("strace");
    // Counted in each thread; storage is the one that syncs.
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    command.args(["-e", "inject=fdatasync:error=EIO:when=40+", SIMPLESVR]);
    command.arg(&node.config).arg(node.client.to_string());
    node.capture(&mut command);
    node.spawn(command);
    node.wait_ready();
    let acknowledged = propose_until_gone(node);
    assert_eq!(node.wait_for_end().code(), Some(3), "{}", node.output());
    assert!(
        node.output().contains("the disk failed while the node ran, so the node stops"),
        "{}",
        node.output()
    );
    assert!(!acknowledged.is_empty());
    node.start();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// A write to `tail` that finds no room stops nothing: the node goes on, tries again, and ends in order.
/// What is known to be durable is only an older mark.
fn a_tail_without_room_stops_nothing(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 1));
    let Some(shim) = Shim::build(&cluster.nodes[&1]) else { return };
    let shim = shim.with("SHIM_FULL_END", "/tail");
    let node = cluster.node(1);
    node.spawn(shim.under(node.command()));
    node.wait_ready();
    shim.fill(true);
    node.propose_until_chosen(1, "v1");
    wait_until("a warning about the tail", || {
        node.propose_until_chosen(1, "v1");
        node.output().contains("/tail: No space left on device")
    });
    node.propose_until_chosen(2, "v2");
    node.stop();
    // The mark of a start is written to the tail as well: this start waits.
    node.spawn(shim.under(node.command()));
    wait_until("the node to wait for room", || node.output().contains("there is no room on the disk"));
    shim.fill(false);
    node.wait_ready();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&BTreeMap::new());
}

/// One SIGTERM ends a node whose disk does not answer, although an orderly end would wait for the disk
/// forever: exit code 3, plain words, and nothing acknowledged is lost.
fn one_sigterm_ends_a_node_whose_disk_hangs(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options { timeout_ms: 500, ..Options::nodes(protocol, 1) });
    let Some(shim) = Shim::build(&cluster.nodes[&1]) else { return };
    let node = cluster.node(1);
    node.spawn(shim.under(node.command()));
    node.wait_ready();
    let index = node.propose_until_chosen(1, "v1");
    shim.hang(true);
    let reply = node.propose(2, "v2");
    assert!(matches!(&reply, Ok(Reply::Error(text)) if text.starts_with("TIMEOUT ")), "{reply:?}");
    // Somebody who moved the log away must not keep the second signal from being heard.
    node.signal(Signal::HUP);
    let began = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.wait_for_end().code(), Some(3), "{}", node.output());
    // client.timeout_ms and 5 s, and room for a busy machine.
    let took = began.elapsed();
    assert!((Duration::from_millis(5500)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert!(node.output().contains("the disk did not answer"), "{}", node.output());
    assert!(node.output().contains("waited for its thread storage"), "{}", node.output());
    shim.hang(false);
    node.start();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&BTreeMap::from([(1, index)]));
}

/// Proposes one value after the other until nobody answers any more, and returns what was acknowledged.
fn propose_until_gone(node: &Node) -> BTreeMap<u64, u64> {
    let mut acknowledged = BTreeMap::new();
    for reqid in 1.. {
        match node.propose(reqid, &format!("v{reqid}")) {
            Ok(Reply::Integer(index)) => drop(acknowledged.insert(reqid, index as u64)),
            Ok(Reply::Error(text)) if is_passing(&text) => {}
            Ok(other) => panic!("PROP {reqid} was answered {other:?}"),
            Err(_) => break,
        }
    }
    acknowledged
}

/// Proposes at a node until it says that its disk is full.
fn wait_until_full(node: &Node, first: u64) {
    let mut reqid = first;
    wait_until("the disk to be full", || {
        reqid += 1;
        let reply = node.propose(reqid, &"x".repeat(100_000));
        matches!(reply, Ok(Reply::Error(text)) if text.contains("the disk of this node is full"))
    });
}

/// The size of its database: a file-size limit of this much keeps it from growing.
fn store_bytes(node: &Node) -> u64 {
    wait_for("a database", || Some(std::fs::metadata(node.data.join("store/db")).ok()?.len()))
}

/// Limits the size of the files of a running node.
fn limit_files(node: &Node, bytes: Option<u64>) {
    prlimit(Some(node.pid()), Resource::Fsize, Rlimit { current: bytes, ..getrlimit(Resource::Fsize) })
        .unwrap();
}
