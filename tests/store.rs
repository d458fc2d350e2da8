//! The store as a process sees it: killed, on a full disk, on a failing disk, on damaged files; and `dump`.
//!
//! Tests that need a process of their own start this binary again with one of the tests named `child_…`,
//! which do nothing unless told a directory by the variable [`CHILD`].

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spaxos::cli::dump;
use spaxos::consensus::types::{Ballot, Command, Entry, HardState, Index};
use spaxos::directory::{self, StoreOptions, exit_code_of_panic};
use spaxos::store::{Binding, Change, Founding, OpenError, Recovered, Store, Write, WriteError};

const CHILD: &str = "SPAXOS_TEST_STORE";

fn open(path: &Path) -> Result<(Store, Recovered), OpenError> {
    let members = (1..=3).map(|node| (node, format!("127.0.0.1:1000{node}"))).collect();
    let (cluster, protocol) = ("test".into(), "paxos".into());
    let founding = Founding { cluster, node: 1, protocol, members, delivery_window: 1 << 20 };
    let mut options = StoreOptions::new(path, founding);
    options.free_low_bytes = 0;
    directory::open(options)
}

/// The entries that write number `round` makes, from `first` on: many and large ones now and then.
fn entries_of(round: u64, first: Index) -> Vec<Entry> {
    let (count, size) = match round % 7 {
        0 => (100, 300),
        3 => (3, 20_000),
        _ => (1, 120),
    };
    let payload = vec![round as u8; size];
    (first..first + count)
        .map(|index| Entry {
            index,
            ballot: Ballot { round, node: 1 },
            command: Command::value(index, 1, payload.clone()),
        })
        .collect()
}

fn write_round(store: &mut Store, round: u64, first: Index) -> Result<Index, WriteError> {
    let entries = entries_of(round, first);
    let last = entries[entries.len() - 1].index;
    let hard_state = HardState { promised: Ballot { round, node: 1 }, chosen: 0 };
    let changes = [Change::Entries(&entries)];
    store.write(&Write { changes: &changes, hard_state: Some(hard_state), bindings: &[] })?;
    Ok(last)
}

/// Checks that the log is made of whole writes.
fn check_whole(recovered: &Recovered) {
    let mut next = 1;
    let mut round = 1;
    while next <= recovered.last {
        let expected = entries_of(round, next);
        let at = (next - 1) as usize;
        let found = recovered.entries.get(at..at + expected.len());
        assert!(found == Some(&expected[..]), "write {round} is not there as a whole");
        next += expected.len() as u64;
        round += 1;
    }
    assert_eq!(recovered.entries.len() as u64, recovered.last);
    assert_eq!(recovered.hard_state.promised.round, round - 1);
    assert_eq!(recovered.max_round, round - 1);
}

fn assert_no_blobs(directory: &Path) {
    let blobs: Vec<_> = fs::read_dir(directory.join("store/blobs")).unwrap().collect();
    assert!(blobs.is_empty(), "sled keeps {blobs:?} outside of its file");
}

/// This binary, to run one of the `child_…` tests on a directory.
fn child(program: Option<&[&str]>, test: &str, directory: &Path) -> Process {
    let this = std::env::current_exe().unwrap();
    let mut process = match program {
        Some([program, arguments @ ..]) => {
            let mut process = Process::new(program);
            process.args(arguments).arg(this);
            process
        }
        _ => Process::new(this),
    };
    process.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, directory);
    process
}

fn told_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

// ---- kill -9 ----

/// Appends forever and prints each write that is durable.
#[test]
fn child_appends() {
    let Some(directory) = told_directory() else { return };
    let (mut store, recovered) = open(&directory).unwrap();
    let (mut last, mut round) = (recovered.last, recovered.max_round);
    for turn in 0.. {
        round += 1;
        last = write_round(&mut store, round, last + 1).unwrap();
        println!("\ndurable {last} {round}");
        // A clock that runs fast, so that the file `tail` is written often.
        store.housekeep(turn * 500).unwrap();
    }
}

