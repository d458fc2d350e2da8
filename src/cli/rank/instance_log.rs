//! A rank's instance log: lines are appended whole, and read back at startup.
//!
//! It is not synced: it survives the end of the process. Commits that it lost in a power cut come again from
//! the log of the node; it may then lack generates of values that were committed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::super::error::Error;
use super::super::instance_line::{self, Verb};

/// The open file. Invariant: it ends with a whole line.
pub(super) struct InstanceLog {
    path: PathBuf,
    file: File,
    /// Lines that are not yet in the file.
    lines: Vec<u8>,
    /// The highest seq with a commit line.
    committed: u64,
}

impl InstanceLog {
    /// Opens the log of a run that goes on: a torn last line is cut off, and the last commit found.
    pub(super) fn open(path: &Path) -> Result<InstanceLog, Error> {
        let failed = |what: &str| Error::io(format!("{what} the instance log {}", path.display()));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
        }
        let file = File::options().read(true).append(true).create(true).open(path).map_err(failed("open"))?;
        let (whole_bytes, committed) = read(&file).map_err(failed("read"))?;
        file.set_len(whole_bytes).map_err(failed("mend"))?;
        Ok(InstanceLog { path: path.to_owned(), file, lines: Vec::new(), committed })
    }

    /// The highest seq with a commit line; 0 if there is none.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// Adds the line of a value that was made; `seq` is where it is expected to be.
    pub(super) fn generate(&mut self, name: &str, seq: u64, now_ms: u64) {
        instance_line::write(&mut self.lines, Verb::Generate, name, seq, now_ms);
    }

    /// Adds the line of a value that was delivered, unless it is there from an earlier run.
    pub(super) fn commit(&mut self, name: &str, seq: u64, now_ms: u64) {
        if seq <= self.committed {
            return;
        }
        assert_eq!(seq, self.committed + 1, "seqs are committed without gaps");
        self.committed = seq;
        instance_line::write(&mut self.lines, Verb::Commit, name, seq, now_ms);
    }

    /// Hands the lines to the system: from then on they survive the end of this process.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        let written = self.file.write_all(&self.lines);
        written.map_err(Error::io(format!("write the instance log {}", self.path.display())))?;
        self.lines.clear();
        Ok(())
    }
}

/// The length of all whole lines, and the highest committed seq.
fn read(file: &File) -> std::io::Result<(u64, u64)> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut whole_bytes, mut committed) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok((whole_bytes, committed));
        }
        whole_bytes += read as u64;
        if let Some(found) = instance_line::find(&line).filter(|found| found.verb == Verb::Commit) {
            committed = committed.max(found.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a kill at any byte no seq is committed twice and none is missing.
    #[test]
    fn a_log_cut_anywhere_goes_on_without_gap_or_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/instancelog0.log");
        let mut log = InstanceLog::open(&path).unwrap();
        log.generate("aa", 1, 5);
        log.commit("aa", 1, 6);
        log.commit("bb", 2, 7);
        log.write().unwrap();
        let text = fs::read(&path).unwrap();
        for cut in 0..=text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let mut log = InstanceLog::open(&path).unwrap();
            for (seq, name) in [(1, "aa"), (2, "bb"), (3, "cc")] {
                log.commit(name, seq, 8);
            }
            log.write().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter_map(|line| instance_line::find(line.as_bytes()));
            let seqs: Vec<u64> =
                lines.filter(|line| line.verb == Verb::Commit).map(|line| line.seq).collect();
            assert_eq!(seqs, [1, 2, 3], "cut at {cut}:\n{text}");
        }
    }
}
