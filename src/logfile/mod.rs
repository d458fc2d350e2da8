//! The log of a node: one file with two ways into it, and the terminal.
//!
//! ```text
//! log::info!(…) on any thread ─► bounded queue ─► log-file thread ──┐
//!                           │   (full: dropped, counted)            ├─► LogFile (mutex, whole lines)
//! applier ─► ChosenLog ─────┼── blocks of 64 KiB or 50 ms; waits ───┘
//!                           └─► bounded queue ─► terminal thread ─► stdout   (full: dropped, counted)
//! ```
//!
//! Diagnostic lines never make a thread wait, so they may be dropped, and are if there are too many
//! (`limited`); chosen lines are never dropped, so the applier may wait. The terminal has its own queue and
//! thread, so that a pipe on stdout or a log FIFO that nobody reads holds up neither the other nor consensus.
//! The terminal is stdout: the log is everything that a server prints, except that errors which keep it from
//! starting at all go to stderr.
//!
//! Left out: compression, and sending lines elsewhere.

mod apart;
mod chosen;
#[cfg(feature = "workshop")]
mod diagnostics;
mod failure;
mod file;
mod lane;
mod limited;
mod names;
mod tail;
mod timestamp;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::config::Terminal;
use crate::store::is_no_room;

#[cfg(feature = "workshop")]
use self::diagnostics::Diagnostics;
use self::failure::Failure;
use self::file::LogFile;
use self::lane::Lane;

pub use self::apart::check_apart;
pub use self::chosen::ChosenLog;
pub use self::limited::RateLimited;

/// The most bytes of diagnostic lines that wait for the file; more are dropped and counted.
pub const FILE_QUEUE_BYTES: usize = 1 << 20;

/// The most bytes of lines that wait for the terminal; more are dropped and counted.
pub const TERMINAL_QUEUE_BYTES: usize = 1 << 20;

/// The longest wait of [`Log::close`], and of a thread that waits for a stuck file after
/// [`LogControl::stop_waiting`].
pub const LAST_WAIT: Duration = Duration::from_secs(1);

/// A file that takes no lines for longer than this causes a warning.
const WORTH_A_WARNING: Duration = Duration::from_secs(1);

/// The settings of a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The file; a FIFO or device works as well, but nothing is read back from it: nobody knows how much of
    /// what it took was read, so each run begins with the first line again.
    pub path: PathBuf,
    /// The least important diagnostic lines that are written. Chosen lines are written whatever the level.
    pub level: log::LevelFilter,
    /// What the terminal shows.
    pub terminal: Terminal,
    /// A file of this many bytes is rotated.
    pub max_bytes: u64,
    /// How many rotated files are kept, at least 1.
    pub keep: u32,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused something.
    #[error("cannot {what} the log file {}: {source}; make its folder writable or change log.file", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file on which it was tried.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process uses the file.
    #[error("another process writes the log file {}; end it, or give each node its own log.file", path.display())]
    InUse {
        /// The file in question.
        path: PathBuf,
    },
    /// There is no thread, or no handle for the terminal.
    #[error("cannot start the log: {0}")]
    Start(#[from] std::io::Error),
}

impl LogError {
    /// Whether there is no room on the disk, which may pass.
    pub fn is_no_room(&self) -> bool {
        matches!(self, LogError::File { source, .. } if is_no_room(source))
    }
}

/// How the log is doing, for `STATUS`. All counts are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Diagnostic lines that did not get into the file.
    pub dropped_lines: u64,
    /// Lines that did not get onto the terminal.
    pub terminal_dropped_lines: u64,
    /// Chosen lines in the file.
    pub chosen_lines: u64,
    /// The writes that these lines took.
    pub chosen_blocks: u64,
    /// How often the file was rotated.
    pub rotations: u64,
    /// Whether the file takes nothing at present, so that the applier waits.
    pub stuck: bool,
}

/// The running log. It ends with [`Log::close`]; if it is dropped without that, its threads go on until the
/// process ends.
pub struct Log {
    shared: Arc<Shared>,
    file_thread: JoinHandle<()>,
    level: log::LevelFilter,
}

