//! Nodes that stop for a while and go on (SIGSTOP, SIGCONT), under load.

use rustix::process::Signal;

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options};
use super::load::{Load, propose_all};
use crate::common::outside::wait_until;

each_protocol!(a_stopped_follower_costs_no_memory_and_catches_up, a_stopped_leader_is_replaced_and_follows);

/// A follower stopped under load: the cluster goes on, and the leader's memory stays bounded: it stops
/// growing once its out-buffer (32 MiB) and the latest entries that it keeps in memory (32 MiB) are full.
/// Resumed, the follower catches up.
fn a_stopped_follower_costs_no_memory_and_catches_up(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 3));
    let stopped = cluster.follower();
    cluster.nodes[&stopped].signal(Signal::STOP);
    let leader = &cluster.nodes[&cluster.leader_other_than(stopped)];
    let mut next = 1;
    let mut choose_mb = |mb: u64| {
        let value = vec![b'x'; 256 << 10];
        for _ in 0..mb / 8 {
            propose_all(leader.client, next..next + 32, &value);
            next += 32;
        }
        leader.rss_mb()
    };
    let filled_mb = choose_mb(96);
    let later_mb = choose_mb(96);
    assert!(
        later_mb < filled_mb + 64,
        "128 MiB of values took the leader from {filled_mb} to {later_mb} MiB"
    );
    assert!(later_mb < 512, "{later_mb} MiB");
    cluster.nodes[&stopped].signal(Signal::CONT);
    cluster.settle(u64::MAX);
    cluster.check_logs();
}

/// The leader stopped under load: another one is elected and work goes on; resumed, it follows, and nothing
/// that it had under way makes a fork.
fn a_stopped_leader_is_replaced_and_follows(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 3));
    let clients = cluster.clients();
    let load = Load::start(&clients, 1);
    load.wait_for_more(50);
    let stopped = cluster.leader();
    cluster.nodes[&stopped].signal(Signal::STOP);
    load.wait_for_more(50);
    cluster.nodes[&stopped].signal(Signal::CONT);
    wait_until("the former leader to follow or to be elected again", || {
        let node = &cluster.nodes[&stopped];
        node.status("role").is_some_and(|role| role == "follower" || role == "leader")
    });
    load.wait_for_more(50);
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}
