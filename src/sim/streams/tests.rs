//! What a connection does with messages, seen in the traces of whole clusters.

use std::collections::{BTreeMap, BTreeSet};

use super::super::cluster::Cluster;
use super::super::counts::Count;
use super::super::faults::Faults;
use super::super::plan::Plan;
use super::super::run::run;
use super::super::trace::What;
use crate::consensus::types::NodeId;

/// How often a message was received before another that was sent earlier on the same way, or twice.
fn disorder(faults: Faults) -> usize {
    let plan = Plan { events: 3000, faults: Some(faults), ..Plan::new(5) };
    let outcome = run(&plan, 1_000_000);
    assert_eq!(outcome.violation, None, "spaxos sim {plan}");
    let mut latest: BTreeMap<(NodeId, NodeId), u64> = BTreeMap::new();
    let received = outcome.recorder.events().filter_map(|event| match event.what {
        What::Received { id, from, .. } => Some(((from, event.node), id)),
        _ => None,
    });
    received.filter(|(way, id)| latest.insert(*way, *id).is_some_and(|before| before >= *id)).count()
}

#[test]
fn connections_keep_the_order_and_datagrams_do_not() {
    let faults =
        Faults { loss_percent: 20, duplicate_percent: 10, late_percent: 20, late_ms: 50, ..Faults::none() };
    assert_eq!(disorder(Faults { crash_every_ms: 300, pause_every_ms: 300, ..faults.clone() }), 0);
    let datagrams = disorder(Faults { datagrams: 1, ..faults });
    assert!(datagrams > 20, "{datagrams} datagrams came late or twice");
}

/// A quiet cluster of three, once it has a leader.
fn quiet() -> Cluster {
    let plan = Plan { clients: Some(1), faults: Some(Faults::none()), ..Plan::new(1) };
    let mut cluster = Cluster::new(&plan, 0);
    while cluster.leader().is_none() {
        cluster.run_for(10_000);
    }
    cluster.run_for(2_000_000);
    cluster
}

fn all_links() -> BTreeSet<(NodeId, NodeId)> {
    (1..=3).flat_map(|a| (1..=3).map(move |b| (a, b))).filter(|(a, b)| a != b).collect()
}

/// How many connections were opened, given up and reset since then.
fn since(cluster: &Cluster, before: &super::super::counts::Counts) -> [u64; 3] {
    let now = cluster.counts();
    [Count::Hellos, Count::GivenUp, Count::Resets].map(|count| now.of(count) - before.of(count))
}

#[test]
fn an_idle_connection_stays_and_a_short_cut_ends_none() {
    let mut cluster = quiet();
    let before = cluster.counts();
    cluster.run_for(5_000_000);
    assert_eq!(since(&cluster, &before), [0, 0, 0], "in five seconds without faults");
    cluster.cut(all_links());
    cluster.run_for(100_000);
    cluster.cut(BTreeSet::new());
    cluster.run_for(2_000_000);
    assert_eq!(since(&cluster, &before), [0, 0, 0], "what was lost in 0.1 s was sent again");
}

/// Also a link that is cut one way: the acknowledgements are lost.
#[test]
fn a_long_cut_ends_connections_that_are_dialled_again_within_t() {
    let one_way: BTreeSet<_> = all_links().into_iter().filter(|(from, _)| *from == 1).collect();
    for (cut, ended) in [(all_links(), 6), (one_way, 4)] {
        let mut cluster = quiet();
        let before = cluster.counts();
        let t_us = cluster.election_ms() * 1000;
        cluster.cut(cut);
        // At most T/2 until a ping, then 2 T or half a second.
        cluster.run_for(t_us / 2 + (2 * t_us).max(500_000) + 10_000);
        assert_eq!(since(&cluster, &before), [0, ended, 0], "T is {t_us} us");
        cluster.cut(BTreeSet::new());
        cluster.run_for(t_us + 20_000);
        assert_eq!(since(&cluster, &before), [ended, ended, 0], "T is {t_us} us");
    }
}

/// The peers of a killed process are told at once. Those of a machine without power notice when it is back.
#[test]
fn a_lost_process_resets_its_connections() {
    for is_dark in [false, true] {
        let mut cluster = quiet();
        let before = cluster.counts();
        cluster.world.faults.power_cut_percent = if is_dark { 100 } else { 0 };
        cluster.world.end(2, "killed");
        cluster.run_for(20_000);
        let resets = since(&cluster, &before)[2];
        assert_eq!(resets, if is_dark { 0 } else { 2 }, "the machine lost power: {is_dark}");
        cluster.world.start(2);
        cluster.run_for(2_000_000);
        assert_eq!(since(&cluster, &before)[0], 4, "the connections of node 2 are open again");
    }
}
