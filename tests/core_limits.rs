//! The exact limits of one core: what it takes for nonsense, how much it keeps, proposes and sends at a time.
//! Schedules and scripts pass such limits by; here each side of them is looked at.
//!
//! Here is what holds for both protocols; what only one of them does, or does by a rule of its own, is in
//! `core_limits/`.

#[macro_use]
mod common;

#[path = "core_limits/paxos.rs"]
mod paxos;
#[path = "core_limits/raft.rs"]
mod raft;

use std::ops::Range;

use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, MAX_PAGE_BYTES, Message};
use spaxos::consensus::protocol::{PeerStatus, Protocol};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{
    Ballot, Command, Kind, MAX_PAYLOAD_BYTES, MAX_WINDOW_BYTES, MAX_WINDOW_ENTRIES, RequestId,
};

use common::one_core::{
    FIRST, Node, accept, append, at, ballot, campaign, config, entry, has, lists, pre_vote, promise, send,
    support,
};

each_protocol!(
    nonsense_is_counted_and_nothing_else,
    the_limits_of_nonsense_are_exact,
    the_status_counts,
    a_leaders_window_is_exact,
    a_page_is_exact,
    a_repeated_forward_means_nothing,
    a_leader_remembers_65536_requests,
    own_clients_leave_others_a_share,
    others_leave_own_clients_a_share,
);

/// The leader that the others' messages are from.
const LEADER: Ballot = Ballot { round: 2, node: 2 };

/// The costs of two items, and how many items each page of a list of them has.
const PAGES: [(usize, usize, &[usize]); 4] = {
    let half = MAX_PAGE_BYTES / 2;
    [
        (half, half, &[2]),
        (half, half + 1, &[1, 1]),
        (MAX_PAGE_BYTES, 64, &[1, 1]),
        (2 * half + 1, 64, &[1, 1]),
    ]
};

/// A request of this node's clients that counts as `cost_bytes`.
fn value(reqid: u64, cost_bytes: usize) -> Command {
    Command::value(reqid, 1, vec![b'x'; cost_bytes - 64])
}

/// What no honest node says is ignored, counted once, and leaves no trace in what the core says or does.
fn nonsense_is_counted_and_nothing_else(protocol: ProtocolName) {
    let far = ballot((1 << 40) + 1, 2);
    let heartbeat = |ballot| Body::from(ClusterBody::Heartbeat { ballot, chosen: 0, sent_ms: 0 });
    let follower = [
        (9, 1, heartbeat(FIRST)),
        (2, 3, heartbeat(LEADER)),
        (1, 1, heartbeat(FIRST)),
        (2, 1, heartbeat(far)),
        (1, 1, pre_vote(protocol, FIRST)),
        (2, 1, pre_vote(protocol, ballot(1, 3))),
        (2, 1, pre_vote(protocol, ballot(0, 2))),
        (2, 1, pre_vote(protocol, far)),
        (2, 1, ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: far }.into()),
        (1, 1, campaign(protocol, FIRST)),
        (2, 1, campaign(protocol, ballot(1, 3))),
        (2, 1, campaign(protocol, ballot(0, 2))),
        (2, 1, campaign(protocol, far)),
        (1, 1, send(protocol, FIRST, 0, &[])),
        (1, 1, send(protocol, FIRST, 0, &[entry(1, FIRST)])),
        (2, 1, send(protocol, ballot(1, 3), 0, &[])),
        (2, 1, send(protocol, ballot(1, 3), 0, &[entry(1, ballot(1, 3))])),
        (2, 1, send(protocol, far, 0, &[])),
        (2, 1, ClusterBody::Refuse { ballot: FIRST, promised: far }.into()),
        (2, 1, ClusterBody::Refuse { ballot: FIRST, promised: ballot(far.round, 3) }.into()),
        (2, 1, ClusterBody::Learn { chosen: 1, entries: vec![entry(1, far)] }.into()),
        (2, 1, ClusterBody::TimeoutNow { ballot: ballot(1, 3) }.into()),
    ];
    for (from, to, body) in follower {
        Node::follower(protocol).ignores(Message { from, to, body });
    }
    let forwarded = |command| Body::from(ClusterBody::Forward { commands: vec![command] });
    let value = Command::value(1, 2, "v");
    let leader = [
        forwarded(Command { request: RequestId::NONE, ..value.clone() }),
        forwarded(Command { from: 3, ..value.clone() }),
        forwarded(Command { kind: Kind::Noop, ..value.clone() }),
        forwarded(Command { kind: Kind::Unknown(9), ..value.clone() }),
        forwarded(Command { payload: vec![0; MAX_PAYLOAD_BYTES + 1].into(), ..value }),
    ];
    for body in leader {
        for node in [Node::leader(protocol), Node::leader(protocol).matched(1)] {
            node.ignores(Message { from: 2, to: 1, body: body.clone() });
        }
    }
}

