//! The command lines of both programs: a mistake is exit 1 with plain words, an answer is exit 0.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

/// Wrong arguments of the server.
#[test]
fn simplesvr_refuses() {
    assert_refused(&simplesvr(&[]), "CONFIG");
    assert_refused(&simplesvr(&["a.toml"]), "IP:PORT");
    assert_refused(&simplesvr(&["a.toml", "localhost"]), "such as 127.0.0.1:9001");
    assert_refused(&simplesvr(&["a.toml", "127.0.0.1:99999"]), "such as 127.0.0.1:9001");
    assert_refused(&simplesvr(&["a.toml", "127.0.0.1:9001", "more"]), "more");
    assert_refused(&simplesvr(&["--check"]), "CONFIG");
    assert_refused(&simplesvr(&["--check", "a.toml", "127.0.0.1:9001"]), "--check");
}

/// Wrong arguments of the tool.
#[test]
fn spaxos_refuses() {
    assert_refused(&spaxos(&[]), "Usage");
    assert_refused(&spaxos(&["dance"]), "dance");
    assert_refused(&spaxos(&["serve", "a.toml"]), "IP:PORT");
    assert_refused(&spaxos(&["dump"]), "DIR");
    assert_refused(&spaxos(&["key"]), "FILE");
    assert_refused(&spaxos(&["unbind", "a"]), "NODE");
    assert_refused(&spaxos(&["unbind", "a", "two"]), "two");
    assert_refused(&spaxos(&["demo", "--stale"]), "--stale");
    assert_refused(&spaxos(&["bench", "--nodes", "0"]), "1..=31");
    assert_refused(&spaxos(&["bench", "--secs", "0"]), "0.1");
    assert_refused(&spaxos(&["bench", "--secs", "NaN"]), "0.1");
    assert_refused(&spaxos(&["bench", "--clients", "4", "--connections", "5"]), "at least as many --clients");
    assert_refused(&spaxos(&["bench", "--addr", "127.0.0.1:1", "--kill-leader", "2"]), "--kill-leader");
    assert_refused(&spaxos(&["bench", "--pids", "1"]), "--addr");
    assert_refused(&spaxos(&["bench", "--nodes", "1", "--kill-leader", "2"]), "majority");
    assert_refused(&spaxos(&["bench", "core", "--protocol", "zab"]), "allowed: \"paxos\", \"raft\"");
    assert_refused(&spaxos(&["bench", "core", "--entries", "0"]), "1..");
    assert_refused(&spaxos(&["bench", "core", "--entries", "9", "--secs", "1"]), "--secs");
    assert_refused(&spaxos(&["bench", "--json", "core"]), "core");
}

/// A cluster that is not there is reported.
#[test]
fn bench_says_that_nobody_leads() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_refused(&spaxos(&["bench", "--addr", &closed]), "names a leader");
}

/// A directory that holds something else is not touched, with or without --fresh.
#[test]
fn demo_refuses_a_used_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thesis.tex");
    std::fs::write(&file, "precious").unwrap();
    let dir = dir.path().to_str().unwrap();
    assert_refused(&spaxos(&["demo", "--dir", dir]), "--fresh");
    assert_refused(&spaxos(&["demo", "--fresh", "--dir", dir]), "does not look like a demo's");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

/// Help and version are answers, and the version names commit and formats.
#[test]
fn answers_help_and_version() {
    for output in [spaxos(&["--version"]), simplesvr(&["--version"])] {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success());
        for word in [env!("CARGO_PKG_VERSION"), "commit ", "wire format ", "store format "] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    for output in [spaxos(&["--help"]), simplesvr(&["--help"]), spaxos(&["bench", "--help"])] {
        assert!(output.status.success() && !output.stdout.is_empty());
    }
}

/// A result that cannot be printed is a failure with plain words; a reader that has gone away is none.
#[test]
fn a_result_that_nobody_can_see_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let line = "2026-11-21T07:39:49.123456Z [INFO] chosen index=1 reqid=1 ballot=1.1 from=1 value=\"v\"\n";
    std::fs::write(at("simplesvr.log"), line).unwrap();
    std::fs::write(
        at("node.toml"),
        "cluster = \"a\"\nnode = 1\nprotocol = \"paxos\"\ndata = \"data\"\n\
        [[peers]]\nnode = 1\naddress = \"127.0.0.1:1\"\n",
    )
    .unwrap();
    assert!(spaxos(&["sim", "--seed", "1", "--events", "50", "--trace", &at("trace")]).status.success());
    let spaxos = env!("CARGO_BIN_EXE_spaxos");
    let commands: [(&str, &[&str]); 8] = [
        (spaxos, &["check", &at("simplesvr.log")]),
        (spaxos, &["sim", "--seeds", "0..2", "--events", "50"]),
        (spaxos, &["sim", "--split", "chained", "--seeds", "0..1"]),
        (spaxos, &["trace", &at("trace")]),
        (spaxos, &["trace", "--html", &at("trace")]),
        (spaxos, &["bench", "core", "--entries", "10", "--runs", "1"]),
        (spaxos, &["--help"]),
        (env!("CARGO_BIN_EXE_simplesvr"), &["--check", &at("node.toml")]),
    ];
    for (program, arguments) in commands {
        let run = |out: Stdio| Command::new(program).args(arguments).stdout(out).output().unwrap();
        let full = run(File::options().write(true).open("/dev/full").unwrap().into());
        let words = String::from_utf8_lossy(&full.stderr).into_owned();
        assert!(!full.status.success() && full.status.code().is_some(), "{arguments:?} succeeds");
        assert!(
            arguments == ["--help"] || words.contains("No space left on device"),
            "{arguments:?}: {words}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = run(writer.into());
        let words = String::from_utf8_lossy(&unread.stderr).into_owned();
        assert!(unread.status.success() && !words.contains("Broken pipe"), "{arguments:?}: {words}");
    }
}

#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(words), "{words:?} in {error}");
    assert!(!error.contains("panicked"), "{error}");
}

fn spaxos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spaxos")).args(arguments).output().unwrap()
}

fn simplesvr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simplesvr")).args(arguments).output().unwrap()
}
