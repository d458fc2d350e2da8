//! kill -9 under load: nothing that was answered or logged as chosen is lost or changes.

use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::random::Random;

use super::harness::{Cluster, Options};
use super::load::Load;
use crate::common::seeds::each_seed;

each_protocol!(any_one_node_may_be_killed, all_nodes_may_be_killed, random_kills_lose_nothing);

/// Any one node, the leader as well, is killed with -9 under load: the others go on after an election.
/// Started again it catches up: its log misses no chosen index and has none twice, and all that was
/// acknowledged is in all logs where it was acknowledged.
fn any_one_node_may_be_killed(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let load = Load::start(&cluster.clients(), 1);
    load.wait_for_more(50);
    let leader = cluster.leader();
    let others: Vec<u64> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
    for victim in [leader, others[0], others[1]] {
        cluster.node(victim).kill();
        cluster.leader();
        load.wait_for_more(50);
        cluster.node(victim).start();
        load.wait_for_more(50);
    }
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// All nodes are killed with -9 at the same time under load, and started again, several times: nothing that
/// was answered or logged is lost or changes, and work goes on.
fn all_nodes_may_be_killed(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let load = Load::start(&cluster.clients(), 1);
    for _ in 0..3 {
        load.wait_for_more(100);
        let answered = cluster.check_logs();
        cluster.nodes.values_mut().for_each(|node| node.kill());
        let logged = cluster.check_logs();
        assert_eq!(logged[..answered.len()], answered);
        cluster.start_all();
        load.wait_for_more(10);
        let now = cluster.check_logs();
        assert!(now.len() >= logged.len(), "{} lines are left of {}", now.len(), logged.len());
        assert_eq!(now[..logged.len()], logged);
    }
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}

/// Nodes are killed at random moments under load, each started again while others are being killed: as above.
fn random_kills_lose_nothing(protocol: ProtocolName) {
    let drawn = u64::from(getrandom::u32().unwrap());
    each_seed(drawn..drawn + 1, |seed| kill_at_random(protocol, seed));
}

/// The seed says which nodes are killed, and after how many acknowledged proposals.
fn kill_at_random(protocol: ProtocolName, seed: u64) {
    let mut random = Random::new(seed);
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let load = Load::start(&cluster.clients(), 1);
    for _ in 0..8 {
        let victims = random.between(1, 8); // a bit for each node
        let victims: Vec<u64> = (1..=3).filter(|id| victims >> (id - 1) & 1 == 1).collect();
        load.wait_for_more(random.between(0, 60) as usize);
        victims.iter().for_each(|victim| cluster.node(*victim).kill());
        if victims.len() == 1 {
            load.wait_for_more(random.between(0, 20) as usize);
        }
        for victim in &victims {
            let command = cluster.node(*victim).command();
            cluster.node(*victim).spawn(command);
        }
    }
    cluster.nodes.values_mut().for_each(|node| node.wait_ready());
    load.wait_for_more(20);
    let acknowledged = load.stop();
    cluster.settle(u64::MAX);
    cluster.check_acknowledged(&acknowledged);
}