/// What is just within the limits is not nonsense.
fn the_limits_of_nonsense_are_exact(protocol: ProtocolName) {
    let granted =
        |round| ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: ballot(round, 2) };
    let highest = (1 << 62) - 5;
    let old = Restored { highest_round: highest, ..Restored::default() };
    let refuse = ClusterBody::Refuse { ballot: FIRST, promised: ballot(2, 3) };
    let large = Command { payload: vec![0; MAX_PAYLOAD_BYTES].into(), ..Command::value(1, 2, "v") };
    let cases = [
        (Node::follower(protocol), granted(1 << 40), 0),
        (Node::new(protocol, config(), old.clone()), granted(1 << 62), 0),
        (Node::new(protocol, config(), old), granted((1 << 62) + 1), 1),
        (Node::candidate(protocol), refuse, 0),
        (Node::leader(protocol), ClusterBody::Forward { commands: vec![large] }, 0),
        (Node::leader(protocol), ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms: 0 }, 0),
    ];
    for (mut node, body, ignored) in cases {
        let words = body.to_string();
        let _ = node.told(2, body);
        assert_eq!(node.core.status().ignored, ignored, "{words}");
    }
}

/// What a person and the node that embeds the core see of it.
fn the_status_counts(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let room = node.core.room();
    let _ = node.ticks(5);
    let _ = node.proposes(vec![Command::value(1, 1, "a"), Command::value(2, 1, "b")]);
    let now_ms = node.now_ms;
    let _ = node.ticks(5);
    for from in [1, 2] {
        let _ = node.told(from, has(protocol, FIRST, 2));
    }
    let status = node.core.status();
    assert_eq!((status.node, status.leader, status.elections), (1, Some(1), 1));
    assert_eq!((status.compacted, status.chosen, status.last), (0, 2, 3));
    assert_eq!((status.in_flight, status.pending), (1, 1));
    assert_eq!(node.core.room(), room - 1);
    let peer = |node, heard_ms| PeerStatus { node, chosen: 0, heard_ms };
    assert_eq!(status.peers, [peer(2, now_ms + 5), peer(3, 0)]);
    let _ = node.told(3, ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 2, sent_ms: now_ms });
    let _ = node.told(3, ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 1, sent_ms: now_ms });
    assert_eq!(node.core.status().peers[1], PeerStatus { node: 3, chosen: 2, heard_ms: now_ms + 5 });

    let mut node = Node::follower(protocol);
    let _ = node.told(2, send(protocol, ballot(1, 2), 0, &[entry(1, ballot(1, 2))]));
    let _ = node.told(
        3,
        ClusterBody::Forward { commands: vec![Command::value(1, 3, "a"), Command::value(2, 3, "b")] },
    );
    let status = node.core.status();
    assert_eq!((status.in_flight, status.last, status.dropped, status.leader), (0, 1, 2, Some(2)));
}

