//! The storage thread: one durable write for all that waits, then the messages behind it; and what happens
//! when the disk fails.
//!
//! A write that may pass (the disk is full) forwards nothing, suspends the state machine, waits until a
//! probe write succeeds, and has it rebuilt from what is durable. Any other failure ends the node: after a
//! failed flush nobody knows what is on the disk, so nothing more is acknowledged and nothing is retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::consensus::types::NodeId;
use crate::pipeline::inbox::{Control, Inbox, Outgoing};
use crate::pipeline::queue::Queue;
use crate::pipeline::recent::Recent;
use crate::pipeline::state_machine::Work;
use crate::pipeline::storage::{self, Durable, TurnError};
use crate::store::{Recovered, Store, WriteError};

use super::clock::Clock;
use super::ending::{Ender, ExitCode};
use super::health::Health;
use super::log::RateLimited;

/// How long the thread sleeps at most when there is nothing to write.
const IDLE: Duration = Duration::from_millis(500);
/// How long it waits before each probe of a full disk.
const PROBE: Duration = Duration::from_millis(500);
/// A write above this is told to the log.
const SLOW_WRITE_MS: u64 = 250;
/// And told so often at most.
pub(super) const SLOW_WRITE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct StorageThread {
    pub(super) node: NodeId,
    pub(super) store: Store,
    pub(super) works: Arc<Queue<Work>>,
    pub(super) outgoing: Arc<Queue<Outgoing>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) recent: Arc<Recent>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Clock,
    pub(super) ender: Ender,
    /// Works of older generations are dropped.
    pub(super) generation: u64,
    pub(super) slow: RateLimited,
}

impl StorageThread {
    /// Runs until the works queue is closed and empty, or the disk failed. Then nobody waits for this thread any
    /// more, whatever ended it: neither the state machine for room nor the network for messages.
    pub(super) fn run(mut self) {
        let in_order = self.write_until_closed();
        if in_order && let Err(error) = self.store.close() {
            self.ender.fail(ExitCode::Disk, format!("the store did not close in order: {error}"));
        }
        self.works.close();
        self.outgoing.close();
    }

    /// Whether all was written.
    fn write_until_closed(&mut self) -> bool {
        let mut works = Vec::new();
        loop {
            // Asked before the drain: what comes after a close is refused, so nothing is left behind.
            let closed = self.works.is_closed();
            if !self.works.drain(&mut works) {
                if closed {
                    return true;
                }
                self.works.bell().wait(IDLE);
            }
            let generation = self.generation;
            works.retain(|work: &Work| work.generation == generation);
            if !works.is_empty() && !self.turn(std::mem::take(&mut works)) {
                return false;
            }
            if !self.housekeep() {
                return false;
            }
        }
    }

    /// Whether the thread goes on.
    fn turn(&mut self, works: Vec<Work>) -> bool {
        let began_ms = self.clock.now_ms();
        match storage::turn(self.node, works, &mut self.store, &self.recent) {
            Ok(durable) => {
                self.warn_if_slow(began_ms, durable.entries);
                self.forward(durable);
                true
            }
            Err(TurnError::Write(error @ WriteError::Passing(_))) => {
                warn!("a write failed and may pass: {error}; proposals are refused until there is room");
                self.wait_and_rebuild()
            }
            Err(TurnError::Write(error)) => self.ender.fail(ExitCode::Disk, error.to_string()),
            Err(TurnError::Read(error)) => self.ender.fail(ExitCode::of_read(&error), error.to_string()),
        }
    }

    fn forward(&mut self, durable: Durable) {
        let Durable { messages, bindings, entries } = durable;
        self.health.wrote(entries);
        for binding in bindings {
            let _ = self.outgoing.push(Outgoing::Bound(binding));
        }
        if !messages.is_empty() {
            let _ = self.outgoing.push(Outgoing::Messages { generation: self.generation, messages });
        }
    }

    /// Nothing of this generation is written or forwarded any more. Whether the thread goes on: not if the node
    /// is to end meanwhile.
    fn wait_and_rebuild(&mut self) -> bool {
        self.health.set_disk_full(true);
        self.generation += 1;
        self.tell(Control::Suspend);
        loop {
            // First of all, so that a disk with room for the probe and little else costs two rebuilds a second.
            std::thread::sleep(PROBE);
            self.works.drain(&mut Vec::new());
            if self.works.is_closed() {
                // The store is not closed in order: it takes no more writes.
                return false;
            }
            match self.try_rebuild() {
                Ok(Some(recovered)) => {
                    info!("the disk takes writes again");
                    self.tell(Control::Rebuild(restored(&recovered)));
                    self.health.set_disk_full(false);
                    return true;
                }
                Ok(None) => {}
                Err(text) => return self.ender.fail(ExitCode::Disk, text),
            }
        }
    }

