//! The storage thread: one durable write for everything that waits, then the messages behind it; and what
//! happens when the disk fails.
//!
//! After a failure that may be temporary (the disk is full) the thread forwards nothing, suspends the state
//! machine, waits until a probe write succeeds, and has the state machine rebuilt from what is durable. Any
//! other failure ends the node: after a failed flush nobody knows what is on the disk, so nothing more is
//! acknowledged and nothing is retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::logfile::RateLimited;
use crate::pipeline::inbox::{Control, Inbox, Outgoing};
use crate::pipeline::queue::Queue;
use crate::pipeline::state_machine::Work;
use crate::pipeline::storage::{Durable, Storage, TurnError};
use crate::store::WriteError;

use super::clock::Clock;
use super::ending::{Ender, ExitCode};
use super::health::Health;

/// The longest sleep of the thread when there is nothing to write.
const IDLE: Duration = Duration::from_millis(500);
/// How long it waits before each probe of a full disk.
const PROBE: Duration = Duration::from_millis(500);
/// A write that takes longer than this is logged.
const SLOW_WRITE_MS: u64 = 250;
/// Slow writes are logged at most this often.
pub(super) const SLOW_WRITE_EVERY: Duration = Duration::from_secs(5);
/// So is a lack of room that stops nothing.
pub(super) const NO_ROOM_EVERY: Duration = Duration::from_secs(60);

pub(super) struct StorageThread {
    pub(super) storage: Storage,
    pub(super) works: Arc<Queue<Work>>,
    pub(super) outgoing: Arc<Queue<Outgoing>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Clock,
    pub(super) ender: Ender,
    pub(super) slow: RateLimited,
    pub(super) no_room: RateLimited,
}

impl StorageThread {
    /// Runs until the works queue is closed and empty, or the disk has failed. Whatever ended it, nobody
    /// waits for this thread afterwards: neither the state machine for room nor the network for messages.
    pub(super) fn run(mut self) {
        let in_order = self.write_until_closed();
        if in_order {
            match self.storage.close() {
                Ok(()) => {}
                Err(error @ WriteError::Passing(_)) => warn!("while the store was closed: {error}"),
                Err(error) => {
                    let text = format!("the store could not be closed in order: {error}");
                    self.ender.fail(ExitCode::Disk, text);
                }
            }
        }
        self.works.close();
        self.outgoing.close();
    }

