//! A request id names a request permanently: it is delivered at most once, through whichever nodes it comes.

use spaxos::cli::resp::Reply;
use spaxos::consensus::protocols::ProtocolName;

use super::harness::{Cluster, Options, is_passing};
use crate::common::outside::wait_for;

each_protocol!(
    a_reqid_is_delivered_once,
    a_proposal_survives_the_leader_once,
    the_longest_values_reach_everybody,
    reqids_and_values_have_limits,
);

/// The same reqid and value through different nodes, at the same time and one after the other, and after
/// restarts, is delivered once, and everybody is told the same index; with a different value it is refused,
/// with the index of the first.
fn a_reqid_is_delivered_once(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let at_once: Vec<u64> = std::thread::scope(|scope| {
        let ask = |id: &u64| {
            let node = &cluster.nodes[id];
            scope.spawn(move || node.propose_until_chosen(7, "seven"))
        };
        let asked: Vec<_> = cluster.nodes.keys().map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let index = at_once[0];
    assert_eq!(at_once, [index; 3]);
    for round in 0..2 {
        for node in cluster.nodes.values() {
            assert_eq!(node.propose_until_chosen(7, "seven"), index);
            let other =
                wait_for("an answer to a different value", || match node.propose(7, "eight").unwrap() {
                    Reply::Error(text) if is_passing(&text) => None,
                    other => Some(other),
                });
            let expected = format!("ERR reqid=7 stands at index {index} with a different value");
            assert!(matches!(&other, Reply::Error(text) if text.starts_with(&expected)), "{other:?}");
        }
        if round == 0 {
            cluster.nodes.values_mut().for_each(|node| node.kill());
            cluster.start_all();
        }
    }
    cluster.settle(u64::MAX);
    let log = cluster.check_logs();
    assert_eq!(log.iter().filter(|line| line.reqid == 7).count(), 1);
}

/// A proposal under way when the leader dies, sent again through another node, is delivered once, and both
/// clients are told the same index.
fn a_proposal_survives_the_leader_once(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    for round in 1..=3 {
        let leader = cluster.leader();
        let others: Vec<u64> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
        let (first, second) = (&cluster.nodes[&others[0]], &cluster.nodes[&others[1]]);
        let pid = cluster.nodes[&leader].pid();
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| first.propose_until_chosen(round, "once"));
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            let other = second.propose_until_chosen(round, "once");
            (one.join().unwrap(), other)
        });
        assert_eq!(one, other);
        cluster.node(leader).wait_for_end();
        cluster.node(leader).start();
        assert_eq!(cluster.nodes[&leader].propose_until_chosen(round, "once"), one);
    }
    cluster.settle(u64::MAX);
    cluster.check_logs();
}

/// Values of the greatest length, proposed at any node, are chosen, reach a node that was down in the
/// meantime, and are in its log with length and checksum.
fn the_longest_values_reach_everybody(protocol: ProtocolName) {
    let mut cluster = Cluster::start(Options::nodes(protocol, 3));
    let down = cluster.follower();
    cluster.node(down).kill();
    let value = "x".repeat(1 << 20);
    let ids: Vec<u64> = cluster.running().map(|node| node.id).collect();
    for (reqid, id) in (1..=20).zip(ids.iter().cycle()) {
        cluster.nodes[id].propose_until_chosen(reqid, &value);
    }
    cluster.node(down).start();
    cluster.nodes[&down].propose_until_chosen(21, &value);
    cluster.settle(22);
    let log = cluster.check_logs();
    let crc = crc32c::crc32c(value.as_bytes());
    let rest = format!("value=\"{}\" len={} crc={crc:08X}", "x".repeat(128), value.len());
    assert_eq!(log.iter().filter(|line| line.rest == rest).count(), 21);
}

/// A reqid outside 1 … 2^64-1 or written in another way, and a value that is empty or too long, are refused;
/// at the limits they are taken.
fn reqids_and_values_have_limits(protocol: ProtocolName) {
    let cluster = Cluster::start(Options { limits: "value_bytes = 1000", ..Options::nodes(protocol, 1) });
    let node = &cluster.nodes[&1];
    let error = |reqid: &str, value: &str, start: &str| {
        let reply = node.ask(&[b"PROP", reqid.as_bytes(), value.as_bytes()]).unwrap();
        let Reply::Error(text) = reply else { panic!("PROP {reqid:?} was answered {reply:?}") };
        assert!(text.starts_with(start), "PROP {reqid:?}: {text}");
    };
    for reqid in ["0", "-1", "18446744073709551616", "1e9", "01", "+1", "", "x", "0x10"] {
        error(reqid, "v", "ERR ");
    }
    error("5", "", "ERR ");
    error("5", &"x".repeat(1001), "TOOLARGE reqid=5 ");
    node.propose_until_chosen(5, &"x".repeat(1000));
    node.propose_until_chosen(u64::MAX, "v");
}