/// A leader proposes as much as its window holds, in bytes and entries, and one entry in any case.
fn a_leaders_window_is_exact(protocol: ProtocolName) {
    // Its no-op takes the first of 64 entries and the first 64 of 1000 bytes.
    let cases = [
        (vec![value(1, 936)], 2),
        (vec![value(1, 937)], 1),
        (vec![value(1, 436), value(2, 500)], 3),
        (vec![value(1, 436), value(2, 501)], 2),
    ];
    for (commands, last) in cases {
        let mut node = Node::leader(protocol);
        let _ = node.proposes(commands);
        assert_eq!(node.core.status().last, last);
    }
    let config = Config { window_bytes: 1 << 20, ..config() };
    let mut node = Node::new(protocol, config, Restored::default()).made_leader();
    let _ = node.proposes((1..100).map(|reqid| value(reqid, 64)).collect());
    assert_eq!(node.core.status().last, 64);
    let mut node = Node::leader(protocol).matched(1);
    assert_eq!(node.core.status().chosen, 1);
    let _ = node.proposes(vec![value(1, 5000), value(2, 64)]);
    assert_eq!(node.core.status().last, 2);
}

/// Lists are cut into pages, of one item at least: what a leader proposes, what a follower forwards.
fn a_page_is_exact(protocol: ProtocolName) {
    for (first, second, pages) in PAGES {
        let values = vec![value(1, first), value(2, second)];
        let config = Config { window_bytes: 2 << 20, ..config() };
        let mut leader = Node::new(protocol, config.clone(), Restored::default()).made_leader().matched(1);
        assert_eq!(lists(&leader.proposes(values.clone()), 2), pages, "{first} and {second}");
        let mut follower = Node::new(protocol, config, Restored::default());
        let _ = follower.told(2, ClusterBody::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 });
        assert_eq!(lists(&follower.proposes(values), 2), pages, "{first} and {second}");
    }
}

/// What a leader has already means nothing when it is forwarded again: it is not dropped for lack of room.
/// The same holds once it is chosen, until the sender is known to have it.
fn a_repeated_forward_means_nothing(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let standing = |node: &Node| {
        let status = node.core.status();
        (status.pending, status.last, status.dropped)
    };
    let forward = |from, number| ClusterBody::Forward { commands: vec![Command::value(number, from, "v")] };
    for _ in 0..3 {
        let _ = node.told(2, forward(2, 1));
        assert_eq!(standing(&node), (1, 2, 0));
    }
    node = node.matched(2);
    assert_eq!(node.core.status().chosen, 2);
    for from in [2, 3] {
        let _ = node.told(from, forward(from, 1));
        assert_eq!(standing(&node), (0, 2, 0));
    }
    for (chosen, last) in [(1, 2), (2, 3)] {
        let sent_ms = node.now_ms;
        let _ = node.told(2, ClusterBody::HeartbeatReply { ballot: FIRST, chosen, sent_ms });
        let _ = node.told(2, forward(2, 1));
        assert_eq!(node.core.status().last, last, "it has {chosen}");
    }
}

