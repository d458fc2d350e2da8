//! The exact limits of one core: what it takes for nonsense, how much it keeps, proposes and sends at once.
//! Schedules and scripts pass such limits by; here each side of them is looked at.

mod common;

use spaxos::consensus::batch::{Batch, Page};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, MAX_PAGE_BYTES, Message, PaxosBody, Range};
use spaxos::consensus::protocol::{Input, PeerStatus, Protocol, Role};
use spaxos::consensus::types::{
    Command, Entry, HardState, Kind, MAX_PAYLOAD_BYTES, MAX_WINDOW_ENTRIES, NodeId, RequestId,
};

use common::one_core::{FIRST, Node, accept, ballot, config, entry, promise};

/// What no honest node says is ignored, counted once, and leaves no trace in what the core says or does.
#[test]
fn nonsense_is_counted_and_nothing_else() {
    let far = (1 << 40) + 1;
    let heartbeat = |ballot| ClusterBody::Heartbeat { ballot, chosen: 0, sent_ms: 0 };
    let follower: Vec<(_, _, Body)> = vec![
        (9, 1, ClusterBody::CatchUp { first: 1 }.into()),
        (2, 3, ClusterBody::CatchUp { first: 1 }.into()),
        (1, 1, PaxosBody::PreVote { ballot: FIRST }.into()),
        (2, 1, PaxosBody::PreVote { ballot: ballot(1, 3) }.into()),
        (2, 1, PaxosBody::PreVote { ballot: ballot(0, 2) }.into()),
        (2, 1, PaxosBody::PreVote { ballot: ballot(far, 2) }.into()),
        (2, 1, ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: ballot(far, 2) }.into()),
        (1, 1, PaxosBody::Prepare { ballot: FIRST, first: 1 }.into()),
        (2, 1, PaxosBody::Prepare { ballot: ballot(1, 3), first: 1 }.into()),
        (2, 1, PaxosBody::Prepare { ballot: ballot(1, 2), first: 0 }.into()),
        (1, 1, accept(FIRST, 0, vec![entry(1, FIRST)])),
        (2, 1, accept(ballot(1, 3), 0, vec![entry(1, ballot(1, 3))])),
        (1, 1, heartbeat(FIRST).into()),
        (2, 1, heartbeat(ballot(far, 2)).into()),
        (2, 1, ClusterBody::Refuse { ballot: FIRST, promised: ballot(far, 3) }.into()),
        (2, 1, ClusterBody::Learn { chosen: 1, entries: vec![entry(1, ballot(far, 2))] }.into()),
    ];
    for (from, to, body) in follower {
        ignores(Node::follower(), Message { from, to, body });
    }
    let more = |last| {
        let (ballot, entries) = (FIRST, vec![]);
        PaxosBody::Promise { ballot, chosen: 0, compacted: 0, first: 1, last, more: true, entries }.into()
    };
    let candidate = [
        promise(FIRST, 0, (1, 0), vec![]),
        promise(FIRST, 0, (1, 1), vec![entry(2, ballot(0, 2))]),
        promise(FIRST, 0, (1, 1), vec![entry(1, FIRST)]),
        promise(FIRST, 0, (1, 1 << 20), vec![entry(MAX_WINDOW_ENTRIES + 1, ballot(0, 2))]),
        more(MAX_WINDOW_ENTRIES),
    ];
    for body in candidate {
        ignores(Node::candidate(), Message { from: 2, to: 1, body });
    }
    let forwarded = |command| ClusterBody::Forward { commands: vec![command] };
    let value = Command::value(1, 2, "v");
    let leader = [
        forwarded(Command { request: RequestId::NONE, ..value.clone() }),
        forwarded(Command { from: 3, ..value.clone() }),
        forwarded(Command { kind: Kind::Noop, ..value.clone() }),
        forwarded(Command { kind: Kind::Unknown(9), ..value.clone() }),
        forwarded(Command { payload: vec![0; MAX_PAYLOAD_BYTES + 1].into(), ..value }),
        ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms: 1000 },
    ];
    for body in leader {
        ignores(Node::leader(), Message { from: 2, to: 1, body: body.into() });
    }
}