/// A process killed at random moments, some of them while it opens, loses nothing that it acknowledged, keeps
/// writes whole, and always opens.
#[test]
fn nothing_durable_is_lost_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let mut acknowledged = 0;
    let mut kill = 0;
    // On a slow machine, this goes on until one of them lived long enough to write.
    while kill < 30 || acknowledged == 0 {
        kill += 1;
        let mut process = child(None, "child_appends", &directory).stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random(60_000 + 2_000 * kill)));
        process.kill().unwrap();
        process.wait().unwrap();
        let mut output = String::new();
        process.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let durable = whole.lines().filter_map(|line| line.strip_prefix("durable ")).next_back();
        if let Some(line) = durable {
            acknowledged = line.split(' ').next().unwrap().parse().unwrap();
        }
        let (_store, recovered) =
            open(&directory).unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
        assert!(
            recovered.last >= acknowledged,
            "{} is left of {acknowledged} after kill {kill}",
            recovered.last
        );
        check_whole(&recovered);
        assert_no_blobs(&directory);
    }
}

/// What a kill during sled's opening leaves behind does not keep it from opening.
#[test]
fn an_unfinished_snapshot_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let (mut store, _) = open(&directory).unwrap();
    write_round(&mut store, 1, 1).unwrap();
    store.close().unwrap();
    for content in [&b""[..], &[7; 100]] {
        let left = directory.join("store/snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&left, content).unwrap();
        let (_, recovered) = open(&directory).unwrap();
        assert_eq!(recovered.last, 1);
        assert!(!left.exists());
    }
}

// ---- a full disk ----

/// Writes until a file-size limit stops it, and goes on after the limit is lifted.
#[test]
fn child_fills_its_disk() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(directory) = told_directory() else { return };
    // As the programs do: the limit is an error of the write.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).unwrap();
    let (mut store, _) = open(&directory).unwrap();
    let mut last = 0;
    let mut round = 0;
    // At sizes that end within a segment of sled's, at its end, and a byte away from it.
    for limit in [1 << 20, (1 << 20) + 70_001, (2 << 20) - 1, (2 << 20) + 1] {
        setrlimit(Resource::Fsize, Rlimit { current: Some(limit), ..getrlimit(Resource::Fsize) }).unwrap();
        let error = loop {
            match write_round(&mut store, round + 1, last + 1) {
                Ok(durable) => (round, last) = (round + 1, durable),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, WriteError::Passing(_)), "{error}");
        assert_eq!(store.reader().last(), last);
        // Still full: a rebuild, or a probe after it, fails in passing as well.
        match store.rebuild() {
            Ok(_) => {
                if let Err(error) = store.probe() {
                    assert!(matches!(error, WriteError::Passing(_)), "{error}");
                }
            }
            Err(error) => assert!(error.may_pass(), "{error}"),
        }
        setrlimit(Resource::Fsize, Rlimit { current: None, ..getrlimit(Resource::Fsize) }).unwrap();
        let recovered = store.rebuild().unwrap();
        assert!(recovered.last >= last, "{} is left of {last}", recovered.last);
        check_whole(&recovered);
        (last, round) = (recovered.last, recovered.max_round);
        store.probe().unwrap();
        for _ in 0..3 {
            (round, last) = (round + 1, write_round(&mut store, round + 1, last + 1).unwrap());
        }
        assert_no_blobs(&directory);
    }
    store.close().unwrap();
    println!("\nfilled {last}");
}

/// A file that may not grow is a failed write, not the end of the process, and work goes on once it may.
#[test]
fn a_full_disk_passes() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let output = child(None, "child_fills_its_disk", &directory).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
    let last = words.lines().find_map(|line| line.strip_prefix("filled ")).expect("it says how far it came");
    let (_, recovered) = open(&directory).unwrap();
    assert_eq!(recovered.last.to_string(), last);
    check_whole(&recovered);
}

// ---- a failing disk ----

