//! What `spaxos trace` makes of a trace: Mermaid, the page, words.

use spaxos::cli::trace::mermaid;
use spaxos::consensus::types::RequestId;
use spaxos::sim::trace::{Recorder, Trace, What};

use super::{BALLOT, complete, run};

const SMALL: &str = r#"sequenceDiagram
    participant C as clients
    participant N1 as node 1
    participant N2 as node 2
    participant N3 as node 3
    %% 0.500 ms
    Note right of N1: leader, ballot 3.1
    %% 1.000 ms
    C->>+N1: client 4: 7="a#59;b"
    N1-xN3: Accept 3.1 [1] (lost)
    %% 1.400 ms
    N1->>N2: Accept 3.1 [1]
    %% 2.000 ms
    Note right of N2: durable: 1@3.1:7="a#59;b"
    %% 2.100 ms
    N1->>N2: Accept 3.1 [1] (again)
    %% 2.500 ms
    N2-->>N1: Accepted 3.1 [1]
    Note right of N1: delivers 1: 7="a#59;b"
    N1-->>-C: client 4: request 7, index 1
    Note right of N3: ends: power cut
    Note over N1,N3: fault 1 begins: node 2 is cut off
    Note right of N2: agreement DOES NOT HOLD: 1: a, then b
"#;

/// The page draws each kind of message in the colour of what it is about.
#[test]
fn each_kind_of_message_has_a_colour() {
    let sources = [
        include_str!("../../src/sim/trace/hash/cluster.rs"),
        include_str!("../../src/sim/trace/hash/paxos.rs"),
        include_str!("../../src/sim/trace/hash/raft.rs"),
    ];
    let names = sources.iter().flat_map(|source| source.lines()).filter_map(|line| {
        let (_, name) = line.trim().split_once("Body::")?.1.split_once(" { .. } => \"")?;
        name.strip_suffix("\",")
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() >= 23, "{names:?}");
    let model = include_str!("../../src/cli/trace/model.js");
    let missing: Vec<_> = names.iter().filter(|name| !model.contains(&format!(" {name}: \""))).collect();
    assert!(missing.is_empty(), "{missing:?} have none in FAMILY of model.js");
}

/// The sequence diagram of a small run: one of each kind of arrow, what is known from arrows left out.
#[test]
fn mermaid_of_a_small_run() {
    let trace = small();
    let diagram = mermaid::diagram(&trace, &(0..=u64::MAX)).unwrap();
    assert_eq!(diagram, SMALL, "{diagram}");
}

/// A part of it; texts of messages that were sent before are known.
#[test]
fn mermaid_of_a_part() {
    let trace = small();
    let diagram = mermaid::diagram(&trace, &(4..=4)).unwrap();
    let arrows: Vec<&str> = diagram.lines().filter(|line| line.contains("->>")).collect();
    assert_eq!(arrows, ["    N1->>N2: Accept 3.1 [1]"]);
    let nothing = mermaid::diagram(&trace, &(100..=200)).unwrap_err().to_string();
    assert!(nothing.contains("steps 1 to 7"), "{nothing}");
}

/// Nobody reads a diagram of thousands of arrows: the error says how to get a part.
#[test]
fn mermaid_is_bounded() {
    let mut recorder = Recorder::new(10_000);
    for step in 1..=mermaid::MAX_ARROWS as u64 + 1 {
        recorder.record(step, step, 1, What::Received { id: step, from: 2, name: "Accept".into() });
    }
    let trace = complete(recorder);
    let error = mermaid::diagram(&trace, &(0..=u64::MAX)).unwrap_err().to_string();
    assert!(error.contains("501 arrows") && error.contains("steps 1 to 501"), "{error}");
    assert!(mermaid::diagram(&trace, &(2..=u64::MAX)).is_ok());
}

/// No text of a trace means anything to Mermaid: neither ends a line nor is an entity, a style or a
/// directive.
#[test]
fn mermaid_escapes_texts() {
    for (text, escaped) in [
        ("a;b #1 <b> 100%\n\\n", "a#59;b #35;1 #60;b#62; 100#37; #92;n"),
        ("%%{init: {}}%%", "#37;#37;{init: {}}#37;#37;"),
        ("style x:#y;", "style x#58;#35;y#59;"),
        ("&lt;", "#38;lt#59;"),
    ] {
        let mut recorder = Recorder::new(10);
        recorder.record(0, 0, 1, What::Noted { text: text.into() });
        let diagram = mermaid::diagram(&complete(recorder), &(0..=0)).unwrap();
        assert_eq!(diagram.lines().last().unwrap(), format!("    Note right of N1: {escaped}"));
    }
}

/// The page needs no network, and no text of a trace ends its script.
#[test]
fn the_page_is_self_contained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut trace = complete(run(100));
    trace.faults = "</script><script>alert(1)</script>".into();
    trace.write_json(&mut std::fs::File::create(&file).unwrap()).unwrap();
    assert_eq!(spaxos(&["--html", file.to_str().unwrap()]).0, Some(0));
    let page = std::fs::read_to_string(folder.path().join("run.html")).unwrap();
    assert_eq!(page.matches("</script>").count(), 2, "the trace's and the viewer's");
    assert_eq!(page.matches("<script").count(), 2);
    for foreign in ["http:", "https:", "src=", "url(", "@import", "{{"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let (_, rest) = page.split_once(r#"<script type="application/json" id="trace">"#).unwrap();
    let data: serde_json::Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data["faults"], trace.faults);
    assert_eq!(data["seed"], u64::MAX.to_string(), "as text: JavaScript would round it");
    assert_eq!(data["events"].as_array().unwrap().len(), trace.events.len());
    assert_eq!(data["events"][0]["words"], "starts from its disk, start 1");
}

/// Without a picture the events come in words; a bad file and contradicting arguments are refused with 1.
#[test]
fn the_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let path = file.to_str().unwrap();
    small().write_json(&mut std::fs::File::create(&file).unwrap()).unwrap();
    let (code, out, _) = spaxos(&[path, "--from", "4", "--to", "4"]);
    assert_eq!(code, Some(0));
    assert_eq!(out.lines().count(), 2 + 3 + 1, "two of the run, three events, the failure: {out}");
    assert!(out.contains("node 2: receives #1 from node 1: Accept"), "{out}");
    assert_eq!(spaxos(&[path, "--mermaid"]).1, SMALL);
    let (code, _, said) = spaxos(&[path, "--mermaid", "--html"]);
    assert!(code == Some(1) && said.contains("--html"), "{said}");
    std::fs::write(&file, "{\"format\":9}").unwrap();
    let (code, _, said) = spaxos(&[path]);
    assert!(code == Some(1) && said.contains(path) && said.contains("format 9"), "{said}");
    let (code, _, said) = spaxos(&["no/such/file"]);
    assert!(code == Some(1) && said.contains("no/such/file"), "{said}");
}

