//! `spaxos dump DIR`: what a stopped node holds, for a person to read. Reads a copy, changes nothing.

use std::io::{self, Write};
use std::path::Path;

use thiserror::Error;

use crate::consensus::types::Index;
use crate::directory::Inspection;
use crate::store::{LogReadError, OpenError};

/// How much of the log is in memory at once.
const PAGE_BYTES: usize = 1 << 20;

/// Why a dump is missing or incomplete.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The directory cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An entry cannot be read.
    #[error(transparent)]
    Read(#[from] LogReadError),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Prints identity, hard state, bindings and entries, one per line. A locked directory is refused.
pub fn run(directory: &Path, out: &mut dyn Write) -> Result<(), DumpError> {
    let inspection = Inspection::open(directory)?;
    let store = &inspection.held;
    let founding = &store.identity.founding;
    writeln!(
        out,
        "cluster={} node={} protocol={} directory={:032x} start={} format={} window={}",
        founding.cluster,
        founding.node,
        founding.protocol,
        store.identity.directory,
        store.start,
        store.identity.format,
        founding.delivery_window
    )?;
    for (node, address) in &founding.members {
        writeln!(out, "member {node} {address}")?;
    }
    for (node, directory) in &store.bindings {
        writeln!(out, "bound {node} directory={directory:032x}")?;
    }
    let (compacted, last) = (store.reader.compacted(), store.reader.last());
    writeln!(out, "{} max_round={} compacted={compacted} last={last}", store.hard_state, store.max_round)?;
    let mut next = compacted + 1;
    while let Some(first) = store.reader.next_entry(next) {
        let entries = store.reader.read(first, Index::MAX, PAGE_BYTES)?;
        for entry in &entries {
            writeln!(out, "{entry}")?;
        }
        next = first + entries.len() as u64;
    }
    Ok(())
}
