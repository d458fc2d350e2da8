//! Partial connectivity: as long as one node reaches a majority both ways, a Paxos cluster serves again
//! within 4 T, and a Raft cluster within 8 T unless no such node has a log that a majority would vote for;
//! then it serves again once links are back. `spaxos sim --split all --seeds A..B` tries more seeds.

#[macro_use]
mod common;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::sim::{Served, Split, split};

use common::seeds::each_seed;

each_protocol!(
    quorum_loss,
    constrained_election,
    chained,
    bridge,
    a_leader_that_hears_nobody,
    a_leader_that_nobody_hears,
    links_lost_at_random,
);

/// Omni-Paxos, figure 1a; known bug 11.
fn quorum_loss(protocol: ProtocolName) {
    serve(Split::QuorumLoss, protocol, &[3, 5]);
}

/// Omni-Paxos, figure 1b. In Paxos the node in the middle is told what it lacks. In Raft nobody can win: it
/// alone reaches a majority, and its log is behind. (Of three nodes two are left, both of which reach a
/// majority.)
fn constrained_election(protocol: ProtocolName) {
    if protocol == ProtocolName::Paxos {
        return serve(Split::Constrained, protocol, &[3, 5]);
    }
    serve(Split::Constrained, protocol, &[3]);
    let Waited { clusters, enough } = serve_again(Split::Constrained, protocol, &[5]);
    assert!(
        !enough || !clusters.is_empty(),
        "a log that is behind cannot win, and one was behind in none of the seeds"
    );
}

/// Omni-Paxos, figure 1c.
fn chained(protocol: ProtocolName) {
    serve(Split::Chained, protocol, &[3, 5]);
}

fn bridge(protocol: ProtocolName) {
    serve(Split::Bridge, protocol, &[3, 5]);
}

fn a_leader_that_hears_nobody(protocol: ProtocolName) {
    serve(Split::DeafLeader, protocol, &[3, 5]);
}

fn a_leader_that_nobody_hears(protocol: ProtocolName) {
    serve(Split::MuteLeader, protocol, &[3, 5]);
}

/// Among them are some like the constrained election, where a Raft cluster waits for the links.
fn links_lost_at_random(protocol: ProtocolName) {
    if protocol == ProtocolName::Paxos {
        return serve(Split::Random, protocol, &[3, 5, 7]);
    }
    let _ = serve_again(Split::Random, protocol, &[3, 5, 7]);
}

/// Clusters of these sizes serve while links are cut.
fn serve(kind: Split, protocol: ProtocolName, nodes: &[u64]) {
    assert_eq!(serve_again(kind, protocol, nodes).clusters, [], "{kind} of {protocol}");
}

/// Those that did not serve before the links were back.
struct Waited {
    /// By size and seed.
    clusters: Vec<(u64, u64)>,
    /// Whether there were enough seeds to expect some.
    enough: bool,
}

/// Clusters of these sizes serve again in time, while links are cut or once they are back.
fn serve_again(kind: Split, protocol: ProtocolName, nodes: &[u64]) -> Waited {
    let mut waited = Waited { clusters: vec![], enough: true };
    for nodes in nodes {
        waited.enough &= each_seed(0..10, |seed| {
            let served = split(seed, protocol, *nodes, kind);
            let within_t = Served::limit_t(protocol);
            assert!(
                served.is_within(within_t),
                "{kind} of {nodes} nodes of {protocol}, seed {seed}: {within_t} T are allowed, and it was {served:?}"
            );
            if served.after_ms.is_none() {
                waited.clusters.push((*nodes, seed));
            }
        });
    }
    waited
}
