//! Seeds of the simulator.

use spaxos::sim::{Counts, Plan, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn seeds() {
    let (first, seeds, events) = (number("FIRST", 0), number("SEEDS", 100), number("EVENTS", 20_000));
    let nodes = number("NODES", 3);
    let keep = number("KEEP", 0) as usize;
    let mut counts = Counts::default();
    let mut failed = 0;
    let began = std::time::Instant::now();
    let mut steps = 0;
    for seed in first..first + seeds {
        let outcome = run(&Plan { events, nodes, ..Plan::new(seed) }, keep);
        counts.merge(&outcome.counts);
        steps += outcome.steps;
        if let Some(violation) = outcome.violation {
            failed += 1;
            println!("SEED {seed} step {}: {violation}", outcome.steps);
            for event in outcome.recorder.events() {
                println!("{event}");
            }
        }
    }
    println!("{counts}");
    println!("missing {:?}", counts.missing());
    println!("{seeds} seeds, {steps} steps, {} ms", began.elapsed().as_millis());
    assert_eq!(failed, 0);
}
