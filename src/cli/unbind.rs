//! `spaxos unbind DIR NODE`: takes the binding of a peer away from a stopped node, so that the peer can be
//! bound anew. Without `--yes` it only says what is bound and what may be lost.
//!
//! A binding is what keeps a member that has forgotten its promises out, so a node never takes one away by
//! itself. A person must where the binding is wrong from the start: where a stranger, or a second data
//! directory by mistake, came under the node's id before the real member did.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::TempDir;

use crate::consensus::types::NodeId;
use crate::directory::{self, Inspection};
use crate::store::{DirectoryId, Identity, OpenError, WriteError};

use super::error::Error;
use super::{dump, output};

/// Arguments of `spaxos unbind`.
#[derive(Args, Debug)]
pub struct Unbind {
    /// The data directory of the stopped node that is bound to the wrong one
    dir: PathBuf,
    /// The node whose binding is wrong
    node: NodeId,
    /// Do it. Without this, only print what is bound and what may be lost
    #[arg(long)]
    yes: bool,
}

/// Why a binding was not taken away.
#[derive(Debug, thiserror::Error)]
pub enum UnbindError {
    /// The directory cannot be used; a running node has it locked.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The unbinding is not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no such binding.
    #[error("{0}")]
    NotBound(String),
    /// The dry run cannot be prepared.
    #[error(transparent)]
    Prepare(#[from] Error),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs it with standard output. A reader of the dry run that has gone away has seen what it wanted; nothing
/// is done if what may be lost cannot be shown.
pub(super) fn print(arguments: &Unbind) -> Result<(), Error> {
    match run(arguments, &mut io::stdout().lock()) {
        Err(UnbindError::Output(error)) if !arguments.yes => {
            output::unless_nobody_reads(Err(error)).map_err(Error::io("print the result to standard output"))
        }
        unbound => unbound.map_err(|error| Error::Message(error.to_string())),
    }
}

/// Prints what is bound and what may be lost, and then does it if told so.
pub fn run(arguments: &Unbind, out: &mut dyn Write) -> Result<(), UnbindError> {
    let Unbind { dir, node, yes } = arguments;
    if !yes {
        let copy = TempDir::new().map_err(Error::io("make a folder for temporary files (TMPDIR)"))?;
        let _interrupt = dump::remove_when_interrupted(copy.path().to_path_buf())?;
        let held = &Inspection::open(dir, copy.path())?.held;
        let bound = find(&held.identity, held.bindings.get(node), *node, dir)?;
        explain(&held.identity, *node, bound, out)?;
        writeln!(out, "\nNothing was changed. To do it: spaxos unbind {} {node} --yes", dir.display())?;
        return Ok(out.flush()?);
    }
    let (mut store, recovered) = directory::open_founded(dir)?;
    let bound = find(store.identity(), recovered.bindings.get(node), *node, dir)?;
    // Before the deed: if this cannot be written, nothing is done.
    explain(store.identity(), *node, bound, out)?;
    out.flush()?;
    store.unbind(*node)?;
    store.close()?;
    writeln!(out, "\nNode {node} is unbound.")?;
    Ok(out.flush()?)
}

fn find(
    identity: &Identity,
    bound: Option<&DirectoryId>,
    node: NodeId,
    dir: &Path,
) -> Result<DirectoryId, UnbindError> {
    let (own, members) = (identity.founding.node, &identity.founding.members);
    bound.copied().ok_or_else(|| {
        let why = if node == own {
            format!("it is the directory of node {node} itself")
        } else if members.contains_key(&node) {
            format!(
                "node {own} has not met node {node} yet, and binds it to the first directory that it meets"
            )
        } else {
            format!("the members are nodes {:?}", members.keys().collect::<Vec<_>>())
        };
        UnbindError::NotBound(format!("node {node} is not bound in {}: {why}", dir.display()))
    })
}

/// What is bound, what an unbinding does, and what may be lost by it.
///
/// A majority that chose something, or that promised not to, may have been this node and the bound directory.
/// If what comes next under the same id does not hold what that directory promised and accepted, it and the
/// rest can be a majority that knows nothing of it (`pipeline::trust`).
fn explain(identity: &Identity, node: NodeId, bound: DirectoryId, out: &mut dyn Write) -> io::Result<()> {
    let founding = &identity.founding;
    let (own, cluster) = (founding.node, &founding.cluster);
    writeln!(
        out,
        "Node {own} of cluster {cluster} has bound node {node} to the data directory {bound:032x}.\n\
         Unbound, node {node} is bound again to the first directory that sends node {own} a message under that id.\n\
         \n\
         What may be lost: node {own} may have counted promises, votes and copies of directory {bound:032x}\n\
         towards a majority. A different directory knows nothing of them. Values that node {own} has answered or\n\
         logged as chosen may then be missing on a majority, a different value may be chosen at the same index, and\n\
         the logs fork. Nobody can find out later whether anything of that directory had counted.\n\
         \n\
         Before you unbind:\n\
         - Stop node {node} and run `spaxos dump` on its data directory. If it shows directory={bound:032x},\n\
         \x20 the binding is right: do not unbind.\n\
         - A node {node} that lost its data directory has forgotten what it promised: do not unbind it either.\n\
         \x20 Bring the directory back, or run on without that node.\n\
         - Unbind only if directory {bound:032x} was never that of the member: a stranger's,\n\
         \x20 or one made by mistake. Compare what `spaxos dump` prints of all members: each entry that node {own} holds\n\
         \x20 must be the same on a majority, counted without directory {bound:032x}.\n\
         \x20 If it is not, or if you are in doubt, leave the binding: node {node} stays refused here, and the others go on.\n\
         - Set a peers_key on all nodes first, or the same stranger can be bound again."
    )
}
