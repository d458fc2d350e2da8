//! Which files are which node's, in which order, and their lines.
//!
//! `LOG`, `LOG.1`, `LOG.2` … are one node's; files are put in order by the first seq in each. A last line
//! without newline counts if it says all that the rules ask for, except in `simplesvr` logs, where its value
//! may be torn.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::error::CheckError;
use super::record::{self, Form, Record};

/// Only this much of a longer line is looked at.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// One node's log.
pub(super) struct NodeLog {
    /// Its name: a number from its file's name, or the path.
    pub(super) name: String,
    /// In order of what they hold.
    pub(super) files: Vec<PathBuf>,
    /// Whether it holds chosen lines; else instance lines.
    pub(super) is_chosen: bool,
    /// Below this nothing is known, since its oldest files are gone. 0 for instance logs, which lose none.
    pub(super) first: u64,
}

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In [`NodeLog::files`].
    pub(super) file: usize,
    /// From 1.
    pub(super) line: u64,
}

/// Sorts files into nodes, in the order of the nodes' names.
pub(super) fn group(paths: &[PathBuf]) -> Result<Vec<NodeLog>, CheckError> {
    let mut groups: BTreeMap<PathBuf, Vec<(u64, Option<Form>, PathBuf)>> = BTreeMap::new();
    for path in paths {
        let (form, seq) = first_commit(path)?;
        groups.entry(without_rotation(path)).or_default().push((seq, form, path.clone()));
    }
    let mut logs = Vec::new();
    let mut form_of_all = None;
    for (path, mut files) in groups {
        files.sort();
        files.dedup();
        for (_, form, file) in &files {
            let Some(form) = form else { continue };
            if *form_of_all.get_or_insert(*form) != *form {
                let text = format!(
                    "{} holds a different kind of lines than the first log: give logs of one kind",
                    file.display()
                );
                return Err(CheckError::Input(text));
            }
        }
        let is_chosen = files.iter().any(|(_, form, _)| *form == Some(Form::Chosen));
        let lowest = files.first().map_or(0, |(seq, ..)| *seq);
        let first = if is_chosen { lowest } else { 0 };
        let files = files.into_iter().map(|(.., file)| file).collect();
        logs.push(NodeLog { name: path.display().to_string(), files, is_chosen, first });
    }
    shorten_names(&mut logs);
    Ok(logs)
}

/// The first commit's form and seq; the seq of a file without any is the highest, so that it comes last.
fn first_commit(path: &Path) -> Result<(Option<Form>, u64), CheckError> {
    let mut lines = Lines::open(path)?;
    let mut scratch = Vec::new();
    while let Some(line) = lines.next()? {
        if let Some((form, Record::Commit { seq, .. })) = record::parse(line, &mut scratch) {
            return Ok((Some(form), seq));
        }
    }
    Ok((None, u64::MAX))
}

fn without_rotation(path: &Path) -> PathBuf {
    let is_number =
        path.extension().and_then(|end| end.to_str()).is_some_and(|end| end.parse::<u32>().is_ok());
    if is_number { path.with_extension("") } else { path.to_owned() }
}

/// Nodes are named by the last number in their file's name, or in that of the folder, if that tells them all
/// apart, and are then in the order of these numbers.
fn shorten_names(logs: &mut Vec<NodeLog>) {
    let number = |log: &NodeLog| {
        let path = Path::new(&log.name);
        [path.file_stem(), path.parent().and_then(Path::file_name)].into_iter().flatten().find_map(|name| {
            let name = name.to_str()?.trim_end_matches(|letter: char| !letter.is_ascii_digit());
            let digits = name.rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |at| at + 1);
            name[digits..].parse::<u64>().ok()
        })
    };
    let numbers: Vec<Option<u64>> = logs.iter().map(number).collect();
    let mut distinct: Vec<u64> = numbers.iter().copied().flatten().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < logs.len() {
        return;
    }
    let mut named: Vec<(u64, NodeLog)> = numbers.into_iter().flatten().zip(logs.drain(..)).collect();
    named.sort_by_key(|(number, _)| *number);
    logs.extend(named.into_iter().map(|(number, log)| NodeLog { name: number.to_string(), ..log }));
}

