//! The rules of the store, on both engines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::engine::{Engine, EngineError, Journal};
use super::memory::{Kept, Key, MemoryEngine};
use super::*;
use crate::consensus::types::{Ballot, Command};

fn founding() -> Founding {
    let members = (1..=3).map(|node| (node, format!("127.0.0.1:1000{node}"))).collect();
    Founding { cluster: "test".into(), node: 1, protocol: "paxos".into(), members, delivery_window: 1 << 20 }
}

fn entry(index: Index, round: Round, size: usize) -> Entry {
    let payload: Vec<u8> = (0..size).map(|at| (at as u64 ^ index ^ round) as u8).collect();
    Entry { index, ballot: Ballot { round, node: 1 }, command: Command::value(index, 1, payload) }
}

fn state(round: Round, chosen: Index) -> HardState {
    HardState { promised: Ballot { round, node: 1 }, chosen }
}

fn write(store: &mut Store, entries: &[Entry], hard_state: Option<HardState>) -> Result<(), WriteError> {
    store.write(&Write { changes: &[Change::Entries(entries)], hard_state, bindings: &[] })
}

/// A store that can be opened again.
enum Place {
    Memory(Arc<MemoryEngine>),
    Disk(TempDir),
}

impl Place {
    fn memory() -> Place {
        Place::Memory(Arc::default())
    }

