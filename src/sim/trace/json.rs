//! A trace as JSON: an object with one event per line, so that it can be read, searched and compared as text.
//!
//! Reading checks what the pictures rely on: a file may come from anyone, and a bad one is refused with a
//! reason.

use std::io::{self, Write};

use serde::Deserialize;
use thiserror::Error;

use super::{FORMAT, Trace, TraceEvent, What};
use crate::consensus::types::NodeId;

/// A longer file is refused: room for 1,000,000 events.
pub const MAX_TRACE_BYTES: usize = 512 << 20;

/// The most nodes that a trace may have.
const MAX_NODES: u64 = 64;

/// Why a file is not a trace.
#[derive(Debug, Error)]
pub enum TraceError {
    /// Longer than [`MAX_TRACE_BYTES`].
    #[error("it has {bytes} bytes, more than {MAX_TRACE_BYTES}: record fewer events")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or not of the form of a trace. The text names line and column.
    #[error("it is not a trace: {0}. Make one with `spaxos sim --trace FILE`")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error(
        "it has trace format {found}, but this program reads format {FORMAT}: use the version of spaxos that wrote it"
    )]
    Format {
        /// Its format.
        found: u64,
    },
    /// Well-formed, but impossible.
    #[error("it is not a trace that spaxos wrote: {0}")]
    Impossible(String),
}

impl Trace {
    /// Writes it as JSON.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = serde_json::to_string(&self.without_events())?;
        let (open, close) = head.split_at(head.len() - "]}".len());
        out.write_all(open.as_bytes())?;
        for (place, event) in self.events.iter().enumerate() {
            out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut *out, event)?;
        }
        writeln!(out, "\n{close}")
    }

    /// Reads what [`Trace::write_json`] wrote.
    pub fn from_json(bytes: &[u8]) -> Result<Trace, TraceError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u64,
        }
        if bytes.len() > MAX_TRACE_BYTES {
            return Err(TraceError::TooLong { bytes: bytes.len() });
        }
        let Probe { format: found } = serde_json::from_slice(bytes)?;
        if found != u64::from(FORMAT) {
            return Err(TraceError::Format { found });
        }
        let trace: Trace = serde_json::from_slice(bytes)?;
        trace.check().map_err(TraceError::Impossible)?;
        Ok(trace)
    }

    /// The hash of the events that are here: that of the run if none were skipped.
    pub fn hash_events(&self) -> u64 {
        let mut hash = super::TraceHash::default();
        for TraceEvent { at_us, step, node, what } in &self.events {
            hash.add(*at_us, *step, *node, what);
        }
        hash.value()
    }

    fn without_events(&self) -> Trace {
        Trace {
            format: self.format,
            version: self.version.clone(),
            seed: self.seed,
            protocol: self.protocol.clone(),
            nodes: self.nodes,
            election_ms: self.election_ms,
            faults: self.faults.clone(),
            hash: self.hash.clone(),
            skipped: self.skipped,
            failure: self.failure.clone(),
            events: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=MAX_NODES).contains(&self.nodes) {
            return Err(format!("{} nodes, where 1 to {MAX_NODES} are possible", self.nodes));
        }
        let mut last_us = 0;
        for (place, event) in self.events.iter().enumerate() {
            let number = place + 1;
            if event.at_us < last_us {
                return Err(format!("event {number} is at {} us, after one at {last_us} us", event.at_us));
            }
            last_us = event.at_us;
            if event.node > self.nodes {
                return Err(format!("event {number} names node {} of {}", event.node, self.nodes));
            }
            match peer(&event.what) {
                Some(0) => return Err(format!("event {number} is a message to or from node 0")),
                Some(peer) if peer > self.nodes => {
                    return Err(format!("event {number} names node {peer} of {}", self.nodes));
                }
                Some(_) if event.node == 0 => {
                    return Err(format!("event {number} is a message to or from node 0"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The other end of a message.
fn peer(what: &What) -> Option<NodeId> {
    match what {
        What::Sent { to, .. } => Some(*to),
        What::Received { from, .. } => Some(*from),
        _ => None,
    }
}
