//! What a connection survives and what it does not, as the nodes and the systems of their namespaces tell it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Node, Options};
use super::load::propose_all;
use super::net::{Net, links};
use crate::common::outside::{wait_for, wait_until};

each_protocol!(
    a_slow_link_keeps_its_connections,
    an_idle_cluster_keeps_its_connections,
    a_dead_connection_is_given_up_at_both_ends,
);

each_protocol!(ignored: a_minute_of_idling_opens_no_connection);

/// On a link of 10 Mbit/s, 12 values of 1 MiB take 10 s, five times as long as bytes may stay unacknowledged:
/// the follower behind it gets all of them over the connection that it had.
fn a_slow_link_keeps_its_connections(protocol: ProtocolName) {
    let Some(net) = Net::new(3) else { return };
    let cluster = start(&net, Options { election_ms: 1000, ..Options::nodes(protocol, 3) });
    let leader = cluster.leader();
    let slow = leader % 3 + 1;
    net.limit_rate(slow, "10mbit");
    let before = dialled(&cluster);
    propose_all(cluster.nodes[&leader].client, 1..13, &vec![b'x'; 1 << 20]);
    cluster.settle(100);
    assert_eq!(dialled(&cluster), before, "a connection was given up while bytes passed");
    cluster.check_logs();
}

fn an_idle_cluster_keeps_its_connections(protocol: ProtocolName) {
    idle(protocol, Duration::from_secs(4));
}

fn a_minute_of_idling_opens_no_connection(protocol: ProtocolName) {
    idle(protocol, Duration::from_secs(60));
}

/// Followers have nothing to tell each other, so their connections carry pings, and none is opened again.
fn idle(protocol: ProtocolName, least: Duration) {
    let Some(net) = Net::new(5) else { return };
    let cluster = start(&net, Options::nodes(protocol, 5));
    let leader = cluster.leader();
    let pairs = links(5, |from, to| from != leader && to != leader);
    let started = Instant::now();
    let (before, sent_before) = (dialled(&cluster), sent(&cluster));
    let all_pinged = || {
        let sent = sent(&cluster);
        pairs.iter().all(|pair| sent[pair] >= sent_before[pair] + 10)
    };
    wait_until("ten pings from each follower to each other one", || {
        started.elapsed() > least && all_pinged()
    });
    assert_eq!(dialled(&cluster), before, "an idle cluster dialled");
}

/// Whatever is cut, both ends know after 8 T: the dialler by what is not acknowledged after 2 T, the listener
/// by keep-alive, in whole seconds.
fn a_dead_connection_is_given_up_at_both_ends(protocol: ProtocolName) {
    let election_ms = 1000;
    let Some(mut net) = Net::new(3) else { return };
    let cluster = start(&net, Options { election_ms, ..Options::nodes(protocol, 3) });
    net.cut(links(3, |_, _| true));
    let cut = Instant::now();
    wait_until("all connections to be given up", || connected(&cluster, "no"));
    let given_up_ms = cut.elapsed().as_millis() as u64;
    assert!(given_up_ms <= 8 * election_ms, "it took {given_up_ms} ms");
    net.heal();
    wait_until("all connections to be back", || connected(&cluster, "yes"));
    cluster.settle(1);
    cluster.check_logs();
}

/// All nodes run, and each is connected to each, both ways.
fn start(net: &Net, options: Options) -> Cluster {
    let mut cluster = Cluster::prepare_at(options, |node| net.place(node));
    cluster.start_all();
    wait_until("all connections", || connected(&cluster, "yes"));
    cluster
}

/// Whether all nodes say this of both connections to each peer.
fn connected(cluster: &Cluster, word: &str) -> bool {
    let words = [format!("sends={word}"), format!("receives={word}")];
    links(cluster.nodes.len() as u64, |_, _| true).into_iter().all(|(from, to)| {
        let line = cluster.nodes[&from].status(&format!("peer_{to}"));
        line.is_some_and(|line| words.iter().all(|word| line.split(',').any(|it| it == word)))
    })
}

/// How many messages each node sent to each.
fn sent(cluster: &Cluster) -> BTreeMap<(u64, u64), u64> {
    let count = |(from, to)| {
        let sent = wait_for("a status", || {
            let line = cluster.nodes[&from].status(&format!("peer_{to}"))?;
            line.split(',').find_map(|word| word.strip_prefix("sent="))?.parse().ok()
        });
        ((from, to), sent)
    };
    links(cluster.nodes.len() as u64, |_, _| true).into_iter().map(count).collect()
}

/// How many connections each node has dialled, as its namespace counts them.
fn dialled(cluster: &Cluster) -> BTreeMap<u64, u64> {
    let count = |(id, node): (&u64, &Node)| {
        let counters = fs::read_to_string(format!("/proc/{}/net/snmp", node.pid().as_raw_nonzero())).unwrap();
        let mut tcp = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (tcp.next().unwrap().split(' '), tcp.next().unwrap().split(' '));
        let (_, opens) = names.zip(values).find(|(name, _)| *name == "ActiveOpens").unwrap();
        (*id, opens.parse().unwrap())
    };
    cluster.nodes.iter().map(count).collect()
}
