//! How a node ends: because it was asked to, or because it must, with an exit code and a plain text.
//!
//! A node never ends the process. It tells those that wait for its end ([`Ender::wait`]), and acknowledges
//! nothing more. A server then exits with the code; an embedder decides for itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::error;
use parking_lot::{Condvar, Mutex};

use crate::store::LogReadError;
use crate::store::engine::EngineError;

/// The kind of failure that ended a node: a server's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The node ended in order.
    Ok = 0,
    /// The arguments or the configuration are wrong.
    Config = 1,
    /// The data directory is foreign, locked, corrupt, wiped or of a newer format.
    Data = 2,
    /// The disk failed while running, did not answer at the end, or is full at the start.
    Disk = 3,
    /// One of our assertions failed, or the application panicked.
    Assertion = 4,
}

impl ExitCode {
    /// The code for a log that cannot be read while the node runs: is it the disk, or what is on it?
    pub(crate) fn of_read(error: &LogReadError) -> ExitCode {
        match error {
            LogReadError::Unreadable { why: EngineError::Failed(_), .. } => ExitCode::Disk,
            _ => ExitCode::Data,
        }
    }
}

/// Why a node cannot go on: nothing more is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The kind of failure.
    pub code: ExitCode,
    /// What is wrong and what to do.
    pub text: String,
}

/// Why a node ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody asked for it ([`Ender::ask`]): the node should be stopped in order.
    Asked,
    /// It cannot go on.
    Failed(Failure),
}

#[derive(Default)]
struct Told {
    /// A failure is final; it takes the place of a request to end.
    end: Option<End>,
    /// The actions on a failure are still under way: nobody hears of the end before they are done.
    is_failing: bool,
}

impl Told {
    fn end(&self) -> Option<&End> {
        self.end.as_ref().filter(|_| !self.is_failing)
    }
}

/// Asks a node to end, and waits for that. Any thread may hold one, and may keep it longer than the node
/// lives.
#[derive(Clone, Default)]
pub struct Ender(Arc<State>);

#[derive(Default)]
struct State {
    told: Mutex<Told>,
    changed: Condvar,
    /// What must be done immediately when the node fails.
    on_failure: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    waits_for: Mutex<Option<&'static str>>,
}

impl Ender {
    /// Asks for an orderly end: wakes the thread that waits for it, which then calls
    /// [`Node::stop`](super::Node::stop).
    pub fn ask(&self) {
        self.0.told.lock().end.get_or_insert(End::Asked);
        self.0.changed.notify_all();
    }

    /// Waits for the end, at most this long or without a limit; returns `None` if it did not come.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<End> {
        let mut told = self.0.told.lock();
        match timeout {
            None => self.0.changed.wait_while(&mut told, |told| told.end().is_none()),
            Some(timeout) => {
                let _ = self.0.changed.wait_while_for(&mut told, |told| told.end().is_none(), timeout);
            }
        }
        told.end().cloned()
    }

    /// Why the node cannot go on, if it cannot.
    pub fn failure(&self) -> Option<Failure> {
        match &self.0.told.lock().end {
            Some(End::Failed(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Ends the node immediately; returns `false`, for "does not go on". Of several failures the first one
    /// counts.
    pub(crate) fn fail(&self, code: ExitCode, text: String) -> bool {
        error!("{text}");
        let mut told = self.0.told.lock();
        if matches!(told.end, Some(End::Failed(_))) {
            return false;
        }
        *told = Told { end: Some(End::Failed(Failure { code, text })), is_failing: true };
        drop(told);
        let on_failure = self.0.on_failure.lock().take();
        if let Some(on_failure) = on_failure {
            on_failure();
        }
        self.0.told.lock().is_failing = false;
        self.0.changed.notify_all();
        false
    }

    /// The thread that an orderly end waits for, if one is under way: for a server that waits no longer.
    #[cfg(feature = "internals")]
    pub fn waits_for(&self) -> Option<&'static str> {
        *self.0.waits_for.lock()
    }

    pub(super) fn set_waits_for(&self, thread: &'static str) {
        *self.0.waits_for.lock() = Some(thread);
    }

    /// Called when the node has ended: there is nothing left to do, and nothing of the node is kept.
    pub(super) fn forget(&self) {
        *self.0.on_failure.lock() = None;
    }

    /// Sets what must be done when the node fails, by the thread that noticed it.
    pub(super) fn on_failure(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.on_failure.lock() = Some(Box::new(act));
    }
}

impl fmt::Debug for Ender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ender").field("end", &self.0.told.lock().end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that wait hear of a request to end, and of a failure in its place; of several failures the first
    /// one counts, and the action on a failure is done once.
    #[test]
    fn a_failure_takes_the_place_of_a_wish() {
        let ender = Ender::default();
        let done = Arc::new(Mutex::new(0));
        ender.on_failure({
            let done = done.clone();
            move || *done.lock() += 1
        });
        assert_eq!(ender.wait(Some(Duration::ZERO)), None);
        ender.ask();
        assert_eq!((ender.wait(None), ender.failure(), *done.lock()), (Some(End::Asked), None, 0));
        ender.fail(ExitCode::Disk, "first".into());
        ender.fail(ExitCode::Data, "second".into());
        ender.ask();
        let failure = Failure { code: ExitCode::Disk, text: "first".into() };
        assert_eq!(ender.wait(None), Some(End::Failed(failure.clone())));
        assert_eq!((ender.failure(), *done.lock()), (Some(failure), 1));
    }
}