fn ignores(mut node: Node, message: Message) {
    for times in 1..=3 {
        let before = node.core.status();
        let batch = node.message(message.clone());
        assert!(batch.is_empty(), "{message}: {batch}");
        let after = node.core.status();
        assert_eq!(after.ignored, times, "{message}");
        assert_eq!((after.role, after.promised, after.last), (before.role, before.promised, before.last));
        assert_eq!(after.highest_round, before.highest_round, "{message}");
    }
}

/// What is just within the limits is no nonsense.
#[test]
fn the_limits_of_nonsense_are_exact() {
    let granted =
        |round| ClusterBody::PreVoteReply { ballot: FIRST, granted: true, promised: ballot(round, 2) };
    let highest = (1 << 62) - 5;
    let old = Restored { highest_round: highest, ..Restored::default() };
    let refuse = ClusterBody::Refuse { ballot: FIRST, promised: ballot(2, 3) };
    let large = Command { payload: vec![0; MAX_PAYLOAD_BYTES].into(), ..Command::value(1, 2, "v") };
    let page = |last, more| {
        let (ballot, entries) = (FIRST, vec![entry(MAX_WINDOW_ENTRIES, ballot(0, 2))]);
        PaxosBody::Promise { ballot, chosen: 0, compacted: 0, first: 1, last, more, entries }
    };
    let cases: Vec<(_, Body, _)> = vec![
        (Node::follower(), granted(1 << 40).into(), 0),
        (Node::new(config(), old.clone()), granted(1 << 62).into(), 0),
        (Node::new(config(), old), granted((1 << 62) + 1).into(), 1),
        (Node::candidate(), refuse.into(), 0),
        (Node::candidate(), page(1 << 20, false).into(), 0),
        (Node::candidate(), promise(FIRST, 0, (1, 1), vec![]), 0),
        (Node::leader(), ClusterBody::Forward { commands: vec![large] }.into(), 0),
        (Node::leader(), ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms: 0 }.into(), 0),
    ];
    for (mut node, body, ignored) in cases {
        let words = body.to_string();
        let _ = node.told(2, body);
        assert_eq!(node.core.status().ignored, ignored, "{words}");
    }
}

/// What an acceptor keeps above its watermark: a window of indexes, four windows of bytes, and in any case
/// the entry that the watermark waits for. Beyond is dropped, counted, and not answered.
#[test]
fn an_acceptor_keeps_what_its_limits_allow() {
    let (low, high) = (ballot(1, 2), ballot(2, 2));
    let large = |index, ballot, cost_bytes: usize| {
        let payload = vec![b'x'; cost_bytes - 64];
        Entry { index, ballot, command: Command::value(index, 2, payload) }
    };
    // What is held, what comes, whether it is kept.
    let cases = [
        (None, large(1, low, 4001), true),
        (None, large(2, low, 4000), true),
        (None, large(2, low, 4001), false),
        (Some(large(2, low, 3000)), large(3, low, 1000), true),
        (Some(large(2, low, 3000)), large(3, low, 1001), false),
        (Some(large(2, low, 3000)), large(2, high, 4000), true),
        (Some(large(2, low, 3000)), large(2, high, 4001), false),
        (Some(large(2, low, 3000)), large(1, low, 4001), true),
        (None, large(MAX_WINDOW_ENTRIES, low, 64), true),
        (None, large(MAX_WINDOW_ENTRIES + 1, low, 64), false),
    ];
    for (held, entry, kept) in cases {
        let words = format!("{held:?} then {entry}");
        let mut node = Node::follower();
        if let Some(held) = held {
            let _ = node.told(2, accept(held.ballot, 0, vec![held]));
        }
        for times in 1..=3 {
            let batch = node.told(2, accept(entry.ballot, 0, vec![entry.clone()]));
            assert_eq!(batch.messages.len(), usize::from(kept), "{words}");
            assert_eq!(batch.entries.len(), usize::from(kept && times == 1), "{words}");
            assert_eq!(node.core.status().dropped, if kept { 0 } else { times }, "{words}");
        }
    }
}

