//! What a Paxos core takes for nonsense in the words of Paxos, what it keeps and what it answers.

use spaxos::consensus::batch::{Batch, Page};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{Body, ClusterBody, Message, PaxosBody};
use spaxos::consensus::protocol::{Input, Protocol, Role};
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Command, Entry, HardState, Index, MAX_WINDOW_ENTRIES};

use super::{PAGES, value};
use crate::common::one_core::{FIRST, Node, accept, accepted, ballot, config, entry, lists, promise};

const PAXOS: ProtocolName = ProtocolName::Paxos;

/// Nonsense in the words of Paxos.
#[test]
fn nonsense_is_counted_and_nothing_else() {
    let follower: [(_, _, Body); 3] = [
        (9, 1, ClusterBody::CatchUp { first: 1 }.into()),
        (2, 3, ClusterBody::CatchUp { first: 1 }.into()),
        (2, 1, PaxosBody::Prepare { ballot: ballot(1, 2), first: 0 }.into()),
    ];
    for (from, to, body) in follower {
        Node::follower(PAXOS).ignores(Message { from, to, body });
    }
    let candidate = [
        promise(FIRST, 0, (1, 0), vec![]),
        promise(FIRST, 0, (1, 1), vec![entry(2, ballot(0, 2))]),
        promise(FIRST, 0, (1, 1), vec![entry(1, FIRST)]),
        promise(FIRST, 0, (1, 1 << 20), vec![entry(MAX_WINDOW_ENTRIES + 1, ballot(0, 2))]),
        page(MAX_WINDOW_ENTRIES, true, vec![]),
    ];
    for body in candidate {
        Node::candidate(PAXOS).ignores(Message { from: 2, to: 1, body });
    }
    let early = ClusterBody::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms: 1000 };
    Node::leader(PAXOS).ignores(Message { from: 2, to: 1, body: early.into() });
}

/// What is just within the limits is not nonsense.
#[test]
fn the_limits_of_nonsense_are_exact() {
    let furthest = page(1 << 20, false, vec![entry(MAX_WINDOW_ENTRIES, ballot(0, 2))]);
    for body in [furthest, promise(FIRST, 0, (1, 1), vec![])] {
        let words = body.to_string();
        let mut node = Node::candidate(PAXOS);
        let _ = node.told(2, body);
        assert_eq!(node.core.status().ignored, 0, "{words}");
    }
}

/// A page of a promise from the first index on.
fn page(last: Index, more: bool, entries: Vec<Entry>) -> Body {
    PaxosBody::Promise { ballot: FIRST, chosen: 0, compacted: 0, first: 1, last, more, entries }.into()
}

/// What an acceptor keeps above its watermark: a window of indexes, four windows of bytes, and in any case
/// the entry that the watermark waits for. Anything beyond is dropped and counted, and not answered.
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
        let mut node = Node::follower(PAXOS);
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

/// An acceptance is answered if the entry is held under its ballot or known to be chosen, otherwise not.
#[test]
fn only_what_is_held_is_answered() {
    let leader = ballot(1, 2);
    let other = Entry { command: Command::value(9, 2, "other"), ..entry(1, leader) };
    let mut node = Node::follower(PAXOS);
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
    assert_eq!(node.core.status().ignored, 0, "a repeated entry is not nonsense");
    assert_eq!(answers(&mut node, vec![other]), none);
    assert_eq!(node.core.status().ignored, 1, "one ballot proposes one command");
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: leader, chosen: 1, sent_ms: 0 });
    assert_eq!(answers(&mut node, vec![entry(1, leader)]), once("Accepted 1.2 chosen=1 [1]"));
    assert_eq!(answers(&mut node, vec![entry(0, leader)]), none, "before the first index");
}

/// A leader's watermark also counts for entries of its ballot that come after it, and not for those of
/// another ballot.
#[test]
fn a_watermark_counts_for_its_ballot() {
    let (low, high) = (ballot(1, 2), ballot(2, 3));
    let mut node = Node::follower(PAXOS);
    let _ = node.told(2, ClusterBody::Heartbeat { ballot: low, chosen: 2, sent_ms: 0 });
    assert_eq!(node.told(2, accept(low, 0, vec![entry(1, low)])).chosen, Some(1));
    assert_eq!(node.told(3, accept(high, 0, vec![entry(2, high)])).chosen, None);
    assert_eq!(node.told(3, accept(high, 2, vec![entry(3, high)])).chosen, Some(2));
}

