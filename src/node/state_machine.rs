//! The state machine thread: waits for input or the next tick, takes a turn, passes its effects on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use parking_lot::Mutex;

use crate::consensus::batch::Event;
use crate::consensus::types::HardState;
use crate::logfile::RateLimited;
use crate::pipeline::fork::Fork;
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::state_machine::{Inputs, StateMachine, Work};

use super::clock::Clock;
use super::ending::{Ender, ExitCode};

/// An event that may repeat without end is logged at most this often.
const REPEATED_EVENT_EVERY: Duration = Duration::from_secs(5);

/// What the thread works with.
pub(super) struct StateMachineThread {
    pub(super) state_machine: StateMachine,
    pub(super) clock: Clock,
    pub(super) tick_ms: u64,
    pub(super) inbox: Arc<Inbox>,
    pub(super) works: Arc<Queue<Work>>,
    pub(super) outgoing: Arc<Queue<Outgoing>>,
    pub(super) applier: Bell,
    pub(super) events: EventLog,
    pub(super) fork: Arc<Mutex<Option<Fork>>>,
    pub(super) ender: Ender,
}

impl StateMachineThread {
    /// Runs until the inbox's proposals queue is closed (an orderly end) or the storage thread is gone.
    pub(super) fn run(mut self) {
        let mut inputs = Inputs::default();
        let mut next_tick_ms = self.clock.now_ms();
        while !self.inbox.proposals.is_closed() {
            let now_ms = self.clock.now_ms();
            if now_ms >= next_tick_ms {
                inputs.tick_ms = Some(now_ms);
                next_tick_ms = now_ms + self.tick_ms;
            } else if !self.take(&mut inputs) {
                self.inbox.bell.wait(Duration::from_millis(next_tick_ms - now_ms));
                continue;
            }
            if !self.turn(&mut inputs) {
                return;
            }
        }
        self.end();
    }

    fn take(&mut self, inputs: &mut Inputs) -> bool {
        let before = self.state_machine.generation();
        let any = self.state_machine.take(&self.inbox, inputs);
        if self.state_machine.generation() != before {
            info!("rebuilt from what is durable, as generation {}", self.state_machine.generation());
        }
        any
    }

    fn turn(&mut self, inputs: &mut Inputs) -> bool {
        let turn = self.state_machine.turn(inputs);
        // What peers forwarded in this turn took the room of these proposals: they come first in a later
        // turn.
        inputs.proposals = turn.left;
        for event in &turn.events {
            self.events.log(event);
        }
        if turn.fork_changed && !self.report_fork() {
            return false;
        }
        let generation = self.state_machine.generation();
        let mut sent = true;
        if !turn.early.is_empty() {
            sent = self.outgoing.push(Outgoing::Messages { generation, messages: turn.early }).is_ok();
        }
        if !turn.services.is_empty() {
            sent &= self.outgoing.push(Outgoing::Services(turn.services)).is_ok();
        }
        if let Some(work) = turn.work {
            sent &= self.works.push(work).is_ok();
        }
        if turn.chosen.is_some() {
            self.applier.ring();
        }
        sent
    }

    /// A fork is never mended here: all nodes report it, and one that is outvoted ends. Returns whether this
    /// node goes on.
    fn report_fork(&mut self) -> bool {
        let fork = self.state_machine.fork().cloned();
        *self.fork.lock() = fork.clone();
        match fork {
            Some(fork) if fork.is_outvoted => self.ender.fail(ExitCode::Data, outvoted(&fork)),
            fork => {
                self.events.log_fork(fork.as_ref());
                true
            }
        }
    }

    /// An orderly end: the watermark is written, so that a restart knows it.
    fn end(self) {
        let status = self.state_machine.status();
        let hard_state = HardState { promised: status.promised, chosen: status.chosen };
        if let Some(work) = self.state_machine.last_work(hard_state) {
            let _ = self.works.push(work);
        }
        self.works.close();
    }
}

fn outvoted(fork: &Fork) -> String {
    format!(
        "this node's log differs from that of a majority, nodes {:?}, at or below index {}: its memory or its disk \
         changed what it held, or it was told something false. Keep its data directory and log for whoever looks \
         into it, check the machine, and run on without this node",
        fork.nodes, fork.index
    )
}

/// Writes events to the log. Those that repeat while there is no majority, or while a node lags, are logged
/// only once in a while.
pub(super) struct EventLog {
    campaigning: RateLimited,
    catching_up: RateLimited,
    forks: RateLimited,
}

impl EventLog {
    pub(super) fn new() -> EventLog {
        let limited = || RateLimited::new(REPEATED_EVENT_EVERY);
        EventLog { campaigning: limited(), catching_up: limited(), forks: limited() }
    }

    fn log_fork(&mut self, fork: Option<&Fork>) {
        match fork {
            Some(fork) => self.forks.error(Instant::now(), || {
                format!(
                    "the log forked: nodes {:?} delivered something else than this node at or below index {}. \
                     Nobody knows which log is right without a majority that agrees and is proven by peers_key: \
                     compare the logs of all nodes (spaxos check), stop the nodes that are wrong, and run on \
                     without them",
                    fork.nodes, fork.index
                )
            }),
            None => self.forks.info(Instant::now(), || "no node differs any more in what it tells".to_owned()),
        }
    }

    fn log(&mut self, event: &Event) {
        match event {
            Event::Campaigning { .. } => self.campaigning.info(Instant::now(), || event.to_string()),
            Event::CatchingUp { .. } => self.catching_up.info(Instant::now(), || event.to_string()),
            Event::SteppedDown { .. } | Event::KeptLeading { .. } => warn!("{event}"),
            Event::HandingOver { .. }
            | Event::Preparing { .. }
            | Event::Truncating { .. }
            | Event::Leading { .. }
            | Event::Following { .. } => info!("{event}"),
        }
    }
}
