//! What a Raft core takes for nonsense in the words of Raft, what it keeps and sends, what it never removes,
//! and whom it votes for.

use spaxos::consensus::batch::Page;
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody, RaftBody};
use spaxos::consensus::protocol::{Protocol, Role};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{
    Command, Entry, HardState, MAX_PAYLOAD_BYTES, MAX_WINDOW_BYTES, MAX_WINDOW_ENTRIES, NodeId, Position,
};

use super::LEADER;
use crate::common::one_core::{FIRST, Node, START, append, at, ballot, config, entry, lists, restored};

const RAFT: ProtocolName = ProtocolName::Raft;

/// Nonsense in the words of Raft, and the words of Paxos.
#[test]
fn nonsense_is_counted_and_nothing_else() {
    let far = ballot((1 << 40) + 1, 2);
    let follower: [Body; 4] = [
        RaftBody::RequestPreVote { ballot: far, last: START }.into(),
        RaftBody::RequestVote { ballot: far, last: START }.into(),
        PaxosBody::Prepare { ballot: LEADER, first: 1 }.into(),
        PaxosBody::Accept { ballot: LEADER, chosen: 0, entries: vec![] }.into(),
    ];
    for body in follower {
        Node::follower(RAFT).ignores(Message { from: 2, to: 1, body });
    }
    let leader: [Body; 6] = [
        // A follower that lacks something is sent it, whatever time it answers with.
        ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 1, sent_ms: 1000 }.into(),
        RaftBody::Appended { ballot: FIRST, chosen: 0, matched: 2 }.into(),
        RaftBody::Mismatch { ballot: FIRST, chosen: 2, previous: 1, hint: START }.into(),
        RaftBody::Mismatch { ballot: FIRST, chosen: 0, previous: 2, hint: at(2, 1) }.into(),
        RaftBody::Mismatch { ballot: FIRST, chosen: 0, previous: u64::MAX, hint: START }.into(),
        append(ballot(1, 2), 0, START, &[]),
    ];
    for body in leader {
        Node::leader(RAFT).matched(1).ignores(Message { from: 2, to: 1, body });
    }
}

/// A round has one leader: a second node that claims to lead is not followed, and changes nothing.
#[test]
fn a_round_has_one_leader() {
    let mut node = Node::follower(RAFT);
    let _ = node.told(2, append(LEADER, 0, START, &[entry(1, LEADER)]));
    let other = ballot(2, 3);
    node.ignores(Message { from: 3, to: 1, body: append(other, 1, START, &[entry(1, other)]) });
}

/// What matched an Append is never removed by another of the same leader, and rounds in a log never fall.
#[test]
fn what_matched_stays() {
    let (old, other) = (ballot(1, 3), ballot(1, 2));
    let mut node = Node::follower(RAFT);
    let _ = node.told(2, append(LEADER, 0, START, &[entry(1, old), entry(2, LEADER)]));
    let refused = [
        append(LEADER, 0, START, &[entry(1, LEADER)]),
        append(LEADER, 0, at(1, 1), &[entry(2, old)]),
        append(LEADER, 0, at(2, 2), &[entry(3, other)]),
    ];
    for (times, body) in (1..).zip(refused) {
        let words = body.to_string();
        let batch = node.told(2, body);
        assert!(!batch.must_write(), "{words}: {batch}");
        let status = node.core.status();
        assert_eq!((status.ignored, status.last, status.chosen), (times, 2, 0), "{words}");
    }
}

/// Lies about chosen entries do not break a core's assertions: rounds of chosen entries do not fall, and
/// where an Append matched, nothing is removed without that being forgotten.
#[test]
fn chosen_entries_of_liars_are_survived() {
    let mut node = Node::follower(RAFT);
    let _ = node.told(2, append(LEADER, 1, START, &[entry(1, LEADER)]));
    let _ = node.told(3, ClusterBody::Learn { chosen: 2, entries: vec![entry(2, FIRST)] });
    let status = node.core.status();
    assert_eq!((status.chosen, status.last, status.ignored), (1, 1, 1), "a chosen entry of a lower round");

    let mut node = Node::follower(RAFT);
    let entries = [entry(1, FIRST), entry(2, FIRST), entry(3, FIRST)];
    let _ = node.told(2, append(LEADER, 0, START, &entries));
    let _ = node.told(3, ClusterBody::Learn { chosen: 1, entries: vec![entry(1, LEADER)] });
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: LEADER, chosen: 3, sent_ms: 0 });
    let status = node.core.status();
    assert_eq!((status.chosen, status.last), (1, 1), "what matched there is gone");
}

/// Only what conflicts goes, with all after it; what follows an entry that is there stays.
#[test]
fn only_what_conflicts_is_removed() {
    let mut node = Node::follower(RAFT);
    let held = [entry(1, FIRST), entry(2, FIRST), entry(3, FIRST)];
    let _ = node.told(2, append(ballot(1, 2), 0, START, &held));
    let batch = node.told(2, append(LEADER, 0, START, &held[..1]));
    assert_eq!((batch.truncate, node.core.status().last), (None, 3));
    let batch = node.told(2, append(LEADER, 0, at(1, 1), &[entry(2, LEADER)]));
    assert_eq!((batch.truncate, batch.entries), (Some(2), vec![entry(2, LEADER)]));
    assert_eq!(node.core.status().last, 2);
}

