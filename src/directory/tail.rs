//! The file `tail`: the mark of a data directory, kept next to sled's files (see
//! [`Tail`](crate::store::Tail)).
//!
//! Two slots are written in turn, 4 KiB apart so that a torn write spoils only one. The valid slot with the
//! higher sequence counts.
//!
//! The file gets its name when both slots are in it: a founding that is cut short, by a kill or by a full
//! disk, leaves no file, and is begun again. A write that finds no room later (a file system that writes
//! every block to a new place, a quota) may spoil the older slot, never the newer one, and is tried again.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::store::{DirectoryId, Mark};

use super::folder;

/// The file's name in the data directory.
pub const TAIL: &str = "tail";

const MAGIC: [u8; 8] = *b"spaxtail";
const SLOT_SPACING: u64 = 4096;
const SLOT_BYTES: usize = 8 + 8 + 16 + 8 + 8 + 4;

/// The open file.
#[derive(Debug)]
pub struct TailFile {
    file: File,
    sequence: u64,
    /// The mark in the file.
    pub mark: Mark,
}

impl TailFile {
    /// Creates the file and makes it durable.
    pub fn create(directory: &Path, mark: Mark) -> io::Result<TailFile> {
        let file = folder::replace_file(&directory.join(TAIL), |file| {
            // Both slots are written now, so that on most file systems later writes need no room.
            file.write_all_at(&encode(1, &mark), 0)?;
            file.write_all_at(&encode(2, &mark), SLOT_SPACING)
        })?;
        folder::settle(directory)?;
        Ok(TailFile { file, sequence: 2, mark })
    }

    /// Opens the file. Returns `None` if there is none, and an error of kind `InvalidData` if no slot is
    /// valid.
    pub fn open(directory: &Path) -> io::Result<Option<TailFile>> {
        let path = directory.join(TAIL);
        if !path.try_exists()? {
            return Ok(None);
        }
        let file = folder::open_file(&path)?;
        let (sequence, mark) = newest(&file)?;
        Ok(Some(TailFile { file, sequence, mark }))
    }

    /// The mark in the file of a stopped node, read without touching the file.
    pub fn peek(directory: &Path) -> io::Result<Option<Mark>> {
        match File::open(directory.join(TAIL)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => Ok(Some(newest(&file?)?.1)),
        }
    }

    /// Writes the mark, if anything has become durable since. Fails as [`Tail::advance`](crate::store::Tail).
    pub fn advance(&mut self, mark: Mark) -> io::Result<()> {
        if mark == self.mark {
            return Ok(());
        }
        let sequence = self.sequence + 1;
        let slot = (sequence + 1) % 2;
        self.file.write_all_at(&encode(sequence, &mark), slot * SLOT_SPACING)?;
        self.file.sync_data().map_err(|error| folder::flush_failed(&error))?;
        (self.sequence, self.mark) = (sequence, mark);
        Ok(())
    }
}

fn newest(file: &File) -> io::Result<(u64, Mark)> {
    let slots = [read_slot(file, 0)?, read_slot(file, SLOT_SPACING)?];
    let newest = slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence);
    newest.ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidData, "neither slot of its file `tail` has a valid checksum")
    })
}

fn read_slot(file: &File, offset: u64) -> io::Result<Option<(u64, Mark)>> {
    let mut bytes = [0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(decode(&bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn encode(sequence: u64, mark: &Mark) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&mark.directory.to_le_bytes());
    bytes.extend_from_slice(&mark.start.to_le_bytes());
    bytes.extend_from_slice(&mark.record.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    assert_eq!(bytes.len(), SLOT_BYTES, "a slot of {} bytes instead of {SLOT_BYTES}", bytes.len());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Mark)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (magic, rest) = content.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (directory, rest) = rest.split_first_chunk()?;
    let (start, rest) = rest.split_first_chunk()?;
    let (record, _) = rest.split_first_chunk()?;
    let mark = Mark {
        directory: DirectoryId::from_le_bytes(*directory),
        start: u64::from_le_bytes(*start),
        record: u64::from_le_bytes(*record),
    };
    (*magic == MAGIC).then_some((u64::from_le_bytes(*sequence), mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(record: u64) -> Mark {
        Mark { directory: 7, start: 1, record }
    }

    /// A torn write of either slot leaves the other, at most one mark older. With both gone the file is
    /// refused.
    #[test]
    fn one_torn_slot_is_survived_and_two_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(TailFile::open(folder.path()).unwrap().is_none());
        let mut tail = TailFile::create(folder.path(), mark(0)).unwrap();
        for record in 1..=6 {
            tail.advance(mark(record)).unwrap();
            assert_eq!(TailFile::open(folder.path()).unwrap().unwrap().mark, mark(record));
        }
        let path = folder.path().join(TAIL);
        let whole = std::fs::read(&path).unwrap();
        for offset in 0..SLOT_BYTES {
            let mut torn = whole.clone();
            torn[offset] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            let first = TailFile::peek(folder.path()).unwrap().unwrap().record;
            torn[offset] ^= 1;
            torn[offset + SLOT_SPACING as usize] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            let second = TailFile::peek(folder.path()).unwrap().unwrap().record;
            assert_eq!((first.min(second), first.max(second)), (5, 6));
            torn[offset] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(TailFile::open(folder.path()).unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }
}