/// Writes some, rebuilds when told to, and prints how it ended.
#[test]
fn child_meets_a_failing_disk() {
    let Some(directory) = told_directory() else { return };
    let mut store = match open(&directory) {
        Ok((store, _)) => store,
        Err(error) => return println!("\nfatal immediately: {error}"),
    };
    let (mut last, mut round, mut passed) = (0, 0, 0);
    while round < 150 {
        match write_round(&mut store, round + 1, last + 1) {
            Ok(durable) => {
                (round, last) = (round + 1, durable);
                println!("\ndurable {last}");
            }
            Err(WriteError::Passing(_)) => {
                passed += 1;
                let recovered = loop {
                    match store.rebuild() {
                        Ok(recovered) => break recovered,
                        Err(error) => assert!(error.may_pass(), "{error}"),
                    }
                };
                assert!(recovered.last >= last);
                (last, round) = (recovered.last, recovered.max_round);
            }
            Err(WriteError::Fatal(why)) => {
                println!("\nfatal {why}");
                return;
            }
        }
    }
    println!("\nended after {passed} passing errors");
}

/// Errors of the system calls that sled and the store make: those of a sync are the end; ENOSPC of a write
/// passes. Needs strace, and says so where it is missing.
#[test]
fn errors_of_the_disk_end_the_node_or_pass() {
    let strace = Process::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !strace.is_ok_and(|status| status.success()) {
        eprintln!("not tested: strace is not installed, or may not trace");
        return;
    }
    // Counted in each thread: sled writes on eight of its own, the child's syncs are all on one.
    let cases = [
        ("fdatasync:error=EIO:when=20", true),
        ("fdatasync:error=ENOSPC:when=20", true),
        ("sync_file_range:error=EIO:when=3", true),
        ("pwrite64:error=EIO:when=12", true),
        ("pwrite64:error=ENOSPC:when=12", false),
        ("pwrite64:error=EDQUOT:when=12", false),
    ];
    for (fault, is_fatal) in cases {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("node");
        let inject = format!("inject={fault}");
        let strace =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,sync_file_range,pwrite64"];
        let strace = [&strace[..], &["-e", &inject]].concat();
        let output = child(Some(&strace), "child_meets_a_failing_disk", &directory).output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{fault}: {words}{}", String::from_utf8_lossy(&output.stderr));
        let passing = words.contains("\nended after") && !words.contains("\nended after 0");
        assert_eq!(words.contains("\nfatal "), is_fatal, "{fault}: {words}");
        assert_eq!(passing, !is_fatal, "{fault}: {words}");
        let durable = words.lines().filter_map(|line| line.strip_prefix("durable ")).next_back();
        let durable = durable.map_or(0, |last| last.parse().unwrap());
        let (_, recovered) = open(&directory).unwrap();
        assert!(recovered.last >= durable, "{} is left of {durable}: {fault}", recovered.last);
        check_whole(&recovered);
    }
}

