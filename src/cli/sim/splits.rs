//! `spaxos sim --split`: how soon a cluster serves again whose network is split in part.

use std::fmt::Write as _;
use std::ops::Range;
use std::thread;

use crate::consensus::config::ProtocolName;
use crate::sim::{Served, Split, split};

/// What the cluster keeps to: it serves again within so many T.
const WITHIN_T: f64 = 4.0;

/// `all`, or the name of a split.
pub fn parse(text: &str) -> Result<Vec<Split>, String> {
    let named = || Split::ALL.into_iter().find(|split| split.to_string() == text);
    match text {
        "all" => Ok(Split::ALL.to_vec()),
        _ => named().map(|split| vec![split]).ok_or_else(|| {
            let names: Vec<String> = Split::ALL.iter().map(Split::to_string).collect();
            format!("give all, or one of {}", names.join(", "))
        }),
    }
}

/// Runs the seeds of each split, and tells; `Err` if a cluster served too late.
pub fn run(
    splits: &[Split],
    protocol: ProtocolName,
    nodes: u64,
    seeds: &Range<u64>,
    jobs: usize,
) -> (String, Result<(), String>) {
    let mut text =
        format!("{:<12} {:>6} {:>9} {:>9} {:>10}\n", "split", "seeds", "median T", "worst T", "elections");
    let mut late = Ok(());
    for kind in splits {
        if nodes < 3 || nodes > kind.most_nodes() {
            let _ = writeln!(text, "{kind:<12} needs 3 to {} nodes", kind.most_nodes());
            continue;
        }
        let served = all(*kind, protocol, nodes, seeds, jobs);
        let mut after_t: Vec<f64> = served.iter().map(|it| it.1.after_t().unwrap_or(f64::INFINITY)).collect();
        after_t.sort_by(f64::total_cmp);
        let (median, worst) = (after_t[after_t.len() / 2], after_t[after_t.len() - 1]);
        let elections: u64 = served.iter().map(|it| it.1.elections).sum();
        let _ = writeln!(text, "{kind:<12} {:>6} {median:>9.2} {worst:>9.2} {elections:>10}", served.len());
        let broken = served.iter().find(|it| it.1.after_t().is_none_or(|after_t| after_t > WITHIN_T));
        if let Some((seed, it)) = broken {
            let after =
                it.after_t().map_or("not at all".to_owned(), |after_t| format!("after {after_t:.2} T"));
            late = Err(format!(
                "{kind} of {nodes} nodes, seed {seed}: it served again {after}, and {WITHIN_T} T are allowed; \
                 repeat it with --split {kind} --nodes {nodes} --seed {seed}"
            ));
        }
    }
    (text, late)
}

/// In the order of seeds, whatever the number of threads.
fn all(
    kind: Split,
    protocol: ProtocolName,
    nodes: u64,
    seeds: &Range<u64>,
    jobs: usize,
) -> Vec<(u64, Served)> {
    let jobs = jobs as u64;
    let part = |job: u64| {
        let seeds = seeds.clone().skip(job as usize).step_by(jobs as usize);
        seeds.map(|seed| (seed, split(seed, protocol, nodes, kind))).collect::<Vec<_>>()
    };
    let mut served: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|job| scope.spawn(move || part(job))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a run does not panic")).collect()
    });
    served.sort_by_key(|(seed, _)| *seed);
    served
}
