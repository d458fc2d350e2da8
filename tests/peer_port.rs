//! The peer port over real sockets: peers exchange messages, and hostile input hurts nobody.
//!
//! The numbers are those of the list of hostile inputs for the peer port; after each an honest peer is served
//! as before ([`Pair::assert_served`]).
//!
//! | input | here | elsewhere |
//! | --- | --- | --- |
//! | 1 random bytes | `random_bytes_are_closed` | `wire` (any bytes) |
//! | 2 lengths 0, 2^32-1, maximum + 1 | `impossible_lengths_are_closed` | `wire::frame` |
//! | 3 a valid header, then silence | `silence_is_closed`, `silence_inside_of_a_frame_costs_nothing` | |
//! | 4 an inner count of 2^32-1 | `impossible_messages_are_closed` | `wire::message` |
//! | 5 a wrong checksum | `impossible_messages_are_closed` | `wire::frame` |
//! | 6 another cluster | `strangers_are_told_a_code`, `members_are_told_both_values` | `wire::hello` |
//! | 7 one's own node id | `strangers_are_told_a_code` | `pipeline::trust` |
//! | 8 the id of a connected member | `an_impostor_does_not_disturb_the_member` | |
//! | 9 a ballot of the highest number | passes: `what_only_the_core_can_judge_passes` | the core refuses it |
//! | 10 an index of the highest number | `impossible_messages_are_closed` | `wire::message` |
//! | 11 answers never asked for | pass: `what_only_the_core_can_judge_passes` | the core ignores them |
//! | 12 a replay from an older start | `an_older_start_is_refused` | |
//! | 13 snapshot pages | waits for snapshots | |
//! | 14 membership | waits for membership changes | |
//! | 15 flapping, unknown versions and kinds | `flapping_connections…`, `running_out_of_descriptors…`, `unknown_kinds…`, `strangers…` | |
//! | 16 a hello in the name of a member, and what follows from it | `strangers.rs` | `pipeline::handshake` |
//! | 17 "your data directory is the wrong one" | `strangers.rs` | `pipeline::trust` |

#[path = "peer_port/harness.rs"]
mod harness;
#[path = "peer_port/strangers.rs"]
mod strangers;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody};
use spaxos::consensus::types::{Ballot, Command};
use spaxos::node::peers::PeerLimits;
use spaxos::pipeline::handshake::Handshake;
use spaxos::pipeline::inbox::{Binding, Inbox, Outgoing};
use spaxos::pipeline::trust::{Trust, first_word};
use spaxos::wire::frame::MAX_FRAME_BYTES;
use spaxos::wire::hello::{Introduction, RefusalCode};
use spaxos::wire::message::{Decoded, Service, ServiceBody, encode_message};

use harness::*;

/// Messages pass in order, in both directions, and large ones whole; the table says who is connected.
#[test]
fn peers_exchange_messages() {
    let mut pair = Pair::start();
    let commands = |reqid| vec![Command::value(reqid, 2, vec![reqid as u8; 150_000])];
    let messages: Vec<_> = (1..=200)
        .map(|reqid| match reqid % 100 {
            0 => Message { from: 2, to: 1, body: ClusterBody::Forward { commands: commands(reqid) }.into() },
            _ => heartbeat(2, 1, reqid),
        })
        .collect();
    pair.two.send(messages.clone());
    wait_until("all arrive", || {
        pair.one.pump();
        pair.one.seen.len() == messages.len()
    });
    assert_eq!(pair.one.seen, messages);
    pair.assert_served();
    // The table is written at the end of a turn, after the messages are handed over. Each side has said a
    // first word.
    wait_until("all are counted", || pair.one.peer(2).received >= 202 && pair.two.peer(1).sent >= 202);
    let (one, two) = (pair.one.peer(2), pair.two.peer(1));
    assert!(one.connected_in && two.connected_in);
    assert_eq!(one.client_address.as_deref(), Some("127.0.0.1:9002"));
    assert_eq!(pair.two.table.client_address(1).as_deref(), Some("127.0.0.1:9001"));
}

