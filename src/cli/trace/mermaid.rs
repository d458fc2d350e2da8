//! A trace as a Mermaid sequence diagram, which many Markdown viewers draw.
//!
//! An arrow of such a diagram has no length in time: a message is shown where it arrives, or where it is
//! lost. What is sent before a write (it promises nothing) has a solid line, what waited for a write a dotted
//! one. What is known from arrows is left out: sending, queueing, the beginning of writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use thiserror::Error;

use crate::consensus::types::{NodeId, RequestId};
use crate::sim::trace::{Trace, TraceEvent, What};

/// Nobody reads more, and viewers refuse long texts.
pub const MAX_ARROWS: usize = 500;

/// A longer text is cut at this length.
const MAX_CHARS: usize = 160;

/// Why there is no diagram.
#[derive(Debug, Error)]
pub enum MermaidError {
    /// More arrows than [`MAX_ARROWS`].
    #[error(
        "{arrows} arrows are too many for a sequence diagram (at most {MAX_ARROWS}): choose a part of steps {first} to \
         {last} with --from and --to, or use --html"
    )]
    TooMany {
        /// How many there would be.
        arrows: usize,
        /// The first step of the choice that has an event.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// No event is in the choice.
    #[error("no event is in these steps: the trace has steps {first} to {last}")]
    Nothing {
        /// The first step of the trace.
        first: u64,
        /// The last one.
        last: u64,
    },
}

/// The events of these steps as a diagram.
pub fn diagram(trace: &Trace, steps: &RangeInclusive<u64>) -> Result<String, MermaidError> {
    let chosen: Vec<&TraceEvent> = trace.events.iter().filter(|event| steps.contains(&event.step)).collect();
    let ends = |events: &mut dyn Iterator<Item = u64>| {
        events.fold((u64::MAX, 0), |(first, last), step| (first.min(step), last.max(step)))
    };
    if chosen.is_empty() {
        let (first, last) = ends(&mut trace.events.iter().map(|event| event.step));
        return Err(MermaidError::Nothing { first: first.min(last), last });
    }
    let arrows = chosen.iter().filter(|event| is_arrow(&event.what)).count();
    if arrows > MAX_ARROWS {
        let (first, last) = ends(&mut chosen.iter().map(|event| event.step));
        return Err(MermaidError::TooMany { arrows, first, last });
    }
    let mut diagram = Diagram::new(trace, &chosen);
    diagram.head(&chosen);
    for event in &chosen {
        diagram.event(event);
    }
    diagram.under_way();
    Ok(diagram.out)
}

fn is_arrow(what: &What) -> bool {
    matches!(
        what,
        What::Received { .. } | What::Dropped { .. } | What::Proposed { .. } | What::Answered { .. }
    )
}

struct Diagram<'a> {
    trace: &'a Trace,
    out: String,
    /// All messages that were sent, in the chosen steps or before.
    sent: BTreeMap<u64, (NodeId, &'a What)>,
    /// Those sent in the chosen steps, without those that arrived or were lost.
    open: BTreeSet<u64>,
    arrived: BTreeSet<u64>,
    /// What is being written, by write.
    writing: BTreeMap<u64, &'a str>,
    /// Proposals whose answer from the same node is among the chosen events: the node is shown active for
    /// that long.
    active: BTreeSet<(u64, NodeId, RequestId)>,
    /// Steps and nodes where the core said something, where something was delivered.
    noted: BTreeSet<(u64, NodeId)>,
    delivered: BTreeSet<(u64, NodeId)>,
    at_us: Option<u64>,
}

