//! `spaxos trace FILE`: a recorded run as a picture to open in a browser (`--html`), as a Mermaid sequence
//! diagram (`--mermaid`), or, without either, one event per line in plain words.

mod html;
pub mod mermaid;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::Error;
use super::output;
use crate::sim::trace::{MAX_TRACE_BYTES, Trace};

/// What `spaxos trace` is given.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The trace (JSON), as `spaxos sim --trace FILE` writes it
    file: PathBuf,
    /// Write a space-time diagram: one HTML file, to open in a browser
    #[arg(long, conflicts_with = "mermaid")]
    html: bool,
    /// Write a Mermaid sequence diagram
    #[arg(long)]
    mermaid: bool,
    /// Where to write it [default: FILE with the ending .html, else the terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The first step that is shown
    #[arg(long, value_name = "STEP", default_value_t = 0, conflicts_with = "html")]
    from: u64,
    /// The last step that is shown
    #[arg(long, value_name = "STEP", default_value_t = u64::MAX, hide_default_value = true, conflicts_with = "html")]
    to: u64,
}

/// Reads the trace and writes what is asked for.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let trace = read(&arguments.file)?;
    let steps = arguments.from..=arguments.to;
    if arguments.html {
        let path = arguments.output.clone().unwrap_or_else(|| arguments.file.with_extension("html"));
        write_file(&path, |out| html::write(&trace, out))?;
        return output::print(&format!("{}: open it in a browser\n", path.display()));
    }
    let write = |out: &mut dyn Write, text: Option<&str>| match text {
        Some(text) => out.write_all(text.as_bytes()),
        None => write_words(&trace, &steps, out),
    };
    let diagram = arguments.mermaid.then(|| mermaid::diagram(&trace, &steps));
    let diagram = diagram.transpose().map_err(|error| Error::Message(error.to_string()))?;
    match &arguments.output {
        Some(path) => write_file(path, |out| write(out, diagram.as_deref())),
        None => output::write(|out| write(out, diagram.as_deref())),
    }
}

/// Reads a trace. Nothing longer than [`MAX_TRACE_BYTES`] is read into memory.
fn read(path: &Path) -> Result<Trace, Error> {
    let named = |action: &str| Error::io(format!("{action} {}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(named("open"))?;
    file.take(MAX_TRACE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(named("read"))?;
    Trace::from_json(&bytes).map_err(|error| Error::Message(format!("{}: {error}", path.display())))
}

fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(Error::io(format!("write {}", path.display())))
}

/// What the run was, then one event per line, with its step.
fn write_words(trace: &Trace, steps: &RangeInclusive<u64>, out: &mut dyn Write) -> io::Result<()> {
    let Trace { version, seed, protocol, nodes, election_ms, faults, hash, skipped, .. } = trace;
    let protocol = if protocol == "raft" { "raft, " } else { "" };
    writeln!(out, "{protocol}seed {seed}, {nodes} nodes, T = {election_ms} ms, faults: {faults}")?;
    writeln!(out, "spaxos {version}, trace {hash}")?;
    if *skipped > 0 {
        writeln!(out, "({skipped} events before these were not kept)")?;
    }
    for event in trace.events.iter().filter(|event| steps.contains(&event.step)) {
        writeln!(out, "{:>8} {event}", event.step)?;
    }
    match &trace.failure {
        Some(failure) => writeln!(out, "{} DOES NOT HOLD: {}", failure.invariant, failure.text),
        None => Ok(()),
    }
}
