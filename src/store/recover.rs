//! Reading a store from its beginning: what open, rebuild and dump have in common. Nothing is written.
//!
//! *A peer is bound here exactly if the newest record about it says so.* Its directory is a small value,
//! which is put in the same atomic write as that record. So a value that is lost is noticed, because the node
//! would trust any directory that comes under that id; and so is one that outlives its unbinding. Compaction
//! deletes records in ascending order, after it repeated the record of each peer that is bound: what it
//! deletes of an unbound peer are a binding and the unbinding after it, in this order, and without records
//! neither is known.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use crate::consensus::types::{HardState, Index, NodeId, Round};

use super::engine::{Journal, Meta};
use super::error::OpenError;
use super::identity::Identity;
use super::index::LogIndex;
use super::record::{Item, Items, Record, Shape, entry_of_first_part};
use super::seal::{Cursor, Damage, FORMAT, unseal};
use super::tail::Mark;
use super::types::DirectoryId;

/// The key of the identity.
pub const IDENTITY: &[u8] = b"identity";
/// The key of the start counter.
pub const START: &[u8] = b"start";
/// The key of the number of the first record that is kept.
pub const FIRST: &[u8] = b"first";
/// The key of a small write that asks whether there is room.
pub const PROBE: &[u8] = b"probe";
const BINDING: &[u8] = b"binding/";
/// The content of the value of a peer that is no longer bound: no directory.
pub const UNBOUND: &[u8] = &[];

/// No store ever writes this many records, so adding to a number never overflows.
const MAX_RECORD: u64 = 1 << 62;

/// The small values of a store.
#[derive(Debug)]
pub struct Values {
    pub identity: Option<Identity>,
    pub start: u64,
    pub first: u64,
    pub bindings: BTreeMap<NodeId, DirectoryId>,
}

/// What the records of a store contain.
#[derive(Debug)]
pub struct Log {
    /// The number of the record that comes next.
    pub next: u64,
    pub index: LogIndex,
    pub hard_state: HardState,
    /// The record of the newest hard state, or 0 if there is none.
    pub hard_state_record: u64,
    pub max_round: Round,
    /// Whether a peer is bound according to the newest record about it. Records before the first one are not
    /// known.
    pub bound: BTreeMap<NodeId, bool>,
}

/// Everything in a store, checked to fit together.
#[derive(Debug)]
pub struct Found {
    pub values: Values,
    pub log: Log,
}

impl Found {
    /// The mark of how far the store reaches, if it belongs to this directory.
    pub fn mark(&self, directory: DirectoryId) -> Mark {
        Mark { directory, start: self.values.start, record: self.log.next - 1 }
    }
}

/// Reads the log that belongs to these small values.
pub fn all(values: Values, journal: &dyn Journal, path: &Path) -> Result<Found, OpenError> {
    let log = log(journal, values.first, path)?;
    check_bindings(&values.bindings, &log, path)?;
    Ok(Found { values, log })
}

/// Reads the small values.
pub fn values(meta: &dyn Meta, path: &Path) -> Result<Values, OpenError> {
    let get = |key: &[u8]| meta.get(key).map_err(|error| OpenError::engine(path, error));
    let number = |key: &[u8], default| match get(key)? {
        Some(value) => unseal(key, &value)
            .and_then(|content| Cursor(content).varint())
            .map_err(|damage| bad(path, &name(key), damage)),
        None => Ok(default),
    };
    let identity = match get(IDENTITY)? {
        Some(value) => Some(
            unseal(IDENTITY, &value)
                .and_then(Identity::decode)
                .map_err(|damage| bad(path, &name(IDENTITY), damage))?,
        ),
        None => None,
    };
    let first = number(FIRST, 1)?;
    if !(1..=MAX_RECORD).contains(&first) {
        return Err(bad(path, &name(FIRST), Damage::Malformed("it names an impossible record")));
    }
    Ok(Values { identity, start: number(START, 0)?, first, bindings: bindings(meta, path)? })
}

/// The key of a peer's binding.
pub fn binding_key(node: NodeId) -> Vec<u8> {
    [BINDING, &node.to_be_bytes()].concat()
}

