//! Reading the log while the storage thread writes it.
//!
//! Readers see only what is durable: the index changes after the sync. The record under a number never
//! changes once the index names it, so what was decoded may be kept.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};

use crate::consensus::types::{Entry, Index};

use crate::wire::message::Point;

use super::engine::Engine;
use super::error::LogReadError;
use super::index::LogIndex;
use super::record::{Item, Items, Record, Shape, entry_of_first_part};
use super::seal::Damage;

/// How many indexes are looked up while the lock is held once.
const LOOKUP_ENTRIES: u64 = 4096;

/// What the storage thread and the readers share.
pub(super) struct Shared {
    pub engine: Arc<dyn Engine>,
    pub index: RwLock<LogIndex>,
}

/// Reads entries. Each clone keeps the record that it read last, so that reading on is cheap.
pub struct LogReader {
    shared: Arc<Shared>,
    /// The last record that was read: at most one record or one entry in size.
    last: Mutex<Option<Arc<Decoded>>>,
}

/// The entries of a record.
struct Decoded {
    record: u64,
    /// The entries by ascending index, in the latest version of each.
    entries: Vec<Entry>,
}

impl Clone for LogReader {
    fn clone(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> LogReader {
        LogReader { shared, last: Mutex::new(None) }
    }

    /// The entries from `first` to at most `last` without a gap, in the latest version of each. There is at
    /// least one, and more only within `max_bytes` (in
    /// [`cost_bytes`](crate::consensus::types::Command::cost_bytes)).
    pub fn read(&self, first: Index, last: Index, max_bytes: usize) -> Result<Vec<Entry>, LogReadError> {
        let mut out: Vec<Entry> = vec![];
        let mut bytes = 0usize;
        let mut next = first;
        while next <= last {
            let records = self.lookup(next, last);
            if records.is_empty() {
                break;
            }
            for record in records {
                let entry = match self.entry(next, record) {
                    Err(_) if !out.is_empty() => return Ok(out),
                    entry => entry?,
                };
                bytes = bytes.saturating_add(entry.command.cost_bytes());
                if bytes > max_bytes && !out.is_empty() {
                    return Ok(out);
                }
                out.push(entry);
                next += 1;
            }
        }
        if out.is_empty() { Err(self.absent(first)) } else { Ok(out) }
    }

    /// Entries up to this index are no longer kept.
    pub fn compacted(&self) -> Index {
        self.shared.index.read().compacted()
    }

    /// The running hash of the log that is no longer kept, where that ends.
    pub fn compacted_point(&self) -> Point {
        let index = self.shared.index.read();
        Point { index: index.compacted(), hash: index.compacted_hash() }
    }

    /// The highest index with a durable entry.
    pub fn last(&self) -> Index {
        self.shared.index.read().last()
    }

    /// The lowest index from `from` on with an entry, to read on past a hole.
    pub fn next_entry(&self, from: Index) -> Option<Index> {
        self.shared.index.read().next_from(from)
    }

    /// The records of consecutive indexes from `first` on.
    fn lookup(&self, first: Index, last: Index) -> Vec<u64> {
        let index = self.shared.index.read();
        let last = last.min(first.saturating_add(LOOKUP_ENTRIES - 1));
        (first..=last).map_while(|at| index.at(at)).collect()
    }

    fn absent(&self, index: Index) -> LogReadError {
        match self.compacted() {
            compacted if index <= compacted => LogReadError::Compacted { compacted },
            _ => LogReadError::Missing(index),
        }
    }

    /// The entry at `index`, which was in `record` when the log's index was asked.
    fn entry(&self, index: Index, mut record: u64) -> Result<Entry, LogReadError> {
        loop {
            let error = match self.decoded(record) {
                Ok(decoded) => match decoded.entries.binary_search_by_key(&index, |entry| entry.index) {
                    Ok(at) => return Ok(decoded.entries[at].clone()),
                    Err(_) => LogReadError::Damaged { record, why: format!("it lacks the entry {index}") },
                },
                Err(error) => error,
            };
            // It may have been overwritten or compacted in the meantime, and its record deleted.
            let now = self.shared.index.read().at(index);
            match now {
                None => return Err(self.absent(index)),
                Some(same) if same == record => return Err(error),
                Some(other) => record = other,
            }
        }
    }

    fn decoded(&self, record: u64) -> Result<Arc<Decoded>, LogReadError> {
        if let Some(last) = self.last.lock().as_ref().filter(|last| last.record == record) {
            return Ok(last.clone());
        }
        let decoded = Arc::new(Decoded { record, entries: self.decode(record)? });
        *self.last.lock() = Some(decoded.clone());
        Ok(decoded)
    }

    fn decode(&self, record: u64) -> Result<Vec<Entry>, LogReadError> {
        let value = self.fetch(record)?;
        let damaged = |why: Damage| LogReadError::Damaged { record, why: why.to_string() };
        let (whole, items) = match Record::open(record, &value).map_err(damaged)?.shape {
            Shape::Items(items) => return entries_of(items, &value).map_err(damaged),
            Shape::FirstPart { total, bytes } => {
                entry_of_first_part(total, bytes).map_err(damaged)?;
                (self.join(record, total, bytes)?, total)
            }
            Shape::LaterPart { .. } => {
                return Err(damaged(Damage::Malformed("it is a part where an entry should begin")));
            }
        };
        entries_of(Items::of(&whole[..items]), &whole).map_err(damaged)
    }

    /// Reassembles an entry that begins in `record`.
    fn join(&self, record: u64, total: usize, first: &[u8]) -> Result<Bytes, LogReadError> {
        let mut whole = BytesMut::with_capacity(total);
        whole.extend_from_slice(first);
        let mut next = record;
        while whole.len() < total {
            next += 1;
            let value = self.fetch(next)?;
            let damaged = |why: Damage| LogReadError::Damaged { record: next, why: why.to_string() };
            match Record::open(next, &value).map_err(damaged)?.shape {
                Shape::LaterPart { offset, bytes }
                    if offset == whole.len() && !bytes.is_empty() && bytes.len() <= total - offset =>
                {
                    whole.extend_from_slice(bytes);
                }
                _ => return Err(damaged(Damage::Malformed("it is not the next part of an entry"))),
            }
        }
        Ok(whole.freeze())
    }

    fn fetch(&self, record: u64) -> Result<Bytes, LogReadError> {
        let value =
            self.shared.engine.read(record).map_err(|why| LogReadError::Unreadable { record, why })?;
        value.ok_or_else(|| LogReadError::Damaged { record, why: "it is gone".into() })
    }
}

/// The latest version of each entry, by ascending index.
fn entries_of(mut items: Items<'_>, record: &Bytes) -> Result<Vec<Entry>, Damage> {
    let mut entries = vec![];
    while let Some(item) = items.next()? {
        if let Item::Entry(entry) = item {
            entries.push(entry.to_entry(record));
        }
    }
    // Both calls keep the order of equal indexes, so the last entry counts.
    entries.sort_by_key(|entry: &Entry| entry.index);
    entries.reverse();
    entries.dedup_by_key(|entry| entry.index);
    entries.reverse();
    Ok(entries)
}
