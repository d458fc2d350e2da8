//! Which seeds a test runs over, and the line that repeats one that fails.

use std::env;
use std::ops::Range;

/// Runs a test with each seed of a range, or with those that the environment names: `SEEDS=20000` runs that
/// many, `FIRST=500` begins elsewhere, `SEED=7` runs this one alone. When a seed fails, the command that
/// repeats it is printed.
///
/// Returns whether those were at least as many seeds as the range has: fewer may reach little, and what they
/// reach together then says nothing.
pub fn each_seed(seeds: Range<u64>, mut test: impl FnMut(u64)) -> bool {
    let count = number("SEEDS").unwrap_or(seeds.end - seeds.start);
    let first = number("FIRST").unwrap_or(seeds.start);
    let chosen = only_seed().map_or(first..first + count, |seed| seed..seed + 1);
    for seed in chosen.clone() {
        let _named = Named(seed);
        test(seed);
    }
    chosen.end - chosen.start >= seeds.end - seeds.start
}

/// The seed that runs alone: somebody wants to see what it does.
pub fn only_seed() -> Option<u64> {
    number("SEED")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// A seed that runs. If it ends by a panic, it names the command that repeats it.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            // A test has a thread of its name, unless all of them share one.
            let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
            let (seed, program) = (self.0, env!("CARGO_CRATE_NAME"));
            eprintln!("to repeat it: SEED={seed} cargo test --test {program} {test} -- --nocapture");
        }
    }
}
