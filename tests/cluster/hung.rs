//! A leader that does not fail and cannot serve: its disk hangs, or the partition of its log file is full. It
//! makes way within a few T, and the clients of the other nodes are served.
//!
//! The bounds are those of the protocol, with room for a slow machine. Without making way, a leader leads on
//! until its queue to the disk is full, and with a full log partition forever.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options};
use super::load::{Load, propose_all};
use crate::common::hung_disk::HungDisk;
use crate::common::outside::wait_until;

each_protocol!(
    a_leader_whose_disk_hangs_makes_way,
    a_leader_whose_disk_hangs_under_load_makes_way,
    a_leader_whose_disk_hangs_with_a_follower_down_makes_way,
    without_a_majority_a_leader_whose_disk_hangs_steps_down,
    a_leader_whose_log_partition_is_full_makes_way,
    a_leader_whose_log_partition_is_full_with_a_follower_down_makes_way,
);

/// T in the configurations of the harness.
const T: Duration = Duration::from_millis(400);

/// The clients of other nodes are served again within 4 T; the rest is room.
const BOUND: Duration = Duration::from_millis(4 * 400 + 3 * 400);

/// A cluster of which each node has a disk that can hang; `None` where nothing can hang.
fn start(protocol: ProtocolName, nodes: u64) -> Option<(Cluster, Vec<HungDisk>)> {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, nodes));
    let mut disks = Vec::new();
    for node in cluster.nodes.values_mut() {
        let disk = HungDisk::compile()?;
        let mut command = node.command();
        disk.preload(&mut command);
        node.spawn(command);
        disks.push(disk);
    }
    cluster.nodes.values_mut().for_each(Node::wait_ready);
    cluster.leader();
    Some((cluster, disks))
}

fn others(cluster: &Cluster, leader: u64) -> Vec<SocketAddr> {
    cluster.running().filter(|node| node.id != leader).map(|node| node.client).collect()
}

/// Waits until another node leads and each of the others serves; that must not take long. From then on the
/// node says what is wrong with it, and not that it leads.
fn check_made_way(cluster: &Cluster, leader: u64, began: Instant, trouble: &str) {
    cluster.leader_other_than(leader);
    for node in cluster.running().filter(|node| node.id != leader) {
        node.propose_until_chosen(900_000_000 + node.id, "served");
    }
    let took = began.elapsed();
    assert!(took < BOUND, "the others were served again after {took:?}; T is {T:?}");
    let node = &cluster.nodes[&leader];
    assert_eq!(node.status("role").as_deref(), Some("follower"));
    assert_eq!(node.status("trouble").as_deref(), Some(trouble));
}

/// Few requests, which would not fill a queue in an hour.
fn a_leader_whose_disk_hangs_makes_way(protocol: ProtocolName) {
    let Some((cluster, disks)) = start(protocol, 3) else { return };
    let leader = cluster.leader();
    cluster.settle(1);
    let began = Instant::now();
    disks[leader as usize - 1].hang();
    cluster.nodes[&leader].propose_until_chosen(2, "through the node whose disk hangs");
    check_made_way(&cluster, leader, began, "storage");
    // Its own clients are served as well, as long as it has room for what waits for the disk.
    cluster.nodes[&leader].propose_until_chosen(3, "through the new leader");
    disks[leader as usize - 1].recover();
    wait_until("the trouble to be over", || {
        cluster.nodes[&leader].status("trouble").as_deref() == Some("none")
    });
    cluster.settle(u64::MAX);
    cluster.check_logs();
}

