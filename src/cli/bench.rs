//! `spaxos bench`: what a cluster does under load, and what it costs.
//!
//! Each round starts a cluster of its own on the real disk (or uses a running one, `--addr`), loads its
//! leader and removes the data afterwards. With `--json` a round's row is one JSON line; otherwise there is a
//! table of medians. Words for people go to standard error, results to standard output. `spaxos bench core`
//! measures the consensus cores alone (`core.rs`).

mod connection;
pub mod core;
mod failover;
pub mod load;
pub mod record;
pub mod report;
mod requests;
pub mod usage;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use crate::consensus::protocols::ProtocolName;

use super::cluster::{self, Cluster, Interrupt};
use super::error::Error;
use super::output;
use record::{Outcome, Progress, Window};
use report::Row;
use usage::Usage;

/// How exactly interrupts are noticed and the end of a round is met.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);
/// A server that is silent for this long is given up: longer than its own answer `-TIMEOUT` takes.
const SILENCE_MS: u64 = 10_000;
/// The same while leaders are killed: clients that want to be served move on early.
const SILENCE_FAILOVER_MS: u64 = 250;

/// Arguments of `spaxos bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Nodes of the cluster to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=31))]
    nodes: u8,
    /// C: proposals outstanding at any time [default: 256; with --kill-leader 16]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: Option<u32>,
    /// K: connections that share them [default: 1; with --kill-leader 15]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: Option<u32>,
    /// Bytes of each value
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value: u32,
    /// Seconds to measure in each round
    #[arg(long, default_value = "6", value_parser = seconds)]
    secs: f64,
    /// Seconds to warm up before
    #[arg(long, default_value = "1.5", value_parser = seconds)]
    warm: f64,
    /// Rounds, each with a cluster of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Load this running cluster instead: its client addresses, separated by commas
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["kill_leader", "dir", "nodes", "election_ms"])]
    addr: Vec<SocketAddr>,
    /// Process ids of that cluster's servers on this machine, for CPU, memory and disk
    #[arg(long, value_delimiter = ',', requires = "addr")]
    pids: Vec<u32>,
    /// One JSON line per round instead of a table
    #[arg(long)]
    json: bool,
    /// Kill the leader with -9 under load, N times, and measure how long nobody is served
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "rounds")]
    kill_leader: Option<u32>,
    /// Where the nodes keep their data, in a directory that is removed afterwards
    #[arg(long, default_value = "./data/bench")]
    dir: PathBuf,
    /// The consensus protocol
    #[arg(long, default_value_t)]
    protocol: ProtocolName,
    /// T of the cluster to start, in ms
    #[arg(long, default_value_t = 300)]
    election_ms: u64,
}

/// A part of a cluster, measured alone.
#[derive(Subcommand, Debug)]
enum Part {
    /// The consensus cores alone: CPU per entry, without encoding, sockets, threads and disk
    Core(core::Arguments),
}

/// Measures and prints.
pub fn run(arguments: &Bench) -> Result<(), Error> {
    if let Some(Part::Core(arguments)) = &arguments.part {
        return core::run(arguments);
    }
    let interrupt = Interrupt::catch()?;
    if connections(arguments) > clients(arguments) {
        return Err(Error::Message(format!(
            "--connections {} needs at least as many --clients, not {}: each connection has at least one outstanding",
            connections(arguments),
            clients(arguments)
        )));
    }
    match arguments.kill_leader {
        Some(kills) => run_failover(arguments, kills, &interrupt),
        None => run_rounds(arguments, &interrupt),
    }
}

fn run_rounds(arguments: &Bench, interrupt: &Interrupt) -> Result<(), Error> {
    let mut rows = Vec::new();
    for round in 1..=arguments.rounds {
        let name = format!("round {round} of {}", arguments.rounds);
        let row = if arguments.addr.is_empty() {
            let own = OwnCluster::start(arguments, interrupt)?;
            let leader = own.cluster.nodes()[own.leader].client;
            measure(arguments, leader, &own.cluster.pids(), &name, interrupt)?
        } else {
            let leader = find_leader(&arguments.addr)?;
            measure(arguments, leader, &arguments.pids, &name, interrupt)?
        };
        if arguments.json {
            output::print(&format!("{}\n", row.json()))?;
        }
        rows.push(row);
    }
    if !arguments.json {
        output::print(&report::table(&rows))?;
    }
    Ok(())
}