    /// Returns whether everything was written.
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
            if !works.is_empty() && !self.turn(std::mem::take(&mut works)) {
                return false;
            }
            if !self.at_work(StorageThread::housekeep) {
                return false;
            }
        }
    }

    /// Does what may hang. The state machine watches how long it takes.
    fn at_work<R>(&mut self, work: impl FnOnce(&mut StorageThread) -> R) -> R {
        self.health.begin_or_end_work();
        let done = work(self);
        self.health.begin_or_end_work();
        done
    }

    /// Returns whether the thread goes on.
    fn turn(&mut self, works: Vec<Work>) -> bool {
        let began_ms = self.clock.now_ms();
        match self.at_work(|thread| thread.storage.turn(works)) {
            Ok(durable) => {
                self.warn_if_slow(began_ms, durable.entries);
                self.forward(durable);
                true
            }
            Err(TurnError::Write(error @ WriteError::Passing(_))) => {
                warn!(
                    "a write failed, perhaps temporarily: {error}; proposals are refused until there is room"
                );
                self.wait_and_rebuild()
            }
            Err(TurnError::Write(error)) => self.ender.fail(ExitCode::Disk, error.to_string()),
            Err(TurnError::Read(error)) => self.ender.fail(ExitCode::of_read(&error), error.to_string()),
        }
    }

    fn forward(&mut self, durable: Durable) {
        self.health.wrote(durable.entries);
        for item in self.storage.outgoing(durable) {
            let _ = self.outgoing.push(item);
        }
    }

    /// From here on nothing of this generation is written or forwarded. Returns whether the thread goes on,
    /// which it does not if the node ends in the meantime.
    fn wait_and_rebuild(&mut self) -> bool {
        self.health.set_disk_full(true);
        self.tell(Control::Suspend);
        loop {
            // This comes first, so that a disk with room for the probe and little else costs at most two
            // rebuilds a second.
            std::thread::sleep(PROBE);
            self.works.drain(&mut Vec::new());
            if self.works.is_closed() {
                // The store cannot be closed in order: it takes no more writes.
                return false;
            }
            match self.storage.retry() {
                Ok(Some(restored)) => {
                    info!("the disk takes writes again");
                    self.tell(Control::Rebuild(restored));
                    self.health.set_disk_full(false);
                    return true;
                }
                Ok(None) => {}
                Err(error) => return self.ender.fail(ExitCode::Disk, error.to_string()),
            }
        }
    }

    fn tell(&self, control: Control) {
        let told = self.inbox.control.try_push(control);
        assert!(told.is_ok(), "the control queue has room for every control that can be under way: {told:?}");
    }

    /// Returns whether the thread goes on.
    fn housekeep(&mut self) -> bool {
        if self.health.due(self.clock.now_ms()) {
            self.health.set_low_on_space(self.storage.store().low_on_space());
        }
        match self.storage.store().housekeep(self.clock.now_ms()) {
            Ok(()) => true,
            Err(error @ WriteError::Passing(_)) => {
                self.no_room.warn(Instant::now(), || format!("{error}; it is tried again"));
                true
            }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::consensus::message::{ClusterBody, Message};
    use crate::consensus::types::{Ballot, HardState};
    use crate::pipeline::queue::Bell;
    use crate::pipeline::recent::Recent;
    use crate::store::engine::EngineError;
    use crate::store::memory::MemoryEngine;
    use crate::store::{Founding, Store};

    fn work(number: u64) -> Work {
        let promised = Ballot { round: number, node: 1 };
        let hard_state = Some(HardState { promised, chosen: 0 });
        let body = ClusterBody::Refuse { ballot: promised, promised };
        let messages = vec![Message { from: 1, to: 2, body: body.into() }];
        Work { number, hard_state, messages, ..Work::default() }
    }

    fn thread(engine: &Arc<MemoryEngine>) -> (StorageThread, Ender) {
        let founding = Founding {
            cluster: "test".into(),
            node: 1,
            protocol: "paxos".into(),
            members: BTreeMap::from([(1, "127.0.0.1:1".to_owned())]),
            delivery_window: 100,
        };
        let ender = Ender::default();
        let thread = StorageThread {
            storage: Storage::new(
                1,
                Store::open_on(engine.clone(), &founding, 7).unwrap().0,
                Arc::new(Recent::new(1, 0)),
            ),
            works: Arc::new(Queue::new(10, |_| 1, Bell::new())),
            outgoing: Arc::new(Queue::new(10, |_| 1, Bell::new())),
            inbox: Arc::new(Inbox::new()),
            health: Arc::default(),
            clock: Clock::start(),
            ender: ender.clone(),
            slow: RateLimited::new(SLOW_WRITE_EVERY),
            no_room: RateLimited::new(NO_ROOM_EVERY),
        };
        (thread, ender)
    }

    /// A disk fails while the node ends: nothing behind the write leaves, the failure is reported, and the
    /// threads before and after this one do not wait for it forever.
    #[test]
    fn a_failed_disk_lets_the_other_threads_end() {
        let engine = Arc::new(MemoryEngine::new());
        let (thread, ender) = thread(&engine);
        let (works, outgoing) = (thread.works.clone(), thread.outgoing.clone());
        engine.fail_sync(EngineError::Failed("a test let it fail".into()));
        works.push(work(1)).unwrap();
        thread.run();
        assert!(works.is_closed() && outgoing.is_closed());
        assert!(outgoing.is_empty());
        assert_eq!(ender.failure().unwrap().code, ExitCode::Disk);
    }

    /// What was pushed before the close is written, and its messages leave.
    #[test]
    fn what_waits_at_the_close_is_written() {
        let (thread, ender) = thread(&Arc::new(MemoryEngine::new()));
        let (works, outgoing) = (thread.works.clone(), thread.outgoing.clone());
        works.push(work(1)).unwrap();
        works.push(work(2)).unwrap();
        works.close();
        thread.run();
        assert_eq!(outgoing.len(), 1);
        assert!(outgoing.is_closed() && ender.failure().is_none());
    }
}
