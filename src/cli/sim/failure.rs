//! A seed that failed, for a person: the rule, both sides, what happened before it, and the line that repeats it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::panics;
use crate::cli::cluster::Interrupt;
use crate::consensus::types::NodeId;
use crate::sim::trace::{TraceEvent, What};
use crate::sim::{Invariant, Outcome, Plan, Violation, shrink};

/// So many steps before the end are shown.
const SHOWN_STEPS: usize = 30;
/// In them, so many events at most.
const SHOWN_EVENTS: usize = 80;
/// So many events are kept to choose from.
const KEPT_EVENTS: usize = 5000;

/// How a seed failed.
pub enum Failure {
    /// A rule was broken, at `file:line`.
    Broken {
        /// Which.
        violation: Violation,
        /// Where it was found.
        place: Option<String>,
    },
    /// It came to something else when it was run again.
    NotRepeated {
        /// What it came to first.
        first: String,
        /// What it came to then.
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
            Failure::Broken { violation, place: Some(place) } => format!("{} (at {place})", violation.text),
            Failure::Broken { violation, place: None } => violation.text.clone(),
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

/// The whole story. A broken rule is made smaller before, for at most so long.
pub fn tell(plan: &Plan, failure: &Failure, within: Duration, interrupt: &Interrupt) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{}", failure.summary(plan.seed));
    match failure {
        Failure::NotRepeated { .. } => {
            let _ = writeln!(
                text,
                "\n{}\n\nTo see it again:\n  spaxos sim {plan} --check-repeat",
                failure.text()
            );
        }
        Failure::Broken { violation, .. } => {
            let _ = writeln!(text, "\n{}: {}\n", violation.invariant, violation.invariant.prose());
            tell_smaller(&mut text, plan, failure, within, interrupt);
            let _ = writeln!(text, "  spaxos sim {plan}");
        }
    }
    text
}

fn tell_smaller(text: &mut String, plan: &Plan, failure: &Failure, within: Duration, interrupt: &Interrupt) {
    let (found, smaller) = make_smaller(plan, failure, within, interrupt);
    let (outcome, place) = panics::run(&smaller.plan, KEPT_EVENTS);
    let Some(violation) = outcome.violation.clone().filter(|it| failure.is_same(it, &place)) else {
        let _ = writeln!(text, "{}\n\nIt does not repeat. As it was found:", failure.text());
        return;
    };
    let shown = Failure::Broken { violation, place };
    let _ = writeln!(text, "{}\n", shown.text());
    let events: Vec<_> = outcome.recorder.events().collect();
    tell_events(text, &events, &shown.text());
    let _ = writeln!(
        text,
        "\nMade smaller: {} steps of {}, {} nodes of {}, {} faults of {}.",
        smaller.steps,
        found.steps,
        smaller.plan.nodes,
        found.plan.nodes,
        smaller.happened.len(),
        found.happened.len()
    );
    let _ = writeln!(
        text,
        "To see it again (with --trace FILE for `spaxos trace`), and as it was found:\n  spaxos sim {}",
        smaller.plan
    );
}

/// The run as it was found, and the smallest that fails for the same reason.
fn make_smaller(
    plan: &Plan,
    failure: &Failure,
    within: Duration,
    interrupt: &Interrupt,
) -> (Outcome, Outcome) {
    let until = Instant::now() + within;
    let found = panics::run(plan, 0).0;
    let smaller = shrink(panics::run(plan, 0).0, |plan| {
        if Instant::now() > until || interrupt.is_set() {
            return None;
        }
        let (outcome, place) = panics::run(plan, 0);
        let same = outcome.violation.as_ref().is_some_and(|violation| failure.is_same(violation, &place));
        same.then_some(outcome)
    });
    (found, smaller)
}

/// The last steps, of the nodes that the text names if it names some.
fn tell_events(text: &mut String, events: &[&TraceEvent], violation: &str) {
    let concerned = nodes_in(violation);
    let is_shown =
        |event: &&&TraceEvent| event.node == 0 || concerned.is_empty() || concerned.contains(&event.node);
    let mut steps = BTreeSet::new();
    let mut shown: Vec<_> = events
        .iter()
        .rev()
        .filter(is_shown)
        .filter(|event| !matches!(event.what, What::Violation { .. }))
        .take_while(|event| {
            steps.insert(event.step);
            steps.len() <= SHOWN_STEPS
        })
        .take(SHOWN_EVENTS)
        .collect();
    shown.reverse();
    let names: Vec<_> = concerned.iter().map(NodeId::to_string).collect();
    let whose = if names.is_empty() { String::new() } else { format!(" of node {}", names.join(" and ")) };
    let _ = writeln!(text, "The last steps{whose} before it:");
    for event in shown {
        let _ = writeln!(text, "{event}");
    }
}

/// The nodes that a text names as `node 3`.
fn nodes_in(text: &str) -> BTreeSet<NodeId> {
    let after = text.split("node ").skip(1);
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    after.filter_map(|rest| digits(rest).parse().ok()).collect()
}