    /// What is durable, if the disk takes a write again.
    fn try_rebuild(&mut self) -> Result<Option<Recovered>, String> {
        let recovered = match self.store.rebuild() {
            Ok(recovered) => recovered,
            Err(error) if error.may_pass() => return Ok(None),
            Err(error) => return Err(format!("cannot read back what is durable: {error}")),
        };
        match self.store.probe() {
            Ok(()) => Ok(Some(recovered)),
            Err(WriteError::Passing(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tell(&self, control: Control) {
        let told = self.inbox.control.try_push(control);
        assert!(told.is_ok(), "the control queue has room for every control that can be under way: {told:?}");
    }

    /// Whether the thread goes on.
    fn housekeep(&mut self) -> bool {
        if self.health.due(self.clock.now_ms()) {
            self.health.set_low_on_space(self.store.low_on_space());
        }
        match self.store.housekeep(self.clock.now_ms()) {
            Ok(()) => true,
            Err(error) => self.ender.fail(ExitCode::Disk, error.to_string()),
        }
    }

    fn warn_if_slow(&mut self, began_ms: u64, entries: usize) {
        let took_ms = self.clock.now_ms() - began_ms;
        if took_ms > SLOW_WRITE_MS {
            self.slow.warn(Instant::now(), || {
                format!("the disk is slow: a durable write of {entries} entries took {took_ms} ms")
            });
        }
    }
}

/// What a core needs of what the store recovered.
pub(super) fn restored(recovered: &Recovered) -> crate::consensus::paxos::Restored {
    crate::consensus::paxos::Restored {
        hard_state: recovered.hard_state,
        highest_round: recovered.max_round,
        compacted: recovered.compacted,
        entries: recovered.entries.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use super::*;
    use crate::consensus::message::{Body, Message};
    use crate::consensus::types::{Ballot, HardState};
    use crate::node::ending::End;
    use crate::pipeline::queue::Bell;
    use crate::store::Founding;
    use crate::store::engine::EngineError;
    use crate::store::memory::MemoryEngine;

    fn work(number: u64) -> Work {
        let promised = Ballot { round: number, node: 1 };
        let hard_state = Some(HardState { promised, chosen: 0 });
        let body = Body::Refuse { ballot: promised, promised };
        let messages = vec![Message { from: 1, to: 2, body }];
        Work { number, hard_state, messages, ..Work::default() }
    }

    fn thread(engine: &Arc<MemoryEngine>) -> (StorageThread, mpsc::Receiver<End>) {
        let founding = Founding {
            cluster: "test".into(),
            node: 1,
            protocol: "paxos".into(),
            members: BTreeMap::from([(1, "127.0.0.1:1".to_owned())]),
            delivery_window: 100,
        };
        let (end, ended) = mpsc::channel();
        let thread = StorageThread {
            node: 1,
            store: Store::open_on(engine.clone(), &founding, 7).unwrap().0,
            works: Arc::new(Queue::new(10, |_| 1, Bell::new())),
            outgoing: Arc::new(Queue::new(10, |_| 1, Bell::new())),
            inbox: Arc::new(Inbox::new()),
            recent: Arc::new(Recent::new(1, 0)),
            health: Arc::default(),
            clock: Clock::start(),
            ender: Ender::new(end),
            generation: 0,
            slow: RateLimited::new(SLOW_WRITE_EVERY),
        };
        (thread, ended)
    }

    /// A disk that fails while the node ends: nothing behind the write leaves, the failure is told, and the
    /// threads before and after this one do not wait for it for ever.
    #[test]
    fn a_failed_disk_lets_the_other_threads_end() {
        let engine = Arc::new(MemoryEngine::new());
        let (thread, ended) = thread(&engine);
        let (works, outgoing) = (thread.works.clone(), thread.outgoing.clone());
        engine.fail_sync(EngineError::Failed("a test let it fail".into()));
        works.push(work(1)).unwrap();
        thread.run();
        assert!(works.is_closed() && outgoing.is_closed());
        assert!(outgoing.is_empty());
        assert!(matches!(ended.try_recv(), Ok(End::Failed { code: ExitCode::Disk, .. })));
    }

    /// What was pushed before the close is written and leaves.
    #[test]
    fn what_waits_at_the_close_is_written() {
        let (thread, ended) = thread(&Arc::new(MemoryEngine::new()));
        let (works, outgoing) = (thread.works.clone(), thread.outgoing.clone());
        works.push(work(1)).unwrap();
        works.push(work(2)).unwrap();
        works.close();
        thread.run();
        assert_eq!(outgoing.len(), 1);
        assert!(outgoing.is_closed() && ended.try_recv().is_err());
    }
}
