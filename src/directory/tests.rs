//! The rules of the store, on sled in a data directory.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use crate::store::model::{Place, check_contract, entry, founding, run, state, step, write};
use crate::store::{Binding, Change, Write, WriteError};

use super::*;

/// A folder with a data directory in it.
struct Disk(TempDir);

impl Disk {
    fn new() -> Disk {
        Disk(tempfile::tempdir().unwrap())
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("node")
    }
}

impl Place for Disk {
    fn try_open(&self) -> Result<(Store, Recovered), OpenError> {
        open(StoreOptions::new(self.directory(), founding()))
    }

    /// Checks that sled put nothing into files that it never syncs.
    fn check(&self) {
        let blobs: Vec<_> = std::fs::read_dir(self.directory().join("store/blobs")).unwrap().collect();
        assert!(blobs.is_empty(), "sled keeps {blobs:?} outside its file");
    }
}

#[test]
fn sled_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_contract(&SledEngine::open(folder.path(), 1 << 20).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever is written, overwritten, truncated, compacted, bound and reopened: the store holds what a
    /// plain map would, and `blobs/` stays empty.
    #[test]
    fn sled_behaves_as_the_model(script in prop::collection::vec(step(), 1..40)) {
        run(&Disk::new(), &script);
    }
}

/// A failed fdatasync is fatal, and nothing is retried.
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

/// Compaction during writes keeps the file bounded, although deletion alone never shrinks it.
#[test]
fn compaction_under_writes_bounds_the_disk() {
    let place = Disk::new();
    let (mut store, _) = place.open();
    let file = place.directory().join("store/db");
    let batch = 40;
    let mut sizes = vec![];
    for round in 1..=60 {
        let first = (round - 1) * batch + 1;
        let entries: Vec<_> = (first..first + batch).map(|index| entry(index, round, 4000)).collect();
        write(&mut store, &entries, Some(state(round, first + batch - 1))).unwrap();
        while store.compact((first - 1).saturating_sub(batch), 0).unwrap() {}
        sizes.push(std::fs::metadata(&file).unwrap().len());
        place.check();
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
    let place = Disk::new();
    let (store, first) = place.open();
    let error = place.try_open().err().expect("locked");
    assert!(matches!(error, OpenError::Locked { .. }) && error.exit_code() == 2, "{error}");
    drop(store);
    let (_store, second) = place.open();
    assert_eq!((first.start, second.start), (1, 2));
    assert_eq!(first.directory, second.directory);
    let mut folders = vec![place.directory()];
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.is_dir() {
                folders.push(file);
            } else {
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            }
        }
    }
}

/// A store that was lost, or that ends before what was known to be durable, is refused.
#[test]
fn what_the_tail_file_knows_must_be_there() {
    let place = Disk::new();
    let node = place.directory();
    let (mut store, _) = place.open();
    write(&mut store, &[entry(1, 1, 10)], None).unwrap();
    store.close().unwrap();
    let old = place.0.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for file in ["db", "conf"] {
        std::fs::copy(node.join("store").join(file), old.join(file)).unwrap();
    }
    let (mut store, _) = place.open();
    write(&mut store, &[entry(2, 1, 10)], None).unwrap();
    store.housekeep(1000).unwrap();
    drop(store);
    // The earlier database, as a bad disk or a careless restore leaves it.
    std::fs::remove_dir_all(node.join("store")).unwrap();
    std::fs::rename(&old, node.join("store")).unwrap();
    let error = place.try_open().err().expect("refused").to_string();
    assert!(error.contains("record 2 of start 2 was durable"), "{error}");
    std::fs::remove_dir_all(node.join("store")).unwrap();
    let error = place.try_open().err().expect("refused").to_string();
    assert!(error.contains("was durable"), "{error}");
    std::fs::remove_file(node.join("tail")).unwrap();
    std::fs::remove_dir_all(node.join("store")).unwrap();
    assert_eq!(place.open().1.start, 1, "a wiped directory is founded again, with a different id");
}

/// Format 1 stays as it is (its checkpoints, which no node writes yet, got the log's hash): a fixed list of
/// writes leaves in sled, key by key, what it left when the checksum below was taken. So this version opens a
/// store of that version.
#[test]
fn the_bytes_in_sled_stay() {
    let folder = tempfile::tempdir().unwrap();
    let founding = Founding { cluster: "bytes".into(), ..founding() };
    let mut engine = Arc::new(SledEngine::open(folder.path(), 1 << 20).unwrap());
    for (from, checksum) in [(1, 0xf5214dd2_u32), (200, 0xf6a5_15b7)] {
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
                while store.compact(first - 12, 0).unwrap() {}
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

/// The cost of one durable write on this machine. Run it with `cargo test --release --lib directory:: --
/// --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost_of_a_durable_write() {
    for count in [1u64, 64, 256, 512] {
        let folder = tempfile::tempdir_in(".").unwrap();
        let (mut store, _) = open(StoreOptions::new(folder.path().join("node"), founding())).unwrap();
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
