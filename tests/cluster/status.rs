//! `STATUS`: the figures of one answer are from one moment, and what a client was told before it holds.

use std::collections::BTreeMap;

use spaxos::cli::resp::{Connection, Reply};
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options};
use super::load::Load;
use crate::common::outside::{PATIENCE, wait_for, wait_until};

each_protocol!(the_figures_of_a_status_belong_together, a_new_cluster_drops_nothing);

/// Under load, and right after an answer, at a leader and at a follower: `applied <= chosen <= last`,
/// `chosen` is at or above every index that was answered before, and what a leader has in flight is what lies
/// between `chosen` and `last`.
fn the_figures_of_a_status_belong_together(protocol: ProtocolName) {
    let cluster = Cluster::start(Options::nodes(protocol, 3));
    let load = Load::start(&cluster.clients(), 1_000_000);
    for id in [cluster.leader(), cluster.follower()] {
        let mut client = Connection::open(cluster.nodes[&id].client, PATIENCE).unwrap();
        let mut seen_leading = 0;
        for number in 1..=500 {
            let reqid = (id * 1000 + number).to_string();
            let Reply::Integer(index) = client.ask(&[b"PROP", reqid.as_bytes(), b"v"]).unwrap() else {
                continue;
            };
            let reply = client.ask(&[b"STATUS"]).unwrap();
            let status = Status::parse(reply.text().unwrap());
            let [applied, chosen, last] = ["applied", "chosen", "last"].map(|key| status.number(key));
            assert!(applied <= chosen && chosen <= last, "{applied} <= {chosen} <= {last}");
            assert!(index as u64 <= chosen, "told {index} before, now {chosen}");
            assert!(status.number("chosen_lines") <= applied, "{status:?}");
            if status.0["role"] == "leader" {
                assert_eq!(status.0["leader"], id.to_string(), "{status:?}");
                assert_eq!(status.number("in_flight"), last - chosen, "{status:?}");
                seen_leading += 1;
            }
        }
        println!("node {id} led in {seen_leading} of its answers");
    }
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// Messages to nodes that have not started yet are counted separately: a cluster that is new and healthy has
/// dropped nothing.
fn a_new_cluster_drops_nothing(protocol: ProtocolName) {
    let mut cluster = Cluster::prepare(Options::nodes(protocol, 3));
    cluster.node(1).start();
    let first = &cluster.nodes[&1];
    let peer = |key: &str| first.status(key).map(|line| Peer::parse(&line)).unwrap_or_default();
    wait_until("messages that nobody takes", || peer("peer_2").number("unreached") > 0);
    cluster.start_all();
    cluster.settle(1);
    for node in cluster.nodes.values() {
        for other in [1, 2, 3].into_iter().filter(|other| *other != node.id) {
            let key = format!("peer_{other}");
            let line = wait_for("the peer to be reached", || {
                node.status(&key).filter(|line| line.contains("sends=yes,receives=yes"))
            });
            assert_eq!(Peer::parse(&line).number("dropped"), 0, "node {} and {key}: {line}", node.id);
        }
    }
}

/// The lines of a status.
#[derive(Debug)]
struct Status(BTreeMap<String, String>);

impl Status {
    fn parse(text: &str) -> Status {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Status(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn number(&self, key: &str) -> u64 {
        self.0[key].parse().unwrap()
    }
}

/// What a status says of a peer.
#[derive(Debug, Default)]
struct Peer(BTreeMap<String, String>);

impl Peer {
    fn parse(line: &str) -> Peer {
        let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
        Peer(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn number(&self, key: &str) -> u64 {
        self.0.get(key).map_or(0, |value| value.parse().unwrap())
    }
}
