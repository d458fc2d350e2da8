//! `spaxos sim`: runs of the simulator over many seeds, on all processors, and what a person needs when one
//! of them breaks a rule.
//!
//! What is found does not depend on how many threads run it, nor on their speed: results are taken in the
//! order of seeds, up to the first that failed. Standard output is the same on every machine; how long it
//! took goes to standard error.

mod campaign;
mod failure;
mod panics;
mod parse;
mod report;
mod splits;

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::Args;

use super::cluster::Interrupt;
use super::error::Error;
use super::output;
use super::version;
use crate::consensus::protocols::ProtocolName;
use crate::sim::trace::MAX_EVENTS;
use crate::sim::{Outcome, Plan, Split};
use campaign::{Campaign, Tally};
use parse::{Without, Wrong};

/// The seeds that are run by default.
const DEFAULT_SEEDS: Range<u64> = 0..1000;

/// A list that clap takes for one value.
type Splits = Vec<Split>;

/// Arguments of `spaxos sim`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 every rule held; 1 a rule was broken, a seed did not repeat, a count of the \
                        summary is 0, or the arguments are wrong. Ctrl-C ends in order, with the table so far."
)]
pub struct Sim {
    /// Run this seed alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 63), conflicts_with_all = ["seeds", "duration"])]
    seed: Option<u64>,
    /// Run the seeds from A up to, but not including, B [default: 0..1000]
    #[arg(long, value_name = "A..B", value_parser = parse::seeds, conflicts_with = "duration")]
    seeds: Option<Range<u64>>,
    /// Run seeds from a random one on for this long, such as 60s, 10m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    /// How the nodes agree: paxos or raft
    #[arg(long, default_value_t)]
    protocol: ProtocolName,
    /// Nodes of the cluster [default: 2 to 7, drawn from the seed; 3 with --split]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Steps of each run until faults end and the cluster must recover
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: u64,
    /// Clients that propose [default: 2, 6 or 20, drawn from the seed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=20))]
    clients: Option<u64>,
    /// What goes wrong: mixed (drawn from the seed), none, field=number,… or a file of such lines
    #[arg(long, value_name = "FAULTS", default_value = "mixed", value_parser = parse::faults)]
    faults: Wrong,
    /// Measure how soon a cluster serves again after a partial split of its network: all, or the name of a
    /// split
    #[arg(long, value_name = "SPLIT", value_parser = splits::parse, conflicts_with_all = ["duration", "trace", "summary", "check_repeat", "without"])]
    split: Option<Splits>,
    /// Faults that do not happen after all, such as crash.3,partition.1-4
    #[arg(long, value_name = "FAULT,…", value_delimiter = ',', value_parser = parse::without)]
    without: Vec<Without>,
    /// Threads [default: one per processor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Write the trace of a single seed to this file, for `spaxos trace`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "duration", "check_repeat"])]
    trace: Option<PathBuf>,
    /// Write what was run and exercised to this file (JSON); with 3 nodes or more, a count of 0 is a failure
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Run each seed twice, and compare
    #[arg(long)]
    check_repeat: bool,
    /// Seconds to spend on making a failing case smaller before it is shown; 0: show it as it is
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=86_400))]
    shrink: u64,
}

/// Runs, prints the table, and shows the first seed that failed.
pub fn run(arguments: &Sim) -> Result<(), Error> {
    let interrupt = Interrupt::catch()?;
    panics::install();
    if let Some(file) = &arguments.trace {
        return record(arguments, file, &interrupt);
    }
    let (seeds, until) = seeds(arguments)?;
    if let Some(splits) = &arguments.split {
        let (text, served) =
            splits::run(splits, arguments.protocol, arguments.nodes.unwrap_or(3), &seeds, jobs(arguments));
        let printed = output::print(&text);
        return served.map_err(Error::Message).and(printed);
    }
    let campaign = Campaign {
        plan: plan(arguments, seeds.start),
        nodes: arguments.nodes,
        seeds,
        until,
        jobs: jobs(arguments),
        twice: arguments.check_repeat,
    };
    let began = Instant::now();
    let tally = campaign.run(&interrupt);
    conclude(arguments, &campaign, &tally, began.elapsed(), &interrupt)
}

