//! Is the net tight? The patches in `tests/sabotage/` each bring back one bug that real implementations had;
//! `tests/sabotage/run.sh` builds each and demands that golden scripts or simulator find it. Here is what
//! that command runs, and what keeps the patches in step with the code: neither needs git or any other
//! program.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::num::NonZero;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState};
use spaxos::sim::{Plan, Violation, run};
use spaxos::store::engine::Engine;
use spaxos::store::memory::MemoryEngine;
use spaxos::store::{Binding, Change, Founding, OpenError, Recovered, Store, Write};

/// Every patch still applies, and says what it breaks, what should notice, and why it matters.
#[test]
fn patches_apply() {
    let patches = patches();
    assert!(patches.len() >= 24, "{} patches", patches.len());
    for path in patches {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a patch can be read");
        for field in ["Bug: ", "Caught by: ", "Matters: "] {
            assert!(text.lines().any(|line| line.starts_with(field)), "{name} has no line \"{field}\"");
        }
        let protocol = text.lines().find_map(|line| line.strip_prefix("Protocol: ")).unwrap_or("paxos");
        assert!(["paxos", "raft", "both"].contains(&protocol), "{name} is about {protocol}");
        if let Err(why) = applies(&text) {
            panic!("{name} does not apply: {why}. Make it again, or remove it with the code that it breaks");
        }
    }
}

/// The part of `run.sh` that hunts: what a person does to a stopped node's store, which no seed does, and
/// then seeds of all sizes of cluster until one breaks a rule. It prints `clean after N seeds`, or `found by
/// INVARIANT, seed S of N nodes, seeds needed: K` and both sides of the rule.
#[test]
#[ignore = "a part of tests/sabotage/run.sh, which says how many seeds"]
fn hunt() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = number("SABOTAGE_SEEDS").unwrap_or(200);
    let jobs =
        number("SABOTAGE_JOBS").or(thread::available_parallelism().ok().map(|it| NonZero::get(it) as u64));
    panic::set_hook(Box::new(|_| {}));
    if let Err(why) = bind_and_unbind() {
        println!("found by bindings by hand, seed 0 of 1 nodes, seeds needed: 1\n{why}");
        return;
    }
    match first_failure(&protocols(), seeds, jobs.unwrap_or(1)) {
        None => println!("clean after {seeds} seeds"),
        Some((Plan { protocol, seed, nodes, .. }, Violation { invariant, text })) => {
            println!(
                "found by {invariant}, seed {seed} of {nodes} nodes of {protocol}, seeds needed: {}\n{text}",
                seed + 1
            );
        }
    }
}

/// Binds a peer to one directory after the other, with an unbinding, a restart and a compaction in between.
fn bind_and_unbind() -> Result<(), Box<dyn Error>> {
    let engine = Arc::new(MemoryEngine::new());
    for directory in 1..=4 {
        for expected in [BTreeMap::from([(2, directory)]), BTreeMap::new()] {
            let (mut store, _) = open(&engine)?;
            if expected.is_empty() {
                store.unbind(2)?;
            } else {
                let bindings = &[Binding { node: 2, directory }];
                store.write(&Write { bindings, ..Write::default() })?;
            }
            let (index, ballot) = (store.hard_state().chosen + 1, Ballot { round: 1, node: 1 });
            let entry = Entry { index, ballot, command: Command::value(1, 1, "v") };
            let hard_state = Some(HardState { promised: ballot, chosen: index });
            store.write(&Write { changes: &[Change::Entries(&[entry])], hard_state, bindings: &[] })?;
            while directory % 2 == 0 && store.compact(index, 0)? {}
            drop(store);
            engine.reopen()?;
            let (_, Recovered { bindings, .. }) = open(&engine)?;
            if bindings != expected {
                return Err(format!("bound are {bindings:?} and not {expected:?}").into());
            }
        }
    }
    Ok(())
}

fn open(engine: &Arc<MemoryEngine>) -> Result<(Store, Recovered), OpenError> {
    let (cluster, protocol) = ("test".to_owned(), "paxos".to_owned());
    let members = [(1, "127.0.0.1:1".to_owned()), (2, "127.0.0.1:2".to_owned())].into();
    Store::open_on(engine.clone(), &Founding { cluster, node: 1, protocol, members, delivery_window: 1 }, 7)
}

/// What the patch is about, `paxos`, `raft` or `both`; with `both`, each seed is run under one and under the
/// other.
fn protocols() -> Vec<ProtocolName> {
    let wanted = std::env::var("SABOTAGE_PROTOCOL").unwrap_or_else(|_| "both".to_owned());
    match wanted.as_str() {
        "both" => ProtocolName::ALL.to_vec(),
        name => vec![name.parse().expect("paxos, raft or both")],
    }
}

/// Most clusters are of three. Some are of five, where a candidate hears of more than one other log, and some
/// are of an even number, where half is not a quorum.
fn plan(protocol: ProtocolName, seed: u64) -> Plan {
    let nodes = [3, 5, 3, 4, 3, 5, 3, 2][seed as usize % 8];
    Plan { protocol, nodes, ..Plan::new(seed) }
}

/// The lowest seed that breaks a rule, whatever the number of threads.
fn first_failure(protocols: &[ProtocolName], seeds: u64, jobs: u64) -> Option<(Plan, Violation)> {
    let (next, lowest) = (AtomicU64::new(0), Mutex::new(None::<(Plan, Violation)>));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let found = lowest.lock().unwrap().as_ref().map_or(seeds, |(plan, _)| plan.seed);
            if seed >= found {
                break;
            }
            let mut outcomes = protocols.iter().map(|protocol| run(&plan(*protocol, seed), 0));
            let failed = outcomes.find_map(|outcome| Some((outcome.plan, outcome.violation?)));
            let mut lowest = lowest.lock().unwrap();
            if failed.is_some() && lowest.as_ref().is_none_or(|(plan, _)| seed < plan.seed) {
                *lowest = failed;
            }
        }
    };
    thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(worker))));
    lowest.into_inner().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn patches() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("tests/sabotage")).expect("the folder of patches is there");
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let mut patches: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "patch")).collect();
    patches.sort();
    patches
}

/// Whether what a unified diff takes for the old text of each hunk is still in its file, to the letter; lines
/// may have moved.
fn applies(patch: &str) -> Result<(), String> {
    let (mut file, mut hunks) = (None, 0);
    let mut lines = patch.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("--- a/") {
            let text = fs::read_to_string(root().join(name)).map_err(|error| format!("{name}: {error}"))?;
            file = Some((name, text));
        }
        if !line.starts_with("@@ ") {
            continue;
        }
        let (name, text) = file.as_ref().ok_or("a hunk of no file")?;
        let is_body = |line: &&str| line.starts_with([' ', '-', '+']) && !line.starts_with("--- ");
        let mut old = Vec::new();
        while let Some(line) = lines.next_if(is_body) {
            old.extend(line.strip_prefix([' ', '-']));
        }
        if !text.lines().collect::<Vec<_>>().windows(old.len()).any(|there| there == old) {
            return Err(format!("{name} has no such text any more: {line}"));
        }
        hunks += 1;
    }
    if hunks == 0 { Err("it changes nothing".into()) } else { Ok(()) }
}
