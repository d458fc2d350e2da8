//! Strangers at the peer port: what they are told, what they cannot bind, whom they cannot end, and how
//! much they can have logged.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Once;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use spaxos::consensus::types::NodeId;
use spaxos::pipeline::handshake::{Failure, Handshake};
use spaxos::pipeline::inbox::Binding;
use spaxos::wire::hello::{
    Greeting, Hello, Introduction, LOWEST_WIRE_VERSION, Refusal, RefusalCode, WIRE_VERSION,
};
use spaxos::wire::proof::Keys;

use super::harness::*;

/// A `WrongDirectory` refusal of wire version 1, as a node of that version would take it.
const FORGED: [u8; 19] =
    [0x0b, 0, 0, 0, 0x2c, 0x3c, 0x67, 0xe9, 0x0d, 0x73, 0x70, 0x61, 0x78, 0x60, 7, 0x6a, 2, 0x68, 0x69];

fn with_key(nodes: impl IntoIterator<Item = NodeId>) -> Setup {
    Setup { keys: keys(), ..Setup::bound(nodes) }
}

/// Both halves of a data directory's id, as they would be on the wire.
fn assert_says_nothing_of(bytes: &[u8], node: NodeId) {
    let halves = [(directory(node) >> 64) as u64, directory(node) as u64].map(u64::to_le_bytes);
    for secret in [&halves[0][..], &halves[1], b"demo", b"paxos"] {
        let is_there = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!is_there, "{secret:x?} of node {node} is in {bytes:x?}");
    }
}

fn hello(from: NodeId, to: NodeId) -> Hello {
    Hello {
        version: WIRE_VERSION,
        lowest_version: LOWEST_WIRE_VERSION,
        from,
        to,
        nonce: nonce(),
        has_key: false,
        proof: None,
    }
}

/// Nodes with a key work together, and a member's messages arrive.
#[test]
fn members_with_a_key_exchange_messages() {
    let mut pair = Pair::start_with(with_key([]));
    pair.assert_served();
    assert_eq!(pair.one.bound, [Binding { node: 2, directory: directory(2) }]);
    let mut raw = pair.dial_as_three(1);
    raw.send(&heartbeat(3, 1, 4));
    wait_until("it arrives", || pair.one.has_seen(&heartbeat(3, 1, 4)));
    let two = pair.accept_as_three();
    wait_until("the other direction is open", || pair.one.peer(3).connected_out);
    drop(two);
}

/// 6, 7, 15: a node that is not a member of this cluster is told a code, and no value.
#[test]
fn strangers_are_told_a_code() {
    let mut pair = Pair::start();
    let three = || introduction(3, 1);
    pair.assert_refused(Introduction { cluster: "prod".into(), ..three() }, RefusalCode::Cluster, &[]);
    pair.assert_refused(introduction(1, 1), RefusalCode::OwnNode, &[]);
    pair.assert_refused(introduction(77, 1), RefusalCode::UnknownNode, &[]);
    pair.assert_refused(Introduction { protocol: "raft".into(), ..three() }, RefusalCode::Protocol, &[]);
    pair.assert_refused(Introduction { founding: 0xabc, ..three() }, RefusalCode::Founding, &[]);
    for (hello, code) in [
        (Hello { version: 900, lowest_version: 800, ..hello(3, 1) }, RefusalCode::Version),
        (Hello { version: 1, lowest_version: 1, ..hello(3, 0) }, RefusalCode::Version),
        (hello(3, 2), RefusalCode::OtherNode),
        (Hello { has_key: true, ..hello(3, 1) }, RefusalCode::Key),
    ] {
        let mut raw = pair.dial();
        raw.say(Greeting::Hello(hello));
        assert_eq!(raw.greeting(), Some(Greeting::Refusal(Refusal::new(code, ""))));
        raw.assert_closed();
        pair.assert_served();
    }
}

/// 6: a member that proved itself is told both values.
#[test]
fn members_are_told_both_values() {
    let mut pair = Pair::start_with(with_key([1, 2, 3]));
    let three = || introduction(3, 1);
    let raft = Introduction { protocol: "raft".into(), ..three() };
    pair.assert_refused(raft, RefusalCode::Protocol, &["paxos", "raft"]);
    pair.assert_refused(Introduction { founding: 0xabc, ..three() }, RefusalCode::Founding, &["abc", "63"]);
    let wiped = Introduction { directory: 666, ..three() };
    let ends = [format!("{:08x}", directory(3) as u32), "29a".into()];
    pair.assert_refused(wiped, RefusalCode::WrongDirectory, &[&ends[0], &ends[1]]);
}

