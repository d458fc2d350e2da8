//! `spaxos bench core`: what agreement itself costs, without encoding, sockets, threads and disk.
//!
//! All nodes' cores run in one thread and hand each other their messages as values (`core/cluster.rs`). A
//! figure is the CPU time of that thread for one entry of the whole cluster, so it says what the protocol's
//! own code costs; what a system of processes does is `spaxos bench`.

mod cluster;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::consensus::protocols::ProtocolName;

use super::super::error::Error;
use super::super::output;
use super::report::{figure, round};
use super::usage::thread_cpu;
use cluster::Cluster;

/// How exactly the clock is read and the end of a run is met.
const CLOCK_ENTRIES: u64 = 1024;
/// A run's length divided by this is the length of the warm-up before it.
const WARM_PART: u32 = 10;

/// How proposals come in.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// As the comparison's other programs call it.
    mode: &'static str,
    /// Entries outstanding at any time: as they are chosen, new ones are proposed.
    outstanding: u64,
    /// The most new ones in a turn of the leader.
    turn: u64,
    /// How many turns each message is under way.
    delay: usize,
}

const LOADS: [Load; 4] = [
    Load { mode: "1", outstanding: 1, turn: 1, delay: 0 },
    Load { mode: "64", outstanding: 64, turn: 64, delay: 0 },
    Load { mode: "1024", outstanding: 1024, turn: 1024, delay: 0 },
    Load { mode: "p1024x64x8", outstanding: 1024, turn: 64, delay: 8 },
];

/// Arguments of `spaxos bench core`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The consensus protocol
    #[arg(long, default_value_t)]
    protocol: ProtocolName,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=31))]
    nodes: u8,
    /// Bytes of each value
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: u32,
    /// CPU seconds of each run
    #[arg(long, default_value = "1", value_parser = super::seconds)]
    secs: f64,
    /// Entries of each run instead
    #[arg(long, conflicts_with = "secs", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    entries: Option<u64>,
    /// Runs of each kind, each with a cluster of its own
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// One JSON line per run instead of a table
    #[arg(long)]
    json: bool,
}

/// One run. Its names are those of the comparison's other programs.
#[derive(Clone, Debug, Serialize)]
struct Row {
    /// What was measured.
    core: String,
    /// [`Load::mode`].
    mode: &'static str,
    nodes: u8,
    /// Length of each value.
    bytes: u32,
    entries: u64,
    cpu_s: f64,
    /// CPU of all nodes together for one entry.
    cpu_ns_entry: f64,
    /// Messages between nodes for one entry.
    msgs_entry: f64,
}

/// Measures and prints. The kinds take turns, so that what disturbs the machine for a while disturbs all.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut rows = Vec::new();
    for _ in 0..arguments.runs {
        for load in LOADS {
            let row = measure(arguments, load)?;
            if arguments.json {
                output::print(&format!("{}\n", json(&row)))?;
            }
            rows.push(row);
        }
    }
    if !arguments.json {
        output::print(&table(arguments, &rows))?;
    }
    Ok(())
}

/// One run: warm up, measure, then see that all nodes agreed on what was measured.
fn measure(arguments: &Arguments, load: Load) -> Result<Row, Error> {
    let mut cluster = Cluster::elect(arguments.protocol, arguments.nodes, load.delay, arguments.size)?;
    let secs = Duration::from_secs_f64(arguments.secs);
    let entries = arguments.entries.unwrap_or(u64::MAX);
    drive(&mut cluster, load, secs / WARM_PART, entries / u64::from(WARM_PART));
    let (messages, warmed, before) = (cluster.messages(), cluster.delivered(), thread_cpu());
    drive(&mut cluster, load, secs, entries);
    let cpu = thread_cpu() - before;
    let (messages, entries) = (cluster.messages() - messages, cluster.delivered() - warmed);
    cluster.settle()?;
    Ok(Row {
        core: format!("spaxos-{}", arguments.protocol),
        mode: load.mode,
        nodes: arguments.nodes,
        bytes: arguments.size,
        entries,
        cpu_s: round(cpu.as_secs_f64(), 3),
        cpu_ns_entry: round(cpu.as_nanos() as f64 / entries as f64, 1),
        msgs_entry: round(messages as f64 / entries as f64, 3),
    })
}

/// Keeps entries outstanding until the leader has delivered `entries`, or `secs` of CPU time are used. Time
/// passes for the cores as this thread uses its processor: other programs that use it as well cause no
/// elections.
fn drive(cluster: &mut Cluster, load: Load, secs: Duration, entries: u64) {
    let (start, first) = (thread_cpu(), cluster.delivered());
    let (mut clock, mut look_at) = (start, first);
    while cluster.delivered() - first < entries {
        if cluster.delivered() >= look_at {
            let now = thread_cpu();
            cluster.pass(now - clock);
            (clock, look_at) = (now, cluster.delivered() + CLOCK_ENTRIES);
            if now - start >= secs {
                return;
            }
        }
        cluster.propose((load.outstanding - cluster.outstanding()).min(load.turn));
        cluster.turn();
    }
}

fn table(arguments: &Arguments, rows: &[Row]) -> String {
    let runs = match arguments.runs {
        1 => String::new(),
        runs => format!(", median (min .. max) of {runs} runs"),
    };
    let mut out = format!(
        "spaxos-{}: {} cores in one thread, {}-byte values; CPU of all nodes{runs}\n",
        arguments.protocol, arguments.nodes, arguments.size
    );
    for load in LOADS {
        let of = |value: fn(&Row) -> f64| -> Vec<f64> {
            rows.iter().filter(|row| row.mode == load.mode).map(value).collect()
        };
        let cost = figure(&of(|row| row.cpu_ns_entry), 0, "ns/entry");
        let messages = super::report::median(&of(|row| row.msgs_entry));
        out += &format!("  {:<44}{cost:<40}{messages:>8.3} messages/entry\n", load.words());
    }
    out
}

impl Load {
    fn words(self) -> String {
        match (self.outstanding, self.delay) {
            (1, _) => "one at a time".to_string(),
            (outstanding, 0) => format!("{outstanding} outstanding"),
            (outstanding, delay) => {
                format!("{outstanding} outstanding, {} a turn, {delay} turns away", self.turn)
            }
        }
    }
}

fn json(row: &Row) -> String {
    serde_json::to_string(row).expect("numbers and texts can be written as JSON")
}
