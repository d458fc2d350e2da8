//! A seed that failed, for a person: the rule, both sides, what happened before it, and the line that repeats
//! it.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use super::panics;
use crate::cli::cluster::Interrupt;
use crate::cli::output;
use crate::consensus::types::NodeId;
use crate::sim::trace::{TraceEvent, What};
use crate::sim::{FaultId, Invariant, Outcome, Plan, Violation, shrink};

/// How many steps before the end are shown.
const SHOWN_STEPS: usize = 30;
/// How many events of them at most.
const SHOWN_EVENTS: usize = 80;
/// How many events are kept to choose from.
const KEPT_EVENTS: usize = 5000;
/// More faults are only counted.
const SHOWN_FAULTS: usize = 10;
/// A longer line is cut at this length.
const LINE_CHARS: usize = 240;
/// So is a longer text of a rule.
const TEXT_CHARS: usize = 4000;

/// How a seed failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A rule was broken, at `file:line`.
    Broken {
        /// Which.
        violation: Violation,
        /// Where it was found.
        place: Option<String>,
    },
    /// It had a different result when it was run again.
    NotRepeated {
        /// The first result.
        first: String,
        /// The second one.
        second: String,
    },
}

impl Failure {
    /// In a line.
    pub fn summary(&self, seed: u64) -> String {
        match self {
            Failure::Broken { violation, .. } => format!("seed {seed} broke a rule: {}", violation.invariant),
            Failure::NotRepeated { .. } => format!("seed {seed} does not repeat"),
        }
    }

    /// Both sides, and the place.
    pub fn text(&self) -> String {
        match self {
            Failure::Broken { violation, place: Some(place) } => {
                format!("{}\n(found at {place})", violation.text.trim_end())
            }
            Failure::Broken { violation, place: None } => violation.text.trim_end().to_owned(),
            Failure::NotRepeated { first, second } => format!("first {first}, then {second}"),
        }
    }

    /// Whether another run failed for the same reason: the same rule, or the same assertion.
    fn is_same(&self, violation: &Violation, at: &Option<String>) -> bool {
        match self {
            Failure::Broken { violation: own, place } => {
                own.invariant == violation.invariant && (own.invariant != Invariant::Assertion || place == at)
            }
            Failure::NotRepeated { .. } => false,
        }
    }
}

/// The whole story. A run that broke a rule is made smaller first, for at most this long.
pub fn tell(plan: &Plan, failure: &Failure, within: Duration, interrupt: &Interrupt) -> String {
    let mut text = format!("\n{}\n\n", failure.summary(plan.seed));
    let result = match failure {
        Failure::NotRepeated { .. } => {
            writeln!(text, "{}\n\nTo see it again:\n  spaxos sim {plan} --check-repeat", failure.text())
        }
        Failure::Broken { violation, .. } => {
            let smaller = make_smaller(plan, failure, within, interrupt);
            tell_broken(&mut text, &smaller, violation.invariant)
                .and_then(|()| writeln!(text, "As it was found:\n  spaxos sim {plan}"))
        }
    };
    result.expect("a string takes all that is written into it");
    text
}

/// The smallest run that fails for the same reason, and what was gained.
struct Smaller {
    failure: Failure,
    outcome: Outcome,
    /// `None`: the run did not fail again.
    gain: Option<String>,
}

fn tell_broken(text: &mut String, smaller: &Smaller, invariant: Invariant) -> fmt::Result {
    let Smaller { failure, outcome, gain } = smaller;
    writeln!(text, "{invariant}: {}\n\n{}\n", invariant.prose(), cut(&failure.text(), TEXT_CHARS))?;
    let Some(gain) = gain else {
        return writeln!(text, "The same seed did not fail again: please report it.");
    };
    tell_events(text, outcome, &failure.text())?;
    writeln!(text, "\n{gain}\nTo see it again (--trace FILE writes it for `spaxos trace`):")?;
    writeln!(text, "  spaxos sim {}", outcome.plan)
}

fn make_smaller(plan: &Plan, failure: &Failure, within: Duration, interrupt: &Interrupt) -> Smaller {
    let (began, mut tried) = (Instant::now(), 0);
    let found = panics::run(plan, 0).0;
    let before = (found.steps, found.plan.nodes, found.happened.len());
    if !within.is_zero() {
        output::tell(&format!(
            "{}: making it smaller, for at most {} s",
            failure.summary(plan.seed),
            within.as_secs()
        ));
    }
    let smallest = shrink(found, |plan| {
        if began.elapsed() >= within || interrupt.is_set() {
            return None;
        }
        tried += 1;
        let (outcome, place) = panics::run(plan, 0);
        let same = outcome.violation.as_ref().is_some_and(|violation| failure.is_same(violation, &place));
        same.then_some(outcome)
    });
    let (outcome, place) = panics::run(&smallest.plan, KEPT_EVENTS);
    let violation = outcome.violation.clone().filter(|it| failure.is_same(it, &place));
    let gain = format!(
        "Made smaller in {tried} runs: steps {} (of {}), nodes {} (of {}), faults {} (of {}){}",
        outcome.steps,
        before.0,
        outcome.plan.nodes,
        before.1,
        outcome.happened.len(),
        before.2,
        names(&outcome.happened)
    );
    match violation {
        Some(violation) => {
            Smaller { failure: Failure::Broken { violation, place }, outcome, gain: Some(gain) }
        }
        None => Smaller { failure: failure.clone(), outcome, gain: None },
    }
}