/// What a node says to itself comes back, all of one item together and with its generation, also when nobody
/// else is there.
#[test]
fn own_messages_loop_back_whole() {
    let listener = listen();
    let node = Node::start(listener, &BTreeMap::new(), introduction(1, 1), vec![]);
    let messages = vec![heartbeat(1, 1, 1), heartbeat(1, 1, 2)];
    node.outgoing.push(Outgoing::Messages { generation: 42, messages: messages.clone() }).unwrap();
    let mut own = vec![];
    wait_until("own messages are back", || node.inbox.own.drain(&mut own));
    assert_eq!((own.len(), own[0].generation), (1, 42));
    assert_eq!(own[0].messages, messages);
}

/// The first message of a node that is not bound yet waits for its binding, and nothing behind it is read.
#[test]
fn the_first_message_waits_for_its_binding() {
    let mut pair = Pair::start_with(Setup::bound([1, 2]));
    pair.one.answers_bindings = false;
    let mut raw = pair.dial_as_three(1);
    let binding = Binding { node: 3, directory: directory(3) };
    raw.send_service(&Service { from: 3, to: 1, body: ServiceBody::Ping });
    wait_until("the ping is taken", || pair.one.peer(3).received == 1);
    pair.assert_served();
    assert_eq!(pair.one.bound, [], "neither a hello nor a ping binds");
    for number in 5..8 {
        raw.send(&heartbeat(3, 1, number));
    }
    wait_until("the binding is asked for", || {
        pair.one.pump();
        pair.one.bound.contains(&binding)
    });
    // In the meantime a connection from another directory is closed, and does not replace it.
    let mut other = pair.dial();
    assert!(other.greet(&mut pair.trust(Introduction { directory: 1, ..introduction(3, 1) })).is_err());
    pair.assert_served();
    assert!(!pair.one.has_seen(&heartbeat(3, 1, 5)) && !pair.one.peer(3).connected_in);

    pair.one.outgoing.push(Outgoing::Bound(binding)).unwrap();
    for number in 5..8 {
        wait_until("it is read now", || pair.one.has_seen(&heartbeat(3, 1, number)));
    }
    assert_eq!(pair.one.bound, [binding], "once");
    pair.assert_refused(
        Introduction { directory: 1, ..introduction(3, 2) },
        RefusalCode::WrongDirectory,
        &["wiped"],
    );
}

/// Nodes that never met bind each other from both of their connections, once.
#[test]
fn new_nodes_bind_each_other() {
    let mut pair = Pair::start_with(Setup::bound([]));
    pair.assert_served();
    assert_eq!(pair.one.bound, [Binding { node: 2, directory: directory(2) }]);
    assert_eq!(pair.two.bound, [Binding { node: 1, directory: directory(1) }]);
}

