//! The applier's way into the log file: chosen lines, gathered into blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::consensus::types::{Ballot, Command, Index};
use crate::pipeline::chosen_line;

use super::Shared;
use super::timestamp::Timestamp;

/// A block of this many bytes is written immediately.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// A line waits at most this long for its block to fill.
pub const MAX_DELAY: Duration = Duration::from_millis(50);

/// Writes chosen lines in index order, whatever the level, and loses none. It is for one thread, the applier,
/// which waits while the file takes no lines, even forever; nobody else waits with it.
///
/// Invariants: the block holds whole lines, the oldest unwritten first; `due` is set while it holds any.
/// Lines that are lost with the process, or dropped without [`ChosenLog::flush`], come after the next start,
/// which goes on after [`ChosenLog::last`] as found in the file.
pub struct ChosenLog {
    shared: Arc<Shared>,
    /// Whether the terminal shows chosen lines as well.
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

    /// The index of the last line, which is from an earlier run if this one has written none; `None` if
    /// neither the file nor the rotated ones hold any. Every index up to this one already has its line.
    pub fn last(&self) -> Option<Index> {
        self.last
    }

    /// Adds the line of a delivered entry. Its index must be above [`ChosenLog::last`]. If the block is full
    /// it is written, which may wait for the file.
    pub fn append(&mut self, index: Index, command: &Command, ballot: Ballot, noop: bool) {
        self.append_line(index, |line| chosen_line::format(line, index, command, ballot, noop));
    }

    /// Like [`ChosenLog::append`], for an application's operation with a name (see
    /// [`chosen_line::format_operation`]).
    pub fn append_operation(&mut self, index: Index, command: &Command, ballot: Ballot, name: &str) {
        self.append_line(index, |line| chosen_line::format_operation(line, index, command, ballot, name));
    }

    /// The time by which [`ChosenLog::flush_due`] must be called; `None` if nothing waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Writes lines that have waited long enough, which may wait for the file.
    pub fn flush_due(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.flush();
        }
    }

    /// Writes all lines that wait, and waits for the file. Returns whether all were written: after
    /// [`LogControl::stop_waiting`](super::LogControl::stop_waiting) they may not be, and then they come
    /// after the next start.
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
