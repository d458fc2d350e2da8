//! Diagnostic lines: each record of the `log` macros becomes one line, formatted by simplelog, on its way to
//! the file and the terminal.
//!
//! Warnings and information share a [`Budget`], whatever causes them: the file of chosen lines must not fill
//! with other lines because somebody connects a thousand times a second. Errors are outside of it, since they
//! are few and come before an end; so are debugging and tracing, which are there to be many.
//!
//! Texts carry what peers and clients sent, so each is made harmless first: control characters (and with
//! them newlines and terminal escapes) are escaped, the length is bounded, and none can begin like a chosen
//! line.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::{Level, LevelFilter, Metadata, Record};
use parking_lot::Mutex;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

use super::Shared;
use super::limited::Budget;
use super::tail::MAX_LINE_BYTES;

/// How many warnings and lines of information may come at a time, and how long it takes until one more may.
/// At this pace they are some 50 MB a day.
const BURST_LINES: u32 = 250;
const ONE_LINE_EVERY: Duration = Duration::from_millis(250);

/// A text longer than this is cut, and says so.
pub const MAX_TEXT_BYTES: usize = 4000;

/// Our own crates; of others only warnings and errors are logged.
const OURS: [&str; 2] = ["spaxos", "simplesvr"];

/// The process's logger.
pub struct Diagnostics {
    simplelog: Box<WriteLogger<Lines>>,
    level: LevelFilter,
    budget: Mutex<Budget>,
    shared: Arc<Shared>,
}

impl Diagnostics {
    /// Logs records that are at least as important as `level`.
    pub fn new(shared: Arc<Shared>, level: LevelFilter) -> Diagnostics {
        let config = ConfigBuilder::new()
            .set_time_format_custom(simplelog::format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
            ))
            .set_level_padding(LevelPadding::Off)
            .set_thread_level(LevelFilter::Off)
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .build();
        let lines = Lines { shared: shared.clone(), line: Vec::new() };
        let budget = Mutex::new(Budget::new(BURST_LINES, ONE_LINE_EVERY));
        Diagnostics { simplelog: WriteLogger::new(level, config, lines), level, budget, shared }
    }

    /// Returns whether a line may be written. If lines were left out before it, says so.
    fn allow(&self, level: Level) -> bool {
        if !matches!(level, Level::Warn | Level::Info) {
            return true;
        }
        let allowed = self.budget.lock().allow(Instant::now());
        match allowed {
            None => {
                self.shared.suppressed_lines.fetch_add(1, Ordering::Relaxed);
            }
            Some(0) => {}
            Some(count) => self.shared.tell_left_out(count),
        }
        allowed.is_some()
    }
}

impl log::Log for Diagnostics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let crate_name = metadata.target().split("::").next().unwrap_or_default();
        metadata.level() <= self.level && (metadata.level() <= Level::Warn || OURS.contains(&crate_name))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || !self.allow(record.level()) {
            return;
        }
        // Formatted before simplelog takes its lock: a panic in somebody's Display must not poison the lock.
        let text = harmless(&record.args().to_string());
        let mut line = Record::builder();
        let line = line.metadata(record.metadata().clone());
        self.simplelog.log(&line.args(format_args!("{text}")).build());
    }

    fn flush(&self) {
        self.shared.flush();
    }
}

/// What simplelog writes to: gathers its pieces into lines.
struct Lines {
    shared: Arc<Shared>,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        if self.line.last() == Some(&b'\n') {
            assert!(self.line.len() <= MAX_LINE_BYTES, "a line of {} bytes", self.line.len());
            self.shared.offer(Bytes::from(std::mem::take(&mut self.line)));
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns one line of bounded length that moves no cursor and is not a chosen line.
fn harmless(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    if text.starts_with("chosen ") {
        line.push_str("log: ");
    }
    for character in text.chars() {
        if line.len() > MAX_TEXT_BYTES {
            let _ = write!(line, "… ({} bytes in all)", text.len());
            break;
        }
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // Also characters that reverse the direction of the text, or end lines elsewhere.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => line.extend(character.escape_unicode()),
            control if control.is_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(control));
            }
            other => line.push(other),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_one_line_and_moves_no_cursor() {
        assert_eq!(harmless("refused: a\r\nb\t\x1b[2Jc\u{9b}\0é\u{202e}"), {
            "refused: a\\r\\nb\\t\\x1b[2Jc\\x9b\\x00é\\u{202e}"
        });
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let cut = harmless(&"\u{7f}".repeat(1_000_000));
        assert!(cut.len() < MAX_TEXT_BYTES + 100 && cut.ends_with("… (1000000 bytes in all)"));
        assert!(harmless(&"x".repeat(MAX_TEXT_BYTES)).ends_with("xx"));
    }

    #[test]
    fn no_text_begins_like_a_chosen_line() {
        let imitated = "chosen index=9 reqid=1 ballot=1.1 from=1 noop";
        assert_eq!(harmless(imitated), format!("log: {imitated}"));
    }
}