    fn disk() -> Place {
        Place::Disk(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> (Store, Recovered) {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<(Store, Recovered), OpenError> {
        match self {
            Place::Memory(engine) => {
                engine.reopen().unwrap();
                Store::open_on(engine.clone(), &founding(), 7)
            }
            Place::Disk(folder) => Store::open(StoreOptions::new(folder.path().join("node"), founding())),
        }
    }

    /// What sled would put into files that it never syncs.
    fn assert_no_blobs(&self) {
        if let Place::Disk(folder) = self {
            assert_no_blobs(&folder.path().join("node"));
        }
    }
}

fn assert_no_blobs(directory: &Path) {
    let blobs: Vec<_> = std::fs::read_dir(directory.join("store/blobs")).unwrap().collect();
    assert!(blobs.is_empty(), "sled keeps {blobs:?} outside of its file");
}

#[derive(Clone, Debug)]
enum Step {
    /// Entries from `back` below the end on, of these sizes, under a ballot `higher` than the last; `skip`
    /// leaves a hole before them.
    Write {
        back: u64,
        skip: u64,
        higher: u64,
        sizes: Vec<usize>,
        choose: u64,
    },
    Truncate {
        back: u64,
    },
    Compact {
        back: u64,
    },
    Bind {
        node: NodeId,
    },
    Reopen,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0usize..200, 2 => 6000usize..9000, 1 => 20_000usize..60_000];
    prop_oneof![
        10 => (0u64..6, 0u64..3, 0u64..2, prop::collection::vec(size, 0..12), 0u64..8)
            .prop_map(|(back, skip, higher, sizes, choose)| Step::Write { back, skip, higher, sizes, choose }),
        2 => (0u64..5).prop_map(|back| Step::Truncate { back }),
        3 => (0u64..5).prop_map(|back| Step::Compact { back }),
        1 => (2u64..5).prop_map(|node| Step::Bind { node }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ]
}

/// What a store should hold.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Index, Entry>,
    hard_state: HardState,
    compacted: Index,
    max_round: Round,
    bindings: BTreeMap<NodeId, DirectoryId>,
    starts: u64,
}

impl Model {
    fn last(&self) -> Index {
        self.entries.keys().last().copied().unwrap_or(0).max(self.compacted)
    }

    fn recovered(&self, directory: DirectoryId) -> Recovered {
        let above = self.entries.range(self.hard_state.chosen + 1..);
        Recovered {
            directory,
            start: self.starts,
            hard_state: self.hard_state,
            chosen_ballot: self
                .entries
                .get(&self.hard_state.chosen)
                .map_or(Ballot::ZERO, |entry| entry.ballot),
            max_round: self.max_round,
            entries: above.map(|(_, entry)| entry.clone()).collect(),
            last: self.last(),
            compacted: self.compacted,
            bindings: self.bindings.clone(),
            founding: founding(),
        }
    }

    fn check(&self, reader: &LogReader) {
        assert_eq!((reader.last(), reader.compacted()), (self.last(), self.compacted));
        let mut seen = BTreeMap::new();
        let mut next = 0;
        while let Some(first) = reader.next_entry(next) {
            let run = reader.read(first, Index::MAX, 30_000).unwrap();
            assert!(run.iter().zip(first..).all(|(entry, index)| entry.index == index));
            next = first + run.len() as u64;
            seen.extend(run.into_iter().map(|entry| (entry.index, entry)));
        }
        assert_eq!(seen, self.entries);
        if self.compacted > 0 {
            let expected = ReadError::Compacted { compacted: self.compacted };
            assert_eq!(reader.read(self.compacted, Index::MAX, 1), Err(expected));
        }
        assert_eq!(reader.read(self.last() + 1, Index::MAX, 1), Err(ReadError::Missing(self.last() + 1)));
    }
}

/// Runs a script on a store and on the model side by side.
fn run(place: &Place, script: &[Step]) {
    let mut model = Model { starts: 1, ..Model::default() };
    let (mut store, recovered) = place.open();
    let directory = recovered.directory;
    assert_eq!(recovered, model.recovered(directory));
    for step in script {
        match step {
            Step::Write { back, skip, higher, sizes, choose } => {
                let round = model.max_round + higher;
                let first = (model.last() + 1 + skip).saturating_sub(*back).max(model.hard_state.chosen + 1);
                let entries: Vec<_> =
                    (first..).zip(sizes).map(|(index, size)| entry(index, round, *size)).collect();
                model.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
                // As far as there is no hole, and never back.
                let chosen = (model.hard_state.chosen + 1..).take(*choose as usize);
                let chosen = chosen.take_while(|index| model.entries.contains_key(index)).last();
                let hard_state = chosen.map(|chosen| state(round, chosen));
                write(&mut store, &entries, hard_state).unwrap();
                model.hard_state = hard_state.unwrap_or(model.hard_state);
                model.max_round = match entries.is_empty() && hard_state.is_none() {
                    true => model.max_round,
                    false => round,
                };
            }
            Step::Truncate { back } => {
                let from = (model.last() + 1).saturating_sub(*back).max(model.hard_state.chosen + 1);
                store.write(&Write { changes: &[Change::TruncateFrom(from)], ..Write::default() }).unwrap();
                model.entries.retain(|index, _| *index < from);
            }
            Step::Compact { back } => {
                let upto = model.hard_state.chosen.saturating_sub(*back);
                while store.compact(upto).unwrap() {}
                model.entries.retain(|index, _| *index > upto);
                model.compacted = model.compacted.max(upto);
            }
            Step::Bind { node } => {
                let binding = Binding { node: *node, directory: u128::MAX - u128::from(*node) };
                store.write(&Write { bindings: &[binding], ..Write::default() }).unwrap();
                model.bindings.insert(binding.node, binding.directory);
            }
            Step::Reopen => {
                store.close().unwrap();
                let opened = place.open();
                store = opened.0;
                model.starts += 1;
                assert_eq!(opened.1, model.recovered(directory));
            }
            Step::Rebuild => assert_eq!(store.rebuild().unwrap(), model.recovered(directory)),
        }
        assert_eq!(store.hard_state(), model.hard_state);
        model.check(&store.reader());
        place.assert_no_blobs();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever is written, overwritten, truncated, compacted, bound and reopened: the store holds what a
    /// plain map would.
    #[test]
    fn memory_behaves_as_the_model(script in prop::collection::vec(step(), 1..60)) {
        run(&Place::memory(), &script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// The same on sled; its `blobs/` stays empty.
    #[test]
    fn sled_behaves_as_the_model(script in prop::collection::vec(step(), 1..40)) {
        run(&Place::disk(), &script);
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

/// A write of which a disk that breaks its word keeps a part is refused when the store is opened, or it is as
/// if there had been none or all of it: whichever part it is.
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

/// A write for which there is no room is given up, and after a rebuild all before it is there; meanwhile
/// readers see nothing of it.
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

/// Any loss or change of a record is refused by number, never passed over.
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
            assert!(matches!(read, ReadError::Damaged { record: named, .. } if named == record), "{read}");
            if lose && record == records {
                // Nothing after it shows that it was there: what the file `tail` is for.
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

/// The parts of a large entry are checked as one: none may be gone at the end.
#[test]
fn a_large_entry_without_its_last_part_is_refused() {
    let engine = Arc::new(MemoryEngine::new());
    let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
    write(&mut store, &[entry(1, 1, 20_000)], None).unwrap();
    assert!(engine.lose(&Key::Record(3)));
    let error = Store::open_on(engine, &founding(), 7).err().expect("refused");
    assert!(error.to_string().contains("record 2"), "{error}");
}

/// A peer's binding that is gone is missed, also after its record was compacted away: without it the node
/// would trust whoever comes under that id.
#[test]
fn a_lost_binding_is_refused() {
    for compacts in [false, true] {
        let engine = Arc::new(MemoryEngine::new());
        let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
        let bound = Write { bindings: &[Binding { node: 2, directory: 9 }], ..Write::default() };
        store.write(&bound).unwrap();
        write(&mut store, &[entry(1, 1, 10)], Some(state(1, 1))).unwrap();
        if compacts {
            assert!(!store.compact(1).unwrap());
            assert!(engine.read(1).unwrap().is_none(), "its record is gone");
        }
        drop(Store::open_on(engine.clone(), &founding(), 7).expect("all is there"));
        assert!(engine.lose(&Key::Meta(recover::binding_key(2))));
        let error = Store::open_on(engine, &founding(), 7).err().expect("refused");
        assert!(error.to_string().contains("binding/") && error.exit_code() == 2, "{error}");
    }
}

/// A number of the first record that no store has, under a right checksum: refused, and nothing overflows.
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

/// A store that another node, cluster, protocol or set of voters uses is refused with both values; another
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
            "cluster test, this node is configured as cluster other",
            2,
        ),
        (&|founding| founding.node = 2, "node 1, this node is configured as node 2", 2),
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

/// A failed fdatasync is the end, and nothing is retried.
#[test]
fn a_failed_sync_is_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(SledEngine::open(folder.path(), 1 << 20).unwrap());
    let (mut store, _) = Store::open_on(engine.clone(), &founding(), 7).unwrap();
    write(&mut store, &[entry(1, 1, 10)], None).unwrap();
    engine.fail_syncs();
    let error = write(&mut store, &[entry(2, 1, 10)], None).unwrap_err();
    assert!(matches!(&error, WriteError::Fatal(why) if why.contains("fdatasync")), "{error}");
    assert_eq!(store.reader().last(), 1);
}

/// Compaction while writes go on keeps the file bounded, though deletion alone never shrinks it.
#[test]
fn compaction_under_writes_bounds_the_disk() {
    let place = Place::disk();
    let (mut store, _) = place.open();
    let Place::Disk(folder) = &place else { unreachable!() };
    let file = folder.path().join("node/store/db");
    let batch = 40;
    let mut sizes = vec![];
    for round in 1..=60 {
        let first = (round - 1) * batch + 1;
        let entries: Vec<_> = (first..first + batch).map(|index| entry(index, round, 4000)).collect();
        write(&mut store, &entries, Some(state(round, first + batch - 1))).unwrap();
        while store.compact((first - 1).saturating_sub(batch)).unwrap() {}
        sizes.push(std::fs::metadata(&file).unwrap().len());
        place.assert_no_blobs();
    }
    // 60 rounds are 9.6 MB of payloads; a round or two are live at a time.
    let (early, late) = (sizes[19], sizes[59]);
    assert!(late <= early + early / 2, "the file grew from {early} to {late}: {sizes:?}");
    drop(store);
    let (_, recovered) = place.open();
    assert_eq!(recovered.compacted, 58 * batch);
}

/// The start counter rises at every open, the directory id stays, and nobody else may read the files.
#[test]
fn a_directory_is_private_locked_and_counts_its_starts() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::disk();
    let Place::Disk(folder) = &place else { unreachable!() };
    let (store, first) = place.open();
    let error = place.try_open().err().expect("locked");
    assert!(matches!(error, OpenError::Locked { .. }) && error.exit_code() == 2, "{error}");
    drop(store);
    let (_store, second) = place.open();
    assert_eq!((first.start, second.start), (1, 2));
    assert_eq!(first.directory, second.directory);
    let mut folders = vec![folder.path().join("node")];
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            match file.is_dir() {
                true => folders.push(file),
                false => assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}"),
            }
        }
    }
}

/// A store that was lost, or that ends before what was known to be durable, is refused.
#[test]
fn what_the_tail_file_knows_must_be_there() {
    let place = Place::disk();
    let Place::Disk(folder) = &place else { unreachable!() };
    let node = folder.path().join("node");
    let (mut store, _) = place.open();
    write(&mut store, &[entry(1, 1, 10)], None).unwrap();
    store.close().unwrap();
    let old = folder.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for file in ["db", "conf"] {
        std::fs::copy(node.join("store").join(file), old.join(file)).unwrap();
    }
    let (mut store, _) = place.open();
    write(&mut store, &[entry(2, 1, 10)], None).unwrap();
    store.housekeep(1000).unwrap();
    drop(store);
    // The database of before, as a bad disk or a careless restore leaves it.
    std::fs::remove_dir_all(node.join("store")).unwrap();
    std::fs::rename(&old, node.join("store")).unwrap();
    let error = place.try_open().err().expect("refused").to_string();
    assert!(error.contains("record 2 of start 2 was durable"), "{error}");
    std::fs::remove_dir_all(node.join("store")).unwrap();
    let error = place.try_open().err().expect("refused").to_string();
    assert!(error.contains("was durable"), "{error}");
    std::fs::remove_file(node.join("tail")).unwrap();
    std::fs::remove_dir_all(node.join("store")).unwrap();
    assert_eq!(place.open().1.start, 1, "a wiped directory is founded anew, with another id");
}

/// Format 1 stays as it is: what a fixed list of writes leaves in sled, key by key, is what it left when the
/// checksum below was taken. A store of that version is opened by this one.
#[test]
fn the_bytes_in_sled_stay() {
    let folder = tempfile::tempdir().unwrap();
    let founding = Founding { cluster: "bytes".into(), ..founding() };
    let mut engine = Arc::new(SledEngine::open(folder.path(), 1 << 20).unwrap());
    for (from, checksum) in [(1, 0x85cf_e346_u32), (200, 0xab3b_c0f0)] {
        let (mut store, _) = Store::open_on(engine, &founding, 0xabcdef << 80 | 3).unwrap();
        for turn in 0..40 {
            let (round, first) = (from + turn, from + turn * 3);
            let entries =
                [entry(first, round, 20), entry(first + 1, round, 9000), entry(first + 2, round, 300)];
            let binding = Binding { node: 2 + turn % 2, directory: u128::from(turn) << 70 | 5 };
            let write = Write {
                changes: &[Change::TruncateFrom(first), Change::Entries(&entries)],
                hard_state: Some(state(round, first)),
                bindings: if turn % 5 == 0 { &[binding] } else { &[] },
            };
            store.write(&write).unwrap();
            if turn % 10 == 9 {
                while store.compact(first - 12).unwrap() {}
            }
        }
        store.rebuild().unwrap();
        store.probe().unwrap();
        store.close().unwrap();
        assert_eq!(checksum_of_sled(folder.path()), (26, checksum));
        engine = Arc::new(SledEngine::open(folder.path(), 1 << 20).unwrap());
    }
}

/// How many keys sled holds, and a checksum over them and their values.
fn checksum_of_sled(folder: &Path) -> (usize, u32) {
    let db = ::sled::Config::new().path(folder).flush_every_ms(None).open().unwrap();
    let (mut keys, mut bytes) = (0, vec![]);
    for pair in db.iter() {
        let (key, value) = pair.unwrap();
        keys += 1;
        for part in [key, value] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&part);
        }
    }
    (keys, crc32c::crc32c(&bytes))
}

/// What one durable write costs here. Run with `cargo test --release --lib store:: -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost_of_a_durable_write() {
    for count in [1u64, 64, 256, 512] {
        let folder = tempfile::tempdir_in(".").unwrap();
        let (mut store, _) = Store::open(StoreOptions::new(folder.path().join("node"), founding())).unwrap();
        let mut times = vec![];
        for turn in 0..3000 / (1 + count / 64) {
            let entries: Vec<_> = (1..=count).map(|at| entry(turn * count + at, 1, 128)).collect();
            let start = std::time::Instant::now();
            write(&mut store, &entries, None).unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "{count} entries of 128 bytes: median {:?}, 99 % {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
}