/// As many requests as the machine takes: the queue to the disk may fill before T is over. Each is chosen all
/// the same.
fn a_leader_whose_disk_hangs_under_load_makes_way(protocol: ProtocolName) {
    let Some((cluster, disks)) = start(protocol, 3) else { return };
    let leader = cluster.leader();
    let stop = Arc::new(AtomicBool::new(false));
    let (loads, chosen): (Vec<_>, Vec<_>) = (1..)
        .zip(others(&cluster, leader))
        .map(|(place, node)| flood(node, place << 32, stop.clone()))
        .unzip();
    wait_until("the load to get going", || chosen.iter().all(|chosen| chosen.load(Ordering::Relaxed)));
    let began = Instant::now();
    disks[leader as usize - 1].hang();
    check_made_way(&cluster, leader, began, "storage");
    stop.store(true, Ordering::Relaxed);
    loads.into_iter().for_each(|load| load.join().expect("every proposal is chosen"));
    disks[leader as usize - 1].recover();
    cluster.settle(u64::MAX);
    cluster.check_logs();
}

/// Proposes thousands of values at a time until told to stop. Returns what is set once it has begun.
fn flood(node: SocketAddr, first: u64, stop: Arc<AtomicBool>) -> (JoinHandle<()>, Arc<AtomicBool>) {
    let going = Arc::new(AtomicBool::new(false));
    let begun = going.clone();
    let thread = std::thread::spawn(move || {
        for round in 0.. {
            let first = first + round * 4000;
            propose_all(node, first..first + 4000, &[b'x'; 128]);
            begun.store(true, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    (thread, going)
}

/// A node whose disk hangs cannot vote, so of five nodes one may be down.
fn a_leader_whose_disk_hangs_with_a_follower_down_makes_way(protocol: ProtocolName) {
    let Some((mut cluster, disks)) = start(protocol, 5) else { return };
    let down = cluster.follower();
    cluster.node(down).kill();
    let leader = cluster.leader();
    let load = Load::start(&others(&cluster, leader), 1);
    load.wait_for_more(20);
    let began = Instant::now();
    disks[leader as usize - 1].hang();
    check_made_way(&cluster, leader, began, "storage");
    load.wait_for_more(20);
    disks[leader as usize - 1].recover();
    let acknowledged = load.stop();
    cluster.node(down).start();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// Of three nodes one is down and the disk of the leader hangs: nobody can be elected, and nobody says that
/// it leads. Once the disk goes on, all goes on.
fn without_a_majority_a_leader_whose_disk_hangs_steps_down(protocol: ProtocolName) {
    let Some((mut cluster, disks)) = start(protocol, 3) else { return };
    let down = cluster.follower();
    cluster.node(down).kill();
    let leader = cluster.leader();
    let load = Load::start(&others(&cluster, leader), 1);
    load.wait_for_more(20);
    disks[leader as usize - 1].hang();
    wait_until("nobody to lead", || {
        cluster.running().all(|node| node.status("role").is_some_and(|role| role != "leader"))
    });
    disks[leader as usize - 1].recover();
    load.wait_for_more(20);
    let acknowledged = load.stop();
    cluster.node(down).start();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

fn a_leader_whose_log_partition_is_full_makes_way(protocol: ProtocolName) {
    log_partition_is_full(Cluster::start(Options::nodes(protocol, 3)));
}

/// The leader can still vote.
fn a_leader_whose_log_partition_is_full_with_a_follower_down_makes_way(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let down = cluster.follower();
    cluster.node(down).kill();
    log_partition_is_full(cluster);
}

/// The log file of the leader becomes one that has no room (`/dev/full`), and later is what it was. No chosen
/// line is lost.
fn log_partition_is_full(mut cluster: Cluster) {
    let leader = cluster.leader();
    let load = Load::start(&others(&cluster, leader), 1);
    load.wait_for_more(20);
    let node = &cluster.nodes[&leader];
    let kept = node.log.with_extension("kept");
    let began = Instant::now();
    fs::rename(&node.log, &kept).unwrap();
    std::os::unix::fs::symlink("/dev/full", &node.log).unwrap();
    node.signal(Signal::HUP);
    check_made_way(&cluster, leader, began, "log-file");
    load.wait_for_more(20);
    fs::rename(&kept, &node.log).unwrap();
    node.signal(Signal::HUP);
    wait_until("the trouble to be over", || node.status("trouble").as_deref() == Some("none"));
    load.wait_for_more(20);
    let acknowledged = load.stop();
    cluster.start_all();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}
