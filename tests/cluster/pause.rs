//! Nodes that stop for a while and go on (SIGSTOP, SIGCONT), under load.

use rustix::process::Signal;

use super::harness::{Cluster, Options, wait_until};
use super::load::{Load, propose_all};

/// What the leader holds in memory for a peer that does not read is bounded: its out-buffer (32 MiB), what
/// was written lately (32 MiB), the window (16 MiB), and what any node takes.
const BOUNDED_MB: u64 = 400;

/// A follower stopped under load: the cluster goes on, the leader's memory stays bounded while much more is
/// chosen than it keeps for the follower; resumed, the follower catches up.
#[test]
fn a_stopped_follower_costs_no_memory_and_catches_up() {
    let cluster = Cluster::start(Options::nodes(3));
    let stopped = cluster.follower();
    cluster.nodes[&stopped].signal(Signal::STOP);
    let leader = cluster.leader_other_than(stopped);
    let value = vec![b'x'; 64 << 10];
    let mut highest_mb = 0;
    for round in 0..8 {
        propose_all(cluster.nodes[&leader].client, 1 + round * 100..1 + (round + 1) * 100, &value);
        highest_mb = highest_mb.max(cluster.nodes[&leader].rss_mb());
    }
    assert!(highest_mb < BOUNDED_MB, "{highest_mb} MiB in the leader while a follower does not read");
    cluster.nodes[&stopped].signal(Signal::CONT);
    cluster.settle(u64::MAX);
    cluster.check_logs();
}

/// The leader stopped under load: another one is elected and work goes on; resumed, it follows, and nothing
/// that it had under way makes a fork.
#[test]
fn a_stopped_leader_is_replaced_and_follows() {
    let cluster = Cluster::start(Options::nodes(3));
    let clients = cluster.clients();
    let load = Load::start(&clients, 1);
    load.wait_for_more(50);
    let stopped = cluster.leader();
    cluster.nodes[&stopped].signal(Signal::STOP);
    load.wait_for_more(50);
    cluster.nodes[&stopped].signal(Signal::CONT);
    wait_until("the former leader to follow or to be elected anew", || {
        let node = &cluster.nodes[&stopped];
        node.status("role").is_some_and(|role| role == "follower" || role == "leader")
    });
    load.wait_for_more(50);
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}