impl<'a> Diagram<'a> {
    fn new(trace: &'a Trace, chosen: &[&'a TraceEvent]) -> Diagram<'a> {
        let mut diagram = Diagram {
            trace,
            out: String::new(),
            sent: BTreeMap::new(),
            open: BTreeSet::new(),
            arrived: BTreeSet::new(),
            writing: BTreeMap::new(),
            active: answered_proposals(chosen),
            noted: BTreeSet::new(),
            delivered: BTreeSet::new(),
            at_us: None,
        };
        for event in &trace.events {
            match &event.what {
                What::Sent { id, .. } => {
                    diagram.sent.insert(*id, (event.node, &event.what));
                }
                What::Writing { write, text, .. } => {
                    diagram.writing.insert(*write, text);
                }
                What::Noted { .. } => {
                    diagram.noted.insert((event.step, event.node));
                }
                What::Delivered { .. } => {
                    diagram.delivered.insert((event.step, event.node));
                }
                _ => {}
            }
        }
        diagram
    }

    /// The participants, in the order in which they stand.
    fn head(&mut self, chosen: &[&TraceEvent]) {
        self.out.push_str("sequenceDiagram\n");
        if chosen.iter().any(|event| matches!(event.what, What::Proposed { .. } | What::Answered { .. })) {
            self.out.push_str("    participant C as clients\n");
        }
        for node in 1..=self.trace.nodes {
            let _ = writeln!(self.out, "    participant N{node} as node {node}");
        }
    }

    fn event(&mut self, event: &TraceEvent) {
        let node = event.node;
        match &event.what {
            What::Sent { id, .. } => {
                self.open.insert(*id);
            }
            What::Received { id, from, name } => {
                let again = if self.arrived.insert(*id) { "" } else { " (again)" };
                self.open.remove(id);
                let (line, text) = self.message(*id).unwrap_or(("->>", name));
                let text = format!("{text}{again}");
                self.arrow(event.at_us, &format!("N{from}{line}N{node}"), &text);
            }
            What::Dropped { id, why } => {
                self.open.remove(id);
                let Some((from, What::Sent { to, early, .. })) = self.sent.get(id).copied() else { return };
                let line = if *early { "-x" } else { "--x" };
                let (_, text) = self.message(*id).unwrap_or(("", ""));
                let text = format!("{text} ({why})");
                self.arrow(event.at_us, &format!("N{from}{line}N{to}"), &text);
            }
            What::Proposed { client, request, text } => {
                let mark = if self.active.contains(&(*client, node, *request)) { "+" } else { "" };
                self.arrow(event.at_us, &format!("C->>{mark}N{node}"), &format!("client {client}: {text}"));
            }
            What::Answered { client, request, index, text } => {
                // Once: an activation ends once, however often the client is answered.
                let mark = if self.active.remove(&(*client, node, *request)) { "-" } else { "" };
                let answer = index.map_or(text.clone(), |index| format!("index {index}"));
                self.arrow(
                    event.at_us,
                    &format!("N{node}-->>{mark}C"),
                    &format!("client {client}: request {request}, {answer}"),
                );
            }
            what => {
                if let Some(note) = self.note(what, (event.step, node)) {
                    self.time(event.at_us);
                    let place = match node {
                        0 if self.trace.nodes == 1 => "over N1".to_string(),
                        0 => format!("over N1,N{}", self.trace.nodes),
                        node => format!("right of N{node}"),
                    };
                    let _ = writeln!(self.out, "    Note {place}: {}", escape(&note));
                }
            }
        }
    }

    /// What a person wants to know besides the arrows.
    fn note(&self, what: &What, turn: (u64, NodeId)) -> Option<String> {
        Some(match what {
            What::Durable { write, promised, chosen, .. } => {
                match self.writing.get(write).filter(|text| !text.is_empty()) {
                    Some(text) => format!("durable: {text}"),
                    None => format!("durable: promised={promised} chosen={chosen}"),
                }
            }
            // Other notes of the same turn say it better.
            What::Role { .. } if self.noted.contains(&turn) => return None,
            What::Chosen { .. } if self.delivered.contains(&turn) => return None,
            What::Role { role, ballot } if role != "follower" => format!("{role}, ballot {ballot}"),
            What::Chosen { index } => format!("chosen up to {index}"),
            What::Started { start: 1 } => return None,
            What::Sent { .. } | What::Queued { .. } | What::Writing { .. } | What::Role { .. } => {
                return None;
            }
            What::Duplicated { .. } => return None,
            what => what.to_string(),
        })
    }

    /// How a message is drawn, and its text.
    fn message(&self, id: u64) -> Option<(&'static str, &'a str)> {
        match self.sent.get(&id)?.1 {
            What::Sent { early, name, text, .. } => {
                let text = if text.is_empty() { name } else { text.as_str() };
                Some((if *early { "->>" } else { "-->>" }, text))
            }
            _ => None,
        }
    }

    fn arrow(&mut self, at_us: u64, arrow: &str, text: &str) {
        self.time(at_us);
        let _ = writeln!(self.out, "    {arrow}: {}", escape(text));
    }

    /// A comment wherever time goes on.
    fn time(&mut self, at_us: u64) {
        if self.at_us.replace(at_us) != Some(at_us) {
            let _ = writeln!(self.out, "    %% {}.{:03} ms", at_us / 1000, at_us % 1000);
        }
    }

    fn under_way(&mut self) {
        for id in std::mem::take(&mut self.open) {
            let Some((from, What::Sent { to, .. })) = self.sent.get(&id).copied() else { continue };
            let (_, text) = self.message(id).unwrap_or(("", ""));
            let _ = writeln!(self.out, "    %% still under way: {from} to {to}: {}", escape(text));
        }
    }
}

/// Client, node and request of proposals whose answer is also among these events.
fn answered_proposals(events: &[&TraceEvent]) -> BTreeSet<(u64, NodeId, RequestId)> {
    let (mut proposed, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for event in events {
        match event.what {
            What::Proposed { client, request, .. } => {
                proposed.insert((client, event.node, request));
            }
            What::Answered { client, request, .. } => {
                answered.extend(proposed.get(&(client, event.node, request)));
            }
            _ => {}
        }
    }
    answered
}

/// Text that Mermaid shows as it is: what means something to it (or to HTML) as `#number;`, and not too long.
/// A colon is rewritten only next to the words that make it mean something.
fn escape(text: &str) -> String {
    let colon_matters = ["style", "classDef", "wrap"].iter().any(|word| text.contains(word));
    let mut escaped = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == MAX_CHARS {
            escaped.push('…');
            break;
        }
        match character {
            '#' | ';' | '<' | '>' | '&' | '%' | '$' | '\\' | '`' => {
                let _ = write!(escaped, "#{};", u32::from(character));
            }
            ':' if colon_matters => escaped.push_str("#58;"),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}