/// `: crash.3, pause.1`, if they are few.
fn names(faults: &[FaultId]) -> String {
    let names: Vec<_> = faults.iter().map(FaultId::to_string).collect();
    if (1..=SHOWN_FAULTS).contains(&names.len()) { format!(": {}", names.join(", ")) } else { String::new() }
}

/// The last steps, of the nodes that the text names if it names some.
fn tell_events(text: &mut String, outcome: &Outcome, violation: &str) -> fmt::Result {
    let concerned = nodes_in(violation);
    let all = concerned.is_empty() || concerned.len() as u64 == outcome.plan.nodes;
    let is_shown = |event: &&TraceEvent| {
        let is_violation = matches!(event.what, What::Violation { .. });
        !is_violation && (all || event.node == 0 || concerned.contains(&event.node))
    };
    let mut steps = BTreeSet::new();
    let last = outcome.recorder.events().rev().filter(is_shown).take_while(|event| {
        steps.insert(event.step);
        steps.len() <= SHOWN_STEPS
    });
    let mut last: Vec<_> = last.take(SHOWN_EVENTS).collect();
    last.reverse();
    let names: Vec<_> = concerned.iter().map(NodeId::to_string).collect();
    let whose = if all { String::new() } else { format!(" of node {}", names.join(" and ")) };
    writeln!(text, "The last steps{whose} before it:\n")?;
    last.into_iter().try_for_each(|event| writeln!(text, "{}", cut(&event.to_string(), LINE_CHARS)))
}

/// The nodes that a text names as `node 3`.
fn nodes_in(text: &str) -> BTreeSet<NodeId> {
    let after = text.split("node ").skip(1);
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    after.filter_map(|rest| digits(rest).parse().ok()).collect()
}

fn cut(text: &str, most_chars: usize) -> String {
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assertion(place: &str) -> Failure {
        let violation = Violation { invariant: Invariant::Assertion, text: "1 is 2".to_owned() };
        Failure::Broken { violation, place: Some(place.to_owned()) }
    }

    /// Another assertion is another failure; another text of the same rule is not.
    #[test]
    fn failures_are_told_apart() {
        let Failure::Broken { violation, place } = assertion("src/a.rs:1") else { unreachable!() };
        assert!(assertion("src/a.rs:1").is_same(&violation, &place));
        assert!(!assertion("src/a.rs:2").is_same(&violation, &place));
        let agreement = |text: &str| Violation { invariant: Invariant::Agreement, text: text.to_owned() };
        let found = Failure::Broken { violation: agreement("node 1"), place: None };
        assert!(found.is_same(&agreement("node 2"), &place) && !found.is_same(&violation, &place));
    }

    /// What a person reads: the rule, both sides, the place, the last steps of the nodes it names, and the
    /// line.
    #[test]
    fn a_failure_is_told_in_full() {
        let plan = Plan { events: 300, ..Plan::new(2) };
        let violation =
            Violation { invariant: Invariant::Promise, text: "node 2: from 3.1 to 2.1".to_owned() };
        let failure = Failure::Broken { violation, place: Some("src/sim/checker.rs:7".to_owned()) };
        let outcome = crate::sim::run(&plan, KEPT_EVENTS);
        let mut text = String::new();
        let gain = Some("Made smaller".to_owned());
        tell_broken(&mut text, &Smaller { failure, outcome, gain }, Invariant::Promise).expect("a string");
        for words in
            [Invariant::Promise.prose(), "from 3.1 to 2.1", "checker.rs:7", "steps of node 2", "node 2: "]
        {
            assert!(text.contains(words), "{words:?} in {text}");
        }
        assert!(text.ends_with("\n  spaxos sim --seed 2 --nodes 3 --events 300\n"), "{text}");
        assert!(!text.contains("ms  node 1: ") && !text.contains("ms  node 3: "), "{text}");
        assert!(text.lines().count() < SHOWN_EVENTS + 12, "{text}");
    }

    /// A failure that does not come again is reported as one.
    #[test]
    fn a_failure_that_does_not_repeat_is_said_so() {
        let plan = Plan { events: 100, ..Plan::new(2) };
        let text = tell(&plan, &assertion("src/a.rs:1"), Duration::ZERO, &Interrupt::default());
        assert!(
            text.contains("did not fail again") && text.contains("--seed 2 --nodes 3 --events 100"),
            "{text}"
        );
    }
}
