//! The simulator's seeds: each rule of `sim::Invariant` after every step, under mixed faults, and the same run from
//! the same seed. `spaxos sim` runs many more; seeds that ever failed are in `tests/simulation/seeds` and always run.

use spaxos::consensus::config::ProtocolName;
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
fn run_twice(seeds: impl Iterator<Item = u64>, nodes: u64, events: u64) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        let plan = Plan { nodes, events, ..Plan::new(seed) };
        let (first, second) = (passes(&plan), passes(&plan));
        assert_eq!(
            (first.hash, first.steps, &first.counts),
            (second.hash, second.steps, &second.counts),
            "seed {seed} of {nodes} nodes does not repeat"
        );
        counts.merge(&first.counts);
    }
    counts
}

/// Three nodes, under everything; and everything that can happen did.
#[test]
fn three_nodes_keep_every_rule() {
    let counts = run_twice(0..200, 3, 10_000);
    assert_eq!(counts.missing(ProtocolName::Paxos), [] as [Count; 0], "{counts}");
}

#[test]
fn five_nodes_keep_every_rule() {
    run_twice(1000..1070, 5, 10_000);
}

/// A quorum of one, of all, and a large one.
#[test]
fn other_sizes_keep_every_rule() {
    for nodes in [1, 2, 4, 7] {
        run_twice(2000..2008, nodes, 10_000);
    }
}

/// Lines of `seed nodes events`, with what they once found.
#[test]
fn seeds_that_once_failed_pass() {
    for line in include_str!("simulation/seeds").lines() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let numbers: Vec<u64> = words.iter().map(|word| word.parse().expect("a number")).collect();
        let [seed, nodes, events] = numbers[..] else {
            assert!(numbers.is_empty(), "{line:?} is no line of seed, nodes, events");
            continue;
        };
        passes(&Plan { nodes, events, ..Plan::new(seed) });
    }
}
