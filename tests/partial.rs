//! Partial connectivity: as long as one node reaches a majority both ways, a Paxos cluster serves again
//! within 4 T, and a Raft cluster within 8 T unless no such node has a log that a majority would vote for;
//! then it serves again once links are back. `spaxos sim --split all --seeds A..B` tries more seeds.

use spaxos::consensus::protocols::ProtocolName;
use spaxos::sim::{Served, Split, split};

/// Who did not serve while links were cut.
fn serves_again(kind: Split, protocol: ProtocolName, nodes: &[u64]) -> Vec<(u64, u64)> {
    let mut waited = Vec::new();
    for nodes in nodes {
        for seed in 0..10 {
            let served = split(seed, protocol, *nodes, kind);
            let within_t = Served::limit_t(protocol);
            assert!(
                served.is_within(within_t),
                "{kind} of {nodes} nodes of {protocol}, seed {seed}: {within_t} T are allowed, and it was {served:?}"
            );
            if served.after_ms.is_none() {
                waited.push((*nodes, seed));
            }
        }
    }
    waited
}

/// Both protocols serve while links are cut.
fn both_serve(kind: Split, nodes: &[u64]) {
    for protocol in ProtocolName::ALL {
        assert_eq!(serves_again(kind, protocol, nodes), [], "{kind} of {protocol}");
    }
}

/// Omni-Paxos, figure 1a; known bug 11.
#[test]
fn quorum_loss() {
    both_serve(Split::QuorumLoss, &[3, 5]);
}

/// Omni-Paxos, figure 1b. In Paxos the node in the middle is told what it lacks. In Raft nobody can win: it
/// alone reaches a majority, and its log is behind. (Of three nodes two are left, both of which reach a
/// majority.)
#[test]
fn constrained_election() {
    assert_eq!(serves_again(Split::Constrained, ProtocolName::Paxos, &[3, 5]), []);
    assert_eq!(serves_again(Split::Constrained, ProtocolName::Raft, &[3]), []);
    let waited = serves_again(Split::Constrained, ProtocolName::Raft, &[5]);
    assert!(!waited.is_empty(), "a log that is behind cannot win, and one was behind in none of the seeds");
}

/// Omni-Paxos, figure 1c.
#[test]
fn chained() {
    both_serve(Split::Chained, &[3, 5]);
}

#[test]
fn bridge() {
    both_serve(Split::Bridge, &[3, 5]);
}

#[test]
fn a_leader_that_hears_nobody() {
    both_serve(Split::DeafLeader, &[3, 5]);
}

#[test]
fn a_leader_that_nobody_hears() {
    both_serve(Split::MuteLeader, &[3, 5]);
}

/// Among them are some like the constrained election.
#[test]
fn links_lost_at_random() {
    assert_eq!(serves_again(Split::Random, ProtocolName::Paxos, &[3, 5, 7]), []);
    serves_again(Split::Random, ProtocolName::Raft, &[3, 5, 7]);
}
