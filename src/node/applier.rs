//! The applier thread: delivers what is chosen, answers who waits, writes the chosen lines.
//!
//! Answers go out before the lines of the same turn are written; both at this node's own pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::consensus::types::Index;
use crate::pipeline::applier::{Applier, ApplyError, Delivered};
use crate::pipeline::queue::{Bell, Queue};
use crate::pipeline::requests::{Answer, Ticket};

use super::ending::{Ender, ExitCode};
use super::log::ChosenLog;

/// How long the thread sleeps at most when nothing is chosen.
const IDLE: Duration = Duration::from_millis(500);

pub(super) struct ApplierThread {
    pub(super) applier: Applier,
    pub(super) lines: ChosenLog,
    /// The log file has the lines up to it.
    pub(super) logged: Index,
    pub(super) answers: Arc<Queue<Vec<(Ticket, Answer)>>>,
    pub(super) bell: Bell,
    pub(super) applied: Arc<AtomicU64>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) ender: Ender,
}

impl ApplierThread {
    /// Runs until told to stop and nothing is left to deliver and to write.
    pub(super) fn run(mut self) {
        loop {
            let stop = self.stop.load(Ordering::Acquire);
            match self.applier.turn() {
                Ok(delivered) => {
                    let more = delivered.more;
                    self.hand_on(delivered);
                    // What is left comes after the next start: lines that the file has, or does not take.
                    if stop && (self.applier.applied() < self.logged || !self.lines.flush()) {
                        return;
                    }
                    if more {
                        continue;
                    }
                }
                Err(error) => {
                    self.lines.flush();
                    self.ender.fail(code_of(&error), error.to_string());
                    return;
                }
            }
            if stop {
                return;
            }
            self.wait();
        }
    }

    fn hand_on(&mut self, delivered: Delivered) {
        let Delivered { entries, answers, .. } = delivered;
        self.applied.store(self.applier.applied(), Ordering::Release);
        if !answers.is_empty() {
            let _ = self.answers.push(answers);
        }
        for (entry, counts) in entries {
            if entry.index > self.logged {
                self.lines.append(entry.index, &entry.command, entry.ballot, !counts);
                self.logged = entry.index;
            }
        }
        self.lines.flush_due(Instant::now());
    }

    fn wait(&mut self) {
        let until_flush = self.lines.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        self.bell.wait(until_flush.unwrap_or(IDLE).min(IDLE));
        self.lines.flush_due(Instant::now());
    }
}

fn code_of(error: &ApplyError) -> ExitCode {
    match error {
        ApplyError::Read(error) => ExitCode::of_read(error),
        ApplyError::UnknownKind { .. } => ExitCode::Data,
    }
}
