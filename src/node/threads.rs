//! The threads of a node: how each is started, and how they end in order.
//!
//! A panic in one of them is the end of the node. Left out: what they share and the queues between them
//! (`wiring`), and what each does (its own file).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder as ThreadBuilder, JoinHandle};

use crate::application::Application;
use crate::consensus::types::NodeId;
use crate::logfile::{ChosenLog, LogControl, RateLimited};
use crate::pipeline::applier::Applier;
use crate::pipeline::held::HeldWorks;
use crate::pipeline::queue::Bell;
use crate::pipeline::state_machine::StateMachine;
use crate::pipeline::storage::Storage;
use crate::store::Store;

use super::applier::ApplierThread;
use super::clients::{Answers, ClientPort, Stop};
use super::ending::{Ender, ExitCode};
use super::errors::StartError;
use super::front::NodeFront;
use super::items::{ApplySender, Closer};
use super::peers::PeerNetwork;
use super::shared::Shared;
use super::state_machine::{EventLog, StateMachineThread};
use super::storage::{self, StorageThread};

/// A node's threads, and what ends each of them.
pub(super) struct Threads {
    pub(super) clients: Option<(Stop, JoinHandle<()>)>,
    pub(super) state_machine: JoinHandle<()>,
    pub(super) storage: JoinHandle<()>,
    pub(super) network: JoinHandle<()>,
    pub(super) stop_applier: Arc<AtomicBool>,
    pub(super) applier_bell: Bell,
    pub(super) applier: JoinHandle<()>,
    /// Releases the applier if it waits for room in the apply channel.
    pub(super) close_apply: Option<Closer>,
}

impl Threads {
    /// Ends them in order: no new proposals, replies flushed, what was chosen delivered.
    pub(super) fn end(self, shared: &Shared, ender: &Ender) {
        let join = |name, thread: JoinHandle<()>| {
            ender.set_waits_for(name);
            // A panic of the thread has already been logged.
            let _ = thread.join();
        };
        self.close_apply.iter().for_each(|close| close());
        if let Some((stop, clients)) = self.clients {
            stop.stop();
            join("clients", clients);
        }
        shared.inbox.submissions.close();
        shared.inbox.proposals.close();
        join("state-machine", self.state_machine);
        join("storage", self.storage);
        join("network", self.network);
        self.stop_applier.store(true, Ordering::Release);
        self.applier_bell.ring();
        join("applier", self.applier);
        shared.handles.end();
        shared.applied.end();
    }
}

/// A thread, or why it could not be started.
type Started = Result<JoinHandle<()>, StartError>;

/// What every thread needs when it is started.
pub(super) struct Starting<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) ender: &'a Ender,
}

impl Starting<'_> {
    pub(super) fn clients(
        &self,
        port: ClientPort,
        front: Arc<NodeFront>,
        answers: Arc<Answers>,
    ) -> Result<(Stop, JoinHandle<()>), StartError> {
        let (stop, ender) = (port.stopper(), self.ender.clone());
        let thread = self.spawn("clients", move || {
            let ended = port.run(front, answers.clone());
            // The applier goes on until the end, and nobody takes answers any more.
            answers.close();
            end_of_poll("clients", ended, &ender)
        })?;
        Ok((stop, thread))
    }

    pub(super) fn applier(
        &self,
        application: Option<Box<dyn Application>>,
        apply: Option<ApplySender>,
        answers: Option<Arc<Answers>>,
        lines: Option<ChosenLog>,
    ) -> Result<(Arc<AtomicBool>, Bell, JoinHandle<()>), StartError> {
        let (stop, bell) = (Arc::new(AtomicBool::new(false)), Bell::new());
        let Shared { recent, reader, requests, marks, .. } = &**self.shared;
        let (recent, reader, requests) = (recent.clone(), reader.clone(), requests.clone());
        let thread = ApplierThread {
            applier: Applier::new(recent, reader, requests, application, marks.clone()),
            apply,
            shared: self.shared.clone(),
            answers,
            logged: lines.as_ref().and_then(ChosenLog::last).unwrap_or(0),
            lines,
            bell: bell.clone(),
            stop: stop.clone(),
            ender: self.ender.clone(),
        };
        Ok((stop, bell, self.spawn("applier", move || thread.run())?))
    }

    pub(super) fn storage(&self, node: NodeId, store: Store) -> Started {
        let shared = self.shared;
        let thread = StorageThread {
            storage: Storage::new(node, store, shared.recent.clone()),
            works: shared.works.clone(),
            outgoing: shared.outgoing.clone(),
            inbox: shared.inbox.clone(),
            health: shared.health.clone(),
            clock: shared.clock,
            ender: self.ender.clone(),
            slow: RateLimited::new(storage::SLOW_WRITE_EVERY),
            no_room: RateLimited::new(storage::NO_ROOM_EVERY),
        };
        self.spawn("storage", move || thread.run())
    }

    pub(super) fn network(&self, network: PeerNetwork) -> Started {
        let (outgoing, inbox) = (self.shared.outgoing.clone(), self.shared.inbox.clone());
        let ender = self.ender.clone();
        self.spawn("network", move || {
            let ended = network.run(&outgoing, &inbox);
            // If it failed, nobody waits for room any more.
            outgoing.close();
            end_of_poll("network", ended, &ender)
        })
    }

    pub(super) fn state_machine(
        &self,
        state_machine: StateMachine,
        tick_ms: u64,
        applier: Bell,
        log: Option<LogControl>,
    ) -> Started {
        let shared = self.shared;
        let thread = StateMachineThread {
            state_machine,
            clock: shared.clock,
            tick_ms,
            inbox: shared.inbox.clone(),
            works: shared.works.clone(),
            outgoing: shared.outgoing.clone(),
            applier,
            fork: shared.fork.clone(),
            ender: self.ender.clone(),
            events: EventLog::new(),
            health: shared.health.clone(),
            log,
            held: HeldWorks::default(),
        };
        self.spawn("state-machine", move || thread.run())
    }

    /// A panic in a thread ends the node: no thread goes on without the others. If one cannot be started,
    /// those that were started end.
    fn spawn(&self, name: &'static str, run: impl FnOnce() + Send + 'static) -> Started {
        let ender = self.ender.clone();
        let guarded = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                ender.fail(ExitCode::Assertion, format!("the {name} thread panicked: {}", text_of(&*panic)));
            }
        };
        ThreadBuilder::new().name(name.to_owned()).spawn(guarded).map_err(|error| {
            let text = format!("cannot start the {name} thread: {error}; raise the limit of threads");
            self.ender.fail(ExitCode::Config, text.clone());
            StartError::new(ExitCode::Config, text)
        })
    }
}

/// A network thread ends when it is told to; if the system's poll fails, the node ends.
fn end_of_poll(name: &str, result: std::io::Result<()>, ender: &Ender) {
    if let Err(error) = result {
        ender.fail(ExitCode::Disk, format!("the {name} thread cannot wait for events: {error}"));
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)")
}
