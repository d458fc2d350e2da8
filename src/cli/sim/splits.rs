//! `spaxos sim --split`: how soon a cluster serves again after a partial split of its network.

use std::fmt::Write as _;
use std::ops::Range;
use std::thread;

use crate::consensus::protocols::ProtocolName;
use crate::sim::{Served, Split, split};

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

/// Runs the seeds of each split. Returns the table, and `Err` if a cluster served too late.
pub fn run(
    splits: &[Split],
    protocol: ProtocolName,
    nodes: u64,
    seeds: &Range<u64>,
    jobs: usize,
) -> (String, Result<(), String>) {
    let within_t = Served::limit_t(protocol);
    let mut text = format!(
        "{:<12} {:>6} {:>9} {:>9} {:>10} {:>7} {:>9}\n",
        "split", "seeds", "median T", "worst T", "elections", "cannot", "healed T"
    );
    let mut late = Ok(());
    for kind in splits {
        if nodes < 3 || nodes > kind.most_nodes() {
            let _ = writeln!(text, "{kind:<12} needs 3 to {} nodes", kind.most_nodes());
            continue;
        }
        let served = all(*kind, protocol, nodes, seeds, jobs);
        let _ = writeln!(text, "{kind:<12} {}", row(&served));
        if let Some((seed, it)) = served.iter().find(|it| !it.1.is_within(within_t)) {
            let after = it.after_t().map_or("did not serve again".to_owned(), |after_t| {
                format!("served again after {after_t:.2} T")
            });
            late = Err(format!(
                "{kind} of {nodes} nodes, seed {seed}: it {after}, the limit is {within_t} T; \
                 repeat it with --split {kind} --protocol {protocol} --nodes {nodes} --seed {seed}"
            ));
        }
    }
    (text, late)
}

/// A row of the table: the median and the worst of those that served while links were cut, how many could
/// not, and how late these served once the links were back.
fn row(served: &[(u64, Served)]) -> String {
    let sorted = |of: fn(&Served) -> Option<f64>| {
        let mut t: Vec<f64> = served.iter().filter_map(|(_, served)| of(served)).collect();
        t.sort_by(f64::total_cmp);
        t
    };
    let (after, healed) = (sorted(Served::after_t), sorted(Served::healed_t));
    let number = |t: Option<&f64>| t.map_or("-".to_owned(), |t| format!("{t:.2}"));
    let elections: u64 = served.iter().map(|it| it.1.elections).sum();
    format!(
        "{:>6} {:>9} {:>9} {elections:>10} {:>7} {:>9}",
        served.len(),
        number(after.get(after.len() / 2)),
        number(after.last()),
        served.len() - after.len(),
        number(healed.last())
    )
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
