//! All states of a small cluster.

#[path = "exhaustive/node.rs"]
mod node;
#[path = "exhaustive/search.rs"]
mod search;
#[path = "exhaustive/space.rs"]
mod space;

use space::{Bounds, Clients};

#[test]
fn explore() {
    let n = |name: &str, d: u64| std::env::var(name).ok().map_or(d, |t| t.parse().unwrap());
    let bounds = Bounds {
        rounds: n("R", n("C", 2)),
        campaigns: n("C", 2) as u8,
        campaigns_each: n("E", 1) as u8,
        campaigners: n("K", n("C", 2)),
        jumps: n("J", 0) > 0,
        proposals: n("P", 1) as u8,
        crashes: n("X", 0) as u8,
        repeats: n("REP", 0) > 0,
        clients: [Clients::First, Clients::AtLeaders, Clients::Anywhere][n("W", 0) as usize],
        separate_writes: n("SEP", 0) > 0,
    };
    let report = search::search(bounds);
    println!(
        "{:?}\nstates {} generated {} depth {} parts {:?} time {:?}\n{:?}",
        report.bounds,
        report.states,
        report.generated,
        report.depth,
        report.parts,
        report.time,
        report.reached
    );
    if let Some(b) = report.broken {
        println!("{b}");
        panic!();
    }
}
