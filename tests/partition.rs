//! Clusters of real processes in a network that is cut and heals: no log forks, answers come in index order,
//! and the cluster serves again in time. The bounds are in T, since they are the protocol's.
//!
//! The network is made of namespaces (`partition/net.rs`). Where the machine does not allow them these tests
//! pass, but a line on standard error and a file say that they were skipped. Plain `cargo test` runs each
//! case once, in a minute. The full matrix is 20 rounds of each case, takes 20 minutes, and prints figures:
//!
//! ```text
//! cargo test --test partition full -- --ignored --nocapture --test-threads 4
//! ```
//!
//! `ELECTION_MS` and `ROUNDS` in the environment change T and the number of rounds.
//!
//! Left out: links that lose or delay single packets, since not every kernel can; the simulator does that.

#[macro_use]
mod common;

#[path = "partition/cases.rs"]
mod cases;
#[path = "partition/clients.rs"]
mod clients;
#[path = "partition/connections.rs"]
mod connections;
#[allow(dead_code)] // tests/cluster.rs uses all of it
#[path = "cluster/harness.rs"]
mod harness;
#[allow(dead_code)] // like the harness
#[path = "cluster/load.rs"]
mod load;
#[path = "partition/net.rs"]
mod net;
#[path = "partition/scene.rs"]
mod scene;

use spaxos::consensus::protocols::ProtocolName;

use cases::Case;
use scene::{Scene, Waits, env_or};

each_protocol!(every_way_to_cut_a_network_once);

each_protocol!(ignored: full_three, full_five, full_blips_of_three, full_blips_of_five);

/// Clusters mostly wait, so that several at a time take no longer than one.
fn every_way_to_cut_a_network_once(protocol: ProtocolName) {
    std::thread::scope(|scope| {
        scope.spawn(|| cases(protocol, 3, &[Case::Isolated, Case::Deaf, Case::AllApart], 1));
        scope.spawn(|| cases(protocol, 5, &[Case::Mute, Case::QuorumLoss, Case::Chained], 1));
        scope.spawn(|| cases(protocol, 5, &[Case::Bridge, Case::Halves], 1));
        // The first two end before a connection is given up; after the last one TCP alone would be silent for
        // three seconds more.
        scope.spawn(|| blips(protocol, 3, &[0.3, 0.7, 3.2]));
    });
}

fn full_three(protocol: ProtocolName) {
    cases(protocol, 3, &Case::ALL, env_or("ROUNDS", 20));
}

fn full_five(protocol: ProtocolName) {
    cases(protocol, 5, &Case::ALL, env_or("ROUNDS", 20));
}

fn full_blips_of_three(protocol: ProtocolName) {
    blips(protocol, 3, &all_blips());
}

fn full_blips_of_five(protocol: ProtocolName) {
    blips(protocol, 5, &all_blips());
}

/// As many as there are rounds, from 0.3 to 10 s, each longer than the one before by the same factor.
fn all_blips() -> Vec<f64> {
    let rounds = env_or("ROUNDS", 20);
    let step = |round: u64| round as f64 / (rounds - 1).max(1) as f64;
    (0..rounds).map(|round| 0.3 * (10.0_f64 / 0.3).powf(step(round))).collect()
}

/// Cuts the network in each of these ways, and demands that the cluster serves again in time.
fn cases(protocol: ProtocolName, nodes: u64, cases: &[Case], rounds: u64) {
    // Long enough for a machine that does other things as well.
    let election_ms = env_or("ELECTION_MS", 1000);
    let Some(mut scene) = Scene::start(protocol, nodes, 0, election_ms) else { return };
    for case in cases {
        let mut waits = Waits::default();
        for _ in 0..rounds {
            scene.round(*case, scene::random_t(3.0, 6.0), &mut waits);
        }
        waits.check(&format!("{protocol}, {nodes} nodes, {case:?}"), case.limit_t(protocol));
    }
    scene.finish();
}

/// As few nodes are up as can serve, and lose each other for a while, in seconds.
fn blips(protocol: ProtocolName, nodes: u64, cuts_s: &[f64]) {
    // Short enough to see the pauses of TCP, which are in seconds.
    let election_ms = env_or("ELECTION_MS", 500);
    let Some(mut scene) = Scene::start(protocol, nodes, (nodes - 1) / 2, election_ms) else { return };
    let mut waits = Waits::default();
    for cut_s in cuts_s {
        scene.round(Case::AllApart, scene.seconds_in_t(*cut_s), &mut waits);
    }
    waits.check(&format!("{protocol}, {nodes} nodes, blips"), Case::AllApart.limit_t(protocol));
    scene.finish();
}