/// A heartbeat's watermark counts as far as an Append of that leader matched, and no further.
#[test]
fn a_heartbeat_alone_chooses_nothing() {
    let mut node = Node::follower(RAFT);
    let _ = node.told(2, append(ballot(1, 2), 0, START, &[entry(1, FIRST), entry(2, FIRST)]));
    let heartbeat = ClusterBody::Heartbeat { ballot: LEADER, chosen: 2, sent_ms: 0 };
    assert_eq!(node.told(2, heartbeat).chosen, None);
    assert_eq!(node.told(2, append(LEADER, 0, at(1, 1), &[])).chosen, Some(1));
    assert_eq!(node.told(2, append(LEADER, 0, at(2, 1), &[])).chosen, Some(2));
}

/// A log that is not the leader's before an Append says where they may agree, whole rounds at a time.
#[test]
fn a_mismatch_skips_rounds() {
    let (two, three) = (ballot(2, 3), ballot(3, 3));
    let log = [entry(1, FIRST), entry(2, two), entry(3, two), entry(4, three), entry(5, three)];
    let mut node = Node::new(RAFT, config(), restored(HardState { promised: three, chosen: 0 }, &log));
    let leader = ballot(4, 2);
    for (previous, hint) in
        [(at(9, 4), at(5, 3)), (at(5, 2), at(3, 2)), (at(4, 1), at(1, 1)), (at(7, 2), at(3, 2))]
    {
        let batch = node.told(2, append(leader, 0, previous, &[]));
        let body = RaftBody::Mismatch { ballot: leader, chosen: 0, previous: previous.index, hint }.into();
        assert_eq!(batch.early, [Message { from: 1, to: 2, body }], "previous {previous}");
        assert_eq!(batch.messages, [], "previous {previous}");
    }
}

/// A follower keeps a window of entries and of bytes above its watermark; what comes beyond is dropped and
/// counted, and it answers for what it has.
#[test]
fn a_follower_keeps_what_its_limits_allow() {
    let many: Vec<Entry> = (1..=MAX_WINDOW_ENTRIES + 2).map(|index| entry(index, LEADER)).collect();
    let mut node = Node::follower(RAFT);
    let batch = node.told(2, append(LEADER, 0, START, &many));
    assert_eq!(batch.entries.len() as u64, MAX_WINDOW_ENTRIES);
    let body = RaftBody::Appended { ballot: LEADER, chosen: 0, matched: MAX_WINDOW_ENTRIES }.into();
    assert_eq!(batch.messages, [Message { from: 1, to: 2, body }]);
    assert_eq!(node.core.status().dropped, 1, "it looks no further");
    // What is chosen makes room within the same message.
    let mut node = Node::follower(RAFT);
    let batch = node.told(2, append(LEADER, 2, START, &many));
    assert_eq!((batch.entries.len() as u64, batch.chosen), (MAX_WINDOW_ENTRIES + 2, Some(2)));

    let payload = bytes::Bytes::from(vec![b'x'; MAX_PAYLOAD_BYTES]);
    let large = |index| Entry { command: Command::value(index, 2, payload.clone()), ..entry(index, LEADER) };
    let room = MAX_WINDOW_BYTES + MAX_PAYLOAD_BYTES + 64 * MAX_WINDOW_ENTRIES as usize;
    let fit = (room / (MAX_PAYLOAD_BYTES + 64)) as u64;
    let mut node = Node::follower(RAFT);
    let batch = node.told(2, append(LEADER, 0, START, &(1..=fit + 1).map(large).collect::<Vec<_>>()));
    assert_eq!((batch.entries.len() as u64, node.core.status().dropped), (fit, 1));
}

/// A vote goes to a log that is at least as up to date: by the round of its last entry, then by its length.
/// There is one vote a round.
#[test]
fn a_vote_is_for_the_longer_log_and_one_a_round() {
    let log = [entry(1, FIRST), entry(2, ballot(2, 3))];
    let node = Node::new(RAFT, config(), restored(HardState { promised: ballot(2, 0), chosen: 0 }, &log));
    let voted = |node: &mut Node, from: NodeId, round, last| {
        let batch = node.told(from, RaftBody::RequestVote { ballot: ballot(round, from), last });
        assert!(batch.early.is_empty(), "{batch}");
        !batch.messages.is_empty()
    };
    for (last, up_to_date) in
        [(at(9, 1), false), (at(1, 2), false), (at(2, 2), true), (at(3, 2), true), (at(1, 3), true)]
    {
        assert_eq!(voted(&mut node.clone(), 2, 3, last), up_to_date, "{last}");
    }
    let mut node = node;
    assert!(!voted(&mut node, 3, 3, at(1, 1)), "no vote");
    assert!(voted(&mut node, 2, 3, at(2, 2)), "so the round's vote is free");
    assert!(voted(&mut node, 2, 3, at(2, 2)), "a lost vote is given again");
    assert!(!voted(&mut node, 3, 3, at(9, 3)), "one vote a round");
    assert!(voted(&mut node, 3, 4, at(9, 3)), "another round");
    assert_eq!(node.core.status().ignored, 0);
}

