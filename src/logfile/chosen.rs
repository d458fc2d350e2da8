//! The applier's way into the log file: chosen lines, gathered into blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::consensus::types::{Ballot, Command, Index};
use crate::pipeline::chosen_line;

use super::Shared;
use super::timestamp::Timestamp;

/// A block of so many bytes is written at once.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// A line waits at most so long for its block.
pub const MAX_DELAY: Duration = Duration::from_millis(50);

/// Writes chosen lines: in index order, none lost, whatever the level. For one thread, the applier, which
/// waits while the file takes none, be it for ever; nobody else waits with it.
///
/// Invariants: the block holds whole lines, the oldest unwritten first; `due` is set while it holds any.
/// What is lost with the process, or dropped without [`ChosenLog::flush`], comes after the next start, which
/// goes on after [`ChosenLog::last`] as the file has it.
pub struct ChosenLog {
    shared: Arc<Shared>,
    /// Whether the terminal shows chosen lines, too.
    on_terminal: bool,
    last: Option<Index>,
    block: Vec<u8>,
    block_lines: u64,
    due: Option<Instant>,
    timestamp: Timestamp,
}

impl ChosenLog {
    pub(super) fn new(shared: Arc<Shared>, on_terminal: bool, last: Option<Index>) -> ChosenLog {
        ChosenLog {
            shared,
            on_terminal,
            last,
            block: Vec::with_capacity(BLOCK_BYTES + chosen_line::MAX_LINE_BYTES),
            block_lines: 0,
            due: None,
            timestamp: Timestamp::default(),
        }
    }

    /// The index of the last line, of an earlier run if there is none of this one; `None` if the file (and
    /// its rotated ones) hold none. What the applier delivers up to it has its line already.
    pub fn last(&self) -> Option<Index> {
        self.last
    }

    /// Adds the line of a delivered entry. Its index is above [`ChosenLog::last`]. Writes a full block, and
    /// then may wait for the file.
    pub fn append(&mut self, index: Index, command: &Command, ballot: Ballot, noop: bool) {
        self.append_line(index, |line| chosen_line::format(line, index, command, ballot, noop));
    }

    /// As [`ChosenLog::append`], of an application's operation with a name
    /// (see [`chosen_line::format_operation`]).
    pub fn append_operation(&mut self, index: Index, command: &Command, ballot: Ballot, name: &str) {
        self.append_line(index, |line| chosen_line::format_operation(line, index, command, ballot, name));
    }

    /// Until when [`ChosenLog::flush_due`] is to be called; `None`: nothing waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Writes what has waited long enough; then may wait for the file.
    pub fn flush_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.flush();
        }
    }

    /// Writes all that waits, and waits for the file. Whether all is written: it may not be after
    /// [`LogControl::stop_waiting`](super::LogControl::stop_waiting), and then comes after the next start.
    pub fn flush(&mut self) -> bool {
        if self.block.is_empty() {
            return true;
        }
        let taken = self.shared.write_waiting(&self.block);
        if self.on_terminal
            && let Some(terminal) = &self.shared.terminal
        {
            terminal.offer(Bytes::copy_from_slice(&self.block[..taken]));
        }
        let all = taken == self.block.len();
        let lines = if all {
            self.block_lines
        } else {
            self.block[..taken].iter().filter(|byte| **byte == b'\n').count() as u64
        };
        self.block.drain(..taken);
        self.block_lines -= lines;
        self.due = if all { None } else { Some(Instant::now() + MAX_DELAY) };
        self.shared.chosen_lines.fetch_add(lines, Ordering::Relaxed);
        self.shared.chosen_blocks.fetch_add(1, Ordering::Relaxed);
        all
    }

    fn append_line(&mut self, index: Index, format: impl FnOnce(&mut Vec<u8>)) {
        let last = self.last;
        assert!(last.is_none_or(|last| index > last), "a chosen line of index {index} after {last:?}");
        self.last = Some(index);
        self.due = self.due.or_else(|| Some(Instant::now() + MAX_DELAY));
        self.timestamp.append(&mut self.block, SystemTime::now());
        self.block.extend_from_slice(b" [INFO] ");
        format(&mut self.block);
        self.block.push(b'\n');
        self.block_lines += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.flush();
        }
    }
}