/// An acceptance is answered if the entry is held under its ballot or known to be chosen, else not.
#[test]
fn only_what_is_held_is_answered() {
    let leader = ballot(1, 2);
    let other = Entry { command: Command::value(9, 2, "other"), ..entry(1, leader) };
    let mut node = Node::follower();
    let answers = |node: &mut Node, entries: Vec<Entry>| {
        let batch = node.told(2, accept(leader, 0, entries));
        batch.messages.iter().map(|message| message.body.to_string()).collect::<Vec<_>>()
    };
    let once = |words: &str| vec![words.to_string()];
    let none: Vec<String> = vec![];
    assert_eq!(answers(&mut node, vec![entry(0, leader)]), none, "before the first index");
    assert_eq!(answers(&mut node, vec![entry(1, ballot(1, 3))]), none, "another's ballot");
    let three = vec![entry(1, leader), entry(2, leader), entry(4, leader)];
    assert_eq!(answers(&mut node, three), once("Accepted 1.2 chosen=0 [1..2, 4]"));
    assert_eq!(answers(&mut node, vec![entry(2, leader)]), once("Accepted 1.2 chosen=0 [2]"));
    assert_eq!(node.core.status().ignored, 0, "a repeated entry is no nonsense");
    assert_eq!(answers(&mut node, vec![other]), none);
    assert_eq!(node.core.status().ignored, 1, "one ballot proposes one command");
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 1, sent_ms: 0 });
    assert_eq!(answers(&mut node, vec![entry(1, leader)]), once("Accepted 1.2 chosen=1 [1]"));
    assert_eq!(answers(&mut node, vec![entry(0, leader)]), none, "before the first index");
}

/// A leader's watermark counts for entries of its ballot that come after it, too, and for no other ballot's.
#[test]
fn a_watermark_counts_for_its_ballot() {
    let (low, high) = (ballot(1, 2), ballot(2, 3));
    let mut node = Node::follower();
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: low, chosen: 2, sent_ms: 0 });
    assert_eq!(node.told(2, accept(low, 0, vec![entry(1, low)])).chosen, Some(1));
    assert_eq!(node.told(3, accept(high, 0, vec![entry(2, high)])).chosen, None);
    assert_eq!(node.told(3, accept(high, 2, vec![entry(3, high)])).chosen, Some(2));
}

