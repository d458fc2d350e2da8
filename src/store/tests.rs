//! The rules of the store, on the engine in memory.

use std::sync::Arc;

use proptest::prelude::*;

use super::engine::{EngineError, Journal};
use super::memory::{Kept, Key, MemoryEngine};
use super::model::{Place, check_contract, entry, founding, run, state, step, write};
use super::*;

impl Place for Arc<MemoryEngine> {
    fn try_open(&self) -> Result<(Store, Recovered), OpenError> {
        self.reopen().unwrap();
        Store::open_on(self.clone(), &founding(), 7)
    }
}

#[test]
fn memory_keeps_the_contract() {
    check_contract(&MemoryEngine::new());
}

/// A record that leaves a gap, or has the number of another, is a bug of the store.
#[test]
#[should_panic(expected = "record 5 is appended to a journal that ends at 2")]
fn a_gap_in_the_journal_is_a_bug() {
    let engine = MemoryEngine::new();
    engine.commit(&Commit { first: 1, records: &[b"a", b"b"], ..Commit::default() }).unwrap();
    let _ = engine.commit(&Commit { first: 5, records: &[b"c"], ..Commit::default() });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever is written, overwritten, truncated, compacted, bound and reopened: the store holds what a
    /// plain map would.
    #[test]
    fn memory_behaves_as_the_model(script in prop::collection::vec(step(), 1..60)) {
        run(&Arc::<MemoryEngine>::default(), &script);
    }
}

/// A power cut after any number of unsynced atomic writes leaves the store at the one before, or after it.
#[test]
fn a_write_is_there_whole_or_not_at_all() {
    for kept in [Kept::Lost, Kept::Whole] {
        let engine = Arc::new(MemoryEngine::new());
        let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        let before = [entry(1, 1, 100), entry(2, 1, 30_000)];
        write(&mut store, &before, Some(state(1, 0))).unwrap();
        engine.fail_sync(EngineError::Failed("power cut".into()));
        let after = [entry(2, 2, 50_000), entry(3, 2, 10)];
        assert!(matches!(write(&mut store, &after, Some(state(2, 1))), Err(WriteError::Fatal(_))));
        engine.crash(|| kept);
        engine.reopen().unwrap();
        let (_, recovered) = Store::open_on(engine, &founding(), 7).unwrap();
        let (expected, hard_state) = match kept {
            Kept::Lost => (before.to_vec(), state(1, 0)),
            _ => (after.to_vec(), state(2, 1)),
        };
        assert_eq!((recovered.entries, recovered.hard_state), (expected, hard_state));
    }
}

