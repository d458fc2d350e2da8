//! The simulator's seeds: each rule of `sim::Invariant` after every step, under mixed faults, and the same
//! run from the same seed, under both protocols. `spaxos sim` runs many more; seeds that ever failed are in
//! `tests/simulation/seeds` and always run.

use std::ops::Range;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::sim::{Count, Counts, Outcome, Plan, run};

/// Fails with what a person needs to see it again.
fn passes(plan: &Plan) -> Outcome {
    let outcome = run(plan, 0);
    if let Some(violation) = &outcome.violation {
        panic!("spaxos sim {plan}\n{violation}");
    }
    outcome
}

/// Runs seeds, each twice, and says what was never reached.
fn run_twice(protocol: ProtocolName, seeds: Range<u64>, nodes: u64, events: u64) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let plan = Plan { protocol, nodes, events, ..Plan::new(seed) };
        let (first, second) = (passes(&plan), passes(&plan));
        assert_eq!(
            (first.hash, first.steps, &first.counts),
            (second.hash, second.steps, &second.counts),
            "seed {seed} of {nodes} nodes under {protocol} does not repeat"
        );
        counts.merge(&first.counts);
    }
    counts
}

/// Three nodes, under everything; and everything that can happen did.
fn three_nodes(protocol: ProtocolName) {
    let counts = run_twice(protocol, 0..150, 3, 10_000);
    assert_eq!(counts.missing(protocol), [] as [Count; 0], "{counts}");
}

#[test]
fn three_nodes_keep_every_rule_of_paxos() {
    three_nodes(ProtocolName::Paxos);
}

#[test]
fn three_nodes_keep_every_rule_of_raft() {
    three_nodes(ProtocolName::Raft);
}

#[test]
fn five_nodes_keep_every_rule() {
    for protocol in ProtocolName::ALL {
        run_twice(protocol, 1000..1050, 5, 10_000);
    }
}

/// A quorum of one, of all, and a large one.
#[test]
fn other_sizes_keep_every_rule() {
    for protocol in ProtocolName::ALL {
        for nodes in [1, 2, 4, 7] {
            run_twice(protocol, 2000..2006, nodes, 10_000);
        }
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
            panic!("{line:?} is no line of protocol, seed, nodes, events");
        };
        passes(&Plan { protocol, nodes, events, ..Plan::new(seed) });
    }
}
