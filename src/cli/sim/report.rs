//! The results of many runs: the table on standard output, and the summary for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::campaign::{Campaign, Tally};
use crate::cli::version;
use crate::consensus::protocols::ProtocolName;
use crate::sim::Count;

/// With fewer nodes some things cannot happen: a majority survives no harmed disk, and there is no bridge.
const MIN_NODES_TO_REACH_ALL: u64 = 3;

/// The table, the same on every machine.
pub fn table(campaign: &Campaign, tally: &Tally) -> String {
    let Tally { seeds, steps, virtual_us, counts, .. } = tally;
    let plan = &campaign.plan;
    let faults = plan.faults.as_ref().map_or("mixed".to_owned(), ToString::to_string);
    let protocol = match plan.protocol {
        ProtocolName::Paxos => String::new(),
        other => format!("{other}, "),
    };
    let nodes = campaign.nodes.map_or("2 to 7".to_owned(), |nodes| nodes.to_string());
    format!(
        "{protocol}seeds {}..{}, {nodes} nodes, {} events each, faults: {faults}\n\
         {steps} steps, {} s of virtual time, hash {:016x}{}\n\n{counts}",
        seeds.start,
        seeds.end,
        plan.events,
        virtual_us / 1_000_000,
        tally.hash(),
        match tally.failure {
            Some(_) => "; the last seed FAILED",
            None => "; every rule held",
        }
    )
}

#[derive(Serialize)]
struct Summary {
    version: &'static str,
    commit: &'static str,
    protocol: &'static str,
    /// The first, and the one after the last.
    seeds: [u64; 2],
    /// `null`: 2 to 7, drawn from each seed.
    nodes: Option<u64>,
    faults: String,
    events_per_seed: u64,
    steps: u64,
    virtual_s: u64,
    jobs: usize,
    each_run_twice: bool,
    wall_s: f64,
    seeds_per_s: f64,
    hash: String,
    failure: Option<String>,
    never_happened: Vec<Count>,
    counts: BTreeMap<Count, u64>,
}

/// As JSON.
pub fn summary(campaign: &Campaign, tally: &Tally, took: Duration) -> String {
    let plan = &campaign.plan;
    let wall_s = took.as_secs_f64();
    let summary = Summary {
        version: env!("CARGO_PKG_VERSION"),
        commit: version::COMMIT,
        protocol: plan.protocol.name(),
        seeds: [tally.seeds.start, tally.seeds.end],
        nodes: campaign.nodes,
        faults: plan.faults.as_ref().map_or("mixed".to_owned(), ToString::to_string),
        events_per_seed: plan.events,
        steps: tally.steps,
        virtual_s: tally.virtual_us / 1_000_000,
        jobs: campaign.jobs,
        each_run_twice: campaign.twice,
        wall_s: (wall_s * 1000.0).round() / 1000.0,
        seeds_per_s: (tally.count() as f64 / wall_s.max(0.001) * 10.0).round() / 10.0,
        hash: format!("{:016x}", tally.hash()),
        failure: tally.failure.as_ref().map(|(plan, failure)| failure.summary(plan.seed)),
        never_happened: tally.counts.missing(plan.protocol),
        counts: tally.counts.iter().collect(),
    };
    let text = serde_json::to_string_pretty(&summary).expect("numbers and texts are JSON");
    format!("{text}\n")
}

/// Checks that the runs reached everything there is to reach.
pub fn check_reach(campaign: &Campaign, tally: &Tally) -> Result<(), String> {
    let missing: Vec<_> =
        tally.counts.missing(campaign.plan.protocol).into_iter().map(Count::prose).collect();
    if campaign.nodes.is_some_and(|nodes| nodes < MIN_NODES_TO_REACH_ALL) || missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} seeds never reached: {}. Run more seeds or faults, or find out why the simulator does not",
        tally.count(),
        missing.join(", ")
    ))
}