/// Shows what the runs came to, once all are done.
fn conclude(
    arguments: &Sim,
    campaign: &Campaign,
    tally: &Tally,
    took: Duration,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    let printed = output::print(&report::table(campaign, tally));
    if let Some(file) = &arguments.summary {
        let text = report::summary(campaign, tally, took);
        std::fs::write(file, text).map_err(Error::io(format!("write {}", file.display())))?;
    }
    if let Some((plan, failure)) = &tally.failure {
        output::print(&failure::tell(plan, failure, Duration::from_secs(arguments.shrink), interrupt))?;
        return Err(Error::Message(failure.summary(plan.seed)));
    }
    if arguments.summary.is_some() {
        report::check_reach(campaign, tally).map_err(Error::Message)?;
    }
    printed
}

/// Runs a single seed, and keeps all its events.
fn record(arguments: &Sim, file: &Path, interrupt: &Interrupt) -> Result<(), Error> {
    let Some(seed) = arguments.seed else {
        return Err(Error::Message("--trace records a single seed: add --seed N".to_owned()));
    };
    let campaign = Campaign {
        plan: plan(arguments, seed),
        nodes: arguments.nodes,
        seeds: seed..seed + 1,
        until: None,
        jobs: 1,
        twice: false,
    };
    let began = Instant::now();
    let (outcome, place) = panics::run(&campaign.plan, MAX_EVENTS);
    let mut tally = Tally::new(seed);
    tally.take(campaign::Ran::new(&outcome, place));
    let took = began.elapsed();
    write_trace(outcome, &tally, file).map_err(Error::io(format!("write {}", file.display())))?;
    conclude(arguments, &campaign, &tally, took, interrupt)
}

fn write_trace(outcome: Outcome, tally: &Tally, file: &Path) -> std::io::Result<()> {
    let mut trace = outcome.recorder.into_trace();
    trace.version = version::text().to_owned();
    trace.seed = outcome.plan.seed;
    trace.protocol = outcome.plan.protocol.name().to_owned();
    trace.nodes = outcome.plan.nodes;
    trace.election_ms = outcome.election_ms;
    trace.faults = outcome.faults.to_string();
    if let (Some(told), Some((_, failure))) = (&mut trace.failure, &tally.failure) {
        told.text = failure.text();
    }
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    trace.write_json(&mut out)?;
    out.flush()
}

fn plan(arguments: &Sim, seed: u64) -> Plan {
    let without: BTreeSet<_> = arguments.without.iter().flat_map(Without::ids).collect();
    Plan {
        seed,
        protocol: arguments.protocol,
        nodes: arguments.nodes.unwrap_or_else(|| Plan::drawn_nodes(seed)),
        events: arguments.events,
        clients: arguments.clients,
        faults: arguments.faults.0.clone(),
        without,
    }
}

/// Which seeds are run, and until when.
fn seeds(arguments: &Sim) -> Result<(Range<u64>, Option<Instant>), Error> {
    match (arguments.seed, &arguments.seeds, arguments.duration) {
        (Some(seed), ..) => Ok((seed..seed + 1, None)),
        (None, Some(seeds), _) => Ok((seeds.clone(), None)),
        (None, None, Some(duration)) => {
            let failed =
                |error| Error::Message(format!("cannot draw a first seed: {error}; give --seeds A..B"));
            let first = u64::from(getrandom::u32().map_err(failed)?);
            Ok((first..u64::MAX, Some(Instant::now() + duration)))
        }
        (None, None, None) => Ok((DEFAULT_SEEDS, None)),
    }
}

fn jobs(arguments: &Sim) -> usize {
    let processors = || available_parallelism().map_or(1, usize::from);
    arguments.jobs.map_or_else(processors, usize::from)
}