fn run_failover(arguments: &Bench, kills: u32, interrupt: &Interrupt) -> Result<(), Error> {
    if arguments.nodes < 3 {
        return Err(Error::Message(format!(
            "--kill-leader needs at least 3 --nodes, not {}: the others must be a majority",
            arguments.nodes
        )));
    }
    let mut own = OwnCluster::start(arguments, interrupt)?;
    let spec = load_spec(arguments, own.cluster.clients(), SILENCE_FAILOVER_MS);
    let (gaps_ms, outcome) = failover::run(&mut own.cluster, &spec, kills, interrupt)?;
    let (median_ms, worst_ms) = failover::summarize(&gaps_ms);
    let gaps = failover::Gaps {
        label: format!("{}-kill-leader", label(arguments)),
        nodes: usize::from(arguments.nodes),
        c: spec.clients,
        conns: spec.connections,
        election_ms: arguments.election_ms,
        gaps_ms,
        median_ms,
        worst_ms,
        errors: outcome.error_count(),
    };
    let text = if arguments.json {
        let json = serde_json::to_string(&gaps).map_err(|error| Error::Message(error.to_string()))?;
        format!("{json}\n")
    } else {
        gaps.table()
    };
    output::print(&text)
}

/// One round: warm up, sample, wait, sample.
fn measure(
    arguments: &Bench,
    leader: SocketAddr,
    pids: &[u32],
    name: &str,
    interrupt: &Interrupt,
) -> Result<Row, Error> {
    let spec = load_spec(arguments, vec![leader], SILENCE_MS);
    let progress = Progress::default();
    let start = Instant::now() + Duration::from_secs_f64(arguments.warm);
    let window = Window { start, stop: start + Duration::from_secs_f64(arguments.secs) };
    let row = Row {
        label: label(arguments),
        nodes: if arguments.addr.is_empty() { usize::from(arguments.nodes) } else { arguments.addr.len() },
        c: spec.clients,
        conns: spec.connections,
        value: spec.value_bytes,
        secs: arguments.secs,
        ..Row::default()
    };
    let (outcome, used) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&spec, window, &progress));
        let used = watch(window, pids, name, &progress, interrupt);
        progress.stop.store(true, Ordering::Relaxed);
        let outcome = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Error>((outcome.map_err(Error::io("run the load"))?, used?))
    })?;
    report_errors(&outcome);
    if outcome.latencies_us.is_empty() {
        let why = outcome.first_error.as_deref().unwrap_or("no answer came");
        return Err(Error::Message(format!("not one proposal was chosen at {leader}: {why}")));
    }
    let gap_ms = report::round(progress.longest_gap_us.load(Ordering::Relaxed) as f64 / 1e3, 1);
    let srv_rss_mib = pids.iter().map(|pid| usage::resident_mib(*pid)).collect();
    Ok(Row { gap_ms, srv_rss_mib, ..row }.with(&outcome, &used))
}

