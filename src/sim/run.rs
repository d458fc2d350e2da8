//! A run from its plan: faults, then the end of faults, then what is left of the cluster must find together; and
//! how a failing run is made smaller.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cluster::Cluster;
use super::counts::Counts;
use super::faults::Faults;
use super::invariant::Violation;
use super::plan::{Class, FaultId, Plan};
use super::trace::{Recorder, What};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub plan: Plan,
    /// The faults it had, drawn from the seed if the plan names none.
    pub faults: Faults,
    /// T in it.
    pub election_ms: u64,
    /// How many steps it took, those after the end of faults included.
    pub steps: u64,
    /// How long it was for the nodes.
    pub virtual_us: u64,
    /// How often what happened.
    pub counts: Counts,
    /// Of all events: the same plan has the same one, on every machine.
    pub hash: u64,
    /// The events, as many as were to be kept.
    pub recorder: Recorder,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
}

/// Runs a plan, and keeps the last `keep` events of its trace. A broken rule, or an assertion of the production
/// code, ends it; the panic behind it is caught here (a hook that prints panics prints it).
pub fn run(plan: &Plan, keep: usize) -> Outcome {
    let mut cluster = Cluster::new(plan, keep);
    let faults = cluster.faults().clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        while cluster.steps() < plan.events {
            cluster.step();
        }
        cluster.heal();
        cluster.find_together();
    }));
    let violation = result.err().map(|payload| Violation::of_panic(&*payload));
    if let Some(Violation { invariant, text }) = &violation {
        let (at_us, step) = (cluster.now_us(), cluster.steps());
        let what = What::Violation { invariant: invariant.name().into(), text: text.clone() };
        cluster.recorder().record(at_us, step, 0, what);
    }
    let recorder = std::mem::take(cluster.recorder());
    Outcome {
        plan: plan.clone(),
        faults,
        election_ms: cluster.election_ms(),
        steps: cluster.steps(),
        virtual_us: cluster.now_us(),
        counts: cluster.counts(),
        hash: recorder.hash(),
        recorder,
        violation,
    }
}

/// Makes a failing plan smaller, as long as the same rule is broken: no more steps than it takes, whole classes of
/// faults away, then single ones. `go_on` is asked before each try.
pub fn shrink(failed: &Outcome, mut go_on: impl FnMut() -> bool) -> Outcome {
    let Some(violation) = &failed.violation else { panic!("a run that broke no rule is not made smaller") };
    let mut best = run(&Plan { faults: Some(failed.faults.clone()), ..failed.plan.clone() }, 0);
    let mut attempt = |best: &mut Outcome, plan: Plan| {
        if !go_on() {
            return false;
        }
        let outcome = run(&plan, 0);
        let same = outcome.violation.as_ref().is_some_and(|other| other.invariant == violation.invariant);
        if same && outcome.steps <= best.steps {
            *best = outcome;
        }
        same
    };
    let events = best.steps.min(best.plan.events);
    let plan = Plan { events, ..best.plan.clone() };
    attempt(&mut best, plan);
    for quiet in quieter(&failed.faults) {
        let mut faults = best.plan.faults.clone().unwrap_or_default();
        quiet(&mut faults);
        let plan =
            Plan { faults: Some(faults), events: best.steps.min(best.plan.events), ..best.plan.clone() };
        attempt(&mut best, plan);
    }
    // Single faults, the later ones first; numbers beyond what happened change nothing.
    for class in Class::ALL {
        for number in (1..=20).rev() {
            let mut plan = best.plan.clone();
            plan.events = best.steps.min(plan.events);
            if plan.without.insert(FaultId { class, number }) && has(class, &plan) {
                attempt(&mut best, plan);
            }
        }
    }
    best
}

fn has(class: Class, plan: &Plan) -> bool {
    plan.faults.as_ref().is_none_or(|faults| super::chaos::every_ms(faults, class) > 0)
}

type Quiet = fn(&mut Faults);

/// Ways to take a class of faults away.
fn quieter(_faults: &Faults) -> Vec<Quiet> {
    vec![
        |faults| faults.wipe_every_ms = 0,
        |faults| faults.bit_flip_every_ms = 0,
        |faults| faults.torn_write_every_ms = 0,
        |faults| faults.disk_full_every_ms = 0,
        |faults| faults.flush_fails_every_ms = 0,
        |faults| faults.write_fails_every_ms = 0,
        |faults| faults.hung_disk_every_ms = 0,
        |faults| faults.slow_disk_every_ms = 0,
        |faults| faults.drift_percent = 0,
        |faults| faults.pause_every_ms = 0,
        |faults| faults.crash_all_every_ms = 0,
        |faults| faults.crash_every_ms = 0,
        |faults| faults.partition_every_ms = 0,
        |faults| faults.late_percent = 0,
        |faults| faults.duplicate_percent = 0,
        |faults| faults.loss_percent = 0,
        |faults| faults.power_cut_percent = 0,
    ]
}
