//! What a replicated service implements: [`Application`].
//!
//! Every node of a cluster gives its application the same commands in the same order, so that applications
//! that start equal stay equal. The application is called by the applier (a thread of the node; a step in the
//! simulator), at this node's own pace: a slow application delays what this node delivers and answers, never
//! consensus.
//!
//! Left out: snapshots. After a restart the log is applied again from its oldest index, to a new application.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use bytes::Bytes;

use crate::consensus::types::{Command, Index};

/// A replicated service: a deterministic state machine.
///
/// [`Application::apply`] is a function of the state so far and the item, and of nothing else: no clock, no
/// random number, no iteration over a `HashMap`, no answer from another service. Otherwise the nodes drift
/// apart silently.
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
///         // Anyone may propose anything: it is judged here, by the same rule on every node.
///         let text = std::str::from_utf8(&item.command.payload).unwrap_or_default();
///         self.0 = self.0.wrapping_add(text.parse().unwrap_or(0));
///         Bytes::from(self.0.to_string())
///     }
/// }
/// ```
pub trait Application: Send {
    /// Applies the next chosen command. What it returns goes to the caller that proposed the command, if it
    /// did so on this node and still waits; otherwise it is dropped.
    ///
    /// It is called once for each item in order of [`Item::number`], from 1 after every start of the node. It
    /// may take its time (that delays only callers which wait for this node to deliver), but it must not wait
    /// for anything that this node will deliver later, such as a proposal of its own, and it must not stop
    /// the node. It must not panic: a panic ends the node, and ends it again after each start, because the
    /// same command is applied again.
    fn apply(&mut self, item: &Item) -> Bytes;
}

/// A chosen command as it is delivered: the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Its place in the log. Indexes ascend; one that is left out holds a no-op, or a repeat of a request
    /// that was delivered before.
    pub index: Index,
    /// Counts the items, from 1 and without gaps: its place in a log without no-ops.
    pub number: u64,
    /// What was chosen: request id, the node that took the proposal, payload.
    pub command: Command,
}
