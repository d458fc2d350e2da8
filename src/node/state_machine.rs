//! The state machine thread: waits for input or the next tick, takes a turn, passes its effects on.
//!
//! It waits for storage when the queue between them is full, but its clock goes on ([`HeldWorks`]): a node
//! whose disk hangs must notice that, tell the others, and stop leading.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use parking_lot::Mutex;

use crate::consensus::batch::Event;
use crate::consensus::types::HardState;
use crate::logfile::{LogControl, RateLimited};
use crate::pipeline::fork::Fork;
use crate::pipeline::held::{HeldWorks, Takes};
use crate::pipeline::inbox::{Inbox, Outgoing};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::state_machine::{Inputs, StateMachine, Work};
use crate::pipeline::trouble::Signs;
use crate::wire::message::Trouble;

use super::clock::Clock;
use super::ending::{Ender, ExitCode};
use super::health::Health;

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
    pub(super) health: Arc<Health>,
    pub(super) log: Option<LogControl>,
    /// Works of the last turn for which storage has no room yet.
    pub(super) held: HeldWorks,
}

impl StateMachineThread {
    /// Runs until the inbox's proposals queue is closed (an orderly end) or the storage thread is gone.
    pub(super) fn run(mut self) {
        let mut inputs = Inputs::default();
        let mut next_tick_ms = self.clock.now_ms();
        while !self.inbox.proposals.is_closed() {
            self.held.push_into(&self.works);
            if !self.held.is_empty() && self.works.is_closed() {
                return;
            }
            let takes = self.held.takes(self.state_machine.makes_way());
            let now_ms = self.clock.now_ms();
            if now_ms >= next_tick_ms && takes != Takes::Nothing {
                inputs.tick_ms = Some(now_ms);
                inputs.signs = self.signs();
                next_tick_ms = now_ms + self.tick_ms;
            } else if takes != Takes::All || !self.take(&mut inputs) {
                self.wait(takes, next_tick_ms.saturating_sub(now_ms).max(1));
                continue;
            }
            if !self.turn(&mut inputs) {
                return;
            }
        }
        self.end();
    }

    /// What is under way in the threads that may hang.
    fn signs(&self) -> Signs {
        let log_file = self.log.as_ref().and_then(LogControl::failure);
        Signs { storage: self.health.work_under_way(), log_file }
    }

    /// Waits for what it could take: room for what is held, or input.
    fn wait(&self, takes: Takes, at_most_ms: u64) {
        let at_most = Duration::from_millis(at_most_ms);
        match takes {
            Takes::All => self.inbox.bell.wait(at_most),
            Takes::Ticks => self.works.wait_for_drain(at_most),
            Takes::Nothing => self.works.wait_for_drain(Duration::from_millis(self.tick_ms)),
        }
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
        let ticked = inputs.tick_ms.is_some();
        let turn = self.state_machine.turn(inputs);
        // What peers forwarded in this turn took the room of these proposals: they come first in a later
        // turn.
        inputs.proposals = turn.left;
        if ticked {
            self.tell_trouble();
        }
        for event in &turn.events {
            self.events.log(event);
        }
        // A change may come while the log has just had such a line; the last state is said later.
        if (turn.fork_changed || (ticked && self.events.owes_fork)) && !self.report_fork() {
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
            self.held.push(work, &self.works);
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

    /// Says what is wrong, or that nothing is any more.
    fn tell_trouble(&self) {
        let trouble = self.state_machine.trouble();
        if trouble == self.health.trouble() {
            return;
        }
        self.health.set_trouble(trouble);
        match trouble {
            Trouble::None => info!("storage and log file work again: this node may lead"),
            Trouble::LogFile => warn!(
                "the log file has taken no lines for a whole election timeout (timing.election_ms): this node makes way for others that \
                 can lead; make room for the log file"
            ),
            Trouble::Storage => warn!(
                "the disk has not answered for a whole election timeout (timing.election_ms): this node makes way for others that can lead"
            ),
        }
    }

    /// An orderly end: the watermark is written, so that a restart knows it.
    fn end(self) {
        if !self.held.push_all_into(&self.works) {
            return;
        }
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
        "this node's log differs from that of a majority (nodes {:?} differ from it) at or below index {}: its memory or its disk \
         changed what it held, or it received a false message. Keep its data directory and log for the person who \
         examines it, check the machine, and run on without this node",
        fork.nodes, fork.index
    )
}

/// Writes events to the log. Those that repeat while there is no majority, or while a node lags, are logged
/// only once in a while.
pub(super) struct EventLog {
    campaigning: RateLimited,
    catching_up: RateLimited,
    forks: RateLimited,
    /// The log has not had the last change of what is known of forks.
    owes_fork: bool,
}

impl EventLog {
    pub(super) fn new() -> EventLog {
        let limited = || RateLimited::new(REPEATED_EVENT_EVERY);
        EventLog { campaigning: limited(), catching_up: limited(), forks: limited(), owes_fork: false }
    }

    /// Says what is known of forks now: at once, or as soon as the log takes such a line again.
    fn log_fork(&mut self, fork: Option<&Fork>) {
        self.owes_fork = self.forks.allow(Instant::now()).is_none();
        match fork {
            _ if self.owes_fork => {}
            None => info!("the hashes of all nodes agree again"),
            Some(Fork { nodes, index, .. }) => error!(
                "the log forked: nodes {nodes:?} delivered something different from this node at or below index \
                 {index}. Nobody knows which log is right without a majority that agrees and is proven by \
                 peers_key: compare the logs of all nodes (spaxos check), stop the nodes that are wrong, and run \
                 on without them"
            ),
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
