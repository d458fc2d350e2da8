//! Runs every input of the fuzzers' corpus, and every one that ever failed, through its target: what
//! `spaxos::fuzzing` asserts holds of all of them. `tools/fuzz.sh` looks for more.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use spaxos::fuzzing::TARGETS;

/// Rule: frames and messages from a peer are read alike in any pieces, and written as they were read.
#[test]
fn peer_streams() {
    run("peer_stream");
}

/// Rule: a decoded message is encoded to the same, in no more bytes.
#[test]
fn peer_messages() {
    run("peer_message");
}

/// Rule: someone between two members with a key makes neither believe what the other did not say.
#[test]
fn handshakes() {
    run("peer_handshake");
}

/// Rule: nothing that peers say makes a core panic or grow without limit.
#[test]
fn messages_for_a_core() {
    run("peer_core");
}

/// Rule: the same for a Raft core.
#[test]
fn messages_for_a_raft_core() {
    run("peer_core_raft");
}

/// Rule: what a client sends is understood and answered alike in any pieces.
#[test]
fn client_streams() {
    run("client");
}

/// Rule: whatever is in a record or an identity is refused, or is what would be written.
#[test]
fn store_records() {
    run("store_record");
}

/// Rule: a damaged store is refused or has all that was durable.
#[test]
fn store_recoveries() {
    run("store_recovery");
}

/// Rule: a configuration is valid, or an error names the place.
#[test]
fn configurations() {
    run("config");
}

/// Rule: chosen lines are read back, cut ones are told from others.
#[test]
fn chosen_lines() {
    run("chosen_line");
}

/// Rule: each target has a program, seeds, and a test here, and survives input that is too short for
/// anything.
#[test]
fn every_target_is_complete() {
    let tests = include_str!("fuzz_corpus.rs");
    for (name, target) in TARGETS {
        assert!(fuzz().join(format!("fuzz_targets/{name}.rs")).is_file(), "{name} has no program");
        assert!(inputs("seeds", name).len() >= 5, "{name} has no seeds");
        assert!(tests.contains(&format!("run({name:?})")), "{name} is not tested here");
        for input in [&[][..], &[0], &[255; 64], &[0; 64]] {
            target(input);
        }
    }
}

fn run(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
    let failed: Vec<_> = ["seeds", "regressions"]
        .iter()
        .flat_map(|kind| inputs(kind, name))
        .filter(|path| {
            let input = fs::read(path).unwrap();
            catch_unwind(|| target(&input)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
}

fn inputs(kind: &str, name: &str) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(fuzz().join(kind).join(name)) else { return vec![] };
    let mut paths: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}