/// What a person and the node that embeds the core see of it.
#[test]
fn the_status_counts() {
    let mut node = Node::leader();
    let room = node.core.room();
    let _ = node.ticks(5);
    let _ = node.proposes(vec![Command::value(1, 1, "a"), Command::value(2, 1, "b")]);
    let now_ms = node.now_ms;
    let _ = node.ticks(5);
    for from in [1, 2] {
        let ranges = vec![Range { first: 1, last: 2 }];
        let _ = node.told(from, PaxosBody::Accepted { ballot: FIRST, chosen: 0, ranges });
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

    let mut node = Node::follower();
    let _ = node.told(2, accept(ballot(1, 2), 0, vec![entry(1, ballot(1, 2))]));
    let _ = node.told(
        3,
        ClusterBody::Forward { commands: vec![Command::value(1, 3, "a"), Command::value(2, 3, "b")] },
    );
    let status = node.core.status();
    assert_eq!((status.in_flight, status.last, status.dropped, status.leader), (0, 1, 2, Some(2)));
}

/// A leader proposes as much as its window holds, in bytes and entries, and one entry in any case.
#[test]
fn a_leaders_window_is_exact() {
    let value = |reqid, cost_bytes: usize| Command::value(reqid, 1, vec![b'x'; cost_bytes - 64]);
    // Its no-op takes the first of 64 entries and the first 64 of 1000 bytes.
    let cases = [
        (vec![value(1, 936)], 2),
        (vec![value(1, 937)], 1),
        (vec![value(1, 436), value(2, 500)], 3),
        (vec![value(1, 436), value(2, 501)], 2),
    ];
    for (commands, last) in cases {
        let mut node = Node::leader();
        let _ = node.proposes(commands);
        assert_eq!(node.core.status().last, last);
    }
    let mut node = Node::new(Config { window_bytes: 1 << 20, ..config() }, Restored::default()).made_leader();
    let _ = node.proposes((1..100).map(|reqid| value(reqid, 64)).collect());
    assert_eq!(node.core.status().last, 64);
    let mut node = Node::leader();
    let ranges = vec![Range { first: 1, last: u64::MAX }];
    for from in [2, 3] {
        let _ = node.told(from, PaxosBody::Accepted { ballot: FIRST, chosen: 0, ranges: ranges.clone() });
    }
    assert_eq!(node.core.status().chosen, 1);
    let _ = node.proposes(vec![value(1, 5000), value(2, 64)]);
    assert_eq!(node.core.status().last, 2);
}

/// Lists are cut into pages, of one item at least: what a leader proposes and repeats, what a follower
/// forwards, what an acceptor promises.
#[test]
fn a_page_is_exact() {
    let half = MAX_PAGE_BYTES / 2;
    for (first, second, pages) in [
        (half, half, vec![2]),
        (half, half + 1, vec![1, 1]),
        (MAX_PAGE_BYTES, 64, vec![1, 1]),
        (2 * half + 1, 64, vec![1, 1]),
    ] {
        let value = |reqid, cost_bytes: usize| Command::value(reqid, 1, vec![b'x'; cost_bytes - 64]);
        let values = vec![value(1, first), value(2, second)];
        let config = Config { window_bytes: 1 << 20, ..config() };
        let mut node = Node::new(config.clone(), Restored::default()).made_leader();
        for from in [2, 3] {
            let ranges = vec![Range { first: 1, last: 1 }];
            let _ = node.told(from, PaxosBody::Accepted { ballot: FIRST, chosen: 0, ranges });
        }
        assert_eq!(lists(&node.proposes(values.clone()).early, 2), pages);
        assert_eq!(lists(&node.ticks(20).early, 2), pages[..1]);

        let mut node = Node::new(config, Restored::default());
        let leader = ballot(1, 2);
        let _ = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 0, sent_ms: 0 });
        assert_eq!(lists(&node.proposes(values.clone()).early, 2), pages);
        let entries = (1..).zip(values).map(|(index, command)| Entry { index, ballot: leader, command });
        let _ = node.told(2, accept(leader, 0, entries.collect()));
        for (index, count) in (1..).zip(&pages) {
            let batch = node.told(3, PaxosBody::Prepare { ballot: ballot(2, 3), first: index });
            let Body::Paxos(PaxosBody::Promise { last, more, entries, .. }) = &batch.messages[0].body else {
                panic!("{batch}")
            };
            let last_page = index == pages.len() as u64;
            assert_eq!(
                (entries.len(), *last, *more),
                (*count, if last_page { 2 } else { index }, !last_page)
            );
        }
    }
}

/// The lengths of the lists that go to a node.
fn lists(messages: &[Message], to: NodeId) -> Vec<usize> {
    let to_it = messages.iter().filter(|message| message.to == to);
    let lengths = to_it.filter_map(|message| match &message.body {
        Body::Paxos(PaxosBody::Accept { entries, .. }) => Some(entries.len()),
        Body::Cluster(ClusterBody::Forward { commands }) => Some(commands.len()),
        _ => None,
    });
    lengths.collect()
}