/// A disk that breaks its promise may keep any part of a write. Then the store is refused when it is opened,
/// or it is as if all or none of the write had been made.
#[test]
fn a_torn_write_is_never_taken_for_a_whole_one() {
    let mut refused = 0;
    for bits in 0..256 {
        let engine = Arc::new(MemoryEngine::new());
        let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        let before = [entry(1, 1, 100)];
        write(&mut store, &before, Some(state(1, 0))).unwrap();
        engine.fail_sync(EngineError::Failed("power cut".into()));
        let after = [entry(2, 2, 100), entry(3, 2, 20_000), entry(4, 2, 100)];
        write(&mut store, &after, Some(state(2, 1))).unwrap_err();
        engine.crash(|| Kept::Torn(bits));
        match Store::open_on(engine, &founding(), 7) {
            Ok((_, recovered)) => assert_eq!((recovered.last, recovered.hard_state), (1, state(1, 0))),
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 200, "{refused} of 256 torn writes were refused");
}

/// A write for which there is no room is given up, and after a rebuild everything before it is there. In the
/// meantime readers see nothing of it.
#[test]
fn no_room_passes_after_a_rebuild() {
    let engine = Arc::new(MemoryEngine::new());
    let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
    write(&mut store, &[entry(1, 1, 10)], None).unwrap();
    engine.fail_next(EngineError::NoRoom("full".into()));
    let error = write(&mut store, &[entry(2, 5, 10)], None).unwrap_err();
    assert_eq!(error, WriteError::Passing("full".into()));
    assert_eq!(store.reader().last(), 1);
    let recovered = store.rebuild().unwrap();
    assert_eq!((recovered.last, recovered.max_round, recovered.start), (1, 1, 1));
    store.probe().unwrap();
    write(&mut store, &[entry(2, 6, 10)], None).unwrap();
    assert_eq!(store.reader().read(1, 9, usize::MAX).unwrap(), [entry(1, 1, 10), entry(2, 6, 10)]);
}

/// Any loss or change of a record is refused and its number named; none is overlooked.
#[test]
fn a_lost_or_changed_record_is_named() {
    let records = 6u64;
    for record in 1..=records {
        for lose in [false, true] {
            let engine = Arc::new(MemoryEngine::new());
            let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
            for index in 1..=records {
                write(&mut store, &[entry(index, 1, 10)], None).unwrap();
            }
            let reader = store.reader();
            let key = Key::Record(record);
            let is_there = if lose { engine.lose(&key) } else { engine.damage(&key, |value| value[9] ^= 4) };
            assert!(is_there);
            let read = reader.read(record, record, 1).unwrap_err();
            assert!(matches!(read, LogReadError::Damaged { record: named, .. } if named == record), "{read}");
            if lose && record == records {
                // Nothing after the record shows that it was there. That is what the file `tail` is for.
                assert!(store.rebuild().unwrap_err().to_string().contains("record 6 was durable"));
                continue;
            }
            let error = Store::open_on(engine, &founding(), 7).err().expect("refused");
            let named = if lose { record + 1 } else { record };
            assert!(error.to_string().contains(&format!("record {named}: ")), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}

/// The parts of a large entry are checked together: none may be missing at the end.
#[test]
fn a_large_entry_without_its_last_part_is_refused() {
    let engine = Arc::new(MemoryEngine::new());
    let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
    write(&mut store, &[entry(1, 1, 20_000)], None).unwrap();
    assert!(engine.lose(&Key::Record(3)));
    let error = Store::open_on(engine, &founding(), 7).err().expect("refused");
    assert!(error.to_string().contains("record 2"), "{error}");
}

/// The loss of a peer's binding is noticed, even after its record was compacted away: without the binding,
/// the node would trust any directory that comes under that id.
#[test]
fn a_lost_binding_is_refused() {
    for compacts in [false, true] {
        let engine = Arc::new(MemoryEngine::new());
        let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        let bound = Write { bindings: &[Binding { node: 2, directory: 9 }], ..Write::default() };
        store.write(&bound).unwrap();
        write(&mut store, &[entry(1, 1, 10)], Some(state(1, 1))).unwrap();
        if compacts {
            assert!(!store.compact(1, 5).unwrap());
            assert!(engine.read(1).unwrap().is_none(), "its record is gone");
        }
        drop(Store::open_on(engine.clone(), &founding(), 7).expect("everything is there"));
        assert!(engine.lose(&Key::Meta(recover::binding_key(2))));
        let error = Store::open_on(engine, &founding(), 7).err().expect("refused");
        assert!(error.to_string().contains("binding/") && error.exit_code() == 2, "{error}");
    }
}

/// An unbinding counts against every earlier record, is there after a restart, and outlives compaction in
/// whatever order the records go. The node can be bound anew.
#[test]
fn an_unbinding_stays() {
    for compacts in [false, true] {
        let engine = Arc::new(MemoryEngine::new());
        let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        let bind = |store: &mut Store, directory| {
            let bindings = &[Binding { node: 2, directory }, Binding { node: 3, directory: 33 }];
            store.write(&Write { bindings, ..Write::default() }).unwrap();
        };
        bind(&mut store, 9);
        write(&mut store, &[entry(1, 1, 10), entry(2, 1, 10)], Some(state(1, 1))).unwrap();
        assert_eq!(store.unbind(2), Ok(Some(9)));
        assert_eq!(store.unbind(2), Ok(None));
        if compacts {
            while store.compact(1, 0).unwrap() {}
            assert!(engine.read(1).unwrap().is_none(), "the record of the binding is gone");
        }
        let (mut store, recovered) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        assert_eq!(recovered.bindings, BTreeMap::from([(3, 33)]));
        write(&mut store, &[], Some(state(1, 2))).unwrap();
        if compacts {
            while store.compact(2, 0).unwrap() {}
            assert!(engine.read(3).unwrap().is_none(), "the record of the unbinding is gone");
        }
        let (mut store, recovered) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        assert_eq!(recovered.bindings, BTreeMap::from([(3, 33)]));
        bind(&mut store, 22);
        let (_, recovered) = Store::open_on(engine, &founding(), 7).unwrap();
        assert_eq!(recovered.bindings, BTreeMap::from([(2, 22), (3, 33)]));
    }
}

/// A write that is cut off leaves a peer bound or unbound, with record and value alike; a value that does not
/// fit the newest record is refused.
#[test]
fn a_binding_that_outlives_its_unbinding_is_refused() {
    for kept in [Kept::Lost, Kept::Whole] {
        let engine = Arc::new(MemoryEngine::new());
        let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        let bound = Write { bindings: &[Binding { node: 2, directory: 9 }], ..Write::default() };
        store.write(&bound).unwrap();
        let key = Key::Meta(recover::binding_key(2));
        let before = engine.contents()[&key].clone();
        engine.fail_sync(EngineError::Failed("power cut".into()));
        assert!(matches!(store.unbind(2), Err(WriteError::Fatal(_))));
        engine.crash(|| kept);
        let (_, recovered) = engine.try_open().unwrap();
        assert_eq!(recovered.bindings.contains_key(&2), kept == Kept::Lost);
        engine.forge(key, before.to_vec());
        let opened = engine.try_open().map(|(_, recovered)| recovered);
        match kept {
            Kept::Lost => assert_eq!(opened.unwrap().bindings[&2], 9),
            _ => assert!(opened.unwrap_err().to_string().contains("older than the record that took it away")),
        }
    }
}

/// A number of the first record that no store has is refused, even under a right checksum, and nothing
/// overflows.
#[test]
fn an_impossible_first_record_is_refused() {
    for first in [0, (1 << 62) + 1, u64::MAX] {
        let engine = Arc::new(MemoryEngine::new());
        drop(Store::open_on(engine.clone(), &founding(), 7).unwrap());
        let value = seal_number(recover::FIRST, first);
        engine.forge(Key::Meta(recover::FIRST.to_vec()), value);
        let error = Store::open_on(engine, &founding(), 7).err().expect("refused");
        assert!(error.to_string().contains("impossible record"), "{error}");
    }
}

/// A store of another node, cluster, protocol or set of voters is refused with both values; a different
/// address is not.
#[test]
fn a_foreign_store_is_refused() {
    let engine = Arc::new(MemoryEngine::new());
    drop(Store::open_on(engine.clone(), &founding(), 7).unwrap());
    let open = |change: &dyn Fn(&mut Founding)| {
        let mut founding = founding();
        change(&mut founding);
        Store::open_on(engine.clone(), &founding, 8).map(|(_, recovered)| recovered)
    };
    type Case<'a> = (&'a dyn Fn(&mut Founding), &'a str, u8);
    let foreign: [Case<'_>; 5] = [
        (
            &|founding| founding.cluster = "other".into(),
            "cluster test, but this node is configured as cluster other",
            2,
        ),
        (&|founding| founding.node = 2, "node 1, but this node is configured as node 2", 2),
        (&|founding| founding.protocol = "raft".into(), "protocol paxos", 2),
        (&|founding| founding.delivery_window = 5, "delivery window 1048576", 2),
        (&|founding| drop(founding.members.remove(&3)), "the configuration names {1 127.0.0.1:10001, 2", 1),
    ];
    for (change, words, code) in foreign {
        let error = open(change).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.exit_code(), code);
    }
    let moved = open(&|founding| drop(founding.members.insert(3, "10.0.0.3:1".into()))).unwrap();
    assert_eq!((moved.directory, moved.start), (7, 2));
    assert_eq!(moved.founding.members[&3], "127.0.0.1:10003");
}