// ---- damaged files ----

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|file| file.unwrap()) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_tree(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

/// A stopped store with a history, and what it holds at the next start.
fn stopped_store(directory: &Path, restarts: usize) -> Recovered {
    let (mut last, mut round) = (0, 0);
    for _ in 0..=restarts {
        let (mut store, _) = open(directory).unwrap();
        for _ in 0..20 {
            (round, last) = (round + 1, write_round(&mut store, round + 1, last + 1).unwrap());
        }
        store.close().unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    copy_tree(directory, copy.path());
    let (_, recovered) = open(copy.path()).unwrap();
    check_whole(&recovered);
    recovered
}

/// Opens a store as a node does, with a hook for panics, and prints what it holds.
#[test]
fn child_opens() {
    let Some(directory) = told_directory() else { return };
    std::panic::set_hook(Box::new(|panic| {
        if let Some(code) = exit_code_of_panic() {
            eprintln!("{panic}");
            std::process::exit(code.into());
        }
    }));
    match open(&directory) {
        Ok((_store, recovered)) => println!("\nholds {}", digest(&recovered)),
        Err(error) => println!("\nrefused with {}: {error}", error.exit_code()),
    }
}

fn digest(recovered: &Recovered) -> u32 {
    crc32c::crc32c(format!("{recovered:?}").as_bytes())
}

/// Damages a copy of the store, opens it in a process of its own (sled's threads may panic), and returns
/// whether it was refused; what is not refused is whole.
fn refused(directory: &Path, expected: &Recovered, damage: impl FnOnce(&Path)) -> bool {
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("node");
    copy_tree(directory, &copy);
    damage(&copy);
    let output = child(None, "child_opens", &copy).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    match words.lines().find_map(|line| line.strip_prefix("holds ")) {
        Some(held) => {
            assert_eq!(held, digest(expected).to_string(), "opened without an error, and lost something");
            false
        }
        None => {
            let is_refused = words.contains("\nrefused with 2: ") || output.status.code() == Some(3);
            assert!(is_refused, "{words}{}{}", output.status, String::from_utf8_lossy(&output.stderr));
            true
        }
    }
}

/// A bit flipped anywhere in sled's file, or the file cut short, is refused or does no harm: what opens holds
/// everything.
#[test]
fn damage_to_a_stopped_store_is_refused_or_harmless() {
    for restarts in [0, 2] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("node");
        let expected = stopped_store(&directory, restarts);
        let mut found = 0;
        for _ in 0..40 {
            found += usize::from(refused(&directory, &expected, |copy| {
                let path = copy.join("store/db");
                let mut bytes = fs::read(&path).unwrap();
                let bit = random(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bytes).unwrap();
            }));
        }
        for part in 0..10 {
            found += usize::from(refused(&directory, &expected, |copy| {
                let file = fs::OpenOptions::new().write(true).open(copy.join("store/db")).unwrap();
                file.set_len(file.metadata().unwrap().len() * part / 10).unwrap();
            }));
        }
        assert!(found >= 10, "{found} of 50 damages were found, a cut file at least must be");
    }
}

/// Flipping a bit of the file `tail` costs one slot only.
#[test]
fn a_damaged_tail_slot_does_no_harm_and_two_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let expected = stopped_store(&directory, 0);
    let flip = |copy: &Path, offsets: &[usize]| {
        let path = copy.join("tail");
        let mut bytes = fs::read(&path).unwrap();
        offsets.iter().for_each(|offset| bytes[*offset] ^= 1);
        fs::write(&path, bytes).unwrap();
    };
    assert!(!refused(&directory, &expected, |copy| flip(copy, &[30])));
    assert!(!refused(&directory, &expected, |copy| flip(copy, &[4096 + 30])));
    assert!(refused(&directory, &expected, |copy| flip(copy, &[30, 4096 + 30])));
    assert!(refused(&directory, &expected, |copy| fs::remove_file(copy.join("tail")).unwrap()));
}

// ---- dump ----

fn contents(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.is_dir() {
            contents(&file, into);
        } else {
            let bytes = fs::read(&file).unwrap();
            into.insert(file, bytes);
        }
    }
}

/// `dump` prints what a stopped node holds, leaves every file as it was, and refuses a running one.
#[test]
fn dump_prints_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("node");
    let (mut store, recovered) = open(&directory).unwrap();
    let entries: Vec<_> = [1, 2, 4]
        .map(|index| Entry {
            index,
            ballot: Ballot { round: 3, node: 2 },
            command: Command::value(10 + index, 1, "hello"),
        })
        .into();
    let hard_state = HardState { promised: Ballot { round: 5, node: 3 }, chosen: 2 };
    let write = Write {
        changes: &[Change::Entries(&entries)],
        hard_state: Some(hard_state),
        bindings: &[Binding { node: 2, directory: 0xabc }],
    };
    store.write(&write).unwrap();
    let locked = dump::run(&directory, &mut vec![]).unwrap_err().to_string();
    assert!(locked.contains("in use by another process"), "{locked}");
    store.close().unwrap();

    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    contents(&directory, &mut before);
    let mut out = vec![];
    dump::run(&directory, &mut out).unwrap();
    contents(&directory, &mut after);
    assert!(before == after, "a file changed");
    let expected = format!(
        "cluster=test node=1 protocol=paxos directory={:032x} start=1 format=1 window=1048576\n\
         member 1 127.0.0.1:10001\n\
         member 2 127.0.0.1:10002\n\
         member 3 127.0.0.1:10003\n\
         bound 2 directory=00000000000000000000000000000abc\n\
         promised=5.3 chosen=2 max_round=5 compacted=0 last=4\n\
         1@3.2:11=\"hello\"\n\
         2@3.2:12=\"hello\"\n\
         4@3.2:14=\"hello\"\n",
        recovered.directory
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let absent = dump::run(folder.path(), &mut vec![]).unwrap_err().to_string();
    assert!(absent.contains("is not a data directory"), "{absent}");
}
