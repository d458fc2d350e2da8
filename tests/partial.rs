//! Partial connectivity: as long as one node reaches a majority both ways, the cluster serves again within 4 T.
//! `spaxos sim --split all --seeds A..B` tries more seeds.

use spaxos::consensus::config::ProtocolName;
use spaxos::sim::{Split, split};

/// After how many T, at the latest, something that was cut around its leader answers again.
const WITHIN_T: f64 = 4.0;

fn serves_again(kind: Split, nodes: &[u64]) {
    for nodes in nodes {
        for seed in 0..15 {
            let served = split(seed, ProtocolName::Paxos, *nodes, kind);
            let after_t = served.after_t();
            assert!(
                after_t.is_some_and(|after_t| after_t <= WITHIN_T),
                "{kind} of {nodes} nodes, seed {seed}: served after {after_t:?} T, and {WITHIN_T} are allowed"
            );
        }
    }
}

/// Omni-Paxos, figure 1a; known bug 11.
#[test]
fn quorum_loss() {
    serves_again(Split::QuorumLoss, &[3, 5]);
}

/// Omni-Paxos, figure 1b.
#[test]
fn constrained_election() {
    serves_again(Split::Constrained, &[3, 5]);
}

/// Omni-Paxos, figure 1c.
#[test]
fn chained() {
    serves_again(Split::Chained, &[3, 5]);
}

#[test]
fn bridge() {
    serves_again(Split::Bridge, &[3, 5]);
}

#[test]
fn a_leader_that_hears_nobody() {
    serves_again(Split::DeafLeader, &[3, 5]);
}

#[test]
fn a_leader_that_nobody_hears() {
    serves_again(Split::MuteLeader, &[3, 5]);
}

#[test]
fn links_lost_at_random() {
    serves_again(Split::Random, &[3, 5, 7]);
}