/// Who asks for chosen entries gets those that are chosen and not compacted, one page a turn.
#[test]
fn chosen_entries_are_given_from_what_there_is() {
    let hard_state = HardState { promised: ballot(1, 2), chosen: 4 };
    let mut node = Node::new(config(), Restored { hard_state, compacted: 2, ..Restored::default() });
    let mut pages = |from, first| node.told(from, ClusterBody::CatchUp { first }).pages;
    let page = |first| vec![Page { to: 2, first, chosen: 4 }];
    assert_eq!(pages(2, 2), []);
    assert_eq!(pages(2, 3), page(3));
    assert_eq!(pages(2, 4), page(4));
    assert_eq!(pages(2, 5), []);
    assert_eq!(pages(1, 3), []);
    let mut batch = Batch::default();
    for (from, first) in [(2, 3), (3, 4), (2, 4)] {
        let message = Message { from, to: 1, body: ClusterBody::CatchUp { first }.into() };
        node.core.step(Input::Message(message), &mut batch);
    }
    assert_eq!(batch.pages, [Page { to: 2, first: 3, chosen: 4 }, Page { to: 3, first: 4, chosen: 4 }]);
}

/// What is learned is written unless it is held, each index in its turn.
#[test]
fn only_what_was_missing_is_written() {
    let leader = ballot(1, 2);
    let other = Entry { command: Command::value(9, 2, "other"), ..entry(2, leader) };
    let mut node = Node::follower();
    let _ = node.told(2, accept(leader, 0, vec![entry(1, leader), entry(2, leader)]));
    let chosen = vec![entry(1, leader), other.clone(), entry(4, leader)];
    let batch = node.told(3, ClusterBody::Learn { chosen: 9, entries: chosen.clone() });
    assert_eq!((batch.entries, batch.chosen), (vec![other], Some(2)));
    assert!(node.told(3, ClusterBody::Learn { chosen: 9, entries: chosen }).is_empty(), "known by now");
}

/// Who has more is asked for more at once, else the next peer; a leader learns from nobody.
#[test]
fn more_is_asked_of_who_has_it() {
    let leader = ballot(1, 2);
    let learn = |chosen, index| ClusterBody::Learn { chosen, entries: vec![entry(index, leader)] };
    let asks = |batch: Batch| {
        let to = batch
            .early
            .iter()
            .find(|message| matches!(message.body, Body::Cluster(ClusterBody::CatchUp { .. })));
        to.map(|message| message.to)
    };
    let mut node = Node::follower();
    assert_eq!(asks(node.told(3, learn(3, 1))), Some(3));
    assert_eq!(asks(node.told(3, learn(2, 2))), Some(2));
    assert_eq!(asks(node.told(2, learn(3, 3))), None);
    assert!(Node::leader().told(2, learn(9, 1)).is_empty());
}

/// What a leader has already is dropped when it is forwarded again, and counted.
#[test]
fn a_repeated_forward_is_dropped() {
    let mut node = Node::leader();
    for times in 0..3 {
        let _ = node.told(2, ClusterBody::Forward { commands: vec![Command::value(1, 2, "v")] });
        let status = node.core.status();
        assert_eq!((status.pending, status.last, status.dropped), (1, 2, times));
    }
}

/// A refusal counts if it is of the ballot under way and names a higher one; the next ballot goes above it.
#[test]
fn a_refusal_ends_its_own_ballot_only() {
    let refuse = |ballot, promised| ClusterBody::Refuse { ballot, promised };
    let (lower, higher) = (ballot(0, 1), ballot(7, 3));
    for mut node in [Node::candidate(), Node::leader()] {
        let role = node.core.status().role;
        let _ = node.told(3, refuse(FIRST, FIRST));
        let _ = node.told(3, refuse(FIRST, ballot(1, 0)));
        assert_eq!((node.core.status().role, node.core.status().highest_round), (role, 1));
        let _ = node.told(3, refuse(lower, higher));
        assert_eq!((node.core.status().role, node.core.status().highest_round), (role, 7));
        let _ = node.told(3, refuse(FIRST, higher));
        assert_eq!(node.core.status().role, Role::Follower);
    }
    let mut node = Node::asking();
    let _ = node.told(3, refuse(FIRST, higher));
    assert_eq!(node.core.status().role, Role::Candidate, "it has prepared nothing yet");
}
