//! `spaxos dump DIR`: what a stopped node holds, for a person to read. Reads a copy, changes nothing.
//!
//! The copy is removed at the end, even if a signal is the end; only kill -9 leaves it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use crate::consensus::types::Index;
use crate::directory::Inspection;
use crate::store::{LogReadError, OpenError};

use super::cluster::Interrupt;
use super::error::Error;
use super::output;

/// How often it is tried, 10 ms apart, to remove the copy while files are still being made in it.
const REMOVE_TRIES: u32 = 500;
/// How much of the log is in memory at once.
const PAGE_BYTES: usize = 1 << 20;

/// Why a dump is missing or incomplete.
#[derive(Debug, thiserror::Error)]
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

/// Prints a directory to standard output.
pub(super) fn print(directory: &Path) -> Result<(), Error> {
    let copy = TempDir::new().map_err(Error::io("make a folder for temporary files (TMPDIR)"))?;
    let interrupt = remove_when_interrupted(copy.path().to_path_buf())?;
    let mut dumped = Ok(());
    let printed = output::write(|out| match run_on(directory, copy.path(), out) {
        Err(DumpError::Output(error)) => Err(error),
        other => {
            dumped = other;
            Ok(())
        }
    });
    while interrupt.is_set() {
        // What went wrong is that the copy is gone: the other thread ends the process.
        thread::park();
    }
    dumped.map_err(|error| Error::Message(error.to_string())).and(printed)
}

/// From now on a signal ends the process when the folder is gone.
pub(super) fn remove_when_interrupted(folder: PathBuf) -> Result<Interrupt, Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::io("catch signals"))?;
    let interrupt = Interrupt::default();
    let interrupted = interrupt.clone();
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        interrupted.set();
        for _ in 0..REMOVE_TRIES {
            // The other thread may be making files in it.
            let _ = fs::remove_dir_all(&folder);
            if !folder.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        std::process::exit(128 + signal)
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map_err(Error::io("start a thread"))?;
    Ok(interrupt)
}

/// Prints identity, hard state, bindings and entries, one per line. A locked directory is refused.
pub fn run(directory: &Path, out: &mut dyn Write) -> Result<(), DumpError> {
    run_on(directory, TempDir::new()?.path(), out)
}

/// The same, with an empty folder for the copy.
fn run_on(directory: &Path, copy: &Path, out: &mut dyn Write) -> Result<(), DumpError> {
    let inspection = Inspection::open(directory, copy)?;
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
