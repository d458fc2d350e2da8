//! A run from its plan: faults, then the end of faults, after which what is left of the cluster must recover.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cluster::Cluster;
use super::counts::Counts;
use super::faults::Faults;
use super::invariant::Violation;
use super::plan::{FaultId, Plan};
use super::trace::{Recorder, What};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The plan that was run.
    pub plan: Plan,
    /// The faults it had, drawn from the seed if the plan names none.
    pub faults: Faults,
    /// The faults that began, in order of time.
    pub happened: Vec<FaultId>,
    /// Those that would have begun, had they not been taken away.
    pub withheld: BTreeSet<FaultId>,
    /// T of its cluster.
    pub election_ms: u64,
    /// How many steps it took, including those after the end of faults.
    pub steps: u64,
    /// How much virtual time passed.
    pub virtual_us: u64,
    /// How often each thing happened.
    pub counts: Counts,
    /// The hash of all events: the same plan has the same hash on every machine.
    pub hash: u64,
    /// The last events, as many as were asked for.
    pub recorder: Recorder,
    /// The rule that was broken, if one was.
    pub violation: Option<Violation>,
}

/// Runs a plan, and keeps the last `keep` events of its trace. A broken rule, or an assertion of the
/// production code, ends it; the panic behind it is caught here (a hook that prints panics prints it).
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
        happened: std::mem::take(&mut cluster.world.chaos.happened),
        withheld: std::mem::take(&mut cluster.world.chaos.withheld),
        election_ms: cluster.election_ms(),
        steps: cluster.steps(),
        virtual_us: cluster.now_us(),
        counts: cluster.counts(),
        hash: recorder.hash(),
        recorder,
        violation,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Class;
    use super::*;

    /// A fault that is taken away takes nothing else with it: until it would have come, the run is the same,
    /// and the faults after it come as they would have.
    #[test]
    fn a_fault_goes_alone() {
        let faults = Faults { crash_every_ms: 100, partition_every_ms: 70, ..Faults::none() };
        let plan = Plan { events: 4000, faults: Some(faults), ..Plan::new(3) };
        let whole = run(&plan, 1_000_000);
        let crashes = whole.happened.iter().filter(|fault| fault.class == Class::Crash).count() as u64;
        assert!(crashes > 1, "seed {} has {crashes} crashes", plan.seed);
        let mut changed = 0;
        for number in 1..=crashes {
            let gone = FaultId { class: Class::Crash, number };
            let without = run(&Plan { without: [gone].into(), ..plan.clone() }, 1_000_000);
            assert!(whole.happened.contains(&gone) && without.withheld == [gone].into());
            let rest = whole.happened.iter().filter(|fault| **fault != gone);
            let differ = rest.zip(&without.happened).find(|(one, other)| one != other);
            assert_eq!(differ, None, "the faults other than {gone}");
            // There is none if the node was already down.
            let mut pairs = whole.recorder.events().zip(without.recorder.events());
            if let Some((one, other)) = pairs.find(|(one, other)| one != other) {
                changed += 1;
                let one = one.to_string();
                assert!(one.contains("ends: killed"), "the first difference is {one}, and then {other}");
            }
        }
        assert!(changed > 0, "none of {crashes} crashes changes anything");
    }
}