/// A restarted peer takes the place of its earlier run immediately, in both directions.
#[test]
fn a_restarted_peer_is_connected_again() {
    let mut pair = Pair::start();
    for start in 2..5 {
        let address = pair.peers[&2];
        let mut listener = None;
        let earlier = std::mem::replace(
            &mut pair.two,
            Node::start(listen(), &BTreeMap::new(), introduction(2, 1), vec![]),
        );
        earlier.stop();
        wait_until("the peer is seen to be gone", || !pair.one.peer(2).connected_out);
        pair.one.send(vec![heartbeat(1, 2, 1000 + start)]);
        wait_until("what cannot be sent is dropped", || pair.one.peer(2).dropped_out >= start - 1);
        wait_until("its port is free again", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        pair.two = Node::start(listener.unwrap(), &pair.peers, introduction(2, start), bindings([1, 2, 3]));
        pair.wait_connected();
        pair.assert_served();
        assert!(!pair.two.has_seen(&heartbeat(1, 2, 1000 + start)), "nothing is sent late");
    }
}

/// What was queued before a stop is flushed.
#[test]
fn a_stop_flushes() {
    let mut pair = Pair::start();
    let last = heartbeat(2, 1, 77);
    pair.two.send(vec![last.clone()]);
    let two =
        std::mem::replace(&mut pair.two, Node::start(listen(), &BTreeMap::new(), introduction(2, 1), vec![]));
    two.stop();
    wait_until("the last message arrives", || pair.one.has_seen(&last));
}

/// A peer that says hello and then never reads costs at most its out-buffer, and nobody waits for it.
#[test]
fn a_frozen_peer_keeps_memory_bounded() {
    let mut pair = Pair::start();
    let frozen = pair.accept_as_three();
    wait_until("it is connected", || pair.one.peer(3).connected_out);
    let command = Command::value(1, 1, vec![0; 64 << 10]);
    let large = Message { from: 1, to: 3, body: ClusterBody::Forward { commands: vec![command] }.into() };
    wait_until("its buffer is full", || {
        pair.one.send(vec![large.clone(); 8]);
        assert!(pair.one.peer(3).queued_bytes <= OUT_BUFFER_BYTES + (65 << 10));
        pair.one.peer(3).dropped_out > 0
    });
    pair.assert_served();
    drop(frozen);
    wait_until("its buffer is freed", || pair.one.peer(3).queued_bytes == 0);
    pair.assert_served();
}

/// When the state machine does not take them, messages are dropped and counted; the thread does not wait.
#[test]
fn a_full_inbox_drops_and_counts() {
    let mut pair = Pair::start();
    let mut raw = pair.dial_as_three(1);
    let command = Command::value(1, 3, vec![0; 1 << 20]);
    let large = Message { from: 3, to: 1, body: ClusterBody::Forward { commands: vec![command] }.into() };
    for _ in 0..(Inbox::PEERS_CAPACITY_BYTES >> 20) + 3 {
        raw.send(&large);
    }
    wait_until("messages are dropped", || pair.one.peer(3).dropped_in > 0);
    wait_until("the rest is taken", || pair.one.has_seen(&large));
    pair.assert_served();
}

/// 1
#[test]
fn random_bytes_are_closed() {
    let mut pair = Pair::start();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in [8, 9, 100, 10_000, 1_000_000] {
        let mut bytes = vec![];
        for _ in 0..length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push((state >> 56) as u8);
        }
        let mut raw = pair.dial();
        raw.write(&bytes);
        raw.assert_closed();
        // And after a hello.
        let mut raw = pair.dial_as_three(1);
        raw.write(&bytes);
        raw.assert_closed();
        pair.assert_served();
    }
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
    {
        let mut raw = pair.dial();
        raw.write(bytes);
        raw.assert_closed();
    }
    pair.assert_served();
}

/// 2
#[test]
fn impossible_lengths_are_closed() {
    let mut pair = Pair::start();
    for length in [0, u32::MAX, MAX_FRAME_BYTES as u32 + 1] {
        let mut header = length.to_le_bytes().to_vec();
        header.extend([0; 4]);
        for mut raw in [pair.dial(), pair.dial_as_three(1)] {
            raw.write(&header);
            raw.assert_closed();
        }
        pair.assert_served();
    }
}

/// 3: a peer that does not say hello in time is closed.
#[test]
fn silence_is_closed() {
    let impatient = PeerLimits { hello_timeout: Duration::from_millis(300), ..limits() };
    let mut pair = Pair::start_with(Setup { limits: impatient, ..Setup::bound([1, 2, 3]) });
    let mut half = BytesMut::new();
    Handshake::dial(&pair.trust(introduction(3, 1)), 1, nonce()).1.encode(&mut half).unwrap();
    for bytes in [&[][..], &[30, 0, 0, 0, 1, 2, 3, 4][..], &half[..half.len() - 1]] {
        let mut raw = pair.dial();
        raw.write(bytes);
        raw.assert_closed();
        pair.assert_served();
    }
}

/// A peer whose connection opens and that never answers the hello is dialled again: its answer may be lost.
#[test]
fn a_hello_without_an_answer_is_repeated() {
    let limits = PeerLimits { answer_timeout: Duration::from_millis(100), ..limits() };
    let pair = Pair::start_with(Setup { limits, ..Setup::bound([1, 2, 3]) });
    let _silent = pair.accept();
    let _answers = pair.accept_as_three();
    wait_until("node 3 is connected", || pair.one.peer(3).connected_out);
}