/// Answers beyond the last entry count for the entries that there are.
#[test]
fn an_acceptance_of_more_than_there_is_chooses_what_there_is() {
    let mut node = Node::leader(PAXOS);
    for from in [2, 3] {
        let _ = node.told(from, accepted(FIRST, 1, u64::MAX));
    }
    assert_eq!(node.core.status().chosen, 1);
    let _ = node.proposes(vec![value(1, 5000), value(2, 64)]);
    assert_eq!(node.core.status().last, 2);
}

/// Lists are cut into pages, of one item at least: what a leader repeats, what an acceptor promises.
#[test]
fn a_page_is_exact() {
    for (first, second, pages) in PAGES {
        let values = vec![value(1, first), value(2, second)];
        let config = Config { window_bytes: 1 << 20, ..config() };
        let mut leader = Node::new(PAXOS, config.clone(), Restored::default()).made_leader().matched(1);
        assert_eq!(lists(&leader.proposes(values.clone()), 2), pages);
        assert_eq!(lists(&leader.ticks(20), 2), pages[..1]);

        let mut acceptor = Node::new(PAXOS, config, Restored::default());
        let ballot_2 = ballot(1, 2);
        let entries = (1..).zip(values).map(|(index, command)| Entry { index, ballot: ballot_2, command });
        let _ = acceptor.told(2, accept(ballot_2, 0, entries.collect()));
        for (index, count) in (1..).zip(pages) {
            let batch = acceptor.told(3, PaxosBody::Prepare { ballot: ballot(2, 3), first: index });
            let Body::Paxos(PaxosBody::Promise { last, more, entries, .. }) = &batch.messages[0].body else {
                panic!("{batch}")
            };
            let is_last = index == pages.len() as u64;
            let expected = (*count, if is_last { 2 } else { index }, !is_last);
            assert_eq!((entries.len(), *last, *more), expected);
        }
    }
}

/// A node that asks for chosen entries gets those that are chosen and not compacted, one page a turn.
#[test]
fn chosen_entries_are_given_from_what_there_is() {
    let hard_state = HardState { promised: ballot(1, 2), chosen: 4 };
    let mut node = Node::new(PAXOS, config(), Restored { hard_state, compacted: 2, ..Restored::default() });
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

/// What is learned is written unless it is held already, index by index.
#[test]
fn only_what_was_missing_is_written() {
    let leader = ballot(1, 2);
    let other = Entry { command: Command::value(9, 2, "other"), ..entry(2, leader) };
    let mut node = Node::follower(PAXOS);
    let _ = node.told(2, accept(leader, 0, vec![entry(1, leader), entry(2, leader)]));
    let chosen = vec![entry(1, leader), other.clone(), entry(4, leader)];
    let batch = node.told(3, ClusterBody::Learn { chosen: 9, entries: chosen.clone() });
    assert_eq!((batch.entries, batch.chosen), (vec![other], Some(2)));
    assert!(node.told(3, ClusterBody::Learn { chosen: 9, entries: chosen }).is_empty(), "already known");
}

/// A peer that has more is asked for it immediately, otherwise the next peer is; a leader learns from nobody.
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
    let mut node = Node::follower(PAXOS);
    assert_eq!(asks(node.told(3, learn(3, 1))), Some(3));
    assert_eq!(asks(node.told(3, learn(2, 2))), Some(2));
    assert_eq!(asks(node.told(2, learn(3, 3))), None);
    assert!(Node::leader(PAXOS).told(2, learn(9, 1)).is_empty());
}

/// A refusal counts if it is of the ballot under way and names a higher one; the next ballot goes above it.
#[test]
fn a_refusal_ends_its_own_ballot_only() {
    let refuse = |ballot, promised| ClusterBody::Refuse { ballot, promised };
    let (lower, higher) = (ballot(0, 1), ballot(7, 3));
    for mut node in [Node::candidate(PAXOS), Node::leader(PAXOS)] {
        let role = node.core.status().role;
        let _ = node.told(3, refuse(FIRST, FIRST));
        let _ = node.told(3, refuse(FIRST, ballot(1, 0)));
        assert_eq!((node.core.status().role, node.core.status().highest_round), (role, 1));
        let _ = node.told(3, refuse(lower, higher));
        assert_eq!((node.core.status().role, node.core.status().highest_round), (role, 7));
        let _ = node.told(3, refuse(FIRST, higher));
        assert_eq!(node.core.status().role, Role::Follower);
    }
    let mut node = Node::asking(PAXOS);
    let _ = node.told(3, refuse(FIRST, higher));
    assert_eq!(node.core.status().role, Role::Candidate, "it has prepared nothing yet");
}
