//! The threads of a node as steps: what `node/` runs on threads, each until it would wait.
//!
//! Each function is what one of them does once it woke, with the production object that it drives. Left out:
//! when they wake (`world.rs`), and what is checked afterwards (`watch.rs`).

use crate::consensus::batch::Event;
use crate::consensus::types::NodeId;
use crate::pipeline::applier::ApplyError;
use crate::pipeline::held::Takes;
use crate::pipeline::inbox::Control;
use crate::pipeline::state_machine::{Turn, Work};
use crate::pipeline::storage::{RetryError, TurnError};
use crate::store::engine::EngineError;
use crate::store::{LogReadError, OpenError, WriteError};

use super::counts::Count;
use super::processes::PROBE_US;
use super::trace::What;
use super::world::{Step, Thread, World, Written};

/// A write that fails takes this much longer, in µs, so that the queues behind it fill.
const FAILURE_US: u64 = 30_000;

impl World {
    pub(super) fn run_thread(&mut self, id: NodeId, thread: Thread) {
        let running = self.running(id);
        running.scheduled &= !(thread as u8);
        running.stalled &= !(thread as u8);
        if running.paused {
            return;
        }
        match thread {
            Thread::Machine => self.take(id),
            Thread::Storage => self.begin_write(id),
            Thread::Network => self.send(id),
            Thread::Applier => self.apply(id),
        }
    }

    /// The clock of the state machine; the next tick follows whatever happens.
    pub(super) fn tick(&mut self, id: NodeId) {
        let (now_us, tick_us) = (self.now_us, self.tick_us);
        let node = self.node_mut(id);
        let process = node.process;
        let next_us = node.clock.true_us(tick_us);
        let now_ms = node.clock.local_ms(now_us);
        self.schedule(next_us, Step::Tick(id, process));
        let running = self.running(id);
        if running.paused {
            return;
        }
        let is_stalled = running.stalled & Thread::Machine as u8 != 0;
        if is_stalled || running.taken || running.machine_takes() == Takes::Nothing {
            running.tick_is_due = true;
            return;
        }
        let turn = running.turn(Some(now_ms));
        self.hand_on(id, turn);
    }

    /// The state machine takes what waits, for a turn a little later.
    fn take(&mut self, id: NodeId) {
        let delay_us = self.random.between(1, 40);
        let node = self.node_mut(id);
        let process = node.process;
        let running = node.running.as_mut().expect("a node that runs");
        if running.taken || running.machine_takes() != Takes::All {
            return;
        }
        let before = running.machine.generation();
        running.taken = running.machine.take(&running.inbox, &mut running.inputs);
        let (generation, taken) = (running.machine.generation(), running.taken);
        if generation != before {
            self.counts.add(Count::Rebuilds);
            self.record(id, What::Rebuilt { generation });
        }
        if taken || self.running(id).tick_is_due {
            self.running(id).taken = true;
            self.schedule(delay_us, Step::Turn(id, process));
        }
    }

    pub(super) fn turn(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let node = self.node_mut(id);
        let now_ms = node.clock.local_ms(now_us);
        let running = node.running.as_mut().expect("a node that runs");
        if running.paused {
            return;
        }
        let tick = std::mem::take(&mut running.tick_is_due).then_some(now_ms);
        let turn = running.turn(tick);
        self.hand_on(id, turn);
        self.wake(id, Thread::Machine);
    }

    /// What a turn made is on its way: wakes the threads behind the queues.
    fn hand_on(&mut self, id: NodeId, turn: Turn) {
        self.watch_turn(id, &turn);
        for event in &turn.events {
            self.note(id, event);
        }
        let running = self.running(id);
        let is_free = running.machine_is_free();
        if !is_free {
            self.counts.add(Count::Stuck);
        }
        if turn.chosen.is_some() {
            self.wake(id, Thread::Applier);
        }
        if turn.fork_changed {
            self.watch_fork(id);
        }
    }

    fn note(&mut self, id: NodeId, event: &Event) {
        match event {
            Event::Leading { ballot, adopted, holes } => {
                self.checker.leads(id, *ballot);
                self.counts.add(Count::Elections);
                self.counts.add_many(Count::Adoptions, *adopted);
                self.counts.add_many(Count::Holes, *holes);
            }
            Event::SteppedDown { .. } => self.counts.add(Count::StepDowns),
            Event::Preparing { handed_by: Some(_), .. } => self.counts.add(Count::HandedOver),
            Event::Truncating { .. } => self.counts.add(Count::Truncations),
            Event::KeptLeading { .. } => self.counts.add(Count::KeptLeading),
            _ => {}
        }
        let text = self.recorder.text(|| event.to_string());
        self.record(id, What::Noted { text });
    }

