//! The turn of the applier: it delivers what is chosen, in index order, each request once.
//!
//! It pulls: the state machine only raises a watermark, and a slow log file or application delays the answers
//! of this node, never consensus. At startup it goes through the log from its oldest index, since what counts
//! as a repeat is a function of the log. Lines that the log file already has are not written again. Left out:
//! the thread, the file and its form (`node`).

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::application::{Application, Item};
use crate::consensus::types::{Entry, Index, Kind};
use crate::store::engine::EngineError;
use crate::store::{LogReadError, LogReader};

use super::ledger::Answer;
use super::marks::Marks;
use super::recent::Recent;
use super::requests::Requests;
use super::storage::read_chosen;
use super::waiters::Ticket;

/// The most that a turn takes before the answers for what it took go out.
const TURN_BYTES: usize = 256 * 1024;

/// The same limit with an application, which may be slow.
const APPLICATION_TURN_BYTES: usize = 16 * 1024;

/// Delivers what is chosen.
///
/// Invariant: `applied <= chosen`, except right after a rebuild, when the watermark starts again from what
/// is durable and the applier waits for it.
pub struct Applier {
    applied: Index,
    /// How many items were delivered so far.
    items: u64,
    application: Option<Box<dyn Application>>,
    requests: Arc<Mutex<Requests>>,
    recent: Arc<Recent>,
    reader: LogReader,
    /// The running hash of what was delivered.
    marks: Arc<Mutex<Marks>>,
}

/// What a turn delivered.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// The delivered entries, in index order.
    pub entries: Vec<Delivery>,
    /// The answers to those who waited.
    pub answers: Vec<(Ticket, Answer)>,
    /// The application's responses, by ascending index. Empty responses are left out.
    pub responses: Vec<(Index, Bytes)>,
    /// Whether more can be delivered immediately.
    pub more: bool,
}

/// An entry that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The entry in the log.
    pub entry: Entry,
    /// `false` if it was delivered as a no-op.
    pub counts: bool,
    /// [`Item::number`], if the entry is an item: a value or an operation that counts.
    pub number: Option<u64>,
}

/// Why this node can deliver nothing more.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] LogReadError),
    /// A newer version of this program proposed the entry.
    #[error(
        "the entry at index {index} is of kind {code}, which this version does not know: nothing from this \
         index on was delivered; start a version that knows it"
    )]
    UnknownKind {
        /// The entry's index.
        index: Index,
        /// The code of its kind.
        code: u8,
    },
}

impl Applier {
    /// Begins with the oldest index that the log holds. The application must be new.
    pub fn new(
        recent: Arc<Recent>,
        reader: LogReader,
        requests: Arc<Mutex<Requests>>,
        application: Option<Box<dyn Application>>,
        marks: Arc<Mutex<Marks>>,
    ) -> Applier {
        let applied = reader.compacted();
        requests.lock().ledger.start_at(applied);
        let hashed = marks.lock().newest().index;
        assert_eq!(
            hashed, applied,
            "delivery and its hash begin at one index, not at {applied} and {hashed}"
        );
        Applier { applied, items: 0, application, requests, recent, reader, marks }
    }

    /// Every index up to this one was delivered.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Delivers some of what is chosen and not delivered yet.
    pub fn turn(&mut self) -> Result<Deliveries, ApplyError> {
        let next = self.applied + 1;
        let turn_bytes = if self.application.is_some() { APPLICATION_TURN_BYTES } else { TURN_BYTES };
        let read = self.recent.read_chosen(|chosen| {
            let entries = read_chosen(next, chosen, turn_bytes, &self.recent, &self.reader)?;
            Ok((chosen, entries))
        });
        let (chosen, entries) = match read {
            Some(Ok(read)) => read,
            // The store is being opened again.
            Some(Err(LogReadError::Unreadable { why: EngineError::Closed, .. })) => {
                return Ok(Deliveries::default());
            }
            Some(Err(error)) => return Err(error.into()),
            // The core was rebuilt in the meantime: what it knew beyond its durable part comes again.
            None => return Ok(Deliveries::default()),
        };
        if let Some(entry) = entries.iter().find(|entry| matches!(entry.command.kind, Kind::Unknown(_))) {
            return Err(ApplyError::UnknownKind { index: entry.index, code: entry.command.kind.code() });
        }
        let mut delivered = Deliveries::default();
        let requests = self.requests.clone();
        let mut requests = requests.lock();
        for entry in entries {
            self.deliver(entry, &mut requests, &mut delivered);
        }
        drop(requests);
        let mut marks = self.marks.lock();
        delivered.entries.iter().for_each(|it| marks.deliver(&it.entry, it.counts));
        delivered.more = self.applied < chosen && !delivered.entries.is_empty();
        Ok(delivered)
    }

