//! A store that is written, damaged and opened: it has all that was durable, or it says what is damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::consensus::types::{Ballot, Command, Entry, HardState};
use crate::store::engine::Engine;
use crate::store::memory::{Key, MemoryEngine};
use crate::store::seal::seal;
use crate::store::{Binding, Change, Founding, OpenError, Recovered, Store, Write};

use super::pieces::Script;

/// More steps only take longer.
const STEPS: usize = 24;

/// The input is a script: steps of writing, up to one with number 0, then steps of damage.
pub fn store_recovery(data: &[u8]) {
    let mut script = Script(data);
    let engine = Arc::new(MemoryEngine::new());
    write(&engine, &mut script);
    let before = Held::of(&engine, open(&engine).expect("nothing is damaged yet"));
    let forged = damage(&engine, &mut script);
    match open(&engine) {
        Err(error) => check_refused(&before, &engine, &error),
        Ok((store, recovered)) if forged => check_goes_on(&engine, store, recovered),
        Ok(opened) => check_whole(&before, &Held::of(&engine, opened)),
    }
}

/// A store that no node wrote: its records have any content under correct checksums. Each is two bytes of
/// length (of at most 7 KiB) and that many bytes. Open it with [`open_engine`].
pub fn engine_of_records(data: &[u8]) -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    drop(open(&engine).expect("an empty engine"));
    let mut script = Script(data);
    let mut number = 1;
    while !script.is_over() {
        let length = usize::from(script.short()) % 7000;
        forge(&engine, Key::Record(number), script.take(length));
        number += 1;
    }
    engine
}

/// Opens a store on an engine.
pub fn open_engine(engine: &Arc<MemoryEngine>) -> Result<(Store, Recovered), OpenError> {
    open(engine)
}

fn open(engine: &Arc<MemoryEngine>) -> Result<(Store, Recovered), OpenError> {
    engine.reopen().expect("memory can be opened again");
    let members = (1..=3).map(|node| (node, format!("127.0.0.1:1000{node}"))).collect();
    let founding = Founding {
        cluster: "fuzz".into(),
        node: 1,
        protocol: "paxos".into(),
        members,
        delivery_window: 1 << 20,
    };
    Store::open_on(engine.clone(), &founding, 7)
}

/// What was in an engine, and what a store read from it.
struct Held {
    values: BTreeMap<Key, Bytes>,
    recovered: Recovered,
    /// All that is kept, chosen or not.
    entries: Vec<Entry>,
}

impl Held {
    fn of(engine: &MemoryEngine, (store, recovered): (Store, Recovered)) -> Held {
        let reader = store.reader();
        let mut entries: Vec<Entry> = vec![];
        let mut next = recovered.compacted + 1;
        while let Some(first) = reader.next_entry(next) {
            entries.extend(reader.read(first, u64::MAX, 1 << 16).expect("what the index names is there"));
            next = entries.last().map_or(first, |entry| entry.index) + 1;
        }
        Held { values: engine.contents(), recovered, entries }
    }

    fn last_record(&self) -> Option<&Key> {
        self.values.keys().next_back().filter(|key| matches!(key, Key::Record(_)))
    }
}

/// Writes as a node does, as the script says.
fn write(engine: &Arc<MemoryEngine>, script: &mut Script) {
    let (mut store, recovered) = open(engine).expect("an empty engine");
    let (mut round, mut last) = (1, recovered.last);
    for _ in 0..STEPS {
        match script.byte() % 8 {
            0 => break,
            1 => round += u64::from(script.byte()),
            2 => {
                let changes = [Change::TruncateFrom(store.hard_state().chosen + 1)];
                store.write(&Write { changes: &changes, ..Write::default() }).expect("memory has room");
            }
            3 => {
                let byte = script.byte();
                let binding = Binding { node: 1 + u64::from(byte % 3), directory: 9 };
                if byte < 128 {
                    let bound = Write { bindings: &[binding], ..Write::default() };
                    store.write(&bound).expect("memory has room");
                } else {
                    store.unbind(binding.node).expect("memory has room");
                }
            }
            4 => {
                let upto = store.hard_state().chosen.saturating_sub(u64::from(script.byte() % 4));
                while store.compact(upto, u128::from(upto)).expect("memory has room") {}
            }
            _ => last = write_entries(&mut store, script, round, last),
        }
    }
}