/// 8: a stranger that takes the id of a connected member is refused, and the member's connection stays.
#[test]
fn an_impostor_does_not_disturb_the_member() {
    let mut pair = Pair::start();
    let impostor = Introduction { directory: 666, ..introduction(2, 1000) };
    pair.assert_refused(impostor, RefusalCode::WrongDirectory, &[]);
    assert!(pair.one.peer(2).connected_in);
    assert!(pair.one.fatals.try_recv().is_err());
}

/// 16: someone who says hello as a member that the others have not met, and leaves, binds nobody.
#[test]
fn a_visitor_binds_nobody() {
    for setup in [Setup::bound([1, 2]), with_key([1, 2])] {
        let mut pair = Pair::start_with(setup);
        for _ in 0..3 {
            let mut raw = pair.dial();
            raw.greet(&mut pair.trust(Introduction { directory: 666, ..introduction(3, 1000) })).unwrap();
        }
        pair.assert_served();
        assert_eq!(pair.one.bound, []);
        let mut member = pair.dial_as_three(1);
        member.send(&heartbeat(3, 1, 1));
        wait_until("the member's message arrives", || pair.one.has_seen(&heartbeat(3, 1, 1)));
        assert_eq!(pair.one.bound, [Binding { node: 3, directory: directory(3) }]);
    }
}

