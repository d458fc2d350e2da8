//! The simulator's seeds: each rule of `sim::Invariant` after every step, under mixed faults, and the same
//! run from the same seed, under both protocols. `spaxos sim` runs many more; seeds that ever failed are in
//! `tests/simulation/seeds` and always run.

#[macro_use]
mod common;

use std::ops::Range;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::sim::{Count, Counts, Outcome, Plan, run};

use common::seeds::each_seed;

each_protocol!(three_nodes_keep_every_rule, five_nodes_keep_every_rule, other_sizes_keep_every_rule);

/// Fails with what a person needs to see it again.
fn passes(plan: &Plan) -> Outcome {
    let outcome = run(plan, 0);
    if let Some(violation) = &outcome.violation {
        panic!("spaxos sim {plan}\n{violation}");
    }
    outcome
}

/// Runs seeds, each twice. Returns what they reached, and whether they were enough to reach everything.
fn run_twice(protocol: ProtocolName, seeds: Range<u64>, nodes: u64, events: u64) -> (Counts, bool) {
    let mut counts = Counts::default();
    let enough = each_seed(seeds, |seed| {
        let plan = Plan { protocol, nodes, events, ..Plan::new(seed) };
        let (first, second) = (passes(&plan), passes(&plan));
        assert_eq!(
            (first.hash, first.steps, &first.counts),
            (second.hash, second.steps, &second.counts),
            "seed {seed} of {nodes} nodes under {protocol} does not repeat"
        );
        counts.merge(&first.counts);
    });
    (counts, enough)
}

/// Three nodes, under everything; and everything that can happen did.
fn three_nodes_keep_every_rule(protocol: ProtocolName) {
    let (counts, enough) = run_twice(protocol, 0..150, 3, 10_000);
    if enough {
        assert_eq!(counts.missing(protocol), [] as [Count; 0], "{counts}");
    }
}

fn five_nodes_keep_every_rule(protocol: ProtocolName) {
    run_twice(protocol, 1000..1050, 5, 10_000);
}

/// A quorum of one, of all, and a large one.
fn other_sizes_keep_every_rule(protocol: ProtocolName) {
    for nodes in [1, 2, 4, 7] {
        run_twice(protocol, 2000..2006, nodes, 10_000);
    }
}

/// Lines of `protocol seed nodes events`, with what they once found.
#[test]
fn seeds_that_once_failed_pass() {
    for line in include_str!("simulation/seeds").lines() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let [protocol, numbers @ ..] = &words[..] else { continue };
        let protocol: ProtocolName = protocol.parse().expect("a protocol");
        let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().expect("a number")).collect();
        let [seed, nodes, events] = numbers[..] else {
            panic!("{line:?} is not a line of protocol, seed, nodes, events");
        };
        passes(&Plan { protocol, nodes, events, ..Plan::new(seed) });
    }
}
