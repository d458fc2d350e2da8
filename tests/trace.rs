//! Traces of runs: their JSON, their hash, what is refused, and what `spaxos trace` makes of them.

#[path = "trace/views.rs"]
mod views;

use bytes::Bytes;
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, Range};
use spaxos::consensus::types::{Ballot, Command, Entry, Kind, RequestId};
use spaxos::sim::trace::{self, Failure, MAX_TEXT_CHARS, Recorder, Trace, TraceError, TraceEvent, What};
use spaxos::wire::message::PeerMessage;

const BALLOT: Ballot = Ballot { round: 3, node: 1 };

/// One event of each kind.
fn each_kind() -> Vec<What> {
    let request = RequestId { session: 0xab, number: u64::MAX };
    let hello = || "7=\"hello\"".to_string();
    vec![
        What::Started { start: 1 },
        What::Role { role: "leader".into(), ballot: BALLOT },
        What::Noted { text: "leading with ballot 3.1".into() },
        What::Proposed { client: 4, request: RequestId::user(7), text: hello() },
        What::Sent {
            id: 1,
            to: 2,
            name: "Accept".into(),
            early: true,
            digest: u64::MAX,
            text: "Accept 3.1 chosen=0 [1@3.1:7=\"hello\"]".into(),
        },
        What::Sent { id: 2, to: 3, name: "Accept".into(), early: true, digest: 5, text: String::new() },
        What::Queued { entries: 1, messages: 2 },
        What::Writing { write: 1, works: 1, entries: 1, text: "[1@3.1:7=\"hello\"]".into() },
        What::Dropped { id: 2, why: "lost".into() },
        What::Duplicated { id: 1 },
        What::Durable { write: 1, promised: BALLOT, chosen: 0, entries: 1 },
        What::Received { id: 1, from: 2, name: "Accept".into() },
        What::WriteFailed { write: 2, flush: false, text: "no room".into() },
        What::WriteFailed { write: 3, flush: true, text: "input/output error".into() },
        What::Suspended,
        What::Rebuilt { generation: 1 },
        What::Paused,
        What::Resumed,
        What::Crashed { why: "power cut".into() },
        What::Fault { fault: 1, text: "node 1 is cut off".into() },
        What::Healed { fault: 1, text: "node 1 is back".into() },
        What::Chosen { index: 1 },
        What::Delivered { index: 1, request, text: "</script><!-- 7=\"hello\"".into() },
        What::Answered { client: 4, request, index: Some(1), text: "1".into() },
        What::Answered { client: 4, request: RequestId::user(8), index: None, text: "-TIMEOUT".into() },
        What::Violation { invariant: "agreement".into(), text: "index 1: a, then b".into() },
    ]
}

fn run(keep: usize) -> Recorder {
    let mut recorder = Recorder::new(keep);
    for (place, what) in (0..).zip(each_kind()) {
        recorder.record(1000 * place, place / 2, place % 3 + 1, what);
    }
    recorder
}

fn complete(recorder: Recorder) -> Trace {
    let head = recorder.into_trace();
    Trace { version: "0".into(), seed: u64::MAX, nodes: 3, election_ms: 100, faults: "none".into(), ..head }
}

/// What is written is read, every kind of event.
#[test]
fn json_keeps_everything() {
    let trace = complete(run(100));
    let mut json = Vec::new();
    trace.write_json(&mut json).unwrap();
    assert_eq!(Trace::from_json(&json).unwrap(), trace);
    assert_eq!(
        json.iter().filter(|byte| **byte == b'\n').count(),
        trace.events.len() + 2,
        "one event a line"
    );
    let failure = Failure { invariant: "agreement".into(), text: "index 1: a, then b".into() };
    assert_eq!(trace.failure, Some(failure));
    let empty = complete(Recorder::new(10));
    let mut json = Vec::new();
    empty.write_json(&mut json).unwrap();
    assert_eq!(Trace::from_json(&json).unwrap(), empty);
}

/// The hash is the same on every machine, forever: a change here makes all known hashes worthless.
#[test]
fn the_hash_stays() {
    assert_eq!(format!("{:016x}", Recorder::new(0).hash()), "d1fba762150c532c");
    assert_eq!(format!("{:016x}", run(0).hash()), "8914c55ebf49e9e9");
}

/// Texts are not hashed, it makes no difference what else is kept, and a file's events give the run's hash.
#[test]
fn the_hash_does_not_depend_on_who_records() {
    let hash = run(0).hash();
    assert_eq!(run(5).hash(), hash);
    let trace = complete(run(100));
    assert_eq!((trace.hash_events(), trace.hash.clone()), (hash, format!("{hash:016x}")));
}

/// Each number and name of each event counts.
#[test]
fn the_hash_sees_every_difference() {
    let mut hashes = std::collections::BTreeSet::new();
    let add = |at_us, step, node, what: &What| {
        let mut recorder = Recorder::new(0);
        recorder.record(at_us, step, node, what.clone());
        recorder.hash()
    };
    for what in each_kind() {
        for (at_us, step, node) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            assert!(hashes.insert(add(at_us, step, node, &what)), "{what}");
        }
    }
    let role =
        |role: &'static str, round, node| What::Role { role: role.into(), ballot: Ballot { round, node } };
    for what in [role("leader", 1, 1), role("follower", 1, 1), role("leader", 2, 1), role("leader", 1, 2)] {
        assert!(hashes.insert(add(0, 0, 0, &what)), "{what}");
    }
}