    /// The application comes first, then those who wait: what is answered is applied. The lock is not held
    /// while the application runs. As nobody else delivers, an entry that counted before still counts after.
    fn deliver(&mut self, entry: Entry, requests: &mut MutexGuard<'_, Requests>, delivered: &mut Deliveries) {
        let is_item = matches!(entry.command.kind, Kind::Value | Kind::Operation);
        if let Some(application) = &mut self.application
            && is_item
            && requests.ledger.counts(&entry)
        {
            let item = Item { index: entry.index, number: self.items + 1, command: entry.command.clone() };
            let response = MutexGuard::unlocked(requests, || application.apply(&item));
            if !response.is_empty() {
                delivered.responses.push((entry.index, response));
            }
        }
        let counts = requests.deliver(&entry, &mut delivered.answers);
        self.applied = entry.index;
        self.items += u64::from(is_item && counts);
        let number = (is_item && counts).then_some(self.items);
        delivered.entries.push(Delivery { entry, counts, number });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::consensus::types::{Ballot, Command};
    use crate::store::memory::MemoryEngine;
    use crate::store::{Change, Founding, Store, Write};
    use crate::wire::message::Point;

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

    fn marks() -> Arc<Mutex<Marks>> {
        Arc::new(Mutex::new(Marks::new(Point::default())))
    }

    /// A leader that crashed and comes back holds entries that were never chosen. What it learns in their
    /// place may be chosen before it is written here. Then that is delivered, not what the store still holds.
    #[test]
    fn what_was_chosen_is_delivered_and_not_what_the_store_still_holds_there() {
        let store = store_with(&[entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "stale")]);
        let recent = Arc::new(Recent::new(1 << 20, 0));
        // Indexes 1 and 2 were learned as the store already has them; 3 is on its way there.
        recent.put(None, &[entry(3, 2, "chosen")], 1);
        recent.raise_chosen(3);
        let requests = Arc::new(Mutex::new(Requests::new(100)));
        let mut applier = Applier::new(recent, store.reader(), requests, None, marks());
        let mut values = Vec::new();
        while applier.applied() < 3 {
            let delivered = applier.turn().unwrap();
            values.extend(delivered.entries.into_iter().map(|delivery| delivery.entry.command.payload));
        }
        assert_eq!(values, ["a", "b", "chosen"]);
    }

    /// Answers with everything it was given so far.
    struct Journal(Vec<u8>);

    impl Application for Journal {
        fn apply(&mut self, item: &Item) -> Bytes {
            self.0.extend_from_slice(&item.command.payload);
            self.0.extend_from_slice(item.number.to_string().as_bytes());
            Bytes::copy_from_slice(&self.0)
        }
    }

    /// The application sees each value once, numbered without no-ops and repeats, before it is answered, and
    /// its responses come with their indexes.
    #[test]
    fn the_application_is_given_what_counts() {
        let noop = Entry { command: Command::noop(1), ..entry(1, 1, "") };
        let repeat = Entry { index: 4, ..entry(2, 1, "a") };
        let entries = [noop, entry(2, 1, "a"), entry(3, 1, "b"), repeat, entry(5, 1, "c")];
        let store = store_with(&entries);
        let recent = Arc::new(Recent::new(1 << 20, 0));
        recent.put(None, &entries, 1);
        recent.raise_chosen(5);
        let requests = Arc::new(Mutex::new(Requests::new(100)));
        let journal = Box::new(Journal(Vec::new()));
        let mut applier = Applier::new(recent, store.reader(), requests, Some(journal), marks());
        let delivered = applier.turn().unwrap();
        let numbers: Vec<_> = delivered.entries.iter().map(|delivery| delivery.number).collect();
        assert_eq!(numbers, [None, Some(1), Some(2), None, Some(3)]);
        let counts: Vec<_> = delivered.entries.iter().map(|delivery| delivery.counts).collect();
        assert_eq!(counts, [false, true, true, false, true]);
        let responses: Vec<_> = delivered.responses.iter().map(|(at, said)| (*at, &said[..])).collect();
        assert_eq!(responses, [(2, &b"a1"[..]), (3, b"a1b2"), (5, b"a1b2c3")]);
    }
}