/// A leader counts what a majority has, of its own round only; a late or foreign answer counts nothing.
#[test]
fn a_leader_counts_its_own_round() {
    let held = [entry(1, FIRST), entry(2, FIRST)];
    let mut node =
        Node::new(RAFT, config(), restored(HardState { promised: FIRST, chosen: 0 }, &held)).made_leader();
    let leads = node.core.status().promised;
    let appended = |ballot, matched| RaftBody::Appended { ballot, chosen: 0, matched };
    assert_eq!(node.told(1, appended(leads, 3)).chosen, None);
    assert_eq!(node.told(2, appended(leads, 2)).chosen, None, "on a majority, of an earlier round");
    assert_eq!(node.told(3, appended(FIRST, 3)).chosen, None, "of an earlier ballot");
    assert_eq!(node.told(3, appended(leads, 3)).chosen, Some(3), "with its own no-op all before it");
}

/// A follower that answers nothing is sent 256 Appends at most, and no more than a window of bytes; each
/// answer makes room.
#[test]
fn what_is_under_way_is_bounded() {
    let large = Config { window_entries: 1000, window_bytes: 1 << 20, ..config() };
    let mut node = Node::new(RAFT, large, Restored::default()).made_leader().matched(1);
    let one = |reqid, len| vec![Command::value(reqid, 1, vec![b'x'; len])];
    let sent: usize = (1..=300).map(|reqid| lists(&node.proposes(one(reqid, 1)), 2).len()).sum();
    assert_eq!(sent, 256);
    let answer = |matched| RaftBody::Appended { ballot: FIRST, chosen: 0, matched };
    assert_eq!(lists(&node.told(2, answer(11)), 2), [44], "what waits goes in one");
    assert_eq!(lists(&node.told(2, answer(11)), 2), vec![0; 0], "that is not news");

    let mut node = Node::new(RAFT, config(), Restored::default()).made_leader().matched(1);
    let cost = |cost_bytes: usize| cost_bytes - 64;
    assert_eq!(lists(&node.proposes(one(1, cost(936))), 2), [1]);
    let _ = node.told(3, answer(2));
    let _ = node.told(1, answer(2));
    assert_eq!(node.core.status().chosen, 2);
    assert_eq!(lists(&node.proposes(one(2, cost(64))), 2), [1], "936 of 1000 bytes are under way");
    assert_eq!(lists(&node.proposes(one(3, cost(64))), 2), vec![0; 0], "all of them");
    assert_eq!(lists(&node.told(2, answer(2)), 2), [1]);
}

/// Chosen entries that a follower lacks and the leader no longer has in memory are read from the store, a
/// page at a time.
#[test]
fn what_left_memory_comes_as_pages() {
    let chosen = |chosen| restored(HardState { promised: FIRST, chosen }, &[]);
    let mut node =
        Node::new(RAFT, config(), Restored { chosen_ballot: FIRST, compacted: 2, ..chosen(5) }).made_leader();
    let leads = node.core.status().promised;
    let mismatch = |node: &mut Node, from, chosen, hint: Position| {
        node.told(from, RaftBody::Mismatch { ballot: leads, chosen, previous: 5, hint })
    };
    let batch = mismatch(&mut node, 2, 3, at(3, 1));
    assert_eq!(batch.pages, [Page { to: 2, first: 4, chosen: 5 }]);
    assert_eq!(mismatch(&mut node, 2, 3, at(3, 1)).pages, [], "it is under way");
    assert_eq!(mismatch(&mut node, 3, 1, at(1, 1)).pages, [], "2 is compacted");
    let batch = node.told(2, RaftBody::Appended { ballot: leads, chosen: 5, matched: 5 });
    assert_eq!(lists(&batch, 2), [1], "then it is served from memory");
}

/// A refusal counts if it names a higher round: then nobody leads.
#[test]
fn a_refusal_ends_lower_rounds() {
    for mut node in [Node::candidate(RAFT), Node::leader(RAFT)] {
        let role = node.core.status().role;
        let refuse = |promised| ClusterBody::Refuse { ballot: FIRST, promised };
        let _ = node.told(3, refuse(ballot(1, 3)));
        assert_eq!(node.core.status().role, role);
        let batch = node.told(3, refuse(ballot(7, 3)));
        let status = node.core.status();
        assert_eq!((status.role, status.promised, status.leader), (Role::Follower, ballot(7, 0), None));
        assert_eq!(batch.hard_state, Some(HardState { promised: ballot(7, 0), chosen: 0 }));
    }
}