/// Takes every proposal of a file. The error names the first line that is not one.
pub(super) fn read_proposed(path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), CheckError> {
    let mut lines = Lines::open(path)?;
    lines.keep_whole = true;
    let mut scratch = Vec::new();
    while let Some(line) = lines.next()? {
        match record::proposal(line, &mut scratch) {
            Some(value) => take(value),
            None if line.is_empty() => {}
            None => {
                let number = lines.number;
                let text = format!("{}:{number}: not a proposal; write `reqid value`", path.display());
                return Err(CheckError::Input(text));
            }
        }
    }
    Ok(())
}

impl NodeLog {
    /// Its records from the beginning.
    pub(super) fn reader(&self) -> NodeReader<'_> {
        NodeReader { log: self, next_file: 0, lines: None, scratch: Vec::new() }
    }
}

/// Goes through a node's files.
pub(super) struct NodeReader<'a> {
    log: &'a NodeLog,
    next_file: usize,
    lines: Option<Lines>,
    scratch: Vec<u8>,
}

impl NodeReader<'_> {
    /// The next record and where it is; `None` at the end of the last file.
    pub(super) fn next(&mut self) -> Result<Option<(Place, Record<'_>)>, CheckError> {
        let found = self.find_next()?;
        let Some(place) = found else { return Ok(None) };
        let line = self.lines.as_ref().map_or(&[][..], Lines::current);
        Ok(record::parse(line, &mut self.scratch).map(|(_, record)| (place, record)))
    }

    /// Goes on to the next line that is a record.
    fn find_next(&mut self) -> Result<Option<Place>, CheckError> {
        loop {
            let Some(lines) = &mut self.lines else {
                let Some(path) = self.log.files.get(self.next_file) else { return Ok(None) };
                self.lines = Some(Lines::open(path)?);
                self.next_file += 1;
                continue;
            };
            let Some(line) = lines.next()? else {
                self.lines = None;
                continue;
            };
            let is_record = match record::parse(line, &mut self.scratch) {
                Some((Form::Chosen, _)) => self.log.is_chosen && !lines.is_torn,
                Some((Form::Instance, _)) => !self.log.is_chosen,
                None => false,
            };
            if is_record {
                return Ok(Some(Place { file: self.next_file - 1, line: lines.number }));
            }
        }
    }
}

/// The lines of a file, whatever their length, in bounded memory.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// The number of the current line, from 1.
    number: u64,
    /// Whether the current line ended without newline.
    is_torn: bool,
    /// Whether long lines are kept whole.
    keep_whole: bool,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines, CheckError> {
        let failed = |source| CheckError::Read { path: path.to_owned(), source };
        let reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(failed)?);
        let (line, path) = (Vec::new(), path.to_owned());
        Ok(Lines { path, reader, line, number: 0, is_torn: false, keep_whole: false })
    }

    fn current(&self) -> &[u8] {
        &self.line
    }

    /// The next line without its newline.
    fn next(&mut self) -> Result<Option<&[u8]>, CheckError> {
        self.line.clear();
        self.number += 1;
        self.is_torn = true;
        let mut any = false;
        while self.is_torn {
            let failed = |source| CheckError::Read { path: self.path.clone(), source };
            let buffer = self.reader.fill_buf().map_err(failed)?;
            if buffer.is_empty() {
                return Ok(any.then_some(&self.line));
            }
            any = true;
            let end = memchr::memchr(b'\n', buffer);
            let text = &buffer[..end.unwrap_or(buffer.len())];
            let room = if self.keep_whole { text.len() } else { MAX_LINE_BYTES - self.line.len() };
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            let used = text.len() + usize::from(end.is_some());
            self.is_torn = end.is_none();
            self.reader.consume(used);
        }
        Ok(Some(&self.line))
    }
}
