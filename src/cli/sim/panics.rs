//! Panics inside simulated runs: they are results, so they do not go to the terminal, and where they came
//! from is kept.

use std::cell::{Cell, RefCell};

use crate::sim::{Outcome, Plan};

thread_local! {
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic of a thread that is within [`run`] is only noted; all others are printed as before.
pub fn install() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if SIMULATES.get() {
            PLACE.set(info.location().map(|place| format!("{}:{}", place.file(), place.line())));
        } else {
            previous(info);
        }
    }));
}

/// As `sim::run`, with the place (`file:line`) where a rule or an assertion was found broken.
pub fn run(plan: &Plan, keep: usize) -> (Outcome, Option<String>) {
    PLACE.take();
    SIMULATES.set(true);
    let outcome = crate::sim::run(plan, keep);
    SIMULATES.set(false);
    (outcome, PLACE.take())
}
