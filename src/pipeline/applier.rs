//! The turn of the applier: what is chosen is delivered, in index order, each request once.
//!
//! It pulls: the state machine only raises a watermark, and a slow log file or application delays the
//! answers of this node, never consensus. After a start it goes through the log from its oldest index, since
//! what counts as a repeat is a function of the log; lines that the log file has already are not written
//! again. Left out: the thread, the file and its form (`node`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::consensus::types::{Entry, Index, Kind};
use crate::store::engine::EngineError;
use crate::store::{LogReader, ReadError};

use super::recent::Recent;
use super::requests::{Answer, Requests, Ticket};
use super::storage::read_chosen;

/// What a turn takes at most; then the answers of what it took go out.
const TURN_BYTES: usize = 256 * 1024;

/// Delivers what is chosen.
///
/// Invariant: `applied <= chosen`, except right after a rebuild, when the watermark starts again from what
/// is durable and the applier waits for it.
pub struct Applier {
    applied: Index,
    requests: Arc<Mutex<Requests>>,
    recent: Arc<Recent>,
    reader: LogReader,
}

/// What was delivered in a turn.
#[derive(Debug, Default)]
pub struct Delivered {
    /// In index order, with whether it counts (`false`: delivered as a no-op).
    pub entries: Vec<(Entry, bool)>,
    /// For those who waited.
    pub answers: Vec<(Ticket, Answer)>,
    /// Whether more can be delivered at once.
    pub more: bool,
}

/// Why nothing more can be delivered on this node.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A newer version of this program proposed it.
    #[error(
        "the entry at index {index} is of kind {code}, which this version does not know: nothing from it on \
         was delivered; start a version that knows it"
    )]
    UnknownKind {
        /// Where it stands.
        index: Index,
        /// Its code.
        code: u8,
    },
}

impl Applier {
    /// Begins with the oldest index that the log holds.
    pub fn new(recent: Arc<Recent>, reader: LogReader, requests: Arc<Mutex<Requests>>) -> Applier {
        let applied = reader.compacted();
        requests.lock().start_at(applied);
        Applier { applied, requests, recent, reader }
    }

    /// Up to it everything was delivered.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Delivers some of what is chosen and not delivered yet.
    pub fn turn(&mut self) -> Result<Delivered, ApplyError> {
        let next = self.applied + 1;
        let read = self.recent.read_chosen(|chosen| {
            let entries = read_chosen(next, chosen, TURN_BYTES, &self.recent, &self.reader)?;
            Ok((chosen, entries))
        });
        let (chosen, entries) = match read {
            Some(Ok(read)) => read,
            // The store is being opened again.
            Some(Err(ReadError::Unreadable { why: EngineError::Closed, .. })) => {
                return Ok(Delivered::default());
            }
            Some(Err(error)) => return Err(error.into()),
            // The core was rebuilt meanwhile: what it knew beyond its durable part comes again.
            None => return Ok(Delivered::default()),
        };
        if let Some(entry) = entries.iter().find(|entry| matches!(entry.command.kind, Kind::Unknown(_))) {
            return Err(ApplyError::UnknownKind { index: entry.index, code: entry.command.kind.code() });
        }
        let mut delivered = Delivered::default();
        let mut requests = self.requests.lock();
        for entry in entries {
            let counts = requests.deliver(&entry, &mut delivered.answers);
            self.applied = entry.index;
            delivered.entries.push((entry, counts));
        }
        delivered.more = self.applied < chosen && !delivered.entries.is_empty();
        Ok(delivered)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::consensus::types::{Ballot, Command};
    use crate::store::memory::MemoryEngine;
    use crate::store::{Change, Founding, Store, Write};

    fn store_with(entries: &[Entry]) -> Store {
        let founding = Founding {
            cluster: "test".into(),
            node: 1,
            protocol: "paxos".into(),
            members: BTreeMap::from([(1, "127.0.0.1:1".to_owned())]),
            delivery_window: 100,
        };
        let (mut store, _) = Store::open_on(Arc::new(MemoryEngine::new()), &founding, 7).unwrap();
        store.write(&Write { changes: &[Change::Entries(entries)], ..Write::default() }).unwrap();
        store
    }

    fn entry(index: Index, round: u64, value: &'static str) -> Entry {
        Entry { index, ballot: Ballot { round, node: 1 }, command: Command::value(index, 1, value) }
    }

    /// A leader that crashed and comes back holds entries that were never chosen. What it learns in their
    /// place may be chosen before it is written here: that is delivered, not what the store still has.
    #[test]
    fn what_was_chosen_is_delivered_and_not_what_the_store_still_holds_there() {
        let store = store_with(&[entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "stale")]);
        let recent = Arc::new(Recent::new(1 << 20, 0));
        // Indexes 1 and 2 were learned as they are in the store already; 3 is under way to it.
        recent.put(None, &[entry(3, 2, "chosen")], 1);
        recent.raise_chosen(3);
        let requests = Arc::new(Mutex::new(Requests::new(100)));
        let mut applier = Applier::new(recent, store.reader(), requests);
        let mut values = Vec::new();
        while applier.applied() < 3 {
            let delivered = applier.turn().unwrap();
            values.extend(delivered.entries.into_iter().map(|(entry, _)| entry.command.payload));
        }
        assert_eq!(values, ["a", "b", "chosen"]);
    }
}
