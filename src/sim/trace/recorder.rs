//! The recorder takes the events of a run: it hashes all of them and keeps the last ones, if any are wanted.

use std::collections::VecDeque;

use super::{FORMAT, Failure, Trace, TraceEvent, TraceHash, What};
use crate::consensus::types::NodeId;

/// The most events that are kept, of some 150 bytes each. When more happen, the oldest are dropped and
/// counted.
pub const MAX_EVENTS: usize = 1_000_000;

/// A longer text is cut at this length.
pub const MAX_TEXT_CHARS: usize = 1000;

/// Takes the events of one run.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    hash: TraceHash,
    keep: usize,
    skipped: u64,
    events: VecDeque<TraceEvent>,
}

impl Recorder {
    /// Keeps the last `keep` events, at most [`MAX_EVENTS`]; with 0 it only hashes.
    pub fn new(keep: usize) -> Recorder {
        Recorder { keep: keep.min(MAX_EVENTS), ..Recorder::default() }
    }

    /// An event's text: built only if events are kept, cut at [`MAX_TEXT_CHARS`].
    pub fn text(&self, build: impl FnOnce() -> String) -> String {
        if self.keep == 0 {
            return String::new();
        }
        let mut text = build();
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT_CHARS) {
            text.truncate(end);
            text.push('…');
        }
        text
    }

    /// Takes one event; its time is not before that of the last one.
    pub fn record(&mut self, at_us: u64, step: u64, node: NodeId, what: What) {
        self.hash.add(at_us, step, node, &what);
        if self.keep == 0 {
            self.skipped += 1;
            return;
        }
        let last_us = self.events.back().map_or(0, |event| event.at_us);
        assert!(at_us >= last_us, "an event at {at_us} us after one at {last_us} us");
        if self.events.len() == self.keep {
            self.events.pop_front();
            self.skipped += 1;
        }
        self.events.push_back(TraceEvent { at_us, step, node, what });
    }

    /// How many events happened, kept or not.
    pub fn count(&self) -> u64 {
        self.skipped + self.events.len() as u64
    }

    /// The hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }

    /// The events that are kept, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &TraceEvent> {
        self.events.iter()
    }

    /// The whole trace, for a file. A failure is taken from the last [`What::Violation`]; the caller fills in
    /// what a recorder does not know: version, seed, protocol, nodes, T and faults.
    pub fn into_trace(self) -> Trace {
        let failure = self.events.iter().rev().find_map(|event| match &event.what {
            What::Violation { invariant, text } => {
                Some(Failure { invariant: invariant.to_string(), text: text.clone() })
            }
            _ => None,
        });
        Trace {
            format: FORMAT,
            version: String::new(),
            seed: 0,
            protocol: String::new(),
            nodes: 0,
            election_ms: 0,
            faults: String::new(),
            hash: format!("{:016x}", self.hash.value()),
            skipped: self.skipped,
            failure,
            events: self.events.into(),
        }
    }
}