/// Writes some entries and a hard state. Returns the highest index with an entry.
fn write_entries(store: &mut Store, script: &mut Script, round: u64, last: u64) -> u64 {
    let chosen = store.hard_state().chosen;
    let back = u64::from(script.byte() % 4);
    let first = (last + 1).saturating_sub(back).max(chosen + 1);
    let ballot = Ballot { round, node: 1 };
    let count = u64::from(script.byte() % 6);
    let entry = |index| {
        let size = match usize::from(script.byte()) {
            small @ 0..200 => small,
            large => (large - 199) * 500,
        };
        Entry { index, ballot, command: Command::value(index, 1, vec![round as u8; size]) }
    };
    let entries: Vec<_> = (first..first + count).map(entry).collect();
    let last = entries.last().map_or(last, |entry| entry.index.max(last));
    let promised = ballot.max(store.hard_state().promised);
    let state = HardState { promised, chosen: chosen.max(last.saturating_sub(u64::from(script.byte() % 8))) };
    let write = Write { changes: &[Change::Entries(&entries)], hard_state: Some(state), bindings: &[] };
    store.write(&write).expect("memory has room");
    last
}

/// Changes what is in the engine. Returns whether anything was given a correct checksum, so that the store
/// cannot notice.
fn damage(engine: &MemoryEngine, script: &mut Script) -> bool {
    let mut forged = false;
    for _ in 0..STEPS {
        if script.is_over() {
            break;
        }
        let kind = script.byte() % 7;
        let keys: Vec<_> = engine.contents().into_keys().collect();
        let key = &keys[usize::from(script.byte()) % keys.len()];
        match kind {
            0 => damage_byte(engine, key, script),
            1 => drop(engine.lose(key)),
            2 => drop(engine.damage(key, |value| value.truncate(usize::from(script.short())))),
            3 => exchange(engine, key, &keys[usize::from(script.byte()) % keys.len()]),
            4 => drop(engine.damage(key, |value| value.push(script.byte()))),
            5 => {
                let length = usize::from(script.byte());
                forge(engine, key.clone(), script.take(length));
                forged = true;
            }
            _ => {
                let number = script.take(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                let length = usize::from(script.byte());
                forge(engine, Key::Record(number), script.take(length));
                forged = true;
            }
        }
        if engine.contents().is_empty() {
            break;
        }
    }
    forged
}

fn damage_byte(engine: &MemoryEngine, key: &Key, script: &mut Script) {
    let (at, change) = (usize::from(script.short()), script.byte());
    engine.damage(key, |value| {
        let at = at % value.len().max(1);
        if let Some(byte) = value.get_mut(at) {
            *byte ^= change;
        }
    });
}

fn exchange(engine: &MemoryEngine, first: &Key, second: &Key) {
    let contents = engine.contents();
    engine.damage(first, |value| *value = contents[second].to_vec());
    engine.damage(second, |value| *value = contents[first].to_vec());
}

fn forge(engine: &MemoryEngine, key: Key, content: &[u8]) {
    let value = match &key {
        Key::Meta(key) => seal(key, content),
        Key::Record(number) => seal(&number.to_be_bytes(), content),
    };
    engine.forge(key, value);
}

fn check_refused(before: &Held, engine: &MemoryEngine, error: &OpenError) {
    assert_ne!(before.values, engine.contents(), "nothing was changed, but it is refused: {error}");
    assert_eq!(error.exit_code(), 2, "{error}");
}

/// It opened although values may have been changed or lost: nothing that was durable may be.
fn check_whole(before: &Held, after: &Held) {
    // The file `tail`, which is next to an engine, finds this.
    if after.last_record() < before.last_record() || after.recovered.start < before.recovered.start {
        return;
    }
    let expected = Recovered { start: before.recovered.start + 1, ..before.recovered.clone() };
    assert_eq!(after.recovered, expected, "what was durable is not what was recovered");
    assert_eq!(after.entries, before.entries, "entries were lost or changed without a word");
}

/// It opened over values that nobody wrote: what it makes of them is its own, but it can be used, and what is
/// written then is there at the next start.
fn check_goes_on(engine: &Arc<MemoryEngine>, mut store: Store, recovered: Recovered) {
    let reader = store.reader();
    let mut next = recovered.compacted.saturating_add(1);
    while let Some(first) = reader.next_entry(next) {
        let _ = reader.read(first, u64::MAX, 1 << 16);
        next = first.saturating_add(1);
        if next == u64::MAX {
            break;
        }
    }
    let index = recovered.last.saturating_add(1);
    if index > 1 << 62 {
        return; // no log gets there
    }
    let entry = Entry { index, ballot: Ballot { round: 1, node: 1 }, command: Command::value(1, 1, "v") };
    let entries = [entry.clone()];
    let write =
        Write { changes: &[Change::Entries(&entries)], hard_state: Some(store.hard_state()), bindings: &[] };
    store.write(&write).expect("memory has room");
    drop(store);
    let (store, again) = open(engine).unwrap_or_else(|error| panic!("after a write: {error}"));
    assert_eq!(store.reader().read(index, index, usize::MAX), Ok(vec![entry]), "what was written");
    assert_eq!((again.last, again.hard_state), (index, recovered.hard_state), "after a write");
}
