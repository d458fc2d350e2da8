//! A lane: a bounded queue of lines that never makes the logging thread wait, and the thread that drains it
//! into the file or onto the terminal.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::pipeline::queue::{Bell, Queue};
use crate::store::is_no_room;

use super::Shared;
use super::timestamp::Timestamp;

/// A consumer that nobody wakes checks this often whether its lane was closed; a ring wakes it immediately.
const IDLE: Duration = Duration::from_secs(3600);

/// Lines on their way, in pieces that end with a newline.
pub struct Lane {
    queue: Queue<Bytes>,
    dropped_lines: AtomicU64,
    /// The number of pieces offered to the queue; `handled` is how many its thread is done with.
    offered: AtomicU64,
    handled: Mutex<u64>,
    progress: Condvar,
}

impl Lane {
    /// Returns a lane that holds at most this many bytes.
    pub fn new(capacity_bytes: usize) -> Lane {
        Lane {
            queue: Queue::new(capacity_bytes, Bytes::len, Bell::new()),
            dropped_lines: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            handled: Mutex::new(0),
            progress: Condvar::new(),
        }
    }

    /// Adds lines, or drops and counts them if there is no room. Never waits.
    pub fn offer(&self, lines: Bytes) {
        // Counted before the push, or a waiter could miss a piece that is handled in between.
        self.offered.fetch_add(1, Ordering::SeqCst);
        if let Err(lines) = self.queue.try_push(lines) {
            self.drop_lines(&lines);
            self.handled(1);
        }
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped_lines.load(Ordering::Relaxed)
    }

    /// Lets the thread end once it has drained what waits.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Waits until everything that was offered before is handled, at most for `timeout`.
    pub fn wait_until_handled(&self, timeout: Duration) {
        let offered = self.offered.load(Ordering::SeqCst);
        let deadline = Instant::now() + timeout;
        let mut handled = self.handled.lock();
        while *handled < offered && !self.progress.wait_until(&mut handled, deadline).timed_out() {}
    }

    fn drop_lines(&self, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        self.dropped_lines.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn handled(&self, pieces: usize) {
        *self.handled.lock() += pieces as u64;
        self.progress.notify_all();
    }

    /// Passes everything that waits to `write`, again and again until the lane is closed.
    fn run(&self, mut write: impl FnMut(&[u8])) {
        let mut pieces = Vec::new();
        let mut lines = Vec::new();
        let mut told = 0;
        loop {
            // Asked before the drain: what comes after a close is refused, so nothing is left behind.
            let closed = self.queue.is_closed();
            if !self.queue.drain(&mut pieces) {
                if closed {
                    return;
                }
                self.queue.bell().wait(IDLE);
                continue;
            }
            lines.clear();
            pieces.iter().for_each(|piece| lines.extend_from_slice(piece));
            let dropped = self.dropped();
            if dropped > told {
                let text = format!(
                    "{} lines were dropped here: they came faster than they could be written",
                    dropped - told
                );
                lines.extend_from_slice(&own_line("WARN", &text));
                told = dropped;
            }
            write(&lines);
            self.handled(pieces.len());
            pieces.clear();
        }
    }
}

/// Returns a line of the log about itself, which does not take the way of other lines.
pub fn own_line(level: &str, text: &str) -> Bytes {
    let mut line = Vec::new();
    Timestamp::default().append(&mut line, SystemTime::now());
    line.extend_from_slice(format!(" [{level}] {text}\n").as_bytes());
    line.into()
}

/// Starts the thread that writes diagnostic lines to the file.
pub fn spawn_file(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("log-file".into()).spawn(move || {
        let lane = shared.file_lane.clone();
        lane.run(|lines| {
            let taken = shared.write_waiting(lines);
            lane.drop_lines(&lines[taken..]);
        });
    })
}

/// Starts the thread that writes lines to the terminal. Nobody joins it: it may hang in a write forever.
pub fn spawn_terminal(lane: Arc<Lane>, mut terminal: File) -> io::Result<()> {
    let mut gone = false;
    let run = move || {
        lane.clone().run(|lines| {
            let written = if gone { Ok(0) } else { write_terminal(&mut terminal, lines) };
            let taken = written.unwrap_or_else(|(taken, error)| {
                gone = !is_no_room(&error);
                taken
            });
            lane.drop_lines(&lines[taken..]);
        });
    };
    std::thread::Builder::new().name("log-terminal".into()).spawn(run).map(drop)
}

/// Returns how many bytes were written, which are all unless there is an error. Somebody else may have made
/// the terminal non-blocking. If it is a file on a full disk, these lines are lost; all other errors mean
/// that it is gone for good.
fn write_terminal(terminal: &mut File, lines: &[u8]) -> Result<usize, (usize, io::Error)> {
    let mut taken = 0;
    while taken < lines.len() {
        match terminal.write(&lines[taken..]) {
            Ok(0) => return Err((taken, io::ErrorKind::WriteZero.into())),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err((taken, error)),
        }
    }
    Ok(taken)
}