/// 16: what a member said when it opened a connection opens no other one, and neither does a wrong key or
/// none.
#[test]
fn nobody_passes_for_a_member_without_the_key() {
    let mut pair = Pair::start_with(with_key([1, 2]));
    let member = pair.dial_as_three(1);
    let mut replay = pair.dial();
    replay.say(member.said[0].clone());
    assert!(matches!(replay.greeting(), Some(Greeting::Hello(_))));
    replay.say(member.said[1].clone());
    assert_eq!(replay.greeting(), Some(Greeting::Refusal(Refusal::new(RefusalCode::Proof, ""))));
    replay.assert_closed();
    for (keys, code) in [
        (Some(Keys::new(b"a key of somewhere else".to_vec(), None)), RefusalCode::Proof),
        (None, RefusalCode::Key),
    ] {
        pair.keys = keys;
        let mut raw = pair.dial();
        let refusal = match raw.greet(&mut pair.trust(introduction(3, 1))) {
            Err(Failure::Refused { refusal, .. } | Failure::RefusedByPeer { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal.code, code);
        raw.assert_closed();
        pair.assert_served();
    }
    assert_eq!(pair.one.bound, []);
}

/// No directory id and no name is in the bytes that a stranger hears, whether he calls or is called.
#[test]
fn a_stranger_hears_nothing_of_value() {
    let mut pair = Pair::start_with(with_key([1, 2, 3]));
    let calls = [
        Greeting::Hello(hello(3, 1)),
        Greeting::Hello(Hello { has_key: true, ..hello(3, 1) }),
        Greeting::Hello(Hello { has_key: true, proof: Some([1; 32]), ..hello(3, 1) }),
        Greeting::Refusal(Refusal::new(RefusalCode::WrongDirectory, "")),
    ];
    for call in &calls {
        let mut raw = pair.dial();
        raw.say(call.clone());
        let _ = raw.greeting();
        raw.say(call.clone());
        raw.assert_closed();
        assert_says_nothing_of(&raw.heard, 1);
    }
    for answer in &calls {
        let mut raw = pair.accept();
        assert!(matches!(raw.greeting(), Some(Greeting::Hello(_))));
        raw.say(answer.clone());
        while raw.greeting().is_some() {}
        assert!(raw.heard.len() > 8, "a hello came");
        assert_says_nothing_of(&raw.heard, 1);
    }
    pair.assert_served();
}

/// 17: a stranger that listens at a member's address cannot end the nodes that dial it by saying that they
/// lost their disk.
#[test]
fn one_frame_ends_no_node() {
    let mut proven = BytesMut::new();
    let refusal = Refusal { proof: Some([1; 32]), ..Refusal::new(RefusalCode::WrongDirectory, "hi") };
    Greeting::Refusal(refusal).encode(&mut proven).unwrap();
    for setup in [Setup::bound([1, 2, 3]), with_key([1, 2, 3])] {
        let mut pair = Pair::start_with(setup);
        for (round, frame) in [&FORGED[..], &FORGED, &proven, &proven].into_iter().cycle().enumerate() {
            let (one, two) = (pair.one.peer(3).disowned, pair.two.peer(3).disowned);
            if round > 4 && one > 2 && two > 2 {
                break;
            }
            // It comes before the hello is read, and after it.
            let mut raw = Raw::new(pair.three.accept().unwrap().0);
            if round % 2 == 1 {
                assert!(matches!(raw.greeting(), Some(Greeting::Hello(_))));
            }
            raw.write(frame);
            while raw.greeting().is_some() {}
        }
        for node in [&pair.one, &pair.two] {
            assert_eq!(node.fatals.try_recv().ok(), None);
        }
        pair.assert_served();
    }
}

/// 17: with a key, a wiped node is told by one member that proved itself, and ends; the others go on.
#[test]
fn a_wiped_node_with_a_key_ends_by_the_word_of_one() {
    let mut pair = Pair::start_with(with_key([1, 2, 3]));
    // Node 2 is not there to say so.
    pair.peers.insert(2, listen().local_addr().unwrap());
    let wiped = Introduction { directory: 5, ..introduction(3, 1) };
    let three = Node::start_with(&with_key([]), pair.three.try_clone().unwrap(), &pair.peers, wiped);
    let fatal = three.fatals.recv_timeout(Duration::from_secs(2)).expect("it is told within 2 s");
    assert_eq!(fatal.peers, [1]);
    assert!(fatal.to_string().contains("wiped or replaced"), "{fatal}");
    assert!(fatal.to_string().contains(&format!("{:08x}", directory(3) as u32)), "{fatal}");
    assert!(pair.one.fatals.try_recv().is_err(), "the node that sees it goes on");
    pair.assert_served();
}

/// 17: without a key, a majority of the others must say so.
#[test]
fn a_wiped_node_without_a_key_ends_by_the_word_of_a_majority() {
    let mut pair = Pair::start();
    let wiped = || Introduction { directory: 5, ..introduction(3, 1) };
    let mut some = pair.peers.clone();
    some.insert(2, listen().local_addr().unwrap());
    let three = Node::start(pair.three.try_clone().unwrap(), &some, wiped(), vec![]);
    wait_until("node 1 says so again and again", || three.peer(1).disowned > 3);
    assert!(three.fatals.try_recv().is_err(), "one of two others is no majority");
    drop(three);
    let three = Node::start(pair.three.try_clone().unwrap(), &pair.peers, wiped(), vec![]);
    let fatal = three.fatals.recv_timeout(PATIENCE).unwrap();
    assert_eq!(fatal.peers, [1, 2]);
    assert!(fatal.to_string().contains("wiped or replaced"), "{fatal}");
    pair.assert_served();
}

/// However often connections come and go, each kind of line is logged once in a while.
#[test]
fn connections_cannot_fill_the_log() {
    const CONNECTIONS: usize = 600;
    let mut child =
        run_alone("strangers::chatty", "").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let port = lines.find_map(|line| Some(line.split_once("port=")?.1.to_owned())).unwrap();
    let started = Instant::now();
    let trust = |own: Introduction| spaxos::pipeline::trust::Trust::new(own, None, [1, 2].into_iter());
    for round in 0..CONNECTIONS {
        let mut raw = Raw::new(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
        match round % 6 {
            0 => (),
            1 => raw.write(b"GET / HTTP/1.1\r\n\r\n"),
            2 => raw.say(Greeting::Hello(hello(77, 1))),
            3 => raw.say(Handshake::dial(&trust(introduction(3, 1)), 1, nonce()).1),
            place => {
                raw.greet(&mut trust(introduction(3, 1))).unwrap();
                raw.send(&heartbeat(if place == 4 { 3 } else { 2 }, 1, 9));
            }
        }
    }
    drop(child.stdin.take());
    let logged: Vec<String> = lines.filter(|line| line.starts_with("log: ")).collect();
    assert!(child.wait().unwrap().success(), "its honest peer was served all the time");
    println!("{} lines for {CONNECTIONS} connections", logged.len());
    // Of each kind one in 5 s: opened, closed, strange, refused, left, and those of the dialled
    // connections.
    let intervals = 1 + started.elapsed().as_secs() as usize / 5;
    assert!(logged.iter().any(|line| line.contains("node 3 sends from")), "{logged:#?}");
    assert!(logged.len() <= 20 * intervals, "{} lines in {intervals} intervals: {logged:#?}", logged.len());
}

/// The process whose log [`connections_cannot_fill_the_log`] reads.
#[test]
#[ignore = "run by connections_cannot_fill_the_log"]
fn chatty() {
    if !is_alone() {
        return;
    }
    print_logs();
    let mut pair = Pair::start();
    println!("port={}", pair.peers[&1].port());
    let parent = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
    while !parent.is_finished() {
        pair.assert_served();
    }
}

/// Prints every line of the log.
fn print_logs() {
    struct Printer;
    impl log::Log for Printer {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target().starts_with("spaxos")
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                println!("log: {}", record.args());
            }
        }
        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Printer).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}