/// Exit code, stdout and stderr of `spaxos trace`.
fn spaxos(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spaxos"));
    let output = command.arg("trace").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A value is proposed, one message is lost, one comes twice, and an invariant breaks.
fn small() -> Trace {
    let accept = |id, to| What::Sent {
        id,
        to,
        name: "Accept".into(),
        early: true,
        digest: 0,
        text: "Accept 3.1 [1]".into(),
    };
    let request = RequestId::user(7);
    let durable = What::Durable { write: 1, promised: BALLOT, chosen: 0, entries: 1 };
    let accepted = What::Sent {
        id: 3,
        to: 1,
        name: "Accepted".into(),
        early: false,
        digest: 0,
        text: "Accepted 3.1 [1]".into(),
    };
    let mut recorder = Recorder::new(100);
    for (at_us, step, node, what) in [
        (0, 1, 1, What::Started { start: 1 }),
        (500, 2, 1, What::Role { role: "leader".into(), ballot: BALLOT }),
        (1000, 3, 1, What::Proposed { client: 4, request, text: "7=\"a;b\"".into() }),
        (1000, 3, 1, accept(1, 2)),
        (1000, 3, 1, accept(2, 3)),
        (1000, 3, 1, What::Dropped { id: 2, why: "lost".into() }),
        (1000, 3, 1, What::Duplicated { id: 1 }),
        (1400, 4, 2, What::Received { id: 1, from: 1, name: "Accept".into() }),
        (1400, 4, 2, What::Queued { entries: 1, messages: 1 }),
        (1400, 4, 2, What::Writing { write: 1, works: 1, entries: 1, text: "1@3.1:7=\"a;b\"".into() }),
        (2000, 5, 2, durable),
        (2000, 5, 2, accepted),
        (2100, 6, 2, What::Received { id: 1, from: 1, name: "Accept".into() }),
        (2500, 7, 1, What::Received { id: 3, from: 2, name: "Accepted".into() }),
        (2500, 7, 1, What::Chosen { index: 1 }),
        (2500, 7, 1, What::Delivered { index: 1, request, text: "7=\"a;b\"".into() }),
        (2500, 7, 1, What::Answered { client: 4, request, index: Some(1), text: String::new() }),
        (2500, 7, 3, What::Crashed { why: "power cut".into() }),
        (2500, 7, 0, What::Fault { fault: 1, text: "node 2 is cut off".into() }),
        (2500, 7, 2, What::Violation { invariant: "agreement".into(), text: "1: a, then b".into() }),
    ] {
        recorder.record(at_us, step, node, what);
    }
    complete(recorder)
}