/// An open connection that has nothing to carry carries pings, and nobody but the network thread sees them.
#[test]
fn an_open_connection_carries_pings() {
    let limits = PeerLimits { ping_every: Duration::from_millis(20), ..limits() };
    let mut pair = Pair::start_with(Setup { limits, ..Setup::bound([1, 2, 3]) });
    let mut raw = pair.accept_as_three();
    assert_eq!(raw.message(), Decoded::Message(first_word(1, 3).into()));
    for _ in 0..3 {
        let ping = Service { from: 1, to: 3, body: ServiceBody::Ping };
        assert_eq!(raw.message(), Decoded::Message(ping.into()));
    }
    wait_until("node 2 pings as well", || pair.one.peer(2).received >= 4);
    pair.one.pump();
    assert_eq!(pair.one.seen, []);
}

/// 3: a peer that stops in the middle of a frame disturbs nobody, and its next connection replaces this one.
#[test]
fn silence_inside_of_a_frame_costs_nothing() {
    let mut pair = Pair::start();
    let mut raw = pair.dial_as_three(1);
    raw.write(&(MAX_FRAME_BYTES as u32).to_le_bytes());
    raw.write(&[0; 100]);
    pair.assert_served();
    let mut next = pair.dial_as_three(1);
    raw.assert_closed();
    next.send(&heartbeat(3, 1, 9));
    wait_until("the newer connection is read", || pair.one.has_seen(&heartbeat(3, 1, 9)));
}

/// 4, 5, 10, and messages in another's name: the connection is closed, and the peer may dial again.
#[test]
fn impossible_messages_are_closed() {
    let mut pair = Pair::start();
    let index = Message { from: 3, to: 1, body: ClusterBody::CatchUp { first: u64::MAX }.into() };
    let chosen =
        ClusterBody::Heartbeat { ballot: Ballot { round: 1, node: 3 }, chosen: u64::MAX, sent_ms: 0 };
    let chosen = Message { from: 3, to: 1, body: chosen.into() };
    for message in [index, chosen, heartbeat(2, 1, 666), heartbeat(3, 2, 666), heartbeat(3, 3, 666)] {
        let mut raw = pair.dial_as_three(1);
        raw.send(&message);
        raw.assert_closed();
        assert!(!pair.one.has_seen(&message), "{message}");
        pair.assert_served();
    }
    let inner_count = [0x22, 0xff, 0xff, 0xff, 0xff, 0x0f, 1];
    let mut raw = pair.dial_as_three(1);
    raw.write_frame(&inner_count);
    raw.assert_closed();
    let mut frame = BytesMut::new();
    encode_message(&heartbeat(3, 1, 667), &mut frame).unwrap();
    frame[5] ^= 1;
    let mut raw = pair.dial_as_three(1);
    raw.write(&frame);
    raw.assert_closed();
    assert!(!pair.one.has_seen(&heartbeat(3, 1, 667)));
    pair.assert_served();
}

/// 9, 11: what depends on the state of the core passes to it.
#[test]
fn what_only_the_core_can_judge_passes() {
    let mut pair = Pair::start();
    let highest = Ballot { round: u64::MAX, node: u64::MAX };
    let mut raw = pair.dial_as_three(1);
    let bodies: Vec<Body> = vec![
        PaxosBody::Prepare { ballot: highest, first: 1 }.into(),
        ClusterBody::Refuse { ballot: highest, promised: highest }.into(),
        ClusterBody::TimeoutNow { ballot: highest }.into(),
        PaxosBody::Accepted { ballot: highest, chosen: 0, ranges: vec![] }.into(),
        ClusterBody::Learn { chosen: 5, entries: vec![] }.into(),
    ];
    for body in bodies {
        let message = Message { from: 3, to: 1, body };
        raw.send(&message);
        wait_until("it arrives", || pair.one.has_seen(&message));
    }
    pair.assert_served();
}

