//! The applier thread: delivers what is chosen, sends it to the apply channel, answers those that wait, and
//! writes the chosen lines, all at this node's own pace.
//!
//! Answers go out before the lines of the same turn are written, and after its items are in the channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::application::Item;
use crate::consensus::types::Index;
use crate::logfile::ChosenLog;
use crate::pipeline::applier::{Applier, ApplyError, Deliveries, Delivery};
use crate::pipeline::queue::Bell;

use super::clients::Answers;
use super::ending::{Ender, ExitCode};
use super::items::ApplySender;
use super::shared::Shared;

/// The longest sleep of the thread when nothing is chosen.
const IDLE: Duration = Duration::from_millis(500);

pub(super) struct ApplierThread {
    pub(super) applier: Applier,
    /// For an embedder that wants the items.
    pub(super) apply: Option<ApplySender>,
    pub(super) shared: Arc<Shared>,
    /// The queue to the client port, if there is one.
    pub(super) answers: Option<Arc<Answers>>,
    pub(super) lines: Option<ChosenLog>,
    /// The log file has the lines up to this index.
    pub(super) logged: Index,
    pub(super) bell: Bell,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) ender: Ender,
}

impl ApplierThread {
    /// Runs until it is told to stop and nothing is left to deliver or to write.
    pub(super) fn run(mut self) {
        loop {
            let stop = self.stop.load(Ordering::Acquire);
            match self.applier.turn() {
                Ok(delivered) => {
                    let more = delivered.more;
                    self.hand_on(delivered);
                    if stop && !self.is_wanted() {
                        return;
                    }
                    if more {
                        continue;
                    }
                }
                Err(error) => {
                    self.flush();
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

    /// Returns whether entries that are chosen and not yet delivered must still be delivered before the end.
    /// Otherwise they come after the next start: those whose lines the file already has, or does not take,
    /// and those that nobody waits for.
    fn is_wanted(&mut self) -> bool {
        match self.lines {
            Some(_) => self.applier.applied() >= self.logged && self.flush(),
            None => self.shared.requests.lock().waiters.count() > 0,
        }
    }

    fn hand_on(&mut self, delivered: Deliveries) {
        let Deliveries { entries, mut answers, responses, .. } = delivered;
        self.shared.applied.raise(self.applier.applied());
        self.send_items(&entries);
        if answers.iter().any(|(ticket, _)| ticket.is_embedded()) {
            let (embedded, clients): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|(ticket, _)| ticket.is_embedded());
            self.shared.handles.tell(&embedded, &responses);
            answers = clients;
        }
        if let Some(queue) = self.answers.as_ref().filter(|_| !answers.is_empty()) {
            let _ = queue.push(answers);
        }
        let Some(lines) = &mut self.lines else { return };
        for Delivery { entry, counts, .. } in entries {
            if entry.index > self.logged {
                lines.append(entry.index, &entry.command, entry.ballot, !counts);
                self.logged = entry.index;
            }
        }
        lines.flush_due(Instant::now());
    }

    /// Sends items to the channel, and waits while it is full.
    fn send_items(&self, entries: &[Delivery]) {
        let Some(apply) = &self.apply else { return };
        for Delivery { entry, number, .. } in entries {
            if let Some(number) = *number {
                apply.send(Item { index: entry.index, number, command: entry.command.clone() });
            }
        }
    }

    fn wait(&mut self) {
        let deadline = self.lines.as_ref().and_then(ChosenLog::deadline);
        let until_flush = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        self.bell.wait(until_flush.unwrap_or(IDLE).min(IDLE));
        if let Some(lines) = &mut self.lines {
            lines.flush_due(Instant::now());
        }
    }

    /// Writes all lines. Returns whether that succeeded.
    fn flush(&mut self) -> bool {
        self.lines.as_mut().is_none_or(ChosenLog::flush)
    }
}

fn code_of(error: &ApplyError) -> ExitCode {
    match error {
        ApplyError::Read(error) => ExitCode::of_read(error),
        ApplyError::UnknownKind { .. } => ExitCode::Data,
    }
}
