//! `spaxos sim` from outside: what it prints, what it refuses, and that the same seeds come to the same.

use std::path::Path;
use std::process::{Command, Output};

use spaxos::sim::Plan;
use spaxos::sim::trace::Trace;

/// Two runs of the same seeds print the same, with any number of threads; so does each seed run twice.
#[test]
fn the_same_seeds_print_the_same() {
    let seeds = ["--seeds", "40..46", "--events", "600"];
    let one = passes(&[&seeds[..], &["-j", "1"]].concat());
    for word in [
        "seeds 40..46, 2 to 7 nodes, 600 events each, faults: mixed",
        "elections",
        "hash ",
        "every rule held",
    ] {
        assert!(one.contains(word), "{word:?} in {one}");
    }
    assert_eq!(one, passes(&[&seeds[..], &["-j", "3", "--check-repeat"]].concat()));
    assert_ne!(one, passes(&["--seeds", "41..47", "--events", "600"]));
}

/// A mistake is exit 1, with words that say what to do.
#[test]
fn mistakes_are_refused() {
    let cases: [(&[&str], &str); 18] = [
        (&["--seeds", "5..2"], "no seeds in it: give the first seed and the one after the last"),
        (&["--seeds", "5"], "such as 0..1000"),
        (&["--seeds", "0..9223372036854775809"], "below 2^63"),
        (&["--seed", "1", "--seeds", "0..2"], "cannot be used with"),
        (&["--seed", "1", "--for", "1s"], "cannot be used with"),
        (&["--for", "60"], "such as 60s"),
        (&["--for", "99999999999999999999h"], "such as 60s"),
        (&["--nodes", "0"], "1..=9"),
        (&["--nodes", "10"], "1..=9"),
        (&["--events", "0"], "1..=10000000"),
        (&["--clients", "21"], "1..=20"),
        (&["-j", "0"], "1..=256"),
        (&["--faults", "nonsense=3"], "the fields are bit_flip_every_ms"),
        (&["--faults", "loss_percent=101"], "loss_percent = 101: give a number from 0 to 100"),
        (&["--faults", "delay_min_us=900"], "delay_min_us = 900 is above delay_max_us = 500"),
        (&["--faults", "no/such/file"], "give mixed, none, field=number"),
        (&["--without", "crash.0"], "such as crash.3"),
        (&["--without", "crush.1"], "the classes are partition, crash"),
    ];
    for (arguments, words) in cases {
        refused(arguments, words);
    }
    refused(&["--trace", "out.json"], "add --seed N");
    refused(&["--trace", "out.json", "--seeds", "0..2"], "cannot be used with");
}

/// Faults may come from a file, as the `field = number` lines that the table prints.
#[test]
fn faults_come_from_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faults.toml");
    std::fs::write(&file, "# two of them\nloss_percent = 5\ncrash_every_ms = 200\n").unwrap();
    let by_file = passes(&["--seed", "7", "--events", "500", "--faults", file.to_str().unwrap()]);
    assert!(by_file.contains("faults: crash_every_ms=200,loss_percent=5"), "{by_file}");
    let line = ["--seed", "7", "--events", "500", "--faults", "crash_every_ms=200,loss_percent=5"];
    assert_eq!(by_file, passes(&line));
    std::fs::write(&file, "loss_percent = 5\nnonsense = 3\n").unwrap();
    refused(&["--seed", "7", "--faults", file.to_str().unwrap()], "nonsense");
}

/// The summary says what was run, and fails what reached too little.
#[test]
fn the_summary_wants_everything_reached() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("summary.json");
    let quiet =
        ["--seeds", "0..2", "--events", "600", "--faults", "none", "--summary", file.to_str().unwrap()];
    refused(&quiet, "never reached:");
    let summary = json(&file);
    assert_eq!(summary["seeds"], serde_json::json!([0, 2]));
    assert_eq!((&summary["nodes"], &summary["events_per_seed"]), (&serde_json::Value::Null, &600.into()));
    assert!(summary["steps"].as_u64() >= Some(1200) && summary["wall_s"].as_f64() > Some(0.0), "{summary}");
    assert!(summary["counts"]["elections"].as_u64() >= Some(2), "{summary}");
    assert_eq!(summary["counts"]["torn_records"], 0);
    assert!(summary["never_happened"].as_array().unwrap().contains(&"torn_records".into()), "{summary}");
    assert_eq!(summary["failure"], serde_json::Value::Null);
    for key in ["version", "commit", "hash", "seeds_per_s", "faults"] {
        assert!(!summary[key].is_null(), "{key} in {summary}");
    }
    // Two nodes cannot reach everything.
    passes(&[&quiet[..], &["--nodes", "2"]].concat());
}

/// A trace holds all events of its seed, whose hash is that of the trace.
#[test]
fn a_trace_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace.json");
    passes(&["--seed", "11", "--events", "800", "--trace", file.to_str().unwrap()]);
    let trace = Trace::from_json(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (trace.seed, trace.nodes, trace.skipped, &trace.failure),
        (11, Plan::drawn_nodes(11), 0, &None)
    );
    assert_eq!(trace.hash, format!("{:016x}", trace.hash_events()));
    assert!(trace.election_ms > 0 && trace.faults.contains('='), "{} {}", trace.election_ms, trace.faults);
}

/// A fault that is taken away changes the run; taking away one that never came changes nothing.
#[test]
fn without_takes_away_what_it_names() {
    let seed = ["--seed", "5", "--events", "1500", "--faults", "crash_every_ms=50,partition_every_ms=100"];
    let whole = passes(&seed);
    assert_ne!(whole, passes(&[&seed[..], &["--without", "crash.2"]].concat()));
    assert_eq!(whole, passes(&[&seed[..], &["--without", "crash.9000-9010,wipe.1"]].concat()));
    let calm = passes(&[&seed[..], &["--without", "crash.1-5000,partition.1-5000"]].concat());
    assert!(calm.contains("           0  crashes\n"), "{calm}");
}

/// A file that cannot be written is reported.
#[test]
fn files_that_cannot_be_written_are_named() {
    let few = ["--seed", "1", "--events", "50"];
    refused(&[&few[..], &["--trace", "no/such/dir/out.json"]].concat(), "cannot write no/such/dir/out.json");
    refused(&[&few[..], &["--summary", "no/such/dir/s.json"]].concat(), "cannot write no/such/dir/s.json");
}

#[track_caller]
fn passes(arguments: &[&str]) -> String {
    let output = sim(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], words: &str) {
    let output = sim(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(error.contains(words), "{words:?} in {error}");
    assert!(!error.contains("panicked"), "{error}");
}

fn json(file: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spaxos")).arg("sim").args(arguments).output().unwrap()
}