/// Watches a load through its window, and prints a line a second on standard error. Returns what was used in
/// it.
fn watch(
    window: Window,
    pids: &[u32],
    name: &str,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<Usage, Error> {
    sleep_until(window.start, name, progress, interrupt)?;
    progress.longest_gap_us.store(0, Ordering::Relaxed);
    let before = Usage::now(pids);
    sleep_until(window.stop, name, progress, interrupt)?;
    Ok(Usage::now(pids).since(&before))
}

fn sleep_until(end: Instant, name: &str, progress: &Progress, interrupt: &Interrupt) -> Result<(), Error> {
    let (mut printed, mut counted) = (Instant::now(), progress.answered.load(Ordering::Relaxed));
    loop {
        let now = Instant::now();
        if interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        if now.duration_since(printed) >= Duration::from_secs(1) {
            let answered = progress.answered.load(Ordering::Relaxed);
            let rate = (answered - counted) as f64 / now.duration_since(printed).as_secs_f64();
            let errors = progress.errors.load(Ordering::Relaxed);
            output::tell(&format!("{name}: {rate:.0} ops/s, {answered} so far, {errors} errors"));
            (printed, counted) = (now, answered);
        }
        if now >= end {
            return Ok(());
        }
        sleep(WATCH_INTERVAL.min(end - now));
    }
}

fn report_errors(outcome: &Outcome) {
    if let Some(first) = &outcome.first_error {
        let kinds: Vec<String> =
            outcome.errors.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        output::tell(&format!("errors: {}; the first: {first}", kinds.join(", ")));
    }
}

/// The client address of the leader of a running cluster.
fn find_leader(addresses: &[SocketAddr]) -> Result<SocketAddr, Error> {
    let named = addresses.iter().find_map(|address| cluster::leader(*address));
    match named {
        Some((_, Some(address))) => Ok(address),
        Some((id, None)) => {
            Err(Error::Message(format!("node {id} leads, but nobody knows its client address yet")))
        }
        None => {
            let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
            let list = list.join(", ");
            Err(Error::Message(format!(
                "none of {list} names a leader: is a majority of the cluster running?"
            )))
        }
    }
}

/// A cluster with a leader, in a directory that is removed with it.
struct OwnCluster {
    cluster: Cluster,
    leader: usize,
    /// Declared last: the nodes end before their data is removed.
    _dir: OwnDirectory,
}

impl OwnCluster {
    fn start(arguments: &Bench, interrupt: &Interrupt) -> Result<OwnCluster, Error> {
        let dir = OwnDirectory::create(&arguments.dir)?;
        let spec = cluster::Spec {
            dir: dir.0.clone(),
            nodes: usize::from(arguments.nodes),
            name: "bench",
            protocol: arguments.protocol,
            election_ms: arguments.election_ms,
        };
        let mut cluster = Cluster::start(&spec, interrupt.clone())?;
        let leader = cluster.wait_for_leader()?;
        Ok(OwnCluster { cluster, leader, _dir: dir })
    }
}

/// A new directory, removed when dropped.
struct OwnDirectory(PathBuf);

impl OwnDirectory {
    fn create(parent: &Path) -> Result<OwnDirectory, Error> {
        fs::create_dir_all(parent).map_err(Error::io(format!("create {}", parent.display())))?;
        let number = getrandom::u32().map_err(|error| Error::Message(error.to_string()))?;
        let dir = parent.join(format!("run-{number:08x}"));
        fs::create_dir(&dir).map_err(Error::io(format!("create {}", dir.display())))?;
        Ok(OwnDirectory(dir))
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            output::tell(&format!("cannot remove {}: {error}; remove it yourself", self.0.display()));
        }
    }
}

fn load_spec(arguments: &Bench, servers: Vec<SocketAddr>, silence_ms: u64) -> load::Spec {
    load::Spec {
        servers,
        clients: clients(arguments) as usize,
        connections: connections(arguments) as usize,
        value_bytes: arguments.value as usize,
        silence_ms,
    }
}

fn clients(arguments: &Bench) -> u32 {
    arguments.clients.unwrap_or(if arguments.kill_leader.is_some() { 16 } else { 256 })
}

fn connections(arguments: &Bench) -> u32 {
    arguments.connections.unwrap_or(if arguments.kill_leader.is_some() {
        clients(arguments).min(15)
    } else {
        1
    })
}

fn label(arguments: &Bench) -> String {
    if arguments.addr.is_empty() {
        format!("spaxos-{}-{}", arguments.protocol, arguments.nodes)
    } else {
        "spaxos".to_string()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(secs) if (0.1..=86_400.0).contains(&secs) => Ok(secs),
        _ => Err("give seconds from 0.1 to 86400".to_string()),
    }
}