/// 12: an older start is a replay, or an old copy of the directory; a newer one takes over.
#[test]
fn an_older_start_is_refused() {
    let mut pair = Pair::start();
    let mut earlier = pair.dial_as_three(5);
    let mut later = pair.dial_as_three(6);
    earlier.assert_closed();
    pair.assert_refused(introduction(3, 5), RefusalCode::OldStart, &["6", "5"]);
    later.send(&heartbeat(3, 1, 3));
    wait_until("the later one is read", || pair.one.has_seen(&heartbeat(3, 1, 3)));
}

/// 15: a thousand connections that come and go, or come and say nothing.
#[test]
fn flapping_connections_disturb_nobody() {
    let mut pair = Pair::start();
    let mut silent = vec![];
    for round in 0..1000 {
        let raw = pair.dial();
        match round % 4 {
            0 => drop(raw),
            1 => drop(pair.dial_as_three(1)),
            _ => silent.push(raw),
        }
        if silent.len() > 150 {
            // With this many, the oldest is closed immediately, long before its time for a hello is up.
            silent.remove(0).assert_closed();
        }
    }
    pair.assert_served();
    drop(silent);
    let _greeted = pair.dial_as_three(1);
    pair.assert_served();
}

/// 15: more connections than file descriptors; the port is usable again when they are gone.
#[test]
fn running_out_of_descriptors_is_survived() {
    let mut child = run_alone("few_descriptors", "ulimit -n 48;")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut port =
        lines.map(|line| line.unwrap()).filter_map(|line| Some(line.split_once("port=")?.1.to_owned()));
    let address = format!("127.0.0.1:{}", port.next().unwrap());
    let dial = || Raw::new(TcpStream::connect(&address).unwrap());
    let silent: Vec<_> = (0..60).map(|_| dial()).collect();
    // Behind them in the queue, and served once they are gone.
    let mut last = dial();
    let others = [1, 2].into_iter();
    let (handshake, hello) =
        Handshake::dial(&Trust::new(introduction(3, 1), None, others.clone()), 1, nonce());
    last.say(hello);
    drop(silent);
    let served = last.shake_hands(handshake, &mut Trust::new(introduction(3, 1), None, others));
    assert_eq!(served, Ok(introduction(1, 1)));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "its honest peer was served all the time");
}

/// The process that [`running_out_of_descriptors_is_survived`] attacks.
#[test]
#[ignore = "run by running_out_of_descriptors_is_survived"]
fn few_descriptors() {
    if !is_alone() {
        return;
    }
    let mut pair = Pair::start();
    println!("port={}", pair.peers[&1].port());
    let parent = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
    while !parent.is_finished() {
        pair.assert_served();
    }
}

/// 15: a message of a kind that only a newer version knows is counted, and the connection stays.
#[test]
fn unknown_kinds_are_counted_and_ignored() {
    let mut pair = Pair::start();
    let mut raw = pair.dial_as_three(1);
    raw.write_frame(&[0x08, 0x7f, 0x10, 3, 0x18, 1]);
    raw.send(&heartbeat(3, 1, 4));
    wait_until("the next message arrives", || pair.one.has_seen(&heartbeat(3, 1, 4)));
    wait_until("it is counted", || pair.one.peer(3).unknown_kinds == 1);
    assert_eq!(pair.one.seen.len(), 1);
    pair.assert_served();
}

/// A listener at a peer's address that is another node, a node of another cluster or not a node at all is
/// never sent a message.
#[test]
fn a_wrong_listener_is_sent_nothing() {
    let pair = Pair::start();
    let answers = [
        introduction(2, 1),
        Introduction { cluster: "prod".into(), ..introduction(3, 1) },
        Introduction { directory: 1, ..introduction(3, 1) },
    ];
    for answer in answers {
        // Node 1 goes without a word, so its listener does not know yet.
        let mut raw = pair.accept();
        let _ = raw.answer(&mut pair.trust(answer));
        pair.one.send(vec![heartbeat(1, 3, 1)]);
        raw.assert_closed();
        assert!(!pair.one.peer(3).connected_out);
        assert!(pair.one.fatals.try_recv().is_err(), "the node that sees a wrong directory goes on");
    }
    assert_eq!(pair.one.peer(3).sent, 0);
}
