//! A trace as one HTML file: the page, its style, its script and the trace, so that it can be sent to
//! someone, kept, and opened without a network. Its content policy lets it load nothing from anywhere.
//!
//! `model.js` turns the events into arrows, writes and bands, `draw.js` draws what is visible of them with
//! the strokes of `pen.js`, `panel.js` is what is next to the picture, `ui.js` mouse and keys.

use std::io::{self, Write};

use serde::Serialize;

use crate::sim::trace::{Trace, What};

const PAGE: &str = include_str!("viewer.html");
const STYLE: &str = include_str!("viewer.css");
const SCRIPT: [&str; 5] = [
    include_str!("model.js"),
    include_str!("pen.js"),
    include_str!("draw.js"),
    include_str!("panel.js"),
    include_str!("ui.js"),
];

/// Writes the page of a trace.
pub fn write(trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    for (place, part) in PAGE.split("{{").enumerate() {
        let Some((name, text)) = part.split_once("}}").filter(|_| place > 0) else {
            out.write_all(part.as_bytes())?;
            continue;
        };
        match name {
            "title" => write!(out, "seed {}", trace.seed)?,
            "style" => out.write_all(STYLE.as_bytes())?,
            "script" => SCRIPT.iter().try_for_each(|script| out.write_all(script.as_bytes()))?,
            "trace" => write_trace(trace, out)?,
            name => unreachable!("viewer.html has no {name}"),
        }
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// The trace for the script: numbers that JavaScript cannot hold as text, and each event in words.
fn write_trace(trace: &Trace, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Head<'a> {
        version: &'a str,
        seed: String,
        nodes: u64,
        election_ms: u64,
        faults: &'a str,
        hash: &'a str,
        skipped: u64,
        failure: &'a Option<crate::sim::trace::Failure>,
    }
    #[derive(Serialize)]
    struct Event<'a> {
        at_us: u64,
        step: u64,
        node: u64,
        words: String,
        #[serde(flatten)]
        what: &'a What,
    }
    let Trace { version, nodes, election_ms, faults, hash, skipped, failure, .. } = trace;
    let seed = trace.seed.to_string();
    let (nodes, election_ms, skipped) = (*nodes, *election_ms, *skipped);
    let head = Head { version, seed, nodes, election_ms, faults, hash, skipped, failure };
    let head = serde_json::to_string(&head)?;
    out.write_all(escape(head.strip_suffix('}').expect("an object")).as_bytes())?;
    out.write_all(b",\"events\":[")?;
    for (place, event) in trace.events.iter().enumerate() {
        let words = event.what.to_string();
        let event =
            Event { at_us: event.at_us, step: event.step, node: event.node, words, what: &event.what };
        out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
        out.write_all(escape(&serde_json::to_string(&event)?).as_bytes())?;
    }
    out.write_all(b"]}")
}

/// In JSON a `<` occurs only inside texts; written like this, no text can end the script element.
fn escape(json: &str) -> String {
    json.replace('<', "\\u003c")
}