/// A leader remembers the last 65,536 requests that it knows to be chosen, under any leader.
fn a_leader_remembers_65536_requests(protocol: ProtocolName) {
    const REMEMBERED: u64 = 65_536;
    let config = Config { window_entries: MAX_WINDOW_ENTRIES, window_bytes: MAX_WINDOW_BYTES, ..config() };
    let mut node = Node::new(protocol, config, Restored::default());
    let earlier = ballot(1, 2);
    let chosen = |index| entry(index, earlier);
    for first in (1..=1 + REMEMBERED).step_by(1000) {
        let entries: Vec<_> = (first..(first + 1000).min(REMEMBERED + 2)).map(chosen).collect();
        let last = entries.last().expect("not empty").index;
        let body = match protocol {
            ProtocolName::Paxos => accept(earlier, last, entries),
            ProtocolName::Raft => append(earlier, last, at(first - 1, 1.min(first - 1)), &entries),
        };
        let _ = node.told(2, body);
    }
    assert_eq!(node.core.status().chosen, REMEMBERED + 1);
    let mut node = node.until_it_asks();
    let own = ballot(2, 1);
    let batch = node.told(2, ClusterBody::PreVoteReply { ballot: own, granted: true, promised: earlier });
    let own_answer = batch.messages.iter().find(|message| message.to == 1).expect("it supports itself");
    let _ = node.told(1, own_answer.body.clone());
    let next = REMEMBERED + 2;
    let _ = node.told(
        2,
        match protocol {
            ProtocolName::Paxos => promise(own, next - 1, (next, next), vec![]),
            ProtocolName::Raft => support(protocol, own),
        },
    );
    assert_eq!(node.core.status().last, next, "it leads: that is its no-op");
    for (reqid, last) in [(2, next), (REMEMBERED + 1, next), (1, next + 1)] {
        let _ = node.told(3, ClusterBody::Forward { commands: vec![Command::value(reqid, 3, "v")] });
        assert_eq!(node.core.status().last, last, "request {reqid}");
    }
}

/// A leader's clients may fill three quarters of what it holds. What others forward always has the last.
fn own_clients_leave_others_a_share(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    assert_eq!(node.core.room(), 49_152);
    let _ = node.proposes((1..=49_152).map(|reqid| value(reqid, 64)).collect());
    assert_eq!((node.core.room(), node.core.status().pending), (0, 49_152));
    let _ = node.told(2, forward(60_000..60_000 + 16_384, 64));
    assert_eq!((node.core.status().pending, node.core.status().dropped), (65_536, 0));
    let _ = node.told(3, ClusterBody::Forward { commands: vec![Command::value(80_000, 3, "v")] });
    assert_eq!((node.core.status().pending, node.core.status().dropped), (65_536, 1));

    // Each is a little more than half a MiB. A list is taken whole, and 80 MiB are more than there may be.
    let mut node = Node::leader(protocol);
    let _ = node.proposes((1..=160).map(|reqid| value(reqid, (512 << 10) + 64)).collect());
    assert_eq!((node.core.room(), node.core.status().pending), (0, 160));
    let _ = node.told(2, forward(1000..1032, 512 << 10));
    assert_eq!((node.core.status().pending, node.core.status().dropped), (192, 0));
    let _ = node.told(2, forward(2000..2001, 64));
    assert_eq!((node.core.status().pending, node.core.status().dropped), (192, 1));
}

/// The same the other way: what others forward keeps no client of the leader waiting.
fn others_leave_own_clients_a_share(protocol: ProtocolName) {
    let mut node = Node::leader(protocol);
    let _ = node.told(2, forward(1..70_001, 64));
    assert_eq!((node.core.status().pending, node.core.status().dropped), (49_152, 70_000 - 49_152));
    assert_eq!(node.core.room(), 16_384);
    let _ = node.proposes((80_001..=80_000 + 16_384).map(|reqid| value(reqid, 64)).collect());
    assert_eq!((node.core.room(), node.core.status().pending), (0, 65_536));

    let mut node = Node::leader(protocol);
    let _ = node.told(2, forward(1..201, 512 << 10));
    assert_eq!((node.core.status().pending, node.core.status().dropped), (96, 104));
    for reqid in 1001..1033 {
        assert!(node.core.room() > 0, "{reqid}");
        let _ = node.proposes(vec![value(reqid, 512 << 10)]);
    }
    assert_eq!((node.core.room(), node.core.status().pending), (0, 128));
}

/// Requests that node 2 forwards, each of which counts as `cost_bytes`.
fn forward(reqids: Range<u64>, cost_bytes: usize) -> ClusterBody {
    let payload = vec![b'x'; cost_bytes - 64];
    ClusterBody::Forward { commands: reqids.map(|reqid| Command::value(reqid, 2, payload.clone())).collect() }
}
