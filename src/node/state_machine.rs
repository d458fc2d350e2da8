//! The state machine thread: waits for input or the next tick, takes a turn, passes its effects on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::consensus::batch::Event;
use crate::consensus::types::HardState;
use crate::logfile::RateLimited;
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::state_machine::{Inputs, StateMachine, Work};

use super::clock::Clock;

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
        let generation = self.state_machine.generation();
        let mut sent = true;
        if !turn.early.is_empty() {
            sent = self.outgoing.push(Outgoing::Messages { generation, messages: turn.early }).is_ok();
        }
        if let Some(work) = turn.work {
            sent &= self.works.push(work).is_ok();
        }
        if turn.chosen.is_some() {
            self.applier.ring();
        }
        sent
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

/// Writes events to the log. Those that repeat while there is no majority, or while a node lags, are logged
/// only once in a while.
pub(super) struct EventLog {
    campaigning: RateLimited,
    catching_up: RateLimited,
}

impl EventLog {
    pub(super) fn new() -> EventLog {
        let limited = || RateLimited::new(REPEATED_EVENT_EVERY);
        EventLog { campaigning: limited(), catching_up: limited() }
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