fn bindings(meta: &dyn Meta, path: &Path) -> Result<BTreeMap<NodeId, DirectoryId>, OpenError> {
    let mut bindings = BTreeMap::new();
    let mut damage = None;
    let scanned = meta.scan_prefix(BINDING, &mut |key, value| {
        let node = &key[BINDING.len()..];
        match (node.try_into().map(NodeId::from_be_bytes), unseal(key, value).and_then(bound_directory)) {
            (Ok(node), Ok(Some(directory))) => drop(bindings.insert(node, directory)),
            (Ok(_), Ok(None)) => {}
            (_, Err(found)) => {
                damage = Some(bad(path, &name(key), found));
                return ControlFlow::Break(());
            }
            (Err(_), _) => {
                damage = Some(bad(path, &name(key), Damage::Malformed("its key is not a node id")));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| OpenError::engine(path, error))?;
    damage.map_or(Ok(bindings), Err)
}

/// The directory in the value of a binding, `None` if it was taken away.
fn bound_directory(content: &[u8]) -> Result<Option<DirectoryId>, Damage> {
    if content == UNBOUND {
        return Ok(None);
    }
    Ok(Some(DirectoryId::from_le_bytes(Cursor(content).array()?)))
}

/// Reads all records from number `first` on, checks that none is missing, and builds the index.
fn log(journal: &dyn Journal, first: u64, path: &Path) -> Result<Log, OpenError> {
    let mut scan = Scan::new(first);
    let mut damage = None;
    let scanned = journal.scan(&mut |number, record| match scan.record(number, record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(found) => {
            damage = Some(bad(path, &format!("record {number}"), found));
            ControlFlow::Break(())
        }
    });
    scanned.map_err(|error| OpenError::engine(path, error))?;
    if let Some(damage) = damage {
        return Err(damage);
    }
    if scan.more {
        let last = scan.log.next - 1;
        return Err(OpenError::damaged(
            path,
            format!("the write that record {last} belongs to is incomplete"),
        ));
    }
    if scan.log.next == first && first > 1 {
        return Err(OpenError::damaged(path, format!("record {first} and all after it are gone")));
    }
    Ok(scan.log)
}

/// Refuses a store whose values are not those that its records tell of.
fn check_bindings(bindings: &BTreeMap<NodeId, DirectoryId>, log: &Log, path: &Path) -> Result<(), OpenError> {
    for (node, is_bound) in &log.bound {
        let why = match (is_bound, bindings.contains_key(node)) {
            (true, false) => "is gone",
            (false, true) => "is older than the record that took it away",
            _ => continue,
        };
        return Err(OpenError::damaged(path, format!("{} {why}", name(&binding_key(*node)))));
    }
    Ok(())
}

struct Scan {
    log: Log,
    /// Whether the previous record belongs to a write of which more must follow.
    more: bool,
    /// The entry whose parts are being read.
    parts: Option<Parts>,
}

struct Parts {
    total: usize,
    seen: usize,
}

impl Scan {
    fn new(first: u64) -> Scan {
        let log = Log {
            next: first,
            index: LogIndex::default(),
            hard_state: HardState::default(),
            hard_state_record: 0,
            max_round: 0,
            bound: BTreeMap::new(),
        };
        Scan { log, more: false, parts: None }
    }

    fn record(&mut self, number: u64, value: &[u8]) -> Result<(), Damage> {
        if number != self.log.next {
            return Err(Damage::Malformed("the records before it are gone"));
        }
        if number > MAX_RECORD {
            return Err(Damage::Malformed("its number is impossible"));
        }
        let record = Record::open(number, value)?;
        match (record.shape, self.parts.take()) {
            (Shape::Items(items), None) => self.items(number, items)?,
            (Shape::FirstPart { total, bytes }, None) => {
                let entry = entry_of_first_part(total, bytes)?;
                self.entry(entry.index, entry.ballot.round, number);
                self.parts(total, 0, bytes)?;
            }
            (Shape::LaterPart { offset, bytes }, Some(Parts { total, seen })) if offset == seen => {
                self.parts(total, seen, bytes)?;
            }
            _ => return Err(Damage::Malformed("the parts of an entry are out of order")),
        }
        self.more = record.more;
        self.log.next = number + 1;
        if self.parts.is_some() && !self.more {
            return Err(Damage::Malformed("an entry ends before its last part"));
        }
        Ok(())
    }

    fn parts(&mut self, total: usize, before: usize, bytes: &[u8]) -> Result<(), Damage> {
        let seen = before + bytes.len();
        if seen > total || bytes.is_empty() {
            return Err(Damage::Malformed("the parts of an entry do not add up to its length"));
        }
        self.parts = (seen < total).then_some(Parts { total, seen });
        Ok(())
    }

    fn items(&mut self, number: u64, mut items: Items<'_>) -> Result<(), Damage> {
        while let Some(item) = items.next()? {
            match item {
                Item::Entry(entry) => self.entry(entry.index, entry.ballot.round, number),
                Item::HardState(state) => {
                    self.log.hard_state = state;
                    self.log.hard_state_record = number;
                    self.log.max_round = self.log.max_round.max(state.promised.round);
                }
                Item::Truncate(from) => self.log.index.truncate_from(from),
                Item::Checkpoint { compacted, .. } if compacted == Index::MAX => {
                    return Err(Damage::Malformed("it names an impossible index"));
                }
                Item::Checkpoint { compacted, max_round, hash } => {
                    self.log.index.compact(compacted, hash);
                    self.log.max_round = self.log.max_round.max(max_round);
                }
                Item::Binding(node) => drop(self.log.bound.insert(node, true)),
                Item::Unbinding(node) => drop(self.log.bound.insert(node, false)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, index: Index, round: Round, record: u64) {
        self.log.max_round = self.log.max_round.max(round);
        // An entry that a later checkpoint covers may come before it; one below an earlier checkpoint is
        // void.
        if index > self.log.index.compacted() {
            self.log.index.set(index, record);
        }
    }
}

fn bad(path: &Path, what: &str, damage: Damage) -> OpenError {
    match damage {
        Damage::Newer(format) => {
            let (format, ours) = (u64::from(format), u64::from(FORMAT));
            OpenError::Newer { directory: path.to_path_buf(), format, lowest: format, ours }
        }
        damage => OpenError::damaged(path, format!("{what}: {damage}")),
    }
}

fn name(key: &[u8]) -> String {
    format!("value \"{}\"", key.escape_ascii())
}