    /// Storage begins to write all that waits.
    fn begin_write(&mut self, id: NodeId) {
        let (low_us, high_us) = (self.faults.write_min_us, self.faults.write_max_us);
        let took_us = self.random.between(low_us, high_us + 1);
        let now_us = self.now_us;
        let node = self.node_mut(id);
        let process = node.process;
        let failing_us = if node.disk.fails_next() { FAILURE_US } else { 0 };
        let running = node.running.as_mut().expect("a node that runs");
        if running.is_suspended || running.writing.is_some() || !running.storage_is_free() {
            return;
        }
        if !running.begin_write() {
            return;
        }
        let works = running.writing.as_deref().unwrap_or_default();
        let must_write = works.iter().any(|work| work.must_write());
        let count = works.len() as u64;
        let hung_us = running.disk_busy_until_us.saturating_sub(now_us);
        let took_us = if must_write { took_us * running.disk_factor + failing_us + hung_us } else { 3 };
        if must_write {
            let works = self.running(id).writing.take().unwrap_or_default();
            let entries = works.iter().map(|work| work.entries.len() as u64).sum();
            let text = self.recorder.text(|| writing_text(&works));
            self.running(id).writing = Some(works);
            self.last_write += 1;
            let write = self.last_write;
            self.running(id).write = write;
            self.record(id, What::Writing { write, works: count, entries, text });
        }
        // Storage has made room: the state machine may have waited for it.
        self.wake(id, Thread::Machine);
        self.schedule(took_us, Step::WriteEnds(id, process));
    }

    pub(super) fn end_write(&mut self, id: NodeId) {
        if self.running(id).paused {
            return;
        }
        let works = self.running(id).writing.take().unwrap_or_default();
        let generation = self.running(id).storage.generation();
        let written = Written::of(&works, generation);
        let must_write = works.iter().any(|work| work.must_write());
        let running = self.running(id);
        running.writing = Some(works);
        match running.end_write() {
            Ok(durable) => {
                let write = self.running(id).write;
                self.watch_durable(id, &written, &durable, must_write.then_some(write));
                self.running(id).forward(durable);
                self.wake(id, Thread::Storage);
            }
            Err(TurnError::Write(WriteError::Passing(why))) => {
                self.node_mut(id).doubt(written);
                self.suspend(id, &why);
            }
            Err(TurnError::Write(WriteError::Fatal(why))) => {
                self.node_mut(id).doubt(written);
                let write = self.running(id).write;
                self.record(id, What::WriteFailed { write, flush: true, text: why });
                self.end_and_restart(id, "its disk failed");
            }
            Err(TurnError::Read(error)) => self.lose(id, "it found a damaged record", &error.to_string()),
        }
    }

    fn suspend(&mut self, id: NodeId, why: &str) {
        let process = self.node(id).process;
        let running = self.running(id);
        running.is_suspended = true;
        running.tell(Control::Suspend);
        let write = running.write;
        let text = self.recorder.text(|| why.to_owned());
        self.record(id, What::WriteFailed { write, flush: false, text });
        self.record(id, What::Suspended);
        self.wake(id, Thread::Machine);
        self.schedule(PROBE_US, Step::Retry(id, process));
    }

    /// Storage looks for room on its disk. Returns whether there is some, and the node was rebuilt.
    #[must_use]
    pub(super) fn retry(&mut self, id: NodeId) -> bool {
        let node = self.node_mut(id);
        let process = node.process;
        let running = node.running.as_mut().expect("a node that runs");
        if running.paused || !running.is_suspended {
            return false;
        }
        running.works.drain(&mut Vec::new());
        match running.storage.retry() {
            Ok(Some(restored)) => {
                running.is_suspended = false;
                running.tell(Control::Rebuild(restored));
                self.reconcile(id);
                self.wake_all(id);
                return true;
            }
            Ok(None) => {
                self.wake(id, Thread::Machine);
                self.schedule(PROBE_US, Step::Retry(id, process));
            }
            Err(RetryError::Read(error @ OpenError::Damaged { .. })) => {
                self.lose(id, "it cannot read back what is durable", &error.to_string());
            }
            Err(_) => self.end_and_restart(id, "its disk failed"),
        }
        false
    }

    /// The network thread takes all that waits.
    fn send(&mut self, id: NodeId) {
        let (sent, bound) = self.running(id).send(id);
        for binding in bound {
            self.node_mut(id).account.bound.insert(binding.node, binding.directory);
        }
        for message in sent {
            self.transmit(message);
        }
        let running = self.running(id);
        if !running.inbox.own.is_empty() || !running.machine_is_free() || running.tick_is_due {
            self.wake(id, Thread::Machine);
        }
        // Others may have waited for the room that there is now.
        self.wake(id, Thread::Storage);
        let running = self.running(id);
        if !running.outgoing.is_empty() {
            self.wake(id, Thread::Network);
        }
    }

    /// The applier delivers some of what is chosen.
    fn apply(&mut self, id: NodeId) {
        let running = self.running(id);
        if running.log_file_fails {
            return;
        }
        let before = running.applier.applied();
        let delivered = match running.applier.turn() {
            Ok(delivered) => delivered,
            Err(ApplyError::Read(LogReadError::Unreadable { why: EngineError::Closed, .. })) => return,
            Err(error) => return self.lose(id, "it found a damaged record", &error.to_string()),
        };
        let applied = running.applier.applied();
        let is_behind = applied < running.recent.chosen();
        self.watch_delivered(id, before, applied, &delivered);
        for (ticket, answer) in delivered.answers {
            self.answer(ticket, answer);
        }
        if delivered.more || (is_behind && applied > before) {
            self.wake(id, Thread::Applier);
        }
    }
}

fn writing_text(works: &[Work]) -> String {
    let mut text = String::new();
    for work in works {
        if let Some(hard_state) = work.hard_state {
            text += &format!("{hard_state} ");
        }
        if let Some(first) = work.truncate {
            text += &format!("truncate from {first} ");
        }
        for entry in &work.entries {
            text += &format!("{entry} ");
        }
    }
    text.trim_end().to_owned()
}