/// Opens the log and starts its threads. It also returns the applier's way into the log, which knows the
/// index of the last chosen line of earlier runs: [`ChosenLog::last`]. Call it only with the data directory
/// locked: it cuts off a torn last line.
pub fn open(options: &LogOptions) -> Result<(Log, ChosenLog), LogError> {
    open_with_terminal(options, std::io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Like [`open`], with a different file for the terminal.
pub fn open_with_terminal(options: &LogOptions, terminal: File) -> Result<(Log, ChosenLog), LogError> {
    let file = LogFile::open(&options.path, options.max_bytes, options.keep)?;
    let last = file.last();
    let lane = |capacity| Arc::new(Lane::new(capacity));
    let shared = Arc::new(Shared {
        name: options.path.display().to_string(),
        file: Mutex::new(file),
        file_lane: lane(FILE_QUEUE_BYTES),
        terminal: (options.terminal != Terminal::Off).then(|| lane(TERMINAL_QUEUE_BYTES)),
        give_up_at: Mutex::new(None),
        stuck_since: Mutex::new(None),
        failure: Failure::default(),
        chosen_lines: AtomicU64::new(0),
        chosen_blocks: AtomicU64::new(0),
        rotations: AtomicU64::new(0),
        suppressed_lines: AtomicU64::new(0),
        warnings: Mutex::new(RateLimited::new(Duration::from_secs(10))),
    });
    if let Some(lane) = shared.terminal.clone() {
        lane::spawn_terminal(lane, terminal)?;
    }
    let file_thread = lane::spawn_file(shared.clone())?;
    let chosen = ChosenLog::new(shared.clone(), options.terminal == Terminal::All, last);
    Ok((Log { shared, file_thread, level: options.level }, chosen))
}

/// The way in for diagnostic lines. An embedder has its own logger, and puts only chosen lines here.
#[cfg(feature = "workshop")]
impl Log {
    /// The logger that the `log` macros should call; pass it to [`log::set_boxed_logger`] or use
    /// [`Log::install`].
    pub fn logger(&self) -> Box<dyn log::Log> {
        Box::new(Diagnostics::new(self.shared.clone(), self.level))
    }

    /// Makes it the process's logger. Fails if there already is one.
    pub fn install(&self) -> Result<(), log::SetLoggerError> {
        log::set_boxed_logger(self.logger())?;
        log::set_max_level(self.level);
        Ok(())
    }
}

impl Log {
    /// Returns a handle for the thread that handles signals and for `STATUS`.
    pub fn control(&self) -> LogControl {
        LogControl { shared: self.shared.clone() }
    }

    /// Ends the log: lines that wait are written, as far as file and terminal take them within [`LAST_WAIT`]
    /// each. The applier's [`ChosenLog`] must be flushed before that.
    pub fn close(self) {
        self.shared.stop_waiting();
        self.shared.file_lane.close();
        if self.file_thread.join().is_err() {
            let _ = writeln!(std::io::stderr(), "the log thread panicked");
        }
        if let Some(terminal) = &self.shared.terminal {
            terminal.close();
            terminal.wait_until_handled(LAST_WAIT);
        }
    }
}

/// Controls the running log from any thread.
#[derive(Clone)]
pub struct LogControl {
    shared: Arc<Shared>,
}

impl LogControl {
    /// Goes on in the file that has the name now (SIGHUP, after somebody moved the old one away). After an
    /// error, lines still go into the old file.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.shared.file.lock().reopen()
    }

    /// The node ends: from [`LAST_WAIT`] after this call nobody waits for a stuck file any more. Chosen lines
    /// that are not in the file come after the next start.
    pub fn stop_waiting(&self) {
        self.shared.stop_waiting();
    }

    /// Waits until diagnostic lines logged before this call are in the file and on the terminal, at most
    /// [`LAST_WAIT`] for each. It is for a process that is about to end without [`Log::close`].
    pub fn flush(&self) {
        self.shared.flush();
    }

    /// Names the failure that keeps the file from taking lines, or the write that is under way; `None` if
    /// neither is, or if it only lacks a reader. Never waits, whatever the file does.
    pub fn failure(&self) -> Option<u64> {
        self.shared.failure.name()
    }

    /// How the log is doing.
    pub fn counters(&self) -> LogCounters {
        let shared = &self.shared;
        let suppressed = shared.suppressed_lines.load(Ordering::Relaxed);
        LogCounters {
            dropped_lines: suppressed + shared.file_lane.dropped(),
            terminal_dropped_lines: shared.terminal.as_ref().map_or(0, |lane| suppressed + lane.dropped()),
            chosen_lines: shared.chosen_lines.load(Ordering::Relaxed),
            chosen_blocks: shared.chosen_blocks.load(Ordering::Relaxed),
            rotations: shared.rotations.load(Ordering::Relaxed),
            stuck: shared.stuck_since.lock().is_some(),
        }
    }
}

/// What the log's threads and handles share.
struct Shared {
    /// The file's name, for warnings.
    name: String,
    file: Mutex<LogFile>,
    file_lane: Arc<Lane>,
    terminal: Option<Arc<Lane>>,
    /// Set once the node ends: nobody waits for a stuck file beyond this time.
    give_up_at: Mutex<Option<Instant>>,
    stuck_since: Mutex<Option<Instant>>,
    failure: Failure,
    chosen_lines: AtomicU64,
    chosen_blocks: AtomicU64,
    /// Kept outside the file's lock: a thread that waits for a slow disk holds that lock, and a status must
    /// not wait with it.
    rotations: AtomicU64,
    /// Diagnostic lines that were left out because there were too many.
    suppressed_lines: AtomicU64,
    warnings: Mutex<RateLimited>,
}

impl Shared {
    /// Writes lines, and waits while the file takes none. Returns how many bytes it took: all, or perhaps
    /// fewer after [`LogControl::stop_waiting`].
    fn write_waiting(&self, lines: &[u8]) -> usize {
        let mut taken = 0;
        let mut pause = Duration::from_millis(1);
        loop {
            let (result, finished) = {
                let mut file = self.file.lock();
                self.failure.begin_write();
                let result = file.append(&lines[taken..]);
                taken += result.bytes;
                let finished = taken == lines.len() && file.finish();
                self.failure.end_write(!finished && !result.lacks_reader);
                self.rotations.store(file.rotations(), Ordering::Relaxed);
                (result, finished)
            };
            let now = Instant::now();
            if finished {
                self.no_longer_stuck(now);
            }
            if let Some(trouble) = result.trouble {
                self.warn(&trouble, now);
            }
            if finished || self.give_up_at.lock().is_some_and(|give_up_at| now >= give_up_at) {
                return taken;
            }
            self.stuck_since.lock().get_or_insert(now);
            pause = if result.bytes > 0 { Duration::from_millis(1) } else { pause };
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn stop_waiting(&self) {
        self.give_up_at.lock().get_or_insert(Instant::now() + LAST_WAIT);
    }

    fn no_longer_stuck(&self, now: Instant) {
        let Some(since) = self.stuck_since.lock().take() else { return };
        let stuck = now.saturating_duration_since(since);
        if stuck > WORTH_A_WARNING {
            let text = format!("the log file {} took no lines for {:.1} s", self.name, stuck.as_secs_f64());
            self.offer(lane::own_line("WARN", &text));
        }
    }

    /// Says that diagnostic lines were left out because there were too many.
    #[cfg(feature = "workshop")]
    fn tell_left_out(&self, count: u64) {
        self.offer(lane::own_line("WARN", &format!("{count} lines were left out here: there were too many")));
    }

    /// Passes a diagnostic line on to file and terminal.
    fn offer(&self, line: Bytes) {
        if let Some(terminal) = &self.terminal {
            terminal.offer(line.clone());
        }
        self.file_lane.offer(line);
    }

    /// Warns on the terminal, since it is the file that is in trouble. A reader of a FIFO that is only a
    /// little late causes no warning.
    fn warn(&self, trouble: &str, now: Instant) {
        let stuck = |since| now.saturating_duration_since(since) > WORTH_A_WARNING;
        if trouble.starts_with(file::CANNOT_WRITE) && !self.stuck_since.lock().is_some_and(stuck) {
            return;
        }
        let Some(terminal) = &self.terminal else { return };
        let Some(suppressed) = self.warnings.lock().allow(now) else { return };
        let text = format!(
            "the log file {}: {trouble}; chosen lines wait for it and are not lost; diagnostic lines may be \
             dropped ({suppressed} such warnings suppressed)",
            self.name
        );
        terminal.offer(lane::own_line("WARN", &text));
    }

    fn flush(&self) {
        self.file_lane.wait_until_handled(LAST_WAIT);
        if let Some(terminal) = &self.terminal {
            terminal.wait_until_handled(LAST_WAIT);
        }
    }
}
