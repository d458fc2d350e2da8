//! Logs that differ: a chosen value is changed on the disk of one node, as bad memory or a careless restore
//! would change it.

use std::collections::BTreeMap;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::directory::{self, StoreOptions};
use spaxos::pipeline::ledger;
use spaxos::store::{Change, Founding, Write};

use super::harness::{Cluster, Node, Options};
use super::key::{digits, with_keys, write_keys};
use crate::common::outside::wait_until;

each_protocol!(without_a_key_all_report_a_fork_and_go_on);

/// A node that a proven majority outvotes ends with exit code 2 and plain words; the others go on.
#[test]
fn with_a_key_the_node_that_differs_ends() {
    let mut cluster = with_keys(3);
    (1..=3).for_each(|id| write_keys(&cluster, id, &[&digits('a')]));
    cluster.start_all();
    let forged = cluster.follower();
    fork(&mut cluster, ProtocolName::Paxos, forged);
    let (code, words) = cluster.node(forged).start_and_fail();
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("differs from that of a majority"), "{words}");
    for node in cluster.running() {
        node.propose_until_chosen(100 + node.id, "goes on");
    }
}

/// Without a shared secret nobody can know which node is right: all report the fork, and nobody ends.
fn without_a_key_all_report_a_fork_and_go_on(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let forged = cluster.follower();
    fork(&mut cluster, protocol, forged);
    cluster.node(forged).start();
    for node in cluster.nodes.values() {
        // The forged node differs from all others, and each of them only from it.
        let others: Vec<_> = cluster.nodes.keys().filter(|id| **id != node.id).map(u64::to_string).collect();
        let nodes = if node.id == forged { others.join(",") } else { forged.to_string() };
        let what = format!("node {} reports that nodes {nodes} differ", node.id);
        wait_until(&what, || node.status("fork").is_some_and(|fork| fork.ends_with(&format!(":{nodes}"))));
        let has_line = || std::fs::read_to_string(&node.log).unwrap().contains("the log forked");
        wait_until("the line that says so", has_line);
    }
    for node in cluster.nodes.values() {
        node.propose_until_chosen(100 + node.id, "goes on");
    }
}

/// Stops a node and changes the first value on its disk, which every node has delivered.
fn fork(cluster: &mut Cluster, protocol: ProtocolName, forged: u64) {
    cluster.settle(1);
    let leader = cluster.leader();
    for node in cluster.nodes.values() {
        wait_until("the same log", || node.status("fork").as_deref() == Some("none"));
    }
    let founding = founding(cluster, protocol, forged);
    let node: &mut Node = cluster.node(forged);
    node.stop();
    let (mut store, recovered) = directory::open(StoreOptions::new(node.data.clone(), founding)).unwrap();
    let entries = store.reader().read(1, recovered.hard_state.chosen, 1 << 20).unwrap();
    let mut entry = entries.into_iter().find(|entry| entry.command.payload == "settled").unwrap();
    entry.command.payload = "forged!".into();
    store.write(&Write { changes: &[Change::Entries(&[entry])], ..Write::default() }).unwrap();
    store.close().unwrap();
    cluster.nodes[&leader].propose_until_chosen(2, "goes on");
}

fn founding(cluster: &Cluster, protocol: ProtocolName, node: u64) -> Founding {
    let address = |node: &Node| format!("{}:{}", node.client.ip(), 10_000 + node.id);
    let members: BTreeMap<u64, String> =
        cluster.nodes.values().map(|node| (node.id, address(node))).collect();
    Founding {
        cluster: "test".into(),
        node,
        protocol: protocol.name().into(),
        members,
        delivery_window: ledger::WINDOW as u64,
    }
}
