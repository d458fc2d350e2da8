//! What a replicated service implements: [`Application`].
//!
//! Every node of a cluster gives its application the same commands in the same order, so that what starts
//! equal stays equal. The application is called by the applier (one thread of the node, in the simulator a
//! step), at this node's own pace: a slow one delays what this node delivers and answers, never consensus.
//!
//! Left out: snapshots. After a restart the log is applied again from its oldest index, to an application
//! that is made anew.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use bytes::Bytes;

use crate::consensus::types::{Command, Index};

/// A replicated service: a deterministic state machine.
///
/// [`Application::apply`] is a function of the state so far and the item, and of nothing else: no clock, no
/// random number, no iteration over a `HashMap`, no answer of another service. Else the nodes drift apart
/// without a word.
///
/// ```
/// use spaxos::{Application, Bytes, Item};
///
/// /// Adds up what it is given.
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl Application for Sum {
///     fn apply(&mut self, item: &Item) -> Bytes {
///         // What anyone may propose is judged here, by the same rule on every node.
///         let text = std::str::from_utf8(&item.command.payload).unwrap_or_default();
///         self.0 = self.0.wrapping_add(text.parse().unwrap_or(0));
///         Bytes::from(self.0.to_string())
///     }
/// }
/// ```
pub trait Application: Send {
    /// Applies the next chosen command. What it returns goes to who proposed the command, if that was on this
    /// node and somebody still waits for it; elsewhere it is dropped.
    ///
    /// Called once for each item in order of [`Item::number`], from 1 after every start of the node. It may
    /// take its time (it holds up nobody but those who wait for this node to deliver), but must not wait for
    /// what this node is to deliver later, a proposal of its own for instance, nor stop the node. It must not
    /// panic: that ends the node, and the next start, which applies the same command, as well.
    fn apply(&mut self, item: &Item) -> Bytes;
}

/// A chosen command as it is delivered: the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Its place in the log. Ascending; where an index is left out stands a no-op, or a repeat of a request
    /// that was delivered before.
    pub index: Index,
    /// Counts the items, from 1 and without gaps: a place in the log without no-ops.
    pub number: u64,
    /// What was chosen: request id, the node that took the proposal, payload.
    pub command: Command,
}
