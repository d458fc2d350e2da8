//! The log file: whole lines in, rotation by size, reopening, and the repair of a torn end.
//!
//! Invariants: lines are taken whole and in order; a line that the system took only in part is finished
//! before anything else is written. The file never blocks: if it takes nothing now (a FIFO that nobody reads,
//! a full disk) it says so, and the caller keeps its lines and waits.
//!
//! Rotation keeps every line even if the process is killed in the middle of it. The new file is made next to
//! the old one, with a first line that says up to which index chosen lines are in earlier files; after that
//! only renames follow, the last of which puts the new file in place. If that last rename is missing, the
//! next start finds the newest rotated file.
//!
//! Left out: fsync. Lines survive the end of the process but not a power cut, after which the last ones come
//! again from the store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::consensus::types::Index;

use super::LogError;
use super::tail;
use super::timestamp::Timestamp;

/// A rotation that failed is tried again when this much more has been written.
const RETRY_ROTATION_BYTES: u64 = 1 << 20;

/// The end of the name under which a rotation makes the new file.
pub const NEW: &str = "new";

/// The beginning of a trouble text when lines cannot be taken.
pub const CANNOT_WRITE: &str = "cannot write";

/// The file that lines go to.
pub struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: File,
    /// Only a regular file has an end that can be read, is locked and rotates.
    regular: bool,
    size: u64,
    rotate_at: u64,
    rotations: u64,
    /// The last chosen index in this file or an earlier one.
    last: Option<Index>,
    torn: Torn,
}

/// A line that the system took in part.
#[derive(Default)]
struct Torn {
    line: Vec<u8>,
    done: usize,
}

/// What became of lines.
#[derive(Debug, Default)]
#[must_use]
pub struct Taken {
    /// This many bytes are the file's responsibility now; they end with a line.
    pub bytes: usize,
    /// Why it took no more, or could not rotate.
    pub trouble: Option<String>,
    /// Whether it took no more only because nobody reads it: a FIFO that is full.
    pub lacks_reader: bool,
}

impl Taken {
    fn cannot_write(&mut self, error: &io::Error) {
        self.lacks_reader = error.kind() == io::ErrorKind::WouldBlock;
        self.trouble = Some(format!("{CANNOT_WRITE}: {error}"));
    }
}

impl LogFile {
    /// Opens or creates a file (mode 0600), cuts off a torn last line, and finds the index of the last chosen
    /// line, in rotated files if this one has none. A regular file is locked against other processes.
    pub fn open(path: &Path, max_bytes: u64, keep: u32) -> Result<LogFile, LogError> {
        assert!(max_bytes > 0 && keep > 0, "a log of {max_bytes} bytes and {keep} rotated files");
        let wrong = |what| move |source| LogError::File { what, path: path.to_owned(), source };
        let (file, regular) = open_locked(path)?;
        let mut log = LogFile {
            path: path.to_owned(),
            max_bytes,
            keep,
            file,
            regular,
            size: 0,
            rotate_at: max_bytes,
            rotations: 0,
            last: None,
            torn: Torn::default(),
        };
        if regular {
            log.mend().map_err(wrong("mend"))?;
            log.last = log.find_last().map_err(wrong("read"))?;
        }
        Ok(log)
    }

    /// The index of the last chosen line that was taken, in all runs.
    pub fn last(&self) -> Option<Index> {
        self.last
    }

    /// How often it was rotated in this run.
    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Takes as many of these lines as it can, without waiting.
    pub fn append(&mut self, lines: &[u8]) -> Taken {
        assert!(lines.last().is_none_or(|byte| *byte == b'\n'), "lines end with a newline");
        let mut taken = Taken::default();
        if let Err(error) = self.finish_torn() {
            taken.cannot_write(&error);
            return taken;
        }
        if self.regular && self.size >= self.rotate_at {
            taken.trouble = self.rotate().err().map(|error| format!("cannot rotate: {error}"));
        }
        let (written, error) = write_some(&mut self.file, lines);
        if let Some(error) = error {
            taken.cannot_write(&error);
        }
        self.size += written as u64;
        taken.bytes = self.keep_torn(lines, written);
        self.last = tail::last_index_in(&lines[..taken.bytes]).or(self.last);
        taken
    }

    /// Tries to write the rest of what was taken. Returns whether everything taken is in the file.
    pub fn finish(&mut self) -> bool {
        self.finish_torn().is_ok()
    }