/// A message's digest is the same on every machine, and sees every field of every kind.
#[test]
fn digests_of_messages() {
    let command = |number, payload: &'static str| Command {
        request: RequestId::user(number),
        from: 1,
        kind: Kind::Value,
        payload: Bytes::from(payload),
    };
    let entry = |index, payload| Entry { index, ballot: BALLOT, command: command(7, payload) };
    let accept = |entries| PaxosBody::Accept { ballot: BALLOT, chosen: 1, entries };
    let bodies: Vec<Body> = vec![
        PaxosBody::PreVote { ballot: BALLOT }.into(),
        ClusterBody::TimeoutNow { ballot: BALLOT }.into(),
        PaxosBody::Prepare { ballot: BALLOT, first: 1 }.into(),
        PaxosBody::Prepare { ballot: BALLOT, first: 2 }.into(),
        ClusterBody::Refuse { ballot: BALLOT, promised: BALLOT }.into(),
        ClusterBody::CatchUp { first: 1 }.into(),
        accept(vec![]).into(),
        accept(vec![entry(2, "hello")]).into(),
        accept(vec![entry(2, "hellp")]).into(),
        accept(vec![entry(2, "a longer value")]).into(),
        accept(vec![entry(2, "hello"), entry(3, "")]).into(),
        ClusterBody::Learn { chosen: 1, entries: vec![entry(2, "hello")] }.into(),
        PaxosBody::Accepted { ballot: BALLOT, chosen: 1, ranges: vec![Range { first: 1, last: 2 }] }.into(),
        ClusterBody::Heartbeat { ballot: BALLOT, chosen: 1, sent_ms: 5 }.into(),
        ClusterBody::HeartbeatReply { ballot: BALLOT, chosen: 1, sent_ms: 5 }.into(),
        ClusterBody::Forward { commands: vec![command(7, "hello")] }.into(),
        ClusterBody::Forward { commands: vec![command(8, "hello")] }.into(),
    ];
    let mut all = std::collections::BTreeSet::new();
    let to = |to, body: &Body| PeerMessage::Core(Message { from: 1, to, body: body.clone() });
    for body in &bodies {
        let message = to(2, body);
        assert!(body.to_string().starts_with(trace::name(&message)), "{body}");
        assert!(all.insert(trace::digest(&message)), "{message}");
        assert!(all.insert(trace::digest(&to(3, body))), "{body} to 3");
    }
    assert_eq!(format!("{:016x}", trace::digest(&to(2, &bodies[7]))), "66a17fda7f5d93ca");
}

/// Only the last events are kept, and texts are short, or not built at all.
#[test]
fn a_recorder_is_bounded() {
    let trace = run(5).into_trace();
    assert_eq!((trace.events.len(), trace.skipped), (5, each_kind().len() as u64 - 5));
    assert_eq!(Recorder::new(0).text(|| unreachable!("nobody reads it")), "");
    let long = Recorder::new(1).text(|| "ä".repeat(MAX_TEXT_CHARS + 5));
    assert_eq!(long.chars().count(), MAX_TEXT_CHARS + 1);
}

/// The words of the steps that a person reads.
#[test]
fn events_in_words() {
    let words: Vec<String> = run(100).events().map(TraceEvent::to_string).collect();
    assert_eq!(words[0], "     0.000 ms  node 1: starts from its disk, start 1");
    assert_eq!(
        words[4],
        "     4.000 ms  node 2: sends #1 to node 2 before its write: Accept 3.1 chosen=0 [1@3.1:7=\"hello\"]"
    );
    assert_eq!(words[5], "     5.000 ms  node 3: sends #2 to node 3 before its write: Accept");
    assert!(words.iter().all(|line| !line.contains('\n')));
}

/// A file that is not a trace is refused, with what is wrong and where.
#[test]
fn bad_files() {
    let good = |change: &dyn Fn(&mut Trace)| {
        let mut trace = complete(run(100));
        change(&mut trace);
        let mut json = Vec::new();
        trace.write_json(&mut json).unwrap();
        String::from_utf8(json).unwrap()
    };
    let refused = |json: &str| Trace::from_json(json.as_bytes()).unwrap_err().to_string();
    let format = refused(&good(&|trace| trace.format = 9));
    assert!(format.contains("format 9") && format.contains("format 1"), "{format}");
    let words = |change: &dyn Fn(&mut Trace)| refused(&good(change));
    for (wrong, said) in [
        (String::new(), "line 1 column 0"),
        ("{}".into(), "missing field `format`"),
        (r#"{"format":1}"#.into(), "missing field `version`"),
        ("[1".into(), "line 1 column"),
        (good(&|_| ()).replace("\"sent\"", "\"snet\""), "unknown variant `snet`"),
        (good(&|_| ()).replace("\"3.1\"", "\"3\""), "\"3\" is not a ballot"),
        (good(&|_| ()).replace("\"ab:", "\"xy:"), "is not a request id"),
        ("[".repeat(100_000), "line 1 column"),
    ] {
        let words = refused(&wrong);
        assert!(words.contains(said), "{said}: {words}");
    }
    assert!(words(&|trace| trace.nodes = 0).contains("0 nodes"));
    assert!(words(&|trace| trace.nodes = 1 << 40).contains("1 to 64"));
    assert!(words(&|trace| trace.nodes = 2).contains("names node 3 of 2"));
    assert!(words(&|trace| trace.events[0].at_us = 9999).contains("event 2 is at 1000 us"));
    assert!(words(&|trace| trace.events[4].node = 0).contains("node 0"));
    assert!(matches!(Trace::from_json(b"null"), Err(TraceError::Json(_))));
}
