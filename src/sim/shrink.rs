//! Makes a failing plan smaller, by delta debugging ("Simplifying and Isolating Failure-Inducing Input",
//! Zeller and Hildebrandt, 2002) over what a plan is made of: nodes, classes of faults, clients, single
//! faults, steps.
//!
//! The seed stays. Faults keep what they were drawn as when others are taken away (`world/chaos.rs`), so most
//! of what made a run fail is still there in a smaller one.

use super::faults::Faults;
use super::plan::Plan;
use super::run::Outcome;

/// Everything is tried at most this often: one thing that goes may let another go.
const ROUNDS: usize = 4;

/// Returns the outcome of the smallest plan found. `attempt` runs a plan and returns its outcome if that
/// fails for the same reason; when there is no time left it returns `None`.
pub fn shrink(failed: Outcome, attempt: impl FnMut(&Plan) -> Option<Outcome>) -> Outcome {
    let most_events = failed.plan.events;
    let mut shrink = Shrink { best: failed, most_events, attempt };
    shrink.settle();
    shrink.fewer_nodes();
    for _ in 0..ROUNDS {
        let before = shrink.best.plan.clone();
        shrink.quieter();
        shrink.fewer_clients();
        shrink.fewer_faults();
        shrink.fewer_events();
        if shrink.best.plan == before {
            break;
        }
    }
    shrink.best
}

struct Shrink<F> {
    best: Outcome,
    most_events: u64,
    attempt: F,
}

impl<F: FnMut(&Plan) -> Option<Outcome>> Shrink<F> {
    /// Tries the best plan with a change. Returns whether that fails as well, and is the best from now on.
    fn attempt(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        self.attempt_within(u64::MAX, change)
    }

    /// The same, if it takes no more steps than these.
    fn attempt_within(&mut self, most_steps: u64, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.plan.clone();
        change(&mut plan);
        if plan == self.best.plan {
            return false;
        }
        let outcome = (self.attempt)(&plan).filter(|outcome| outcome.steps <= most_steps);
        let Some(outcome) = outcome else { return false };
        self.best = outcome;
        self.settle();
        true
    }

    /// Writes into the plan what the run was, without what it never reached. It is still the same run.
    fn settle(&mut self) {
        let Outcome { plan, faults, steps, withheld, .. } = &mut self.best;
        plan.faults = Some(faults.clone());
        plan.events = plan.events.min(*steps);
        plan.without = withheld.clone();
    }

    fn fewer_nodes(&mut self) {
        let events = self.most_events;
        for nodes in 1..self.best.plan.nodes {
            if self.attempt(|plan| (plan.nodes, plan.events) = (nodes, events)) {
                return;
            }
        }
    }

    /// Takes away whole classes of faults, and makes delays what they are without any.
    fn quieter(&mut self) {
        let events = self.most_events;
        for name in Faults::names() {
            let quieter = self.best.faults.without(&name);
            if quieter == self.best.faults || quieter.check().is_err() {
                continue;
            }
            self.attempt(|plan| (plan.faults, plan.events) = (Some(quieter), events));
        }
    }

    fn fewer_clients(&mut self) {
        let events = self.most_events;
        for clients in 1..=5 {
            if self.best.plan.clients.is_some_and(|now| now <= clients) {
                return;
            }
            if self.attempt(|plan| (plan.clients, plan.events) = (Some(clients), events)) {
                return;
            }
        }
    }

    /// Takes away single faults: half of them first, then smaller parts, later ones first.
    fn fewer_faults(&mut self) {
        let events = self.most_events.min(2 * self.best.steps);
        let mut size = self.best.happened.len().div_ceil(2);
        while size > 0 {
            let mut end = self.best.happened.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let part = self.best.happened[start..end].to_vec();
                self.attempt(|plan| {
                    plan.without.extend(part);
                    plan.events = events;
                });
                end = start.min(self.best.happened.len());
            }
            size /= 2;
        }
    }

    /// Makes faults end earlier: much earlier if that still fails, then by halves of what is left to try.
    fn fewer_events(&mut self) {
        for part in [16, 8, 4, 2] {
            let events = (self.best.plan.events / part).max(1);
            if self.attempt_within(self.best.steps, |plan| plan.events = events) {
                break;
            }
        }
        let mut low = 1;
        while low < self.best.plan.events {
            let middle = low + (self.best.plan.events - low) / 2;
            if !self.attempt_within(self.best.steps, |plan| plan.events = middle) {
                low = middle + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sim::plan::{Class, FaultId};
    use crate::sim::run::run;

    const NEEDED: [FaultId; 2] =
        [FaultId { class: Class::Partition, number: 3 }, FaultId { class: Class::Crash, number: 17 }];

    /// A run as it would be if up to 10 partitions and 40 crashes came, one of each every 100 steps, and two
    /// of them broke a rule between at least two nodes.
    fn pretend(plan: &Plan) -> Option<Outcome> {
        let faults = plan.faults.clone().unwrap_or_default();
        let of = |class, every_ms, most: u64| {
            (1..=most).filter(move |_| every_ms > 0).map(move |number| FaultId { class, number })
        };
        let partitions = of(Class::Partition, faults.partition_every_ms, 10.min(plan.events / 100));
        let all: BTreeSet<_> =
            partitions.chain(of(Class::Crash, faults.crash_every_ms, 40.min(plan.events / 100))).collect();
        let happened: Vec<_> = all.difference(&plan.without).copied().collect();
        let fails = plan.nodes >= 2 && NEEDED.iter().all(|needed| happened.contains(needed));
        let empty = run(&Plan { nodes: 1, events: 1, ..Plan::new(1) }, 0);
        let withheld = all.intersection(&plan.without).copied().collect();
        fails.then(|| Outcome {
            plan: plan.clone(),
            faults,
            steps: plan.events.min(5000),
            happened,
            withheld,
            ..empty
        })
    }

    /// What is left is what the failure needs, and nothing else.
    #[test]
    fn only_what_is_needed_is_left() {
        let faults = Faults { partition_every_ms: 10, crash_every_ms: 10, loss_percent: 3, ..Faults::none() };
        let found =
            pretend(&Plan { nodes: 5, faults: Some(faults), ..Plan::new(1) }).expect("it fails as it is");
        assert_eq!((found.happened.len(), found.plan.events), (50, 20_000));
        let mut attempts = 0;
        let smallest = shrink(found, |plan| {
            attempts += 1;
            pretend(plan)
        });
        assert_eq!(smallest.happened, NEEDED, "{}", smallest.plan);
        assert_eq!((smallest.plan.nodes, smallest.plan.clients), (2, Some(1)), "{}", smallest.plan);
        assert_eq!(smallest.plan.events, 1700, "{}", smallest.plan);
        assert_eq!(smallest.faults.loss_percent, 0, "{}", smallest.plan);
        assert!(attempts < 200, "{attempts} attempts");
    }

    /// Without time to try anything the case is as it was, written out.
    #[test]
    fn nothing_is_lost_when_there_is_no_time() {
        let found = run(&Plan { events: 500, ..Plan::new(4) }, 0);
        let (hash, steps) = (found.hash, found.steps);
        let settled = shrink(found, |_| None);
        assert!(settled.plan.faults.is_some(), "{}", settled.plan);
        let again = run(&settled.plan, 0);
        assert_eq!((again.hash, again.steps), (hash, steps), "{}", settled.plan);
    }
}