    /// Goes on in the file that has the name now: somebody moved the old one away.
    pub fn reopen(&mut self) -> Result<(), LogError> {
        let wrong = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LogError::File { what, path, source }
        };
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| a.dev() == b.dev() && a.ino() == b.ino();
        let ours = self.file.metadata().map_err(wrong("look at", &self.path))?;
        if std::fs::metadata(&self.path).is_ok_and(|named| same(&named, &ours)) {
            self.size = ours.len();
            return Ok(());
        }
        (self.file, self.regular) = open_locked(&self.path)?;
        // The line that is torn at the end of the old file is written whole into the new one.
        self.torn.done = 0;
        self.rotate_at = self.max_bytes;
        self.size = 0;
        if self.regular {
            self.mend().map_err(wrong("mend", &self.path))?;
            if let Some(last) = self.last
                && tail::last_index(&self.file, self.size).map_err(wrong("read", &self.path))?.is_none()
            {
                self.size += write_opening(&mut self.file, last).map_err(wrong("write", &self.path))?;
            }
        }
        Ok(())
    }

    fn mend(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        self.size = tail::whole_bytes(&self.file, len)?;
        if self.size < len {
            self.file.set_len(self.size)?;
        }
        Ok(())
    }

    fn find_last(&self) -> io::Result<Option<Index>> {
        if let Some(index) = tail::last_index(&self.file, self.size)? {
            return Ok(Some(index));
        }
        for number in 1..=self.keep {
            let file = match File::open(rotated(&self.path, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let whole = tail::whole_bytes(&file, file.metadata()?.len())?;
            if let Some(index) = tail::last_index(&file, whole)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Remembers the rest of a line that the system took in part. Returns how many bytes are taken, including
    /// that rest.
    fn keep_torn(&mut self, lines: &[u8], written: usize) -> usize {
        let start = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        if start == written {
            return written;
        }
        let rest = lines[written..].iter().position(|byte| *byte == b'\n');
        let end = written + rest.expect("lines end with a newline") + 1;
        self.torn = Torn { line: lines[start..end].to_vec(), done: written - start };
        end
    }

    fn finish_torn(&mut self) -> io::Result<()> {
        let (written, error) = write_some(&mut self.file, &self.torn.line[self.torn.done..]);
        self.torn.done += written;
        self.size += written as u64;
        match error {
            Some(error) => Err(error),
            None => {
                self.torn = Torn::default();
                Ok(())
            }
        }
    }

    /// Makes a new file; the old one becomes `.1`, and so on. If that fails, lines still go into the old one.
    fn rotate(&mut self) -> Result<(), LogError> {
        self.rotate_at = self.size + RETRY_ROTATION_BYTES.min(self.max_bytes);
        let wrong = |source| LogError::File { what: "rotate", path: self.path.clone(), source };
        let new_path = beside(&self.path, NEW);
        let (mut file, _) = open_locked(&new_path)?;
        file.set_len(0).map_err(wrong)?;
        let size = match self.last {
            Some(last) => write_opening(&mut file, last).map_err(wrong)?,
            None => 0,
        };
        for (from, to) in self.renames(&new_path) {
            std::fs::rename(from, to).map_err(wrong)?;
        }
        self.file = file;
        self.size = size;
        self.rotate_at = self.max_bytes;
        self.rotations += 1;
        Ok(())
    }

    /// The renames of a rotation, in order. Files move up to the first free number, so that an interrupted
    /// rotation loses none of them; if no number is free, the oldest file is overwritten.
    fn renames(&self, new_path: &Path) -> Vec<(PathBuf, PathBuf)> {
        let mut renames = vec![(new_path.to_owned(), self.path.clone())];
        if self.path.exists() {
            let is_free = |number: &u32| !rotated(&self.path, *number).exists();
            let free = (1..=self.keep).find(is_free).unwrap_or(self.keep);
            renames.push((self.path.clone(), rotated(&self.path, 1)));
            let shifts = 1..free;
            renames
                .extend(shifts.map(|number| (rotated(&self.path, number), rotated(&self.path, number + 1))));
        }
        renames.reverse();
        renames
    }
}

impl Drop for LogFile {
    /// Closing is not enough: a child process that is just being started elsewhere holds a copy of the handle
    /// for a moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Opens the file for reading and appending, so that a FIFO opens without a reader and its writes never end
/// in EPIPE, and non-blocking, so that no write waits.
fn open_locked(path: &Path) -> Result<(File, bool), LogError> {
    let wrong = |source| LogError::File { what: "open", path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(wrong)?;
    let regular = file.metadata().map_err(wrong)?.is_file();
    if regular {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::InUse { path: path.to_owned() }),
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
    }
    Ok((file, regular))
}

/// Writes what the system takes now. Returns how many bytes that was, and why not all.
fn write_some(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

fn write_opening(file: &mut File, last: Index) -> io::Result<u64> {
    let mut line = Vec::new();
    Timestamp::default().append(&mut line, SystemTime::now());
    line.extend_from_slice(&tail::earlier_line(last));
    file.write_all(&line)?;
    Ok(line.len() as u64)
}

/// The name of a rotated file.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    beside(path, &number.to_string())
}

/// The name of a file next to this one.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(index: Index) -> String {
        format!("2026-11-21T07:39:49.123456Z [INFO] chosen index={index} reqid=1 ballot=1.1 from=1 noop\n")
    }

    fn open(path: &Path) -> LogFile {
        LogFile::open(path, 200, 3).unwrap()
    }

    /// The indexes of all chosen lines, oldest file first.
    fn indexes(path: &Path) -> Vec<Index> {
        let files = (1..10).rev().map(|number| rotated(path, number)).chain([path.to_owned()]);
        let text: String = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        let line = |line: &str| crate::pipeline::chosen_line::parse_index(line.as_bytes());
        text.lines().filter_map(line).collect()
    }

    fn append(log: &mut LogFile, index: Index) {
        let line = chosen(index);
        let taken = log.append(line.as_bytes());
        assert_eq!((taken.bytes, taken.trouble), (line.len(), None));
    }

    #[test]
    fn rotation_keeps_the_newest_files_and_goes_on_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path);
        (1..=50).for_each(|index| append(&mut log, index));
        let kept = indexes(&path);
        assert_eq!(*kept.last().unwrap(), 50);
        assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{kept:?}");
        assert!(rotated(&path, 3).exists() && !rotated(&path, 4).exists());
        assert!(log.rotations() > 10);
    }

    #[test]
    fn a_rotation_cut_short_after_any_step_loses_and_repeats_nothing() {
        for files_before in 0..=4 {
            for steps in 0..=5 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("log");
                let mut log = open(&path);
                let mut index = 0;
                while log.rotations() < files_before || log.size < 200 {
                    index += 1;
                    append(&mut log, index);
                }
                let before = indexes(&path);
                // The new file is made, then come the first renames of the rotation that is due, then a kill.
                let new = beside(&path, "new");
                write_opening(&mut open_locked(&new).unwrap().0, index).unwrap();
                for (from, to) in log.renames(&new).into_iter().take(steps) {
                    std::fs::rename(from, to).unwrap();
                }
                drop(log);
                let mut log = open(&path);
                assert_eq!(log.last(), Some(index), "{files_before} files, {steps} steps");
                append(&mut log, index + 1);
                let mut after = indexes(&path);
                assert_eq!(after.pop(), Some(index + 1));
                assert!(before.ends_with(&after) && !after.is_empty(), "{before:?} became {after:?}");
                // A rotation may drop only the oldest file, of two or three lines.
                assert!(before.len() - after.len() <= 3, "{before:?} became {after:?}");
            }
        }
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let first = open(&path);
        assert!(matches!(LogFile::open(&path, 200, 3), Err(LogError::InUse { .. })));
        drop(first);
        open(&path);
    }

    #[test]
    fn a_file_moved_away_is_followed_by_one_that_knows_the_last_index() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path);
        append(&mut log, 1);
        log.reopen().unwrap();
        append(&mut log, 2);
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        log.reopen().unwrap();
        drop(log);
        let mut log = open(&path);
        assert_eq!(log.last(), Some(2));
        append(&mut log, 3);
        assert_eq!(indexes(&path), [3]);
        assert_eq!(indexes(&dir.path().join("elsewhere")), [1, 2]);
    }

    #[test]
    fn a_fifo_that_nobody_reads_takes_whole_lines_and_then_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut log = open(&path);
        assert_eq!(log.last(), None);
        let lines = (1..=2000).map(chosen).collect::<String>();
        let mut taken = log.append(lines.as_bytes());
        assert!(taken.trouble.is_some() && taken.bytes > 0 && taken.bytes < lines.len());
        assert_eq!(log.append(&lines.as_bytes()[taken.bytes..]).bytes, 0);
        // A reader comes: all lines arrive, each whole and once.
        let mut reader = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(&path)
            .unwrap();
        let mut text = Vec::new();
        while text.len() < lines.len() {
            let _ = io::Read::read_to_end(&mut reader, &mut text);
            taken.bytes += log.append(&lines.as_bytes()[taken.bytes..]).bytes;
        }
        assert_eq!(text, lines.as_bytes());
    }

    #[test]
    fn a_line_that_the_disk_took_in_part_is_finished_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open(&path);
        let lines = [chosen(1), chosen(2)].concat();
        let first = chosen(1).len();
        // As if the disk had been full in the middle of the second line.
        let (written, _) = write_some(&mut log.file, &lines.as_bytes()[..first + 10]);
        assert_eq!(log.keep_torn(lines.as_bytes(), written), lines.len());
        append(&mut log, 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), [chosen(1), chosen(2), chosen(3)].concat());
    }
}
